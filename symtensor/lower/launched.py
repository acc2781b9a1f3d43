"""Loops that are launches of a device: one, or several of many steps each where only a condition ends the loop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.finish import reshaped, storage
from symtensor_codegen.program import Copy, Launch, Loop, Step
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_dim, as_int

from ..graph import Constant, Tensor, constant
from ..opdef import dim_of
from ..ops.loop_records import FINAL, HISTORY, STEPS_RUN, parts_of
from .registers import CHUNK
from .units import Unit, operands, row_source, stored_body

if TYPE_CHECKING:
    from .plan import Planner, Work


class NotPossible(Exception):
    """A loop cannot be lowered in a way that was tried: its steps are too large, or need what that way has not."""


class Launched:
    """A loop on a device, with what is around its launches.

    ``begin`` and ``end`` are where its states are before and after a launch (None: nobody wants them), ``extent`` the
    number of a launch's steps. ``stop`` is where a launch leaves whether the condition held, ``executed`` the number
    of steps that ran, if anyone asks.
    """

    def __init__(self, unit: Unit, outer: "Planner", inner: "Planner") -> None:
        self.unit, self.outer, self.inner = unit, outer, inner
        self.body, self.given = stored_body(unit), parts_of(unit.node)
        self.items = {(n.op, n.params.get("carry", n.params.get("node"))): n for n in unit.results}
        buffer = inner.units.buffer
        sequences = zip(self.body.sequences, self.given.sequences, strict=True)
        constants = zip(self.body.constants, self.given.constants, strict=True)
        self._rows = {storage(buffer(v)): s for v, s in sequences}
        self._same: dict[Buffer, Tensor] = {storage(buffer(v)): s for v, s in constants}
        self._same |= {storage(buffer(node)): node for node in inner.constants}
        self.count = outer.sizes.of(dim_of(self.given.count))
        self.chunk = scalar.symbol(("chunk", unit.node), dtypes.int64)
        # A loop that only its condition ends comes back now and then, so that the user may end it.
        self.whole = self.body.until is None or (isinstance(self.count, int) and self.count <= CHUNK)
        self.extent: Dim = self.count
        if not self.whole:
            self.extent = as_dim(scalar.minimum(as_int(self.count) - self.chunk * CHUNK, as_int(CHUNK)))
        units = outer.units
        self.begin = [units.buffer(initial) for initial in self.given.initial]
        self.end: list[Buffer | None] = []
        self.scratch: list[Buffer] = []
        self.before: list[Step] = []
        self.after: list[Step] = []
        for k, carry in enumerate(self.body.carries):
            last = self.items.get((FINAL, k))
            self.end.append(None if last is None else units.buffer(last))
            if not self.whole:
                self._alternate(k, carry)
        self.stop = None if self.whole else Buffer("stop", dtypes.bool_, ())
        counted = self.items.get((STEPS_RUN, None))
        self.executed = None if counted is None else units.buffer(counted)

    def _alternate(self, k: int, carry: Tensor) -> None:
        """Let a state have two places, which a launch reads and writes."""
        dims, last = self.inner.sizes.shape(carry), self.end[k]
        state, following = (Buffer(carry.name or f"state_{k}", carry.element, dims) for _ in range(2))
        self.scratch += [state, following]
        self.before.append(Copy(state, self.begin[k]))
        self.begin[k], self.end[k] = state, following
        if last is not None:
            self.after.append(Copy(last, state))

    # What is outside --------------------------------------------------------------------------------------------

    def same(self, buffer: Buffer) -> Buffer | None:
        """Where what the body calls ``buffer`` is, if it is the same in every step."""
        source = self._same.get(storage(buffer))
        return None if source is None else reshaped(self.outer.units.buffer(source), buffer.dims)

    def outside(self, buffer: Buffer, place: tuple[Scalar, ...], t: Scalar) -> Scalar | None:
        """An element, in step ``t`` of a launch, of what the body is given; None of what it computes, and of states."""
        sequence = self._rows.get(storage(buffer))
        if sequence is None:
            source = self.same(buffer)
            return None if source is None else scalar.load(source, place)
        tensor, start, spacing = row_source(sequence)
        rows, sizes = self.outer.units.buffer(tensor), self.outer.sizes
        row = as_int(sizes.of(start)) + as_int(sizes.of(spacing)) * self.row(t)
        return scalar.load(reshaped(rows, (rows.dims[0], *buffer.dims)), (row, *place))

    # Steps ------------------------------------------------------------------------------------------------------

    def number(self, t: Scalar) -> Scalar:
        """The number of a launch's step ``t`` among all."""
        return t if self.whole else self.chunk * CHUNK + t

    def row(self, t: Scalar) -> Scalar:
        """The row that a launch's step has."""
        return as_int(self.count) - 1 - self.number(t) if self.body.backwards else self.number(t)

    @property
    def first_row(self) -> Scalar:
        """The row of a state's history that the first step begins with."""
        return as_int(self.count if self.body.backwards else 0)

    def next_row(self, t: Scalar) -> Scalar:
        """The row of a state's history that a step makes."""
        return self.row(t) if self.body.backwards else self.row(t) + 1

    def keeps(self, k: int) -> bool:
        """Whether a state is stored."""
        return self.end[k] is not None or (HISTORY, k) in self.items

    def work(self, launches: Sequence[Launch]) -> "Work":
        """The work that these launches do."""
        from .plan import Work

        units = self.outer.units
        for node in self.inner.constants:
            self._know(node)
        step: Launch | Loop = launches[-1]
        if self.whole:
            self.before += launches[:-1]
        else:
            step = self._in_chunks(launches)
        reads = {storage(units.buffer(i)) for i in operands(self.unit.node)}
        work = Work(step, reads, [self.unit], [units.buffer(n) for n in self.unit.results], (), True)
        work.waits, work.results = tuple(self.unit.waits), tuple(self.unit.results)
        work.scratch, work.before, work.after = tuple(self.scratch), tuple(self.before), tuple(self.after)
        return work

    def _know(self, node: Constant) -> None:
        if node not in self.outer.constants:
            self.outer.constants.append(node)

    def _in_chunks(self, launches: Sequence[Launch]) -> Loop:
        """Launches of many steps each, until the condition holds."""
        assert self.stop is not None
        self.scratch.append(self.stop)
        if self.executed is not None:
            zero = constant(0, "int64")
            self._know(zero)
            self.before.append(Copy(self.executed, self.outer.units.buffer(zero)))
        chunks = as_dim((as_int(self.count) + (CHUNK - 1)) // CHUNK)
        swaps = tuple((a, b) for a, b in zip(self.begin, self.end, strict=True) if b is not None)
        return Loop(self.chunk, chunks, (), tuple(launches), swaps, self.stop, None)
