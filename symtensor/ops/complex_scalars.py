"""What elementary functions mean for complex elements, as scalar expressions of real and imaginary parts.

Addition, subtraction, multiplication, division, negation, equality and selection need no formula here:
lowering splits them itself. Sources: Kahan, "Branch cuts for complex elementary functions, or much ado about
nothing's sign bit" (1987), and Annex G of the C99 standard.
"""

import math
from collections.abc import Callable

from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar

Pair = tuple[Scalar, Scalar]  # real and imaginary part
ScalarFunction = Callable[[Scalar], Scalar]


def by_kind(real: ScalarFunction, split: Callable[[Scalar, Scalar], Pair]) -> ScalarFunction:
    """A function of one argument: its meaning on real elements, and on the parts of complex ones."""

    def meaning(x: Scalar) -> Scalar:
        return scalar.complex_op(*split(scalar.real(x), scalar.imag(x))) if x.dtype.is_complex else real(x)

    return meaning


def absolute(x: Scalar) -> Scalar:
    """Modulus; bools and unsigned integers are their own."""
    if x.dtype.is_complex:
        return scalar.hypot(scalar.real(x), scalar.imag(x))
    return x if x.dtype.kind in "bu" else scalar.abs_(x)


def _sign(re: Scalar, im: Scalar) -> Pair:
    size = scalar.hypot(re, im)
    divisor = scalar.select(scalar.eq(size, 0), scalar.const(1, size.dtype), size)
    return scalar.div(re, divisor), scalar.div(im, divisor)


def _exp(re: Scalar, im: Scalar) -> Pair:
    size = scalar.exp(re)
    flat = scalar.eq(im, 0)  # without it inf * sin(0) were NaN
    return size * scalar.cos(im), scalar.select(flat, im, size * scalar.sin(im))


def _exp2(re: Scalar, im: Scalar) -> Pair:
    """The angle im log(2) is rounded once: relative errors grow with its size."""
    size, angle = scalar.exp2(re), im * math.log(2)
    return size * scalar.cos(angle), size * scalar.sin(angle)


def _expm1(re: Scalar, im: Scalar) -> Pair:
    half = scalar.sin(im * 0.5)
    return scalar.expm1(re) * scalar.cos(im) - half * half * 2, scalar.exp(re) * scalar.sin(im)


def _log(re: Scalar, im: Scalar) -> Pair:
    """Near the unit circle the logarithm of the modulus comes from |z|² - 1, which does not cancel."""
    a, b = scalar.abs_(re), scalar.abs_(im)
    larger, smaller = scalar.maximum(a, b), scalar.minimum(a, b)
    near = scalar.bit_and(scalar.gt(larger, 0.5), scalar.lt(larger, 1.5))
    close = scalar.select(near, larger, scalar.const(1, re.dtype))
    beside = scalar.select(near, smaller, scalar.const(0, re.dtype))
    excess = (close - 1) * (close + 1) + beside * beside
    size = scalar.select(near, scalar.log1p(excess) * 0.5, scalar.log(scalar.hypot(re, im)))
    return size, scalar.arctan2(im, re)


def _log1p(re: Scalar, im: Scalar) -> Pair:
    """Near zero from |1 + z|² - 1; elsewhere the logarithm of 1 + z."""
    near = scalar.lt(scalar.maximum(scalar.abs_(re), scalar.abs_(im)), 0.5)
    size, angle = _log(re + 1, im)
    small = scalar.select(near, re, scalar.const(0, re.dtype))
    return scalar.select(near, scalar.log1p(small * (small + 2) + im * im) * 0.5, size), angle


def _scaled_log(factor: float) -> Callable[[Scalar, Scalar], Pair]:
    def split(re: Scalar, im: Scalar) -> Pair:
        size, angle = _log(re, im)
        return size * factor, angle * factor

    return split


def _sqrt(re: Scalar, im: Scalar) -> Pair:
    """The larger part first, so that nothing cancels."""
    root = scalar.sqrt((scalar.hypot(re, im) + scalar.abs_(re)) * 0.5)
    other = scalar.select(
        scalar.eq(root, 0), scalar.const(0, root.dtype), scalar.div(scalar.abs_(im), root + root)
    )
    right = scalar.ge(re, 0)
    return scalar.select(right, root, other), scalar.copysign(scalar.select(right, other, root), im)


