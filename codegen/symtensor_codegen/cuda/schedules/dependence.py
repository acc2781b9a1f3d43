"""Which loops of a kernel may have their iterations run side by side, and what a statement touches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from symtensor_codegen.expr import topological
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Declare,
    For,
    Leave,
    LoopKind,
    Statement,
    Store,
    Update,
    statements,
    values_of,
)
from symtensor_codegen.scalar import COMBINES, Buffer, Register, Scalar, cast_op, load_op, register_op
from symtensor_codegen.substitution import stride

KEPT = 256  # bodies whose facts are kept: a schedule asks for those of a kernel again and again


def nodes_of(body: Sequence[Statement]) -> list[Scalar]:
    """Every distinct scalar node that statements evaluate, those inside loops included."""
    return _nodes_of(tuple(body))


@lru_cache(maxsize=KEPT)
def _nodes_of(body: tuple[Statement, ...]) -> list[Scalar]:
    roots = [v for s in statements(body) for v in values_of(s)]
    return topological(roots, lambda n: n.args)


@dataclass(slots=True)
class Touched:
    """The buffers that statements read and write, and the registers that they change but do not declare."""

    reads: set[Buffer]
    writes: set[Buffer]
    registers: dict[Register, set[str]]  # how each is changed: keys of COMBINES, argmax, argmin or assign
    seen: set[Register]  # registers that are read


def touched(body: Sequence[Statement]) -> Touched:
    """What statements touch."""
    return _touched(tuple(body))


@lru_cache(maxsize=KEPT)
def _touched(body: tuple[Statement, ...]) -> Touched:
    found = Touched(set(), set(), {}, set())
    declared: set[Register] = set()
    for node in nodes_of(body):
        if node.op is load_op:
            found.reads.add(node.param)
        elif node.op is register_op:
            found.seen.add(node.param)
    for statement in statements(tuple(body)):
        match statement:
            case Store(buffer=buffer, combine=combine):
                found.writes.add(buffer)
                if combine is not None:
                    found.reads.add(buffer)
            case Declare(register=register):
                declared.add(register)
            case Update(register=register, combine=combine):
                found.registers.setdefault(register, set()).add(combine)
            case ArgUpdate(best=best, place=place, combine=combine):
                found.registers.setdefault(best, set()).add(combine)
                found.registers.setdefault(place, set()).add(combine)
            case Assign(registers=registers):
                for register in registers:
                    found.registers.setdefault(register, set()).add("assign")
    for register in declared:
        found.registers.pop(register, None)
    return found


def stores_of(body: Sequence[Statement]) -> list[Store]:
    """The stores in statements and their loops."""
    return [s for s in statements(tuple(body)) if isinstance(s, Store)]


def independent(loop: For) -> bool:
    """Whether the iterations of a loop may run in any order, but for registers that they combine.

    A store whose place grows by the same amount from one iteration to the next is one to elements of its own.
    """
    if any(isinstance(s, Leave) for s in loop.body):
        return False
    if loop.kind is not LoopKind.SERIAL:
        return True
    facts = touched(loop.body)
    for register, ways in facts.registers.items():
        if register in facts.seen or len(ways) > 1 or "assign" in ways:
            return False
    places: dict[Buffer, set[Scalar]] = {}
    for store in stores_of(loop.body):
        if stride(store.index[0], loop.index) in (0, None):
            return False
        places.setdefault(store.buffer, set()).add(store.index[0])
    if not places:
        return True
    for node in nodes_of(loop.body):
        if node.op is load_op and node.param in places and {node.args[0]} != places[node.param]:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Scan:
    """A loop whose stores show a running combination: the values combined, each into a register of its own."""

    updates: tuple[Update, ...]


def scan_of(loop: For) -> Scan | None:
    """How a loop is a running combination, if it is one."""
    if loop.kind is not LoopKind.SERIAL or not all(isinstance(s, (Update, Store)) for s in loop.body):
        return None
    updates = [s for s in loop.body if isinstance(s, Update)]
    registers = {u.register for u in updates}
    stores = [s for s in loop.body if isinstance(s, Store)]
    if not updates or not stores or len(registers) < len(updates):
        return None
    facts = touched(loop.body)
    if facts.reads & facts.writes or any(u.combine not in COMBINES for u in updates):
        return None
    if any(registers & registers_in(u.value) for u in updates):
        return None
    for store in stores:
        if store.combine is not None:
            return None
        if stride(store.index[0], loop.index) in (0, None) and not _compacts(store, updates):
            return None
    return Scan(tuple(updates))


def _compacts(store: Store, updates: Sequence[Update]) -> bool:
    """Whether a store puts elements side by side where a condition holds, which a register counts."""
    place = store.index[0]
    if store.where is None or place.op is not register_op:
        return False
    return any(
        u.register is place.param and u.value.op is cast_op and u.value.args[0] is store.where for u in updates
    )


def nodes_in(value: Scalar) -> list[Scalar]:
    """Every distinct node of a value, arguments first."""
    return topological([value], lambda n: n.args)


def registers_in(value: Scalar) -> set[Register]:
    """The registers that a value reads."""
    return {n.param for n in nodes_in(value) if n.op is register_op}
