"""Operations that return their argument unchanged and only alter its gradient."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, At, Gradients, Index, Inferred, OpDef, describe, elementwise
from symtensor.types import TensorType
from symtensor_codegen import dtypes
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Scalar

from .gradient_parts import zeros

# What a gradient may be besides a tensor ----------------------------------------------------------------


class _MarkerType(TensorType):
    """A type without values: variables of it only say something about a gradient."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> "_MarkerType":
        made = object.__new__(cls)
        made.element, made.shape = dtypes.float64, ()
        return made


class DisconnectedType(_MarkerType):
    """Type of a gradient with respect to something that the cost does not depend on."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DisconnectedType"

    def __reduce__(self) -> tuple[Any, ...]:
        return DisconnectedType, ()


class NullType(_MarkerType):
    """Type of a gradient that does not exist, or that nobody has written; ``why_null`` says which and why."""

    __slots__ = ("why_null",)
    why_null: str

    def __new__(cls, why_null: str = "(no reason given)") -> "NullType":
        """A type with this reason; unlike other types it is not interned."""
        made = super().__new__(cls)
        assert isinstance(made, NullType)
        made.why_null = why_null
        return made

    def __repr__(self) -> str:
        return f"NullType({self.why_null})"

    def __reduce__(self) -> tuple[Any, ...]:
        return NullType, (self.why_null,)


def grad_undefined(op: object, x_pos: int, x: Tensor, comment: str = "") -> Tensor:
    """The gradient to return for an input with respect to which ``op`` has none in mathematics."""
    return NullType(
        f"the gradient of {op} with respect to its input {x_pos} ({x}) is undefined. {comment}".strip()
    )()


def grad_not_implemented(op: object, x_pos: int, x: Tensor, comment: str = "") -> Tensor:
    """The gradient to return for an input with respect to which ``op`` has one that nobody has written."""
    return NullType(
        f"the gradient of {op} with respect to its input {x_pos} ({x}) is not implemented. {comment}".strip()
    )()


# The operations -----------------------------------------------------------------------------------------


def _same(x: Scalar, **params: Any) -> Scalar:
    return x


def _copied(x: Any, **params: Any) -> Any:
    return np.array(x)


def _zero_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (zeros(g),)


def _disconnected_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (DisconnectedType()(),)


def _undefined_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (grad_undefined("undefined_grad", 0, x),)


def _clipped_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (OPS["clip"](g, out.params["lower"], out.params["upper"]),)


def _scaled_gradient(g: Tensor, x: Tensor, out: Tensor) -> Gradients:
    return (g * out.params["multiplier"],)


def _barrier(name: str, doc: str, gradient: Any) -> OpDef:
    return elementwise(name, doc=doc, scalar=_same, numpy=_copied, arity=1, gradient=gradient)


ZERO_GRAD: Final = _barrier("zero_grad", "The argument; its gradient is zero.", _zero_gradient)
CONSIDER_CONSTANT: Final = _barrier(
    "consider_constant", "The argument; the gradient takes it for a constant (zero).", _zero_gradient
)
DISCONNECTED_GRAD: Final = _barrier(
    "disconnected_grad",
    "The argument; the gradient does not see what it is computed from.",
    _disconnected_gradient,
)
UNDEFINED_GRAD: Final = _barrier(
    "undefined_grad", "The argument; a gradient through it is an error.", _undefined_gradient
)
GRAD_CLIP: Final = _barrier(
    "grad_clip", "The argument; its gradient is clipped to [lower, upper].", _clipped_gradient
)
GRAD_SCALE: Final = _barrier(
    "grad_scale", "The argument; its gradient is multiplied by a number.", _scaled_gradient
)


def zero_grad(x: TensorLike) -> Tensor:
    """``x``; its gradient is zero, but it stays connected: ``grad`` with respect to ``x`` is no error."""
    return ZERO_GRAD(x)


def consider_constant(x: TensorLike) -> Tensor:
    """``x``, constant for the gradient (zero, as ``zero_grad``; older Theano programs use this name)."""
    return CONSIDER_CONSTANT(x)


def disconnected_grad(x: TensorLike) -> Tensor:
    """``x``; the gradient does not go through it, and inputs reached only by it are disconnected."""
    return DISCONNECTED_GRAD(x)


def undefined_grad(x: TensorLike) -> Tensor:
    """``x``; asking for a gradient through it raises NullTypeGradError."""
    return UNDEFINED_GRAD(x)


def grad_clip(x: TensorLike, lower_bound: float, upper_bound: float) -> Tensor:
    """``x``; the gradient that flows back through it is clipped to the bounds.

    Raises:
        ValueError: where the lower bound is above the upper one.
    """
    lower, upper = float(lower_bound), float(upper_bound)
    if not lower <= upper:
        raise ValueError(f"grad_clip: the lower bound {lower_bound} is above the upper bound {upper_bound}")
    return GRAD_CLIP.make(as_tensor(x), lower=lower, upper=upper)


def grad_scale(x: TensorLike, multiplier: float) -> Tensor:
    """``x``; the gradient that flows back through it is multiplied by a number (-1 reverses it)."""
    return GRAD_SCALE.make(as_tensor(x), multiplier=float(multiplier))


# A gradient of one's own --------------------------------------------------------------------------------

Rule = Callable[..., Sequence[Tensor | None]]


def _infer_with_gradient(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    return inputs[0].element, inputs[0].dims


def _pull_first(node: Tensor, at: At, index: Index) -> Scalar:
    return at(0, index)


def _ruled_gradient(g: Tensor, node: Tensor) -> Gradients:
    value, *given = node.inputs
    count = node.params["count"]
    parts = list(node.params["rule"](g, value, *given))
    if len(parts) != count:
        raise ValueError(f"custom_gradient: the rule returns {len(parts)} gradients for {count} inputs")
    for part, x in zip(parts, given, strict=False):
        if part is not None and part.ndim != x.ndim:
            raise ShapeError(f"custom_gradient: the gradient {describe(part)} does not fit {describe(x)}")
    return (None, *parts, *[None] * (len(given) - count))


def _square_rule(g: Tensor, value: Tensor, x: Tensor) -> Sequence[Tensor]:
    return (g * x * 2,)


WITH_GRADIENT: Final = OpDef(
    name="with_gradient",
    doc="The first argument; its gradient with respect to the next ones is what a rule says.",
    infer=_infer_with_gradient,
    reference=lambda value, *given, rule, count: value,
    gradient=_ruled_gradient,
    pull=_pull_first,
    category="control",
    cases=lambda rng: [((rng.normal(size=(3, 2)), rng.normal(size=(3, 2))), {"rule": _square_rule, "count": 1})],
)


def custom_gradient(
    value: TensorLike, inputs: Sequence[TensorLike], rule: Rule, extra: Sequence[TensorLike] = ()
) -> Tensor:
    """``value`` with a gradient of one's own: no gradient flows into the expression that computes it.

    Args:
        value: any expression.
        inputs: what the gradient of ``value`` is given for.
        rule: called as ``rule(g, value, *inputs, *extra)`` with the gradient ``g`` of the result when a gradient is
            taken; returns for each of ``inputs`` an expression of its rank, or None where there is none. It must use
            no other expressions than its arguments, and be linear in ``g`` (``Rop`` relies on it). A function of a
            module can be pickled with the program, a lambda cannot.
        extra: further expressions for the rule, such as intermediate results of ``value``.

    Raises:
        ValueError, ShapeError: when the gradient is taken, where the rule returns something else.
    """
    given = [as_tensor(x) for x in inputs]
    return WITH_GRADIENT.make(
        as_tensor(value), *given, *[as_tensor(x) for x in extra], rule=rule, count=len(given)
    )
