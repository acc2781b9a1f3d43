"""Softmax and the functions that neural networks are written with."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import At, Gradients, Index, Inferred, OpDef, describe, promoted
from symtensor.settings import config
from symtensor_codegen import scalar
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.scalar import Scalar

from .arguments import normal_axes
from .elementwise import abs_, clip, minimum, switch
from .elementwise_math import exp, expm1, tanh
from .elementwise_smooth import erf, relu_op, sigmoid
from .gradient_parts import typed

Axes = tuple[int, ...]

# Softmax: the exponentials of each slice, over their sum ---------------------------------------------------


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    if not x.element.is_float:
        raise DTypeError(f"softmax does not take {x.element}: {describe(x)}")
    return x.element, x.dims


def _convert(op: OpDef, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
    return promoted(values, integer="float", name=op.name)


def _shift_and_total(node: Tensor, at: At, index: Index) -> tuple[Scalar, Scalar]:
    """The largest value of the slice, and the sum of exponentials after subtracting it."""
    (x,) = node.inputs
    axes: Axes = node.params["axes"]

    def over(combine: str, of: Callable[[Scalar], Scalar]) -> Scalar:
        fresh = {axis: scalar.index("r", x.dims[axis]) for axis in axes}
        value = of(at(0, tuple([fresh.get(axis, i) for axis, i in enumerate(index)])))
        for axis in reversed(axes):
            value = scalar.reduce(combine, fresh[axis], value)
        return value

    highest = over("maximum", lambda value: value)
    return highest, over("add", lambda value: scalar.exp(value - highest))


def _softmax_pull(node: Tensor, at: At, index: Index) -> Scalar:
    highest, total = _shift_and_total(node, at, index)
    return scalar.exp(at(0, index) - highest) * scalar.div(scalar.const(1, total.dtype), total)


def _log_softmax_pull(node: Tensor, at: At, index: Index) -> Scalar:
    highest, total = _shift_and_total(node, at, index)
    return at(0, index) - highest - scalar.log(total)


def _shifted(x: Any, axes: Axes) -> Any:
    return x - np.max(x, axis=axes, keepdims=True, initial=-np.inf)


def _softmax_reference(x: Any, axes: Axes) -> Any:
    powers = np.exp(_shifted(x, axes))
    return powers / np.sum(powers, axis=axes, keepdims=True)


def _log_softmax_reference(x: Any, axes: Axes) -> Any:
    shifted = _shifted(x, axes)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))


def _total(x: Tensor, axes: Axes) -> Tensor:
    from .reduction import sum as sum_of

    return sum_of(x, axis=axes, keepdims=True)


def _softmax_gradient(g: Tensor, node: Tensor) -> Gradients:
    return ((g - _total(g * node, node.params["axes"])) * node,)


def _log_softmax_gradient(g: Tensor, node: Tensor) -> Gradients:
    return (g - exp(node) * _total(g, node.params["axes"]),)


def _cases(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=(3, 17)) * 3,), {"axes": (1,)}
    yield (rng.normal(size=(17, 3)).astype(np.float32),), {"axes": (0,)}
    yield (rng.normal(size=(2, 3, 4)),), {"axes": (0, 2)}
    yield (rng.normal(size=5).astype(np.float32) * 1000,), {"axes": (0,)}
    yield (rng.normal(size=(2, 1)),), {"axes": (1,)}
    yield (np.zeros((0, 3)),), {"axes": (1,)}


softmax_op = OpDef(
    name="softmax",
    doc="exp(x), divided by its sum over the axes; without overflow.",
    infer=_infer,
    convert=_convert,
    reference=_softmax_reference,
    gradient=_softmax_gradient,
    pull=_softmax_pull,
    category="nnet",
    cost=40,
    cases=_cases,
    tolerance=8,
)
log_softmax_op = OpDef(
    name="log_softmax",
    doc="Logarithm of the softmax over the axes, finite where the softmax is 0.",
    infer=_infer,
    convert=_convert,
    reference=_log_softmax_reference,
    gradient=_log_softmax_gradient,
    pull=_log_softmax_pull,
    category="nnet",
    cost=40,
    cases=_cases,
    tolerance=8,
)


def _over_axis(op: OpDef, x: TensorLike, axis: Any) -> Tensor:
    from .shaping import dimshuffle

    v = _float(x, op.name)
    if config.cast_policy == "theano" and v.ndim == 1:
        v = dimshuffle(v, "x", 0)
    return op.make(v, axes=normal_axes(op.name, axis, v.ndim, v))


def softmax(x: TensorLike, axis: Any = -1) -> Tensor:
    """exp(x) / sum(exp(x)) over an axis, several axes, or all (None); without overflow.

    The result has the sizes of ``x``. Under ``config.cast_policy = "theano"`` a vector gives a (1, n) row.
    """
    return _over_axis(softmax_op, x, axis)


def log_softmax(x: TensorLike, axis: Any = -1) -> Tensor:
    """log(softmax(x, axis)), finite where the softmax underflows to 0."""
    return _over_axis(log_softmax_op, x, axis)


logsoftmax = log_softmax


def softmax_with_bias(x: TensorLike, b: TensorLike) -> Tensor:
    """Softmax of each row of x + b."""
    return softmax(as_tensor(x) + b)


# Activations -----------------------------------------------------------------------------------------------


def _float(x: TensorLike, name: str) -> Tensor:
    return promoted((x,), integer="float", name=name)[0]


def relu(x: TensorLike, alpha: TensorLike = 0) -> Tensor:
    """max(x, 0); with ``alpha``, negative values times it. The derivative at 0 is the mean of both."""
    if isinstance(alpha, (int, float)) and alpha == 0:
        return relu_op(x)
    v, slope = promoted((x, alpha), integer="quotient", name="relu")
    half = typed(0.5, slope)
    return (half + half * slope) * v + (half - half * slope) * abs_(v)


def elu(x: TensorLike, alpha: TensorLike = 1) -> Tensor:
    """Positive values as they are, negative ones as alpha (exp(x) - 1)."""
    v = _float(x, "elu")
    negative: Tensor = alpha * expm1(minimum(v, typed(0, v)))
    return switch(v > 0, v, negative)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. (2017), equation 14


def selu(x: TensorLike) -> Tensor:
    """Scaled elu, which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    v = _float(x, "selu")
    return typed(SELU_SCALE, v) * elu(v, typed(SELU_ALPHA, v))


