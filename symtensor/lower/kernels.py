"""Units grouped into kernels, and each group built as one loop nest.

Units join a group when they run over the same outermost loop and read each other's elements at that loop's index
only. Inside a group the expressions of units replace the loads of their results; statements are then placed into a
tree of loops that is merged where no result is needed before its loop has ended. So a softmax, its gradient and the
sums over its rows become one loop over rows with a few inner loops.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from symtensor_codegen import scalar, substitution
from symtensor_codegen.errors import InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import storage
from symtensor_codegen.loops import ArgUpdate, Declare, For, LoopKind, Statement, Store, Update
from symtensor_codegen.scalar import (
    ARG_COMBINES,
    COMBINES,
    Buffer,
    Register,
    Scalar,
    load_op,
    reduce_op,
)

from ..graph import Tensor
from .units import Unit, Units

LARGEST_KERNEL = 320  # scalar operations in one kernel
WINDOW = 6  # how many of the latest groups are tried


@dataclass(eq=False, slots=True)
class Group:
    """Units that become one kernel."""

    units: list[Unit]
    head: Scalar | None  # the outermost loop; None for scalars
    size: int
    column: bool | None  # whether memory runs along the head (column sums) or an inner loop; None: either
    opaque: bool = False
    buffers: set[Buffer] = field(default_factory=set)


def group(units: Units) -> list[Group]:
    """Put units into groups, in an order in which every group only needs results of earlier ones."""
    groups: list[Group] = []
    home: dict[Unit, int] = {}
    for unit in units.list:
        joined = _join(unit, groups, home, units)
        if joined is None:
            head = None if unit.value is None else next(iter(unit.path), None)
            groups.append(
                Group([unit], head, _size(unit), _is_column(unit), opaque=unit.value is None, buffers=_buffers(unit))
            )
            joined = len(groups) - 1
        home[unit] = joined
    for unit in units.list:
        for read in unit.reads:
            if home[read] != home[unit]:
                read.stored = True
    return groups


def _join(unit: Unit, groups: list[Group], home: dict[Unit, int], units: Units) -> int | None:
    """The group that ``unit`` joins, if any."""
    if unit.value is None:
        return None
    earliest = max([home[r] for r in unit.reads] + [home[w] + 1 for w in unit.waits], default=0)
    path = unit.path
    head = path[0] if path else None
    size, column, own = _size(unit), _is_column(unit), _buffers(unit)
    latest = len(groups) - 1
    for position in range(latest, max(earliest, latest - WINDOW) - 1, -1):
        candidate = groups[position]
        if candidate.opaque or candidate.head is not head or candidate.size + size > LARGEST_KERNEL:
            continue
        if column is not None and candidate.column is not None and column != candidate.column:
            continue
        if head is not None:
            related = any(home[r] == position for r in unit.reads) or bool(own & candidate.buffers)
            if not related or not _aligned(unit, head, home, position):
                continue
        candidate.units.append(unit)
        candidate.size += size
        candidate.column = candidate.column if candidate.column is not None else column
        candidate.buffers |= own
        return position
    return None


def _aligned(unit: Unit, head: Scalar, home: dict[Unit, int], position: int) -> bool:
    """Whether ``unit`` reads the units of the group only at the group's own outermost index."""
    assert unit.value is not None
    inside = {r.buffer: r for r in unit.reads if home[r] == position}
    if not inside:
        return True
    for node in unit.nodes:
        if node.op is load_op:
            source = inside.get(storage(node.param))
            if source is not None:
                if node.param is not source.buffer or head not in source.indices:
                    return False
                if node.args[source.indices.index(head)] is not head:
                    return False
    return True


def _size(unit: Unit) -> int:
    return len(unit.nodes)


def _buffers(unit: Unit) -> set[Buffer]:
    found = {storage(n.param) for n in unit.nodes if n.op is load_op and n.args}
    found.add(unit.buffer)
    return found


def _is_column(unit: Unit) -> bool | None:
    """True for reductions whose loads run through memory along the head, False where an inner loop does."""
    path = unit.path
    if unit.value is None or not path:
        return None
    nodes = unit.nodes
    reductions = [n.param.index for n in nodes if n.op is reduce_op]
    if not reductions:
        return False if len(path) > 1 else None
    last = [n.args[-1] for n in nodes if n.op is load_op and n.args]
    along_head = sum(1 for i in last if i is path[0])
    along_inner = sum(1 for i in last if i in reductions or i in path[1:])
    return along_head > along_inner


# Building -------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Loop:
    index: Scalar
    children: list["_Loop | Statement"] = field(default_factory=list)
    provides: set[object] = field(default_factory=set)  # registers and buffers whose final value is made inside


@dataclass(eq=False, slots=True)
class _Need:
    """Something an item reads: a register or buffer, and the loops at whose current iteration it is complete."""

    thing: object
    within: tuple[Scalar, ...]


@dataclass(eq=False, slots=True)
class _Final:
    """A store that nothing else in the group waits for."""

    unit: Unit
    path: tuple[Scalar, ...]
    value: Scalar


