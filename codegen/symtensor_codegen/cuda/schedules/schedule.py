"""From a kernel to its stages, each a launch of its own (what these are: ``stages``).

Statements that share registers stay together, loop nests that share none follow each other. Nothing here depends on
sizes, but for one choice: kernels have a second schedule for a few long items.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from symtensor_codegen.cuda.schedules.dependence import (
    Scan,
    independent,
    nodes_in,
    nodes_of,
    scan_of,
    stores_of,
    touched,
)
from symtensor_codegen.cuda.schedules.nested_sums import merged
from symtensor_codegen.cuda.schedules.packs import Packs, packs_of
from symtensor_codegen.cuda.schedules.phases import is_storing, phases
from symtensor_codegen.cuda.schedules.registers import cut, fits, is_full, narrowed, usable
from symtensor_codegen.cuda.schedules.scatters import scatter_of
from symtensor_codegen.cuda.schedules.sharing import PARTS, Spread, gathering, running_share, spread_of
from symtensor_codegen.cuda.schedules.stages import Schedule, Stage
from symtensor_codegen.cuda.schedules.tiles import tiles_of
from symtensor_codegen.loops import Declare, For, Kernel, Leave, LoopKind, Statement, statements
from symtensor_codegen.scalar import Dim, Register, Scalar, load_op, register_op
from symtensor_codegen.substitution import stride


def schedule(kernel: Kernel, apart: bool = False) -> Schedule:
    """Cut a finished kernel into stages and choose their forms.

    ``apart``: for sizes of which the ordinary schedule says `is_better_apart`. Loops of an item are stages then, and
    scatters look out for targets that many steps have.
    """
    if kernel.local:
        split = _outermost(kernel.body)
        pairs = {loop: inner for loop in split if (inner := _inner(loop)) is not None}
        return Schedule((Stage("team", (), kernel.body, frozenset(split), pairs, steps=True),))
    stages: list[Stage] = []
    for part in [part for whole in _parts(merged(kernel.body)) for part in _cut(whole)]:
        bodies, words = _phases(part, apart)
        for body in bodies:
            made = replace(_stage(body, apart), kept=words)
            if made.spread is None:
                stages.append(made)
                continue
            spread = replace(made.spread, before=words)
            made = replace(made, spread=spread)
            stages += _resuming(made, spread) if made.scans else (made, _gathering(made, spread))
    return Schedule(tuple(stages))


def _cut(part: tuple[Statement, ...]) -> list[tuple[Statement, ...]]:
    """A part whose loops combine no more than a thread has registers for; several where they are independent."""
    chain, body = _chain(part)

    def suits(loop: For) -> bool:
        column, inner = _is_column(chain, [loop], (loop,)), _inner(loop)
        return fits(inner or loop, usable(chain, (loop,), loop, inner, column), column)

    bodies = cut(body, suits)
    return [part] if bodies == [body] else [_inside(chain, inner) for inner in bodies]


def _inside(chain: Sequence[For], body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """A body in the loops around it."""
    for loop in reversed(chain):
        body = (replace(loop, body=body),)
    return body


def _phases(part: tuple[Statement, ...], apart: bool) -> tuple[list[tuple[Statement, ...]], int]:
    """A part cut between its loops, and the words that an item keeps meanwhile.

    Unless ``apart``, only where an item's memory is scattered and nothing is stored in loops: what several loops read
    is better read again while it is still in a cache.
    """
    chain, body = _chain(part)
    loops = [s for s in body if isinstance(s, For)]
    if not chain or len(loops) < 2 or (not apart and any(map(is_storing, loops))):
        return [part], 0
    column = _is_column(chain, loops, body)
    if not (apart or column or any(map(_inner, loops))):
        return [part], 0
    bodies, words = phases(chain, body)
    return [_in_loops(chain, inner, column) for inner in bodies], words


def _in_loops(chain: Sequence[For], body: tuple[Statement, ...], column: bool) -> tuple[Statement, ...]:
    """A phase for all items; those that are columns are the inner loops of one that stores.

    Items are independent, although a phase reads some words of its item in scratch memory and writes others.
    """
    around = []
    while column and len(body) == 1 and isinstance(body[0], For):
        around.append(body[0])
        body = body[0].body
    return _inside([*around, *[replace(loop, kind=LoopKind.PARALLEL) for loop in chain]], body)


def _parts(body: tuple[Statement, ...]) -> list[tuple[Statement, ...]]:
    """Statements that share registers together, in order."""
    parts: list[tuple[list[Statement], set[Register]]] = []
    for statement in body:
        facts = touched([statement])
        mine = facts.seen | set(facts.registers)
        if isinstance(statement, Declare):
            mine.add(statement.register)
        joined = next((k for k, (_, theirs) in enumerate(parts) if theirs & mine), None)
        if joined is None and parts and not isinstance(statement, For):
            alone = all(not isinstance(s, For) for s in parts[-1][0])
            joined = len(parts) - 1 if alone else None
        if joined is None:
            parts.append(([statement], mine))
            continue
        merged = [s for group, _ in parts[joined:] for s in group]
        registers = set().union(*[theirs for _, theirs in parts[joined:]], mine)
        parts[joined:] = [([*merged, statement], registers)]
    return [tuple(group) for group, _ in parts]


def _stage(part: tuple[Statement, ...], apart: bool) -> Stage:
    if (scatter := scatter_of(part)) is not None:
        scatter = replace(scatter, frequent=apart and scatter.is_chain)
        return Stage("scatter", scatter.items, scatter.body, scatter=scatter)
    chain, body = _chain(part)
    if not chain:
        chain, body = _interchanged(part)
    split, scans, heavy = _shared(body, chain)
    if (split or scans) and not (chain and heavy):
        scanned = [loop for loop, _ in scans]
        column = _is_column(chain, [*split, *scanned], body)
        spread = running_share(body, scans) if scans else spread_of(chain, body, split)
        pairs = {loop: inner for loop in split if (inner := _inner(loop)) is not None}
        packs, full = {} if column else _packs(scanned), False
        for loop in split:
            inner = pairs.get(loop, loop)
            used = narrowed(inner, usable(chain, body, loop, pairs.get(loop), column), column)
            packs |= {} if used is None else {chain[-1] if column else inner: used}
            full |= is_full(inner, used, column)
        fans = bool(chain) and not column and _are_apart(body, split)
        return Stage(
            "team", chain, body, frozenset(split), pairs, tuple(scans), packs, column, fans=fans, spread=spread,
            full=full,
        )  # fmt: skip
    if chain:
        inner = replace(chain[-1], body=body)
        packs = {chain[-1]: found} if (found := packs_of(inner, body)) is not None else {}
        tiles = None if packs or len(chain) == 1 else tiles_of(chain, body)
        return Stage("nest" if len(chain) > 1 else "map", chain, body, packs=packs, tiles=tiles)
    facts = touched(body)
    own = not any(n.op is load_op and n.param in facts.writes for n in nodes_of(body))
    return Stage("owned", (), body, owners=own and any(isinstance(s, For) for s in body))


def _chain(part: tuple[Statement, ...]) -> tuple[tuple[For, ...], tuple[Statement, ...]]:
    """The independent loops around everything else, and what is inside."""
    chain: list[For] = []
    body = part
    while len(body) == 1 and isinstance(body[0], For):
        loop = body[0]
        if not independent(loop) or touched(loop.body).registers or _depends(loop.extent, chain):
            break
        chain.append(loop)
        body = loop.body
    return tuple(chain), body


def _depends(extent: Dim, loops: Sequence[For]) -> bool:
    return isinstance(extent, Scalar) and any(loop.index in extent.free for loop in loops)


def _interchanged(part: tuple[Statement, ...]) -> tuple[tuple[For, ...], tuple[Statement, ...]]:
    """A perfect nest whose inner loops are independent: these outside, the others, in their order, inside."""
    nest: list[For] = []
    body = part
    while len(body) == 1 and isinstance(body[0], For):
        nest.append(body[0])
        body = body[0].body
    inner: list[For] = []
    while nest and independent(nest[-1]) and not _depends(nest[-1].extent, nest[:-1]):
        if touched(nest[-1].body).registers or not stores_of(body):
            break
        inner.insert(0, nest.pop())
    if not inner or any(_depends(s.extent, inner) for s in nest) or _reads_its_stores(body):
        return (), part
    for loop in reversed(nest):
        body = (For(loop.index, loop.extent, body),)
    return tuple(inner), body


def _reads_its_stores(body: tuple[Statement, ...]) -> bool:
    written = {s.buffer for s in stores_of(body)}
    return any(n.op is load_op and n.param in written for n in nodes_of(body))


def _packs(loops: Iterable[For]) -> dict[For, Packs]:
    """Those of the loops that use packs."""
    return {loop: found for loop in loops if (found := packs_of(loop, loop.body)) is not None}


# Teams ------------------------------------------------------------------------------------------------------------


def _shared(
    body: tuple[Statement, ...], chain: tuple[For, ...]
) -> tuple[list[For], list[tuple[For, Scan]], bool]:
    """The loops that threads of a team share, the running combinations, and whether other work is left in loops."""
    split: list[For] = []
    scans: list[tuple[For, Scan]] = []
    heavy = False
    for statement in body:
        if not isinstance(statement, For):
            continue
        inner_split, inner_scans, inner_heavy = _shared(statement.body, chain)
        whole = independent(statement)
        if whole and (_inner(statement) is not None or not (inner_split and _runs_along(inner_split, statement))):
            split.append(statement)
            continue
        scan = scan_of(statement)
        if scan is not None:
            scans.append((statement, scan))
            continue
        split += inner_split
        scans += inner_scans
        heavy |= inner_heavy or not (inner_split or inner_scans)
    return split, scans, heavy


def _outermost(body: Sequence[Statement]) -> list[For]:
    """The outermost of the loops whose iterations are independent."""
    loops = [s for s in body if isinstance(s, For)]
    return [found for loop in loops for found in ([loop] if independent(loop) else _outermost(loop.body))]


def _inner(loop: For) -> For | None:
    """The loop inside, where there is nothing else, and its iterations may be shared too."""
    inner = loop.body[0] if len(loop.body) == 1 else None
    if not isinstance(inner, For) or not independent(inner) or _depends(inner.extent, [loop]):
        return None
    return inner


def _are_apart(body: Sequence[Statement], split: Sequence[For]) -> bool:
    """Whether a body is several loops that have nothing to do with each other."""
    if len(body) < 2 or not all(isinstance(s, For) and s in split for s in body):
        return False
    facts = [touched([s]) for s in body]
    written = set().union(*[f.writes for f in facts])
    return not any(f.registers or f.seen or f.reads & written for f in facts)


def _runs_along(inner: Sequence[For], outer: For) -> bool:
    """Whether memory is read in order along the inner loops rather than along the outer one."""
    if isinstance(outer.extent, int) and outer.extent <= 4:
        return True
    along_outer = along_inner = 0
    for loop in inner:
        for place in _places(loop.body):
            along_outer += stride(place, outer.index) == 1
            along_inner += stride(place, loop.index) == 1
    return along_inner > along_outer


def _places(body: Sequence[Statement]) -> list[Scalar]:
    """Where statements read and write."""
    found = [n.args[0] for n in nodes_of(body) if n.op is load_op]
    return found + [s.index[0] for s in stores_of(body)]


def _is_column(chain: tuple[For, ...], split: Sequence[For], body: tuple[Statement, ...]) -> bool:
    """Whether neighbouring items are neighbours in memory, and all items take the same steps."""
    if not chain:
        return False
    every = [s for s in statements(body) if isinstance(s, For)]
    if any(_depends(s.extent, chain) for s in every) or any(isinstance(s, Leave) for s in body):
        return False
    if any(isinstance(s.extent, Scalar) and any(n.op is register_op or n.op is load_op for n in nodes_in(s.extent))
           for s in every):  # fmt: skip
        return False
    if any(isinstance(s, Leave) for loop in every if loop not in split for s in loop.body):
        return False
    along_items = along_loops = 0
    for loop in split:
        walked = [loop.index, *[s.index for s in statements(loop.body) if isinstance(s, For)]]
        for place in _places(loop.body):
            if not place.free.isdisjoint(walked):  # others are read once
                along_items += _is_near(stride(place, chain[-1].index))
                along_loops += any(_is_near(stride(place, index)) for index in walked)
    return along_items > along_loops


def _is_near(step: Dim | None) -> bool:
    """Whether elements are side by side, or every other one is: those of complex arrays are two numbers."""
    return step == 1 or step == 2


# Items shared by several blocks -----------------------------------------------------------------------------------

def _gathering(stage: Stage, spread: Spread) -> Stage:
    """The stage that combines the parts of items and goes on with them."""
    gather = gathering(spread, stage.chain, PARTS)
    body: tuple[Statement, ...] = tuple(gather if s is spread.loop else s for s in stage.body)
    shared = frozenset((gather,))
    return replace(stage, body=body, split=shared, pairs={}, packs={}, column=True, spread=None, source=stage)


def _resuming(stage: Stage, spread: Spread) -> tuple[Stage, Stage]:
    """A running combination that several blocks share: the stage that leaves their parts, and that which has it all."""
    first: tuple[Statement, ...] = (*[s for s in stage.body if isinstance(s, Declare)], spread.loop)
    packs = {} if stage.column else _packs([spread.loop])
    parts = replace(stage, body=first, split=frozenset((spread.loop,)), scans=(), packs=packs)
    return parts, replace(stage, spread=None, source=parts)


__all__ = ["schedule"]
