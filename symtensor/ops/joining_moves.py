"""Repeating elements along axes, and moving them."""

from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, At, Gradients, Index, Inferred, OpDef, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.scalar import Scalar

from .arguments import (
    as_element,
    as_size_tensor,
    int64,
    known_int,
    normal_axes,
    normal_axis,
    sizes_of,
)
from .creation import zeros
from .indexing import getitem, inc_subtensor
from .joining_pieces import at_least
from .reduction import any as any_over
from .reduction import sum as sum_over
from .shaping import (
    broadcast_sizes,
    dimshuffle,
    ravel,
    reshape_to,
    sizes,
    specify_shape,
    transpose,
)


def tile(x: TensorLike, reps: Any, ndim: int | None = None) -> Tensor:
    """``x`` repeated as a whole, ``reps`` times: a size, or one for each axis, as in NumPy."""
    tensor = as_tensor(x)
    counts = sizes_of("tile", reps)
    rank = max(tensor.ndim, len(counts)) if ndim is None else ndim
    if rank < max(tensor.ndim, len(counts)):
        raise ShapeError(
            f"tile: ndim is {ndim}, but there are {max(tensor.ndim, len(counts))} axes: {describe(tensor)}"
        )
    counts = [*[1] * (rank - len(counts)), *counts]
    tensor = at_least(tensor, rank)
    if all(isinstance(c, int) and c == 1 for c in counts):
        return tensor
    extents = sizes(tensor)
    apart = dimshuffle(tensor, *[p for k in range(rank) for p in ("x", k)])
    repeated = broadcast_sizes(apart, [s for c, e in zip(counts, extents, strict=True) for s in (c, e)])
    return reshape_to(repeated, [_times(c, e) for c, e in zip(counts, extents, strict=True)])


def _times(a: int | Tensor, b: int | Tensor) -> int | Tensor:
    if isinstance(a, int) and a == 1:
        return b
    return a if isinstance(b, int) and b == 1 else a * b


def repeat(x: TensorLike, repeats: Any, axis: int | None = None) -> Tensor:
    """Every element repeated in place: ``repeats`` times, or by a vector with a count for each.

    Without ``axis`` the elements of the flattened tensor.
    """
    x = as_tensor(x)
    if axis is None:
        return repeat(ravel(x), repeats, 0)
    along = normal_axis("repeat", axis, x.ndim, x)
    counts = as_tensor(repeats)
    if counts.element.kind not in "iu" or counts.ndim > 1:
        raise DTypeError(
            f"repeat: the counts must be an integer or a vector of integers, got {describe(counts)}"
        )
    if counts.ndim == 1 and counts.type.shape[0] == 1:
        counts = counts[0]
    if counts.ndim == 1:
        return getitem(x, (*[slice(None)] * along, _repeated(counts, x, along)))
    (count,) = sizes_of("repeat", counts)
    extents = sizes(x)
    apart = dimshuffle(x, *range(along + 1), "x", *range(along + 1, x.ndim))
    repeated = broadcast_sizes(apart, [*extents[: along + 1], count, *extents[along + 1 :]])
    return reshape_to(repeated, [*extents[:along], _times(extents[along], count), *extents[along + 1 :]])


def _repeated(counts: Tensor, x: Tensor, axis: int) -> Tensor:
    """For each element of the result the position it comes from: one more wherever a run begins."""
    from .cumulative import cumsum

    counts = specify_shape(as_element(counts, dtypes.int64), [sizes(x)[axis]])
    total = sum_over(counts)
    begins = cumsum(counts) - counts
    length = OPS["switch"](any_over(counts < int64(0)), int64(-1), total + int64(1))  # negative: refused
    steps = inc_subtensor(zeros(length, "int64")[begins], int64(1))
    return cumsum(steps)[:total] - int64(1)


# Moving ---------------------------------------------------------------------------------------------------


def _roll_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    return inputs[0].element, inputs[0].dims


