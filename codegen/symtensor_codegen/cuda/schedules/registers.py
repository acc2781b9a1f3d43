"""Loops that combine more than a thread has registers for: narrower packs, then several loops.

The kernels are those of the CPU, where one walk through an array is best, whatever it combines. A thread of a block of
512 has 128 registers. It holds what it combines, a place of 64 bits beside each extreme that is asked for its place,
what is the same in every iteration, and the elements on their way. What is left is for addresses, counters, and what
the compiler computes ahead.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from symtensor_codegen.cuda.schedules.dependence import nodes_of, stores_of, touched
from symtensor_codegen.cuda.schedules.packs import BATCH, MANY, VECTOR_BYTES, Packs, packs_of, packs_of_columns
from symtensor_codegen.cuda.schedules.sharing import spread_of
from symtensor_codegen.cuda.text.hoisting import MOST_HOISTED, invariants
from symtensor_codegen.dtypes import DType
from symtensor_codegen.loops import ArgUpdate, Declare, For, Statement, Update, statements
from symtensor_codegen.scalar import Buffer, Register, Scalar, load_op

MOST_HELD = 68  # registers for values; with more, some architecture keeps some of them in memory
FEW = 24  # registers, those of addresses included, for which the compiler need not be told to take care
ADDRESS = 2  # registers of an address
A_PACK = VECTOR_BYTES // 4  # registers of a pack
LITTLE = 12  # registers

Body = tuple[Statement, ...]
Fits = Callable[[For], bool]


def usable(chain: Sequence[For], body: Body, loop: For, inner: For | None, column: bool) -> Packs | None:
    """The packs that a loop of a team could use: of its own elements, or of neighbouring columns.

    ``inner``: the loop in it whose iterations are shared with its own.
    """
    if not column:
        walked = inner or loop
        return packs_of(walked, walked.body)
    if inner is not None or spread_of(chain, body, [loop]) is None:
        return None
    return packs_of_columns(loop, chain[-1], body[: body.index(loop)])


def narrowed(loop: For, packs: Packs | None, column: bool) -> Packs | None:
    """The widest packs for which a thread has registers, else the narrowest.

    ``packs``: those that the loop could use, of neighbouring columns if ``column``.
    """
    ways = [packs] if _is_small(loop, packs, column) else _ways(loop, packs, column)
    return next((way for way in ways[:-1] if _held(loop, way, column) <= MOST_HELD), ways[-1])


def fits(loop: For, packs: Packs | None, column: bool) -> bool:
    """Whether a thread has registers for what a loop combines."""
    return _is_small(loop, packs, column) or _held(loop, _ways(loop, packs, column)[-1], column) <= MOST_HELD


def _is_small(loop: For, packs: Packs | None, column: bool) -> bool:
    """Whether it goes without saying that a thread has registers: most loops, which need not be looked at closely."""
    return _combined(loop, packs, column) <= LITTLE and len(nodes_of(loop.body)) <= MANY


def is_full(loop: For, packs: Packs | None, column: bool) -> bool:
    """Whether a loop combines so much that the compiler must look after registers.

    Without its optimisations it computes the addresses where blocks that share an item leave what they combined, two
    registers for each value, before it begins, and keeps them.
    """
    registers = touched(loop.body).registers
    return _combined(loop, packs, column) + ADDRESS * len(registers) > FEW


def _ways(loop: For, packs: Packs | None, column: bool) -> list[Packs | None]:
    """Packs from wide to narrow, and none. A loop that reads one array along its rows has some registers for them."""
    if packs is None or not touched(loop.body).registers or (packs.light and not column):
        return [packs]
    widths = [width for width in (8, 4, 2) if width <= packs.width]
    return [*[replace(packs, width=width) for width in widths], None]


def _held(loop: For, packs: Packs | None, column: bool) -> int:
    """The registers that the values of a loop take."""
    inside = {loop.index, *[s.index for s in statements(loop.body) if isinstance(s, For)]}
    same = invariants(loop.body, lambda node: not inside.isdisjoint(node.free), lambda node: False)[:MOST_HOISTED]
    held = _combined(loop, packs, column) + sum(_words(value.dtype) for value in same)
    if packs is not None:
        held += packs.width * sum(_words(draw.dtype) for draw in packs.draws)
    if packs is not None and column:
        return held + BATCH * (A_PACK + ADDRESS)
    loads = {(n.param, n.args[0]) for n in nodes_of(loop.body) if n.op is load_op and not inside.isdisjoint(n.free)}
    if len(loads) == 1:
        return held + BATCH * A_PACK
    width = 1 if packs is None else packs.width
    return held + sum(ADDRESS + width * _words(buffer.dtype) for buffer, _ in loads)


def _combined(loop: For, packs: Packs | None, column: bool) -> int:
    """The registers for what a loop combines."""
    columns = packs.width if packs is not None and column else 1
    return columns * sum(_words(register.dtype) for register in touched(loop.body).registers)


def _words(dtype: DType) -> int:
    return 2 if dtype.itemsize == 8 else 1


# Several loops ----------------------------------------------------------------------------------------------------


def cut(body: Body, fits: Fits) -> list[Body]:
    """A body whose loops fit; several where they then have nothing to do with each other: launches of their own."""
    pieces: list[Statement] = []
    for statement in body:
        pieces += _pieces(statement, fits) if isinstance(statement, For) else (statement,)
    return [body] if len(pieces) == len(body) else _apart(pieces)


def _pieces(loop: For, fits: Fits) -> list[For]:
    """As few loops as fit, each with about as many of the combinations."""
    updates = _updates(loop)
    if updates is None or len(updates) < 2 or fits(loop):
        return [loop]
    pieces = [loop]
    for count in range(2, len(updates) + 1):
        bounds = [len(updates) * k // count for k in range(count + 1)]
        pieces = [_with(loop, updates[a:b]) for a, b in pairwise(bounds)]
        if all(map(fits, pieces)):
            break
    return pieces


def _updates(loop: For) -> Body | None:
    """What a loop combines, each in registers of its own; None where it does anything else."""
    (first, *others) = loop.body
    if isinstance(first, For) and not others:
        return _updates(first)
    if not all(isinstance(s, (Update, ArgUpdate)) for s in loop.body):
        return None
    facts = touched(loop.body)
    changed = [r for s in loop.body for r in touched([s]).registers]
    return loop.body if len(set(changed)) == len(changed) and facts.seen.isdisjoint(changed) else None


def _with(loop: For, updates: Body) -> For:
    inner = loop.body[0]
    return replace(loop, body=(_with(inner, updates),) if isinstance(inner, For) else updates)


def _apart(body: Sequence[Statement]) -> list[Body]:
    """Statements that have no registers in common, in groups; one group where one could read what another stores.

    An update of a shared variable may be written where it is read: then its place is that of the load.
    """
    groups: list[tuple[list[int], set[Register]]] = []
    for number, statement in enumerate(body):
        facts = touched([statement])
        mine = facts.seen | set(facts.registers) | ({statement.register} if isinstance(statement, Declare) else set())
        joined = [group for group in groups if group[1] & mine]
        groups = [group for group in groups if not group[1] & mine]
        numbers = [n for group, _ in joined for n in group]
        groups.append(([*numbers, number], mine.union(*[theirs for _, theirs in joined])))
    loops = [group for group, _ in groups if any(isinstance(body[n], For) for n in group)]
    loops[0] += [n for group, _ in groups if group not in loops for n in group]
    found = [tuple(body[n] for n in sorted(group)) for group in sorted(loops, key=min)]
    places: set[tuple[DType, Scalar]] = set()
    buffers: set[Buffer] = set()
    for group in found:
        loads = [node for node in nodes_of(group) if node.op is load_op]
        if any(n.param in buffers or (n.param.dtype, n.args[0]) in places for n in loads):
            return [tuple(body)]
        places |= {(store.buffer.dtype, store.index[0]) for store in stores_of(group)}
        buffers |= touched(group).writes
    return found


__all__ = ["cut", "fits", "is_full", "narrowed", "usable"]
