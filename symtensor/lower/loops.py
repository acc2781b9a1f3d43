"""Loops: the body planned like a program of its own, with its states and rows in memory of the program around it.

Inside the loop nothing is allocated: states alternate between two places or are updated in one, and what is stored
in every step is computed where it belongs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.finish import storage
from symtensor_codegen.program import Branch, Copy, Guard, Loop, Read, Row, Step
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_dim, as_int

from ..graph import Tensor, ancestors
from ..opdef import dim_of
from ..ops.loop_body import Body, Parts
from ..ops.loop_records import FINAL, HISTORY, STEPS_RUN, TRACE, parts_of
from .elements import lower_by_elements, may_be_elementwise
from .registers import holds, is_worth_it, lower_to_registers, may_fit
from .sizes import Sizes, scalar_symbols
from .together import lower_together
from .units import Unit, operands, row_source, stored_body

if TYPE_CHECKING:
    from .plan import Planner, Work


def lower_loop(unit: Unit, outer: "Planner") -> "Work":
    """The work of a loop: with its state in registers where that is small; on a device, with a thread for each element.

    Where it is small only if sizes are as hinted, both ways are there, and the sizes decide when it runs.
    """
    lowering = _Lowering(unit, outer)
    known = lowering.by_elements() if outer.device else None
    if known is None:
        known = lower_to_registers(unit, outer, {})
    if known is None and outer.device:
        known = lowering.together({})
    if known is not None:
        return known
    work = lowering.work()
    fast = lower_to_registers(unit, outer, outer.hints) if outer.hints else None
    if fast is None and outer.hints and outer.device:
        fast = lowering.together(outer.hints)
    if fast is None:
        outer.special |= may_fit(unit.node)
        return work
    outer.fast = True
    condition = holds(unit.node, outer.sizes, outer.hints)
    then = (*fast.before, fast.step, *fast.after)
    otherwise = (*work.before, work.step, *work.after)
    work.step, work.before, work.after = Branch(condition, then, otherwise), (), ()
    work.reads |= fast.reads
    work.scratch = (*work.scratch, *fast.scratch)
    return work


def sizes_inside(body: Body, given: Parts, sizes: Sizes) -> dict[Scalar, Scalar]:
    """The sizes of a body's variables in terms of those outside."""
    known: dict[Scalar, Scalar] = {}
    for inner, outside, skip in (
        *((v, s, 1) for v, s in zip(body.sequences, given.sequences, strict=True)),
        *((v, c, 0) for v, c in zip(body.carries, given.initial, strict=True)),
        *((v, c, 0) for v, c in zip(body.constants, given.constants, strict=True)),
    ):
        for axis, size in enumerate(inner.dims):
            if isinstance(size, Scalar):
                known[size] = as_int(sizes.of(outside.dims[axis + skip]))
    for inner, outside in zip(body.constants, given.constants, strict=True):
        if inner.ndim == 0 and inner.element.kind in "iub":
            known[scalar.symbol(("value", inner), dtypes.int64)] = as_int(sizes.of(dim_of(outside)))
    return known


def share_guards(body: Body, count: Dim, inner: "Planner", outer: "Planner") -> None:
    """Move the guards of a body that can be checked before it out of it; they hold if there is a step."""
    idle = None if isinstance(count, int) and count > 0 else scalar.lt(as_int(count), 1)
    own = {*ancestors(body.outputs), *body.variables}
    kept: list[Guard] = []
    for guard in inner.sizes.guards:
        tokens = [symbol.param[1] for symbol in scalar_symbols(guard.condition)]
        guard = replace(guard, values=tuple(_told(v, own, inner) for v in guard.values))
        if any(t in own for t in tokens):
            kept.append(guard)
        else:
            needed = guard.condition if idle is None else idle | guard.condition
            outer.sizes.guards.append(replace(guard, condition=needed))
    inner.sizes.guards[:] = kept


def _told(value: Dim, own: set[Tensor], inner: "Planner") -> Dim:
    """A size in a body's guard, as far as it can be told before the body."""
    before = inner.sizes.before(value)
    return inner.sizes.of(value) if any(s.param[1] in own for s in scalar_symbols(before)) else before


def constant_rows(body: Body, given: Parts, inner: "Planner", outer: "Planner") -> list[Row]:
    """Where the body finds what is the same in every step."""
    leaf, units = inner.units.leaves, outer.units
    rows = [Row(leaf[n], units.buffer(s), 0) for n, s in zip(body.constants, given.constants, strict=True)]
    for constant in inner.constants:
        if constant not in outer.constants:
            outer.constants.append(constant)
        rows.append(Row(leaf[constant], units.buffer(constant), 0))
    return rows


