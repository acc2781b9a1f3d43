"""Sine, cosine and tangent, exact to the last places for every argument.

Up to ``REDUCTION_END`` the multiple of pi/2 is taken off in three parts through ``fma`` (W. Cody and W.
Waite), kept as a number and its correction. Beyond, the product with 2/pi is formed in integers from the
few hundred bits of 2/pi that matter (M. Payne and R. Hanek, 1983); that part is wrapped in ``rarely``,
which backends may skip where no lane needs it. Both end in the same two minimax polynomials on [-pi/4,
pi/4].
"""

from collections.abc import Callable
from typing import Final

from symtensor_codegen import dtypes
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

Reduced = tuple[
    Scalar, Scalar, Scalar
]  # the angle, its correction, and the quadrant as an integer (modulo 4)


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
    """The same for finite ``|x|`` of at least one, however large."""
    if f.dtype is dtypes.float32:
        fixed = _turns_of_single(f, x)
    else:
        fixed = _turns_of_double(f, x)
    angle, correction, quadrant = fixed
    negative = lt(x, f(0.0))
    flip = select(negative, f(-1.0), f(1.0))
    quadrant = cast(quadrant, f.signed)
    return angle * flip, correction * flip, select(negative, -quadrant, quadrant)


def _u64(value: int) -> Scalar:
    return const(value, dtypes.uint64)


def _window(position: Scalar, last: int, words: int) -> list[Scalar]:
    """``words`` 64-bit words of 2/pi from a bit ``position`` (at most ``last``) of TWO_OVER_PI_BITS on.

    A word is picked by halving: each bit of the word number moves all words that can still be wanted.
    """
    number = shr(position, _u64(6))
    found = [_u64(word) for word in table.TWO_OVER_PI_BITS]
    step = 1 << ((last >> 6).bit_length() - 1)
    while step:
        moved = ne(bit_and(number, _u64(step)), _u64(0))
        wanted = step + words  # words[0 .. step - 1 + words] may still be asked for
        found = [
            select(moved, found[j + step], found[j]) if j + step < len(found) else found[j]
            for j in range(min(wanted, len(found)))
        ]
        step //= 2
    offset = bit_and(position, _u64(63))
    back = _u64(63) - offset
    return [bit_or(shl(found[j], offset), shr(shr(found[j + 1], _u64(1)), back)) for j in range(words)]


def _quarter_turns(high: Scalar) -> tuple[Scalar, Scalar]:
    """The nearest quadrant of an angle of 2^-62 quarter turns a unit, and what is left, signed."""
    quadrant = shr(high + _u64(1 << 61), _u64(62))
    return quadrant, bitcast(high - shl(quadrant, _u64(62)), dtypes.int64)


def _mantissa_and_position(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """The integer m of x, and where TWO_OVER_PI_BITS has the first bit worth less than 4 m."""
    bits = cast(bitcast(abs_(x), f.unsigned), dtypes.uint64)
    mantissa = bit_or(bit_and(bits, _u64((1 << f.mantissa) - 1)), _u64(1 << f.mantissa))
    return mantissa, shr(bits, _u64(f.mantissa)) - _u64(f.bias + f.mantissa + 2 - 64)


def _turns_of_single(f: Format, x: Scalar) -> Reduced:
    """Angle, correction and quadrant of a float32, from 96 bits of 2/pi."""
    low = _u64(0xFFFFFFFF)
    m, position = _mantissa_and_position(f, x)
    first, second = _window(position, 2 * f.bias - f.bias - f.mantissa - 2 + 64, 2)
    p0 = m * shr(second, _u64(32))
    p1 = m * bit_and(first, low) + shr(p0, _u64(32))
    p2 = m * shr(first, _u64(32)) + shr(p1, _u64(32))
    quadrant, rest = _quarter_turns(bit_or(shl(p2, _u64(32)), bit_and(p1, low)))
    wide = cast(rest, dtypes.float64) * (table.HALF_PI_PAIR[0] * 2.0**-62)
    angle = cast(wide, dtypes.float32)
    return angle, cast(wide - cast(angle, dtypes.float64), dtypes.float32), quadrant


def _turns_of_double(f: Format, x: Scalar) -> Reduced:
    """Angle, correction and quadrant of a float64, from 192 bits of 2/pi."""
    low = _u64(0xFFFFFFFF)
    m, position = _mantissa_and_position(f, x)
    words = _window(position, 2 * f.bias - f.bias - f.mantissa - 2 + 64, 3)
    limbs = [part for word in reversed(words) for part in (bit_and(word, low), shr(word, _u64(32)))]
    m0, m1 = bit_and(m, low), shr(m, _u64(32))
    carry = shr(m0 * limbs[0], _u64(32))
    sums: list[Scalar] = []
    for k in range(1, 6):
        product = m0 * limbs[k]
        total = bit_and(product, low) + carry + m1 * limbs[k - 1]
        sums.append(bit_and(total, low))
        carry = shr(total, _u64(32)) + shr(product, _u64(32))
    quadrant, rest = _quarter_turns(bit_or(shl(sums[4], _u64(32)), sums[3]))
    below = bit_or(shl(sums[2], _u64(32)), sums[1])
    head = cast(rest, dtypes.float64)
    tail = cast(rest - cast(head, dtypes.int64), dtypes.float64) * 2.0**-62
    tail = fma(cast(bitcast(shr(below, _u64(1)), dtypes.int64), dtypes.float64), f(2.0**-125), tail)
    turns, lost = quick_two_sum(head * 2.0**-62, tail)
    product, error = two_product(turns, f(table.HALF_PI_PAIR[0]))
    return product, fma(turns, f(table.HALF_PI_PAIR[1]), fma(lost, f(table.HALF_PI_PAIR[0]), error)), quadrant


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


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function for function in (sin, cos, tan)
}
