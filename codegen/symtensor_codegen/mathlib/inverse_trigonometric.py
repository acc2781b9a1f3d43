"""Inverse sine, cosine and tangent.

The arctangent of n/d is taken on [-tan(pi/8), tan(pi/8)] after replacing n/d by (n - d)/(n + d) or -d/n,
chosen before the one division; the inverse sine on [-1/2, 1/2] after ``asin(x) = pi/2 - 2 asin(sqrt((1 - x)
/ 2))`` (W. Cody and W. Waite, *Software Manual for the Elementary Functions*, 1980). Polynomials are
minimax.
"""

from collections.abc import Callable
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.formats import FORMATS, Format, polynomial
from symtensor_codegen.scalar import Scalar, abs_, copysign, eq, fma, gt, lt, select, sqrt


def arctan_of_quotient(f: Format, n: Scalar, d: Scalar, exact: Scalar | None = None) -> Scalar:
    """The arctangent of ``n / d`` for n and d positive, at most one of them zero or infinite.

    ``exact`` is the quotient where it is known without rounding. ``n + d`` must be normal and not overflow.
    """
    bound = f(table.TAN_SIXTEENTH_TURN)
    steep = gt(n * bound, d)
    flat = lt(n, d * bound)
    quotient = select(steep, -d, select(flat, n, n - d)) / select(steep, n, select(flat, d, n + d))
    t = quotient if exact is None else select(flat, exact, quotient)
    high, low = table.PI[f.mantissa]
    head = select(steep, f(high / 2), select(flat, f(0.0), f(high / 4)))
    tail = select(steep, f(low / 2), select(flat, f(0.0), f(low / 4)))
    z = t * t
    return head + (t + fma(t * z, polynomial(z, table.ARCTAN[f.mantissa]), tail))


def arctan(x: Scalar) -> Scalar:
    """Inverse tangent."""
    f = FORMATS[x.dtype]
    a = abs_(x)
    return copysign(arctan_of_quotient(f, a, f(1.0), a), x)


def arctan2(y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y), in [-pi, pi], with C's results at zeros and infinities."""
    f = FORMATS[y.dtype]
    n, d = abs_(y), abs_(x)
    largest = select(gt(n, d), n, d)
    raised = select(lt(largest, f(f.smallest_normal * 4)), f(8 / f.epsilon), f(1.0))
    scale = select(gt(largest, f(f.largest / 4)), f(0.25), raised)
    high, low = table.PI[f.mantissa]
    same = select(eq(n, f(0.0)), f(0.0), f(high / 4))  # both zero or both infinite
    angle = select(eq(n, d), same, arctan_of_quotient(f, n * scale, d * scale))
    behind = lt(f.bits(x), f.integer(0))
    return copysign(select(behind, f(high) - (angle - f(low)), angle), y)


def arcsin_parts(f: Format, a: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """For a in [0, 1]: whether it exceeds a half, then ``s`` and ``asin(s) - s``.

    Up to a half s is a itself; beyond, ``asin(a) = pi/2 - 2 asin(s)``.
    """
    upper = gt(a, f(0.5))
    z = select(upper, fma(a, f(-0.5), f(0.5)), a * a)
    s = select(upper, sqrt(z), a)
    return upper, s, s * z * polynomial(z, table.ARCSIN[f.mantissa])


def arcsin(x: Scalar) -> Scalar:
    """Inverse sine; NaN outside [-1, 1]."""
    f = FORMATS[x.dtype]
    upper, s, rest = arcsin_parts(f, abs_(x))
    high, low = table.PI[f.mantissa]
    # Through pi/4 - 2 s, which is small and nearly exact.
    outer = f(high / 4) + (fma(s, f(-2.0), f(high / 4)) - fma(rest, f(2.0), f(-low / 2)))
    return copysign(select(upper, outer, s + rest), x)


def arccos(x: Scalar) -> Scalar:
    """Inverse cosine; NaN outside [-1, 1]."""
    f = FORMATS[x.dtype]
    upper, s, rest = arcsin_parts(f, abs_(x))
    high, low = table.PI[f.mantissa]
    twice = (s + rest) * f(2.0)
    outer = select(lt(x, f(0.0)), f(high) - (twice - f(low)), twice)
    return select(upper, outer, f(high / 2) - (x - (f(low / 2) - copysign(rest, x))))


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function for function in (arctan, arctan2, arcsin, arccos)
}
