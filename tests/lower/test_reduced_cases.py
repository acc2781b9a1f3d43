"""Programs that once went wrong, as small as they could be made; most were found by tests/fuzz."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor.lower.plan import Result, plan
from symtensor.reference import evaluate
from symtensor_codegen.program import Copy, Launch
from symtensor_codegen.reference.programs import run_program

MODES = pytest.mark.parametrize("mode", ["fast_run", "fast_compile"])


def check(inputs: Sequence[T.Variable], outputs: Sequence[T.Variable], arrays: Sequence[Any], mode: str) -> None:
    """The compiled function, and the lowered program run by the interpreter, give what the reference evaluator does."""
    wanted = evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for got, want in zip(function(inputs, outputs, mode=mode)(*arrays), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
        assert got.dtype == want.dtype
        assert got.shape == want.shape
    if sum(np.size(a) for a in arrays) <= 100:  # here every access is checked
        made = plan("check", inputs, [], [Result(output) for output in outputs])
        found = run_program(made.program, [np.asarray(a) for a in arrays], [c.data for c in made.constants])
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@MODES
def test_constants_are_outputs(mode: str) -> None:
    """A constant of one element is otherwise written into the code, and has no memory."""
    x = T.dvector("x")
    results = function([x], [T.as_tensor(0.5), x, T.as_tensor([1, 2]), T.as_tensor([[7.0]])], mode=mode)(np.zeros(2))
    np.testing.assert_array_equal(results[0], 0.5)
    np.testing.assert_array_equal(results[2], [1, 2])
    np.testing.assert_array_equal(results[3], [[7.0]])


@MODES
@pytest.mark.parametrize("size", [0, 1, 1000, 16384, 16385, 50_000])
def test_reductions_of_values_without_index(mode: str, size: int) -> None:
    """The chunks of a long reduction have sizes of their own, even where the elements are all the same."""
    x = T.dvector("x")
    constant = T.zeros_like(x) + 2
    check([x], [constant.sum(), (constant + x.sum()).sum(), T.exp(x * 0).sum()], [np.ones(size)], mode)


@MODES
@pytest.mark.parametrize("step", [-1, -2, 2])
def test_products_of_reversed_matrices(mode: str, step: int) -> None:
    """BLAS takes no negative strides."""
    x = T.dmatrix("x")
    rows, columns = x[::step], x[:, ::step]
    outputs = [
        T.dot(rows, rows.T),
        T.dot(columns, columns.T),
        T.dot(rows.T, rows),
        T.dot(columns[::-1], x[:, ::step].T),
    ]
    check([x], outputs, [np.arange(15.0).reshape(5, 3) - 6], mode)


@MODES
def test_products_of_matrices_reversed_by_a_variable(mode: str) -> None:
    x, step = T.dmatrix("x"), T.lscalar("step")
    part = x[::step]
    for value in (1, 2, -1, -3):
        check([x, step], [T.dot(part, part.T)], [np.arange(15.0).reshape(5, 3), np.int64(value)], mode)


@MODES
def test_one_size_of_those_that_are_rolled(mode: str) -> None:
    """The element that a guard refuses is none of the vector's."""
    x = T.dtensor3("x")
    sizes = T.roll(x.shape, -2)
    check([x], [sizes[1:2], sizes[0] + x.sum(), T.pad(x.shape, 1)[3:4]], [np.ones((2, 3, 4))], mode)


@MODES
def test_products_of_empty_matrices(mode: str) -> None:
    x = T.dmatrix("x")
    none = x[:, 5:5]
    check([x], [T.dot(none, none.T), T.dot(none.T, x), T.dot(x[:0], x.T)], [np.ones((3, 4))], mode)


@MODES
@pytest.mark.parametrize("shift", [0, 1, -2, 4, 9])
def test_roll_reads_inside(mode: str, shift: int) -> None:
    x = T.dmatrix("x")
    check([x], [T.roll(x, shift, axis=0), T.roll(x, shift, axis=1)], [np.arange(4.0).reshape(4, 1)], mode)