def _product(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _conjugate(a: Pair) -> Pair:
    return a[0], scalar.neg(a[1])


def _sinh(re: Scalar, im: Scalar) -> Pair:
    return scalar.sinh(re) * scalar.cos(im), scalar.cosh(re) * scalar.sin(im)


def _cosh(re: Scalar, im: Scalar) -> Pair:
    return scalar.cosh(re) * scalar.cos(im), scalar.sinh(re) * scalar.sin(im)


def _tanh(re: Scalar, im: Scalar) -> Pair:
    """Kahan's: beyond |re| = 22 (9 in single precision) the real part is 1 to the last bit."""
    limit = 22.0 if re.dtype.itemsize == 8 else 9.0
    far = scalar.gt(scalar.abs_(re), limit)
    near = scalar.select(far, scalar.const(0, re.dtype), re)
    tangent, sine = scalar.tan(im), scalar.sinh(near)
    growth = tangent * tangent + 1
    divisor = growth * sine * sine + 1
    real = scalar.div(growth * scalar.sqrt(sine * sine + 1) * sine, divisor)
    tail = scalar.sin(im) * scalar.cos(im) * 4 * scalar.exp(scalar.abs_(re) * -2)
    return (
        scalar.select(far, scalar.copysign(scalar.const(1, re.dtype), re), real),
        scalar.select(far, tail, scalar.div(tangent, divisor)),
    )


def _arcsin(re: Scalar, im: Scalar) -> Pair:
    below, above = _sqrt(1 - re, scalar.neg(im)), _sqrt(re + 1, im)
    return (
        scalar.arctan2(re, _product(below, above)[0]),
        scalar.arcsinh(_product(_conjugate(below), above)[1]),
    )


def _arccos(re: Scalar, im: Scalar) -> Pair:
    below, above = _sqrt(1 - re, scalar.neg(im)), _sqrt(re + 1, im)
    return (
        scalar.arctan2(below[0], above[0]) * 2,
        scalar.arcsinh(_product(_conjugate(above), below)[1]),
    )


def _arccosh(re: Scalar, im: Scalar) -> Pair:
    below, above = _sqrt(re - 1, im), _sqrt(re + 1, im)
    return (
        scalar.arcsinh(_product(_conjugate(below), above)[0]),
        scalar.arctan2(below[1], above[0]) * 2,
    )


def _arctanh(re: Scalar, im: Scalar) -> Pair:
    size = scalar.abs_(re)
    square = im * im
    real = scalar.log1p(scalar.div(size * 4, (1 - size) * (1 - size) + square)) * 0.25
    return (
        scalar.copysign(real, re),
        scalar.arctan2(im * 2, (1 - re) * (re + 1) - square) * 0.5,
    )


def _turned(function: Callable[[Scalar, Scalar], Pair]) -> Callable[[Scalar, Scalar], Pair]:
    """Z -> -i f(iz): the circular function of a hyperbolic one."""

    def split(re: Scalar, im: Scalar) -> Pair:
        real, imaginary = function(scalar.neg(im), re)
        return imaginary, scalar.neg(real)

    return split


def _arcsinh(re: Scalar, im: Scalar) -> Pair:
    real, imaginary = _arcsin(im, scalar.neg(re))
    return scalar.neg(imaginary), real


def _cos(re: Scalar, im: Scalar) -> Pair:
    return scalar.cos(re) * scalar.cosh(im), scalar.neg(scalar.sin(re) * scalar.sinh(im))


sign = by_kind(scalar.sign, _sign)
rint = by_kind(scalar.rint, lambda re, im: (scalar.rint(re), scalar.rint(im)))
exp = by_kind(scalar.exp, _exp)
exp2 = by_kind(scalar.exp2, _exp2)
expm1 = by_kind(scalar.expm1, _expm1)
log = by_kind(scalar.log, _log)
log2 = by_kind(scalar.log2, _scaled_log(1 / math.log(2)))
log10 = by_kind(scalar.log10, _scaled_log(1 / math.log(10)))
log1p = by_kind(scalar.log1p, _log1p)
sqrt = by_kind(scalar.sqrt, _sqrt)
sin = by_kind(scalar.sin, _turned(_sinh))
cos = by_kind(scalar.cos, _cos)
tan = by_kind(scalar.tan, _turned(_tanh))
sinh = by_kind(scalar.sinh, _sinh)
cosh = by_kind(scalar.cosh, _cosh)
tanh = by_kind(scalar.tanh, _tanh)
arcsin = by_kind(scalar.arcsin, _arcsin)
arccos = by_kind(scalar.arccos, _arccos)
arctan = by_kind(scalar.arctan, _turned(_arctanh))
arcsinh = by_kind(scalar.arcsinh, _arcsinh)
arccosh = by_kind(scalar.arccosh, _arccosh)
arctanh = by_kind(scalar.arctanh, _arctanh)


def power(x: Scalar, y: Scalar) -> Scalar:
    """x**y; for complex elements exp(y log x), where 0**0 is 1 and 0**y is 0."""
    if not x.dtype.is_complex:
        return scalar.pow_(x, y)
    general = exp(scalar.mul(y, log(x)))
    one, zero = scalar.const(1, x.dtype), scalar.const(0, x.dtype)
    at_zero = scalar.select(scalar.eq(y, zero), one, zero)
    return scalar.select(scalar.eq(x, zero), at_zero, general)


def either_part(test: ScalarFunction) -> ScalarFunction:
    """A test of floats, on complex elements: whether it holds for a part; on others: false."""

    def meaning(x: Scalar) -> Scalar:
        if x.dtype.is_complex:
            return scalar.bit_or(test(scalar.real(x)), test(scalar.imag(x)))
        return test(x) if x.dtype.is_float else scalar.ne(x, x)

    return meaning
