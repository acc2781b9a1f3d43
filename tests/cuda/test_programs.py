"""How programs are carried out on a device: the same as in the reference interpreter, whatever is recorded or replayed.

The device is one of NumPy arrays whose kernels are run by the interpreter, so that only the execution is under test.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import pipeline, scan
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse
from symtensor.lower.plan import Plan, Result, plan
from symtensor.scan_module import until
from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.cuda import reporting
from symtensor_codegen.cuda.actions import Place, dependencies
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.backend import CompiledProgram, compile_program
from symtensor_codegen.cuda.errors import DeviceFault, DeviceMemoryError
from symtensor_codegen.cuda.kernels import variants
from symtensor_codegen.cuda.sizes import Sizes
from symtensor_codegen.errors import InternalError, UserError
from symtensor_codegen.program import AllocateOutput, Loop, Program, Reserve, with_counters
from symtensor_codegen.reference.programs import ProgramFailure, run_program
from tests.codegen import compiled_programs
from tests.codegen import test_program_loops as loops
from tests.cuda.numpy_device import NumpyDevice

Array = np.ndarray[Any, Any]


class Cell:
    """A shared variable on a device."""

    def __init__(self, device: NumpyDevice, value: Array) -> None:
        self.array = DeviceArray.upload(device, value)


class OnDevice:
    """A program on a device of its own, with cells of these values."""

    def __init__(self, made: Program, cells: Sequence[Any] = (), **options: Any) -> None:
        self.made, self.device = made, NumpyDevice(**options)
        self.cells = [Cell(self.device, np.asarray(value)) for value in cells]
        self.compiled: CompiledProgram = compile_program(
            made, self.device, emitter=self.device.emitter(), products=self.device.products
        )

    def __call__(self, *inputs: Any) -> list[Array]:
        given = [self.conforming(a, b.dtype.numpy) for a, b in zip(inputs, self.made.inputs, strict=True)]
        try:
            return [result.numpy() for result in self.compiled.call(given, self.cells)]
        except reporting.ProgramFailure as failure:
            raise ProgramFailure(failure.message, failure.values_seen) from None

    @staticmethod
    def conforming(array: Any, dtype: Any) -> Any:
        return array if isinstance(array, DeviceArray) else np.asarray(array, dtype, order="C")

    def uploaded(self, *inputs: Any) -> list[DeviceArray]:
        return [
            DeviceArray.upload(self.device, np.asarray(a, b.dtype.numpy))
            for a, b in zip(inputs, self.made.inputs, strict=True)
        ]

    @property
    def values(self) -> list[Array]:
        """The values of the cells now."""
        return [cell.array.numpy() for cell in self.cells]


def both(made: Program, *inputs: Any) -> list[Array]:
    """The results, from the interpreter; on the device they are the same in every call of several."""
    expected = run_program(made, [np.array(a, b.dtype.numpy) for a, b in zip(inputs, made.inputs, strict=True)], [])
    for graphs in (True, False):
        run = OnDevice(made, can_capture=graphs)
        for arguments in (*[inputs] * 4, *[run.uploaded(*inputs)] * 3):
            for one, other in zip(run(*arguments), expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12)
    return expected


# The programs of the suite for host programs --------------------------------------------------------------------------

SUITE: list[Callable[[], None]] = [
    *[lambda n=n: loops.test_two_places_of_a_state(n) for n in (-3, 0, 1, 2, 5)],  # type: ignore[misc]
    *[lambda n=n: loops.test_three_places(n) for n in range(5)],  # type: ignore[misc]
    lambda: loops.test_rows(False),
    lambda: loops.test_rows(True),
    *[lambda a=a: loops.test_until(*a) for a in ((0.5, 1), (10.0, 4), (1e9, 7))],  # type: ignore[misc]
    loops.test_the_step_number_is_known_in_kernels_and_guards,
    loops.test_nested_loops_exchange_memory_of_the_loop_around,
    loops.test_matrix_powers,
    lambda: loops.test_memory_of_steps_is_given_back(10),
    loops.test_sizes_read_in_a_step,
    loops.test_a_kernel_fails_in_a_step,
    loops.test_branches,
    loops.test_a_branch_that_is_not_taken_does_nothing,
    loops.test_a_branch_inside_a_loop_inside_a_branch,
]


@pytest.mark.parametrize("test", SUITE)
def test_suite_of_host_programs(test: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "both", both)
    monkeypatch.setattr(loops, "native", OnDevice)
    test()


# Programs of graphs ---------------------------------------------------------------------------------------------------


class Case:
    """A graph over inputs and shared variables with values; ``updates`` are next values of the latter, by position."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        values: Sequence[Any],
        cells: Sequence[Tensor] = (),
        updates: dict[int, Tensor] | None = None,
        held: Sequence[Any] = (),
        passes: bool = True,
    ) -> None:
        updates = updates or {}
        nodes = [*outputs, *updates.values()]
        if passes:
            nodes = list(pipeline.rewritten(nodes, pipeline.GRAPH_PASSES)[-1].outputs)
        results = [Result(n) for n in nodes[: len(outputs)]]
        results += [Result(n, k) for n, k in zip(nodes[len(outputs) :], updates, strict=True)]
        self.plan: Plan = plan("case", inputs, cells, results)
        self.program = self.plan.program
        self.inputs = [np.asarray(v, b.dtype.numpy) for v, b in zip(values, self.program.inputs, strict=True)]
        self.cells = [np.asarray(v, b.dtype.numpy) for v, b in zip(held, self.program.cells, strict=False)]
        self.cells += [c.data for c in self.plan.constants]

    def expected(self, cells: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The results of a call, and the cells after it."""
        after = [np.array(c) for c in cells]
        found = run_program(self.program, [np.array(v) for v in self.inputs], after)
        returned = []
        for output, array in zip(self.program.outputs, found, strict=True):
            if output.cell is None:
                returned.append(array)
            elif not output.in_place:
                after[output.cell] = array
        return returned, after

    def check(self, calls: int = 6) -> OnDevice:
        """Several calls, of host and of device arrays, whose updates add up."""
        for graphs in (True, False):
            for on_device in (False, True):
                run = OnDevice(self.program, self.cells, can_capture=graphs)
                arguments = run.uploaded(*self.inputs) if on_device else self.inputs
                cells = self.cells
                for _ in range(calls):
                    wanted, cells = self.expected(cells)
                    found = run(*arguments)
                    for one, other in zip((*found, *run.values), (*wanted, *cells), strict=True):
                        assert one.dtype == other.dtype
                        assert one.shape == other.shape
                        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        return run


RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape)


def network() -> Case:
    """A step of training: products, gradients, updates in place."""
    x, y = T.dmatrix("x"), T.lvector("y")
    w, b, v = T.dmatrix("w"), T.dvector("b"), T.dmatrix("v")
    hidden = T.tanh(T.dot(x, w) + b)
    cost = -T.log(T.nnet.softmax(T.dot(hidden, v)))[T.arange(y.shape[0]), y].mean()
    parameters = [w, b, v]
    changes = symtensor.grad(cost, parameters)
    updates = {k: p - 0.1 * g for k, (p, g) in enumerate(zip(parameters, changes, strict=True))}
    held = [normal(4, 5), normal(5), normal(5, 3)]
    return Case([x, y], [cost], [normal(6, 4), [0, 1, 2, 0, 1, 2]], parameters, updates, held)


def exchange() -> Case:
    """Two variables of the same size get new memory in every call."""
    a, b = T.dvector("a"), T.dvector("b")
    return Case([], [a.sum()], [], [a, b], {0: b * 2 + a[::-1], 1: a - b[::-1]}, [normal(4), normal(4)])


def counting() -> Case:
    """Sizes that the call computes."""
    x = T.dmatrix("x")
    picked = x[x > 0]
    return Case([x], [picked, picked.shape[0] * 2, T.exp(picked).sum()], [normal(4, 5)])


def recurrent() -> Case:
    x, w, h = T.dmatrix("x"), T.dmatrix("w"), T.dvector("h")
    states, _ = scan(lambda row, s, w: T.tanh(T.dot(s, w) + row), x, h, w)
    cost = (states[-1] ** 2).sum()
    return Case([x, w, h], [states, *symtensor.grad(cost, [x, w, h])], [normal(7, 3), normal(3, 3), normal(3)])


def steps_of_an_input() -> Case:
    n, x = T.lscalar("n"), T.dvector("x")
    states, _ = scan(lambda s: T.concatenate([s[1:], s[:1] * 0.5]) + 1, outputs_info=x, n_steps=n)
    return Case([n, x], [states[-1]], [5, normal(3)])


def ending() -> Case:
    """A loop that ends when its state says so."""
    x, w = T.dvector("x"), T.dmatrix("w")

    def step(s: Tensor, w: Tensor) -> Any:
        new = T.dot(s, w) * 1.5
        return new, until((new**2).sum() > 50)

    states, _ = scan(step, outputs_info=x, non_sequences=w, n_steps=40)
    return Case([x, w], [states[-1], states.shape[0]], [np.ones(3), np.eye(3)[[1, 2, 0]]])


def lazily() -> Case:
    x, y, c = T.dvector("x"), T.dmatrix("y"), T.lscalar("c")
    chosen = ifelse(c > 2, T.exp(x).sum() + T.dot(y, x), T.dot(y, y.T)[0] * x[0])
    return Case([x, y, c], [chosen, chosen.sum()], [normal(3), normal(3, 3), 3])


def branch_on_a_sum() -> Case:
    x, y = T.dvector("x"), T.dmatrix("y")
    chosen = ifelse(x.sum() > 0, T.dot(y, x), x * 2)
    return Case([x, y], [chosen], [[1.0, -3.0, 1.0], normal(3, 3)])


def rows_in_place() -> Case:
    """A table of which some rows are changed, where it is."""
    table, rows, by = T.dmatrix("table"), T.lvector("rows"), T.dmatrix("by")
    changed = T.inc_subtensor(table[rows], by)
    return Case([rows, by], [by.sum()], [[0, 3, 0], normal(3, 2)], [table], {0: changed}, [normal(5, 2)])


CASES = [
    network, exchange, counting, recurrent, steps_of_an_input, ending, lazily, branch_on_a_sum, rows_in_place,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_graphs(case: Callable[[], Case]) -> None:
    case().check()


# What is recorded and replayed ----------------------------------------------------------------------------------------


def on_device(case: Case, **options: Any) -> OnDevice:
    """A case on a device of its own."""
    return OnDevice(case.program, case.cells, **options)


def test_a_call_is_launched_then_captured_then_replayed() -> None:
    case = network()
    run = on_device(case)
    launched = []
    for _ in range(4):
        before = run.device.launches
        run(*case.inputs)
        launched.append(run.device.launches - before)
    assert run.device.captures == 1
    assert launched[0] > 0
    assert launched[1] == launched[0]
    assert launched[2:] == [0, 0]


def test_memory_that_variables_exchange_comes_round() -> None:
    """Two variables get new memory in each call: two sets of addresses, and a graph for each."""
    case = exchange()
    run = on_device(case)
    for _ in range(8):
        run()
    captures = run.device.captures
    for _ in range(8):
        run()
    assert run.device.captures == captures == 2


def test_results_that_are_kept_have_memory_of_their_own() -> None:
    x = T.dvector("x")
    case = Case([x], [x * 2], [np.ones(3)])
    run = on_device(case)
    kept = [run.compiled.call([np.full(3, float(k))], run.cells)[0] for k in range(6)]
    for k, array in enumerate(kept):
        np.testing.assert_array_equal(array.numpy(), np.full(3, 2.0 * k))
    assert len({array.address for array in kept}) == 6


def test_recordings_are_for_shapes_and_for_values_that_decide() -> None:
    case = steps_of_an_input()
    run = on_device(case)
    recordings = run.compiled.runner.recordings
    x = normal(3)
    for count in (5, 2, 5, 3):
        wanted = run_program(case.program, [np.array(count), x], case.cells)
        np.testing.assert_allclose(run(count, x)[0], wanted[0])
    assert len(recordings) == 3
    run(5, x + 1)
    assert len(recordings) == 3
    run(5, normal(4))
    assert len(recordings) == 4
    for count in range(1, 30):
        run(count, x)
    assert len(recordings) == 16
    assert run.device.downloads > 0  # of results
    before = run.device.downloads
    run.compiled.call([np.array(5), x], run.cells)
    assert run.device.downloads == before, "nothing is waited for"
    run.compiled.call(run.uploaded(5, x), run.cells)
    assert run.device.downloads == before + 1, "the number of steps is read from the device"


def test_small_inputs_are_one_transfer() -> None:
    a, b, c, unused = T.dvector("a"), T.fscalar("b"), T.bmatrix("c"), T.lscalar("unused")
    large = T.dvector("large")
    case = Case([a, b, c, large, unused], [a * b + c.sum(), large + 1],
                [normal(3), 2.0, np.ones((2, 3)), normal(20_000), 7])  # fmt: skip
    run = on_device(case)
    for _ in range(3):
        before = run.device.uploads
        np.testing.assert_allclose(run(*case.inputs)[0], case.expected(case.cells)[0][0])
        assert run.device.uploads == before + 2


def test_long_calls_are_graphs_in_pieces_or_run_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symtensor_codegen.cuda.recording.PIECE", 7)
    recurrent().check(calls=3)
    monkeypatch.setattr("symtensor_codegen.cuda.recording.MOST_ACTIONS", 10)
    run = recurrent().check(calls=3)
    assert list(run.compiled.runner.recordings.values()) == [None]


def test_no_synchronisation_where_nothing_can_fail() -> None:
    case = exchange()
    run = on_device(case)
    for _ in range(4):
        run.compiled.call([], run.cells)
    assert run.device.downloads == 0


# Failures -------------------------------------------------------------------------------------------------------------


def failing(in_place: bool) -> Case:
    """An update, of which no part may happen where an index is wrong."""
    table, total, rows = T.dmatrix("table"), T.dvector("total"), T.lvector("rows")
    picked = table[rows].sum(axis=0)
    new = total + 1 if in_place else total[::-1] * 2
    return Case(
        [rows], [picked], [[0, 2]], [table, total], {1: new}, [normal(4, 3), normal(3)]
    )  # fmt: skip


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_call_that_fails_changes_nothing(in_place: bool, graphs: bool) -> None:
    case = failing(in_place)
    assert [o.in_place for o in case.program.outputs] == [False, in_place]
    run = on_device(case, can_capture=graphs)
    cells = case.cells
    for wrong in (False, True, True, False, True, True, True, False):
        rows = np.array([1, 4 if wrong else 3])
        for given in ([rows], run.uploaded(rows)):
            before = run.values
            if wrong:
                with pytest.raises(ProgramFailure) as failure:
                    run(*given)
                assert failure.value.message in case.program.messages
                for one, other in zip(run.values, before, strict=True):
                    np.testing.assert_array_equal(one, other)
                continue
            case.inputs = [rows]
            wanted, cells = case.expected(cells)
            np.testing.assert_allclose(run(*given)[0], wanted[0])
            for one, other in zip(run.values, cells, strict=True):
                np.testing.assert_allclose(one, other)


def test_guards_come_before_everything_else() -> None:
    case = network()
    run = on_device(case)
    launches, before = run.device.launches, run.values
    with pytest.raises(ProgramFailure) as failure:
        run(normal(6, 5), case.inputs[1])
    assert failure.value.values_seen == (5, 4)
    assert run.device.launches == launches
    for one, other in zip(run.values, before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("step", [0, 1, 4])
def test_the_first_failure_is_told(step: int) -> None:
    """A loop in which several steps, and something behind it, fail."""
    made = loops.checked(2.0**step)
    run = OnDevice(made)
    for _ in range(3):
        with pytest.raises(ProgramFailure, match="too large"):
            run(9)
    recording = next(iter(run.compiled.runner.recordings.values()))
    assert recording is not None
    assert len(recording.failures) == 9
    table, rows = T.dmatrix("table"), T.lvector("rows")
    case = Case([table, rows], [table[rows], table[rows + 10].sum(axis=0)], [normal(4, 2), [9]])
    with pytest.raises(ProgramFailure) as failure:
        on_device(case)(*case.inputs)
    assert failure.value.message is case.program.messages[-2]


def test_too_little_memory_is_told_with_the_plan() -> None:
    x = T.dvector("x")
    case = Case([x], [T.dot(T.exp(x).dimshuffle(0, "x"), T.sin(x).dimshuffle("x", 0)).sum(axis=0)], [normal(3)])
    run = on_device(case, memory=1 << 16)
    run(np.ones(4))
    with pytest.raises(DeviceMemoryError) as failure:
        run(np.ones(200))
    text = str(failure.value)
    assert text.startswith("case: cuda:7 is out of memory")
    assert "The memory of case:\n  input x: float64[200], 1,600 bytes" in text
    assert "result" in text
    run(np.ones(4))
    assert "x.shape[0]" in run.compiled.memory()


def test_scratch_memory_of_others_is_given_up() -> None:
    """The scratch memory that an earlier call left makes room for a result."""
    x = T.dvector("x")
    big = Case([x], [T.dot(T.exp(x), T.sin(x)) + T.exp(x)[::-1]], [normal(4000)])
    run = on_device(big, memory=150_000)
    run(np.ones(4000))
    kept = run.compiled.runner.scratch.size
    assert kept > 0
    block = run.device.allocate(run.device.left - 40_000)
    run(np.ones(10))
    with pytest.raises(DeviceMemoryError):
        run(np.ones(12_000))
    assert run.compiled.runner.scratch.block is None
    del block


def test_memory_for_the_next_call_is_given_back() -> None:
    case = network()
    run = on_device(case)
    before = run.device.left
    for _ in range(3):
        run(*case.inputs)
    assert run.device.left < before
    run.compiled.free()
    assert run.device.left == before
    run(*case.inputs)


def test_sizes_beyond_int64_are_refused() -> None:
    made = loops.allocating(1 << 61)
    with pytest.raises(DeviceMemoryError, match="scratch"):
        OnDevice(made)(1)


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [True, False])
def test_an_input_that_is_the_variable_itself(graphs: bool) -> None:
    """Inputs keep their values until the call has read them, whatever is written in place."""
    s, x, y = T.dvector("s"), T.dvector("x"), T.dvector("y")
    case = Case([x, y], [T.dot(x, y)], [np.ones(3), np.ones(3)], [s], {0: s + x}, [np.arange(3.0)])
    run = on_device(case, can_capture=graphs)
    value = np.arange(3.0)
    for _ in range(4):
        array = run.cells[0].array
        np.testing.assert_allclose(run(array, array)[0], value @ value)
        value = value * 2
        np.testing.assert_allclose(run.values[0], value)


def test_threads_take_turns() -> None:
    s, x = T.dvector("s"), T.dvector("x")
    case = Case([x], [(s * x).sum()], [np.ones(3)], [s], {0: s[::-1] + x}, [np.zeros(3)])
    run = on_device(case)
    threads = [threading.Thread(target=lambda: [run(np.ones(3)) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(run.values[0], np.full(3, 80.0))


def test_counters() -> None:
    made, _, _ = loops.doubling()
    run = OnDevice(with_counters(made))
    run(5, np.zeros(3))
    run(2, np.zeros(3))
    assert run.compiled.counters is not None
    rows = run.compiled.counters.reshape(-1, 4)
    assert rows[:, 0].tolist() == [7, 2]
    assert rows[0, 2] == 21
    assert 0 < rows[0, 1] < rows[1, 1]


@pytest.mark.parametrize("graphs", [True, False])
def test_an_interrupt_waits_for_all_updates(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three variables is being written when it comes."""
    case = network()
    for calls in range(4):
        run = on_device(case, can_capture=graphs)
        cells = case.cells
        for _ in range(calls):
            run(*case.inputs)
            cells = case.expected(cells)[1]
        run_kernel = run.device.run

        def interrupting(kernel: Any, arguments: bytes, inner: Any = run_kernel) -> None:
            inner(kernel, arguments)
            if kernel.name.startswith("k10"):
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(run.device, "run", interrupting)
        if graphs and calls > 0:
            continue  # a graph is launched as a whole
        with pytest.raises(KeyboardInterrupt):
            run(*case.inputs)
        for one, other in zip(run.values, case.expected(cells)[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize("case", [recurrent, rows_in_place])
def test_with_emitted_kernels(case: Callable[[], Case], host: Any) -> None:
    """The kernels that a GPU gets, run on the CPU: rows need not begin where vectors may."""
    made = case()
    compiled = compile_program(made.program, host)
    cells, values = [Cell(host, value) for value in made.cells], made.cells
    for _ in range(3):
        wanted, values = made.expected(values)
        found = [result.numpy() for result in compiled.call(made.inputs, cells)]
        for one, other in zip((*found, *[c.array.numpy() for c in cells]), (*wanted, *values), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# Code -----------------------------------------------------------------------------------------------------------------


def test_equal_kernels_are_compiled_once() -> None:
    device = NumpyDevice()
    first = compile_program(loops.doubling()[0], device, emitter=device.emitter(), products=device.products)
    again = compile_program(loops.doubling()[0], device, emitter=device.emitter(), products=device.products)
    assert (first.hits, first.compiled) == (0, 1)
    assert (again.hits, again.compiled) == (1, 0)
    assert first.kernels[0] is again.kernels[0]
    assert device.compiled == 1


def test_a_kernel_that_gets_a_variable_twice_is_another_one() -> None:
    case = network()
    aliased = [variant for variant in variants(case.program) if variant.aliased]
    assert len(aliased) == 3
    assert aliased[0].key("sm_90") != aliased[0]._replace(aliased=False).key("sm_90")


def test_sources() -> None:
    run = OnDevice(loops.branching())
    assert "kernel more" in run.compiled.source("loops")
    assert run.compiled.source("program").startswith("program test:")
    assert run.compiled.source("cuda").split() == ["more", "times"]
    with pytest.raises(UserError, match="'ptx' or 'sass', not 'llvm'"):
        run.compiled.source("llvm")


def test_kernels_are_called_by_their_names_in_errors() -> None:
    case = exchange()
    run = on_device(case)

    def broken(*arguments: Any) -> None:
        raise DeviceFault(f"cuda:7 failed in kernel {run.compiled.kernels[0].code.symbol}_0")

    run.device.launch = broken  # type: ignore[method-assign]
    with pytest.raises(DeviceFault, match="cuda:7 failed in kernel k0_"):
        run()


def test_only_the_whole_call_may_reserve_memory() -> None:
    for step in (Reserve(64), AllocateOutput(loops.temporary("b"), 0)):
        made = compiled_programs.program((loops.HOW_OFTEN,), [Loop(loops.T, 2, (), (step,))], ())
        with pytest.raises(InternalError, match="in a loop or branch"):
            OnDevice(made)


# Order ----------------------------------------------------------------------------------------------------------------


class Touching:
    """An action that reads and writes pieces of memory."""

    def __init__(self, reads: list[Place], writes: list[Place]) -> None:
        self.reads, self.writes = tuple(reads), tuple(writes)

    def overlaps(self, other: Touching) -> bool:
        return any(
            a.size and b.size and a.offset < b.offset + b.size and b.offset < a.offset + a.size
            for mine, others in ((self.writes, (*other.reads, *other.writes)), (self.reads, other.writes))
            for a in mine
            for b in others
        )


@pytest.mark.parametrize("seed", range(20))
def test_what_touches_the_same_memory_stays_in_order(seed: int) -> None:
    """And nothing waits for what it has nothing to do with."""
    choice = np.random.default_rng(seed)

    def places() -> list[Place]:
        return [
            Place(0, int(choice.integers(60)), int(choice.integers(0, 12))) for _ in range(choice.integers(3))
        ]  # fmt: skip

    actions = [Touching(places(), places()) for _ in range(60)]
    before: list[set[int]] = []
    for position, waits in enumerate(dependencies(actions, [0])):  # type: ignore[arg-type]
        assert all(actions[k].overlaps(actions[position]) for k in waits)
        before.append(set(waits).union(*[before[k] for k in waits]))
        needed = {k for k in range(position) if actions[k].overlaps(actions[position])}
        assert needed <= before[position]


# Sizes ----------------------------------------------------------------------------------------------------------------

A, B = scalar.symbol("a"), scalar.symbol("b")
TWO = [
    scalar.add, scalar.sub, scalar.mul, scalar.floordiv, scalar.mod, scalar.minimum, scalar.maximum, scalar.bit_and,
    scalar.bit_or, scalar.bit_xor, scalar.eq, scalar.ne, scalar.lt, scalar.le, scalar.gt, scalar.ge, scalar.gcd,
    scalar.shr,
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 7, -7, 63, (1 << 62) + 5, (1 << 63) - 1, -(1 << 63)]


@pytest.mark.parametrize("operation", TWO, ids=str)
def test_arithmetic_of_sizes(operation: scalar.ScalarOp) -> None:
    """As in the interpreter, which folds constants with NumPy."""
    made = operation(A, B)
    for a in NUMBERS:
        for b in [abs(n) % 64 for n in NUMBERS] if operation is scalar.shr else NUMBERS:
            if operation is scalar.gcd and -(1 << 63) in (a, b):
                continue
            known = {A: scalar.as_int(a), B: scalar.as_int(b)}
            sizes = Sizes("test", frozenset())
            sizes.set(A, a)
            sizes.set(B, b)
            wanted = substitution.substitute(made, known)
            assert wanted.op is scalar.const_op
            assert sizes(made) == wanted.param, (operation, a, b)


def test_other_operations_of_sizes() -> None:
    double = scalar.cast(A, dtypes.float64)
    for made, wanted in (
        (-A, -7), (scalar.abs_(-A), 7), (scalar.sign(A), 1), (~A, -8), (scalar.select(A > 3, B, A), 3),
        (scalar.cast(A > 9, dtypes.int64), 0), (~(A > 9) & (B > 2) ^ (A > 1), False),
        (scalar.cast(scalar.ceil(double / 2.0), dtypes.int64), 4), (scalar.bitcast(double, dtypes.int64), 0x401C << 48),
        (scalar.cast(A * 40, dtypes.int8), 24), (double > 6.5, True),
    ):  # fmt: skip
        sizes = Sizes("test", frozenset())
        sizes.set(A, 7)
        sizes.set(B, 3)
        assert sizes(made) == wanted, made
    with pytest.raises(InternalError, match="not known here"):
        Sizes("test", frozenset())(A + 1)


def test_sizes_of_a_symbol_that_changes() -> None:
    """Only what depends on it is computed again; deep expressions are no problem."""
    deep: scalar.Scalar = A
    for _ in range(5000):
        deep = deep * B % 1009 + 1
    sizes = Sizes("test", frozenset((A,)))
    sizes.set(B, 3)
    found = []
    for a in (1, 2, 1):
        assert sizes.set(A, a) in (None, 1, 2)
        found.append((sizes(deep), sizes(A + 1), sizes(B * 2)))
    assert found[0] == found[2] != found[1]
    assert [f[1:] for f in found] == [(2, 6), (3, 6), (2, 6)]
    assert sizes.set(A, None) == 1
    with pytest.raises(InternalError):
        sizes(A + 1)
