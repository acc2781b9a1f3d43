"""The logarithmic family.

``x = 2^k (1 + f)`` with ``1 + f`` between the square roots of 1/2 and 2; then, with ``s = f / (2 + f)``,
``log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2))``, where only the last, small term carries the rounding of
the division. This arrangement is that of FDLIBM (K. C. Ng, Sun Microsystems, 1993); R is a minimax
polynomial of ours.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.exponential import exp2, exp_of_bounded
from symtensor_codegen.mathlib.formats import (
    FORMATS,
    Format,
    at_least,
    polynomial,
    quick_two_sum,
    two_product,
)
from symtensor_codegen.scalar import (
    Scalar,
    abs_,
    bit_and,
    bit_or,
    copysign,
    eq,
    fma,
    gt,
    lt,
    select,
    shr,
    sqrt,
)

_SQRT_HALF: Final = 0.5**0.5


def split(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """The bits of m and the biased k, where ``x = m 2^k`` with m in [sqrt(1/2), sqrt(2)) and x normal."""
    root = f.bits(f(_SQRT_HALF))
    moved = f.bits(x) + (f.bits(f(1.0)) - root)
    biased = shr(moved, f.integer(f.mantissa))
    return bit_and(moved, f.integer((1 << f.mantissa) - 1)) + root, biased


def as_float(f: Format, biased: Scalar, offset: float) -> Scalar:
    """``biased - offset`` as a float, for an integer below two to the power ``mantissa``."""
    top = 2.0**f.mantissa
    return f.number(bit_or(biased, f.bits(f(top)))) - f(top + offset)


def parts(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """``k`` as a float and ``f = m - 1``, for positive finite x; subnormal numbers are scaled first."""
    tiny = lt(x, f(f.smallest_normal))
    lift = f.mantissa + 2
    bits, biased = split(f, select(tiny, x * f(2.0**lift), x))
    k = as_float(f, biased, 0.0) - select(tiny, f(f.bias + float(lift)), f(float(f.bias)))
    return k, f.number(bits) - f(1.0)


def log_small(f: Format, fraction: Scalar) -> tuple[Scalar, Scalar]:
    """``f^2 / 2`` and ``s (f^2 / 2 + R)``: ``log(1 + f)`` is f minus the first plus the second."""
    s = fraction / (fraction + f(2.0))
    z = s * s
    square = fraction * fraction * f(0.5)
    series = z * polynomial(z, table.LOG[f.mantissa])
    return square, s * (square + series)


def log_of_parts(f: Format, k: Scalar, fraction: Scalar) -> Scalar:
    """``k ln 2 + log(1 + fraction)``."""
    high, low = table.LN2[f.mantissa]
    square, rest = log_small(f, fraction)
    return fma(k, f(high), fraction - (square - fma(k, f(low), rest)))


def at_the_ends(f: Format, x: Scalar, value: Scalar, zero: float = 0.0) -> Scalar:
    """``value`` where x is above ``zero`` and finite; -inf at ``zero``, NaN below, inf and NaN kept."""
    inside = select(lt(x, f(inf)), value, x)
    return select(gt(x, f(zero)), inside, select(eq(x, f(zero)), f(-inf), f(nan)))


def log(x: Scalar) -> Scalar:
    """Natural logarithm."""
    f = FORMATS[x.dtype]
    k, fraction = parts(f, x)
    return at_the_ends(f, x, log_of_parts(f, k, fraction))


def log_in_base(f: Format, x: Scalar, unit: tuple[float, ...], two: tuple[float, ...]) -> Scalar:
    """The logarithm of ``x`` where ``unit`` is that of e and ``two`` that of 2, both in two parts.

    The product with ``unit`` needs more than the working precision; exact powers give exact results.
    """
    k, fraction = parts(f, x)
    square, rest = log_small(f, fraction)
    head = fraction - square
    square_error = fma(fraction * f(0.5), fraction, -square)
    tail = (((fraction - head) - square) - square_error) + rest
    product, error = two_product(head, f(unit[0]))
    error = fma(head, f(unit[1]), fma(tail, f(unit[0]), error))
    if two == (1.0, 0.0):
        whole, part = quick_two_sum(k, product)
    else:
        scaled, scaled_error = two_product(k, f(two[0]))
        whole, part = quick_two_sum(scaled, product)
        error = error + fma(k, f(two[1]), scaled_error)
    return at_the_ends(f, x, whole + (part + error))


def log2(x: Scalar) -> Scalar:
    """Logarithm to base 2; exact for powers of two."""
    f = FORMATS[x.dtype]
    return log_in_base(f, x, table.LOG2_OF_E[f.mantissa], (1.0, 0.0))


def log10(x: Scalar) -> Scalar:
    """Logarithm to base 10; exact for powers of ten."""
    f = FORMATS[x.dtype]
    return log_in_base(f, x, table.LOG10_OF_E[f.mantissa], table.LOG10_OF_2[f.mantissa])


def log1p_finite(f: Format, x: Scalar, plus_ln2: Scalar | None = None) -> Scalar:
    """``log(1 + x)`` for finite ``x > -1`` that is not tiny; ln 2 more where ``plus_ln2`` is one, not zero.

    The fraction of ``1 + x = 2^k (1 + f)`` is ``x 2^-k + (2^-k - 1)``, so that the rounding of ``1 + x``
    only decides k. The power of two is kept a quarter of its size, which is normal for every k.
    """
    _, biased = split(f, x + f(1.0))
    k = as_float(f, biased, f.bias)
    power = f.exponent(f.integer(2 * f.bias + 2) - biased)
    fraction = fma(x * f(0.25), power, fma(power, f(0.25), f(-1.0)))
    return log_of_parts(f, k if plus_ln2 is None else k + plus_ln2, fraction)


def log1p(x: Scalar) -> Scalar:
    """``log(1 + x)`` without loss for small x."""
    f = FORMATS[x.dtype]
    value = at_the_ends(f, x, log1p_finite(f, x), -1.0)
    return select(lt(abs_(x), f(f.epsilon / 4)), x, value)


def log1p_of_unit(f: Format, x: Scalar) -> Scalar:
    """``log(1 + x)`` for x in [0, 1]."""
    upper = gt(x, f(2.0**0.5 - 1.0))
    fraction = select(upper, fma(x, f(0.5), f(-0.5)), x)
    return log_of_parts(f, select(upper, f(1.0), f(0.0)), fraction)


def softplus(x: Scalar) -> Scalar:
    """``log(1 + exp(x))``, as ``max(x, 0) + log1p(exp(-|x|))``."""
    f = FORMATS[x.dtype]
    return at_least(x, 0.0) + log1p_of_unit(f, exp_of_bounded(f, -abs_(x)))


def logaddexp(a: Scalar, b: Scalar) -> Scalar:
    """``log(exp(a) + exp(b))``, as the larger plus ``log1p(exp(-|a - b|))``."""
    f = FORMATS[a.dtype]
    rest = log1p_of_unit(f, exp_of_bounded(f, -abs_(a - b)))
    return select(eq(a, b), a + f(table.LN2[f.mantissa][0]), larger(a, b) + rest)  # the first: equal infinities


def logaddexp2(a: Scalar, b: Scalar) -> Scalar:
    """``log2(2^a + 2^b)``, as the larger plus ``log2(1 + 2^-|a - b|)``."""
    f = FORMATS[a.dtype]
    rest = log1p_of_unit(f, exp2(-abs_(a - b))) * f(table.LOG2_OF_E[f.mantissa][0])
    return select(eq(a, b), a + f(1.0), larger(a, b) + rest)


def larger(a: Scalar, b: Scalar) -> Scalar:
    """The larger of two numbers; where one is NaN the caller's other term is too."""
    return select(gt(a, b), a, b)


