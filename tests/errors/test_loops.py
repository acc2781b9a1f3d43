"""Bad loops and branches, and what is said about them."""

from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function, scan
from symtensor.ifelse import case, cond, ifelse
from symtensor.loops import ScanError
from symtensor.ops.loop_records import ScanLengthError, StateTypeError
from symtensor.pullback import GradientError
from symtensor.scan_module import until
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError
from tests.errors.rows import Row, Table, check, state

bad = Table()


# Sizes that do not agree: the numbers are those of the call, although a guard that holds makes two sizes one ----------

DIFFER = (
    "f: at HERE: mul: sizes on axis 0 do not agree: {}; operands: {} (HERE); {} (HERE). An axis of size 1 broadcasts "
    "only where its size is known to be 1 when the function is built."
)
VECTORS = "a: TensorType(float64, vector)", "b: TensorType(float64, vector)"


@bad(ShapeError, DIFFER.format("3 and 4", "a[t-1]: TensorType(float64, vector)", "m[t]: TensorType(float64, vector)"))
def row_of_a_sequence_of_another_size() -> object:
    m, a = T.dmatrix("m"), T.dvector("a")
    out, _ = scan(lambda row, a: a * row, sequences=m, outputs_info=a)
    return function([m, a], out, name="f")(np.ones((2, 4)), np.ones(3))


@bad(ShapeError, DIFFER.format("3 and 4", *VECTORS))
def sizes_in_a_branch() -> object:
    a, b, c = T.dvector("a"), T.dvector("b"), T.dscalar("c")
    return function([a, b, c], ifelse(c > 0, (a * b).sum(), a.sum()), name="f")(np.ones(3), np.ones(4), 1.0)


@bad(ShapeError, DIFFER.format("3 and 4", *VECTORS))
def sizes_in_a_branch_of_a_step() -> object:
    a, b = T.dvector("a"), T.dvector("b")

    def step(s: Any, a: Any, b: Any) -> Any:
        return ifelse(s > 0, s + (a * b).sum(), s)

    out, _ = scan(step, outputs_info=T.constant(1.0), non_sequences=[a, b], n_steps=3)
    return function([a, b], out, name="f")(np.ones(3), np.ones(4))


# States ----------------------------------------------------------------------------------------------------


@bad(
    StateTypeError,
    "scan walk: state 's[t-1]' begins as float32 but a step makes it float64 (HERE); cast the initial value or the "
    "step's result",
)
def state_of_another_type() -> object:
    return scan(lambda s, v: s * v, outputs_info=T.fscalar("s"), non_sequences=T.dscalar("v"), n_steps=3, name="walk")


@bad(
    ShapeError,
    "scan: state 's[t-1]' begins as TensorType(float64, vector) but a step makes it TensorType(float64, matrix) "
    "(HERE); a state keeps its shape",
)
def state_of_another_rank() -> object:
    return scan(lambda s: s + T.dmatrix("m"), outputs_info=T.dvector("s"), n_steps=3)


@bad(
    ShapeError,
    "scan: a state begins as TensorType(float64, (3)) but a step makes it TensorType(float64, (4)) (HERE); a state "
    "keeps its shape",
)
def state_of_another_known_size() -> object:
    return scan(lambda s: T.zeros(4), outputs_info=T.zeros(3), n_steps=3)


@bad(ShapeError, "f: at HERE: scan: state 's[t-1]' has size 2 on axis 0 at first, and 4 after a step (HERE)")
def state_that_grows() -> object:
    s, total = T.dvector("s"), state(1.0, name="total")
    out, _ = scan(lambda s: T.concatenate([s, s]), outputs_info=s, n_steps=10)
    return function([s], out, updates={total: total + s.sum()}, name="f")([1.0, 2.0])


@bad(ShapeError, "f: scan: state 's[t-1]' has size 2 on axis 0 at first, and 4 after a step (HERE)")
def state_that_grows_in_a_loop_written_out() -> object:
    s = T.dvector("s")
    out, _ = scan(lambda s: T.concatenate([s, s]), outputs_info=s, n_steps=2)
    return function([s], out[-1], name="f")([1.0, 2.0])


@bad(StateTypeError, "scan while_loop: state 'w' begins as float64 but a step makes it float32 (HERE); cast the "
     "initial value or the step's result")  # fmt: skip
def while_state_of_another_type() -> object:
    return symtensor.while_loop(lambda v: v < 1, lambda v: T.cast(v, "float32"), T.dscalar("w"))


@bad(ScanError, "while_loop: the state has 2 parts, but a step returns 1")
def while_state_of_other_parts() -> object:
    return symtensor.while_loop(lambda v: v[0] < 1, lambda v: [v[0]], [T.dscalar(), T.dscalar()])


