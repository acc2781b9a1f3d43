"""Checking symbolic gradients against differences of the function."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen.errors import DTypeError

from .differentiation import grad
from .graph import Tensor
from .pullback import GradientError
from .types import TensorType

Array = npt.NDArray[Any]

# By element type: the step, which balances the error of the difference against rounding, and the difference
# that passes.
_STEPS = {"float16": 5e-2, "float32": 5e-3, "float64": 1e-5}
_TOLERANCES = {"float16": 1e-1, "float32": 5e-3, "float64": 1e-5}


class GradientMismatchError(GradientError):
    """A symbolic gradient differs from the numerical one."""


class numeric_grad:
    """Gradient of a NumPy function with a scalar result, by central differences.

    Args:
        f: called with arrays like those of ``pt``; returns a number.
        pt: where: an array, or a list or tuple of arrays.
        eps: the step; by default one for the least precise element type among ``pt``.

    ``gf`` holds the gradient: an array, or a list of arrays, as ``pt`` is.
    """

    def __init__(self, f: Callable[..., Any], pt: Any, eps: float | None = None) -> None:
        self._single = not isinstance(pt, (list, tuple))
        points = [np.array(p) for p in ([pt] if self._single else pt)]
        kinds = [p.dtype.name for p in points if p.dtype.kind == "f"]
        step = max((_STEPS[k] for k in kinds), default=_STEPS["float64"]) if eps is None else eps
        gradients = [np.zeros(p.shape, p.dtype if p.dtype.kind == "f" else np.float64) for p in points]
        for point, gradient in zip(points, gradients, strict=True):
            if point.dtype.kind != "f":
                raise DTypeError(f"numeric_grad: points must be floating point, got {point.dtype}")
            for index in np.ndindex(point.shape):
                here = point[index]
                point[index] = here + step
                up, above = float(point[index]), float(f(*points))
                point[index] = here - step
                down, below = float(point[index]), float(f(*points))
                point[index] = here
                gradient[index] = (above - below) / (up - down)  # the steps as they were rounded
        self.gf: Any = gradients[0] if self._single else gradients

    @staticmethod
    def abs_rel_err(a: Any, b: Any) -> tuple[Any, Any]:
        """Absolute and relative differences, element by element."""
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        difference = np.abs(a - b)
        return difference, difference / np.maximum(np.abs(a) + np.abs(b), 1e-8)

    def abs_rel_errors(self, g_pt: Any) -> list[tuple[Any, Any]]:
        """``abs_rel_err`` of every gradient in ``g_pt`` from the numerical one."""
        mine, theirs = ([self.gf], [g_pt]) if self._single else (self.gf, g_pt)
        for a, b in zip(mine, theirs, strict=True):
            if np.shape(a) != np.shape(b):
                raise ValueError(f"the gradient has shape {np.shape(b)}, its variable {np.shape(a)}")
        return [self.abs_rel_err(a, b) for a, b in zip(mine, theirs, strict=True)]

    def max_err(self, g_pt: Any, abs_tol: float, rel_tol: float) -> tuple[int, tuple[int, ...], float, float]:
        """The worst element: number of the argument, index, absolute and relative difference.

        An element is as bad as the smaller one of its two differences in units of the tolerances. NaN is
        worst.
        """
        worst: tuple[float, tuple[int, tuple[int, ...], float, float]] = (-1.0, (0, (), 0.0, 0.0))
        for k, (absolute, relative) in enumerate(self.abs_rel_errors(g_pt)):
            if absolute.size == 0:
                continue
            badness = np.minimum(absolute / abs_tol, relative / rel_tol)
            badness = np.where(np.isnan(badness), np.inf, badness)
            index = np.unravel_index(int(np.argmax(badness)), badness.shape)
            if badness[index] > worst[0]:
                place = tuple(int(i) for i in index)
                worst = float(badness[index]), (k, place, float(absolute[index]), float(relative[index]))
        return worst[1]


def verify_grad(
    fun: Callable[..., Tensor],
    pt: Sequence[Any],
    n_tests: int = 2,
    rng: Any = None,
    eps: float | None = None,
    abs_tol: float | None = None,
    rel_tol: float | None = None,
    mode: Any = None,
) -> None:
    """Check the symbolic gradient of ``fun`` against central differences.

    Args:
        fun: takes one variable per point and returns an expression of any shape; its result is reduced to a
            scalar by random weights.
        pt: floating-point arrays at which the gradient is checked. Sizes of 1 broadcast.
        n_tests: number of random weights to try.
        rng: a NumPy generator; by default one with a fixed seed.
        eps, abs_tol, rel_tol: step and allowed differences (one of the two must hold for every element); by
            default chosen for the element types.
        mode: how to compile.

    Raises:
        GradientMismatchError: they differ; the message says where and by how much.

    >>> verify_grad(lambda x: T.tanh(x).sum(), [np.linspace(-1, 1, 5)])
    """
    from .functions import function

    generator = np.random.default_rng(7) if rng is None else rng
    points = [np.array(p) for p in pt]
    for k, p in enumerate(points):
        if p.dtype.kind != "f":
            raise DTypeError(f"verify_grad: point {k} must be floating point, got {p.dtype}")
    variables = [
        TensorType(p.dtype, tuple(1 if size == 1 else None for size in p.shape))(f"input {k}")
        for k, p in enumerate(points)
    ]
    out: Any = fun(*variables)
    if not isinstance(out, Tensor) or not out.element.is_float:
        raise TypeError(f"verify_grad: the function must return a floating-point expression, not {out!r}")
    weights = TensorType(out.dtype, out.type.shape)("weights")
    value = function(variables, out, mode=mode, on_unused_input="ignore")
    gradients = function(
        [*variables, weights],
        grad((out * weights).sum(), variables, disconnected_inputs="ignore"),
        mode=mode,
        on_unused_input="ignore",
    )
    kinds = [out.dtype, *[p.dtype.name for p in points]]
    tolerance = max(_TOLERANCES[kind] for kind in kinds)
    step = max(_STEPS[kind] for kind in kinds) if eps is None else eps
    abs_tol = tolerance if abs_tol is None else abs_tol
    rel_tol = tolerance if rel_tol is None else rel_tol
    shape = np.shape(value(*points))
    for _ in range(n_tests):
        # Away from zero, so that no element goes unnoticed.
        drawn = (generator.random(shape) + 0.5).astype(out.dtype)
        numeric = numeric_grad(_weighted(value, drawn), points, step)
        symbolic = gradients(*points, drawn)
        argument, index, absolute, relative = numeric.max_err(symbolic, abs_tol, rel_tol)
        if not (absolute <= abs_tol or relative <= rel_tol):
            raise GradientMismatchError(
                f"verify_grad: the gradient of argument {argument} at index {index} is "
                f"{symbolic[argument][index]}, numerically {numeric.gf[argument][index]}: absolute "
                "difference "
                f"{absolute:.3g} (allowed {abs_tol:.3g}), relative {relative:.3g} (allowed {rel_tol:.3g})"
            )


def _weighted(value: Callable[..., Any], weights: Array) -> Callable[..., float]:
    """The sum of the weighted elements of a function's result, in double precision."""

    def total(*points: Array) -> float:
        return float(np.sum(np.asarray(value(*points), np.float64) * weights))

    return total


verify_grad.E_grad = GradientMismatchError  # type: ignore[attr-defined]
