"""Calls of a program on a device: sizes and guards, memory, the actions, and updates after everything that can fail.

A call whose actions depend on shapes alone is recorded when shapes are new, and replayed afterwards
(``recording``); others run step by step (``direct``).
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from threading import RLock
from time import perf_counter_ns
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.calls.actions import FIRST_BASE
from symtensor_codegen.cuda.calls.direct import Direct
from symtensor_codegen.cuda.calls.late import Fate, late_of
from symtensor_codegen.cuda.calls.recording import NotStaticError, Recorder, Recording
from symtensor_codegen.cuda.calls.reporting import ProgramFailure, memory_plan
from symtensor_codegen.cuda.calls.steps import INTACT, Prepared, Results, failure
from symtensor_codegen.cuda.compiling.kernels import readable
from symtensor_codegen.cuda.device import Block, Device
from symtensor_codegen.cuda.errors import DeviceFault, DeviceMemoryError
from symtensor_codegen.finish import storage
from symtensor_codegen.program import COUNTERS, Branch, Copy, Gemm, Launch, Loop, Program, Read, Row, walk
from symtensor_codegen.scalar import Buffer

Array = np.ndarray[Any, Any]

_MOST_RECORDINGS: Final = 16
_address, _shape = attrgetter("address"), attrgetter("shape")
_LARGEST_KEY: Final = 1 << 12  # bytes of an input whose values may decide what runs


Explain = Callable[[ProgramFailure], BaseException]
"""What makes the exception for the user of a program's failure."""


class RemoteCell(Protocol):
    """What holds the array of a shared variable, which calls read and replace."""

    array: Any


