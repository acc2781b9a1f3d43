"""Theano's ``tensor`` namespace: ``import symtensor.tensor as T``.

Every name is defined elsewhere and only gathered here; the table of operations is ``symtensor.opdef.OPS``.
"""

from . import var as _var  # isort: skip  # noqa: F401  (the module, before the function that hides it)
from symtensor.constants import (
    NotScalarConstantError,
    extract_constant,
    get_scalar_constant_value,
)
from symtensor.gradient import (
    Lop,
    Rop,
    consider_constant,
    disconnected_grad,
    grad,
    hessian,
    jacobian,
    numeric_grad,
    verify_grad,
    zero_grad,
)
from symtensor.graph import (
    Constant as TensorConstant,
)
from symtensor.graph import (
    Tensor as TensorVariable,
)
from symtensor.graph import (
    Tensor as Variable,
)
from symtensor.graph import (
    as_tensor,
)
from symtensor.ops import numpy_names
from symtensor.ops.casting import (
    cast,
    identity,
    tensor_copy,
)
from symtensor.ops.complex_numbers import (
    angle,
    complex_from_polar,
    conj,
    imag,
    real,
)
from symtensor.ops.complex_numbers import (
    complex_op as complex,
)
from symtensor.ops.creation import (
    alloc,
    arange,
    empty,
    empty_like,
    eye,
    fill,
    fill_diagonal,
    fill_diagonal_offset,
    full,
    full_like,
    geomspace,
    identity_like,
    indices,
    linspace,
    logspace,
    meshgrid,
    mgrid,
    ogrid,
    one_hot,
    ones,
    ones_like,
    second,
    to_one_hot,
    tri,
    tril,
    triu,
    zeros,
    zeros_like,
)
from symtensor.ops.cumulative import (
    bincount,
    cumprod,
    cumsum,
    diff,
    ediff1d,
)
from symtensor.ops.elementwise import (
    abs_,
    add,
    ceil_intdiv,
    clip,
    floor_div,
    floordiv,
    fmax,
    fmin,
    fmod,
    int_div,
    inv,
    largest,
    maximum,
    minimum,
    mod,
    mul,
    neg,
    power,
    reciprocal,
    sgn,
    sign,
    smallest,
    sqr,
    square,
    sub,
    switch,
    true_div,
    where,
)
from symtensor.ops.elementwise import (
    abs_ as abs,
)
from symtensor.ops.elementwise import (
    pow_ as pow,
)
from symtensor.ops.elementwise_bits import (
    and_,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    gcd,
    invert,
    lcm,
    left_shift,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    or_,
    right_shift,
    xor,
)
from symtensor.ops.elementwise_compare import (
    eq,
    ge,
    gt,
    le,
    lt,
    neq,
)
from symtensor.ops.elementwise_floats import (
    allclose,
    copysign,
    heaviside,
    isclose,
    isfinite,
    isinf,
    isnan,
    isneginf,
    isposinf,
    ldexp,
    nextafter,
    signbit,
)
from symtensor.ops.elementwise_math import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cbrt,
    ceil,
    cos,
    cosh,
    deg2rad,
    exp,
    exp2,
    expm1,
    floor,
    hypot,
    iround,
    log,
    log1p,
    log2,
    log10,
    rad2deg,
    rint,
    round,
    round_half_away_from_zero,
    round_half_to_even,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
    trunc,
)
from symtensor.ops.elementwise_pieces import (
    bitwise_count,
    divmod,
    fabs,
    float_power,
    frexp,
    modf,
    spacing,
)
from symtensor.ops.elementwise_smooth import (
    erf,
    erfc,
    logaddexp,
    logaddexp2,
    sigmoid,
    softplus,
    xlogx,
    xlogy0,
)
from symtensor.ops.indexing import (
    alloc_diag,
    argwhere,
    choose,
    compress,
    count_nonzero,
    diag,
    diagonal,
    extract,
    extract_diag,
    flatnonzero,
    inc_subtensor,
    inverse_permutation,
    ix_,
    nonzero,
    nonzero_values,
    put,
    ravel_multi_index,
    set_subtensor,
    take,
    take_along_axis,
    unravel_index,
)
from symtensor.ops.joining import (
    array_split,
    concatenate,
    dstack,
    flip,
    fliplr,
    flipud,
    horizontal_stack,
    hstack,
    join,
    pad,
    repeat,
    roll,
    rot90,
    split,
    stack,
    tile,
    vertical_stack,
    vstack,
)
from symtensor.ops.linalg import (
    batched_dot,
    batched_tensordot,
    dot,
    einsum,
    inner,
    kron,
    matmul,
    matvec,
    outer,
    tensordot,
    trace,
    vdot,
    vecdot,
    vecmat,
)
from symtensor.ops.numpy_names import *  # noqa: F403
from symtensor.ops.reduction import (
    all,
    any,
    argmax,
    argmin,
    logsumexp,
    max,
    max_and_argmax,
    mean,
    min,
    norm,
    prod,
    ptp,
    std,
    sum,
    var,
)
from symtensor.ops.shaping import (
    addbroadcast,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    atleast_nd,
    broadcast_to,
    dimshuffle,
    expand_dims,
    flatten,
    make_vector,
    moveaxis,
    patternbroadcast,
    ravel,
    reshape,
    shape,
    shape_i,
    shape_padaxis,
    shape_padleft,
    shape_padright,
    size,
    specify_shape,
    squeeze,
    swapaxes,
    transpose,
    unbroadcast,
)
from symtensor.settings import (
    config,
)
from symtensor.shared_variables import (
    SharedVariable as TensorSharedVariable,
)
from symtensor.types import (
    TensorType,
)

