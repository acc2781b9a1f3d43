"""Powers and roots: pow on floats and integers, the cube root, and the hypotenuse.

``x^y = 2^(y log2 |x|)`` needs the logarithm to about twelve bits more than the format has. It is carried as
an unevaluated sum of two numbers (T. Dekker, 1971): ``log2(m) = s (C1 + z (C3 + z P(z)))`` with ``s = f /
(2 + f)`` and ``z = s^2``, all but P in such pairs.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.exponential import scaled
from symtensor_codegen.mathlib.formats import (
    FORMATS,
    Format,
    at_least,
    at_most,
    polynomial,
    quick_two_sum,
    two_product,
)
from symtensor_codegen.mathlib.logarithm import parts
from symtensor_codegen.scalar import (
    Scalar,
    abs_,
    bit_and,
    bit_or,
    const,
    const_op,
    copysign,
    eq,
    fma,
    gt,
    lt,
    ne,
    rarely,
    select,
    shl,
    shr,
    sqrt,
    trunc,
)


def log2_pair(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """The logarithm of positive finite x to base 2, as a number and its correction."""
    k, fraction = parts(f, x)
    divisor, divisor_error = quick_two_sum(f(2.0), fraction)
    reciprocal = f(1.0) / divisor
    s = fraction * reciprocal
    s_error = fma(-s, divisor_error, fma(-s, divisor, fraction)) * reciprocal
    z, z_error = two_product(s, s)
    z_error = fma(s + s, s_error, z_error)
    first, first_error = table.LOG2_SERIES_FIRST[f.mantissa]
    third, third_error = table.LOG2_SERIES_THIRD[f.mantissa]
    u, u_error = quick_two_sum(f(third), fma(z, polynomial(z, table.LOG2_SERIES[f.mantissa]), f(third_error)))
    v, v_error = two_product(z, u)
    v_error = v_error + fma(z, u_error, z_error * u)
    w, w_error = quick_two_sum(f(first), v)
    w_error = w_error + (v_error + f(first_error))
    product, product_error = two_product(s, w)
    product_error = product_error + fma(s, w_error, s_error * w)
    total, rest = quick_two_sum(k, product)
    return total, rest + product_error


def power_of_positive(f: Format, x: Scalar, y: Scalar) -> Scalar:
    """``x^y`` for x not negative: zero and infinity have infinite logarithms; NaN stays NaN."""
    logarithm, correction = log2_pair(f, x)
    logarithm = select(lt(x, f(inf)), select(eq(x, f(0.0)), f(-inf), logarithm), x)
    beyond = 2.0 ** (f.mantissa + 13)  # more than any finite exponent times 2^(mantissa + 1)
    y = at_least(at_most(y, beyond), -beyond)
    exponent, error = two_product(logarithm, y)
    limit = f.bias + f.mantissa + 3.0
    bounded = at_least(at_most(exponent, limit), -limit)
    error = select(eq(bounded, exponent), fma(correction, y, error), f(0.0))
    shift = f(f.shift + 2 * f.bias)
    shifted = bounded + shift
    r, error = quick_two_sum(bounded - (shifted - shift), error)  # the first is zero or the larger
    high, low = table.LN2[f.mantissa]
    small = fma(r * r, polynomial(r, table.EXP2[f.mantissa]), fma(r, f(low), error * f(high)))
    return scaled(f, bounded, shifted, fma(r, f(high), small), 1.0)


def pow_(x: Scalar, y: Scalar) -> Scalar:
    """``x`` to the power y, with C's results at zeros, infinities, NaN and negative x."""
    if x.dtype.is_integer:
        return integer_power(x, y)
    f = FORMATS[x.dtype]
    magnitude = power_of_positive(f, abs_(x), y)
    whole = eq(trunc(y), y)
    half = y * f(0.5)
    odd = bit_and(whole, ne(trunc(half), half))
    undefined = bit_and(bit_and(lt(x, f(0.0)), gt(x, f(-inf))), ne(trunc(y), y))
    value = select(odd, copysign(magnitude, x), select(undefined, f(nan), magnitude))
    return select(bit_or(eq(x, f(1.0)), eq(y, f(0.0))), f(1.0), value)


