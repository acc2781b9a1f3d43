"""Loops over steps inside a thread: the state is in registers, rows are walked through by pointers, and read ahead.

A step has to wait for the one before, but not for memory: the elements that the next few steps read are all on their
way before the first of these steps is computed. Otherwise each step would wait for its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from symtensor_codegen.cuda.schedules.dependence import nodes_in, nodes_of
from symtensor_codegen.cuda.schedules.packs import is_heavy
from symtensor_codegen.cuda.text.loops import LoopWriter
from symtensor_codegen.cuda.text.operations import MEMORY
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import Assign, For, Leave, Statement, Store, Update, values_of
from symtensor_codegen.scalar import (
    Buffer,
    Dim,
    Scalar,
    as_int,
    checked_op,
    guarded_op,
    load_op,
    rarely_op,
    register_op,
)
from symtensor_codegen.substitution import stride, substitute

MOST_ROWS = 12  # that a thread has a pointer to
MOST_AHEAD = 16  # elements on their way to a thread
MOST_STEPS = 8  # that are written out side by side; half of them where a step is long
LONGEST = 160  # operations of a step that is written out more than once
TERMS = 16  # of a sum that are written out side by side


@dataclass(frozen=True, slots=True)
class _Row:
    """An element that moves on from step to step: the pointer to it, and the variable that holds how far it moves."""

    buffer: Buffer
    place: Scalar
    pointer: str
    step: str

    @property
    def advance(self) -> str:
        return f"{self.pointer} += {self.step};"


class StepWriter(LoopWriter):
    """Writes loops over steps."""

    def _for(self, loop: For, unroll: int = 0) -> None:
        body, together = loop.body, self.together or self.aliased
        if together or not any(isinstance(s, Assign) for s in body) or any(isinstance(s, For) for s in body):
            adds = self.stage.steps and all(isinstance(s, Update) for s in body)
            super()._for(loop, TERMS if adds else unroll)
            return
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(loop.extent))
        leaves = any(isinstance(s, Leave) for s in body)
        with self._hoisted(loop, body, f"0 < {extent}"):
            rows = [self._row_of(loop, *found) for found in list(_moving(loop))[:MOST_ROWS]]
            always = {(n.param, n.args[0]) for n in _always(body) if n.op is load_op}
            ahead = [r for r in rows if (r.buffer, r.place) in always and r.buffer not in self.written]
            ahead = [] if leaves or len(nodes_of(body)) > LONGEST else ahead[: MOST_AHEAD // 2]
            start = "0"
            if ahead:
                start = self._side_by_side(loop, rows, ahead, extent)
            self.line("#pragma unroll 1" if ahead or leaves else f"#pragma unroll {2 if is_heavy(body) else 4}")
            with self.block(f"for (i64 {index} = {start}; {index} < {extent}; ++{index})"):
                self._run_step(body, {row: f"*{row.pointer}" for row in rows}, rows)

    def _side_by_side(self, loop: For, rows: Sequence[_Row], ahead: Sequence[_Row], extent: str) -> str:
        """Several steps at a time, as long as there are so many left; where the others begin."""
        index = self.names.of(loop.index, loop.index.param.name)
        steps = max(min(MOST_STEPS // (2 if is_heavy(loop.body) else 1), _power_below(MOST_AHEAD // len(ahead))), 2)
        near, rest = self.names.fresh("near"), self.names.fresh("rest")
        names = {row: self.names.fresh(f"{row.buffer.name}_ahead") for row in ahead}
        each = f"for (int u = 0; u < {steps}; ++u)"
        self.line(f"const i64 {rest} = {extent} > 0 ? {extent} & ~{steps - 1}LL : 0;")
        self.line("#pragma unroll 1")
        with self.block(f"for (i64 {near} = 0; {near} < {rest}; {near} += {steps})"):
            for row, name in names.items():
                self.line(f"{MEMORY[row.buffer.dtype]} {name}[{steps}];")
            self.line("#pragma unroll")
            with self.block(each):
                for row, name in names.items():
                    self.line(f"{name}[u] = *{row.pointer};")
                    self.line(row.advance)
            self.line("#pragma unroll")
            with self.block(each):
                self.line(f"const i64 {index} = {near} + u;")
                elements = {row: f"{names[row]}[u]" if row in names else f"*{row.pointer}" for row in rows}
                self._run_step(loop.body, elements, [row for row in rows if row not in names])
        return rest

    def _run_step(self, body: Sequence[Statement], elements: dict[_Row, str], moving: Sequence[_Row]) -> None:
        self.elements = {(row.buffer, row.place): text for row, text in elements.items()}
        self.statements(body)
        self.elements = {}
        for row in moving:
            self.line(row.advance)

    def _row_of(self, loop: For, buffer: Buffer, place: Scalar, step: Dim) -> _Row:
        """A pointer to the element that the first step reads or stores."""
        first = bare(self.value(substitute(place, {loop.index: as_int(0)})))
        row = _Row(buffer, place, self.names.fresh(f"{buffer.name}_row"), self.held(as_int(step)))
        constant = "" if buffer in self.written else "const "
        begin = self.names.of(buffer, buffer.name) + ("" if first == "0LL" else f" + {first}")
        self.line(f"{constant}{MEMORY[buffer.dtype]}* {row.pointer} = {begin};")
        return row


def _moving(loop: For) -> dict[tuple[Buffer, Scalar, Dim], None]:
    """What a step reads or stores that moves on by the same amount from step to step, and by how much."""
    found: dict[tuple[Buffer, Scalar, Dim], None] = {}
    stores = [s for s in loop.body if isinstance(s, Store)]
    conditional = [(s.buffer, s.index[0]) for s in stores if s.where is not None or s.combine is not None]
    places = [(n.param, n.args[0]) for n in nodes_of(loop.body) if n.op is load_op]
    for buffer, place in (*places, *[(s.buffer, s.index[0]) for s in stores]):
        step = stride(place, loop.index) if loop.index in place.free and (buffer, place) not in conditional else None
        if step is not None and not any(n.op in (load_op, checked_op, register_op) for n in nodes_in(place)):
            found[buffer, place, step] = None
    return found


def _always(body: Sequence[Statement]) -> list[Scalar]:
    """The nodes that every step computes, whatever conditions are."""
    pending = [v for s in body if not (isinstance(s, Store) and s.where is not None) for v in values_of(s)]
    seen: dict[Scalar, None] = {}
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen[node] = None
        conditional = node.op is guarded_op or node.op is rarely_op
        pending += [a for position, a in enumerate(node.args) if not (conditional and position == 1)]
    return list(seen)


def _power_below(value: int) -> int:
    """The largest power of two that is not above a number."""
    return 1 << max(value.bit_length() - 1, 0)
