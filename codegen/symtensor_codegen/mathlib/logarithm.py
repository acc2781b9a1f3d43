"""The logarithmic family.

``x = 2^k (1 + f)`` with ``1 + f`` between the square roots of 1/2 and 2; then, with ``s = f / (2 + f)``,
``log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2))``, where only the last, small term carries the rounding of the
division. This arrangement is that of FDLIBM (K. C. Ng, Sun Microsystems, 1993); R is a minimax polynomial of ours.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.formats import (
    FORMATS,
    Format,
    polynomial,
)
from symtensor_codegen.scalar import (
    Scalar,
    bit_and,
    bit_or,
    eq,
    fma,
    gt,
    lt,
    select,
    shr,
)  # fmt: skip

_SQRT_HALF: Final = 0.5**0.5


def split(f: Format, x: Scalar) -> tuple[Scalar, Scalar]:
    """The bits of ``m`` and the biased exponent of two: ``x = m 2^k`` with m in [sqrt(1/2), sqrt(2)), x normal."""
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
    """``f^2 / 2`` and ``s (f^2 / 2 + R)``: the logarithm of one plus f is f minus the first plus the second."""
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
    """``value`` where ``x`` is above ``zero`` and finite; -inf at ``zero``, NaN below, and inf and NaN as they are."""
    inside = select(lt(x, f(inf)), value, x)
    return select(gt(x, f(zero)), inside, select(eq(x, f(zero)), f(-inf), f(nan)))


def log(x: Scalar) -> Scalar:
    """Natural logarithm."""
    f = FORMATS[x.dtype]
    k, fraction = parts(f, x)
    return at_the_ends(f, x, log_of_parts(f, k, fraction))


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {function.__name__: function for function in (log,)}
