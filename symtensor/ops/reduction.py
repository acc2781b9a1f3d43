"""Reductions: sums, means, extremes, norms over axes.

In this module ``sum``, ``max``, ``min``, ``any`` and ``all`` are the ones of tensors.
"""

from typing import Any

import numpy as np

from symtensor.graph import Constant, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, OpDef, describe
from symtensor.settings import config
from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, ShapeError

from .arguments import as_element, int64, known_int, normal_axes
from .gradient_parts import typed
from .reduction_records import ALL, ANY, ARGMAX, ARGMIN, COMPLEX_PROD, LOGSUMEXP, MAX, MIN, PROD, SUM, Axes, restore
from .shaping import ravel, size


def _finish(reduced: Tensor, axes: Axes, ndim: int, keepdims: bool) -> Tensor:
    return restore(reduced, axes, ndim) if keepdims else reduced


def _accumulator(element: DType) -> DType:
    """The type in which elements are summed when the user names none."""
    if element.kind in "bi":
        return dtypes.int64
    if element.kind == "u":
        return dtypes.uint64
    if element is dtypes.float16:
        return dtypes.float32
    return dtypes.float64 if element is dtypes.float32 and config.cast_policy == "theano" else element


def _result_type(element: DType) -> DType:
    return element if element.is_inexact else _accumulator(element)


def _accumulated(
    op: OpDef, x: TensorLike, axis: Any, dtype: object, keepdims: bool, acc_dtype: object, **params: Any
) -> Tensor:
    x = as_tensor(x)
    axes = normal_axes(op.name, axis, x.ndim, x)
    result = _result_type(x.element) if dtype is None else dtypes.of(dtype)
    inside = (
        dtypes.of(acc_dtype)
        if acc_dtype is not None
        else _accumulator(x.element if dtype is None else result)
    )
    if x.element.is_complex and not result.is_complex:
        raise DTypeError(f"{op.name}: complex values have no {result} {op.name}: {describe(x)}")
    inside = inside if not x.element.is_complex else dtypes.complex_of(inside)
    if not axes:
        return as_element(x, result)
    listed = _listed(x) if axes == (0,) and op in (SUM, PROD) else None
    if listed is not None and x.element is inside is result:
        total = listed[0]
        for value in listed[1:]:
            total = total + value if op is SUM else total * value
        return _finish(total, axes, 1, keepdims)
    if op is PROD and inside.is_complex:
        reduced = COMPLEX_PROD.make(as_element(x, inside), axes=axes)
    else:
        reduced = op.make(as_element(x, inside), axes=axes, **params)
    return _finish(as_element(reduced, result), axes, x.ndim, keepdims)


def _listed(x: Tensor) -> tuple[Tensor, ...] | None:
    """The elements of a vector made of sizes (``x.shape[1:]``), so that their product is again a size."""
    if x.op.name == "make_vector" and len(x.inputs) <= 16:
        return x.inputs
    if isinstance(x, Constant) and x.element is dtypes.int64 and 0 < x.data.size <= 16:
        return tuple([int64(int(v)) for v in x.data])
    return None


def sum(
    x: TensorLike, axis: Any = None, dtype: object = None, keepdims: bool = False, acc_dtype: object = None
) -> Tensor:
    """Sum over ``axis`` (an int, several, or None for all).

    Integers and bools are summed in 64 bits, float16 in float32 (the result is float16 again); ``dtype`` is
    the type of the result, ``acc_dtype`` that of the running sum.
    """
    return _accumulated(SUM, x, axis, dtype, keepdims, acc_dtype)


def prod(
    x: TensorLike,
    axis: Any = None,
    dtype: object = None,
    keepdims: bool = False,
    acc_dtype: object = None,
    no_zeros_in_input: bool = False,
) -> Tensor:
    """Product over ``axis``; types as in ``sum``.

    ``no_zeros_in_input`` promises that no element is zero: the gradient is then simpler.
    """
    return _accumulated(PROD, x, axis, dtype, keepdims, acc_dtype, no_zeros=bool(no_zeros_in_input))


def _count(x: Tensor, axes: Axes) -> Tensor:
    return size(x) if len(axes) == x.ndim else _product([_dim(x, a) for a in axes])


def _dim(x: Tensor, axis: int) -> Tensor:
    extent = x.dims[axis]
    return int64(extent) if isinstance(extent, int) else OPS["dim"].make(x, axis=axis)


def _product(extents: list[Tensor]) -> Tensor:
    total = int64(1)
    for extent in extents:
        known = known_int(total)
        total = extent if known == 1 else total * extent
    return total


def mean(
    x: TensorLike, axis: Any = None, dtype: object = None, keepdims: bool = False, acc_dtype: object = None
) -> Tensor:
    """Mean over ``axis``; of integers and bools in float64. The mean of no elements is NaN."""
    x = as_tensor(x)
    axes = normal_axes("mean", axis, x.ndim, x)
    result = dtypes.of(dtype) if dtype is not None else x.element if x.element.is_inexact else dtypes.float64
    inside = dtypes.of(acc_dtype) if acc_dtype is not None else _accumulator(result)
    if not inside.is_inexact:
        inside = dtypes.float64
    total = sum(x, axes, inside, keepdims, inside)
    if not axes:
        return as_element(total, result)
    count = as_element(_count(x, axes), dtypes.real_of(total.element))
    return as_element(total / as_element(count, total.element), result)


