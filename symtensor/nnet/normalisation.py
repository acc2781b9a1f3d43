"""Layers that keep the scale of what passes through them, and dropout."""

from collections.abc import Sequence
from typing import Any

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import describe
from symtensor.ops.arguments import normal_axes
from symtensor.ops.batch_normalization import Axes, batch_normalization_test, batch_normalization_train
from symtensor.shared_variables import SharedVariable
from symtensor.updates import OrderedUpdates
from symtensor_codegen.errors import DTypeError


def layer_norm(
    x: TensorLike,
    gamma: TensorLike | None = None,
    beta: TensorLike | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Each example with mean 0 and variance 1 over ``axis``, times ``gamma``, plus ``beta`` (which broadcast).

    (Ba, Kiros and Hinton, 2016: Layer normalization; variance and epsilon as in PyTorch.)
    """
    value = as_tensor(x)
    over = normal_axes("layer_norm", axis, value.ndim, value)
    centred = value - T.mean(value, axis=over, keepdims=True)
    result = centred / T.sqrt(T.mean(centred**2, axis=over, keepdims=True) + epsilon)
    if gamma is not None:
        result = result * as_tensor(gamma)
    return result if beta is None else result + as_tensor(beta)


def batch_norm(
    x: TensorLike,
    gamma: TensorLike,
    beta: TensorLike,
    running_mean: SharedVariable,
    running_var: SharedVariable,
    training: bool = True,
    axes: Axes = "per-activation",
    epsilon: float = 1e-5,
    running_average_factor: float = 0.1,
) -> tuple[Tensor, OrderedUpdates]:
    """Batch normalisation with what it learns of all batches.

    Args:
        x: an array with the batch along axis 0.
        gamma, beta: scale and offset: the sizes of ``x`` without ``axes``, or with 1 there.
        running_mean, running_var: shared variables of the same sizes.
        training: normalise by the mean and variance of the batch, and update the running ones; otherwise use these.
        axes: ``"per-activation"`` (axis 0), ``"spatial"`` (axis 0 and those after 1), or numbers.
        epsilon: added to the variance.
        running_average_factor: the weight of this batch in the running mean and variance.

    Returns:
        The result, and updates of the running mean and variance for ``function`` (none if not ``training``).
        (Ioffe and Szegedy, 2015: Batch normalization.)
    """
    updates = OrderedUpdates()
    if not training:
        return batch_normalization_test(x, gamma, beta, running_mean, running_var, axes, epsilon), updates
    result, _, _, mean, var = batch_normalization_train(
        x, gamma, beta, axes, epsilon, running_average_factor, running_mean, running_var
    )
    updates[running_mean], updates[running_var] = mean, var
    return result, updates


def dropout(
    x: TensorLike,
    p: TensorLike = 0.5,
    srng: Any = None,
    deterministic: bool = False,
    shared_axes: int | Sequence[int] = (),
) -> Tensor:
    """``x`` with elements set to zero with probability ``p``, and the others divided by 1 - p.

    Args:
        x: an array of floating point.
        p: a number in [0, 1), or an expression for one.
        srng: random streams (``RandomStreams``, ``MRG_RandomStreams`` or ``RandomStream``); every call of a compiled
            function draws anew.
        deterministic: return ``x`` itself, as when a trained network is used.
        shared_axes: axes along which all elements are dropped or kept together; that of the steps of a recurrent
            network, for instance (Gal and Ghahramani, 2016).

    Raises:
        ValueError: a probability is out of range.
        TypeError: there are no random streams.
        (Srivastava et al., 2014: Dropout.)
    """
    value = as_tensor(x)
    if deterministic or (not isinstance(p, Tensor) and p == 0):
        return value
    if not isinstance(p, Tensor) and not 0 <= p < 1:
        raise ValueError(f"dropout: the probability {p} is outside of [0, 1)")
    if srng is None:
        raise TypeError("dropout needs random streams, dropout(x, p, RandomStreams(seed)), or deterministic=True")
    if value.element.kind != "f":
        raise DTypeError(f"dropout takes floating point, got {describe(value)}")
    together = normal_axes("dropout", shared_axes, value.ndim, value) if shared_axes != () else ()
    size = tuple(1 if axis in together else value.shape[axis] for axis in range(value.ndim))
    chance = T.cast(as_tensor(p), value.dtype)
    drawn = srng.uniform(size=size, dtype=value.dtype)
    return T.switch(T.ge(drawn, chance), value / (1 - chance), T.zeros_like(value))


__all__ = ["batch_norm", "dropout", "layer_norm"]
