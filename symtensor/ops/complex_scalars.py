"""What elementary functions mean for complex elements, as scalar expressions of real and imaginary parts.

Addition, subtraction, multiplication, division, negation, equality and selection need no formula here: lowering
splits them itself. Sources: Kahan, "Branch cuts for complex elementary functions" (1987), and C99 Annex G.
"""

from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar


def absolute(x: Scalar) -> Scalar:
    """Modulus; bools and unsigned integers are their own."""
    if x.dtype.is_complex:
        return scalar.hypot(scalar.real(x), scalar.imag(x))
    return x if x.dtype.kind in "bu" else scalar.abs_(x)


def argument(x: Scalar) -> Scalar:
    """Angle to the positive real axis, in (-pi, pi]."""
    return scalar.arctan2(scalar.imag(x), scalar.real(x))


def complex_sign(x: Scalar) -> Scalar:
    """x / |x|, 0 at 0."""
    if not x.dtype.is_complex:
        return scalar.sign(x)
    size = absolute(x)
    nothing = scalar.eq(size, 0)
    divisor = scalar.select(nothing, scalar.const(1, size.dtype), size)
    return scalar.complex_op(scalar.div(scalar.real(x), divisor), scalar.div(scalar.imag(x), divisor))


def complex_exp(x: Scalar) -> Scalar:
    """e**x."""
    if not x.dtype.is_complex:
        return scalar.exp(x)
    size, angle = scalar.exp(scalar.real(x)), scalar.imag(x)
    flat = scalar.eq(angle, 0)  # inf * sin(0) would be NaN
    imaginary = scalar.select(flat, angle, size * scalar.sin(angle))
    return scalar.complex_op(size * scalar.cos(angle), imaginary)


def complex_log(x: Scalar) -> Scalar:
    """Principal logarithm."""
    if not x.dtype.is_complex:
        return scalar.log(x)
    return scalar.complex_op(scalar.log(absolute(x)), argument(x))


def complex_power(x: Scalar, y: Scalar) -> Scalar:
    """exp(y log x); 0**0 is 1 and 0**y is 0 for a y with positive real part."""
    if not x.dtype.is_complex:
        return scalar.pow_(x, y)
    general = complex_exp(scalar.mul(y, complex_log(x)))
    zero = scalar.eq(x, scalar.const(0, x.dtype))
    trivial = scalar.eq(y, scalar.const(0, y.dtype))
    at_zero = scalar.select(trivial, scalar.const(1, x.dtype), scalar.const(0, x.dtype))
    return scalar.select(zero, at_zero, general)


def complex_sqrt(x: Scalar) -> Scalar:
    """Principal square root, without cancellation: the larger part first."""
    if not x.dtype.is_complex:
        return scalar.sqrt(x)
    re, im = scalar.real(x), scalar.imag(x)
    root = scalar.sqrt(scalar.mul(scalar.add(absolute(x), scalar.abs_(re)), 0.5))
    other = scalar.select(scalar.eq(root, 0), scalar.const(0, root.dtype), scalar.div(scalar.abs_(im), root + root))
    right = scalar.ge(re, 0)
    return scalar.complex_op(
        scalar.select(right, root, other), scalar.copysign(scalar.select(right, other, root), im)
    )
