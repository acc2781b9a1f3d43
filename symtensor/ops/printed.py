"""The operation behind ``printing.Print``: a value that is shown when a function has computed it."""

from typing import Any, Final

import numpy as np

from symtensor.graph import Tensor
from symtensor.opdef import Gradients, elementwise
from symtensor_codegen.scalar import Scalar


def _same(x: Scalar, **params: Any) -> Scalar:
    return x


def _copied(x: Any, **params: Any) -> Any:
    return np.array(x)


def _gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (g,)


PRINT: Final = elementwise(
    "print",
    doc="The argument; functions that compute it print it (``message``, and each of ``attrs``) after the call.",
    scalar=_same,
    numpy=_copied,
    arity=1,
    gradient=_gradient,
    cost=0,
)