class Builder:
    """Builds the loop nest of one group."""

    def __init__(self, group: Group, units: Units, targets: Mapping[Tensor, Buffer]) -> None:
        self.group = group
        self.targets = targets  # the shared variables that tensors of the group are the next values of
        self.loops = units.loops
        self.root = _Loop(units.loops.at(0, 0))
        self.registers: dict[Scalar, Scalar] = {}
        self.scopes: dict[object, tuple[Scalar, ...]] = {}
        self.substituted: dict[Scalar, Scalar] = {}
        self.plain = not any(n.op is reduce_op for u in group.units for n in u.nodes)
        self.staged = False  # whether a unit reads elements that an earlier loop of the group stored
        self.members = set(group.units)

    def build(self) -> tuple[Statement, ...]:
        """The kernel body: stores of what is needed in memory, and the reductions they need."""
        last: list[_Final] = []
        for unit in self.group.units:
            if unit.value is None:
                return unit.statements
            path = unit.path
            self._inline_lookups(unit)
            value = substitution.substitute(unit.value, {}, self.substituted)
            here = scalar.load(unit.buffer, unit.indices)
            self.substituted[here] = value
            if self._is_read_elsewhere(unit):
                unit.stored = self.staged = True
                self._store(unit, path, value)
            elif unit.stored:
                last.append(_Final(unit, path, value))
        for final in self._updates_after_readers(last):
            self._store(final.unit, final.path, final.value)
        return self._emit(self.root.children, outermost=True)

    def _updates_after_readers(self, finals: list["_Final"]) -> list["_Final"]:
        """Stores in an order in which the next value of a variable comes after everything that reads the old one."""
        if not self.targets:
            return finals
        reads = {final: {storage(n.param) for n in _loads(final.value)} for final in finals}
        ordered: list[_Final] = []
        waiting = list(finals)
        while waiting:
            free = [
                f for f in waiting
                if not any(self.targets.get(f.unit.node) in reads[other] for other in waiting if other is not f)
            ]  # fmt: skip
            ordered.extend(free or waiting)
            waiting = [f for f in waiting if f not in ordered]
        return ordered

    def _inline_lookups(self, unit: Unit) -> None:
        """Compute again the few elements that a unit with fewer loops looks up in another unit of the group."""
        assert unit.value is not None
        for node in [n for n in unit.nodes if n.op is load_op]:
            source = next((u for u in unit.reads if u.buffer is node.param and u in self.members), None)
            if source is not None and node not in self.substituted and self._is_lookup(unit, source, node):
                value = self.substituted[scalar.load(source.buffer, source.indices)]
                self.substituted[node] = substitution.substitute(value, _moved(source, node))

    def _is_lookup(self, reader: Unit, source: Unit, node: Scalar) -> bool:
        """Whether ``reader`` has fewer loops than ``source``, and the element takes no reduction to compute again."""
        if len(reader.path) >= len(source.path):
            return False
        value = self.substituted[scalar.load(source.buffer, source.indices)]
        moved = _moved(source, node)
        return not any(
            n.op is reduce_op and not n.free.isdisjoint(moved) for n in topological([value], lambda n: n.args)
        )

    def _is_read_elsewhere(self, unit: Unit) -> bool:
        """Whether a unit of the group reads the buffer of ``unit`` at another index than its own."""
        here = scalar.load(unit.buffer, unit.indices)
        for other in self.group.units:
            if unit in other.reads and other.value is not None:
                for node in other.nodes:
                    if node.op is not load_op or node.param is not unit.buffer or node is here:
                        continue
                    if not self._is_lookup(other, unit, node):
                        return True
        return False

    def _store(self, unit: Unit, path: tuple[Scalar, ...], value: Scalar) -> None:
        value, needs = self._evaluated(value, path)
        self._insert(path, [Store(unit.buffer, unit.indices, value)], needs, {unit.buffer})
        self.scopes[unit.buffer] = path

    def _evaluated(
        self, value: Scalar, path: tuple[Scalar, ...], after: Sequence[_Need] = ()
    ) -> tuple[Scalar, list[_Need]]:
        """``value`` with its reductions computed by loops placed before; and what it and ``after`` need."""
        if self.plain and not self.staged:
            return value, []
        order = topological([value], lambda n: () if n.op is reduce_op else n.args)
        loads = [n for n in order if n.op is load_op and n.param in self.scopes]
        read = [*after, *[_Need(n.param, self._complete_within(n)) for n in loads]]
        placed: Sequence[_Need] = after
        for _ in order:
            needs = list(read)
            memo: dict[Scalar, Scalar] = {}
            for node in order:
                if node.op is reduce_op:
                    memo[node] = result = self._reduced(node, path, placed)
                    needs.append(_Need(result.param, self.scopes[result.param]))
                elif node.args:
                    args = tuple(memo[a] for a in node.args)
                    memo[node] = node if args == node.args else substitution.rebuild(node, args)
                else:
                    memo[node] = node
            missed = self._out_of_reach(path, needs)
            if not missed:
                return memo[value], needs
            # Their loops end before something else that is needed: these reductions are computed again after it.
            self.registers = {node: known for node, known in self.registers.items() if known.param not in missed}
            placed = [n for n in needs if n.thing not in missed]
        raise InternalError(f"no loop reaches all reductions of {self.group.units[-1].node!r}")

    def _out_of_reach(self, path: tuple[Scalar, ...], needs: Sequence[_Need]) -> set[object]:
        """Registers that live in other loops than those that something with these needs is put into."""
        block = self.root
        entered: tuple[Scalar, ...] = ()
        registers = [n for n in needs if isinstance(n.thing, Register)]
        for position, index in enumerate(path):
            inside = {n.thing for n in registers if position < len(n.within)}
            child = self._enterable(block, index, entered, needs) if inside else None
            if child is None or not inside <= child.provides:
                return inside if child is None else inside - child.provides
            block, entered = child, (*entered, index)
        return set()

    def _complete_within(self, node: Scalar) -> tuple[Scalar, ...]:
        """The leading loops of a buffer's store at whose own index this load reads it."""
        agreeing: list[Scalar] = []
        for index in self.scopes[node.param]:
            if index not in node.args:
                break
            agreeing.append(index)
        return tuple(agreeing)

    def _reduced(self, node: Scalar, path: tuple[Scalar, ...], after: Sequence[_Need]) -> Scalar:
        """The register that holds a reduction, computed by a loop inside the leading loops of ``path`` it needs.

        The loops come after those that provide the needs ``after``.
        """
        needed = [i for i in path if i in node.free]
        outer = path[: 1 + path.index(needed[-1])] if needed else ()
        known = self.registers.get(node)
        if known is not None and self.scopes[known.param] == path[: len(self.scopes[known.param])]:
            return known
        reduction = node.param
        index, combine, inner = reduction.index, reduction.combine, node.args[0]
        if index in outer:  # of a reader whose loops have another order
            index = self.loops.fresh(inner, outer, index.param.extent)
            inner = substitution.substitute(inner, {reduction.index: index})
        inside = (*outer, index)
        body, needs = self._evaluated(inner, inside, after)
        scope = frozenset(outer)
        if combine in ARG_COMBINES:
            best = Register("best", body.dtype)
            place = Register("place", node.dtype)
            neutral = COMBINES["maximum" if combine == "argmax" else "minimum"].neutral(body.dtype)
            declare: list[Statement] = [
                Declare(best, scalar.const(neutral, body.dtype)),
                Declare(place, scalar.const(0, node.dtype)),
            ]
            leaf: Statement = ArgUpdate(best, place, combine, body, index)
            result = place
        else:
            result = Register(combine, body.dtype)
            declare = [Declare(result, scalar.const(COMBINES[combine].neutral(body.dtype), body.dtype))]
            leaf = Update(result, combine, body)
        self._insert(inside, [leaf], needs, {result}, declare)
        self.scopes[result] = outer
        found = self.registers[node] = scalar.read(result, scope)
        return found

    def _insert(
        self,
        path: tuple[Scalar, ...],
        leaves: list[Statement],
        needs: list[_Need],
        provides: set[object],
        declare: Sequence[Statement] = (),
    ) -> None:
        """Put ``leaves`` inside the loops of ``path``, sharing loops that exist where the needs allow it.

        ``declare`` goes just before the innermost loop of the path.
        """
        block = self.root
        entered: tuple[Scalar, ...] = ()
        for position, index in enumerate(path):
            innermost = position == len(path) - 1
            child = self._enterable(block, index, entered, needs)
            if child is None:
                child = _Loop(index)
                if innermost:
                    block.children.extend(declare)
                block.children.append(child)
            elif innermost and declare:
                at = block.children.index(child)
                block.children[at:at] = declare
            block.provides |= provides
            block = child
            entered = (*entered, index)
        block.provides |= provides
        block.children.extend(leaves)

    def _enterable(
        self, block: _Loop, index: Scalar, entered: tuple[Scalar, ...], needs: Sequence[_Need]
    ) -> "_Loop | None":
        for child in reversed(block.children):
            if not isinstance(child, _Loop):
                if isinstance(child, Store) and any(n.thing is child.buffer for n in needs):
                    return None
                continue
            blocking = [n for n in needs if n.thing in child.provides]
            if child.index is index and all(index in n.within for n in blocking):
                return child
            if blocking:
                return None
        return None

    def _emit(self, children: Iterable["_Loop | Statement"], outermost: bool = False) -> tuple[Statement, ...]:
        result: list[Statement] = []
        listed = list(children)
        parallel = outermost and len(listed) == 1
        for child in listed:
            if isinstance(child, _Loop):
                kind = LoopKind.PARALLEL if parallel else LoopKind.SERIAL
                result.append(For(child.index, child.index.param.extent, self._emit(child.children), kind))
            else:
                result.append(child)
        return tuple(result)


def _moved(source: Unit, node: Scalar) -> dict[Scalar, Scalar]:
    """The indices of a unit that a load of its buffer replaces by others."""
    return {i: at for i, at in zip(source.indices, node.args, strict=True) if i is not at}


def _loads(value: Scalar) -> list[Scalar]:
    return [n for n in topological([value], lambda n: n.args) if n.op is load_op]