def integer_power(x: Scalar, y: Scalar) -> Scalar:
    """``x^y`` modulo the width by repeated squaring; for negative y ``1 / x^|y|`` rounded toward zero.

    (That is 0 but for x = 1 and -1; NumPy refuses negative exponents of integers.)
    """
    dtype = x.dtype
    one, zero = const(1, dtype), const(0, dtype)
    steps = dtype.bits - 1 if dtype.kind == "i" else dtype.bits
    if y.op is const_op:
        steps = max(int(y.param).bit_length(), 1)
    exponent = abs_(y) if dtype.kind == "i" else y

    def multiplied(first: int, last: int, result: Scalar, square: Scalar) -> tuple[Scalar, Scalar]:
        for bit in range(first, last):
            factor = select(ne(bit_and(exponent, const(1 << bit, dtype)), zero), square, one)
            result = result * factor
            if bit + 1 < steps:
                square = square * square
        return result, square

    common = min(steps, 6)  # exponents up to 63 take six steps
    value, square = multiplied(0, common, one, x)
    if steps > common:
        large = ne(shr(exponent, const(common, dtype)), zero)
        value = rarely(large, multiplied(common, steps, value, square)[0], value)
    if dtype.kind == "i":
        unit = bit_or(eq(x, one), eq(x, const(-1, dtype)))
        value = select(lt(y, zero), select(unit, value, zero), value)
    return value


def cbrt(x: Scalar) -> Scalar:
    """Cube root: a polynomial for the reciprocal root of the mantissa, mended by the exact residual."""
    f = FORMATS[x.dtype]
    a = abs_(x)
    tiny = lt(a, f(f.smallest_normal))
    lift = 3 * (f.mantissa // 3 + 2)
    bits = f.bits(select(tiny, a * f(2.0**lift), a))
    biased = shr(bits, f.integer(f.mantissa))
    third = shr(biased * f.integer(21846), f.integer(16))  # rounded down, for numbers below 2^15
    excess = biased - third * f.integer(3) - f.integer(f.bias % 3)  # from -1 or 0, three values
    mantissa = bit_or(bit_and(bits, f.integer((1 << f.mantissa) - 1)), f.bits(f(1.0)))
    number = f.number(mantissa + shl(excess, f.integer(f.mantissa)))  # x = number * 8^(third - bias // 3)
    lowest = -(f.bias % 3)
    low, middle, high = (f(2.0 ** (-k / 3)) for k in range(lowest, lowest + 3))
    middle_or_high = select(eq(excess, f.integer(lowest + 1)), middle, high)
    root = select(eq(excess, f.integer(lowest)), low, middle_or_high)
    w = polynomial(f.number(mantissa), table.RECIPROCAL_CBRT[f.mantissa]) * root
    square = w * w
    y = number * square
    y_squared, error = two_product(y, y)
    residual = fma(error, y, fma(y_squared, y, -number))
    y = fma(residual * square, f(-1 / 3), y)
    power = f.exponent(third + f.integer(f.bias - f.bias // 3))
    value = y * (power * select(tiny, f(2.0 ** (-lift // 3)), f(1.0)))
    return copysign(select(bit_and(gt(a, f(0.0)), lt(a, f(inf))), value, a), x)


def hypot(x: Scalar, y: Scalar) -> Scalar:
    """``sqrt(x^2 + y^2)`` without overflow; infinite where either is, even beside NaN."""
    f = FORMATS[x.dtype]
    a, b = abs_(x), abs_(y)
    swap = gt(b, a)
    large, small = select(swap, b, a), select(swap, a, b)
    half = f.bias // 2
    down, up = gt(large, f(2.0 ** (half - 3))), lt(large, f(2.0 ** (3 - half)))
    lower, higher = half + 10, half + f.mantissa + 20
    scale = select(down, f(2.0**-lower), select(up, f(2.0**higher), f(1.0)))
    back = select(down, f(2.0**lower), select(up, f(2.0**-higher), f(1.0)))
    large, small = large * scale, small * scale
    square, error = two_product(large, large)
    value = sqrt(square + fma(small, small, error)) * back
    infinite = bit_or(eq(a, f(inf)), eq(b, f(inf)))
    return select(infinite, f(inf), value)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {"pow": pow_, "cbrt": cbrt, "hypot": hypot}