@MODES
def test_readers_of_an_update_in_place(mode: str) -> None:
    """The new value lies in the memory of the variable, and another kernel reads it there."""
    s = shared(np.array([1.0, 2.0]), shape=(2,))
    new = T.join(0, s, s)[-7::2]
    smallest, _ = function([], [new.min(), T.join(0, s, s) * 0], updates={s: new}, mode=mode)()
    assert smallest == 1.0
    np.testing.assert_array_equal(s.get_value(), [1.0, 1.0])


@MODES
def test_writes_into_a_computed_tensor(mode: str) -> None:
    """What is written into is itself a gather, which only the copy before the write reads."""
    x = T.dmatrix("x")
    picked = (x * x)[np.array([0, -1, 0])]
    target = T.inc_subtensor(picked[:, np.array([0, 2, 0])], 1.0)
    check([x], [target, T.inc_subtensor(picked[0:-2:-2, np.array([0, 1])], 5.0)], [np.arange(12.0).reshape(4, 3)], mode)


@MODES
def test_guards_name_sizes_that_are_known(mode: str) -> None:
    """A size proven equal to a product of others is reported by those."""
    x = T.dmatrix("x")
    flat = T.dot(x, x.T).reshape((x.shape[0] ** 2,))
    check([x], [flat[0].dimshuffle("x"), flat[1:]], [np.arange(6.0).reshape(2, 3)], mode)


@MODES
@pytest.mark.parametrize("sizes", [(0, 10**6), (0, 3)])
def test_lookups_on_empty_axes(mode: str, sizes: tuple[int, int]) -> None:
    """No element stands for a refused index where there are none: nothing may be read or written."""
    x, rows, row = T.dmatrix("x"), T.lvector("rows"), T.lscalar("row")
    empty = np.zeros(sizes)
    read, write = x[rows], T.inc_subtensor(x[rows], 1)
    for output in (read, write, T.set_subtensor(x[rows, 0], 5)):
        run = function([x, rows], output, mode=mode)
        with pytest.raises(IndexError, match="axis 0, which is empty"):
            run(empty, np.array([0]))
        assert run(empty, np.zeros(0, np.int64)).size == 0
    with pytest.raises(IndexError, match="axis 0, which is empty"):
        function([x, row], x[row], mode=mode)(empty, 0)


@MODES
def test_reductions_over_one_element(mode: str) -> None:
    """Their only element is the one that the loop outside has just computed."""
    x = T.TensorType("float64", (1, 1))("x")
    s = shared(np.array(3.0))
    total = T.logsumexp(x, axis=1)
    spread = total.std(axis=0)
    run = function([x], [spread, total, T.argmax(total, axis=0)], updates={s: spread}, mode=mode)
    value, sums, place = run([[0.25]])
    assert value == 0.0
    np.testing.assert_allclose(sums, [0.25])
    assert place == 0
    assert s.get_value() == 0.0


@MODES
def test_softmax_of_one_element(mode: str) -> None:
    x = T.dmatrix("x")
    best = x.max().dimshuffle("x", "x")
    row = T.nnet.log_softmax(best, axis=0)
    check([x], [row.sum(axis=0), row - best, T.nnet.softmax(best)], [np.arange(6.0).reshape(2, 3)], mode)


@MODES
def test_sizes_that_are_counted(mode: str) -> None:
    """The size of what a mask picks is the value of a sum; asking for the size alone needs that sum."""
    x = T.dmatrix("x")
    first = x[:1].nonzero()[0] // x.shape[1]
    value = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
    check([x], [first.shape[0], first], [value], mode)
    check([x], [x[x > 0].shape[0], x[x > 0].sum()], [value], mode)


