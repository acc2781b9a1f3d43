"""Elementwise loops that read some arrays across their rows: a transposition, alone or with other work.

A block takes a tile of items. It reads what the tile needs of such an array along the array's rows, into shared memory,
and goes through the tile along the rows of what it writes: neighbouring threads meet neighbouring elements each time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from symtensor_codegen.cuda.schedules.dependence import nodes_of, stores_of, touched
from symtensor_codegen.cuda.schedules.launch_numbers import LARGEST_GRID, WIDEST, Shape, power_of_two
from symtensor_codegen.loops import Declare, For, Statement, Store
from symtensor_codegen.scalar import Buffer, Scalar, checked_op, guarded_op, load_op
from symtensor_codegen.substitution import stride

THREADS = 256
ROUNDS = 4  # items of a thread, as many elements of each array on their way
ITEMS = THREADS * ROUNDS
SHORTEST, SIDE = 4, 32  # a side of a tile: the least, and the usual
PLACES = ITEMS + ITEMS // SHORTEST  # elements of shared memory: each line of a tile has one more than is used
LEAST_TILE = ITEMS // 2  # items along both loops: there is nothing to gain where a cache holds what is read across rows
MOST_BYTES = 40 << 10  # of shared memory


@dataclass(frozen=True, eq=False)
class Tiles:
    """``across``: the loop along which ``loads`` (buffers and places) have their rows; others, along the last loop."""

    across: For
    loads: tuple[tuple[Buffer, Scalar], ...]


def tiles_of(chain: Sequence[For], body: Sequence[Statement]) -> Tiles | None:
    """What the innermost loop of a nest reads across rows; None where that is nothing, or cannot be read early."""
    *outer, last = chain
    if not all(isinstance(s, (Declare, Store)) for s in body):
        return None
    if any(s.where is not None or s.combine is not None for s in stores_of(body)):
        return None
    if any(stride(store.index[0], last.index) != 1 for store in stores_of(body)):
        return None
    written = touched(body).writes
    found: dict[tuple[Buffer, Scalar], For] = {}
    for node in nodes_of(body):
        if node.op is checked_op or node.op is guarded_op:
            return None
        if node.op is load_op and node.param not in written and stride(node.args[0], last.index) not in (0, 1, None):
            across = next((loop for loop in outer if stride(node.args[0], loop.index) == 1), None)
            if across is not None:
                found[node.param, node.args[0]] = across
    if not found:
        return None
    ((across, _),) = Counter(found.values()).most_common(1)
    loads = [load for load, loop in found.items() if loop is across]
    while sum(buffer.dtype.itemsize for buffer, _ in loads) * PLACES > MOST_BYTES:
        loads.pop()
    return Tiles(across, tuple(loads))


def tile_shape(along: int, across: int, others: int, resident: int) -> Shape:
    """Grid and block for so many items along the last loop, across, and in the other loops.

    ``blockDim.x`` is the side of a tile along the last loop; the other is ``ITEMS`` divided by it.
    """
    side = ITEMS // min(max(power_of_two(across), SHORTEST), SIDE)
    side = min(side, max(power_of_two(along), SHORTEST))
    blocks = min(-(-along // side), max(resident // THREADS * 4, 1), LARGEST_GRID)
    return (blocks, min(-(-across // (ITEMS // side)), WIDEST), min(others, WIDEST)), (side, THREADS // side, 1)