def var(
    x: TensorLike,
    axis: Any = None,
    ddof: int = 0,
    keepdims: bool = False,
    corrected: bool = False,
) -> Tensor:
    """Mean of the squared distances from the mean over ``axis``, computed in two passes.

    The sum is divided by the number of elements less ``ddof``. ``corrected`` subtracts the rounding error
    of the mean (the square of the mean distance, which is zero in exact arithmetic).
    """
    x = as_tensor(x)
    axes = normal_axes("var", axis, x.ndim, x)
    element = x.element if x.element.is_inexact else dtypes.float64
    inside = dtypes.float32 if element is dtypes.float16 else element
    values = as_element(x, inside)
    distance = values - mean(values, axes, keepdims=True)
    squares = OPS["sqr"](OPS["abs"](distance) if inside.is_complex else distance)
    count = _count(x, axes)
    divisor = as_element(count if ddof == 0 else count - int64(ddof), squares.element)
    result = sum(squares, axes, keepdims=keepdims) / divisor
    if corrected:
        result = result - OPS["sqr"](mean(distance, axes, keepdims=keepdims))
    return as_element(result, dtypes.real_of(element))


def std(
    x: TensorLike, axis: Any = None, ddof: int = 0, keepdims: bool = False, corrected: bool = False
) -> Tensor:
    """Square root of ``var``."""
    return OPS["sqrt"](var(x, axis, ddof, keepdims, corrected))


def _simple(op: OpDef, x: TensorLike, axis: Any, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes = normal_axes(op.name, axis, x.ndim, x)
    return _finish(op.make(x, axes=axes), axes, x.ndim, keepdims) if axes else x


def max(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over ``axis``, NaN if there is one. All elements equal to it get the gradient."""
    return _simple(MAX, x, axis, keepdims)


def min(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over ``axis``, NaN if there is one. All elements equal to it get the gradient."""
    return _simple(MIN, x, axis, keepdims)


def any(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element over ``axis`` is not zero."""
    return _simple(ANY, as_element(as_tensor(x), dtypes.bool_), axis, keepdims)


def all(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over ``axis`` are not zero."""
    return _simple(ALL, as_element(as_tensor(x), dtypes.bool_), axis, keepdims)


def _position(op: OpDef, x: TensorLike, axis: Any, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes = normal_axes(op.name, axis, x.ndim, x)
    if len(axes) == 1 and x.ndim:
        return _finish(op.make(x, axis=axes[0]), axes, x.ndim, keepdims)
    if len(axes) < x.ndim:
        raise ShapeError(f"{op.name}: give one axis, or None for all: {describe(x)}")
    return _finish(op.make(ravel(x), axis=0), axes, x.ndim, keepdims)


def argmax(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the largest element along ``axis``; None: in the flattened array.

    The first of equal elements, or of NaNs.
    """
    return _position(ARGMAX, x, axis, keepdims)


def argmin(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the smallest element along ``axis``; None: in the flattened array.

    The first of equal elements, or of NaNs.
    """
    return _position(ARGMIN, x, axis, keepdims)


def max_and_argmax(x: TensorLike, axis: Any = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The largest element and its position."""
    return max(x, axis, keepdims), argmax(x, axis, keepdims)


def ptp(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest minus smallest element over ``axis``."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


def logsumexp(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``axis`` without overflow; -inf where there is nothing to sum."""
    x = as_tensor(x)
    axes = normal_axes("logsumexp", axis, x.ndim, x)
    element = x.element if x.element.is_inexact else dtypes.float64
    inside = as_element(x, dtypes.float32 if element is dtypes.float16 else element)
    if not axes:
        return as_element(x, element)
    return as_element(_finish(LOGSUMEXP.make(inside, axes=axes), axes, x.ndim, keepdims), element)


def norm(x: TensorLike, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Vector norm over ``axis``: Euclidean by default, else the order ``ord`` (a number, inf, -inf or 0).

    As in NumPy 0 counts the nonzero elements. The gradient of the Euclidean norm at zero is NaN.
    """
    x = as_tensor(x)
    axes = normal_axes("norm", axis, x.ndim, x)
    if isinstance(ord, str) and (ord != "fro" or len(axes) != 2):
        raise ValueError(f"norm: the order must be a number, or 'fro' for two axes, not {ord!r}")
    if ord is not None and not isinstance(ord, str) and axis is not None and len(axes) > 1:
        raise ValueError(f"norm: order {ord} is for one axis, or for all (axis=None): got axis={axis}")
    values = x if x.element.is_inexact else as_element(x, dtypes.float64)
    magnitude = OPS["abs"](values) if values.element.is_complex or (ord is not None and ord != 2) else values
    if ord is None or ord in (2, "fro"):
        return OPS["sqrt"](sum(OPS["sqr"](magnitude), axes, keepdims=keepdims))
    if ord == np.inf:
        return max(magnitude, axes, keepdims)
    if ord == -np.inf:
        return min(magnitude, axes, keepdims)
    if ord == 0:
        counted = as_element(OPS["neq"](magnitude, typed(0, magnitude)), magnitude.element)
        return sum(counted, axes, keepdims=keepdims)
    if ord == 1:
        return sum(magnitude, axes, keepdims=keepdims)
    return OPS["pow"](sum(OPS["pow"](magnitude, float(ord)), axes, keepdims=keepdims), 1 / float(ord))
