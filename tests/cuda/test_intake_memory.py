"""The memory for large arguments from the host: two areas in turn, for those who need them, and given back.

The hardware is pretended (see pretended_cuda).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from tests.cuda.pretended_programs import Ahead, Interpreted, batch, centred, take, training
from tests.cuda.pretended_programs import new as new
from tests.cuda.pretended_programs import small_pieces as small_pieces
from tests.cuda.program_cases import Case


class Stop(BaseException):
    """An interrupt."""


def addresses(device: CudaDevice) -> list[int]:
    return [area.block.address for area in device._intake.areas if area.block is not None]


def test_small_arguments_go_the_ordinary_way(new: Callable[..., Interpreted]) -> None:
    device = new()
    step = Ahead(training(), device, keep=False)
    for number in range(4):
        step(batch(1, number), np.ones(4))  # 64 bytes
    assert device._intake.areas == []
    assert len(device.machine.streams) == 2  # its own, and one on which graphs are recorded
    step.check()


def test_only_who_runs_ahead_gets_a_second_area(new: Callable[..., Interpreted]) -> None:
    device = new()
    step = Ahead(training(), device)
    for number in range(4):
        device.synchronize()
        step(batch(5, number), np.ones(4))
    assert len(addresses(device)) == 1
    assert device._intake.ahead is None
    for number in range(4):
        step(batch(5, number), np.ones(4))
    assert len(set(addresses(device))) == 2
    assert device._intake.ahead.stream.flags == 1  # which does not wait for the legacy default stream
    step.check()


def test_areas_are_used_in_turn(new: Callable[..., Interpreted]) -> None:
    device = new()
    device.fill(device.allocate(4).address, 4, 0)
    found = [take(device, 1000) for _ in range(6)]
    assert found[0] != found[1]
    assert found == found[:2] * 3
    device.synchronize()
    assert [take(device, 1000), take(device, 10)] == [found[-1], found[0]]  # the first has work of its own by then


def test_areas_grow_to_the_largest_arguments(new: Callable[..., Interpreted]) -> None:
    device = new()
    device.fill(device.allocate(4).address, 4, 0)
    for nbytes in (1000, 5000, 2000, 5000, 40_000, 1000, 300, 40_000, 300):
        take(device, nbytes)
    assert [area.block.size for area in device._intake.areas] == [40_960, 40_960]
    assert device._pool.reserved - device._pool.cached == 2 * 40_960


def test_memory_that_other_work_has_just_left(new: Callable[..., Interpreted]) -> None:
    """The pool gives what was dropped to an area at once, and what an area had to others."""
    device = new("others first")
    array, out = DeviceArray.upload(device, np.full(100, 1, np.uint8)), device.allocate(100)
    device.synchronize()
    device.copy(out.address, array.address, 100)
    address = array.address
    del array
    assert take(device, 100) == address
    assert device.bytes_at(out.address, 100).tobytes() != bytes([1]) * 100  # has not been done so far
    device.synchronize()
    assert device.bytes_at(out.address, 100).tobytes() == bytes([1]) * 100


def test_areas_are_dropped_with_nothing_on_its_way(new: Callable[..., Interpreted]) -> None:
    """Also where an upload was broken off."""
    device = new("late")
    device.fill(device.allocate(4).address, 4, 0)
    calls = count()

    def hook(call: str) -> None:
        if call == "cuMemcpyAsync" and next(calls) == 2:
            raise Stop

    device.machine.hook = hook
    with pytest.raises(Stop):
        take(device, 1000)
    (address,) = addresses(device)
    with device.current():
        device._intake.drop()
    array = DeviceArray.upload(device, np.full(1000, 1, np.uint8))
    assert array.address == address
    with device.current():
        device._settle()
    assert (array.numpy() == 1).all()


def test_graphs_are_made_for_both_areas(new: Callable[..., Interpreted]) -> None:
    device = new()
    step = Ahead(training(), device, keep=False)
    for number in range(12):
        step(batch(5, number), np.ones(4))
    made = next(iter(step.run.compiled.runner.recordings.values()))
    assert 2 <= len(made._plays) <= 4
    assert {key[-1] for key in made._plays} == set(addresses(device))
    step.check()


def test_graphs_for_some_results_that_are_kept(new: Callable[..., Interpreted]) -> None:
    """Five places of results and two areas are ten sets of addresses, all of which have their graphs in the end."""
    device = new()
    step = Ahead(training(), device)
    kept: list[Any] = []
    for number in range(40):
        step(batch(3, number), np.ones(4))
        kept = [*kept[-3:], step.kept.pop()]
        if number == 25:
            made = next(iter(step.run.compiled.runner.recordings.values()))
            plays = list(made._plays)
    assert len(plays) == 10
    assert plays == list(made._plays)
    step.kept = kept
    step.check()


def test_all_is_given_back(new: Callable[..., Interpreted]) -> None:
    device = new()
    step = Ahead(training(), device, keep=False)
    before = device.machine.used
    for number in range(4):
        step(batch(50, number), np.ones(4))
    step.check()
    step.kept.clear()
    assert device.machine.used > before
    step.run.compiled.free()
    gc.collect()
    device.release()
    assert device._intake.areas == []
    assert device._pool.reserved - device._pool.cached == device.machine.used
    assert device._intake.ahead.large.made == device._transfers.large.made == 0
    for number in range(4):
        step(batch(50, number), np.ones(4))
    step.check()


def test_without_memory_for_a_second_area(new: Callable[..., Interpreted]) -> None:
    """The one is used again, as if there were one stream, and nobody asks for another at each call."""
    device = new("others first")
    step = Ahead(training(), device, keep=False)
    step(batch(100, 0), np.ones(4))
    device.machine.memory = device.machine.used + 2000
    for number in range(6):
        step(batch(100, number), np.ones(4))
        if number == 1:
            device.machine.log.clear()
    assert len(addresses(device)) == 1
    assert not {"free", "reserve", "refuse", "settle"} & {entry[0] for entry in device.machine.log}
    step.check()
    device.machine.memory = 1 << 30
    device.release()
    for number in range(3):
        step(batch(100, number), np.ones(4))
    assert len(addresses(device)) == 2
    step.check()


def test_areas_that_cannot_grow(new: Callable[..., Interpreted]) -> None:
    device = new()
    machine = device.machine
    device.fill(device.allocate(4).address, 4, 0)
    small, large = take(device, 10_000), take(device, 30_000)
    machine.memory = machine.used + 10_000
    assert take(device, 25_000) == large  # the small one's turn
    assert addresses(device) == [large]
    assert take(device, 30_000) == large
    with pytest.raises(DeviceMemoryError):
        take(device, 90_000)
    assert addresses(device) == []
    machine.memory = 1 << 20
    assert take(device, 90_000) not in (small, large)


def test_areas_make_room_for_other_functions(new: Callable[..., Interpreted]) -> None:
    """Also for one that writes in place, since it has not begun."""
    v, total = T.dvector("v"), T.dvector("total")
    wide = Case([v], [T.outer(v, v)], [np.ones(40)], [total], {0: total + v.sum()}, [np.zeros(4)])
    device = new()
    other, step, table = Ahead(centred(), device, keep=False), Ahead(training(), device), Ahead(wide, device)
    for number in range(3):
        other(batch(250, number))
    other.check()
    other.kept.clear()
    device.machine.memory = device.machine.used + 2000
    assert table.run.compiled.runner.prepared.kept
    table(np.arange(40.0))
    table.check()
    table.kept.clear()
    step(batch(300, 1), np.ones(4))
    step(batch(300, 2), np.ones(4))
    step.check()
    with pytest.raises(DeviceMemoryError, match=r"up to two areas of 1\.8 MiB for inputs that come from the host"):
        step(batch(60_000, 1), np.ones(4))
    step(batch(300, 2), np.ones(4))
    step.check()


def test_a_second_try_has_the_memory_of_the_first(new: Callable[..., Interpreted]) -> None:
    """Scratch memory of others makes room, and what the first try had for results is used for them again."""
    device = new()
    call = Ahead(centred(), device)
    call.run.compiled.runner.scratch.take(device, 14_000)
    device.machine.memory = device.machine.used + 8192 + 1000
    call(batch(250, 1))  # 8,000 bytes, and as many of a result
    call.check()
