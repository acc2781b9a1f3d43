"""Theano's ``tensor`` namespace: ``import symtensor.tensor as T``.

Every name is defined elsewhere and only gathered here; the table of operations is ``symtensor.opdef.OPS``.
"""

from symtensor.config import (
    config,
)  # fmt: skip
from symtensor.grad import (
    Lop, Rop, grad,
)  # fmt: skip
from symtensor.graph import (
    Constant as TensorConstant, Tensor as TensorVariable, Tensor as Variable, as_tensor,
)  # fmt: skip
from symtensor.ops.casting import (
    cast, identity,
)  # fmt: skip
from symtensor.ops.complex_numbers import (
    angle, complex_from_polar, complex_op as complex, conj, imag, real,
)  # fmt: skip
from symtensor.ops.elementwise import (
    abs_, abs_ as abs, add, clip, eq, floor_div, floordiv, fmax, fmin, fmod, ge, gt, int_div, inv, le,
    lt, maximum, minimum, mod, mul, neg, neq, pow_ as pow, reciprocal, sgn, sign, sqr, square, sub,
    switch, true_div, where,
)  # fmt: skip
from symtensor.ops.elementwise_bits import (
    and_, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, gcd, invert, lcm, left_shift, logical_and,
    logical_not, logical_or, logical_xor, or_, right_shift, xor,
)  # fmt: skip
from symtensor.ops.elementwise_floats import (
    allclose, copysign, heaviside, isclose, isfinite, isinf, isnan, isneginf, isposinf, ldexp,
    nextafter, signbit,
)  # fmt: skip
from symtensor.ops.elementwise_math import (
    arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt, ceil, cos, cosh, deg2rad, exp,
    exp2, expm1, floor, hypot, iround, log, log10, log1p, log2, rad2deg, rint, round,
    round_half_away_from_zero, round_half_to_even, sin, sinh, sqrt, tan, tanh, trunc,
)  # fmt: skip
from symtensor.ops.elementwise_smooth import (
    erf, erfc, logaddexp, logaddexp2, sigmoid, softplus, xlogx, xlogy0,
)  # fmt: skip
from symtensor.ops.reduction import (
    all, any, argmax, argmin, logsumexp, max, max_and_argmax, mean, min, norm, prod, ptp, std, sum, var,
)  # fmt: skip
from symtensor.ops.shaping import (
    addbroadcast, atleast_1d, atleast_2d, atleast_3d, atleast_nd, broadcast_to, dimshuffle, expand_dims,
    flatten, moveaxis, patternbroadcast, ravel, reshape, shape, shape_padaxis, shape_padleft,
    shape_padright, size, specify_shape, squeeze, swapaxes, transpose, unbroadcast,
)  # fmt: skip
from symtensor.ops.indexing import (
    argwhere, count_nonzero, flatnonzero, inc_subtensor, nonzero, nonzero_values, set_subtensor,
)  # fmt: skip
from symtensor.ops.creation import (
    alloc, arange, count_up, empty, empty_like, eye, fill, fill_diagonal, fill_diagonal_offset, full,
    full_like, geomspace, identity_like, indices, linspace, logspace, meshgrid, mgrid, ogrid, one_hot,
    ones, ones_like, second, to_one_hot, tri, tril, triu, zeros, zeros_like,
)  # fmt: skip
from symtensor.ops.linalg import (
    batched_dot, batched_tensordot, dot, inner, kron, matmul, outer, tensordot, trace, vdot,
)  # fmt: skip
from symtensor.ops.barriers import (
    consider_constant, disconnected_grad, zero_grad,
)  # fmt: skip
from symtensor.shared import (
    SharedVariable as TensorSharedVariable,
)  # fmt: skip
from symtensor.types import (
    TensorType,
)  # fmt: skip
from .variables import (
    as_tensor_variable, constant, tensor, scalar, vector, matrix, row, col, tensor3, tensor4, tensor5,
    tensor6, tensor7, scalars, vectors, matrices, rows, cols, tensor3s, tensor4s, tensor5s, tensor6s,
    tensor7s, bscalar, bvector, bmatrix, brow, bcol, btensor3, btensor4, btensor5, btensor6, btensor7,
    bscalars, bvectors, bmatrices, brows, bcols, btensor3s, btensor4s, btensor5s, btensor6s, btensor7s,
    wscalar, wvector, wmatrix, wrow, wcol, wtensor3, wtensor4, wtensor5, wtensor6, wtensor7, wscalars,
    wvectors, wmatrices, wrows, wcols, wtensor3s, wtensor4s, wtensor5s, wtensor6s, wtensor7s, iscalar,
    ivector, imatrix, irow, icol, itensor3, itensor4, itensor5, itensor6, itensor7, iscalars, ivectors,
    imatrices, irows, icols, itensor3s, itensor4s, itensor5s, itensor6s, itensor7s, lscalar, lvector,
    lmatrix, lrow, lcol, ltensor3, ltensor4, ltensor5, ltensor6, ltensor7, lscalars, lvectors,
    lmatrices, lrows, lcols, ltensor3s, ltensor4s, ltensor5s, ltensor6s, ltensor7s, fscalar, fvector,
    fmatrix, frow, fcol, ftensor3, ftensor4, ftensor5, ftensor6, ftensor7, fscalars, fvectors,
    fmatrices, frows, fcols, ftensor3s, ftensor4s, ftensor5s, ftensor6s, ftensor7s, dscalar, dvector,
    dmatrix, drow, dcol, dtensor3, dtensor4, dtensor5, dtensor6, dtensor7, dscalars, dvectors,
    dmatrices, drows, dcols, dtensor3s, dtensor4s, dtensor5s, dtensor6s, dtensor7s, cscalar, cvector,
    cmatrix, crow, ccol, ctensor3, ctensor4, ctensor5, ctensor6, ctensor7, cscalars, cvectors,
    cmatrices, crows, ccols, ctensor3s, ctensor4s, ctensor5s, ctensor6s, ctensor7s, zscalar, zvector,
    zmatrix, zrow, zcol, ztensor3, ztensor4, ztensor5, ztensor6, ztensor7, zscalars, zvectors,
    zmatrices, zrows, zcols, ztensor3s, ztensor4s, ztensor5s, ztensor6s, ztensor7s,
)  # fmt: skip
from . import nnet

