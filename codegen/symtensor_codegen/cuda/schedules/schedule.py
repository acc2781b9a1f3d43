"""How the loops of a kernel become blocks and threads.

A kernel is cut into *stages*, each a launch of its own: statements that share registers stay together, loop nests that
share none follow each other. A stage has *items*, the iterations of independent outer loops, and one of five forms:

- ``map``: a thread an item (several neighbours in one access of 16 bytes where memory is read in order);
- ``nest``: items of up to three loops on a grid of as many dimensions, so that no index is divided;
- ``team``: threads share the loops inside an item, sums over them included; a team is a row of a block (2 to 32
  threads, or all of them), or a column where neighbouring items are neighbours in memory;
- ``scatter``: stores to places that are known only when they are reached; those to one place stay in order;
- ``owned``: what else has an order of its own. Every thread runs all of it, and stores only what it owns, so each
  element gets its values in order, whatever the number of threads.

Nothing here depends on sizes: grids and teams are chosen for each launch, from its parameters.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from symtensor_codegen.cuda.schedules.dependence import (
    Scan,
    independent,
    nodes_in,
    nodes_of,
    scan_of,
    stores_of,
    touched,
)
from symtensor_codegen.cuda.schedules.launch_numbers import (
    A_THREADS_WORK,
    LARGEST_TEAM,
    MAP_THREADS,
    MOST_PARTS,
    RESIDENT,
    UNKNOWN,
    Shape,
    map_shape,
    nest_shape,
    number,
    owned_shape,
    power_of_two,
    running_columns,
    running_parts,
    running_team,
    size_of,
)
from symtensor_codegen.cuda.schedules.nested_sums import merged
from symtensor_codegen.cuda.schedules.packs import Packs, packs_of, packs_of_columns
from symtensor_codegen.cuda.schedules.phases import is_storing, phases
from symtensor_codegen.cuda.schedules.scatters import BLOCKS, SCATTER_THREADS, Scatter, scatter_of, scatter_shape
from symtensor_codegen.cuda.schedules.sharing import PARTS, Spread, gathering, running_share, spread_of
from symtensor_codegen.cuda.schedules.tiles import Tiles, tile_shape, tiles_of
from symtensor_codegen.loops import Assign, Declare, For, Kernel, Leave, LoopKind, Statement, statements
from symtensor_codegen.scalar import Dim, Register, Scalar, load_op, register_op
from symtensor_codegen.substitution import product, stride

Form = Literal["map", "nest", "team", "scatter", "owned"]

WARP = 32
TEAM_THREADS = 128  # of a block of small teams
FIRST_CACHE = 192 << 10  # bytes that rows of a multiprocessor's blocks may have together
A_FEW = 4  # accesses of a thread from which on wide ones pay
LEAST_PART = 8  # iterations of a thread for which a block of its own is worth it
LONG = 1 << 16  # iterations of a block's loop beside which a few launches do not count


@dataclass(frozen=True, eq=False)
class Stage:
    """One launch: independent loops (``chain``, outermost first) around a body.

    ``split`` are the loops in the body whose iterations the threads of a team share, each with the loop inside where
    there is just one (``pairs``); ``scans`` those that they share as a running combination. ``packs`` says of which
    loops a thread takes several iterations at once. ``column``: a team is a column. ``owners``: stores are shared out
    among threads that all do the same. ``fans``: the loops of an item may be run by blocks of their own. ``scatter``:
    loops whose iterations meet in elements, and where. ``spread``: several blocks may share the loop of an item; each
    leaves what it combined in scratch memory, and the next stage, whose ``source`` this one is, goes on from there:
    with ``scans``, through the same shares. ``kept``: words of scratch memory that an item has from stage to stage.
    ``steps``: one block runs the steps of a loop, in memory of its own.
    """

    form: Form
    chain: tuple[For, ...]
    body: tuple[Statement, ...]
    split: frozenset[For] = frozenset()
    pairs: Mapping[For, For] = field(default_factory=dict)
    scans: tuple[tuple[For, Scan], ...] = ()
    packs: Mapping[For, Packs] = field(default_factory=dict)
    column: bool = False
    owners: bool = False
    fans: bool = False
    tiles: Tiles | None = None
    scatter: Scatter | None = None
    spread: Spread | None = None
    source: "Stage | None" = None
    kept: int = 0
    steps: bool = False

    @cached_property
    def items(self) -> Dim:
        """The number of items."""
        return product([loop.extent for loop in self.chain])

    @property
    def threads(self) -> int:
        """The most threads that a block may have."""
        if self.form == "scatter":
            return SCATTER_THREADS
        return MAP_THREADS if self.form in ("map", "nest", "owned") else LARGEST_TEAM

    @property
    def together(self) -> int:
        """How many blocks of that size a multiprocessor should have registers for; 0: as many as it happens to."""
        return BLOCKS if self.form == "scatter" else 2 if self.scans else 0

    @property
    def cut(self) -> Spread | None:
        """The loop of which a block has its share."""
        return self.source.spread if self.scans and self.source is not None else self.spread

    @property
    def running(self) -> bool:
        """Whether it is a running combination, or leaves the parts of one."""
        return bool(self.scans) or (self.spread is not None and self.spread.running)

    @property
    def told(self) -> str:
        """How its iterations are spread over blocks and threads, in the words of docs/gpu.md."""
        if self.form in ("map", "nest") and any(isinstance(s, For) and _are_steps(s) for s in self.body):
            return "loop, a thread an element" if self.items != 1 else "loop, one thread"
        if self.steps:
            return "loop, one block"
        match self.form:
            case "map":
                width = self.width(self.chain[0])
                return "map" if width == 1 else f"map, {width} elements a thread"
            case "nest":
                return f"nest, grid of {len(self.chain)} axes" if self.tiles is None else "nest, in tiles"
            case "team":
                if self.chain:
                    return "team, a column each" if self.column else "team, a row each"
                return "team, one block" if self.cut is None else "team, a share each"
            case "scatter":
                return "scatter"
            case "owned":
                return "owned, in order" if self.owners else "one thread"

    def extents(self, parameters: Sequence[int]) -> list[int | None]:
        """The iterations of the loops of the chain; None where that is not known at launch."""
        return [number(loop.extent, parameters) for loop in self.chain]

    def shape(self, parameters: Sequence[int], multiprocessors: int) -> Shape | None:
        """Grid and block of a launch with these parameters; None where there is nothing to do."""
        extents = self.extents(parameters)
        if any(extent is not None and extent <= 0 for extent in extents):
            return None
        sizes = [UNKNOWN if extent is None else extent for extent in extents]
        resident = multiprocessors * RESIDENT
        match self.form:
            case "map":
                return map_shape(-(-sizes[0] // self.width(self.chain[0])))
            case "nest":
                if self.tiles is not None:
                    across = self.chain.index(self.tiles.across)
                    others = [*sizes[:across], *sizes[across + 1 : -1]]
                    return tile_shape(sizes[-1], sizes[across], others[-1] if others else 1, resident)
                return nest_shape([*sizes[:-1], -(-sizes[-1] // self.width(self.chain[-1]))], resident)
            case "team":
                return self._team(sizes, parameters, multiprocessors)
            case "scatter":
                assert self.scatter is not None
                steps = size_of(self.scatter.steps, parameters)
                return scatter_shape(math.prod(sizes), steps, multiprocessors) if steps > 0 else None
            case "owned":
                return owned_shape(self.body, parameters) if self.owners else ((1, 1, 1), (1, 1, 1))

    def width(self, loop: For) -> int:
        """How many iterations of a loop a thread takes at once."""
        packs = self.packs.get(loop)
        return 1 if packs is None else packs.width

    def parts(self, parameters: Sequence[int], multiprocessors: int) -> int:
        """How many blocks share the loop of an item."""
        if self.source is not None:
            return self.source.parts(parameters, multiprocessors)
        if self.spread is None:
            return 1
        items = math.prod([size_of(loop.extent, parameters) for loop in self.chain])
        work = self._work(self.spread.loop, parameters)
        (tiles, _, _), (across, down, _) = self._team_shape(items, work, parameters, multiprocessors)
        threads = tiles * across * down
        if self.running:
            return running_parts(work, down if self.column else across, threads, multiprocessors * RESIDENT)
        team = down if self.column else across * self.width(self.spread.loop)
        free = multiprocessors * RESIDENT // max(threads, 1)
        most = min(work // (team * LEAST_PART), size_of(self.spread.loop.extent, parameters), MOST_PARTS)
        return max(min(free, most), 1)

    def _work(self, loop: For, parameters: Sequence[int]) -> int:
        """The iterations that a team shares."""
        inner = self.pairs.get(loop)
        return size_of(loop.extent, parameters) * (1 if inner is None else size_of(inner.extent, parameters))

    def scratch(self, parameters: Sequence[int], multiprocessors: int) -> int:
        """The bytes of scratch memory that items need."""
        items = math.prod([size_of(loop.extent, parameters) for loop in self.chain])
        parts = self.parts(parameters, multiprocessors)
        words = 0 if self.spread is None or parts == 1 else parts * self.spread.words
        return 8 * items * (words + self.kept)

    def _team(self, sizes: Sequence[int], parameters: Sequence[int], multiprocessors: int) -> Shape | None:
        shared = (*self.split, *[scanned for scanned, _ in self.scans])
        work = max([self._work(loop, parameters) for loop in shared], default=1)
        if self.steps:
            return (1, 1, 1), (min(max(power_of_two(work), WARP), LARGEST_TEAM), 1, 1)
        items, parts = math.prod(sizes), self.parts(parameters, multiprocessors)
        gathers = self.source is not None and not self.scans
        if parts == 1 and (gathers or (self.running and not self.scans)):
            return None
        if gathers:
            across = min(32, power_of_two(items))
            down = min(power_of_two(parts), LARGEST_TEAM // across)
            return (-(-items // across), parts, 1), (across, down, 1)
        (tiles, _, _), block = self._team_shape(items, work, parameters, multiprocessors)
        if self.fans and tiles * len(self.body) <= multiprocessors * 4:
            parts = len(self.body)
        return (tiles, parts, 1), block

    def is_better_apart(self, parameters: Sequence[int], multiprocessors: int) -> bool:
        """Whether a few blocks would run several loops, so long that launches which all blocks share are better."""
        loops = [s for s in self.body if isinstance(s, For)]
        if self.form != "team" or not self.chain or len(loops) < 2 or self.scans or self.source is not None:
            return False
        items = math.prod([size_of(loop.extent, parameters) for loop in self.chain])
        work = max([self._work(loop, parameters) for loop in self.split], default=0)
        if items * work < LONG or items <= 0:
            return False
        (tiles, _, _), _ = self._team_shape(items, work, parameters, multiprocessors)
        return 4 * tiles <= multiprocessors and items * work >= tiles * LONG

    def _neighbours(self, iterations: int, parameters: Sequence[int], resident: int) -> int:
        """How many columns a thread has, if arrays begin where they should: one where there are threads enough."""
        width = self.width(self.chain[-1])
        fits = size_of(self.chain[-1].extent, parameters) % width == 0
        return width if fits and iterations >= resident * width * A_FEW else 1

    def _team_shape(self, items: int, work: int, parameters: Sequence[int], multiprocessors: int) -> Shape:
        resident = multiprocessors * RESIDENT
        if self.column and self.running:
            return running_columns(items, work, resident)
        if self.column:
            items //= self._neighbours(items * work, parameters, resident)
            across = min(32, power_of_two(items))
            wanted = power_of_two(max(resident // 2 // max(items, 1), 1))
            rows = min(power_of_two(max(work // 4, 1)), LARGEST_TEAM // across, wanted)
            while across * rows < 128 and across < items:
                across *= 2
            return ((min(-(-items // across), 1 << 20), 1, 1), (across, rows, 1))
        wanted = power_of_two(-(-3 * resident // (4 * max(items, 1))))  # threads for every place that there is
        if self.running:
            wanted = running_team(items, resident)
        if len(self.split) > 1:  # what is read again should still be in the first cache
            wanted = max(wanted, power_of_two(RESIDENT * work * 4 // FIRST_CACHE + 1) // 2)
        enough = max(power_of_two(work // A_THREADS_WORK + 1) // 2, 1)
        team = min(max(wanted, WARP), enough, LARGEST_TEAM)
        while items * team < resident // 8 and team < min(power_of_two(-(-work // 2)), LARGEST_TEAM):
            team *= 2  # few items: more threads, even if each has little to do
        together = min(TEAM_THREADS // team, power_of_two(items)) if team <= WARP else 1
        while together > 1 and -(-items // together) < multiprocessors:
            together //= 2
        return ((min(-(-items // together), 1 << 20), 1, 1), (team, together, 1))


@dataclass(frozen=True, eq=False)
class Schedule:
    """The stages of a kernel, in the order in which they run."""

    stages: tuple[Stage, ...]

    @property
    def spreads(self) -> bool:
        """Whether blocks may share items: the kernel then has scratch memory, an argument after its buffers."""
        return any(stage.spread is not None or stage.kept for stage in self.stages)

    def is_better_apart(self, parameters: Sequence[int], multiprocessors: int) -> bool:
        """Whether items are so few and long that the schedule with their loops ``apart`` should be quicker."""
        return any(stage.is_better_apart(parameters, multiprocessors) for stage in self.stages)

    def scratch(self, parameters: Sequence[int], multiprocessors: int) -> int:
        """The bytes of scratch memory of a launch."""
        return max([stage.scratch(parameters, multiprocessors) for stage in self.stages], default=0)


def schedule(kernel: Kernel, apart: bool = False) -> Schedule:
    """Cut a finished kernel into stages and choose their forms.

    ``apart``: for sizes of which the ordinary schedule says `is_better_apart`; loops of an item are stages then.
    """
    if kernel.local:
        split = _outermost(kernel.body)
        pairs = {loop: inner for loop in split if (inner := _inner(loop)) is not None}
        return Schedule((Stage("team", (), kernel.body, frozenset(split), pairs, steps=True),))
    stages: list[Stage] = []
    for part in _parts(merged(kernel.body)):
        bodies, words = _phases(part, apart)
        for body in bodies:
            made = replace(_stage(body), kept=words)
            if made.spread is None:
                stages.append(made)
                continue
            spread = replace(made.spread, before=words)
            made = replace(made, spread=spread)
            stages += _resuming(made, spread) if made.scans else (made, _gathering(made, spread))
    return Schedule(tuple(stages))


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
    for loop in reversed([*around, *[replace(loop, kind=LoopKind.PARALLEL) for loop in chain]]):
        body = (replace(loop, body=body),)
    return body


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


def _stage(part: tuple[Statement, ...]) -> Stage:
    if (scatter := scatter_of(part)) is not None:
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
        if not column:
            packs = _packs([*[pairs.get(loop, loop) for loop in split], *scanned])
        elif scans or spread is None or spread.loop in pairs:
            packs = {}
        else:
            wide = packs_of_columns(spread.loop, chain[-1], body[: body.index(spread.loop)])
            packs = {} if wide is None else {chain[-1]: wide}
        fans = bool(chain) and not column and _are_apart(body, split)
        return Stage(
            "team", chain, body, frozenset(split), pairs, tuple(scans), packs, column, fans=fans, spread=spread
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


def _are_steps(loop: For) -> bool:
    """Whether a loop has a state in registers: its iterations follow each other."""
    return any(isinstance(s, Assign) for s in loop.body)


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


__all__ = ["Schedule", "Stage", "schedule"]
