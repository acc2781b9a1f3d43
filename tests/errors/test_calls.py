"""Calls that fail: what is said, and that shared variables stay as they were."""

import pickle

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function
from symtensor.arguments import MissingInputError
from symtensor.failures import NotFiniteError
from symtensor.pickling import PickleError
from symtensor.shared_variables import ArgumentShapeError
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError, UserError
from tests.errors.rows import Row, Table, check, state

bad = Table()


# Calls -----------------------------------------------------------------------------------------------------


@bad(
    TypeError,
    "f takes 1 argument (x), got 2",
)
def call_too_many() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x, updates={s: s + 1}, name="f")([1.0], [2.0])


@bad(
    TypeError,
    "f: input x (HERE) is missing: pass a value of type TensorType(float64, vector)",
)
def call_missing() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x, updates={s: s + 1}, name="f")()


@bad(
    TypeError,
    "f has no input called 'y'; its inputs are: x",
)
def call_unknown_name() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x, updates={s: s + 1}, name="f")(y=[1.0])


@bad(
    TypeError,
    "f got two values for the input 'x'",
)
def call_name_twice() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x, updates={s: s + 1}, name="f")([1.0], x=[1.0])


@bad(
    ArgumentShapeError,
    "f: input x (HERE): expected 1 dimension (TensorType(float64, vector)), got 2 (shape (1, 1))",
)
def call_rank() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x, updates={s: s + 1}, name="f")([[1.0]])


@bad(
    DTypeError,
    "f: input x (HERE): float64 does not convert to float32 without loss; convert it, or pass "
    "allow_input_downcast=True to function()",
)
def call_dtype() -> None:
    s, x = state(0.0), T.fvector("x")
    function([x], x, updates={s: s + 1}, name="f")(np.zeros(3))


@bad(
    DTypeError,
    "f: input x (HERE): [0.1] (float64) does not convert to float32 without loss; convert it, or pass "
    "allow_input_downcast=True to function()",
)
def call_inexact_number() -> None:
    s, x = state(0.0), T.fvector("x")
    function([x], x, updates={s: s + 1}, name="f")([0.1])


@bad(
    DTypeError,
    "f: input n (HERE): 1.5 (float64) does not convert to int64 without loss; convert it, or pass "
    "allow_input_downcast=True to function()",
)
def call_float_for_integer() -> None:
    s, n = state(0.0), T.lscalar("n")
    function([n], n, updates={s: s + 1}, name="f")(1.5)


@bad(
    DTypeError,
    "f: input n (HERE): 1000 (int64) does not convert to int8 without loss; convert it, or pass "
    "allow_input_downcast=True to function()",
)
def call_integer_out_of_range() -> None:
    s, n = state(0.0), T.TensorType("int8", ())("n")
    function([n], n, updates={s: s + 1}, name="f")(1000)


@bad(
    DTypeError,
    "f: input x (HERE): '1.0' is not numeric (NumPy gives it dtype <U3)",
)
def call_text() -> None:
    s, x = state(0.0), T.dscalar("x")
    function([x], x, updates={s: s + 1}, name="f")("1.0")


@bad(
    ShapeError,
    "f: input x (HERE): the rows of a nested list must have equal lengths",
)
def call_ragged() -> None:
    s, x = state(0.0), T.dmatrix("x")
    function([x], x, updates={s: s + 1}, name="f")([[1.0], [1.0, 2.0]])


@bad(
    TypeError,
    "f: input x (HERE) got a shared variable; pass its get_value()",
)
def call_shared() -> None:
    s, x = state(0.0), T.dscalar("x")
    function([x], x, updates={s: s + 1}, name="f")(s)


@bad(
    TypeError,
    "f: input x (HERE): expected an array, got the expression x; compile it or use .eval()",
)
def call_expression() -> None:
    s, x = state(0.0), T.dscalar("x")
    function([x], x, updates={s: s + 1}, name="f")(x)


@bad(
    ArgumentShapeError,
    "f: input x (HERE): axis 0 must have size 1, got shape (2, 4)",
)
def call_fixed_size() -> None:
    s, x = state(0.0), T.row("x")
    function([x], x, updates={s: s + 1}, name="f")(np.zeros((2, 4)))


@bad(
    ShapeError,
    "f: at HERE: add: sizes on axis 0 do not agree: 2 and 3; operands: x: TensorType(float64, vector) "
    "(HERE); y: TensorType(float64, vector) (HERE). An axis of size 1 broadcasts only where its size is "
    "known to be 1 when the function is built.",
)
def call_sizes_differ() -> None:
    s, x, y = state(0.0), T.dvector("x"), T.dvector("y")
    function([x, y], x + y, updates={s: s + 1}, name="f")([1.0, 2.0], [1.0, 2.0, 3.0])


