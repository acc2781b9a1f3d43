"""Numbers taken apart (fraction and whole part, mantissa and exponent), spacing, set bits, and pairs of results."""

from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import Domain, OpDef, describe, elementwise, promoted
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.mathlib.formats import FORMATS
from symtensor_codegen.scalar import Scalar

from .arguments import as_element
from .complex_scalars import absolute
from .elementwise import abs_, floordiv, mod, pow_
from .elementwise_floats import ldexp
from .elementwise_math import trunc
from .gradient_parts import zeros


def _fraction(x: Scalar) -> Scalar:
    whole = scalar.isinf(x)
    rest = scalar.select(whole, scalar.const(0, x.dtype), x - scalar.trunc(x))
    return scalar.copysign(rest, x)


fraction = elementwise(
    "fraction",
    doc="What is behind the decimal point, with the sign of x; 0 of infinities.",
    arity=1,
    integer="float",
    accepts="f",
    scalar=_fraction,
    numpy=lambda x: np.modf(x)[0],
    gradient=lambda g, x, out: (g,),
    domains=(Domain(-4, 4),),
    cost=3,
)


def modf(x: TensorLike) -> tuple[Tensor, Tensor]:
    """What is behind the decimal point, and the whole number before it; both have the sign of ``x``."""
    (value,) = promoted((x,), integer="float", name="modf")
    return fraction(value), trunc(value)


# Mantissa and exponent -------------------------------------------------------------------------------------


def _taken_apart(x: Scalar) -> tuple[Scalar, Scalar]:
    """Mantissa and exponent from the bits; subnormal numbers are scaled up first."""
    if x.dtype is dtypes.float16:
        mantissa, exponent = _taken_apart(scalar.cast(x, dtypes.float32))
        return scalar.cast(mantissa, x.dtype), exponent
    f = FORMATS[x.dtype]
    size = scalar.abs_(x)
    tiny = scalar.lt(size, f(f.smallest_normal))
    lift = f.mantissa + 1
    bits = f.bits(scalar.select(tiny, size * f(2.0**lift), size))
    biased = scalar.shr(bits, f.integer(f.mantissa)) - scalar.select(tiny, f.integer(lift), f.integer(0))
    half_to_one = f.number((bits & f.integer((1 << f.mantissa) - 1)) | f.bits(f(0.5)))
    ordinary = scalar.bit_and(scalar.gt(size, f(0.0)), scalar.isfinite(x))
    exponent = scalar.select(ordinary, biased - f.integer(f.bias - 1), f.integer(0))
    return scalar.select(ordinary, scalar.copysign(half_to_one, x), x), scalar.cast(exponent, dtypes.int32)


def _int32(common: DType) -> DType:
    return dtypes.int32


mantissa_of = elementwise(
    "mantissa",
    doc="x over the power of two that brings it into [0.5, 1); zeros, infinities and NaN as they are.",
    arity=1,
    integer="float",
    accepts="f",
    scalar=lambda x: _taken_apart(x)[0],
    numpy=lambda x: np.frexp(x)[0],
    gradient=lambda g, x, out: (ldexp(g, -exponent_of(x)),),
    domains=(Domain(0.5, 1),),
    cost=6,
)
exponent_of: OpDef = elementwise(
    "exponent",
    doc="The exponent (int32) of the power of two that brings x into [0.5, 1); 0 for zeros, infinities and NaN.",
    arity=1,
    integer="float",
    accepts="f",
    result=_int32,
    scalar=lambda x: _taken_apart(x)[1],
    numpy=lambda x: np.frexp(x)[1],
    gradient=lambda g, x, out: (zeros(g),),
    cost=6,
)


def frexp(x: TensorLike) -> tuple[Tensor, Tensor]:
    """Mantissa in [0.5, 1) (or its negative) and exponent: ``x = mantissa * 2**exponent``."""
    (value,) = promoted((x,), integer="float", name="frexp")
    return mantissa_of(value), exponent_of(value)


def _spacing(x: Scalar) -> Scalar:
    away = scalar.copysign(scalar.const(float("inf"), x.dtype), x)
    one_up = scalar.select(scalar.eq(x, 0), scalar.abs_(away), away)
    return scalar.nextafter(x, one_up) - x


def _spacing_reference(x: Any) -> Any:
    """As np.spacing, which for negative halves looks the other way."""
    away = np.where(x == 0, np.inf, np.copysign(np.inf, x)).astype(x.dtype)
    return np.nextafter(x, away) - x


spacing = elementwise(
    "spacing",
    doc="Distance to the next number away from zero, with the sign of x; NaN for infinities.",
    arity=1,
    integer="float",
    accepts="f",
    scalar=_spacing,
    numpy=_spacing_reference,
    gradient=lambda g, x, out: (zeros(g),),
    cost=6,
)


# Bits ------------------------------------------------------------------------------------------------------


def _set_bits(x: Scalar) -> Scalar:
    """Counts of pairs, then of fours, then of bytes, whose sum a multiplication brings to the top byte."""
    kind = {8: dtypes.uint8, 16: dtypes.uint16, 32: dtypes.uint32, 64: dtypes.uint64}[x.dtype.bits]
    v = scalar.cast(absolute(x), kind)

    def repeated(byte: int) -> Scalar:
        return scalar.const(int.from_bytes(bytes([byte]) * kind.itemsize, "little"), kind)

    v = v - ((v >> 1) & repeated(0x55))
    v = (v & repeated(0x33)) + ((v >> 2) & repeated(0x33))
    v = (v + (v >> 4)) & repeated(0x0F)
    return scalar.cast((v * repeated(0x01)) >> (kind.bits - 8), dtypes.uint8)


def _uint8(common: DType) -> DType:
    return dtypes.uint8


bitwise_count = elementwise(
    "bitwise_count",
    doc="How many bits of the absolute value are set (uint8).",
    arity=1,
    accepts="iu",
    counting=True,
    result=_uint8,
    scalar=_set_bits,
    numpy=np.bitwise_count,
    gradient=lambda g, x, out: (zeros(g),),
    cost=8,
)


# Of other operations ---------------------------------------------------------------------------------------


def divmod(a: TensorLike, b: TensorLike) -> tuple[Tensor, Tensor]:
    """The floored quotient, and the remainder with the sign of ``b``."""
    return floordiv(a, b), mod(a, b)


def float_power(a: TensorLike, b: TensorLike) -> Tensor:
    """``a ** b`` computed in float64, or complex128 where one is complex."""
    base, exponent = as_tensor(a), as_tensor(b)
    is_complex = base.element.is_complex or exponent.element.is_complex
    element = dtypes.complex128 if is_complex else dtypes.float64
    return pow_(as_element(base, element), as_element(exponent, element))


def fabs(x: TensorLike) -> Tensor:
    """Absolute value in floating point, of real numbers."""
    (value,) = promoted((x,), integer="float", name="fabs")
    if value.element.is_complex:
        raise DTypeError(f"fabs does not take complex numbers, abs does: {describe(value)}")
    return abs_(value)


__all__ = ["bitwise_count", "divmod", "fabs", "float_power", "frexp", "modf", "spacing"]
