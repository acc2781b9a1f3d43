"""Which kernel computes a product: tiles, and an estimate of what each would cost on the device at hand.

The estimate counts cycles of one multiprocessor: multiplications at the rate that a tile reaches, or bytes brought
from the second-level cache where those take longer, for as many tiles as the busiest multiprocessor gets. It has to
rank tiles, not to foretell times.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, NamedTuple

from symtensor_codegen.cuda.matmul_kernels import SHARED_LIMIT, Element, Tile

__all__ = ["Choice", "choose", "tiles"]

# For float32; other types take as many bytes a stage, so fewer terms. Small tiles have slices: there are few of them.
_SMALL: Final = (
    Tile(16, 16, 4, 4, 16, 64, 4),
    Tile(16, 32, 4, 4, 8, 64, 3),
    Tile(16, 32, 4, 8, 16, 64, 3),
    Tile(32, 32, 4, 4, 4, 32, 4),
    Tile(32, 32, 8, 4, 8, 32, 4),
    Tile(64, 32, 8, 4, 4, 32, 3),
    Tile(32, 64, 8, 8, 4, 32, 3),
)
_LARGE: Final = (Tile(64, 64, 8, 8, 2, 16, 4), Tile(128, 128, 8, 8, 1, 8, 4))
_LARGE_WIDE: Final = (Tile(64, 64, 4, 4, 1, 16, 4),)
_MOST_REGISTERS: Final = 256  # bytes of sums in a thread
_TENSOR_CORES: Final = {
    "tf32": (Tile(32, 32, 32, 32, 4, 32, 4), Tile(64, 64, 32, 32, 1, 32, 2), Tile(128, 128, 64, 32, 1, 16, 2)),
    "half": (Tile(32, 32, 32, 32, 4, 64, 2), Tile(64, 64, 32, 32, 1, 32, 2), Tile(128, 128, 64, 32, 1, 16, 2)),
}

# Cycles, and bytes or multiplications a cycle.
_ARITHMETIC: Final = 128.0
_TENSOR_ARITHMETIC: Final = 1024.0
_BYTES: Final = 48.0
_STAGE: Final = 60.0  # what a block waits for in a stage: a barrier, and the first elements
_OVERHEAD: Final = 120.0  # what the multiprocessor does in a block's stage beside multiplications
_LAUNCH: Final = 2500.0  # the second kernel of a split product
_FEWEST_STAGES: Final = 8  # that each part of a split product has
_SCRATCH_LIMIT: Final = 64 << 20
_MOST_TERMS: Final = 1 << 30  # of one block, which counts them in 32 bits


class Choice(NamedTuple):
    """A tile, and among how many blocks k is split; the estimate in cycles, and scratch memory in bytes."""

    tile: Tile
    splits: int
    cycles: float
    scratch: int


@functools.cache
def tiles(element: Element, precision: str) -> tuple[Tile, ...]:
    """All tiles for an element type."""
    if precision != "float32":
        return _TENSOR_CORES["tf32" if precision == "tf32" else "half"]
    every = _SMALL + (_LARGE if element.size == 4 else _LARGE_WIDE)
    most = _MOST_REGISTERS // element.size
    return tuple(_fitted(tile, element) for tile in every if tile.thread_rows * tile.thread_columns <= most)


def _fitted(tile: Tile, element: Element) -> Tile:
    depth, slices = tile.depth * 4 // element.size, tile.slices
    while slices > 1 and slices * tile.rows * tile.columns * element.size > SHARED_LIMIT:
        slices //= 2
    return replace(tile, depth=depth, slices=slices)


@functools.lru_cache(1024)
def choose(element: Element, precision: str, m: int, n: int, k: int, batch: int, multiprocessors: int) -> Choice:
    """The tile, and the number of splits, that should be fastest."""
    choices = []
    fewest = max(-(-k // _MOST_TERMS), 1)
    for tile in tiles(element, precision):
        blocks = -(-m // tile.rows) * -(-n // tile.columns) * batch
        stages = -(-k // tile.depth)
        most = min(stages // _FEWEST_STAGES, _SCRATCH_LIMIT // max(m * n * batch * element.size, 1))
        splits = {fewest} | {max(fewest, min(rounds * multiprocessors // blocks, most)) for rounds in (1, 2, 4)}
        choices += [
            _estimate(element, precision, tile, m, n, batch, blocks, stages, number, multiprocessors)
            for number in sorted(splits)
        ]
    return min(choices, key=lambda choice: choice.cycles)


def _estimate(
    element: Element, precision: str, tile: Tile, m: int, n: int, batch: int, blocks: int, stages: int, splits: int,
    multiprocessors: int,
) -> Choice:  # fmt: skip
    own = -(-stages // splits)
    multiplications = tile.rows * tile.columns * tile.depth * own
    if precision == "float32":
        # A warp's cycles for one term: multiplications on all schedulers, and reads, two for each 16 bytes.
        factor = (4 if element.is_complex else 1) * (2 if element.real == "f64" else 1)
        arithmetic = tile.thread_rows * tile.thread_columns * factor / 4
        reads = 2 * (tile.thread_rows + tile.thread_columns) / element.lanes
        rate = _ARITHMETIC / factor * arithmetic / (arithmetic + 0.6 * reads)
    else:
        rate = _TENSOR_ARITHMETIC * (0.3 if tile.rows < 64 else 0.5)
    traffic = (tile.rows + tile.columns) * tile.depth * own * element.size
    busiest = -(-blocks * splits // multiprocessors)
    cycles = busiest * max(multiplications / rate + own * _OVERHEAD, traffic / _BYTES) + own * _STAGE
    scratch = 0
    if splits > 1:
        scratch = splits * m * n * batch * element.size
        cycles += _LAUNCH + 2 * scratch / (_BYTES * multiprocessors)
    return Choice(tile, splits, cycles, scratch)