class _Lowering:
    def __init__(self, unit: Unit, outer: "Planner") -> None:
        self.unit, self.outer = unit, outer
        self.body: Body = stored_body(unit)
        self.given: Parts = parts_of(unit.node)
        self.count = outer.sizes.of(dim_of(self.given.count))
        self.index = scalar.symbol(("value", self.body.index), dtypes.int64)
        self.items = {(n.op, n.params.get("carry", n.params.get("node"))): n for n in unit.results}
        self.run_count: Buffer | None = None
        self.scratch: list[Buffer] = []
        self.rows: list[Row] = []
        self.swaps: list[tuple[Buffer, ...]] = []
        self.before: list[Step] = []
        self.after: list[Step] = []
        self.own = {*ancestors(self.body.outputs), *self.body.variables}
        self.late: dict[Buffer, Row] = {}  # memory of what has a size that the step itself computes

    def by_elements(self) -> "Work | None":
        """The work of a loop whose steps are elementwise, with a thread for each element."""
        if not may_be_elementwise(self.unit.node):
            return None
        inner = self._planner()
        guards = list(self.outer.sizes.guards)
        share_guards(self.body, self.count, inner, self.outer)
        work = None if inner.sizes.guards else lower_by_elements(self.unit, self.outer, inner)
        if work is None:
            self.outer.sizes.guards[:] = guards
        else:
            self.outer.units.inner.append(inner.units)
        return work

    def together(self, hints: Mapping[Scalar, int]) -> "Work | None":
        """The work of a small loop that one block runs; with ``hints``, beside what runs it in general."""
        if not is_worth_it(self.unit.node, hints, self.outer.sizes, device=True):
            return None
        inner = self._planner()
        guards = list(self.outer.sizes.guards)
        inner.prepare()
        share_guards(self.body, self.count, inner, self.outer)
        work = None if inner.sizes.guards else lower_together(self.unit, self.outer, inner, hints)
        if work is None or hints:
            self.outer.sizes.guards[:] = guards
        else:
            self.outer.units.inner.append(inner.units)
        return work

    def _planner(self) -> "Planner":
        """The planner of the body."""
        from .plan import Planner, Result

        body, outer = self.body, self.outer
        results = [Result(node, k) for k, node in enumerate(body.nexts)]
        results += [Result(node) for node in body.traced]
        results += [Result(body.until)] if body.until is not None else []
        return Planner(
            body.name or "step", (*body.sequences, *body.constants), body.carries, results,
            sizes_inside(body, self.given, outer.sizes), body.index,
            frozenset(k for k in range(len(body.carries)) if (HISTORY, k) in self.items), device=outer.device,
        )  # fmt: skip

    def work(self) -> "Work":
        """The loop step, with what it reads, writes and needs."""
        from .plan import Work

        body, outer = self.body, self.outer
        inner = self._planner()
        owners, outputs, first, last = inner.prepare()
        outer.units.inner.append(inner.units)
        share_guards(body, self.count, inner, outer)
        leaf = inner.units.leaves
        for node, source in zip(body.sequences, self.given.sequences, strict=True):
            base, start, step = row_source(source)
            place = as_dim(as_int(self.outer.sizes.of(start)) + as_int(self.outer.sizes.of(step)) * self._position())
            self.rows.append(Row(leaf[node], outer.units.buffer(base), place))
        self.rows += constant_rows(body, self.given, inner, outer)
        for k in range(len(body.carries)):
            self._carry(k, leaf[body.carries[k]], outputs[k].buffer, outputs[k].in_place)
        shown = outputs[len(body.nexts) :]
        for node, output in zip(body.traced, shown, strict=False):
            target = outer.units.buffer(self.items[TRACE, node])
            self._bind(storage(output.buffer), target, self._position())
        until = storage(shown[-1].buffer) if body.until is not None else None
        if until is not None:
            self.scratch.append(until)
        steps = self._inside(inner, owners, first, last)
        outer.messages.extend(inner.messages)
        loop = Loop(
            self.index, self.count, tuple(self.rows), tuple(steps), tuple(self.swaps), until, self._executed()
        )
        reads = {storage(outer.units.buffer(i)) for i in operands(self.unit.node)}
        written = [outer.units.buffer(n) for n in self.unit.results]
        work = Work(loop, reads, [self.unit], written, (), True, tuple(self.unit.waits))
        work.results = tuple(self.unit.results)
        work.scratch, work.before, work.after = tuple(self.scratch), tuple(self.before), tuple(self.after)
        return work

    def _is_late(self, buffer: Buffer) -> bool:
        """Whether a size of a buffer is computed in the step."""
        return any(s.param[1] in self.own for d in buffer.dims for s in scalar_symbols(d))

    def _bind(self, buffer: Buffer, source: Buffer, position: Dim) -> None:
        """Give a result of the step its memory, as soon as its sizes are known."""
        row = Row(buffer, source, position)
        if self._is_late(buffer):
            self.late[buffer] = row
        else:
            self.rows.append(row)

    def _position(self) -> Dim:
        """The row that the current step has."""
        if self.body.backwards:
            return as_dim(as_int(self.count) - 1 - self.index)
        return self.index

    def _carry(self, k: int, state: Buffer, after: Buffer, in_place: bool) -> None:
        units = self.outer.units
        initial = units.buffer(self.given.initial[k])
        last = self.items.get((FINAL, k))
        history = self.items.get((HISTORY, k))
        if history is not None:
            self._history(state, storage(after), units.buffer(history), initial)
            if last is not None:
                self._final_of_history(units.buffer(history), units.buffer(last))
            return
        if in_place and last is not None:  # the loop runs in the memory of the result
            place = Row(state, units.buffer(last), 0)
            self.before += [place, Copy(state, initial)]
            return
        self.scratch.append(state)
        self.before.append(Copy(state, initial))
        if not in_place:
            base = other = storage(after)
            if self._is_late(base):
                other = Buffer(f"{state.name}_next", state.dtype, state.dims)
                self._bind(base, other, 0)
            self.scratch.append(other)
            self.swaps.append((state, other))
        if last is not None:
            self.after.append(Copy(units.buffer(last), state))

    def _executed(self) -> Buffer | None:
        """Where the number of steps run is kept, if anyone asks."""
        item = self.items.get((STEPS_RUN, None))
        if item is not None:
            return self.outer.units.buffer(item)
        if self.body.until is None or not any(op is FINAL and (HISTORY, k) in self.items for op, k in self.items):
            return None
        if self.run_count is None:
            self.run_count = Buffer("steps_run", dtypes.int64, ())
            self.scratch.append(self.run_count)
        return self.run_count

    def _history(self, state: Buffer, after: Buffer, rows: Buffer, initial: Buffer) -> None:
        """A state whose values before and after every step are rows of one array."""
        start: Dim = self.count if self.body.backwards else 0
        begin = Buffer(f"{state.name}_first", state.dtype, state.dims)
        self.before += [Row(begin, rows, start), Copy(begin, initial)]
        position = as_int(self._position())
        early, late = (position + 1, position) if self.body.backwards else (position, position + 1)
        self.rows.append(Row(state, rows, as_dim(early)))
        self._bind(after, rows, as_dim(late))

    def _final_of_history(self, rows: Buffer, last: Buffer) -> None:
        end: Dim = 0 if self.body.backwards else self.count
        if self.body.until is not None:
            executed = self._executed()
            assert executed is not None
            run = scalar.symbol(("run", self.unit.node), dtypes.int64)
            self.after.append(Read(run, executed))
            end = as_dim(as_int(self.count) - run) if self.body.backwards else run
        view = Buffer(f"{last.name}_last", last.dtype, last.dims)
        self.after += [Row(view, rows, end), Copy(last, view)]

    def _inside(
        self, inner: "Planner", owners: Mapping[Buffer, int], first: list[Copy], last: list[Copy]
    ) -> list[Step]:
        """The steps of the body; memory that every step needs is taken once, outside."""
        temporaries = inner.temporaries(owners)
        fixed = [b for b in temporaries if not self._is_late(b)]
        slots, slot_of = inner.slots(fixed, temporaries)
        memory = [Buffer(f"memory_{k}", dtypes.uint8, (size,)) for k, size in enumerate(slots)]
        self.scratch += memory
        self.rows += [Row(buffer, memory[slot], 0) for buffer, slot in slot_of.items()]
        bound = {*owners, *fixed} - self.late.keys()
        rest = [b for b in temporaries if b not in bound]
        return inner.steps_inside(bound, first, last, rest, self.late)