def _roll_pull(node: Tensor, at: At, index: Index) -> Scalar:
    axis, shift = node.params["axis"], node.params["shift"]
    extent = scalar.as_int(node.dims[axis])
    moved = (at(1, ()) if shift is None else scalar.as_int(shift)) % extent
    place = index[axis] - moved

    def element(position: Scalar) -> Scalar:
        return at(0, (*index[:axis], position, *index[axis + 1 :]))

    front = scalar.guarded(scalar.ge(place, 0), element(place), scalar.const(0, node.element))
    return scalar.guarded(scalar.lt(place, 0), element(place + extent), front)


def _roll_gradient(g: Tensor, node: Tensor) -> Gradients:
    shift = node.params["shift"]
    back = [-node.inputs[1]] if shift is None else []
    turned = ROLL.make(g, *back, axis=node.params["axis"], shift=None if shift is None else -shift)
    return (turned, *[None] * len(back))


def _roll_reference(x: Any, *given: Any, axis: int, shift: int | None) -> Any:
    return np.roll(x, int(given[0]) if shift is None else shift, axis)


ROLL = OpDef(
    name="roll",
    doc="Elements moved along an axis; what leaves at one end enters at the other.",
    infer=_roll_infer,
    reference=_roll_reference,
    gradient=_roll_gradient,
    pull=_roll_pull,
    category="join",
    cost=3,
    cases=lambda rng: [
        ((rng.normal(size=7),), {"axis": 0, "shift": 2}),
        ((rng.normal(size=(3, 4)),), {"axis": 1, "shift": -9}),
        ((rng.normal(size=(3, 4)).astype("float32"), np.int64(5)), {"axis": 0, "shift": None}),
        ((rng.normal(size=(0, 2)),), {"axis": 0, "shift": 1}),
    ],
)


def roll(x: TensorLike, shift: Any, axis: Any = None) -> Tensor:
    """Elements moved by ``shift`` (an int or an expression) along ``axis``, round the end.

    Several shifts and axes may be given; without an axis the flattened tensor is moved.
    """
    tensor = as_tensor(x)
    if axis is None:
        return reshape_to(roll(ravel(tensor), shift, 0), sizes(tensor))
    axes = [
        normal_axis("roll", a, tensor.ndim, tensor)
        for a in (axis if isinstance(axis, (tuple, list)) else (axis,))
    ]
    shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift] * len(axes)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes: {describe(tensor)}")
    for one, along in zip(shifts, axes, strict=True):
        known = known_int(one)
        tensor = ROLL.make(tensor, *([as_size_tensor(one)] if known is None else []), axis=along, shift=known)
    return tensor


def flip(x: TensorLike, axis: Any = None) -> Tensor:
    """Elements in reverse order along ``axis`` (one, several, or None for all)."""
    tensor = as_tensor(x)
    turned = normal_axes("flip", axis, tensor.ndim, tensor)
    return (
        getitem(tensor, tuple([slice(None, None, -1 if a in turned else 1) for a in range(tensor.ndim)]))
        if turned
        else tensor
    )


def fliplr(x: TensorLike) -> Tensor:
    """In reverse order along axis 1."""
    return flip(x, 1)


def flipud(x: TensorLike) -> Tensor:
    """In reverse order along axis 0."""
    return flip(x, 0)


def rot90(x: TensorLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned ``k`` times by 90 degrees, from the first of ``axes`` to the second."""
    tensor = as_tensor(x)
    one, two = [normal_axis("rot90", a, tensor.ndim, tensor) for a in axes]
    if one == two:
        raise ShapeError(f"rot90: the two axes must differ: {describe(tensor)}")
    order = list(range(tensor.ndim))
    order[one], order[two] = two, one
    turns = k % 4
    if turns == 0:
        return tensor
    if turns == 2:
        return flip(tensor, (one, two))
    return transpose(flip(tensor, two), order) if turns == 1 else flip(transpose(tensor, order), two)
