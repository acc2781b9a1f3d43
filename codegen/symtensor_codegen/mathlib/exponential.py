"""The exponential family.

Reduction of W. Cody and W. Waite, *Software Manual for the Elementary Functions* (1980): ``x = n ln 2 + r``
with ``|r| <= ln 2 / 2``, the product ``n ln 2`` in two parts through ``fma``; then a minimax polynomial in
``r``. The power of two is applied in two factors, so that results that are subnormal are rounded once and
results that are too large become infinite.
"""

from collections.abc import Callable
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.formats import FORMATS, Format, at_least, at_most, polynomial
from symtensor_codegen.scalar import Scalar, abs_, copysign, fma, lt, select


def reduced(f: Format, x: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    """A shifted integer n, then r, ``head`` and ``tail``: ``x = n ln 2 + r`` and r is ``head - tail``.

    The low bits of the first are ``n + 2 * bias``; ``head`` is exact. ``|x|`` must be below ``2^(mantissa -
    2)``.
    """
    shift = f(f.shift + 2 * f.bias)
    shifted = fma(x, f(table.LOG2_E), shift)
    n = shifted - shift
    high, low = table.LN2[f.mantissa]
    head = fma(n, f(-high), x)
    tail = n * f(low)
    return shifted, head - tail, head, tail


def powers_of_two(f: Format, x: Scalar, shifted: Scalar, per_unit: float) -> tuple[Scalar, Scalar]:
    """Two factors of 2^n, for ``shifted`` that holds ``n + 2 * bias``, with n near ``x * per_unit``.

    Their exponents are n / 2 to the nearest integer (up to the rounding of the product) and the rest.
    """
    half = fma(x, f(per_unit), f(2 * (f.shift + f.bias)))  # a unit in the last place is two
    return f.exponent(f.bits(half)), f.exponent(f.bits(shifted) - f.bits(half))


def scaled(f: Format, x: Scalar, shifted: Scalar, fraction: Scalar, per_unit: float) -> Scalar:
    """``1 + fraction`` times two to the power n, given as for ``powers_of_two``."""
    first, second = powers_of_two(f, x, shifted, per_unit)
    return fma(fraction, first, first) * second


def exp(x: Scalar) -> Scalar:
    """E to the power x."""
    f = FORMATS[x.dtype]
    return exp_of_bounded(f, at_most(x, table.EXP_RANGE[f.mantissa][1]))


def exp_of_bounded(f: Format, x: Scalar) -> Scalar:
    """E to the power x, for x that does not exceed the upper end of EXP_RANGE."""
    x = at_least(x, table.EXP_RANGE[f.mantissa][0])
    shifted, fraction = exp_fraction(f, x)
    return scaled(f, x, shifted, fraction, table.LOG2_E)


def exp_fraction(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """The shifted n of ``reduced`` and ``exp(r) - 1``, of an error that is small beside one."""
    shifted, r, head, tail = reduced(f, x)
    return shifted, head + fma(r * r, polynomial(r, table.EXP[f.mantissa]), -tail)


def exp2(x: Scalar) -> Scalar:
    """Two to the power x."""
    f = FORMATS[x.dtype]
    x = at_least(at_most(x, f.bias + 2.0), -f.bias - f.mantissa - 2.0)
    shift = f(f.shift + 2 * f.bias)
    shifted = x + shift
    r = x - (shifted - shift)  # exact
    fraction = fma(r, f(table.LN2[f.mantissa][0]), r * r * polynomial(r, table.EXP2[f.mantissa]))
    return scaled(f, x, shifted, fraction, 1.0)


def scaled_expm1(f: Format, x: Scalar, halvings: int) -> Scalar:
    """``(exp(x) - 1) / 2^halvings``, for x above ``-(mantissa + 2) ln 2`` and n up to ``bias + halvings``."""
    shifted, r, head, tail = reduced(f, x)
    small = fma(r * r, polynomial(r, table.EXPM1[f.mantissa]), (head - r) - tail)
    scale = f.exponent(f.bits(shifted) - f.integer(f.bias + halvings))
    # The large part first: 2^n r may cancel 2^n - 1.
    return fma(scale, small, fma(scale, r, scale - f(0.5**halvings)))


def expm1(x: Scalar) -> Scalar:
    """``exp(x) - 1`` without loss for small x."""
    f = FORMATS[x.dtype]
    bounded = at_least(at_most(x, table.EXP_RANGE[f.mantissa][1]), -0.7 * (f.mantissa + 2))
    return select(lt(abs_(x), f(f.epsilon / 4)), x, scaled_expm1(f, bounded, 1) * f(2.0))


def sinh(x: Scalar) -> Scalar:
    """Hyperbolic sine: ``(E + E / (E + 1)) / 2`` with ``E = expm1(|x|)``, computed from E / 4."""
    f = FORMATS[x.dtype]
    magnitude = abs_(x)
    quarter = scaled_expm1(f, at_most(magnitude, table.EXP_RANGE[f.mantissa][2]), 2)
    value = (quarter + quarter / fma(quarter, f(4.0), f(1.0))) * f(2.0)
    return copysign(select(lt(magnitude, f(f.epsilon / 4)), magnitude, value), x)


def cosh(x: Scalar) -> Scalar:
    """Hyperbolic cosine: ``(E + 1 / E) / 2`` with ``E = exp(|x|)``, computed from E / 4."""
    f = FORMATS[x.dtype]
    shifted, fraction = exp_fraction(f, at_most(abs_(x), table.EXP_RANGE[f.mantissa][2]))
    scale = f.exponent(f.bits(shifted) - f.integer(f.bias + 2))
    quarter = fma(fraction, scale, scale)
    return (quarter + f(0.0625) / quarter) * f(2.0)


def tanh(x: Scalar) -> Scalar:
    """Hyperbolic tangent: ``E / (E + 2)`` with ``E = expm1(2 |x|)``."""
    f = FORMATS[x.dtype]
    twice = at_most(abs_(x) * f(2.0), 0.7 * (f.mantissa + 5))  # the result is one from here on
    half = scaled_expm1(f, twice, 1)
    return copysign(half / (half + f(1.0)), x)


def sigmoid(x: Scalar) -> Scalar:
    """``1 / (1 + exp(-x))``, of full precision on both sides."""
    f = FORMATS[x.dtype]
    e = exp_of_bounded(f, -abs_(x))
    return select(lt(x, f(0.0)), e, f(1.0)) / (e + f(1.0))


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function for function in (exp, exp2, expm1, sinh, cosh, tanh, sigmoid)
}
