"""Changing the element type."""

from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import Gradients, Inferred, OpDef, describe, elementwise, pull_elementwise
from symtensor.settings import config
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.scalar import Scalar

from .gradient_parts import zeros


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    element: DType = params["dtype"]
    (x,) = inputs
    if x.element.is_complex and not element.is_complex and element is not dtypes.bool_:
        raise DTypeError(
            f"cast: complex values do not convert to {element} ({describe(x)}); take real() or abs()"
        )
    return element, x.dims


def _reference(x: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):
        return x.astype(dtype.numpy)


def _gradient(g: Tensor, node: Tensor) -> Gradients:
    (x,) = node.inputs
    if not node.element.is_inexact:
        return (zeros(g),)
    return (cast(g, x.element) if x.element.is_inexact else g,)


def _pull_cast(x: Scalar, dtype: DType) -> Scalar:
    return scalar.cast(x, dtype)


cast_op = OpDef(
    name="cast",
    doc="Conversion to another element type, as NumPy's astype. No slope passes an integer type.",
    infer=_infer,
    reference=_reference,
    gradient=_gradient,
    scalar=_pull_cast,
    pull=pull_elementwise,
    category="elementwise",
    cases=lambda rng: [
        ((rng.normal(size=(3, 5)) * 4,), {"dtype": dtypes.float32}),
        ((rng.normal(size=7) * 4,), {"dtype": dtypes.int32}),
        ((rng.integers(-3, 3, size=(2, 1)),), {"dtype": dtypes.bool_}),
        ((rng.integers(-300, 300, size=9),), {"dtype": dtypes.int8}),
        ((np.zeros(0, np.float32),), {"dtype": dtypes.float64}),
        ((np.asarray(2.5, np.float32),), {"dtype": dtypes.complex64}),
        ((rng.normal(size=5).astype(np.complex64),), {"dtype": dtypes.complex128}),
        ((np.array([0, 1j, 2, 0j]),), {"dtype": dtypes.bool_}),
        ((rng.normal(size=6).astype(np.float32),), {"dtype": dtypes.float16}),
    ],
)


def cast(x: TensorLike, dtype: object) -> Tensor:
    """``x`` with another element type; ``"floatX"`` is the one of ``config.floatX``.

    Raises:
        DTypeError: complex to real, or a type that is none.
    """
    element = dtypes.of(config.floatX if isinstance(dtype, str) and dtype == "floatX" else dtype)
    tensor = as_tensor(x)
    return tensor if tensor.element is element else cast_op.make(tensor, dtype=element)


identity = elementwise(
    "identity",
    doc="The same values (Theano's tensor_copy).",
    arity=1,
    scalar=lambda x: x,
    numpy=lambda x: x.copy(),
    gradient=lambda g, x, out: (g,),
    cost=0,
)
tensor_copy = identity


def as_condition(value: TensorLike) -> Tensor:
    """A condition as bools: not equal to zero."""
    return cast(as_tensor(value), dtypes.bool_)
