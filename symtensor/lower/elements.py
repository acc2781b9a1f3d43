"""Loops on a device whose steps are elementwise: a thread for each element, with all the steps inside.

Where the next state of an element depends on the same element of the states before it, threads need not wait for each
other: each keeps its elements of the states in registers from the first step to the last, and the loop is one launch
for any size of the states. Sequences, and what is the same in every step, may be read at any place. Results of other
shapes (a count beside a vector) are a launch of their own, which computes again what it needs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import finish, storage
from symtensor_codegen.loops import Assign, Declare, For, Leave, LoopKind, Statement, Store, scalars
from symtensor_codegen.program import Launch
from symtensor_codegen.scalar import (
    Buffer,
    Dim,
    Register,
    Scalar,
    as_int,
    checked_op,
    const_op,
    load_op,
    reduce_op,
)
from symtensor_codegen.substitution import rebuild

from ..graph import Tensor, ancestors
from ..ops.loop_records import HISTORY, TRACE, body_of
from .launched import Launched, NotPossible
from .units import Unit

if TYPE_CHECKING:
    from .plan import Planner, Work

LARGEST = 1024  # scalar operations in a step
MOST_ELEMENTS = 24  # of the states that a thread keeps
MOST_UNITS = 100  # intermediate values of a step, which may need each other one by one

Place = tuple[Scalar, ...]
Shape = tuple[Dim, ...]


def lower_by_elements(unit: Unit, outer: "Planner", inner: "Planner") -> "Work | None":
    """The work of a loop with a thread for each element; None where steps are not elementwise.

    ``inner`` knows the body.
    """
    needed = [scalar.symbol(("value", node)) for node in inner.units.values]
    if len(inner.units.list) > MOST_UNITS or any(value not in inner.sizes.outside for value in needed):
        return None
    loop = Launched(unit, outer, inner)
    launches: list[Launch] = []
    try:
        for shape, (kept, traced) in _groups(loop).items():
            statements = _Kernel(loop, shape).statements(kept, traced)
            done = finish(loop.body.name or "loop", statements, (), loop.body.name, outer.sizes.known)
            launches.append(outer.launch(done))
    except NotPossible:
        return None
    return loop.work(launches) if launches else None


def may_be_elementwise(loop: Tensor) -> bool:
    """Whether there is nothing in the steps of a loop that needs several elements (a quick look)."""
    order = ancestors(body_of(loop).outputs)
    return all(not n.inputs or (n.op.pull is not None and n.op.library is None) for n in order)


def _groups(loop: Launched) -> dict[Shape, tuple[list[int], list[Tensor]]]:
    """The states and traces that are stored, by their shapes: the sizes that are not one."""
    groups: dict[Shape, tuple[list[int], list[Tensor]]] = {}

    def group(node: Tensor) -> tuple[list[int], list[Tensor]]:
        return groups.setdefault(tuple(size for size in loop.inner.sizes.shape(node) if size != 1), ([], []))

    for k, carry in enumerate(loop.body.carries):
        if loop.keeps(k):
            group(carry)[0].append(k)
    for node in loop.body.traced:
        group(node)[1].append(node)
    if loop.stop is not None or loop.executed is not None:
        groups.setdefault((), ([], []))
    return groups


class _Kernel:
    """The kernel that computes what is stored of one shape."""

    def __init__(self, loop: Launched, shape: Shape) -> None:
        self.loop, self.units = loop, loop.inner.units
        body = loop.body
        self.indices = tuple(scalar.index("ijklmnpq"[axis % 8], size) for axis, size in enumerate(shape))
        self.t = scalar.index("t", loop.extent)
        self.number, self.row = loop.number(self.t), loop.row(self.t)
        self.states = {self.units.buffer(carry): k for k, carry in enumerate(body.carries)}
        self.registers: dict[tuple[int, Place], Register] = {}
        self.parts: dict[tuple[Buffer, Place], Scalar] = {}
        self.memo: dict[Scalar, Scalar] = {scalar.symbol(("value", body.index), dtypes.int64): self.number}

    def statements(self, kept: Sequence[int], traced: Sequence[Tensor]) -> tuple[Statement, ...]:
        """Loops over the elements, with the loop over steps inside."""
        body, loop, units = self.loop.body, self.loop, self.loop.outer.units
        first: list[Statement] = []
        each: list[Statement] = []
        last: list[Statement] = []
        for node in traced:
            place = self._place(node)
            each.append(Store(units.buffer(loop.items[TRACE, node]), (self.row, *place), self._value(node, place)))
        for k in kept:
            place = self._place(body.carries[k])
            now = self._state(k, place)
            history, end = loop.items.get((HISTORY, k)), loop.end[k]
            if history is not None:
                rows = units.buffer(history)
                first.append(Store(rows, (loop.first_row, *place), now))
                each.append(Store(rows, (loop.next_row(self.t), *place), self._value(body.nexts[k], place)))
            if end is not None:
                last.append(Store(end, place, now))
        targets, values = self._next(body.until)
        declares: list[Statement] = []
        ending: list[Statement] = []
        stop, run = Register("stop", dtypes.bool_), Register("steps", dtypes.int64)
        steps = as_int(loop.count)
        if body.until is not None:
            declares += [Declare(stop, scalar.const(False, dtypes.bool_)), Declare(run, as_int(0))]
            ending = [Leave(self._read(stop))]
            steps = self._read(run)
            targets += [stop, run]
            values += [self._value(body.until, ()), self.number + 1]
        if not self.indices and loop.stop is not None:
            last.append(Store(loop.stop, (), self._read(stop)))
        if not self.indices and loop.executed is not None:
            last.append(Store(loop.executed, (), steps))
        declares += [
            Declare(register, scalar.load(loop.begin[k], place)) for (k, place), register in self.registers.items()
        ]
        if targets:
            each.append(Assign(tuple(targets), tuple(values)))
        made: tuple[Statement, ...] = (*declares, *first, For(self.t, loop.extent, (*each, *ending)), *last)
        if len(scalars(made)) > LARGEST:
            raise NotPossible
        around = self.indices or (scalar.index("i", 1),)
        for position in reversed(around):
            kind = LoopKind.PARALLEL if position is around[0] else LoopKind.SERIAL
            made = (For(position, position.param.extent, made, kind),)
        return made

    # The elements of a thread -----------------------------------------------------------------------------------

    def _place(self, node: Tensor) -> Place:
        """The element of a value of this shape that a thread has."""
        indices = iter(self.indices)
        return tuple(as_int(0) if size == 1 else next(indices) for size in self.loop.inner.sizes.shape(node))

    def _read(self, register: Register) -> Scalar:
        return scalar.read(register, frozenset((self.t,)))

    def _state(self, k: int, place: Place) -> Scalar:
        """An element of a state, which is kept in a register from now on."""
        if any(position.op is not const_op and position not in self.indices for position in place):
            raise NotPossible
        found = self.registers.get((k, place))
        if found is None:
            if len(self.registers) == MOST_ELEMENTS:
                raise NotPossible
            carry = self.loop.body.carries[k]
            found = self.registers[k, place] = Register(carry.name or f"state_{k}", carry.element)
        return self._read(found)

    def _next(self, until: Tensor | None) -> tuple[list[Register], list[Scalar]]:
        """The registers that a thread needs, and their next values, which may need others in turn."""
        if until is not None:
            self._value(until, ())
        targets: list[Register] = []
        values: list[Scalar] = []
        while len(values) < len(self.registers):
            (k, place), register = list(self.registers.items())[len(values)]
            targets.append(register)
            values.append(self._value(self.loop.body.nexts[k], place))
        return targets, values

    # Values in a step -------------------------------------------------------------------------------------------

    def _value(self, node: Tensor, place: Place) -> Scalar:
        """An element of an output of the body, as it would be in memory."""
        value = self._inlined(scalar.load(self.units.buffer(node), place))
        if node.element is dtypes.float16:  # registers have more digits
            value = scalar.bitcast(scalar.bitcast(value, dtypes.uint16), dtypes.float16)
        return value

    def _inlined(self, value: Scalar) -> Scalar:
        """``value`` over registers and what is in memory outside of the loop."""
        memo = self.memo
        for node in topological([value], lambda n: () if n in memo else n.args):
            if node in memo:
                continue
            if node.op is reduce_op or node.op is checked_op:
                raise NotPossible
            args = tuple(memo[a] for a in node.args)
            if node.op is load_op:
                memo[node] = self._element(node.param, args)
            else:
                memo[node] = node if args == node.args else rebuild(node, args)
        return memo[value]

    def _element(self, buffer: Buffer, place: Place) -> Scalar:
        """An element of a value in the body."""
        base, outside = storage(buffer), self.loop.outside(buffer, place, self.t)
        if outside is not None:
            return outside
        if buffer is not base and buffer.dims != base.dims:
            raise NotPossible
        if base in self.states:
            return self._state(self.states[base], place)
        found = self.parts.get((base, place))
        if found is None:
            part = self.units.by_buffer.get(base)
            value = None if part is None else self.units.element(part, place)
            if value is None:
                raise NotPossible
            found = self.parts[base, place] = self._inlined(value)
        return found
