"""Philox4x64-10: random words as a function of a key and a counter.

J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A block of four
words of 64 bits is ten rounds of multiplication and exclusive or of a counter of four words under a key of two.
The blocks are those of ``numpy.random.Philox``: word number ``n`` of a stream is word ``n % 4`` of the block with
the counter ``(1 + n // 4, 0, stream, extra)``. NumPy's ``jumped(k)`` is stream k; it does not use other values of
``extra`` than 0, which are for operations that may need more words for one element.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.scalar import Scalar, bit_and, cast, const, mulhi, select, shr

MULTIPLIERS: Final = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL: Final = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS: Final = 10


def _rounds(key: tuple[Any, Any], counter: tuple[Any, Any, Any, Any], number: Callable[[int], Any], high: Any) -> Any:
    """The block for a counter, with ``number`` for constants and ``high`` for the upper half of a product."""
    a, b, c, d = counter
    first, second = (number(m) for m in MULTIPLIERS)
    for turn in range(ROUNDS):
        k, j = (key[n] + number(turn * WEYL[n] % 2**64) for n in (0, 1))
        a, b, c, d = high(c, second) ^ b ^ k, c * second, high(a, first) ^ d ^ j, a * first
    return a, b, c, d


def block(key: tuple[Scalar, Scalar], counter: tuple[Scalar, Scalar, Scalar, Scalar]) -> tuple[Scalar, ...]:
    """The four words of the block with a counter."""
    found: tuple[Scalar, ...] = _rounds(key, counter, _word, mulhi)
    return found


def _word(value: int) -> Scalar:
    return const(value, dtypes.uint64)


def philox64(first: Scalar, second: Scalar, stream: Scalar, extra: Scalar, start: Scalar, offset: Scalar) -> Scalar:
    """Word number ``start + offset`` of a stream under the key (first, second)."""
    number = start + cast(offset, dtypes.uint64)
    counter = shr(number, _word(2)) + _word(1), _word(0), stream, extra
    words = block((first, second), counter)
    lane = bit_and(number, _word(3))
    low = select(lane < _word(1), words[0], words[1])
    return select(lane < _word(2), low, select(lane < _word(3), words[2], words[3]))


def philox32(first: Scalar, second: Scalar, stream: Scalar, extra: Scalar, start: Scalar, offset: Scalar) -> Scalar:
    """Half number ``offset``, counted from word ``start`` on, the lower half of each word first."""
    word = philox64(first, second, stream, extra, start, shr(offset, const(1, dtypes.int64)))
    upper = (offset & const(1, dtypes.int64)) > const(0, dtypes.int64)
    return cast(select(upper, shr(word, _word(32)), word), dtypes.uint32)


# In NumPy -------------------------------------------------------------------------------------------------


def upper_half(a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of words, as arrays."""
    a, b = np.asarray(a, np.uint64), np.asarray(b, np.uint64)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    with np.errstate(over="ignore"):
        middle = (a >> half) * (b & low) + ((a & low) * (b & low) >> half)
        other = (a & low) * (b >> half) + (middle & low)
        return (a >> half) * (b >> half) + (middle >> half) + (other >> half)


def words_of(first: Any, second: Any, stream: Any, extra: Any, start: Any, offset: Any) -> Any:
    """As ``philox64``, of arrays."""
    parts = [np.asarray(part, np.uint64) for part in (first, second, stream, extra)]
    with np.errstate(over="ignore"):
        number = np.asarray(start, np.uint64) + np.asarray(offset).astype(np.uint64)
        counter = (number >> np.uint64(2)) + np.uint64(1), np.uint64(0), parts[2], parts[3]
        words = np.broadcast_arrays(*_rounds((parts[0], parts[1]), counter, np.uint64, upper_half))
    return np.choose((number & np.uint64(3)).astype(np.intp), words)


def halves_of(first: Any, second: Any, stream: Any, extra: Any, start: Any, offset: Any) -> Any:
    """As ``philox32``, of arrays."""
    offset = np.asarray(offset)
    words = words_of(first, second, stream, extra, start, offset >> 1)
    shifted = np.where(offset & 1, words >> np.uint64(32), words & np.uint64(0xFFFFFFFF))
    return shifted.astype(np.uint32)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function for function in (philox64, philox32)
}
