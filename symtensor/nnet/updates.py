"""Updates for training by gradients: each function takes a loss and parameters and returns what ``function`` needs.

As in Lasagne, ``loss_or_grads`` is a scalar expression, or a list of gradients in the order of ``params`` (shared
variables); the result maps shared variables to their next values. The variables that a method keeps (momenta, mean
squares) begin at zero. Learning rates and other numbers may be expressions or shared variables, so that they can
change while training goes on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import symtensor.tensor as T
from symtensor.differentiation import grad
from symtensor.graph import Tensor, as_tensor
from symtensor.opdef import describe
from symtensor.shared_variables import SharedVariable, shared
from symtensor.updates import OrderedUpdates

Loss = Any  # a scalar expression, or a sequence of gradients
Number = Any  # a number or a scalar expression
Params = Sequence[SharedVariable]


def get_or_compute_grads(loss_or_grads: Loss, params: Params) -> list[Tensor]:
    """The gradients given, or those of the loss with respect to the parameters.

    Raises:
        TypeError: a parameter is not a shared variable.
        ValueError: there are more or fewer gradients than parameters.
    """
    for p in params:
        if not isinstance(p, SharedVariable):
            raise TypeError(f"params must be shared variables, got {p!r}")
    if isinstance(loss_or_grads, (list, tuple)):
        if len(loss_or_grads) != len(params):
            raise ValueError(f"there are {len(loss_or_grads)} gradients for {len(params)} parameters")
        return [as_tensor(g) for g in loss_or_grads]
    found: list[Tensor] = grad(loss_or_grads, list(params))
    return found


def sgd(loss_or_grads: Loss, params: Params, learning_rate: Number) -> OrderedUpdates:
    """Stochastic gradient descent: p - learning_rate g."""
    return _each(loss_or_grads, params, lambda p, g, updates: p - _number(p, learning_rate) * g)


def apply_momentum(
    updates: OrderedUpdates, params: Params | None = None, momentum: Number = 0.9
) -> OrderedUpdates:
    """Updates with momentum: v = momentum v + (next p - p), and p + v."""
    made = OrderedUpdates(updates)
    for p in updates if params is None else params:
        velocity = _zeros(p)
        step = _like(p, _number(p, momentum) * velocity + (updates[p] - p))
        made[velocity], made[p] = step, _like(p, p + step)
    return made


def apply_nesterov_momentum(
    updates: OrderedUpdates, params: Params | None = None, momentum: Number = 0.9
) -> OrderedUpdates:
    """Updates with Nesterov's momentum: v = momentum v + (next p - p), and next p + momentum v.

    (In the form of Bengio et al., 2012: Advances in optimizing recurrent networks.)
    """
    made = OrderedUpdates(updates)
    for p in updates if params is None else params:
        velocity = _zeros(p)
        step = _like(p, _number(p, momentum) * velocity + (updates[p] - p))
        made[velocity], made[p] = step, _like(p, updates[p] + _number(p, momentum) * step)
    return made


def momentum(loss_or_grads: Loss, params: Params, learning_rate: Number, momentum: Number = 0.9) -> OrderedUpdates:
    """Gradient descent with momentum: v = momentum v - learning_rate g, and p + v."""
    return apply_momentum(sgd(loss_or_grads, params, learning_rate), momentum=momentum)


def nesterov_momentum(
    loss_or_grads: Loss, params: Params, learning_rate: Number, momentum: Number = 0.9
) -> OrderedUpdates:
    """Gradient descent with Nesterov's momentum: v = momentum v - rate g, and p + momentum v - rate g."""
    return apply_nesterov_momentum(sgd(loss_or_grads, params, learning_rate), momentum=momentum)


def adagrad(
    loss_or_grads: Loss, params: Params, learning_rate: Number = 1.0, epsilon: Number = 1e-6
) -> OrderedUpdates:
    """AdaGrad: p - learning_rate g / sqrt(sum of g**2 so far + epsilon).

    (Duchi, Hazan and Singer, 2011: Adaptive subgradient methods.)
    """

    def step(p: SharedVariable, g: Tensor, updates: OrderedUpdates) -> Any:
        total = _zeros(p)
        updates[total] = after = _like(p, total + g**2)
        return p - _number(p, learning_rate) * g / T.sqrt(after + epsilon)

    return _each(loss_or_grads, params, step)


def rmsprop(
    loss_or_grads: Loss,
    params: Params,
    learning_rate: Number = 1.0,
    rho: Number = 0.9,
    epsilon: Number = 1e-6,
) -> OrderedUpdates:
    """RMSProp: p - learning_rate g / sqrt(m + epsilon) with the moving mean m = rho m + (1 - rho) g**2.

    (Tieleman and Hinton, 2012: Lecture 6.5.)
    """

    def step(p: SharedVariable, g: Tensor, updates: OrderedUpdates) -> Any:
        mean = _zeros(p)
        updates[mean] = after = _mean(mean, g**2, rho)
        return p - _number(p, learning_rate) * g / T.sqrt(after + epsilon)

    return _each(loss_or_grads, params, step)


def adadelta(
    loss_or_grads: Loss,
    params: Params,
    learning_rate: Number = 1.0,
    rho: Number = 0.95,
    epsilon: Number = 1e-6,
) -> OrderedUpdates:
    """AdaDelta: p - learning_rate d, with d = g sqrt(s + epsilon) / sqrt(m + epsilon).

    m and s are moving means of g**2 (with this step) and of d**2 (before it).
    (Zeiler, 2012: ADADELTA.)
    """

    def step(p: SharedVariable, g: Tensor, updates: OrderedUpdates) -> Any:
        mean, steps = _zeros(p), _zeros(p)
        updates[mean] = after = _mean(mean, g**2, rho)
        change = g * T.sqrt(steps + epsilon) / T.sqrt(after + epsilon)
        updates[steps] = _mean(steps, change**2, rho)
        return p - _number(p, learning_rate) * change

    return _each(loss_or_grads, params, step)