def arcsinh(x: Scalar) -> Scalar:
    """Inverse hyperbolic sine: ``log1p(a + a^2 / (1 + sqrt(1 + a^2)))`` for ``a = |x|``."""
    f = FORMATS[x.dtype]
    a = abs_(x)
    large = gt(a, f(2.0 ** (f.mantissa + 2)))
    square = a * a
    argument = select(large, a, a + square / (f(1.0) + sqrt(square + f(1.0))))
    value = log1p_finite(f, argument, select(large, f(1.0), f(0.0)))
    value = select(lt(a, f(f.epsilon / 4)), a, select(lt(a, f(inf)), value, a))
    return copysign(value, x)


def arccosh(x: Scalar) -> Scalar:
    """Inverse hyperbolic cosine: ``log1p(t + sqrt(t (t + 2)))`` for ``t = x - 1``, if large ``log(2 x)``."""
    f = FORMATS[x.dtype]
    large = gt(x, f(2.0 ** (f.mantissa + 2)))
    t = x - f(1.0)
    argument = select(large, x, t + sqrt(fma(t, t, t + t)))
    value = log1p_finite(f, argument, select(large, f(1.0), f(0.0)))
    value = select(lt(x, f(inf)), value, x)
    return select(gt(x, f(1.0)), value, select(eq(x, f(1.0)), f(0.0), f(nan)))


def arctanh(x: Scalar) -> Scalar:
    """Inverse hyperbolic tangent: ``log1p(2 a / (1 - a)) / 2`` with ``a = |x|``."""
    f = FORMATS[x.dtype]
    a = abs_(x)
    value = log1p_finite(f, (a + a) / (f(1.0) - a)) * f(0.5)
    value = select(lt(a, f(1.0)), value, select(eq(a, f(1.0)), f(inf), f(nan)))
    return copysign(select(lt(a, f(f.epsilon / 4)), a, value), x)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function
    for function in (
        log, log2, log10, log1p, softplus, logaddexp, logaddexp2, arcsinh, arccosh, arctanh,
    )
}  # fmt: skip
