"""What a call does on the device, as actions on memory that is named by base and offset.

The bases of a call are addresses: of its scratch memory, its constants, and its inputs, cells and results. The same
actions run with other bases, and two that touch different memory may run side by side.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Device

SCRATCH: Final = 0  # the base of what only one call uses
CONSTANTS: Final = 1  # the base of numbers that every call of a recording has
FIRST_BASE: Final = 2  # then inputs, cells and results in this order


class Place(NamedTuple):
    """``size`` bytes, ``offset`` bytes behind base number ``base``."""

    base: int
    offset: int
    size: int


class Stage(NamedTuple):
    """One launch of a kernel's function."""

    function: Any
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


class Action(Protocol):
    """A piece of work, with the memory it reads and writes; what it writes it may also read."""

    @property
    def reads(self) -> tuple[Place, ...]:
        """Memory that is read only."""

    @property
    def writes(self) -> tuple[Place, ...]:
        """Memory that is written."""

    def bind(self, device: "Device", bases: Sequence[int]) -> list[Callable[[], object]]:
        """The calls that do the work with these bases."""

    def run(self, device: "Device", bases: Sequence[int]) -> None:
        """Do the work with these bases; it may still be going on afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelAction:
    """A kernel's stages one after another: pointers to ``places``, then the bytes of ``rest``.

    ``fails``: it may write the status; ``gated``: it does nothing where the status says that another failed.
    """

    stages: tuple[Stage, ...]
    places: tuple[Place, ...]
    rest: bytes
    reads: tuple[Place, ...]
    writes: tuple[Place, ...]
    fails: bool = False
    gated: bool = False

    def bind(self, device: "Device", bases: Sequence[int]) -> list[Callable[[], object]]:
        """The calls that do the work with these bases."""
        arguments = self.arguments(bases)
        return [partial(device.launch, s.function, s.grid, s.block, arguments) for s in self.stages]

    def run(self, device: "Device", bases: Sequence[int]) -> None:
        """Launch the stages."""
        arguments = self.arguments(bases)
        for function, grid, block in self.stages:
            device.launch(function, grid, block, arguments)

    def arguments(self, bases: Sequence[int]) -> bytes:
        """The arguments of all stages with these bases."""
        return struct.pack(f"{len(self.places)}Q", *[bases[base] + at for base, at, _ in self.places]) + self.rest


@dataclass(frozen=True, slots=True, eq=False)
class CopyAction:
    """Copy all of ``source`` to ``target``."""

    target: Place
    source: Place

    @property
    def reads(self) -> tuple[Place, ...]:
        """The source."""
        return (self.source,)

    @property
    def writes(self) -> tuple[Place, ...]:
        """The target."""
        return (self.target,)

    def bind(self, device: "Device", bases: Sequence[int]) -> list[Callable[[], object]]:
        """The call that copies."""
        target, source = (bases[place.base] + place.offset for place in (self.target, self.source))
        return [partial(device.copy, target, source, self.target.size)] if target != source else []

    def run(self, device: "Device", bases: Sequence[int]) -> None:
        """Copy."""
        for call in self.bind(device, bases):
            call()


class Operand(NamedTuple):
    """A matrix (or a batch of them): where the first element is, and strides in elements."""

    place: Place
    row_stride: int
    column_stride: int
    batch_stride: int


@dataclass(frozen=True, slots=True, eq=False)
class Multiplication:
    """A matrix product in memory: ``out = a @ b``."""

    out: Operand
    a: Operand
    b: Operand

    @property
    def reads(self) -> tuple[Place, ...]:
        """Both operands."""
        return self.a.place, self.b.place

    @property
    def writes(self) -> tuple[Place, ...]:
        """The product."""
        return (self.out.place,)


@dataclass(frozen=True, slots=True, eq=False)
class ProductAction(Multiplication):
    """A matrix product: ``multiply`` gets the addresses of the first elements of out, a and b."""

    multiply: Callable[[int, int, int], object]

    def bind(self, device: "Device", bases: Sequence[int]) -> list[Callable[[], object]]:
        """The call that multiplies."""
        addresses = [bases[place.base] + place.offset for place, *_ in (self.out, self.a, self.b)]
        prepare: Callable[..., Callable[[], object]] | None = getattr(self.multiply, "bind", None)
        return [partial(self.multiply, *addresses) if prepare is None else prepare(*addresses)]

    def run(self, device: "Device", bases: Sequence[int]) -> None:
        """Multiply."""
        (call,) = self.bind(device, bases)
        call()


@dataclass(frozen=True, slots=True, eq=False)
class FusedAction:
    """A matrix product, and with each of its results what ``kernel`` does: ``multiply`` gets its arguments too."""

    multiply: Callable[[int, int, int, bytes], object]
    out: Operand
    a: Operand
    b: Operand
    kernel: KernelAction
    reads: tuple[Place, ...]
    writes: tuple[Place, ...]
    fails = False

    @property
    def gated(self) -> bool:
        """Whether it does nothing where the status says that another failed."""
        return self.kernel.gated

    def bind(self, device: "Device", bases: Sequence[int]) -> list[Callable[[], object]]:
        """The call that does both."""
        addresses = [bases[place.base] + place.offset for place, *_ in (self.out, self.a, self.b)]
        arguments = self.kernel.arguments(bases)
        prepare: Callable[..., Callable[[], object]] | None = getattr(self.multiply, "bind", None)
        if prepare is not None:
            return [prepare(*addresses, arguments)]
        return [partial(self.multiply, addresses[0], addresses[1], addresses[2], arguments)]

    def run(self, device: "Device", bases: Sequence[int]) -> None:
        """Do both."""
        (call,) = self.bind(device, bases)
        call()


# Order ---------------------------------------------------------------------------------------------------------------

_MOST_FAILING: Final = 32  # kernels that may fail, and that a gated one waits for by itself


def dependencies(actions: Sequence[Action], bases: Sequence[int]) -> list[list[int]]:
    """For each action the earlier ones that it must wait for, by position.

    Enough of them: what they wait for in turn is left out where that is plain to see.
    """
    memory = _Memory()
    failing: list[int] = []  # since the last kernel that waited for all of them
    gated = product = -1
    found: list[list[int]] = []
    for position, action in enumerate(actions):
        before: set[int] = set()
        for place in action.reads:
            start = bases[place.base] + place.offset
            memory.read(start, start + place.size, position, before)
        for place in action.writes:
            start = bases[place.base] + place.offset
            memory.write(start, start + place.size, position, before)
        if isinstance(action, (ProductAction, FusedAction)) and getattr(action.multiply, "uses_scratch", True):
            if product >= 0:  # the same scratch memory for all: one after another
                before.add(product)
            product = position
        if isinstance(action, (KernelAction, FusedAction)):
            if action.gated:
                before.update(failing)
                if gated >= 0:
                    before.add(gated)
                if len(failing) > _MOST_FAILING:
                    failing, gated = [], position
            elif action.fails:
                failing.append(position)
        before.discard(position)
        found.append(sorted(before))
    return found


class _Memory:
    """Who wrote each piece of memory last, and who has read it since."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.writer: list[int] = []  # -1: nobody
        self.readers: list[tuple[int, ...]] = []

    def read(self, start: int, end: int, who: int, waits: set[int]) -> None:
        """``who`` reads from ``start`` to ``end``; ``waits`` gets whom it must wait for."""
        if end <= start:
            return
        first, last = self._pieces(start, end)
        for k in range(first, last):
            if self.writer[k] >= 0:
                waits.add(self.writer[k])
            self.readers[k] = (*self.readers[k], who)

    def write(self, start: int, end: int, who: int, waits: set[int]) -> None:
        """``who`` writes from ``start`` to ``end``."""
        if end <= start:
            return
        first, last = self._pieces(start, end)
        for k in range(first, last):
            if self.readers[k]:
                waits.update(self.readers[k])  # they waited for the writer
            elif self.writer[k] >= 0:
                waits.add(self.writer[k])
        here = slice(first, last)
        self.starts[here], self.ends[here], self.writer[here], self.readers[here] = [start], [end], [who], [()]

    def _pieces(self, start: int, end: int) -> tuple[int, int]:
        """The pieces that are exactly this memory, as a range of positions; cut and made where there are none."""
        first = max(bisect_right(self.starts, start) - 1, 0)
        if first < len(self.starts) and self.starts[first] < start:
            if self.ends[first] > start:
                self._cut(first, start)
            first += 1
        k = first
        while start < end:
            if k == len(self.starts) or self.starts[k] >= end:
                self._insert(k, start, end)
                return first, k + 1
            if self.starts[k] > start:
                self._insert(k, start, self.starts[k])
            elif self.ends[k] > end:
                self._cut(k, end)
            start = self.ends[k]
            k += 1
        return first, k

    def _insert(self, k: int, start: int, end: int) -> None:
        self.starts.insert(k, start)
        self.ends.insert(k, end)
        self.writer.insert(k, -1)
        self.readers.insert(k, ())

    def _cut(self, k: int, at: int) -> None:
        self._insert(k + 1, at, self.ends[k])
        self.ends[k] = at
        self.writer[k + 1], self.readers[k + 1] = self.writer[k], self.readers[k]