def adam(
    loss_or_grads: Loss,
    params: Params,
    learning_rate: Number = 0.001,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> OrderedUpdates:
    """Adam: p - a m / (sqrt(v) + epsilon), with moving means m of g and v of g**2.

    The rate is a = learning_rate sqrt(1 - beta2**t) / (1 - beta1**t) in step t = 1, 2, ...

    (Kingma and Ba, 2014: Adam, in the order of operations at the end of its section 2.)
    """
    updates = OrderedUpdates()
    rate = _adam_rate(updates, params, learning_rate, beta1, beta2)

    def step(p: SharedVariable, g: Tensor, made: OrderedUpdates) -> Any:
        mean, square = _zeros(p), _zeros(p)
        made[mean] = first = _mean(mean, g, beta1)
        made[square] = second = _mean(square, g**2, beta2)
        return p - _like(p, rate) * first / (T.sqrt(second) + epsilon)

    return updates + _each(loss_or_grads, params, step)


def adamax(
    loss_or_grads: Loss,
    params: Params,
    learning_rate: Number = 0.002,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> OrderedUpdates:
    """Adam with the largest recent gradient, max(beta2 u, |g|), in place of the root of the mean square.

    (Kingma and Ba, 2014: Adam, section 7.1.)
    """
    updates = OrderedUpdates()
    rate = _adam_rate(updates, params, learning_rate, beta1, None)

    def step(p: SharedVariable, g: Tensor, made: OrderedUpdates) -> Any:
        mean, largest = _zeros(p), _zeros(p)
        made[mean] = first = _mean(mean, g, beta1)
        made[largest] = second = T.maximum(_number(p, beta2) * largest, abs(g))
        return p - _like(p, rate) * first / (second + epsilon)

    return updates + _each(loss_or_grads, params, step)


def norm_constraint(
    tensor: Any, max_norm: Number, norm_axes: Sequence[int] | None = None, epsilon: float = 1e-7
) -> Tensor:
    """A tensor scaled so that its norms over ``norm_axes`` are at most ``max_norm``.

    By default these are the norms of a matrix's columns, or over all axes but the first where there are more.
    """
    x = as_tensor(tensor)
    if norm_axes is None:
        if x.ndim < 2:
            raise ValueError(f"norm_constraint: norm_axes must be given for {describe(x)}")
        norm_axes = [0] if x.ndim == 2 else list(range(1, x.ndim))
    norms = T.sqrt(T.sum(x**2, axis=tuple(norm_axes), keepdims=True))
    return _like(x, x * (T.clip(norms, 0, max_norm) / (norms + epsilon)))


def total_norm_constraint(
    tensor_vars: Sequence[Any], max_norm: Number, epsilon: float = 1e-7, return_norm: bool = False
) -> Any:
    """Tensors scaled by one factor so that the norm of all their elements is at most ``max_norm``.

    Used on gradients, so that a step over a cliff of the loss is no leap (Pascanu, Mikolov and Bengio, 2013: On the
    difficulty of training recurrent neural networks). With ``return_norm`` also the norm before scaling.
    """
    tensors = [as_tensor(x) for x in tensor_vars]
    total: Any = sum((T.sum(x**2) for x in tensors), 0.0)
    norm = T.sqrt(total)
    factor = T.clip(norm, 0, max_norm) / (norm + epsilon)
    scaled = [_like(x, x * factor) for x in tensors]
    return (scaled, norm) if return_norm else scaled


def _adam_rate(
    updates: OrderedUpdates, params: Params, learning_rate: Number, beta1: Number, beta2: Number | None
) -> Tensor:
    """The learning rate corrected for means that began at zero, by a counter of steps."""
    kinds = {p.dtype for p in params}
    count = shared(np.zeros((), "float32" if kinds == {"float32"} else "float64"), "t")
    updates[count] = t = _like(count, count + 1)
    rate = as_tensor(learning_rate / (1 - beta1**t))
    return rate if beta2 is None else rate * T.sqrt(1 - beta2**t)


def _each(
    loss_or_grads: Loss, params: Params, step: Callable[[SharedVariable, Tensor, OrderedUpdates], Any]
) -> OrderedUpdates:
    updates = OrderedUpdates()
    for p, g in zip(params, get_or_compute_grads(loss_or_grads, params), strict=True):
        updates[p] = _like(p, step(p, g, updates))
    return updates


def _zeros(p: SharedVariable) -> SharedVariable:
    """A shared variable of zeros beside ``p``; sizes that are fixed stay so."""
    return shared(np.zeros(p.cell.shape, p.dtype), shape=p.type.shape)


def _mean(mean: SharedVariable, value: Tensor, rho: Number) -> Tensor:
    """The next value of a moving mean."""
    weight = _number(mean, rho)
    return _like(mean, weight * mean + (1 - weight) * value)


def _number(x: Tensor, value: Number) -> Any:
    """A Python number as it is (it takes the type of what it meets); anything else in the element type of ``x``."""
    return value if type(value) in (int, float) else _like(x, value)


def _like(x: Tensor, value: Any) -> Tensor:
    """``value`` in the element type of ``x``: a float64 learning rate does not make float32 parameters float64."""
    made = as_tensor(value)
    return made if made.element is x.element else T.cast(made, x.dtype)


__all__ = [
    "adadelta", "adagrad", "adam", "adamax", "apply_momentum", "apply_nesterov_momentum", "get_or_compute_grads",
    "momentum", "nesterov_momentum", "norm_constraint", "rmsprop", "sgd", "total_norm_constraint",
]  # fmt: skip
