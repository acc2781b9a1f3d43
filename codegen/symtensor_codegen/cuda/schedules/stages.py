"""What a launch is: how its iterations become blocks and threads.

A *stage* has *items*, the iterations of independent outer loops, and one of five forms:

- ``map``: a thread an item (several neighbours in one access of 16 bytes where memory is read in order);
- ``nest``: items on a grid of three axes, so that no index is divided in the inner loop;
- ``team``: threads share the loops inside an item, sums over them included; a team is a row of a block (2 to 32
  threads, or all of them), or a column where neighbouring items are neighbours in memory;
- ``scatter``: stores to places that are known only when they are reached; those to one place stay in order;
- ``owned``: what else has an order of its own. Every thread runs all of it, and stores only what it owns, so each
  element gets its values in order, whatever the number of threads.

Grids and teams are chosen for each launch, from its parameters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from symtensor_codegen.cuda.schedules.dependence import Scan
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
from symtensor_codegen.cuda.schedules.packs import Packs
from symtensor_codegen.cuda.schedules.scatters import BLOCKS, SCATTER_THREADS, Scatter, scatter_shape
from symtensor_codegen.cuda.schedules.sharing import Spread
from symtensor_codegen.cuda.schedules.tiles import LEAST_TILE, Tiles, tile_shape
from symtensor_codegen.loops import Assign, For, Statement
from symtensor_codegen.scalar import Dim
from symtensor_codegen.substitution import product

Form = Literal["map", "nest", "team", "scatter", "owned"]

WARP = 32
TEAM_THREADS = 128  # of a block of small teams
FIRST_CACHE = 192 << 10  # bytes that rows of a multiprocessor's blocks may have together
A_FEW = 4  # accesses of a thread from which on wide ones pay
LEAST_PART = 8  # iterations of a thread for which a block of its own is worth it
LONG = 1 << 16  # iterations of a block's loop beside which a few launches do not count
MANY_STEPS = 1 << 14  # of a scatter: if many of fewer have one target, that is no long chain


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
    ``full``: threads combine so much that the compiler has to look after registers. ``steps``: one block runs the
    steps of a loop, in memory of its own.
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
    full: bool = False
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
        return BLOCKS if self.form == "scatter" else 2 if self.scans else 1 if self.full else 0

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
                return "scatter, frequent targets" if self.scatter is not None and self.scatter.frequent else "scatter"
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
                    if sizes[-1] * sizes[across] >= LEAST_TILE:
                        return tile_shape(sizes[-1], sizes[across], math.prod(sizes[:-1]) // sizes[across], resident)
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
        """Whether another schedule suits sizes better than this one, which is that of most.

        That is so if a few blocks would run several loops, so long that launches which all blocks share are better; or
        if a scatter has so many steps that a target of many of them would keep one warp busy for long.
        """
        if self.scatter is not None:
            steps = size_of(self.scatter.steps, parameters)
            return steps >= MANY_STEPS and self.scatter.is_chain and not self.scatter.frequent
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


def _are_steps(loop: For) -> bool:
    """Whether a loop has a state in registers: its iterations follow each other."""
    return any(isinstance(s, Assign) for s in loop.body)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The stages of a kernel, in the order in which they run."""

    stages: tuple[Stage, ...]

    @property
    def spreads(self) -> bool:
        """Whether blocks may share items: the kernel then has scratch memory, an argument after its buffers."""
        return any(stage.spread is not None or stage.kept for stage in self.stages)

    def is_better_apart(self, parameters: Sequence[int], multiprocessors: int) -> bool:
        """Whether the schedule for few and long items should be quicker (``apart``, in ``schedule``)."""
        return any(stage.is_better_apart(parameters, multiprocessors) for stage in self.stages)

    def scratch(self, parameters: Sequence[int], multiprocessors: int) -> int:
        """The bytes of scratch memory of a launch."""
        return max([stage.scratch(parameters, multiprocessors) for stage in self.stages], default=0)


__all__ = ["Form", "Schedule", "Stage"]
