"""Random words in the lanes of a vector loop that reads them one after the other.

The value at an index of a draw is one word of a Philox block of four, so computing each lane by itself would be four
times the work. Where the lanes (of all copies of an unrolled loop) are neighbours in the stream, the blocks they come
from are computed side by side, one in each lane, and their words are put in order. A draw may begin inside a block:
then the words are turned by the rest, in a branch, with the first words of one more block.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from symtensor_codegen import dtypes
from symtensor_codegen.llvm.emission import Lanes, Level
from symtensor_codegen.llvm.operations import upper_half
from symtensor_codegen.llvm.types import iota, splat, typed
from symtensor_codegen.mathlib.philox import MULTIPLIERS, ROUNDS, WEYL
from symtensor_codegen.scalar import Scalar, philox32, philox64
from symtensor_codegen.substitution import stride

Put = Callable[[str], str]


def in_order(node: Scalar, lanes: Lanes | None) -> bool:
    """Whether the lanes of the open loop are neighbours in the stream that ``node`` draws from."""
    if lanes is None or lanes.width < 2 or (node.op is not philox64 and node.op is not philox32):
        return False
    if lanes.width * lanes.copies * node.dtype.itemsize < 64:  # two blocks
        return False
    return stride(node.args[5], lanes.index) == 1 and not any(lanes.index in part.free for part in node.args[:5])


def ordered(node: Scalar, lanes: Lanes, level: Level, before: Put, operands: Sequence[str]) -> tuple[str, ...]:
    """The vectors of words (or halves) of each copy.

    ``operands`` are the arguments of ``node``, the last being the offset of lane 0; ``before`` writes where the key is
    known, and ``level`` is where the loop runs.
    """
    first, second, stream, extra, start, offset = operands
    put = level.put
    count = lanes.width * lanes.copies
    halved = node.op is philox32
    blocks = count // (8 if halved else 4)
    if halved:
        start = put(f"shl i64 {start}, 1")
    place = put(f"add i64 {start}, {offset}")  # in words or halves
    counter = put(f"add i64 {put(f'lshr i64 {place}, {3 if halved else 2}')}, 1")
    whole = f"<{blocks * 4} x i64>"
    t = f"<{blocks} x i64>"
    spread = _Rounds(before, put, blocks)
    lane = put(f"add {t} {_repeated(put, counter, blocks)}, {iota(blocks, 64)}")
    a, b, c, d = spread.block((first, second), (lane, stream, extra))
    pairs = [_interleaved(put, t, x, y, blocks) for x, y in ((a, b), (c, d))]
    quads = ", ".join(f"i32 {k // 4 * 2 + k % 2 + (k % 4 // 2) * 2 * blocks}" for k in range(4 * blocks))
    words = put(f"shufflevector <{2 * blocks} x i64> {pairs[0]}, <{2 * blocks} x i64> {pairs[1]}, "
                f"<{4 * blocks} x i32> <{quads}>")  # fmt: skip
    one = typed(node.dtype, 1)
    t = f"<{count} x {one}>"
    if halved:
        words = put(f"bitcast {whole} {words} to {t}")
    rest = put(f"and i64 {place}, {7 if halved else 3}")
    turned = put(f"icmp ne i64 {rest}, 0")
    name = words[1:]
    origin = level.label
    level.jump(f"br i1 {turned}, label %turn.{name}, label %turned.{name}", f"turn.{name}")
    last = put(f"add i64 {counter}, {blocks}")
    more = _Rounds(before, put, 1).block((first, second), (last, stream, extra))
    result = _turned(put, words, more, rest, one, count)
    origin_after = level.label
    level.jump(f"br label %turned.{name}", f"turned.{name}")
    joined = put(f"phi {t} [ {words}, %{origin} ], [ {result}, %{origin_after} ]")
    if lanes.copies == 1:
        return (joined,)
    names = []
    for copy in range(lanes.copies):
        listed = ", ".join(f"i32 {copy * lanes.width + k}" for k in range(lanes.width))
        names.append(put(f"shufflevector {t} {joined}, {t} poison, <{lanes.width} x i32> <{listed}>"))
    return tuple(names)


def _repeated(put: Put, name: str, lanes: int) -> str:
    t = f"<{lanes} x i64>"
    one = put(f"insertelement {t} poison, i64 {name}, i32 0")
    return put(f"shufflevector {t} {one}, {t} poison, <{lanes} x i32> zeroinitializer")


def _interleaved(put: Put, t: str, x: str, y: str, lanes: int) -> str:
    listed = ", ".join(f"i32 {k // 2 + (k % 2) * lanes}" for k in range(2 * lanes))
    return put(f"shufflevector {t} {x}, {t} {y}, <{2 * lanes} x i32> <{listed}>")


def _turned(put: Put, words: str, more: Sequence[str], rest: str, one: str, count: int) -> str:
    """``words`` moved down by ``rest`` places, followed by what is in the block ``more``."""
    t = f"<{count} x {one}>"
    extra = "poison"
    for position, word in enumerate(more):
        extra = put(f"insertelement <4 x i64> {extra}, i64 {word}, i32 {position}")
    size = 4 if one == "i64" else 8
    if one != "i64":
        extra = put(f"bitcast <4 x i64> {extra} to <{size} x {one}>")
    listed = ", ".join(f"i32 {k}" if k < size else "i32 poison" for k in range(count))
    extra = put(f"shufflevector <{size} x {one}> {extra}, <{size} x {one}> poison, <{count} x i32> <{listed}>")
    step = 1
    while step < size:
        here = put(f"icmp ne i64 {put(f'and i64 {rest}, {step}')}, 0")
        listed = ", ".join(f"i32 {k}" for k in range(step, count + step))
        moved = put(f"shufflevector {t} {words}, {t} {extra}, <{count} x i32> <{listed}>")
        words = put(f"select i1 {here}, {t} {moved}, {t} {words}")
        listed = ", ".join(f"i32 {k + step}" if k + step < size else "i32 poison" for k in range(count))
        moved = put(f"shufflevector {t} {extra}, {t} poison, <{count} x i32> <{listed}>")
        extra = put(f"select i1 {here}, {t} {moved}, {t} {extra}")
        step *= 2
    return words


class _Part(NamedTuple):
    """A word that is the same in all lanes and written before the loop, or one that is not."""

    name: str
    varies: bool


class _Rounds:
    """Writes the rounds for one block (as plain words) or for several side by side (as vectors)."""

    def __init__(self, before: Put, put: Put, lanes: int) -> None:
        self.before, self.put, self.lanes = before, put, lanes
        self.type = "i64" if lanes == 1 else typed(dtypes.uint64, lanes)

    def block(self, key: tuple[str, str], counter: tuple[str, str, str]) -> list[str]:
        """The four words of the blocks with the counters ``(counter[0], 0, counter[1], counter[2])``."""
        a, b, c, d = (_Part(name, k == 0) for k, name in enumerate((counter[0], "0", *counter[1:])))
        for turn in range(ROUNDS):
            k, j = (self._key(name, turn * weyl % 2**64) for name, weyl in zip(key, WEYL, strict=True))
            high_c, low_c = self._product(c, MULTIPLIERS[1])
            high_a, low_a = self._product(a, MULTIPLIERS[0])
            a, b, c, d = self._xor(high_c, b, k), low_c, self._xor(high_a, d, j), low_a
        return [part.name for part in (a, b, c, d)]

    def _key(self, name: str, step: int) -> _Part:
        return _Part(self.before(f"add i64 {name}, {_signed(step)}"), False)

    def _product(self, part: _Part, factor: int) -> tuple[_Part, _Part]:
        number = _signed(factor)
        if not part.varies or self.lanes == 1:
            put = self.put if part.varies else self.before
            wide = put(f"mul i128 {put(f'zext i64 {part.name} to i128')}, {factor}")
            high = put(f"trunc i128 {put(f'lshr i128 {wide}, 64')} to i64")
            return _Part(high, part.varies), _Part(put(f"mul i64 {part.name}, {number}"), part.varies)
        low, high = (splat(str(half), dtypes.uint64) for half in (factor & 0xFFFFFFFF, factor >> 32))
        upper = upper_half(self.put, self.type, part.name, low, high)
        lower = self.put(f"mul {self.type} {part.name}, {splat(number, dtypes.uint64)}")
        return _Part(upper, True), _Part(lower, True)

    def _xor(self, *parts: _Part) -> _Part:
        same = [part.name for part in parts if not part.varies]
        name = same[0] if same else ""
        for other in same[1:]:
            name = self.before(f"xor i64 {name}, {other}")
        varying = [part.name for part in parts if part.varies]
        if not varying:
            return _Part(name, False)
        if same:
            varying.append(name if self.lanes == 1 else _repeated(self.before, name, self.lanes))
        result = varying[0]
        for other in varying[1:]:
            result = self.put(f"xor {self.type} {result}, {other}")
        return _Part(result, True)


def _signed(word: int) -> str:
    """A word as LLVM writes it: in decimals, with a sign."""
    return str(word - 2**64 if word >= 2**63 else word)
