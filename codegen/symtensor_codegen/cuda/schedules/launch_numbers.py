"""Numbers of a launch: extents from its parameters, and grids and blocks of the simple forms."""

import math
from collections.abc import Sequence

import numpy as np

from symtensor_codegen.expr import topological
from symtensor_codegen.loops import For, Statement
from symtensor_codegen.scalar import Dim, Scalar, const_op, symbol_op

Shape = tuple[tuple[int, int, int], tuple[int, int, int]]

MAP_THREADS = 256
UNKNOWN = 1 << 14  # iterations of a loop whose extent is not known at launch
SHARED_LIMIT = 48 << 10  # bytes of shared memory that a block may declare
LARGEST_GRID = (1 << 31) - 1  # blocks along x
WIDEST = 65535  # blocks along y and z
DEEPEST = 64  # threads along z
LARGEST_TEAM = 512  # threads of a block that is one team
RESIDENT = 2048  # threads that a multiprocessor holds
MOST_PARTS = 512  # blocks that share the loop of an item
A_THREADS_WORK = 16  # iterations of a thread where there are threads enough
MOST_OWNERS = 1 << 13


def number(value: Dim, parameters: Sequence[int]) -> int | None:
    """A value that is known at launch; None for others."""
    if isinstance(value, int):
        return value
    known: dict[Scalar, int] = {}
    for node in topological([value], lambda n: n.args):
        if node.op is const_op:
            known[node] = int(node.param)
        elif node.op is symbol_op and node.param[0] == "parameter":
            known[node] = parameters[node.param[1]]
        elif node.args and all(a in known for a in node.args) and node.op.numpy is not None:
            with np.errstate(all="ignore"):
                known[node] = int(node.op.numpy(*[np.int64(known[a]) for a in node.args]))
        else:
            return None
    return known[value]


def size_of(value: Dim, parameters: Sequence[int]) -> int:
    """The same; a guess for what is not known at launch."""
    found = number(value, parameters)
    return UNKNOWN if found is None else found


def iterations(loop: For, parameters: Sequence[int]) -> int:
    """The iterations of a nest."""
    inner = max([iterations(s, parameters) for s in loop.body if isinstance(s, For)], default=1)
    return max(size_of(loop.extent, parameters), 0) * inner


def power_of_two(value: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << max(value - 1, 0).bit_length()


def map_shape(threads: int) -> Shape:
    """A thread for each pack: blocks that follow each other hide latency better than loops inside of threads."""
    block = min(MAP_THREADS, max(power_of_two(threads), 32))
    return ((min(-(-threads // block), LARGEST_GRID), 1, 1), (block, 1, 1))


def nest_shape(sizes: Sequence[int], resident: int) -> Shape:
    """Axes for the innermost loop, for the next, and for the others together; blocks have neighbouring items.

    Sizes of blocks need not be powers of two: three items leave no fourth thread idle.
    """
    *others, y, x = sizes
    z = math.prod(others)
    across = _evenly(x, MAP_THREADS)
    down = _evenly(y, MAP_THREADS // across)
    deep = _evenly(z, min(MAP_THREADS // (across * down), DEEPEST))
    most = (min(max(resident // MAP_THREADS * 4, 1), LARGEST_GRID), WIDEST, WIDEST)
    grid = [min(-(-n // block), limit) for n, block, limit in zip((x, y, z), (across, down, deep), most, strict=True)]
    return (grid[0], grid[1], grid[2]), (across, down, deep)


def _evenly(count: int, most: int) -> int:
    """The threads of a block along an axis: all of it where there is room, else pieces of about one length."""
    if count <= most:
        return count
    each = -(-count // -(-count // most))
    return -(-each // 32) * 32 if each > 96 else each  # whole warps where they are many


def owned_shape(body: Sequence[Statement], parameters: Sequence[int]) -> Shape:
    """Threads that all run everything: so many that each has something to store."""
    work = max([iterations(s, parameters) for s in body if isinstance(s, For)], default=1)
    threads = min(power_of_two(max(work // 4, 1)), MOST_OWNERS)
    block = min(threads, 128)
    return ((threads // block, 1, 1), (block, 1, 1))


# Running combinations ---------------------------------------------------------------------------------------------


def running_team(items: int, resident: int) -> int:
    """Threads for an item, so that all items have theirs at once: registers are enough for half of ``resident``."""
    return power_of_two(max(resident // 2 // max(items, 1), 1) + 1) // 2


def running_columns(items: int, work: int, resident: int) -> Shape:
    """Threads above each other share the loop of an item where there are fewer items than threads.

    Each of them looks at what all of its team have, so teams are small.
    """
    across = min(32, power_of_two(items))
    down = min(power_of_two(max(work // 8, 1)), LARGEST_TEAM // across, running_team(items, resident), 32)
    while across * down < 128 and across < items:
        across *= 2
    return ((min(-(-items // across), 1 << 20), 1, 1), (across, down, 1))


def running_parts(work: int, team: int, threads: int, resident: int) -> int:
    """How many blocks share the loop of an item, if ``threads`` are busy with one block for each.

    The loop is read twice then, and there is one more launch: too few iterations for four parts are not worth that.
    """
    most = work // (team * A_THREADS_WORK)
    return max(min(most, resident // 2 // max(threads, 1), MOST_PARTS), 1) if most >= 4 else 1