def silu(x: TensorLike) -> Tensor:
    """Product of x and sigmoid(x), also called swish."""
    v = _float(x, "silu")
    return v * sigmoid(v)


def gelu(x: TensorLike, approximate: bool = False) -> Tensor:
    """Product of x and the normal distribution function at x (Hendrycks and Gimpel 2016).

    ``approximate``: with their formula with tanh in place of the error function.
    """
    v = _float(x, "gelu")
    half, one = typed(0.5, v), typed(1, v)
    if approximate:
        inner = typed(math.sqrt(2 / math.pi), v) * (v + typed(0.044715, v) * (v * v * v))
        return half * v * (one + tanh(inner))
    return half * v * (one + erf(v * typed(math.sqrt(0.5), v)))


def softsign(x: TensorLike) -> Tensor:
    """Quotient x / (1 + |x|)."""
    v = _float(x, "softsign")
    return v / (typed(1, v) + abs_(v))


def hard_sigmoid(x: TensorLike) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), a rough and cheap sigmoid."""
    v = _float(x, "hard_sigmoid")
    return clip(v * typed(0.2, v) + typed(0.5, v), typed(0, v), typed(1, v))


def ultra_fast_sigmoid(x: TensorLike) -> Tensor:
    """A sigmoid of rational and linear pieces, within 0.03 of the exact one (Theano's coefficients)."""
    v = _float(x, "ultra_fast_sigmoid")
    half, one = typed(0.5, v), typed(1, v)
    size = abs_(v * half)
    curve = typed(1.5, v) * size / (one + size)
    line = typed(0.935409070603099, v) + typed(0.0458812946797165, v) * (size - typed(1.7, v))
    last = typed(0.99505475368673, v)
    piece = switch(size < typed(1.7, v), curve, switch(size < typed(3, v), line, last))
    return half * (switch(v < typed(0, v), -piece, piece) + one)