__all__ = [
    "nnet", "config", "Lop", "Rop", "grad", "TensorConstant", "TensorVariable", "Variable", "as_tensor",
    "cast", "identity", "angle", "complex_from_polar", "complex", "conj", "imag", "real", "abs_", "add",
    "clip", "eq", "floor_div", "floordiv", "fmax", "fmin", "fmod", "ge", "gt", "int_div", "inv", "le",
    "lt", "maximum", "minimum", "mod", "mul", "neg", "neq", "pow", "reciprocal", "sgn", "sign", "sqr",
    "square", "sub", "switch", "true_div", "where", "abs", "and_", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "gcd", "invert", "lcm", "left_shift", "logical_and", "logical_not",
    "logical_or", "logical_xor", "or_", "right_shift", "xor", "allclose", "copysign", "heaviside",
    "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "ldexp", "nextafter", "signbit",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "ceil", "cos",
    "cosh", "deg2rad", "exp", "exp2", "expm1", "floor", "hypot", "iround", "log", "log1p", "log2",
    "log10", "rad2deg", "rint", "round", "round_half_away_from_zero", "round_half_to_even", "sin",
    "sinh", "sqrt", "tan", "tanh", "trunc", "erf", "erfc", "logaddexp", "logaddexp2", "sigmoid",
    "softplus", "xlogx", "xlogy0", "all", "any", "argmax", "argmin", "logsumexp", "max",
    "max_and_argmax", "mean", "min", "norm", "prod", "ptp", "std", "sum", "var", "addbroadcast",
    "atleast_1d", "atleast_2d", "atleast_3d", "atleast_nd", "broadcast_to", "dimshuffle", "expand_dims",
    "flatten", "moveaxis", "patternbroadcast", "ravel", "reshape", "shape", "shape_padaxis",
    "shape_padleft", "shape_padright", "size", "specify_shape", "squeeze", "swapaxes", "transpose",
    "unbroadcast", "argwhere", "count_nonzero", "flatnonzero", "inc_subtensor", "nonzero",
    "nonzero_values", "set_subtensor", "alloc", "arange", "count_up", "empty", "empty_like", "eye",
    "fill", "fill_diagonal", "fill_diagonal_offset", "full", "full_like", "geomspace", "identity_like",
    "indices", "linspace", "logspace", "meshgrid", "mgrid", "ogrid", "one_hot", "ones", "ones_like",
    "second", "to_one_hot", "tri", "tril", "triu", "zeros", "zeros_like", "batched_dot",
    "batched_tensordot", "dot", "inner", "kron", "matmul", "outer", "tensordot", "trace", "vdot",
    "consider_constant", "disconnected_grad", "zero_grad", "TensorSharedVariable", "TensorType",
    "as_tensor_variable", "constant", "tensor", "scalar", "vector", "matrix", "row", "col", "tensor3",
    "tensor4", "tensor5", "tensor6", "tensor7", "scalars", "vectors", "matrices", "rows", "cols",
    "tensor3s", "tensor4s", "tensor5s", "tensor6s", "tensor7s", "bscalar", "bvector", "bmatrix", "brow",
    "bcol", "btensor3", "btensor4", "btensor5", "btensor6", "btensor7", "bscalars", "bvectors",
    "bmatrices", "brows", "bcols", "btensor3s", "btensor4s", "btensor5s", "btensor6s", "btensor7s",
    "wscalar", "wvector", "wmatrix", "wrow", "wcol", "wtensor3", "wtensor4", "wtensor5", "wtensor6",
    "wtensor7", "wscalars", "wvectors", "wmatrices", "wrows", "wcols", "wtensor3s", "wtensor4s",
    "wtensor5s", "wtensor6s", "wtensor7s", "iscalar", "ivector", "imatrix", "irow", "icol", "itensor3",
    "itensor4", "itensor5", "itensor6", "itensor7", "iscalars", "ivectors", "imatrices", "irows",
    "icols", "itensor3s", "itensor4s", "itensor5s", "itensor6s", "itensor7s", "lscalar", "lvector",
    "lmatrix", "lrow", "lcol", "ltensor3", "ltensor4", "ltensor5", "ltensor6", "ltensor7", "lscalars",
    "lvectors", "lmatrices", "lrows", "lcols", "ltensor3s", "ltensor4s", "ltensor5s", "ltensor6s",
    "ltensor7s", "fscalar", "fvector", "fmatrix", "frow", "fcol", "ftensor3", "ftensor4", "ftensor5",
    "ftensor6", "ftensor7", "fscalars", "fvectors", "fmatrices", "frows", "fcols", "ftensor3s",
    "ftensor4s", "ftensor5s", "ftensor6s", "ftensor7s", "dscalar", "dvector", "dmatrix", "drow", "dcol",
    "dtensor3", "dtensor4", "dtensor5", "dtensor6", "dtensor7", "dscalars", "dvectors", "dmatrices",
    "drows", "dcols", "dtensor3s", "dtensor4s", "dtensor5s", "dtensor6s", "dtensor7s", "cscalar",
    "cvector", "cmatrix", "crow", "ccol", "ctensor3", "ctensor4", "ctensor5", "ctensor6", "ctensor7",
    "cscalars", "cvectors", "cmatrices", "crows", "ccols", "ctensor3s", "ctensor4s", "ctensor5s",
    "ctensor6s", "ctensor7s", "zscalar", "zvector", "zmatrix", "zrow", "zcol", "ztensor3", "ztensor4",
    "ztensor5", "ztensor6", "ztensor7", "zscalars", "zvectors", "zmatrices", "zrows", "zcols",
    "ztensor3s", "ztensor4s", "ztensor5s", "ztensor6s", "ztensor7s",
]  # fmt: skip
