"""Theano's namespace ``gradient``: everything about gradients."""

from .differentiation import Lop, Rop, grad, hessian_vector_product, subgraph_grad
from .jacobians import hessian, jacobian
from .ops.barriers import (
    DisconnectedType,
    NullType,
    consider_constant,
    custom_gradient,
    disconnected_grad,
    grad_clip,
    grad_not_implemented,
    grad_scale,
    grad_undefined,
    undefined_grad,
    zero_grad,
)
from .pullback import DisconnectedInputError, GradientError, NonDifferentiableError, NullTypeGradError
from .verify import GradientMismatchError, numeric_grad, verify_grad

__all__ = [
    "DisconnectedInputError", "DisconnectedType", "GradientError", "GradientMismatchError", "Lop",
    "NonDifferentiableError", "NullType", "NullTypeGradError", "Rop", "consider_constant",
    "custom_gradient", "disconnected_grad", "grad", "grad_clip", "grad_not_implemented", "grad_scale", "grad_undefined",
    "hessian", "hessian_vector_product", "jacobian", "numeric_grad", "subgraph_grad", "undefined_grad",
    "verify_grad", "zero_grad",
]  # fmt: skip