@bad(
    ShapeError,
    "f: at HERE: add: sizes on axis 0 do not agree: 3 and 1; operands: x: TensorType(float64, matrix) "
    "(HERE); y: TensorType(float64, matrix) (HERE). An axis of size 1 broadcasts only where its size is "
    "known to be 1 when the function is built.",
)
def call_size_one_does_not_broadcast() -> None:
    s, x, y = state(0.0), T.dmatrix("x"), T.dmatrix("y")
    function([x, y], x + y, updates={s: s + 1}, name="f")(np.ones((3, 4)), np.ones((1, 4)))


@bad(
    ShapeError,
    "f: at HERE: sub: sizes on axis 0 do not agree: 3 and 4; operands: w: TensorType(float64, vector) "
    "(rows.py:49); mul: TensorType(float64, vector) (HERE). An axis of size 1 broadcasts only where its "
    "size is known to be 1 when the function is built.",
)
def call_sizes_of_shared_differ() -> None:
    w, x = state(np.zeros(3), "w"), T.dvector("x")
    function([x], [], updates={w: w - 0.1 * x}, name="f")(np.ones(4))


@bad(
    ShapeError,
    "f: at HERE: dot: inner sizes differ: x has 4 columns (HERE), w has 3 rows (rows.py:49)",
)
def call_dot() -> None:
    w, x = state(np.ones((3, 2)), "w"), T.dmatrix("x")
    function([x], T.dot(x, w), updates={w: w * 2}, name="f")(np.ones((5, 4)))


@bad(
    ShapeError,
    "f: at HERE: dot: inner sizes differ: x has 4 columns (HERE), w has 3 elements (rows.py:49)",
)
def call_dot_vector() -> None:
    w, x = state(np.ones(3), "w"), T.dmatrix("x")
    function([x], T.dot(x, w), updates={w: w * 2}, name="f")(np.ones((5, 4)))


@bad(
    ShapeError,
    "f: at HERE: reshape: 5 elements cannot become 6: x: TensorType(float64, vector) (HERE)",
)
def call_reshape() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x.reshape((2, 3)), updates={s: s + 1}, name="f")(np.ones(5))


@bad(
    ShapeError,
    "f: at HERE: reshape: 5 elements cannot become 4: x: TensorType(float64, vector) (HERE)",
)
def call_reshape_unknown() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x.reshape((2, -1)), updates={s: s + 1}, name="f")(np.ones(5))


@bad(
    ShapeError,
    "f: at HERE: join along axis 0: sizes 4 and 3 differ on axis 1: y: TensorType(float64, matrix) (HERE)",
)
def call_concatenate() -> None:
    s, x, y = state(0.0), T.dmatrix("x"), T.dmatrix("y")
    function([x, y], T.concatenate([x, y]), updates={s: s + 1}, name="f")(np.ones((2, 3)), np.ones((2, 4)))


@bad(
    ShapeError,
    "f: at HERE: join along axis 0: sizes 3 and 2 differ on axis 1: dimshuffle: TensorType(float64, row) (HERE)",
)
def call_stack() -> None:
    s, x, y = state(0.0), T.dvector("x"), T.dvector("y")
    function([x, y], T.stack([x, y]), updates={s: s + 1}, name="f")(np.ones(2), np.ones(3))


@bad(
    ShapeError,
    "f: at HERE: set_subtensor: sizes 4 and 2 differ on axis -1: x: TensorType(float64, vector) (HERE)",
)
def call_set_subtensor() -> None:
    w, x = state(np.zeros(5), "w"), T.dvector("x")
    function([x], updates={w: T.set_subtensor(w[1:3], x)}, name="f")(np.ones(4))


@bad(
    OutOfRangeError,
    "f: at HERE: index 3 (i (HERE)) is out of range on axis 0, of size 3: x: TensorType(float64, vector) (HERE)",
)
def call_index() -> None:
    s, x, i = state(0.0), T.dvector("x"), T.lscalar("i")
    function([x, i], x[i], updates={s: s + 1}, name="f")(np.ones(3), 3)


@bad(
    OutOfRangeError,
    "f: at HERE: index -4 (i (HERE)) is out of range on axis 0, of size 3: x: TensorType(float64, vector) (HERE)",
)
def call_index_negative() -> None:
    s, x, i = state(0.0), T.dvector("x"), T.lscalar("i")
    function([x, i], x[i], updates={s: s + 1}, name="f")(np.ones(3), -4)


