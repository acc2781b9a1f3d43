"""Bitwise and logical operations, shifts, and common divisors."""

from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike
from symtensor.opdef import Domain, Gradients, OpDef, elementwise
from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar

from .casting import as_condition
from .complex_scalars import absolute
from .gradient_parts import zeros


def _no_slope(g: Tensor, *inputs_and_out: Tensor) -> Gradients:
    return (zeros(g),) * (len(inputs_and_out) - 1)


def _bits(name: str, doc: str, meaning: Any, numpy: Any, arity: int = 2, **facts: Any) -> OpDef:
    facts.setdefault("accepts", "biu")
    return elementwise(name, doc=doc, arity=arity, scalar=meaning, numpy=numpy, gradient=_no_slope, **facts)


and_ = _bits(
    "bitwise_and",
    "Bits set in both; of bools, whether both hold.",
    scalar.bit_and,
    np.bitwise_and,
    associative=True,
)
or_ = _bits(
    "bitwise_or",
    "Bits set in one or both; of bools, whether one holds.",
    scalar.bit_or,
    np.bitwise_or,
    associative=True,
)
xor = _bits(
    "bitwise_xor",
    "Bits set in exactly one; of bools, whether they differ.",
    scalar.bit_xor,
    np.bitwise_xor,
    associative=True,
)
invert = _bits("invert", "All bits flipped; of bools, the opposite.", scalar.bit_not, np.invert, arity=1)

bitwise_and, bitwise_or, bitwise_xor, bitwise_not = and_, or_, xor, invert


def logical_and(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether both are not zero (bool)."""
    return and_(as_condition(a), as_condition(b))


def logical_or(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether one or both are not zero (bool)."""
    return or_(as_condition(a), as_condition(b))


def logical_xor(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether exactly one is not zero (bool)."""
    return xor(as_condition(a), as_condition(b))


def logical_not(a: TensorLike) -> Tensor:
    """Whether it is zero (bool)."""
    return invert(as_condition(a))


# Shifts and divisors ---------------------------------------------------------------------------------------

SHIFTS = (Domain(0, 100), Domain(0, 5))

left_shift = _bits(
    "left_shift",
    "Bits moved to the left: a * 2**b, modulo the width of the type.",
    scalar.shl,
    np.left_shift,
    accepts="iu",
    counting=True,
    domains=SHIFTS,
)
right_shift = _bits(
    "right_shift",
    "Bits moved to the right: floor(a / 2**b).",
    scalar.shr,
    np.right_shift,
    accepts="iu",
    counting=True,
    domains=SHIFTS,
)

gcd = _bits("gcd", "Greatest common divisor, never negative.", scalar.gcd, np.gcd, accepts="iu", cost=200)


def _lcm(a: Scalar, b: Scalar) -> Scalar:
    common = scalar.gcd(a, b)
    divisor = scalar.select(scalar.eq(common, 0), scalar.const(1, a.dtype), common)
    return scalar.mul(scalar.floordiv(absolute(a), divisor), absolute(b))


lcm = _bits(
    "lcm",
    "Least common multiple; not negative where it fits the type.",
    _lcm,
    np.lcm,
    accepts="iu",
    cost=200,
)