@bad(
    ShapeError,
    "scan: a size is computed inside the loop, so it may change from step to step: arange: "
    "TensorType(int64, vector) (HERE)",
)
def size_that_changes() -> object:
    return scan(lambda i: T.arange(i), T.arange(5))


# Taps ------------------------------------------------------------------------------------------------------


@bad(ScanError, "scan: the taps [0] of an output must be negative")
def output_tap_of_now() -> object:
    return scan(lambda s: s, outputs_info={"initial": T.dvector(), "taps": [0]}, n_steps=2)


@bad(
    ScanError,
    "scan: with taps [-2, -1] the initial state needs a first axis of 2 rows; s: TensorType(float64, scalar) (HERE) "
    "is a scalar",
)
def taps_of_a_scalar() -> object:
    return scan(lambda a, b: a, outputs_info={"initial": T.dscalar("s"), "taps": [-2, -1]}, n_steps=2)


@bad(ScanLengthError, "f: at HERE: scan: the taps [-3, -1] need 3 initial rows, but state 's' has only 2")
def initial_rows_missing() -> object:
    s = T.dvector("s")
    out, _ = scan(lambda a, b: a + b, outputs_info={"initial": s, "taps": [-3, -1]}, n_steps=5)
    return function([s], out, name="f")([1.0, 2.0])


@bad(ScanLengthError, "scan: the taps [-3] need 3 initial rows, but a state has only 2")
def initial_rows_known_to_be_missing() -> object:
    return scan(lambda a: a, outputs_info={"initial": T.zeros(2), "taps": [-3]}, n_steps=5)


@bad(ScanError, "scan: unknown key 'tap' in a dictionary that may have 'input' and 'taps'")
def misspelt_taps() -> object:
    return scan(lambda v: v, {"input": T.dvector(), "tap": [0]})


@bad(ScanError, "scan_checkpoints checkpointscan_fn: sequences and outputs cannot have taps")
def checkpoints_with_taps() -> object:
    return symtensor.scan_checkpoints(lambda v: v, {"input": T.dvector(), "taps": [0, 1]})


# Numbers of steps ------------------------------------------------------------------------------------------


@bad(ScanLengthError, "f: at HERE: scan: 3 steps, but sequence 'x[t]' has only 2 rows")
def more_steps_than_rows() -> object:
    x, n, total = T.dvector("x"), T.iscalar("n"), state(1.0, name="total")
    out, _ = scan(lambda v: v * 2, x, n_steps=n)
    return function([x, n], out, updates={total: total + 1}, name="f")([1.0, 2.0], 3)


@bad(ScanLengthError, "scan: 3 steps, but a sequence has only 2 rows")
def more_steps_than_known_rows() -> object:
    return scan(lambda v: v * 2, T.zeros(2), n_steps=3)


@bad(ScanLengthError, "f: at HERE: scan: -3 steps")
def negative_steps_of_a_sequence() -> object:
    x, n = T.dvector("x"), T.iscalar("n")
    return function([x, n], scan(lambda v: v * 2, x, n_steps=n)[0], name="f")([1.0, 2.0], -3)


@bad(ScanLengthError, "f: at HERE: scan: -3 steps")
def negative_steps_of_a_state() -> object:
    s, n = T.dvector("s"), T.iscalar("n")
    return function([s, n], scan(lambda v: T.tanh(v), outputs_info=s, n_steps=n)[0], name="f")([1.0, 2.0], -3)


@bad(ScanError, "scan: -1 steps")
def negative_steps() -> object:
    return scan(lambda v: v * 2, outputs_info=T.dvector(), n_steps=-1)


@bad(ScanError, "scan: n_steps must be an integer scalar, got TensorType(float64, scalar)")
def half_a_step() -> object:
    return scan(lambda v: v * 2, outputs_info=T.dvector(), n_steps=2.5)


@bad(ScanError, "scan: without sequences n_steps must be given")
def no_steps_given() -> object:
    return scan(lambda v: v * 2, outputs_info=T.dvector())


@bad(ScanError, "fori_loop: the bounds must be integer scalars, got constant: TensorType(float64, scalar)")
def bound_that_is_no_integer() -> object:
    return symtensor.fori_loop(0, 2.5, lambda i, v: v * 2, T.dvector())


@bad(
    GradientError,
    "grad: the gradient of while_loop keeps what every step computed, so there must be a bound on their number: pass "
    "max_steps (HERE)",
)
def gradient_of_an_unbounded_loop() -> object:
    w = T.dscalar("w")
    return T.grad(symtensor.while_loop(lambda v: v < 100, lambda v: v * w, w), w)


# What a step is given and returns --------------------------------------------------------------------------


@bad(ScanError, "scan: q: TensorType(float64, scalar) (HERE) has no axis to run along")
def sequence_without_axis() -> object:
    return scan(lambda v: v, T.dscalar("q"))


