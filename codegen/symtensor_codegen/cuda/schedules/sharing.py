"""Items that several blocks share: which loops they may be, and what blocks leave for each other in scratch memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda.schedules.dependence import Scan, nodes_in, nodes_of, touched
from symtensor_codegen.dtypes import DType
from symtensor_codegen.loops import ArgUpdate, Check, Declare, For, Leave, Statement, Store, Update, statements
from symtensor_codegen.scalar import Buffer, Register, Scalar, as_int, checked_op, load_op, register_op
from symtensor_codegen.substitution import product

SCRATCH = Buffer("scratch", dtypes.uint64, (0,))
"""Where the parts of items are left, as 8 bytes each: parts of all items one after the other, for each register."""
PARTS = scalar.symbol(("parts",))
"""How many blocks share an item."""
BLOCK = scalar.symbol(("block",))
"""Which of the blocks that share an item this is."""


@dataclass(frozen=True, eq=False)
class Spread:
    """A loop of an item that several blocks may share, and what it combines: registers with their ways, and extremes.

    ``running``: the loop is that of a running combination without its stores. Blocks leave their parts in one launch,
    and run the whole loop in the next, each from what the parts before its own come to. ``before``: words of each item
    in scratch memory before all parts.
    """

    loop: For
    combined: tuple[tuple[Register, str], ...]
    extremes: tuple[ArgUpdate, ...] = ()
    running: bool = False
    before: int = 0

    @property
    def words(self) -> int:
        """How many words a block leaves for each item."""
        return len(self.combined) + 2 * len(self.extremes)

    def place(self, chain: Sequence[For], word: int, part: Scalar) -> Scalar:
        """Where a word of a part of an item is in the scratch memory."""
        items = as_int(product([loop.extent for loop in chain]))
        return (as_int(word) * PARTS + part + self.before) * items + item_number(chain)


def spread_of(chain: Sequence[For], body: Sequence[Statement], split: Sequence[For]) -> Spread | None:
    """The one loop of items that several blocks may share: it only combines registers, and what follows is short."""
    loops = [s for s in body if isinstance(s, For)]
    if not chain or len(loops) != 1 or loops[0] not in split or as_int(loops[0].extent).free:
        return None
    loop = loops[0]
    if any(isinstance(s, (Store, Check)) for s in statements(loop.body)):
        return None
    if any(n.op is checked_op for n in nodes_of(loop.body)) or any(isinstance(s, Leave) for s in body):
        return None
    facts = touched(loop.body)
    extremes = tuple(s for s in statements(loop.body) if isinstance(s, ArgUpdate))
    placed = {register for s in extremes for register in (s.best, s.place)}
    combined = [(register, next(iter(ways))) for register, ways in facts.registers.items() if register not in placed]
    return Spread(loop, tuple(combined), extremes) if facts.registers else None


def running_share(body: Sequence[Statement], scans: Sequence[tuple[For, Scan]]) -> Spread | None:
    """The running combination that several blocks may share: it is the only loop, and nothing else meets its memory.

    Every block runs what stands before the loop, and the last one what stands behind it. An index from data is checked
    twice: that leaves the same word.
    """
    loops = [s for s in body if isinstance(s, For)]
    if len(scans) != 1 or len(loops) != 1 or scans[0][0] is not loops[0]:
        return None
    (loop,) = loops
    extent = as_int(loop.extent)
    if extent.free or any(n.op in (register_op, load_op) for n in nodes_in(extent)):
        return None  # how many blocks it is worth is decided at launch
    at = body.index(loop)
    if not all(isinstance(s, Declare) for s in body[:at]) or any(isinstance(s, Leave) for s in body[at:]):
        return None
    own, others = touched([loop]), touched([*body[:at], *body[at + 1 :]])
    if (others.reads | others.writes) & own.writes or others.writes & own.reads:
        return None
    updates = scans[0][1].updates
    combining = For(loop.index, loop.extent, updates)
    return Spread(combining, tuple((u.register, u.combine) for u in updates), running=True)


def gathering(spread: Spread, chain: Sequence[For], parts: Scalar) -> For:
    """The loop that combines the first ``parts`` parts of an item."""
    part = scalar.index("part", parts)

    def left(word: int, dtype: DType) -> Scalar:
        return from_bits(scalar.load(SCRATCH, (spread.place(chain, word, part),)), dtype)

    updates: list[Statement] = [Update(r, way, left(k, r.dtype)) for k, (r, way) in enumerate(spread.combined)]
    for k, extreme in enumerate(spread.extremes):
        word = len(spread.combined) + 2 * k
        best, place = left(word, extreme.best.dtype), left(word + 1, dtypes.int64)
        updates.append(ArgUpdate(extreme.best, extreme.place, extreme.combine, best, place))
    return For(part, parts, tuple(updates))


def item_number(chain: Sequence[For]) -> Scalar:
    """The position of an item among all."""
    number = as_int(0)
    for loop in chain:
        number = number * as_int(loop.extent) + loop.index
    return number


def as_bits(value: Scalar) -> Scalar:
    """A value as a word of 8 bytes."""
    dtype = value.dtype
    if dtype.is_float:
        return scalar.cast(scalar.bitcast(value, dtypes.BY_NAME[f"uint{dtype.bits}"]), dtypes.uint64)
    return scalar.cast(value, dtypes.uint64)


def from_bits(word: Scalar, dtype: DType) -> Scalar:
    """The value of a word."""
    if dtype.is_float:
        return scalar.bitcast(scalar.cast(word, dtypes.BY_NAME[f"uint{dtype.bits}"]), dtype)
    return scalar.cast(word, dtype)
