"""Remainders and floor division of floats, exact for all arguments, and the greatest common divisor.

The remainder of a division by its rounded, whole quotient is a floating-point number, so one ``fma`` gives
it exactly (see J.-M. Muller et al., *Handbook of Floating-Point Arithmetic*, on correcting terms).
Quotients below two to the power of the precision take one step; larger ones, wrapped in ``rarely``, take
one for every ``mantissa + 1`` bits of the quotient.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from symtensor_codegen import dtypes
from symtensor_codegen.mathlib.formats import FORMATS, Format
from symtensor_codegen.scalar import (
    Scalar,
    abs_,
    bit_and,
    bit_xor,
    cast,
    const,
    copysign,
    eq,
    floor,
    fma,
    ge,
    gt,
    lt,
    minimum,
    mod,
    ne,
    rarely,
    rint,
    select,
    trunc,
)


def _whole_steps(r: Scalar, d: Scalar, quotient_bits: int) -> Scalar:
    """``r`` less a whole multiple of ``d``, at most d in size, for ``|r / d|`` below ``2^quotient_bits``."""
    precision = FORMATS[r.dtype].mantissa + 1
    for _ in range(-(-quotient_bits // precision)):
        r = fma(-rint(r / d), d, r)
    return r


def _huge_remainder(f: Format, n: Scalar, d: Scalar) -> Scalar:
    """The remainder of n / d, both not negative, for every quotient.

    float32 is done in float64, where no quotient overflows. In float64 the first steps are made with
    multiples of d that keep the quotients finite.
    """
    if f.dtype is dtypes.float32:
        wide = cast(d, dtypes.float64)
        r = _whole_steps(cast(n, dtypes.float64), wide, 2 * (f.bias + f.mantissa))
        return cast(select(lt(r, f64(0.0)), r + wide, r), f.dtype)
    small, reach = lt(d, f(2.0**-64)), 2.0**544
    multiple = select(small, d * f(reach), d)
    largest = select(small, multiple * f(reach), select(lt(d, f(1.0)), d * f(2.0**64), d))
    r = _whole_steps(n, largest, f.bias + 1)
    r = _whole_steps(r, multiple, 545)
    r = _whole_steps(r, d, 545)
    return select(lt(r, f(0.0)), r + d, r)


def f64(value: float) -> Scalar:
    """A float64 constant."""
    return const(value, dtypes.float64)


def _divided(f: Format, n: Scalar, d: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """Whether the quotient of two magnitudes is huge; if it is not, its whole part and the remainder."""
    huge = ge(n, d * f(2.0**f.mantissa))
    quotient = trunc(n / d)
    r = select(eq(d, f(inf)), n, fma(-quotient, d, n))
    above = lt(r, f(0.0))  # the quotient was rounded up to a whole number
    return huge, select(above, quotient - f(1.0), quotient), select(above, r + d, r)


def fmod(x: Scalar, y: Scalar) -> Scalar:
    """The remainder of truncated division, with the sign of x; NaN for y = 0 and infinite x."""
    f = FORMATS[x.dtype]
    n, d = abs_(x), abs_(y)
    huge, _, r = _divided(f, n, d)
    return copysign(rarely(huge, _huge_remainder(f, n, d), r), x)


def mod_(x: Scalar, y: Scalar) -> Scalar:
    """The remainder of floor division, with the sign of y, as Python and NumPy have it."""
    f = FORMATS[x.dtype]
    r = fmod(x, y)
    other_side = bit_xor(lt(r, f(0.0)), lt(y, f(0.0)))
    return select(eq(r, f(0.0)), copysign(r, y), select(other_side, r + y, r))


def floordiv(x: Scalar, y: Scalar) -> Scalar:
    """The quotient rounded down. By zero it is ``x / y``; an infinite x gives NaN, as in NumPy."""
    f = FORMATS[x.dtype]
    n, d = abs_(x), abs_(y)
    huge, quotient, r = _divided(f, n, d)
    opposite = lt(f.bits(copysign(f(1.0), x)) ^ f.bits(copysign(f(1.0), y)), f.integer(0))
    inexact = ne(r, f(0.0))
    down = -select(inexact, quotient + f(1.0), quotient)
    return rarely(huge, _huge_floor(f, x, y), select(opposite, down, quotient))


def _huge_floor(f: Format, x: Scalar, y: Scalar) -> Scalar:
    """NumPy's steps: divide what the remainder leaves, then remove the rounding of the division."""
    r = copysign(_huge_remainder(f, abs_(x), abs_(y)), x)
    crossing = bit_and(ne(r, f(0.0)), bit_xor(lt(y, f(0.0)), lt(r, f(0.0))))
    quotient = (x - r) / y
    quotient = select(crossing, quotient - f(1.0), quotient)
    whole = floor(quotient)
    whole = select(gt(quotient - whole, f(0.5)), whole + f(1.0), whole)
    return select(eq(y, f(0.0)), x / y, select(eq(quotient, f(0.0)), copysign(f(0.0), x / y), whole))


def gcd(a: Scalar, b: Scalar) -> Scalar:
    """The greatest common divisor by Euclid's algorithm with the smallest remainder in size, on magnitudes.

    Every step shrinks the numbers by 1 + sqrt(2) or more (Dupré, 1846), so 50 suffice for 64 bits. They
    come in blocks of ten, each in ``rarely``.
    """
    dtype = a.dtype
    unsigned = dtypes.BY_NAME[f"uint{dtype.bits}"]
    zero = const(0, unsigned)

    def steps(m: Scalar, n: Scalar, left: int) -> Scalar:
        for _ in range(min(left, 10)):
            rest = mod(m, n)  # zero where n is
            m, n = select(eq(n, zero), m, n), minimum(rest, n - rest)
        return rarely(ne(n, zero), steps(m, n, left - 10), m) if left > 10 else m

    m, n = (cast(abs_(x) if dtype.kind == "i" else x, unsigned) for x in (a, b))
    return cast(steps(m, n, int(dtype.bits * 0.79) + 2), dtype)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    "fmod": fmod,
    "mod": mod_,
    "floordiv": floordiv,
    "gcd": gcd,
}
