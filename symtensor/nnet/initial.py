"""First values of parameters, as NumPy arrays.

Every function takes the shape, and ``rng``: a NumPy generator, or a seed for one. A matrix (inputs, outputs) has as
many inputs and outputs as it has rows and columns; of an array with more axes, as the filters of a convolution
(outputs, inputs, height, width), the further axes multiply both.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor.settings import config

Random = np.random.Generator | int
Array = npt.NDArray[Any]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """The numbers of inputs and outputs of an array of parameters.

    Raises:
        ValueError: it has fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"parameters of shape {tuple(shape)} have no inputs and outputs")
    if len(shape) == 2:
        return shape[0], shape[1]
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def normal(shape: Sequence[int], rng: Random, std: float = 0.01, dtype: str | None = None) -> Array:
    """Normally distributed with mean 0."""
    return _typed(np.random.default_rng(rng).normal(0.0, std, shape), dtype)


def uniform(shape: Sequence[int], rng: Random, bound: float = 0.01, dtype: str | None = None) -> Array:
    """Uniformly distributed in [-bound, bound)."""
    return _typed(np.random.default_rng(rng).uniform(-bound, bound, shape), dtype)


def glorot_uniform(shape: Sequence[int], rng: Random, gain: float = 1.0, dtype: str | None = None) -> Array:
    """Uniform with variance 2 gain**2 / (inputs + outputs).

    (Glorot and Bengio, 2010: Understanding the difficulty of training deep feedforward neural networks.)
    """
    return uniform(shape, rng, gain * math.sqrt(6 / sum(fans(shape))), dtype)


def glorot_normal(shape: Sequence[int], rng: Random, gain: float = 1.0, dtype: str | None = None) -> Array:
    """Normal with variance 2 gain**2 / (inputs + outputs)."""
    return normal(shape, rng, gain * math.sqrt(2 / sum(fans(shape))), dtype)


def he_uniform(shape: Sequence[int], rng: Random, gain: float = math.sqrt(2), dtype: str | None = None) -> Array:
    """Uniform with variance gain**2 / inputs; the gain is that of relu.

    (He, Zhang, Ren and Sun, 2015: Delving deep into rectifiers.)
    """
    return uniform(shape, rng, gain * math.sqrt(3 / fans(shape)[0]), dtype)


def he_normal(shape: Sequence[int], rng: Random, gain: float = math.sqrt(2), dtype: str | None = None) -> Array:
    """Normal with variance gain**2 / inputs; the gain is that of relu."""
    return normal(shape, rng, gain * math.sqrt(1 / fans(shape)[0]), dtype)


def orthogonal(shape: Sequence[int], rng: Random, gain: float = 1.0, dtype: str | None = None) -> Array:
    """A matrix with orthogonal columns, or rows where there are fewer, each of norm ``gain``.

    Axes after the first count as one; all such matrices are equally likely (Mezzadri, 2007). (Saxe, McClelland and
    Ganguli, 2013: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks.)
    """
    if len(shape) < 2:
        raise ValueError(f"orthogonal: {tuple(shape)} is not the shape of a matrix")
    rows, columns = shape[0], math.prod(shape[1:])
    drawn = np.random.default_rng(rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.sign(np.diagonal(r))
    return _typed(gain * (q if rows >= columns else q.T).reshape(tuple(shape)), dtype)


def _typed(values: Array, dtype: str | None) -> Array:
    return values.astype(config.floatX if dtype is None else dtype)


__all__ = [
    "fans", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "normal", "orthogonal", "uniform",
]  # fmt: skip
