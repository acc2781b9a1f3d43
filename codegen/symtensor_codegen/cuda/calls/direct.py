"""Calls that depend on values in memory: each step runs as soon as it is reached, and values are waited for."""

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from symtensor_codegen.cuda.calls.actions import Action, Place
from symtensor_codegen.cuda.calls.interrupts import Uninterrupted
from symtensor_codegen.cuda.calls.steps import INTACT, Prepared, Walk, failure
from symtensor_codegen.cuda.device import Block
from symtensor_codegen.dtypes import DType
from symtensor_codegen.program import COUNTERS, Gemm, Launch, Step
from symtensor_codegen.scalar import Buffer

Array = np.ndarray[Any, Any]


class Direct(Walk):
    """Runs a program step by step.

    ``bases`` are the addresses of the arguments; ``host`` has the arrays of those inputs that were given as host
    arrays, by base. With ``counters`` each timed step is waited for, and its time in nanoseconds added there.
    """

    def __init__(
        self,
        prepared: Prepared,
        shapes: Sequence[tuple[int, ...]],
        bases: Sequence[int],
        host: dict[int, Array],
        counters: Array | None = None,
    ) -> None:
        super().__init__(prepared, shapes)
        self.device = prepared.device
        self.bases = [*bases, *[0] * len(prepared.program.outputs)]
        self.host = host
        self.blocks: dict[int, Block] = {}
        self.committed, self.uninterrupted = False, Uninterrupted()
        self.counters = None if counters is None else counters.reshape(-1, COUNTERS)
        self.rows = {step: row for row, step in enumerate(prepared.program.timed_steps)}

    def run(self) -> None:
        """All steps."""
        try:
            super().run()
        finally:
            if self.committed:
                self.uninterrupted.__exit__()

    def do(self, action: Action, step: Step) -> None:
        """Run an action; once a shared variable is written in place, interrupts wait for the end of the call."""
        if not self.committed and any(place.base in self.prepared.kept for place in action.writes):
            self.committed = True
            self.uninterrupted.__enter__()
        if self.counters is None or not isinstance(step, (Launch, Gemm)):
            action.run(self.device, self.bases)
            return
        self.device.synchronize()
        begin = perf_counter_ns()
        action.run(self.device, self.bases)
        self.device.synchronize()
        elapsed = perf_counter_ns() - begin
        cost, traffic = self.work_of(step)
        self.counters[self.rows[step]] += (1, elapsed, cost, traffic)

    def work_of(self, step: Launch | Gemm) -> tuple[int, int]:
        """The iterations of a timed step, and the bytes of its arrays."""
        if isinstance(step, Launch):
            return self.sizes(step.cost), self.sizes(step.traffic)
        m, n, k, batch = self.sizes.shape((step.m, step.n, step.k, step.batch))
        return m * n * k * batch, (m * k + k * n + m * n) * batch * step.out.buffer.dtype.itemsize

    def allocate(self, size: int) -> Place:
        """A block of its own."""
        block = self.device.allocate(size)
        self.blocks[len(self.bases)] = block
        self.bases.append(block.address)
        return Place(len(self.bases) - 1, 0, size)

    def output(self, position: int, buffer: Buffer) -> Place:
        """A block of its own, at the base that results have."""
        base, size = self.prepared.first_output + position, self.bytes_of(buffer)
        block = self.blocks[base] = self.device.allocate(size)
        self.bases[base] = block.address
        return Place(base, 0, size)

    def value(self, place: Place, dtype: DType) -> Any:
        """What is there when all earlier work is done; nothing may have failed then."""
        known = self.host.get(place.base)
        if known is not None:
            return element(known, place, dtype)
        word = np.empty(1, dtype.numpy)
        self.device.download(word, self.bases[place.base] + place.offset)
        self.check()
        return word[0]

    def put(self, number: int, place: Place) -> None:
        """Write an int64."""
        self.device.upload(self.bases[place.base] + place.offset, np.array([number], np.int64))

    def check(self) -> None:
        """Wait, and see whether something has failed."""
        if self.first:
            status = read_status(self.prepared)
            if status != INTACT:
                raise failure(self.failures, status)

    def mark(self) -> int:
        """The number of bases now."""
        return len(self.bases)

    def release(self, mark: int) -> None:
        """Drop the blocks of the bases from there on."""
        for base in range(mark, len(self.bases)):
            del self.blocks[base]
        del self.bases[mark:]


def element(array: Array, place: Place, dtype: DType) -> Any:
    """An element of a host array that stands for the memory of a base."""
    return array.reshape(-1).view(np.uint8)[place.offset : place.offset + dtype.itemsize].view(dtype.numpy)[0]


def read_status(prepared: Prepared) -> int:
    """The status word, when all earlier work is done; afterwards it says again that nothing has failed."""
    prepared.device.download(prepared.word, prepared.status)
    found: int = prepared.word.item()
    if found != INTACT:
        prepared.device.fill(prepared.status, 4, 0x7F)
    return found
