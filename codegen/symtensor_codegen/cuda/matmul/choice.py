"""Which kernel computes a product: tiles, and an estimate of what each would cost on the device at hand.

The estimate counts cycles (of 1.755 GHz) on an H100, where its constants were measured: stages of a block that has a
multiprocessor to itself wait for memory and for each other, those of several blocks share the arithmetic. It has to
rank tiles, and to tell what cuBLAS does better; other devices differ in the number of their multiprocessors.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, NamedTuple

from symtensor_codegen.cuda.matmul.kernels import memory_of
from symtensor_codegen.cuda.matmul.variants import Element, Tile, Variant
from symtensor_codegen.cuda.schedules.launch_numbers import SHARED_LIMIT

__all__ = ["Choice", "choose", "has_room", "library_cycles", "tiles"]


class _Cost(NamedTuple):
    """Cycles of a tile of float32: of a stage ``alone`` and of one among others, and of a block's begin and end."""

    alone: float
    busy: float
    block: float


# For float32; other types take as many bytes a stage, so fewer terms. Small tiles have slices: there are few of them.
_TILES: Final = {
    Tile(16, 16, 4, 4, 16, 64, 4): _Cost(330, 310, 600),
    Tile(16, 32, 4, 4, 8, 64, 3): _Cost(630, 490, 700),
    Tile(32, 32, 4, 4, 4, 32, 4): _Cost(560, 455, 550),
    Tile(64, 32, 8, 4, 4, 32, 3): _Cost(980, 770, 1200),
    Tile(64, 64, 8, 8, 2, 16, 4): _Cost(950, 790, 1600),
}
_WIDE_TILE: Final = {Tile(64, 64, 4, 4, 1, 16, 4): _Cost(950, 790, 1600)}
_TENSOR_CORES: Final = {
    "tf32": {
        Tile(32, 32, 32, 32, 4, 32, 4): _Cost(385, 310, 700),
        Tile(64, 64, 32, 32, 1, 32, 2): _Cost(860, 740, 1600),
        Tile(128, 128, 64, 32, 1, 16, 2): _Cost(1420, 700, 2500),
    },
    "half": {
        Tile(32, 32, 32, 32, 4, 64, 2): _Cost(700, 560, 800),
        Tile(64, 64, 32, 32, 1, 32, 2): _Cost(700, 600, 1600),
        Tile(128, 128, 64, 32, 1, 16, 2): _Cost(1700, 980, 2500),
    },
}
_MOST_REGISTERS: Final = 256  # bytes of sums in a thread

_BEGIN: Final = 3000.0  # of any kernel in a graph
_COMBINE: Final = 4900.0  # the second kernel of a split product
_EXCHANGE: Final = 900.0  # blocks of a cluster give each other their sums
_BYTES: Final = 20.0  # a cycle that a multiprocessor gets from the second-level cache while all ask
_FEWEST_STAGES: Final = 8  # that each part of a product split by a second kernel has
_CLUSTERS: Final = (2, 4, 8)
_SCRATCH_LIMIT: Final = 64 << 20
_MOST_TERMS: Final = 1 << 30  # of one block, which counts them in 32 bits

_LIBRARY_FROM: Final = {"d": 1 << 24, "c": 1 << 25, "z": 1 << 23}
"""Multiplications of other types from which on cuBLAS is used."""


class Choice(NamedTuple):
    """A tile, and among how many blocks k is split; the estimate in cycles, and scratch memory in bytes.

    Without scratch memory the blocks are a cluster. ``exact``: float32 arithmetic, although less precision would do.
    """

    tile: Tile
    splits: int
    cycles: float
    scratch: int
    exact: bool = False

    @property
    def cluster(self) -> int:
        """Blocks of a cluster."""
        return 1 if self.scratch else self.splits


@functools.cache
def tiles(element: Element, precision: str) -> tuple[Tile, ...]:
    """All tiles for an element type."""
    return tuple(tile for tile, _ in _costs(element, precision))