from . import extra_ops, nnet, variables
from .variables import *  # noqa: F403

__all__ = [
    "extra_ops", "nnet", "config", "NotScalarConstantError", "extract_constant",
    "get_scalar_constant_value", "Lop", "Rop",
    "consider_constant", "disconnected_grad", "grad", "hessian", "jacobian", "numeric_grad",
    "verify_grad", "zero_grad", "TensorConstant", "TensorVariable", "Variable", "as_tensor", "cast",
    "identity", "tensor_copy", "angle", "complex_from_polar", "complex", "conj", "imag", "real", "abs_",
    "add", "ceil_intdiv", "clip", "eq", "floor_div", "floordiv", "fmax", "fmin", "fmod", "ge", "gt",
    "int_div", "inv", "largest", "le", "lt", "maximum", "minimum", "mod", "mul", "neg", "neq", "pow", "power",
    "reciprocal", "sgn", "sign", "smallest", "sqr", "square", "sub", "switch", "true_div", "where", "abs", "and_",
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "gcd", "invert", "lcm", "left_shift",
    "logical_and", "logical_not", "logical_or", "logical_xor", "or_", "right_shift", "xor", "allclose",
    "copysign", "heaviside", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "ldexp",
    "nextafter", "signbit", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh",
    "cbrt", "ceil", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "floor", "hypot", "iround", "log",
    "log1p", "log2", "log10", "rad2deg", "rint", "round", "round_half_away_from_zero",
    "round_half_to_even", "sin", "sinh", "sqrt", "tan", "tanh", "trunc", "erf", "erfc", "logaddexp",
    "logaddexp2", "sigmoid", "softplus", "xlogx", "xlogy0", "all", "any", "argmax", "argmin",
    "logsumexp", "max", "max_and_argmax", "mean", "min", "norm", "prod", "ptp", "std", "sum", "var",
    "make_vector", "addbroadcast", "atleast_1d", "atleast_2d", "atleast_3d", "atleast_nd",
    "broadcast_to", "dimshuffle", "expand_dims", "flatten", "moveaxis", "patternbroadcast", "ravel",
    "reshape", "shape", "shape_i", "shape_padaxis", "shape_padleft", "shape_padright", "size", "specify_shape",
    "squeeze", "swapaxes", "transpose", "unbroadcast", "alloc_diag", "argwhere", "choose", "compress",
    "count_nonzero", "diag", "diagonal", "extract", "extract_diag", "flatnonzero", "inc_subtensor",
    "inverse_permutation",     "ix_", "nonzero", "nonzero_values", "put", "ravel_multi_index", "set_subtensor", "take",
    "take_along_axis", "unravel_index", "alloc", "arange", "empty", "empty_like", "eye", "fill",
    "fill_diagonal", "fill_diagonal_offset", "full", "full_like", "geomspace", "identity_like",
    "indices", "linspace", "logspace", "meshgrid", "mgrid", "ogrid", "one_hot", "ones", "ones_like",
    "second", "to_one_hot", "tri", "tril", "triu", "zeros", "zeros_like", "array_split", "concatenate",
    "dstack", "flip", "fliplr", "flipud", "horizontal_stack", "hstack", "join", "pad", "repeat", "roll",
    "rot90", "split", "stack", "tile", "vertical_stack", "vstack", "batched_dot", "batched_tensordot",
    "dot", "einsum", "inner", "kron", "matmul", "outer", "tensordot", "trace", "vdot", "vecdot", "vecmat", "matvec",
    "bincount", "bitwise_count", "divmod", "fabs", "float_power", "frexp", "modf", "spacing",
    "cumprod", "cumsum", "diff", "ediff1d", "TensorSharedVariable", "TensorType",
]  # fmt: skip
__all__ += [*numpy_names.__all__, *variables.__all__]

from . import basic, inplace, shared_randomstreams, sharedvar, subtensor, type  # noqa: E402  (they gather the names above)

__all__ += ["basic", "inplace", "shared_randomstreams", "sharedvar", "subtensor", "type"]