@bad(
    OutOfRangeError,
    "f: at HERE: index 3 is out of range on axis 0, of size 3: x: TensorType(float64, vector) (HERE)",
)
def call_index_constant() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x[3], updates={s: s + 1}, name="f")(np.ones(3))


@bad(
    OutOfRangeError,
    "f: at HERE: index 5 (labels (HERE)) is out of range on axis 1, of size 3: x: TensorType(float64, matrix) (HERE)",
)
def call_index_array() -> None:
    s, x, i = state(0.0), T.dmatrix("x"), T.lvector("labels")
    function([x, i], x[T.arange(2), i], updates={s: s + 1}, name="f")(np.ones((2, 3)), [0, 5])


@bad(
    OutOfRangeError,
    "f: at HERE: index 4 (i (HERE)) is out of range on axis 0, of size 4: w: TensorType(float64, matrix) (rows.py:49)",
)
def call_index_of_shared() -> None:
    w, i = state(np.zeros((4, 2)), "w"), T.lvector("i")
    function([i], updates={w: T.inc_subtensor(w[i], 1.0)}, name="f")([0, 4])


@bad(
    ShapeError,
    "f: at HERE: index arrays: sizes 3 and 2 differ on axis -1: j: TensorType(int64, vector) (HERE)",
)
def call_index_arrays_differ() -> None:
    s, x, i, j = state(0.0), T.dmatrix("x"), T.lvector("i"), T.lvector("j")
    function([x, i, j], x[i, j], updates={s: s + 1}, name="f")(np.ones((2, 3)), [0, 1], [0, 1, 2])


@bad(
    OutOfRangeError,
    "f: at HERE: index 7 (i (HERE)) is out of range on axis 0, of size 3: x: TensorType(float64, vector) (HERE)",
)
def call_take() -> None:
    s, x, i = state(0.0), T.dvector("x"), T.lvector("i")
    function([x, i], x.take(i), updates={s: s + 1}, name="f")(np.ones(3), [7])


@bad(
    ShapeError,
    "f: at HERE: max of no elements has no value (axis 0 is empty): x: TensorType(float64, vector) (HERE)",
)
def call_maximum_of_nothing() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], x.max(), updates={s: s + 1}, name="f")([])


@bad(
    ShapeError,
    "f: at HERE: argmax of no elements has no value (axis 1 is empty): x: TensorType(float64, matrix) (HERE)",
)
def call_argmax_of_nothing() -> None:
    s, x = state(0.0), T.dmatrix("x")
    function([x], T.argmax(x, axis=1), updates={s: s + 1}, name="f")(np.ones((2, 0)))


@bad(
    ShapeError,
    "f: at HERE: specify_shape: axis 0 has size 2, not 1 as stated: x: TensorType(float64, matrix) (HERE)",
)
def call_addbroadcast() -> None:
    s, x = state(0.0), T.dmatrix("x")
    function([x], T.addbroadcast(x, 0), updates={s: s + 1}, name="f")(np.ones((2, 2)))


@bad(
    ShapeError,
    "squeeze: axis 0 is not known to have size 1: x: TensorType(float64, matrix) (HERE); see addbroadcast()",
)
def call_squeeze() -> None:
    s, x = state(0.0), T.dmatrix("x")
    function([x], x.squeeze(0), updates={s: s + 1}, name="f")(np.ones((2, 2)))


@bad(
    ShapeError,
    "f: at HERE: broadcast_to: a size is negative: -3",
)
def call_negative_size() -> None:
    s, n = state(0.0), T.lscalar("n")
    function([n], T.zeros((n,)), updates={s: s + 1}, name="f")(-3)


@bad(
    MemoryError,
    "f: out of memory: could not allocate 4,611,686,018,427,387,904 bytes",
)
def call_too_large() -> None:
    s, n = state(0.0), T.lscalar("n")
    function([n], T.zeros((n,)), updates={s: s + 1}, name="f")(1 << 60)


# Modes -----------------------------------------------------------------------------------------------------


@bad(
    NotFiniteError,
    "f: NaN in x: TensorType(float64, vector) (HERE): 1 of 2 elements, first at (1,); no shared variable was changed",
)
def nan_in_input() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], T.exp(x), updates={s: s + 1}, name="f", mode="nan_guard")([0.0, np.nan])


@bad(
    NotFiniteError,
    "f: NaN in switch: TensorType(float64, vector) (HERE), computed by switch from ge: TensorType(bool, "
    "vector); x: TensorType(float64, vector) (HERE); constant: TensorType(float64, scalar): 1 of 3 "
    "elements, first at (2,); no shared variable was changed",
)
def nan_in_expression() -> None:
    s, x = state(0.0), T.dvector("x")
    function([x], T.exp(T.log(x)), updates={s: s + 1}, name="f", mode="nan_guard")([1.0, 2.0, -1.0])


