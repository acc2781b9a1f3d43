"""Large arguments from the host travel beside earlier work: nothing is overwritten too early, or read too early.

The hardware is pretended (see pretended_cuda): its streams run in every order that the waits between them allow.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda import errors
from symtensor_codegen.cuda.calls import reporting
from symtensor_codegen.cuda.errors import DeviceFault
from symtensor_codegen.cuda.hardware import intake, transfers
from symtensor_codegen.errors import InternalError
from tests.cuda.pretended_cuda import Error, LogicError, Machine, Stream, install
from tests.cuda.pretended_programs import STREAMS, Ahead, Interpreted, batch, centred, take, training
from tests.cuda.pretended_programs import new as new
from tests.cuda.pretended_programs import small_pieces as small_pieces
from tests.cuda.program_cases import Case

CALLS = 10


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "launches"])
@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_calls_that_nobody_waits_for(
    new: Callable[..., Interpreted], streams: tuple[str, int], graphs: bool, keep: bool
) -> None:
    device = new(*streams, graphs)
    step = Ahead(training(), device, keep)
    for number in range(CALLS):
        step(batch(5, number), batch(1, 90 + number % 3)[0])
    assert device._intake.ahead is not None or streams[0] == "ordinary first"
    assert len(device._intake.areas) <= 2
    step.check()


@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_shapes_and_functions_by_turns(new: Callable[..., Interpreted], streams: tuple[str, int]) -> None:
    """Other sizes in other functions share the areas; some arguments are on the device, some calls are waited for."""
    device = new(*streams)
    step, other = Ahead(training(), device), Ahead(centred(), device)
    for number in range(3 * CALLS):
        rows = (5, 20, 1, 3, 40, 3)[number % 6]
        step(batch(rows, number), np.arange(4.0), on_device=[number % 7] if number % 7 < 2 else [])
        if number % 5 < 2:
            other(batch(3 + rows, 100 + number))
        if number % 8 == 0:
            step.check()
        if number % 11 == 10:
            device.release()
    step.check()
    other.check()


@pytest.mark.parametrize("forgotten", ["an upload waits for the last user", "work waits for its upload"])
def test_a_forgotten_wait_shows(
    new: Callable[..., Interpreted], monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """The tests above can fail."""
    wait, other_stream = Stream.wait_for_event, forgotten.startswith("an upload")

    def forgetful(stream: Stream, event: Any) -> None:
        if bool(stream.flags) != other_stream:
            wait(stream, event)

    monkeypatch.setattr(Stream, "wait_for_event", forgetful)
    wrong = []
    for streams in STREAMS:
        step = Ahead(training(), new(*streams))
        for number in range(CALLS):
            step(batch(5, number), np.ones(4))
        try:
            step.check()
        except AssertionError:
            wrong.append(streams[0])
    assert {"late" if not other_stream else "others first", "random"} <= set(wrong)


def test_threads(new: Callable[..., Interpreted]) -> None:
    device = new("random")
    steps = [Ahead(training(), device) for _ in range(3)]

    def work(step: Ahead) -> None:
        for number in range(CALLS):
            step(batch(3 + number % 3, number), np.ones(4))

    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step in steps:
        assert len(step.kept) == CALLS
        step.check()


def test_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("random")
    install(monkeypatch, machine)
    steps = [Ahead(training(), Interpreted(machine, ordinal)) for ordinal in (0, 1)]
    for number in range(CALLS):
        for step in steps:
            step(batch(5, number), np.ones(4))
    for step in steps:
        step.check()


# Failures -------------------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """An interrupt."""


def failing_call(device: Interpreted, position: int) -> Iterator[None]:
    """One call of the driver fails; goes on for as long as there is a call with this number."""
    left = [position]

    def hook(call: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise LogicError(f"{call} failed: as a test wants it")

    device.machine.hook = hook
    yield
    device.machine.hook = lambda call: None
    if left[0] < 0:
        yield


def interrupted_line(device: Interpreted, position: int) -> Iterator[None]:
    """The same for the lines of what takes arguments in."""
    left, before, files = [position], sys.gettrace(), (intake.__file__, transfers.__file__)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == -1:
                raise Stop
        return trace

    sys.settrace(trace)
    yield
    sys.settrace(before)
    if left[0] < 0:
        yield


@pytest.mark.parametrize(
    ("way", "streams"),
    [(failing_call, ("others first", 0)), (failing_call, ("random", 1)), (interrupted_line, ("late", 0))],
)
def test_whatever_fails_once(
    new: Callable[..., Interpreted],
    way: Callable[[Interpreted, int], Iterator[None]],
    streams: tuple[str, int],
) -> None:
    """The call did all or nothing, and those behind it are right, while areas are new, grow, and are used again."""
    batches, failed = [batch(rows, number) for number, rows in enumerate((3, 5, 5))], 0
    told = set()
    for position in count():
        device = new(*streams)
        step, scale = Ahead(training(), device), np.ones(4)
        step(batch(3, 9), scale)
        more = way(device, position)
        next(more)
        for given in batches:
            before = step.values
            try:
                step(given, scale)
            except (Stop, InternalError, Error) as problem:
                told.add(str(problem).rpartition(" failed: ")[2])
                failed += 1
                step.case.inputs = [given, scale]
                after, now = step.case.expected(before)[1], step.run.values
                assert any(np.array_equal(now[0], values[0]) for values in (before, after))
                step.values = now
        fired = next(more, "all were made") is None
        step.check()
        if not fired:
            break
    assert failed == position > 40
    assert told == {"" if way is interrupted_line else "as a test wants it"}


def test_a_fault_is_told(new: Callable[..., Interpreted]) -> None:
    device = new()
    step = Ahead(training(), device, keep=False)
    for number in range(5):
        step(batch(5, number), np.ones(4))
    device.machine.faulty = True
    with pytest.raises(DeviceFault, match=r"cuda:0 failed \(cuStreamQuery failed: an illegal memory access"):
        step(batch(5, 9), np.ones(4))
    with pytest.raises(DeviceFault, match="cannot be used any more"):
        step(batch(5, 9), np.ones(4))


@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_failures_that_are_told_late(new: Callable[..., Interpreted], streams: tuple[str, int]) -> None:
    """The call that failed changed nothing, nor did those behind it, whose arguments were on their way by then."""
    x, rows, total = T.dmatrix("x"), T.lvector("rows"), T.dvector("total")
    case = Case([x, rows], [], [batch(5, 0), [0, 1]], [total], {0: total + x[rows].sum(axis=0)}, [np.zeros(4)])
    step = Ahead(case, new(*streams))
    for number in range(3):
        step(batch(5, number), np.array([1, 3]))
    before = step.values

    def fail() -> None:
        for number in range(4):
            given = [batch(5, number), np.array([0, 9 if number == 0 else 1])]
            step.run.compiled.call(given, step.run.cells, lambda problem: problem)
        step.check()

    with pytest.raises(reporting.ProgramFailure):  # of this call, one behind it, or the reading
        fail()
    np.testing.assert_array_equal(step.run.values[0], before[0])
    step(batch(5, 1), np.array([1, 3]))
    step.check()


def test_nothing_is_taken_in_while_a_graph_is_recorded(new: Callable[..., Interpreted]) -> None:
    device = new()
    with pytest.raises(InternalError, match="an upload while a graph is recorded"), device.capture():
        take(device, 100)


def test_nothing_is_destroyed_by_a_device_that_is_given_up(new: Callable[..., Interpreted]) -> None:
    """After a fault, in the child of a fork, at the end: all of PyCUDA's objects stay."""
    device = new()
    device.fill(device.allocate(4).address, 4, 0)
    for _ in range(3):
        take(device, 1000)
    made = device._intake
    assert made.ahead is not None
    pieces = [*made.ahead.large.free, *made.ahead.large.moving]
    parts = [made.ahead.stream, made.arrived, *(area.used for area in made.areas), *(piece.event for piece in pieces)]
    assert len(parts) >= 5
    before = [sys.getrefcount(part) for part in parts]
    device._abandon(errors.lost)
    assert [sys.getrefcount(part) for part in parts] == [number + 1 for number in before]