@MODES
def test_reductions_read_beside_neighbours(mode: str) -> None:
    """Row j of one loop reads what row k stored: rows j need a second loop, and their reduction once more in it."""
    x, y = T.dtensor3("x"), T.dvector("y")
    best = T.cast(x.argmax(axis=1), "float64")
    total, power = x.sum(axis=1), T.exp(x.max(axis=1))
    outputs = [
        (best * y).dimshuffle(0, 1, "x") < (best * y).dimshuffle(0, "x", 1),
        total.dimshuffle(0, 1, "x") * power.dimshuffle(0, "x", 1) - best.dimshuffle(0, 1, "x"),
        T.nnet.softmax(total.dimshuffle(0, 1, "x") - power.dimshuffle(0, "x", 1)),
    ]
    arrays = [np.sin(np.arange(24.0)).reshape(2, 4, 3), np.array([1.0, -2.0, 3.0])]
    check([x, y], outputs[:1], arrays, mode)
    check([x], outputs[1:2], arrays[:1], mode)
    check([x, y], [*outputs, power], arrays, mode)


@MODES
@pytest.mark.parametrize("axis", [0, 1])
def test_reductions_of_reductions_that_read_them_again(mode: str, axis: int) -> None:
    """Each pass of a softmax or variance over sums is a loop of its own, and computes the sums in it."""
    x = T.dtensor3("x")
    arrays = [np.cos(np.arange(60.0)).reshape(3, 4, 5)]
    total = x.sum(axis=2)
    readers = (T.nnet.softmax, T.nnet.log_softmax, T.var, T.std, T.logsumexp, T.ptp)
    check([x], [read(total, axis=axis) for read in readers], arrays, mode)
    for read in readers:
        check([x], [read(total, axis=axis)], arrays, mode)
        check([x], [read(T.exp(x.max(axis=0)) * 2, axis=axis), total], arrays, mode)
        check([x], [read(T.stack([x[0], x[1], x[2]]).sum(axis=0), axis=axis)], arrays, mode)
        check([x], [read(T.nnet.softmax(x, axis=1).prod(axis=1), axis=axis)], arrays, mode)


@MODES
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reductions_read_by_loops_in_another_order(mode: str, axis: int) -> None:
    """The sum over the last axis is computed again where the loop over that axis is outside."""
    x = T.dtensor3("x")
    arrays = [np.cos(np.arange(24.0)).reshape(2, 3, 4)]
    row = x.sum(axis=2, keepdims=True) * x
    column = T.exp(x.max(axis=0, keepdims=True)) - x
    check([x], [T.nnet.softmax(row, axis=axis)], arrays, mode)
    check([x], [T.nnet.log_softmax(column, axis=axis), row.var(axis=axis)], arrays, mode)
    check([x], [(row - column).std(axis=axis), T.nnet.softmax(row * column, axis=axis)], arrays, mode)


@MODES
@pytest.mark.parametrize("sizes", [(3, 4), (1, 1), (50, 21)])
def test_whole_sums_over_axes_of_one_size(mode: str, sizes: tuple[int, int]) -> None:
    """Two stages of a sum move its loops inward, where loops of the same size already are."""
    rows, columns = sizes
    x, w = T.dmatrix("x"), T.TensorType("float64", (None, None))("w")
    square = T.dot(w.T, w)[: x.shape[1], : x.shape[1]]
    product = x.dimshuffle(0, "x", 1) * T.dot(x.T, x) + square.sum()
    arrays = [np.sin(np.arange(float(rows * columns))).reshape(rows, columns), np.eye(columns) * 2]
    check([x, w], [product.sum(), product.max(), (product * product.dimshuffle(0, 2, 1)).sum()], arrays, mode)
    check([x, w], [(product.sum(axis=1) * x).prod(axis=0).sum(), T.exp(-(product**2)).sum(axis=(1, 2))], arrays, mode)


@MODES
def test_reductions_over_axes_that_are_all_1(mode: str) -> None:
    x = T.TensorType("float64", (1, 1, 1, None))("x")
    array = np.array([[[[3.0, -1.0, 2.0]]]])
    check([x], [x.min(axis=3).sum(), T.exp(x.sum(axis=3)).prod(axis=(1, 2)) * x.sum()], [array], mode)


@MODES
def test_minus_an_unsigned_number_is_large(mode: str) -> None:
    x = T.TensorType("uint8", (None,))("x")
    check([x], [abs(-x), T.sqr(-x), (-x).max(), (-x).sum()], [np.array([0, 1, 6, 128, 255], "uint8")], mode)


