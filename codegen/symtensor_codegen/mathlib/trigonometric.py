"""Sine, cosine and tangent, exact to the last places for every argument.

Up to ``REDUCTION_END`` the multiple of pi/2 is taken off in three parts through ``fma`` (W. Cody and W.
Waite), kept as a number and its correction. Beyond, the product with 2/pi is formed in integers from the
few hundred bits of 2/pi that matter (M. Payne and R. Hanek, 1983); that part is wrapped in ``rarely``,
which backends may skip where no lane needs it. Both end in the same two minimax polynomials on [-pi/4,
pi/4].
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.formats import FORMATS, Format, polynomial, quick_two_sum, two_product, two_sum
from symtensor_codegen.scalar import (
    Scalar,
    abs_,
    bit_and,
    bit_or,
    bit_xor,
    bitcast,
    cast,
    const,
    eq,
    fma,
    gt,
    lt,
    ne,
    rarely,
    select,
    shl,
    shr,
)

Reduced = tuple[Scalar, Scalar, Scalar]  # the angle, its correction, and the quadrant as an integer (modulo 4)


def reduced(f: Format, x: Scalar) -> Reduced:
    """``x`` less the nearest multiple of pi/2, for ``|x|`` up to REDUCTION_END."""
    first, second, third = table.HALF_PI[f.mantissa]
    shift = f(f.shift)
    shifted = fma(x, f(table.TWO_OVER_PI), shift)
    n = shifted - shift
    rest = fma(n, f(-first), x)  # exact: the first part is two bits short
    product, error = two_product(n, f(second))
    angle, lost = two_sum(rest, -product)
    return angle, fma(n, f(-third), lost - error), f.bits(shifted)


def reduced_huge(f: Format, x: Scalar) -> Reduced:
    """The same for finite ``|x|`` of at least one, however large.

    With ``|x| = m 2^E`` the words of 2/pi from where a bit is worth less than four times m give ``|x| 2/pi``
    modulo four, in quarter turns. Three words leave a word of good bits beside the worst cancellation.
    """
    width = f.dtype.bits
    bits = bitcast(abs_(x), f.unsigned)
    m = bit_or(bit_and(bits, _word(f, (1 << f.mantissa) - 1)), _word(f, 1 << f.mantissa))
    position = shr(bits, _word(f, f.mantissa)) - _word(f, f.bias + f.mantissa + 2 - width)
    last = f.bias - f.mantissa - 2 + width
    high, below = _upper_product(f, m, _window(f, position, last))
    quadrant = shr(high + _word(f, 1 << (width - 3)), _word(f, width - 2))
    rest = bitcast(high - shl(quadrant, _word(f, width - 2)), f.signed)
    head = cast(rest, f.dtype)
    tail = cast(rest - cast(head, f.signed), f.dtype) * f(2.0 ** (2 - width))
    tail = fma(cast(bitcast(shr(below, _word(f, 1)), f.signed), f.dtype), f(2.0 ** (3 - 2 * width)), tail)
    turns, lost = quick_two_sum(head * f(2.0 ** (2 - width)), tail)
    first, second = (part / 2 for part in table.PI[f.mantissa])
    product, error = two_product(turns, f(first))
    correction = fma(turns, f(second), fma(lost, f(first), error))
    negative = lt(x, f(0.0))
    flip = select(negative, f(-1.0), f(1.0))
    quadrant = bitcast(quadrant, f.signed)
    return product * flip, correction * flip, select(negative, -quadrant, quadrant)


def _word(f: Format, value: int) -> Scalar:
    return const(value, f.unsigned)


def _window(f: Format, position: Scalar, last: int) -> list[Scalar]:
    """Three words of 2/pi from a bit ``position``, at most ``last``, of a word of zeros and its bits.

    The words are picked by halving: each bit of the word number moves all those that can still be wanted.
    """
    width = f.dtype.bits
    count = last // width + 4
    number = shr(position, _word(f, width.bit_length() - 1))
    found = [_word(f, word) for word in _words_of_two_over_pi(width, count)]
    step = 1 << ((last // width).bit_length() - 1)
    while step:
        moved = ne(bit_and(number, _word(f, step)), _word(f, 0))
        found = [
            select(moved, found[j + step], word) if j + step < len(found) else word
            for j, word in enumerate(found[: step + 3])
        ]
        step //= 2
    offset = bit_and(position, _word(f, width - 1))
    back = _word(f, width - 1) - offset
    return [bit_or(shl(a, offset), shr(shr(b, _word(f, 1)), back)) for a, b in pairwise(found)]


def _words_of_two_over_pi(width: int, count: int) -> list[int]:
    """A word of zeros, then the leading bits of 2/pi, in ``count`` words in all."""
    total = 64 * len(table.TWO_OVER_PI_BITS)
    bits = sum(word << (total - 64 * (k + 1)) for k, word in enumerate(table.TWO_OVER_PI_BITS))
    return [0, *(bits >> (total - width * k) & ((1 << width) - 1) for k in range(1, count))]


def _upper_product(f: Format, m: Scalar, words: list[Scalar]) -> tuple[Scalar, Scalar]:
    """The upper two words of m times three words, modulo three words, by multiplying half words."""
    half = _word(f, f.dtype.bits // 2)
    low = _word(f, (1 << (f.dtype.bits // 2)) - 1)
    limbs = [part for word in reversed(words) for part in (bit_and(word, low), shr(word, half))]
    m0, m1 = bit_and(m, low), shr(m, half)
    carry = shr(m0 * limbs[0], half)
    sums: list[Scalar] = []
    for below, limb in pairwise(limbs):
        product = m0 * limb
        total = bit_and(product, low) + carry + m1 * below
        sums.append(bit_and(total, low))
        carry = shr(total, half) + shr(product, half)
    return bit_or(shl(sums[4], half), sums[3]), bit_or(shl(sums[2], half), sums[1])


def sine_of_reduced(f: Format, angle: Scalar, correction: Scalar) -> Scalar:
    """Sine on [-pi/4, pi/4]."""
    z = angle * angle
    return angle + fma(angle * z, polynomial(z, table.SIN[f.mantissa]), correction)


def cosine_of_reduced(f: Format, angle: Scalar, correction: Scalar) -> Scalar:
    """Cosine on [-pi/4, pi/4]: ``1 - z/2`` is kept with its rounding error."""
    z = angle * angle
    half = z * f(0.5)
    head = f(1.0) - half
    rest = fma(z * z, polynomial(z, table.COS[f.mantissa]), -(angle * correction))
    return head + (((f(1.0) - head) - half) + rest)


def _is_odd(f: Format, quadrant: Scalar) -> Scalar:
    return ne(bit_and(quadrant, f.integer(1)), f.integer(0))


def _negated(f: Format, value: Scalar, quadrant: Scalar, bit: int) -> Scalar:
    """``value`` with its sign changed where this bit of the quadrant is set."""
    width = f.dtype.bits - 1
    sign = bit_and(shl(quadrant, f.integer(width - bit)), f.integer(1 << width))
    return f.number(bit_xor(f.bits(value), sign))


def _circular(f: Format, parts: Reduced, quarter: int) -> Scalar:
    """The sine of an angle ``quarter`` quarter turns further."""
    angle, correction, quadrant = parts
    if quarter:
        quadrant = quadrant + f.integer(quarter)
    sine, cosine = sine_of_reduced(f, angle, correction), cosine_of_reduced(f, angle, correction)
    return _negated(f, select(_is_odd(f, quadrant), cosine, sine), quadrant, 1)


def _tangent(f: Format, parts: Reduced) -> Scalar:
    angle, correction, quadrant = parts
    sine, cosine = sine_of_reduced(f, angle, correction), cosine_of_reduced(f, angle, correction)
    odd = _is_odd(f, quadrant)
    return _negated(f, select(odd, cosine, sine) / select(odd, sine, cosine), quadrant, 0)


def _for_every_size(f: Format, x: Scalar, function: Callable[[Reduced], Scalar]) -> Scalar:
    """``function`` of the reduced argument; infinite arguments give NaN."""
    huge = gt(abs_(x), f(table.REDUCTION_END[f.mantissa][0]))
    bounded = select(lt(abs_(x), f(float("inf"))), function(reduced_huge(f, x)), f(float("nan")))
    return rarely(huge, bounded, function(reduced(f, x)))


def sin(x: Scalar) -> Scalar:
    """Sine."""
    f = FORMATS[x.dtype]
    value = _for_every_size(f, x, lambda parts: _circular(f, parts, 0))
    return select(eq(x, f(0.0)), x, value)


def cos(x: Scalar) -> Scalar:
    """Cosine."""
    f = FORMATS[x.dtype]
    return _for_every_size(f, x, lambda parts: _circular(f, parts, 1))


def tan(x: Scalar) -> Scalar:
    """Tangent."""
    f = FORMATS[x.dtype]
    value = _for_every_size(f, x, lambda parts: _tangent(f, parts))
    return select(eq(x, f(0.0)), x, value)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {function.__name__: function for function in (sin, cos, tan)}
