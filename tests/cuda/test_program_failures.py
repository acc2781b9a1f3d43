"""Calls that fail or are interrupted on a device change nothing; arguments may share memory with what is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda.backend import compile_program
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.program import with_counters
from symtensor_codegen.reference.programs import ProgramFailure
from symtensor_codegen.text import kernel_text
from tests.codegen import test_program_loops as loops
from tests.cuda.program_cases import (
    Case,
    Cell,
    OnDevice,
    network,
    normal,
    on_device,
    recurrent,
    rows_in_place,
)


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


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process in the background of a shell is not interrupted otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("graphs", [True, False])
def test_an_interrupt_waits_for_all_updates(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three variables is being written when it comes."""
    case = network()
    first = next(kernel_text(kernel) for kernel in case.program.kernels() if kernel.name.startswith("k10"))
    for calls in range(4):
        run = on_device(case, can_capture=graphs)
        cells = case.cells
        for _ in range(calls):
            run(*case.inputs)
            cells = case.expected(cells)[1]
        run_kernel = run.device.run

        def interrupting(kernel: Any, arguments: bytes, inner: Any = run_kernel) -> None:
            inner(kernel, arguments)
            if kernel_text(kernel) == first:  # another program may have one like it, which has another name there
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
