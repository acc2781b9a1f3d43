"""Bad expressions and gradients, and what is said when they are built."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import Rop, grad
from symtensor.methods import TruthError
from symtensor.pullback import DisconnectedInputError
from symtensor.tensor.variables import TensorType
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError
from tests.errors.rows import Row, Table, check

bad = Table()


# Building expressions --------------------------------------------------------------------------------------


@bad(
    DTypeError,
    "'float31' is not an element type; use one of bool, int8, int16, int32, int64, uint8, uint16, uint32, "
    "uint64, float16, float32, float64, complex64, complex128",
)
def unknown_dtype() -> None:
    T.vector("x", dtype="float31")


@bad(
    ShapeError,
    "add: sizes do not agree on axis -1: x: TensorType(float64, (3)) (HERE); y: TensorType(float64, (4)) (HERE)",
)
def operands_of_known_sizes_differ() -> object:
    x, y = TensorType("float64", (3,))("x"), TensorType("float64", (4,))("y")
    return x + y


@bad(
    DTypeError,
    "dtype('<U1') is not an element type; use one of bool, int8, int16, int32, int64, uint8, uint16, "
    "uint32, uint64, float16, float32, float64, complex64, complex128",
)
def exp_of_a_string() -> None:
    T.exp("x")


@bad(
    DTypeError,
    "constant: {'a': 1} is not numeric (NumPy gives it dtype object)",
)
def not_an_array() -> None:
    T.constant({"a": 1})


@bad(
    DTypeError,
    "bitwise_and does not take float64: x: TensorType(float64, vector) (HERE); constant: "
    "TensorType(float64, scalar)",
)
def bits_of_floats() -> object:
    x = T.dvector("x")
    return x & 1


@bad(
    DTypeError,
    "add: Python integer 1000 is out of bounds for int8",
)
def too_large_an_integer() -> object:
    x = T.TensorType("int8", (None,))("x")
    return x + 1000


@bad(
    TypeError,
    "add takes 2 arguments, got 1",
)
def wrong_number_of_operands() -> None:
    T.add(T.dvector("x"))


@bad(
    TruthError,
    "gt.0 has no truth value before the program runs: use switch(condition, a, b) to choose between "
    "values, & and | instead of 'and' and 'or', or .eval() to compute it now",
)
def truth() -> object:
    return bool(T.dscalar("x") > 0)


@bad(
    TruthError,
    "the length of x is not known before the program runs: use x.shape[0], or len(x.eval())",
)
def length() -> object:
    return len(T.dvector("x"))


@bad(
    TruthError,
    "x cannot be iterated: the length of its first axis is not known yet",
)
def iteration() -> object:
    return list(T.dvector("x"))


@bad(
    TruthError,
    "whether x contains a value is not known before the program runs: use any(eq(x, v))",
)
def membership() -> object:
    return T.dscalar("a") in T.dvector("x")


@bad(
    TruthError,
    "x has no value before the program runs: use .eval(), or cast(x, 'float64')",
)
def number_of_a_variable() -> object:
    return float(T.dscalar("x"))


@bad(
    TruthError,
    "x has no value before the program runs: it does not convert to an array",
)
def numpy_array_of_variables() -> object:
    return np.asarray(T.dvector("x"), dtype=float)


@bad(
    ShapeError,
    "dot: inner sizes differ: x has 784 columns (HERE), w has 800 rows (HERE)",
)
def dot_of_known_sizes() -> object:
    x, w = TensorType("float64", (None, 784))("x"), TensorType("float64", (800, 10))("w")
    return T.dot(x, w)


@bad(
    ShapeError,
    "matmul does not take scalars, use *: a: TensorType(float64, scalar) (HERE); b: TensorType(float64, vector) (HERE)",
)
def matmul_of_scalars() -> object:
    return T.dscalar("a") @ T.dvector("b")


@bad(
    ShapeError,
    "tensordot: axes [[0, 1], [0]] must name as many different axes of both operands",
)
def tensordot_axes() -> object:
    return T.tensordot(T.dmatrix("a"), T.dmatrix("b"), axes=[[0, 1], [0]])


@bad(
    ShapeError,
    "einsum: 'ij,jk->il': the labels of the result must be different ones of the operands",
)
def einsum_letters() -> object:
    return T.einsum("ij,jk->il", T.dmatrix("a"), T.dmatrix("b"))


@bad(
    ShapeError,
    "sum: axis 2 is out of range for 2 axes: x: TensorType(float64, matrix) (HERE)",
)
def axis_too_large() -> object:
    return T.dmatrix("x").sum(axis=2)


@bad(
    ShapeError,
    "sum: an axis is given twice in (0, 0)",
)
def axis_twice() -> object:
    return T.dmatrix("x").sum(axis=(0, 0))


@bad(
    ShapeError,
    "max of no elements has no value: x: TensorType(float64, (0)) (HERE)",
)
def maximum_of_nothing() -> object:
    return TensorType("float64", (0,))("x").max()


@bad(
    ShapeError,
    "dimshuffle: axis 1 is dropped, but its size is not known to be 1: x: TensorType(float64, matrix) "
    "(HERE); use addbroadcast(x, axis) to say that it is",
)
def dimshuffle_drops_an_axis() -> object:
    return T.dmatrix("x").dimshuffle(0)


@bad(
    ShapeError,
    "dimshuffle: axis 2 is out of range for 2 axes: x: TensorType(float64, matrix) (HERE)",
)
def dimshuffle_unknown_axis() -> object:
    return T.dmatrix("x").dimshuffle(0, 1, 2)


@bad(
    ShapeError,
    "squeeze: axis 0 is not known to have size 1: x: TensorType(float64, (3)) (HERE); see addbroadcast()",
)
def squeeze_a_long_axis() -> object:
    return TensorType("float64", (3,))("x").squeeze(0)


@bad(
    ShapeError,
    "reshape: (6,) cannot become (4, 2): x: TensorType(float64, (6)) (HERE)",
)
def reshape_known_sizes() -> object:
    return TensorType("float64", (6,))("x").reshape((4, 2))


@bad(
    ShapeError,
    "reshape: (None,) cannot become (-1, -1): x: TensorType(float64, vector) (HERE); at most one size may be -1",
)
def reshape_two_unknowns() -> object:
    return T.dvector("x").reshape((-1, -1))


@bad(
    DTypeError,
    "reshape: a size must be an integer or an integer scalar expression, got 2.5",
)
def reshape_float_size() -> object:
    return T.dvector("x").reshape((2.5, 2))


@bad(
    ShapeError,
    "reshape: a shape must have a statically known length, got shape: TensorType(int64, vector) (HERE); "
    "pass a tuple of sizes, or give ndim=",
)
def reshape_unknown_rank() -> object:
    return T.dvector("x").reshape(T.lvector("shape"))


@bad(
    ShapeError,
    "join takes tensors of one type and rank, got x: TensorType(float64, vector) (HERE); y: "
    "TensorType(float64, matrix) (HERE)",
)
def concatenate_ranks() -> object:
    return T.concatenate([T.dvector("x"), T.dmatrix("y")])


@bad(
    ShapeError,
    "join: there is nothing to join",
)
def concatenate_nothing() -> object:
    return T.concatenate([])


@bad(
    ShapeError,
    "stack takes tensors of one rank, got x: TensorType(float64, vector) (HERE); y: TensorType(float64, matrix) (HERE)",
)
def stack_ranks() -> object:
    return T.stack([T.dvector("x"), T.dmatrix("y")])


@bad(
    ShapeError,
    "split: 2 sizes for 3 pieces",
)
def split_sizes() -> object:
    return T.split(T.dvector("x"), [1, 2], 3)


@bad(
    OutOfRangeError,
    "too many indices: 2 for 1 axes of x: TensorType(float64, vector) (HERE)",
)
def too_many_indices() -> object:
    return T.dvector("x")[0, 1]


@bad(
    DTypeError,
    "an index must be an integer, a slice, a bool array or None, got 1.5",
)
def index_float() -> object:
    return T.dvector("x")[1.5]


@bad(
    DTypeError,
    "an index must be an integer, a slice, a bool array or None, got 'a'",
)
def index_string() -> object:
    return T.dvector("x")["a"]


@bad(
    OutOfRangeError,
    "index 3 is out of range on axis 0: x: TensorType(float64, (3)) (HERE)",
)
def index_known_size() -> object:
    return TensorType("float64", (3,))("x")[3]


@bad(
    DTypeError,
    "an index must be an integer, a slice, a bool array or None, got i: TensorType(float64, vector) (HERE)",
)
def index_float_array() -> object:
    return T.dvector("x")[T.dvector("i")]


@bad(
    ValueError,
    "a slice of step 0 on axis 0: x: TensorType(float64, vector) (HERE)",
)
def slice_step_zero() -> object:
    return T.dvector("x")[::0]


@bad(
    TypeError,
    "expressions do not change: write y = set_subtensor(x[key], value)",
)
def assignment() -> None:
    T.dvector("x")[0] = 1.0


@bad(
    TypeError,
    "set_subtensor: the first argument must be a part of a tensor, x[...], not x: TensorType(float64, vector) (HERE)",
)
def set_subtensor_of_a_variable() -> object:
    return T.set_subtensor(T.dvector("x"), 1.0)


@bad(
    ShapeError,
    "set_subtensor: the part has shape (2,), the value does not fit: constant: TensorType(float64, (4))",
)
def set_subtensor_shape() -> object:
    x = TensorType("float64", (5,))("x")
    return T.set_subtensor(x[1:3], np.ones(4))


@bad(
    DTypeError,
    "set_subtensor: float64 does not convert to int64; use cast(): subtensor: TensorType(int64, scalar) (HERE)",
)
def set_subtensor_dtype() -> object:
    x = T.lvector("x")
    return T.set_subtensor(x[0], 1.5)


@bad(
    DTypeError,
    "cast: complex values do not convert to float64 (z: TensorType(complex128, vector) (HERE)); take real() or abs()",
)
def cast_complex() -> object:
    return T.cast(T.zvector("z"), "float64")


@bad(
    DTypeError,
    "lt does not take complex128: z: TensorType(complex128, vector) (HERE); constant: "
    "TensorType(complex128, scalar)",
)
def order_of_complex() -> object:
    return T.zvector("z") < 1


@bad(
    ShapeError,
    "switch: sizes do not agree on axis -1: c: TensorType(bool, (2)) (HERE); x: TensorType(float64, (3)) "
    "(HERE); constant: TensorType(float64, scalar)",
)
def switch_ranks() -> object:
    return T.switch(TensorType("bool", (2,))("c"), TensorType("float64", (3,))("x"), 0.0)


@bad(
    ValueError,
    "arange: the step is 0",
)
def arange_float_step_zero() -> object:
    return T.arange(0, 10, 0)


@bad(
    ShapeError,
    "broadcast_to: (3,) cannot become (2,): x: TensorType(float64, (3)) (HERE)",
)
def broadcast_to_smaller() -> object:
    return T.broadcast_to(TensorType("float64", (3,))("x"), (2,))


@bad(
    ShapeError,
    "arange: the length is negative: -1",
)
def eye_negative() -> object:
    return T.eye(-1)


@bad(
    ValueError,
    "take: mode must be one of raise, wrap, clip, not 'other'",
)
def take_mode() -> object:
    return T.dvector("x").take([0], mode="other")


# Gradients -------------------------------------------------------------------------------------------------


@bad(
    TypeError,
    "grad: cost must be a scalar, got mul: TensorType(float64, vector) (HERE). Reduce it first, as in "
    "cost.sum() or cost.mean()",
)
def gradient_of_a_vector() -> object:
    x = T.dvector("x")
    return grad(x * 2, x)


@bad(
    DisconnectedInputError,
    "grad: asked for the gradient with respect to y: TensorType(float64, vector) (HERE), but the cost does "
    "not depend on it, or only through operations that have no gradient. Remove it from wrt, or pass "
    "disconnected_inputs='ignore' to get zeros",
)
def gradient_disconnected() -> object:
    x, y = T.dvector("x"), T.dvector("y")
    return grad(x.sum(), y)


@bad(
    DTypeError,
    "grad: complex numbers have no gradient here, got z: TensorType(complex128, vector) (HERE). Make the "
    "real and imaginary parts two real variables",
)
def gradient_complex() -> object:
    z = T.zvector("z")
    return grad(z.sum(), z)


@bad(
    TypeError,
    "grad: cost must be a symbolic expression, got list: [x]",
)
def gradient_of_a_list() -> object:
    x = T.dscalar("x")
    return grad([x], x)


@bad(
    TypeError,
    "grad: wrt must be a variable or a list of them, got float: 2.0",
)
def gradient_wrt_number() -> object:
    x = T.dscalar("x")
    return grad(x, 2.0)


@bad(
    ValueError,
    "grad: disconnected_inputs must be 'raise' or 'warn' or 'ignore', got 'never'",
)
def gradient_option() -> object:
    x = T.dscalar("x")
    return grad(x, x, disconnected_inputs="never")


@bad(
    TypeError,
    "grad: known_grads: for mul: TensorType(float64, vector) (HERE) there must be 1 dimensions, got "
    "constant: TensorType(float64, (2, 2))",
)
def gradient_known_type() -> object:
    x = T.dvector("x")
    y = x * 2
    return grad(None, x, known_grads={y: np.ones((2, 2))})


@bad(
    TypeError,
    "Rop: eval_points: for x: TensorType(float64, vector) (HERE) there must be 1 dimensions, got v: "
    "TensorType(float64, matrix) (HERE)",
)
def rop_types() -> object:
    x = T.dvector("x")
    return Rop(x * 2, x, T.dmatrix("v"))


@pytest.mark.parametrize("row", bad, ids=str)
def test_message(row: Row) -> None:
    check(row)
