"""Batch normalisation, with Theano's signatures (``T.nnet.bn``)."""

from collections.abc import Sequence
from typing import Any

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import describe
from symtensor_codegen.errors import ShapeError

from .arguments import as_element, normal_axes
from .elementwise import sqr
from .elementwise_math import sqrt
from .reduction import mean as mean_over
from .shaping import addbroadcast

Axes = str | int | Sequence[int]


def batch_normalization(
    inputs: TensorLike,
    gamma: TensorLike,
    beta: TensorLike,
    mean: TensorLike,
    std: TensorLike,
    mode: str = "low_mem",
) -> Tensor:
    """(inputs - mean) gamma / std + beta, where everything broadcasts; ``mode`` is Theano's, and changes nothing."""
    x = as_tensor(inputs)
    result: Tensor = (x - mean) * (as_tensor(gamma) / std) + beta
    return result


def batch_normalization_train(
    inputs: TensorLike,
    gamma: TensorLike,
    beta: TensorLike,
    axes: Axes = "per-activation",
    epsilon: TensorLike = 1e-4,
    running_average_factor: TensorLike = 0.1,
    running_mean: TensorLike | None = None,
    running_var: TensorLike | None = None,
) -> tuple[Tensor, ...]:
    """Inputs with mean 0 and variance 1 over ``axes`` (that of the batch), times ``gamma``, plus ``beta``.

    Args:
        inputs: an array with the batch along axis 0.
        gamma, beta, running_mean, running_var: the sizes of ``inputs`` with 1 for ``axes``, or without these axes.
        axes: ``"per-activation"`` (axis 0), ``"spatial"`` (axis 0 and those after 1: one mean for a channel), or axes.
        epsilon: added to the variance.
        running_average_factor: the weight f of this batch in running = (1 - f) running + f batch.
        running_mean, running_var: what was learned about all batches, for ``batch_normalization_test``.

    Returns:
        The result, the mean and 1 / sqrt(variance + epsilon) of the batch, and where given the next running mean and
        running variance (of the unbiased variance, n / (n - 1) times that of the batch).
        (Ioffe and Szegedy, 2015: Batch normalization.)
    """
    x = as_tensor(inputs)
    over = _axes(axes, x)
    scale, shift, *running = [
        _spread(p, x, over) for p in (gamma, beta, running_mean, running_var) if p is not None
    ]
    whole = as_tensor(gamma).ndim == x.ndim
    centre = mean_over(x, axis=over, keepdims=True)
    variance = mean_over(sqr(x - centre), axis=over, keepdims=True)
    factor = 1 / sqrt(variance + epsilon)
    results = [(x - centre) * (scale * factor) + shift, centre, factor]
    if running_mean is not None:
        weight = running_average_factor
        results.append(_like((1 - weight) * running[0] + weight * centre, running[0]))
    if running_var is not None:
        count = as_element(x.size, x.element) / as_element(centre.size, x.element)
        unbiased = variance * (count / (count - 1))
        results.append(
            _like((1 - running_average_factor) * running[-1] + running_average_factor * unbiased, running[-1])
        )
    if not whole:
        kept = [a for a in range(x.ndim) if a not in over]
        results[1:] = [r.dimshuffle(*kept) for r in results[1:]]
    return tuple(results)


def batch_normalization_test(
    inputs: TensorLike,
    gamma: TensorLike,
    beta: TensorLike,
    mean: TensorLike,
    var: TensorLike,
    axes: Axes = "per-activation",
    epsilon: TensorLike = 1e-4,
) -> Tensor:
    """(inputs - mean) gamma / sqrt(var + epsilon) + beta; arguments as in ``batch_normalization_train``."""
    x = as_tensor(inputs)
    over = _axes(axes, x)
    scale, shift, centre, variance = [_spread(p, x, over) for p in (gamma, beta, mean, var)]
    return (x - centre) * (scale / sqrt(variance + epsilon)) + shift


def _axes(axes: Axes, x: Tensor) -> tuple[int, ...]:
    if x.ndim < 2:
        raise ShapeError(f"batch normalisation needs a batch and at least one more axis, got {describe(x)}")
    if axes == "per-activation":
        return (0,)
    if axes == "spatial":
        return (0, *range(2, x.ndim))
    if isinstance(axes, str):
        raise ValueError(f"batch normalisation: axes are 'per-activation', 'spatial' or numbers, not {axes!r}")
    over = normal_axes("batch normalisation", axes, x.ndim, x)
    if not over or len(over) == x.ndim:
        raise ValueError(f"batch normalisation: {axes} leaves nothing to normalise by, or nothing over: {describe(x)}")
    return over


def _spread(value: TensorLike, x: Tensor, over: tuple[int, ...]) -> Tensor:
    """A parameter with the axes of ``x``, of size 1 along those that are normalised."""
    parameter = as_tensor(value)
    kept = [a for a in range(x.ndim) if a not in over]
    if parameter.ndim == x.ndim:
        made: Tensor = addbroadcast(parameter, *over)
        return made
    if parameter.ndim != len(kept):
        raise ShapeError(
            f"batch normalisation: a parameter has {x.ndim} axes, or {len(kept)} (those that are kept), not "
            f"{describe(parameter)}"
        )
    order: list[Any] = ["x"] * x.ndim
    for place, axis in enumerate(kept):
        order[axis] = place
    return parameter.dimshuffle(*order)


def _like(value: Tensor, x: Tensor) -> Tensor:
    return as_element(value, x.element)


__all__ = ["batch_normalization", "batch_normalization_test", "batch_normalization_train"]