@MODES
def test_slices_that_are_empty_whatever_their_bounds(mode: str) -> None:
    """Their size is 0, which mentions no bound; where they begin is computed all the same."""
    x, s = T.dmatrix("x"), shared(0.0)
    best = x.argmax()
    outputs = [T.floor(x[best:best]), T.set_subtensor(x[best:best:-2, 1:], 0.0), x[best : best + 1]]
    check([x], outputs, [np.arange(6.0).reshape(3, 2) - 5], mode)
    run = function([x], updates={s: x[:, best:best].sum() + T.exp(x[best:best]).size}, mode=mode)
    run(np.ones((2, 3)))
    assert s.get_value() == 0.0


@MODES
@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_complex_updates(mode: str, dtype: str) -> None:
    """A complex number is stored in two steps, and the second must not see the first."""
    start = np.array([1 + 2j, -3 + 0.5j], dtype)
    s, t = shared(start), shared(start)
    run = function([], [T.real(s)], updates={s: s * s, t: t * np.asarray(1j, dtype)}, mode=mode)
    run()
    np.testing.assert_allclose(s.get_value(), start * start, rtol=1e-6)
    np.testing.assert_allclose(t.get_value(), start * 1j, rtol=1e-6)


# The plan -------------------------------------------------------------------------------------------------


def test_an_elementwise_update_is_written_in_place() -> None:
    x, w = T.dvector("x"), shared(np.zeros(4))
    made = plan("step", [x], [w], [Result(w - 0.1 * x, 0)])
    assert [output.in_place for output in made.program.outputs] == [True]
    assert not [step for step in made.program.steps if isinstance(step, Copy)]
    state, argument = np.ones(4), np.arange(4.0)
    run_program(made.program, [argument], [state, *[c.data for c in made.constants]])
    np.testing.assert_allclose(state, 1 - 0.1 * argument)


@pytest.mark.parametrize("form", ["reversed", "shifted", "divided", "read again"])
def test_updates_whose_old_value_is_read_elsewhere(form: str) -> None:
    """In place or not: the old value is read before the new one is written."""
    old, w = np.arange(4.0), shared(np.arange(4.0))
    new, wanted = {
        "reversed": (w[::-1] + 1, old[::-1] + 1),
        "shifted": (T.roll(w, 1), np.roll(old, 1)),
        "divided": (w / w.sum(), old / 6),
        "read again": (w * 2, old * 2),
    }[form]
    made = plan("step", [], [w], [Result(new, 0), Result(T.dot(T.outer(w, w), T.cumsum(new)))])
    state = old.copy()
    found = run_program(made.program, [], [state, *[c.data for c in made.constants]])
    np.testing.assert_allclose(found[0], wanted)
    np.testing.assert_allclose(found[1], np.outer(old, old) @ np.cumsum(wanted))
    np.testing.assert_allclose(state, wanted if made.program.outputs[0].in_place else old)
    if form in ("reversed", "shifted"):
        assert not made.program.outputs[0].in_place


def test_a_swap_copies_nothing_twice() -> None:
    a, b = shared(np.zeros(3)), shared(np.ones(3))
    made = plan("swap", [], [a, b], [Result(b, 0), Result(a, 1)])
    assert not [step for step in made.program.steps if isinstance(step, Launch)]
    assert len([step for step in made.program.steps if isinstance(step, Copy)]) == 2
    found = run_program(made.program, [], [np.zeros(3), np.ones(3)])
    np.testing.assert_array_equal(found[0], np.ones(3))
    np.testing.assert_array_equal(found[1], np.zeros(3))


def test_fused_chains_are_one_kernel() -> None:
    x = T.dmatrix("x")
    made = plan("chain", [x], [], [Result((T.exp(x) * 2 + T.tanh(x)).sum(axis=1))])
    assert len(list(made.program.kernels())) == 1


def test_softmax_and_its_sums_are_one_kernel() -> None:
    x = T.dmatrix("x")
    p = T.exp(x - x.max(axis=1, keepdims=True))
    made = plan("rows", [x], [], [Result(p / p.sum(axis=1, keepdims=True)), Result(T.argmax(x, axis=1))])
    assert len(list(made.program.kernels())) == 1