class Scratch:
    """Memory that only lives inside a call, for all programs of a device: their calls follow one another (``lock``)."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.block: Block | None = None
        self.size = 0

    def take(self, device: Device, size: int) -> int:
        """The address of ``size`` bytes; larger blocks replace smaller ones."""
        if self.block is None or self.size < size:
            self.block = None
            self.size = max(size, 1)
            try:
                self.block = device.allocate(self.size)
            finally:
                self.size = self.size if self.block is not None else 0
        return self.block.address

    def drop(self) -> bool:
        """Give it back; whether there was any."""
        had = self.block is not None
        self.block, self.size = None, 0
        return had


_scratch: WeakKeyDictionary[Any, Scratch] = WeakKeyDictionary()


def scratch_of(device: Device) -> Scratch:
    """The scratch memory of a device."""
    found = _scratch.get(device)
    if found is None:
        found = _scratch.setdefault(device, Scratch())
    return found


class Runner:
    """Calls of one program; ``counters`` (int64) makes every call measure its steps."""

    def __init__(self, prepared: Prepared, counters: Array | None = None) -> None:
        self.prepared = prepared
        self.device = prepared.device
        self.counters = counters
        self.scratch = scratch_of(prepared.device)
        program = prepared.program
        self.controls = control_inputs(program)
        self.needed = needed_inputs(program)
        self.changes = any(output.cell is not None for output in program.outputs)
        self.late = late_of(prepared.device)
        self.recordings: OrderedDict[tuple[Any, ...], Recording | None] = OrderedDict()
        self._latest: tuple[Any, ...] = ()

    def call(
        self, inputs: Sequence[Any], cells: Sequence[RemoteCell], explain: Explain | None = None
    ) -> list[DeviceArray]:
        """The returned results; updates are made where nothing failed.

        ``inputs`` are C-contiguous host arrays of the right type, or DeviceArrays on this device. With ``explain``
        nobody waits for kernels that may fail: it makes the exception of a failure for the call that meets it.

        Raises:
            ProgramFailure: a guard did not hold or a kernel failed; no shared variable has changed.
            Exception: an earlier call had failed that nobody waited for; this one did nothing.
            DeviceMemoryError: with the plan of what the program needs.
        """
        with self.scratch.lock, self.device.current():
            self.late.settle()
            arrays = [cell.array for cell in cells]
            try:
                return self._call(inputs, arrays, cells, explain)
            except DeviceMemoryError as problem:
                self.scratch.drop()
                raise self._too_large(problem, [a.shape for a in (*inputs, *arrays)]) from None
            except DeviceFault as problem:
                raise DeviceFault(readable(str(problem))) from None

    def free(self) -> None:
        """Give back what is kept for the next call."""
        with self.scratch.lock:
            self.recordings.clear()
            self._latest = ()
            self._make_room()

    def _make_room(self) -> None:
        """Give back what is kept for calls, and no call needs now."""
        self.scratch.drop()
        self.device.release()

    def _call(
        self, inputs: Sequence[Any], arrays: list[Any], cells: Sequence[RemoteCell], explain: Explain | None
    ) -> list[DeviceArray]:
        try:
            ready = self._ready(inputs, arrays)
        except DeviceMemoryError:
            ready = None  # the rest outside, since the exception keeps the blocks that there was room for
        if ready is None:
            self._make_room()
            ready = self._ready(inputs, arrays)
        recording, blocks, addresses = ready
        fates = _unknown(inputs)
        if fates and self.changes:  # a variable would keep what may mean nothing
            self.late.settle(wait=True)
            fates = _unknown(inputs)
        if recording is None:
            return self._step_by_step(inputs, arrays, cells)
        if not recording.run(addresses):
            self._at_new_addresses(recording, addresses, inputs, arrays)
        fate = Fate(fates, known=True) if fates else None
        if recording.can_fail:
            if explain is not None and recording.may_be_late:
                arrival = self.device.send_home(self.prepared.status, 4)
                fate = Fate(fates)
                self.late.add(arrival, self, partial(self._problem, recording, explain), fate)
            else:
                self.late.settle(wait=True)
                recording.check()
        made = self._finish(recording.results, blocks, cells, arrays)
        if fate is not None:
            for array in made:
                array.fate = fate
        return made

    def _ready(
        self, inputs: Sequence[Any], arrays: list[Any]
    ) -> tuple[Recording | None, list[Block], tuple[int, ...]]:
        """The recording of a call (if None, it has to be run step by step), memory for its results, and all addresses.

        Host inputs are on their way then, and nothing else has been done: where memory is short, it can be done again.
        """
        given: list[Any] = []
        key: list[Any] = []
        for array in inputs:
            if array.__class__ is DeviceArray:
                given.append(array)
                key.append(array.shape)
            else:
                key.append((array.shape,))
        for position in self.controls:
            array = inputs[position]
            if array.__class__ is not DeviceArray and array.nbytes <= _LARGEST_KEY:
                key.append(array.tobytes())
        given += arrays
        key += map(_shape, arrays)
        found = tuple(key)
        try:
            recording = self.recordings[found]
            if found != self._latest:
                self.recordings.move_to_end(found)
                self._latest = found
        except KeyError:
            recording = self._record(found, inputs, arrays)
        if recording is None:
            return None, [], ()

        scratch = self.scratch.take(self.device, recording.scratch) if recording.scratch else 0
        blocks = list(map(self.device.allocate, recording.sizes))
        addresses = (scratch, *map(_address, given), *map(_address, blocks))
        if recording.uploads:
            recording.upload(inputs, scratch)
        elif recording.intake:
            addresses = (*addresses, recording.take_in(inputs))
        return recording, blocks, addresses

    def _problem(self, recording: Recording, explain: Explain, word: bytes) -> Callable[[], BaseException] | None:
        """What makes the exception for a call that nobody waited for, if it failed."""
        status = int.from_bytes(word, sys.byteorder)
        if status == INTACT:
            return None
        self.device.fill(self.prepared.status, 4, 0x7F)

        def make() -> BaseException:
            problem = explain(failure(recording.failures, status))
            problem.add_note(
                "An earlier call failed, which returned before the device had run it; this call met that. No shared "
                "variable was changed by it, nor by calls of the same function since."
            )
            return problem

        return make

    def _finish(
        self, results: Results, blocks: list[Block], cells: Sequence[RemoteCell], arrays: list[Any]
    ) -> list[DeviceArray]:
        """Make the updates, and the arrays to return; ``arrays`` are those of the cells before."""
        device = self.device
        made = [
            DeviceArray(device, block, shape, dtype)
            for block, (shape, dtype) in zip(blocks, results.types, strict=True)
        ]
        if not results.cells:
            return made
        # The old arrays die with this list, the last one first: the next call gets their memory in the same order.
        old = [arrays[place] for place in results.cells]
        arrays.clear()
        new, changed = [made[position] for position in results.updates], [cells[place] for place in results.cells]
        deque(map(setattr, changed, repeat("array"), new), maxlen=0)  # in one step, which no interrupt divides
        del old
        return [made[position] for position in results.returned]

    # New shapes, new addresses ------------------------------------------------------------------------------------

    def _record(self, key: tuple[Any, ...], inputs: Sequence[Any], arrays: Sequence[Any]) -> Recording | None:
        """The recording for new shapes; None for calls that cannot be recorded."""
        recording = None
        if self.counters is None:
            host = {FIRST_BASE + k: a for k, a in enumerate(inputs) if a.__class__ is not DeviceArray}
            recorder = Recorder(self.prepared, [a.shape for a in (*inputs, *arrays)], self._known(host))
            try:
                recorder.run()
                recording = Recording(recorder, recorder.results(), host)
            except NotStaticError:
                pass
        if len(self.recordings) >= _MOST_RECORDINGS:
            self.recordings.popitem(last=False)
        self.recordings[key] = recording
        self._latest = key
        return recording

    def _known(self, host: dict[int, Array]) -> dict[int, Array]:
        """Those host arrays whose values are part of the key, by base."""
        known = {FIRST_BASE + k for k in self.controls}
        return {base: a for base, a in host.items() if base in known and a.nbytes <= _LARGEST_KEY}

    def _at_new_addresses(
        self, recording: Recording, addresses: tuple[int, ...], inputs: Sequence[Any], arrays: Sequence[DeviceArray]
    ) -> None:
        """Run where nothing is prepared. Inputs that share memory with what is written in place are copied first."""
        copies = self._separated([array for array in inputs if array.__class__ is DeviceArray], arrays)
        if copies:
            changed = list(addresses)
            for position, copy in copies.items():
                changed[1 + position] = copy.address
            recording.run_first(tuple(changed), again=False)
        else:
            recording.run_first(addresses)

    def _separated(self, inputs: Sequence[DeviceArray], cells: Sequence[DeviceArray]) -> dict[int, DeviceArray]:
        """Copies of the inputs that overlap a cell which is written in place."""
        first = FIRST_BASE + len(self.prepared.program.inputs)
        written = [(c.address, c.address + c.nbytes) for c in (cells[base - first] for base in self.prepared.kept)]
        return {
            position: array.copy()
            for position, array in enumerate(inputs)
            if any(array.address < end and begin < array.address + array.nbytes for begin, end in written)
        }

    # Step by step -------------------------------------------------------------------------------------------------

    def _step_by_step(
        self, inputs: Sequence[Any], arrays: list[Any], cells: Sequence[RemoteCell]
    ) -> list[DeviceArray]:
        """Run the steps one by one; again where memory is short and nothing can have changed."""
        self.late.settle(wait=True)
        try:
            return self._directly(inputs, arrays, cells)
        except DeviceMemoryError:
            if self.prepared.kept:
                raise
        self._make_room()
        return self._directly(inputs, arrays, cells)

    def _directly(self, inputs: Sequence[Any], arrays: list[Any], cells: Sequence[RemoteCell]) -> list[DeviceArray]:
        """Run the steps one by one, once."""
        host = {FIRST_BASE + k: a for k, a in enumerate(inputs) if a.__class__ is not DeviceArray}
        on_device = [array for array in inputs if array.__class__ is DeviceArray]
        copies = self._separated(on_device, arrays)
        on_device = [copies.get(position, array) for position, array in enumerate(on_device)]
        kept: list[Any] = []
        bases = [0, 0]
        left = iter(on_device)
        for position, array in enumerate(inputs):
            if array.__class__ is DeviceArray:
                bases.append(next(left).address)
                continue
            block = self.device.allocate(array.nbytes if position in self.needed else 0)
            if position in self.needed and array.nbytes:
                self.device.upload(block.address, array)
            kept.append(block)
            bases.append(block.address)
        bases += [array.address for array in arrays]
        shapes = [a.shape for a in (*inputs, *arrays)]
        if self.counters is not None:  # the last of the program's cells, which nothing on the device reads
            bases.append(0)
            shapes.append(self.counters.shape)
        begin = perf_counter_ns()
        walk = Direct(self.prepared, shapes, bases, host, self.counters)
        walk.run()
        results = walk.results()
        walk.check()
        if self.counters is not None:
            self.counters[-COUNTERS:] += (1, perf_counter_ns() - begin, 0, 0)
        return self._finish(results, [walk.blocks[r.base] for r in results.all], cells, arrays)

    def _too_large(self, problem: DeviceMemoryError, shapes: Sequence[tuple[int, ...]]) -> DeviceMemoryError:
        program = self.prepared.program
        plan = memory_plan(program, shapes).replace("\n", "\n  ")
        return DeviceMemoryError(f"{program.name}: {problem}\nThe memory of {program.name}:\n  {plan}")


def _unknown(inputs: Sequence[Any]) -> tuple[Fate, ...]:
    """Of arguments that earlier calls made the fates which nobody knows yet; raises for those known to have failed."""
    found: list[Fate] = []
    for array in inputs:
        if array.__class__ is DeviceArray and array.fate is not None:
            array.check()
            if array.fate is not None:
                found.append(array.fate)
    return tuple(found)


# What of a program decides what runs ---------------------------------------------------------------------------------


def control_inputs(program: Program) -> tuple[int, ...]:
    """The inputs whose values the host needs to know: sizes, numbers of steps, conditions."""
    wanted: set[Buffer] = set()
    rows: list[Row] = []
    for step in walk(program.steps):
        match step:
            case Read(buffer=buffer) | Branch(condition=Buffer() as buffer):
                wanted.add(storage(buffer))
            case Loop(until=until):
                wanted |= set() if until is None else {storage(until)}
                rows += step.rows
            case Row():
                rows.append(step)
            case _:
                pass
    before = -1
    while len(wanted) > before:
        before = len(wanted)
        wanted |= {storage(row.source) for row in rows if storage(row.buffer) in wanted}
    return tuple(k for k, buffer in enumerate(program.inputs) if buffer in wanted)


def needed_inputs(program: Program) -> frozenset[int]:
    """The inputs that are needed on the device: for more than the host's decisions."""
    used: set[Buffer] = set()
    for step in walk(program.steps):
        match step:
            case Launch(buffers=buffers):
                used |= set(map(storage, buffers))
            case Gemm(a=a, b=b):
                used |= {storage(a.buffer), storage(b.buffer)}
            case Copy(source=source) | Row(source=source):
                used.add(storage(source))
            case Loop(rows=rows):
                used |= {storage(row.source) for row in rows}
            case _:
                pass
    used |= {storage(output.buffer) for output in program.outputs}
    return frozenset(k for k, buffer in enumerate(program.inputs) if buffer in used)
