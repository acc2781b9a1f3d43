"""Functions on the representation of a number: classification, neighbours, scaling by powers of two."""

from collections.abc import Callable
from math import inf
from typing import Final

from symtensor_codegen import dtypes
from symtensor_codegen.mathlib.formats import BINARY16, FORMATS, Format
from symtensor_codegen.scalar import (
    Scalar,
    abs_,
    add,
    bit_and,
    bit_or,
    cast,
    const,
    copysign,
    eq,
    gt,
    isnan,
    lt,
    maximum,
    minimum,
    select,
    shr,
)

_EVERY_FORMAT: Final[dict[dtypes.DType, Format]] = {**FORMATS, dtypes.float16: BINARY16}


def isinf(x: Scalar) -> Scalar:
    """Whether x is infinite; integers never are."""
    return eq(abs_(x), inf) if x.dtype.is_float else const(False, dtypes.bool_)


def isfinite(x: Scalar) -> Scalar:
    """Whether x is neither infinite nor NaN."""
    return lt(abs_(x), inf) if x.dtype.is_float else const(True, dtypes.bool_)


def signbit(x: Scalar) -> Scalar:
    """Whether the sign of x is negative, also of zero and NaN."""
    if not x.dtype.is_float:
        return lt(x, 0) if x.dtype.kind == "i" else const(False, dtypes.bool_)
    f = _EVERY_FORMAT[x.dtype]
    return lt(f.bits(x), f.integer(0))


def nextafter(x: Scalar, y: Scalar) -> Scalar:
    """The next number after x toward y."""
    f = _EVERY_FORMAT[x.dtype]
    zero = f(0.0)
    away = eq_bool(lt(x, y), gt(x, zero))
    stepped = f.number(f.bits(x) + select(away, f.integer(1), f.integer(-1)))
    stepped = select(eq(x, zero), copysign(f(f.smallest), y), stepped)
    invalid = bit_or(isnan(x), isnan(y))
    return select(eq(x, y), y, select(invalid, add(x, y), stepped))


def eq_bool(a: Scalar, b: Scalar) -> Scalar:
    """Whether two conditions agree."""
    return ~(a ^ b)


def ldexp(x: Scalar, exponent: Scalar) -> Scalar:
    """``x * 2^exponent``, rounded once; a float exponent is truncated."""
    f = FORMATS[x.dtype]
    reach = 2 * (f.bias + f.mantissa)  # takes every number to zero or infinity
    if exponent.dtype.is_float:
        bounded = select(gt(exponent, reach), reach, select(lt(exponent, -reach), -reach, exponent))
        steps = cast(bounded, f.signed)
    else:
        wide = cast(exponent, dtypes.int64)
        steps = cast(minimum(maximum(wide, -reach), reach), f.signed)
    tiny = lt(abs_(x), f(f.smallest_normal))
    lift = f.mantissa + 1
    bits = f.bits(select(tiny, abs_(x) * f(2.0**lift), abs_(x)))
    biased = shr(bits, f.integer(f.mantissa)) - select(tiny, f.integer(lift), f.integer(0))
    low = f.integer(-f.bias - f.mantissa - 2)
    total = minimum(maximum(biased - f.integer(f.bias) + steps, low), f.integer(f.bias + 1))
    half = shr(total, f.integer(1))
    one_to_two = f.number(bit_or(bit_and(bits, f.integer((1 << f.mantissa) - 1)), f.bits(f(1.0))))
    bias = f.integer(f.bias)
    value = one_to_two * f.exponent(half + bias) * f.exponent(total - half + bias)
    ordinary = bit_and(gt(abs_(x), f(0.0)), lt(abs_(x), f(inf)))
    return select(ordinary, copysign(value, x), x)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {
    function.__name__: function for function in (isinf, isfinite, signbit, nextafter, ldexp)
}