@functools.cache
def _costs(element: Element, precision: str) -> tuple[tuple[Tile, _Cost], ...]:
    if precision != "float32":
        return tuple(_TENSOR_CORES["tf32" if precision == "tf32" else "half"].items())
    every = _TILES | ({} if element.size == 4 else _WIDE_TILE)
    most = _MOST_REGISTERS // element.size
    # The same bytes a stage are fewer terms, of more expensive arithmetic.
    factor = (4 if element.is_complex else 1) * (2 if element.real == "f64" else 1) * 4 / element.size
    return tuple(
        (_fitted(tile, element), _Cost(cost.alone * factor, cost.busy * factor, cost.block))
        for tile, cost in every.items()
        if tile.thread_rows * tile.thread_columns <= most
    )


def _fitted(tile: Tile, element: Element) -> Tile:
    depth, slices = tile.depth * 4 // element.size, tile.slices
    while slices > 1 and slices * tile.rows * tile.columns * element.size > SHARED_LIMIT:
        slices //= 2
    return replace(tile, depth=depth, slices=slices)


@functools.cache
def has_room(element: Element, precision: str, tile: Tile) -> bool:
    """Whether the blocks of a cluster can exchange their sums, whichever way round the operands lie."""
    lanes = element.lanes
    return tile.slices > 1 and all(
        memory_of(Variant(element, tile, a, b, lanes, lanes, precision, cluster=2))[0] * element.size <= SHARED_LIMIT
        for a in (False, True)
        for b in (False, True)
    )


@functools.lru_cache(1024)
def choose(
    element: Element, precision: str, m: int, n: int, k: int, batch: int, multiprocessors: int, clusters: bool = False
) -> Choice:
    """The tile, and the number of splits, that should be fastest; ``clusters``: the device has them."""
    choices = []
    for kind in dict.fromkeys((precision, "float32")):
        for tile, cost in _costs(element, kind):
            blocks = -(-m // tile.rows) * -(-n // tile.columns) * batch
            stages = max(-(-k // tile.depth), 1)
            exact = kind != precision
            for splits, together in _splits(element, kind, tile, m * n * batch, k, blocks, multiprocessors, clusters):
                own = -(-stages // splits)
                each = -(-blocks * splits // multiprocessors)
                moved = (tile.rows + tile.columns) * tile.depth * element.size / _BYTES
                cycles = _BEGIN + max(own * cost.alone, each * own * max(cost.busy, moved)) + each * cost.block
                scratch = 0
                if splits > 1 and together:
                    cycles = 1.05 * cycles + _EXCHANGE + 100 * splits  # worth it only where it clearly gains
                elif splits > 1:
                    scratch = splits * m * n * batch * element.size
                    cycles += _COMBINE + 2 * scratch / (_BYTES * multiprocessors)
                choices.append(Choice(tile, splits, cycles, scratch, exact))
    return min(choices, key=lambda choice: choice.cycles)


def _splits(
    element: Element, precision: str, tile: Tile, results: int, k: int, blocks: int, multiprocessors: int,
    clusters: bool,
) -> list[tuple[int, bool]]:  # fmt: skip
    """Among how many blocks k may be split, and whether they are a cluster."""
    stages, fewest = -(-k // tile.depth), max(-(-k // _MOST_TERMS), 1)
    most = min(stages // _FEWEST_STAGES, _SCRATCH_LIMIT // max(results * element.size, 1))
    apart = {fewest} | {max(fewest, min(rounds * multiprocessors // blocks, most)) for rounds in (1, 2, 4)}
    found = [(splits, False) for splits in sorted(apart)]
    if clusters and fewest == 1 and has_room(element, precision, tile):
        found += [(splits, True) for splits in _CLUSTERS if splits <= stages]
    return found


def library_cycles(
    element: Element, precision: str, m: int, n: int, k: int, batch: int, multiprocessors: int
) -> float:  # fmt: skip
    """What cuBLAS should take."""
    work = m * n * k * batch
    if element.letter != "s":
        return 0.0 if work > _LIBRARY_FROM[element.letter] else float("inf")
    share = work / multiprocessors
    if precision == "float32":
        return 4600.0 + 26 * min(k, 256) + share / 95
    return 5600.0 + 6.2 * min(k, 800) + share / 680
