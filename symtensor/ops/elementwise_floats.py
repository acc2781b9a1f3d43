"""Elementwise tests and parts of floating-point numbers: NaN, infinity, sign bits, neighbours, closeness."""

from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import (
    Domain,
    Gradients,
    Inferred,
    OpDef,
    broadcast_dims,
    describe,
    elementwise,
    promoted,
    pull_elementwise,
)
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.scalar import Scalar

from .complex_scalars import either_part
from .elementwise import abs_, sign, switch
from .elementwise_bits import and_, invert, or_
from .elementwise_compare import eq, le
from .gradient_parts import typed, zeros


def _test(
    name: str, doc: str, meaning: Any, numpy: Any, accepts: str = "biufc", integer: str = "keep"
) -> OpDef:
    return elementwise(
        name,
        doc=doc,
        arity=1,
        scalar=meaning,
        numpy=numpy,
        result=lambda common: dtypes.bool_,
        accepts=accepts,
        integer=integer,
        gradient=lambda g, x, out: (zeros(g),),
    )


def _infinite(x: Scalar) -> Scalar:
    return either_part(scalar.isinf)(x)


def _finite(x: Scalar) -> Scalar:
    if x.dtype.is_float:
        return scalar.isfinite(x)
    if x.dtype.is_complex:
        return scalar.bit_and(scalar.isfinite(scalar.real(x)), scalar.isfinite(scalar.imag(x)))
    return scalar.eq(x, x)


isnan = _test("isnan", "Whether it is not a number (bool).", either_part(scalar.isnan), np.isnan)
isinf = _test("isinf", "Whether it is infinite (bool).", _infinite, np.isinf)
isfinite = _test("isfinite", "Whether it is neither infinite nor NaN (bool).", _finite, np.isfinite)
signbit = _test(
    "signbit", "Whether the sign bit is set, also of -0.0 (bool).", scalar.signbit, np.signbit, "f", "float"
)


def _copysign_gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Gradients:
    one = typed(1, x)
    return g * (copysign(one, x) * copysign(one, y)), zeros(g)


copysign = elementwise(
    "copysign",
    doc="The size of x with the sign of y.",
    arity=2,
    integer="float",
    accepts="f",
    scalar=scalar.copysign,
    numpy=np.copysign,
    gradient=_copysign_gradient,
)
nextafter = elementwise(
    "nextafter",
    doc="The next floating-point number from x toward y.",
    arity=2,
    integer="float",
    accepts="f",
    scalar=scalar.nextafter,
    numpy=np.nextafter,
    gradient=lambda g, x, y, out: (g, zeros(g)),
    cost=6,
)


def _heaviside(x: Scalar, at_zero: Scalar) -> Scalar:
    zero, one = scalar.const(0, x.dtype), scalar.const(1, x.dtype)
    step = scalar.select(scalar.lt(x, 0), zero, scalar.select(scalar.eq(x, 0), at_zero, one))
    return scalar.select(scalar.isnan(x), x, step)


heaviside = elementwise(
    "heaviside",
    doc="0 for negative x, 1 for positive x, and the second argument at 0.",
    arity=2,
    integer="float",
    accepts="f",
    scalar=_heaviside,
    numpy=np.heaviside,
    cost=3,
    gradient=lambda g, x, y, out: (zeros(g), switch(eq(x, typed(0, x)), g, typed(0, g))),
)


# Powers of two ---------------------------------------------------------------------------------------------


def _ldexp_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x, exponent = inputs
    if not x.element.is_float or exponent.element.kind not in "biu":
        raise DTypeError(f"ldexp takes a float and an integer: {describe(x)}; {describe(exponent)}")
    return x.element, broadcast_dims("ldexp", inputs)


def _ldexp_convert(op: OpDef, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
    (x,) = promoted(values[:1], integer="float", name="ldexp")
    return x, as_tensor(values[1])


ldexp: OpDef = OpDef(
    name="ldexp",
    doc="x * 2**n for an integer n.",
    infer=_ldexp_infer,
    convert=_ldexp_convert,
    reference=np.ldexp,
    scalar=scalar.ldexp,
    pull=pull_elementwise,
    gradient=lambda g, node: (ldexp(g, node.inputs[1]), None),
    cases=lambda rng: [
        ((rng.normal(size=(3, 5)), rng.integers(-5, 5, size=5)), {}),
        ((rng.normal(size=4).astype(np.float32), np.asarray(-130, np.int32)), {}),
        ((np.zeros(0), np.asarray(2)), {}),
    ],
    domains=(Domain(),),
    category="elementwise",
    cost=3,
)


# Closeness -------------------------------------------------------------------------------------------------


def isclose(
    a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |a - b| <= atol + rtol |b| (bool); infinities are close to themselves only."""
    a, b = promoted((a, b), integer="quotient", name="isclose")
    size = abs_(b)
    near = le(abs_(a - b), typed(atol, size) + typed(rtol, size) * size)
    close = or_(and_(near, isfinite(b)), eq(a, b))
    return or_(close, and_(isnan(a), isnan(b))) if equal_nan else close


def allclose(
    a: TensorLike, b: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether all elements are close (one bool)."""
    from .reduction import all as all_of

    return all_of(isclose(a, b, rtol, atol, equal_nan))


def isposinf(x: TensorLike) -> Tensor:
    """Whether it is plus infinity (bool)."""
    return eq(x, float("inf"))


def isneginf(x: TensorLike) -> Tensor:
    """Whether it is minus infinity (bool)."""
    return eq(x, -float("inf"))


__all__ = [
    "allclose",
    "copysign",
    "heaviside",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "ldexp",
    "nextafter",
    "sign",
    "signbit",
]
