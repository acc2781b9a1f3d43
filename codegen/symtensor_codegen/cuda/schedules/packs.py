"""Loops whose neighbouring iterations read and write neighbouring elements: a thread takes several at once.

An access of 16 bytes costs about as much as one of 4. A loop can use such *packs* where every element it touches
moves on by one from an iteration to the next, or stays. Random words come in packs too, whether or not memory does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from symtensor_codegen.cuda.schedules.dependence import nodes_of, registers_in, touched
from symtensor_codegen.cuda.schedules.draws import draws_of, in_block, is_draw
from symtensor_codegen.cuda.schedules.launch_numbers import LARGEST_TEAM, SHARED_LIMIT
from symtensor_codegen.cuda.text.operations import FUNCTIONS, is_expanded
from symtensor_codegen.loops import ArgUpdate, Check, Declare, For, Statement, Store, Update
from symtensor_codegen.scalar import Buffer, Scalar, as_int, checked_op, guarded_op, load_op
from symtensor_codegen.substitution import stride, substitute

VECTOR_BYTES = 16
MOST_BYTES = 32  # of a pack
MANY = 40  # operations of a long iteration
BATCH = 4  # packs on their way to a thread of a loop that only reads
MOST_COLUMNS = 4  # of a thread
READS = 8  # the same where it reads element by element
_LONG = FUNCTIONS - {"abs", "fabs", "floor", "ceil", "trunc", "rint", "fma", "min", "max", "sqrt"}


@dataclass(frozen=True, eq=False)
class Packs:
    """What a loop reads and writes in packs of ``width`` elements: buffers and places, which depend on its index.

    ``draws``: the random words of which each iteration takes the next. ``heavy``: an iteration is long, with
    mathematical functions in it.
    """

    width: int
    loads: tuple[tuple[Buffer, Scalar], ...]
    stores: tuple[tuple[Buffer, Scalar], ...]
    draws: tuple[Scalar, ...]
    heavy: bool

    @property
    def light(self) -> bool:
        """Whether iterations do little more than read one array."""
        return not self.heavy and len(self.loads) == 1 and not self.stores

    def ahead(self, arrays: int) -> int:
        """How many packs of each of so many arrays are loaded before the first is used."""
        return 1 if self.heavy else max(BATCH // max(arrays, 1), 1)

    def bases(self, index: Scalar) -> list[tuple[Buffer, Scalar]]:
        """Where the elements of iteration 0 are."""
        places = dict.fromkeys((*self.loads, *self.stores))
        return list(dict.fromkeys((buffer, substitute(place, {index: as_int(0)})) for buffer, place in places))


def packs_of(loop: For, body: Sequence[Statement]) -> Packs | None:
    """How a loop uses packs; None where it cannot."""
    if any(isinstance(s, (For, Check)) or (isinstance(s, Store) and (s.where is not None or s.combine)) for s in body):
        return None
    facts = touched(body)
    stores = dict.fromkeys((s.buffer, s.index[0]) for s in body if isinstance(s, Store))
    loads: dict[tuple[Buffer, Scalar], None] = {}
    for node in nodes_of(body):
        if loop.index not in node.free:
            continue
        if node.op is checked_op or node.op is guarded_op:
            return None
        if node.op is load_op:
            loads[node.param, node.args[0]] = None
    if facts.reads & facts.writes or len({buffer for buffer, _ in stores}) < len(stores):
        return None
    if any(stride(place, loop.index) != 1 for _, place in (*loads, *stores)):
        return None
    draws = draws_of(loop.index, body)
    width = in_block(draws)
    if sizes := [buffer.dtype.itemsize for buffer, _ in (*loads, *stores)]:
        width = min(width, MOST_BYTES // max(sizes))
        width = max(width, min(VECTOR_BYTES // min(sizes), 4 if max(sizes) >= 4 else 8))
    if width < 2:
        return None
    return Packs(width, tuple(loads), tuple(stores), draws, is_heavy(body))


def packs_of_columns(loop: For, column: For, before: Sequence[Statement]) -> Packs | None:
    """How a loop that combines columns reads several neighbours at once; None where it cannot.

    ``before`` are the statements of a column before the loop.
    """
    packs = packs_of(replace(column, body=loop.body), loop.body)
    if packs is None or packs.stores or any(isinstance(s, ArgUpdate) for s in loop.body):
        return None
    if not all(isinstance(s, (Declare, Update)) for s in before):
        return None
    moving = tuple((buffer, place) for buffer, place in packs.loads if loop.index in place.free)
    for _, place in moving:
        others = [node for node in place.free if node is not column.index]
        if any(stride(place, node) is None for node in others):
            return None
    kinds = {register.dtype for register in touched(loop.body).registers}
    width, each = min(packs.width, MOST_COLUMNS), LARGEST_TEAM * sum(max(kind.itemsize, 4) for kind in kinds)
    while each * (width + 1) > SHARED_LIMIT:  # for exchanges of packs, and of single columns beside them
        width //= 2
    if not moving or width < 2:
        return None
    draws = tuple(draw for draw in packs.draws if not registers_in(draw))
    return replace(packs, loads=moving, draws=draws, width=width)


def sole_load(loop: For, body: Sequence[Statement]) -> tuple[Buffer, Scalar] | None:
    """The buffer and place that an iteration reads, of a loop which does little more; None for others."""
    if any(isinstance(s, (For, Check, Store)) for s in body) or is_heavy(body):
        return None
    nodes = [node for node in nodes_of(body) if loop.index in node.free]
    loads = dict.fromkeys((node.param, node.args[0]) for node in nodes if node.op is load_op)
    if len(loads) != 1 or any(node.op is checked_op or node.op is guarded_op for node in nodes):
        return None
    return next(iter(loads))


def is_heavy(body: Sequence[Statement]) -> bool:
    """Whether an iteration is long, with mathematical functions in it."""
    nodes = nodes_of(body)
    return len(nodes) > MANY or any(_is_long(n) for n in nodes if is_operation(n))


def _is_long(node: Scalar) -> bool:
    return node.op.name in _LONG or is_draw(node) or is_expanded(node)


def is_operation(node: Scalar) -> bool:
    """Whether a node computes something of values."""
    return bool(node.args) and node.op is not load_op and node.op is not checked_op and node.op is not guarded_op
