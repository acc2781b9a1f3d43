"""Parts of complex numbers. Gradients of complex expressions are not defined here: ``grad`` refuses them."""

from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import Domain, Gradients, OpDef, elementwise
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.scalar import Scalar

from .elementwise import mul
from .elementwise_math import cos, sin


def _part(name: str, doc: str, meaning: Any, numpy: Any) -> OpDef:
    return elementwise(
        name,
        doc=doc,
        arity=1,
        accepts="c",
        result=dtypes.real_of,
        scalar=meaning,
        numpy=numpy,
        domains=(Domain(),),
    )


real_op = _part("real", "Real part.", scalar.real, lambda x: np.real(x).copy())
imag_op = _part("imag", "Imaginary part.", scalar.imag, lambda x: np.imag(x).copy())
conj_op = elementwise(
    "conj",
    doc="Complex conjugate.",
    arity=1,
    accepts="c",
    scalar=scalar.conj,
    numpy=np.conj,
)


def _angle(x: Scalar) -> Scalar:
    if x.dtype.is_complex:
        return scalar.arctan2(scalar.imag(x), scalar.real(x))
    return scalar.arctan2(scalar.const(0, x.dtype), x)


def _angle_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    from .gradient_parts import zeros

    return (zeros(g),)


angle = elementwise(
    "angle",
    doc="Angle to the positive real axis in radians; of real numbers 0 or pi.",
    arity=1,
    integer="quotient",
    accepts="fc",
    result=dtypes.real_of,
    scalar=_angle,
    numpy=np.angle,
    gradient=_angle_gradient,
    cost=25,
)


def _joined(re: Scalar, im: Scalar) -> Scalar:
    part = dtypes.real_of(dtypes.complex_of(re.dtype))  # there is no complex type of half precision
    return scalar.complex_op(scalar.cast(re, part), scalar.cast(im, part))


def _joined_reference(re: Any, im: Any) -> Any:
    made = np.empty(np.broadcast_shapes(re.shape, im.shape), np.result_type(re, np.complex64))
    made.real, made.imag = re, im
    return made


complex_op = elementwise(
    "complex",
    doc="Complex number of its real and imaginary part.",
    arity=2,
    integer="float",
    accepts="f",
    result=dtypes.complex_of,
    scalar=_joined,
    numpy=_joined_reference,
)


def real(x: TensorLike) -> Tensor:
    """Real part; real tensors are their own."""
    x = as_tensor(x)
    return real_op(x) if x.element.is_complex else x


def imag(x: TensorLike) -> Tensor:
    """Imaginary part; zeros for real tensors."""
    from .creation import zeros_like

    x = as_tensor(x)
    return imag_op(x) if x.element.is_complex else zeros_like(x)


def conj(x: TensorLike) -> Tensor:
    """Complex conjugate; real tensors are their own."""
    x = as_tensor(x)
    return conj_op(x) if x.element.is_complex else x


def complex_from_polar(size: TensorLike, angle: TensorLike) -> Tensor:
    """The complex number with this modulus and angle in radians."""
    return complex_op(mul(size, cos(angle)), mul(size, sin(angle)))


__all__ = [
    "angle",
    "complex_from_polar",
    "complex_op",
    "conj",
    "conj_op",
    "imag",
    "imag_op",
    "real",
    "real_op",
]