@bad(
    NotFiniteError,
    "f: infinity in true_div: TensorType(float64, vector) (HERE), computed by true_div from w: "
    "TensorType(float64, vector) (rows.py:49); x: TensorType(float64, vector) (HERE): 1 of 2 elements, "
    "first at (1,); no shared variable was changed",
)
def infinity_in_update() -> None:
    w, x = state(np.ones(2), "w"), T.dvector("x")
    function([x], updates={w: w / x}, name="f", mode="nan_guard")([1.0, 0.0])


@bad(
    NotFiniteError,
    "f: infinity in w: TensorType(float64, vector) (rows.py:49): 1 of 2 elements, first at (1,); no shared "
    "variable was changed",
)
def infinity_in_shared() -> None:
    w = state(np.array([1.0, np.inf]), "w")
    function([], (w * 2).sum(), updates={w: w + 1}, name="f", mode="NanGuardMode")()


@bad(
    UserError,
    "f: the mode 'reference' compiles nothing; build the function in another mode",
)
def source_of_reference() -> object:
    x = T.dvector("x")
    return function([x], x * 2, name="f", mode="reference").source("llvm")


@bad(
    UserError,
    "source() takes 'loops', 'program', 'llvm' or 'asm', not 'c'",
)
def source_language() -> object:
    x = T.dvector("x")
    return function([x], x * 2, name="f").source("c")


@bad(
    KeyError,
    "there is no stage 'loops'; the stages are graph, canonical, shapes, stability, specialise",
)
def stage_unknown() -> object:
    x = T.dvector("x")
    return function([x], x * 2, name="f").stages["loops"]


# Functions -------------------------------------------------------------------------------------------------


@bad(
    TypeError,
    "function() got an unexpected keyword argument 'optimizer'",
)
def function_option() -> object:
    return function([], T.constant(1.0), optimizer="fast")


@bad(
    ValueError,
    "f.copy: swap: r is not used by the function; it uses: s: TensorType(float64, scalar) (rows.py:49)",
)
def copy_swaps_what_is_not_used() -> object:
    s, r, x = state(0.0), state(1.0, "r"), T.dscalar("x")
    return function([x], x * s, name="f").copy(swap={r: s})


@bad(
    TypeError,
    "f.copy: swap: the types differ: s: TensorType(float64, scalar) (rows.py:49); r: TensorType(float64, "
    "vector) (rows.py:49)",
)
def copy_swaps_types() -> object:
    s, r, x = state(0.0), state(np.zeros(2), "r"), T.dscalar("x")
    return function([x], x * s, name="f").copy(swap={s: r})


@bad(
    TypeError,
    "f.copy: swap: s: TensorType(float64, scalar) (rows.py:49) must be replaced by a shared variable, not 1.0",
)
def copy_swaps_with_a_number() -> object:
    s, x = state(0.0), T.dscalar("x")
    return function([x], x * s, name="f").copy(swap={s: 1.0})


@bad(
    MissingInputError,
    "function: an output depends on the variable x: TensorType(float64, scalar) (HERE), which is not among "
    "the inputs; add it to inputs, or give it a value with givens",
)
def eval_missing() -> object:
    return (T.dscalar("x") * 2).eval()


@bad(
    ValueError,
    "eval: the expression depends on nothing called 'y'; there are: x",
)
def eval_unknown_name() -> object:
    return (T.dscalar("x") * 2).eval({"y": 1.0})


@bad(
    PickleError,
    "a pickled expression uses sum in a way this version does not know (KeyError('axes')); build the expression again",
)
def pickle_of_another_version() -> object:
    text = pickle.dumps(T.dvector("x").sum(axis=0))
    return pickle.loads(text.replace(b"axes", b"axis"))


@bad(
    PickleError,
    "a pickle uses the operation 'exq', which this version does not have",
)
def pickle_of_a_missing_operation() -> object:
    text = pickle.dumps(T.exp(T.dvector("x")))
    return pickle.loads(text.replace(b"\x03exp", b"\x03exq"))


@pytest.mark.parametrize("row", bad, ids=str)
def test_message(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("mode", ["fast_compile", "debug", "nan_guard", "reference"])
@pytest.mark.parametrize("row", [row for row in bad if str(row).startswith("call_")], ids=str)
def test_nothing_changes_in_other_modes(row: Row, mode: str) -> None:
    if mode == "reference" and str(row) == "call_too_large":
        pytest.skip("NumPy says it in its own words")
    with config.change(mode=mode):
        check(row, exactly=False)