@bad(ScanError, "scan: the step does not take its arguments (x[t], y[t]): too many positional arguments")
def too_many_arguments() -> object:
    return scan(lambda v: v, [T.dvector("x"), T.dvector("y")])


@bad(ScanError, "scan: outputs_info describes 2 outputs, but the step returns 1")
def outputs_missing() -> object:
    return scan(lambda a, b: a, outputs_info=[T.dvector(), T.dvector()], n_steps=2)


@bad(ScanError, "scan: the step returns nothing")
def return_forgotten() -> object:
    return scan(lambda v: None, T.dvector())


@bad(ScanError, "until: the condition must be a scalar, got TensorType(bool, vector)")
def condition_of_a_vector() -> object:
    return scan(lambda v: (v, until(v > 1)), T.dmatrix())


@bad(ScanError, "while_loop: the condition must be a scalar, got lt: TensorType(bool, vector) (HERE)")
def while_of_a_vector() -> object:
    return symtensor.while_loop(lambda v: v < 1, lambda v: v * 2, T.dvector())


@bad(ScanError, "scan: a step can update shared variables only, not x")
def update_of_no_shared_variable() -> object:
    x = T.dscalar("x")
    return scan(lambda v: (v, {x: v}), T.dvector())


@bad(
    ScanError,
    "scan: the update of n: TensorType(int64, scalar) (rows.py:49) has type TensorType(float64, scalar); it must have "
    "the variable's",
)
def update_of_another_type() -> object:
    n = state(1, name="n")
    return scan(lambda v: (v, {n: v}), T.dvector())


@bad(
    ScanError,
    "scan: the step uses the shared variable w: TensorType(float64, scalar) (rows.py:49), which is not in "
    "non_sequences; strict=True forbids that",
)
def strict_with_an_implicit_variable() -> object:
    w = state(1.0, name="w")
    return scan(lambda v: v * w, T.dvector(), strict=True)


# Failures inside a step ------------------------------------------------------------------------------------


@bad(
    OutOfRangeError,
    "f: at HERE: index 6 (cast (HERE)) is out of range on axis 0, of size 3: x: TensorType(float64, vector) (HERE), "
    "in step 2",
)
def index_in_a_step() -> object:
    x, total = T.dvector("x"), state(1.0, name="total")
    out, updates = scan(
        lambda i, s: (x[T.cast(s, "int64")] + s + 1, {total: total + s}), T.arange(5), T.constant(0.0)
    )
    return function([x], out, updates=updates, name="f")([1.0, 2.0, 3.0])


@bad(
    OutOfRangeError,
    "f: at HERE: index 3 (cast (HERE)) is out of range on axis 0, of size 3: x[t]: TensorType(float64, vector) (HERE), "
    "in step 0, in step 2",
)
def index_in_an_inner_loop() -> object:
    x = T.dmatrix("x")

    def outer(row, start):
        inner, _ = scan(lambda s: T.tanh(row[T.cast(s, "int64")]) + s + 1, outputs_info=start, n_steps=6)
        return inner[-1]

    out, _ = scan(outer, x, T.constant(1.0))
    return function([x], out, name="f")(np.zeros((4, 3)))


# Branches --------------------------------------------------------------------------------------------------


@bad(
    DTypeError,
    "ifelse: the branches must have one type, got x: TensorType(float64, vector) (HERE) and y: TensorType(float64, "
    "matrix) (HERE); cast one of them",
)
def branches_of_two_types() -> object:
    return ifelse(T.iscalar(), T.dvector("x"), T.dmatrix("y"))


@bad(
    DTypeError,
    "ifelse: the condition must be a bool or integer scalar, got c: TensorType(float64, scalar) (HERE)",
)
def condition_of_a_float() -> object:
    return ifelse(T.dscalar("c"), T.dvector(), T.dvector())


@bad(ValueError, "ifelse: 1 expressions in one branch and 2 in the other")
def branches_of_two_lengths() -> object:
    x = T.dvector()
    return ifelse(T.iscalar(), [x], [x, x])


@bad(ValueError, "ifelse: 2 expressions in one branch and 1 in the other")
def cond_of_two_lengths() -> object:
    return cond(T.iscalar(), lambda x: [x, x], lambda x: x, T.dvector())


@bad(ValueError, "case: there are no branches")
def case_of_nothing() -> object:
    return case(T.iscalar(), [])


@bad(
    OutOfRangeError,
    "f: at HERE: index 7 (i (HERE)) is out of range on axis 0, of size 2: x: TensorType(float64, vector) (HERE)",
)
def index_in_the_branch_that_runs() -> object:
    x, i, c = T.dvector("x"), T.lscalar("i"), T.iscalar("c")
    return function([x, i, c], ifelse(c, x[i], x[0]), name="f")([1.0, 2.0], 7, 1)


@pytest.mark.parametrize("row", bad, ids=str)
def test_message(row: Row) -> None:
    check(row)
