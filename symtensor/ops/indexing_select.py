"""Selecting elements by index arrays, conditions and choices."""

from collections.abc import Sequence
from typing import Any

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, describe
from symtensor_codegen import dtypes
from symtensor_codegen.errors import DTypeError, ShapeError

from .arguments import as_element, as_size_tensor, int64, normal_axis, sizes_of
from .creation import count_up, zeros_like
from .indexing_keys import getitem, set_subtensor
from .indexing_nonzero import flatnonzero
from .shaping import broadcast_sizes, dim, dimshuffle, ravel, reshape_to, size, sizes

_MODES = ("raise", "wrap", "clip")


def _indices(name: str, indices: TensorLike, extent: Tensor, mode: str) -> Tensor:
    if mode not in _MODES:
        raise ValueError(f"{name}: mode must be one of {', '.join(_MODES)}, not {mode!r}")
    wanted = as_tensor(indices)
    if wanted.element.kind not in "biu":
        raise DTypeError(f"{name}: indices must be integers, got {describe(wanted)}")
    wanted = as_element(wanted, dtypes.int64)
    if mode == "wrap":
        return wanted % extent
    if mode == "clip":
        return OPS["minimum"](OPS["maximum"](wanted, int64(0)), extent - int64(1))
    return wanted


def take(x: TensorLike, indices: TensorLike, axis: int | None = None, mode: str = "raise") -> Tensor:
    """Elements of ``x`` at integer ``indices`` along ``axis`` (None: of the flattened tensor).

    Indices out of range are errors (``mode="raise"``; negative ones count from the end), or they are taken
    round the end (``"wrap"``) or clipped (``"clip"``; negative ones to 0).
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    along = normal_axis("take", axis, x.ndim, x)
    wanted = _indices("take", indices, dim(x, along), mode)
    return getitem(x, (*[slice(None)] * along, wanted))


def take_along_axis(x: TensorLike, indices: TensorLike, axis: int | None = 0) -> Tensor:
    """Elements of ``x`` at ``indices`` along ``axis``; along the other axes the two are matched, as in NumPy.

    ``axis`` None: of the flattened tensors.
    """
    x, wanted = as_tensor(x), as_tensor(indices)
    if axis is None:
        x, wanted, axis = ravel(x), ravel(wanted), 0
    along = normal_axis("take_along_axis", axis, x.ndim, x)
    if wanted.ndim != x.ndim or wanted.element.kind not in "iu":
        raise ShapeError(
            f"take_along_axis: indices must be integers of the rank of x: {describe(wanted)}; {describe(x)}"
        )
    key: list[Any] = []
    for a in range(x.ndim):
        if a == along:
            key.append(wanted)
        else:
            key.append(dimshuffle(count_up(sizes(x)[a]), *[0 if b == a else "x" for b in range(x.ndim)]))
    return getitem(x, tuple(key))


def put(x: TensorLike, indices: TensorLike, values: TensorLike, mode: str = "raise") -> Tensor:
    """``x`` with the elements at flat ``indices`` set to ``values`` (a scalar, or one for each index)."""
    x = as_tensor(x)
    wanted = ravel(_indices("put", indices, size(x), mode))
    value = as_tensor(values)
    flat = set_subtensor(getitem(ravel(x), wanted), ravel(value) if value.ndim else value)
    return reshape_to(flat, sizes(x))


def choose(a: TensorLike, choices: Any, mode: str = "raise") -> Tensor:
    """For each element of the integer array ``a`` the element of the choice with that number.

    ``choices`` is a sequence of tensors, or a tensor along whose first axis they are; all broadcast.

    Raises:
        IndexError: when the program runs, for a number that is none (unless ``mode`` is "wrap" or "clip").
    """
    from .joining import stack

    if isinstance(choices, (list, tuple)):
        options = [as_tensor(c) for c in choices]
        rank = max(c.ndim for c in options)
        like = _broadcast([a, *options], rank)
        stacked = stack([broadcast_sizes(c, like) for c in options])
    else:
        stacked = as_tensor(choices)
        if stacked.ndim == 0:
            raise ShapeError(f"choose: the choices must be along an axis: {describe(stacked)}")
    number = _indices("choose", a, dim(stacked, 0), mode)
    rest = stacked.ndim - 1
    rank = max(number.ndim, rest)
    key: list[Any] = [number]
    shape = sizes(stacked)[1:]
    for axis, extent in enumerate(shape):
        one = isinstance(extent, int) and extent == 1
        counted = int64(0) if one else count_up(extent)
        place = rank - rest + axis
        key.append(counted if one else dimshuffle(counted, *[0 if k == place else "x" for k in range(rank)]))
    return getitem(stacked, tuple(key))


def _broadcast(values: Sequence[TensorLike], rank: int) -> list[int | Tensor]:
    """The sizes that tensors broadcast to, over their last ``rank`` axes."""
    found: list[int | Tensor] = [1] * rank
    for value in values:
        extents = sizes(as_tensor(value))[-rank:] if rank else []
        for k, extent in enumerate(reversed(extents), 1):
            if isinstance(found[-k], int) and found[-k] == 1:
                found[-k] = extent
    return found


def compress(condition: TensorLike, x: TensorLike, axis: int | None = None) -> Tensor:
    """The slices of ``x`` along ``axis`` (None: elements of the flattened tensor) where a vector holds."""
    x, holds = as_tensor(x), as_tensor(condition)
    if holds.ndim != 1:
        raise ShapeError(f"compress: the condition must be a vector: {describe(holds)}")
    return take(x, flatnonzero(holds), axis)


def extract(condition: TensorLike, x: TensorLike) -> Tensor:
    """The elements of ``x`` where ``condition``, of the same shape, holds."""
    return take(x, flatnonzero(condition))


def ix_(*vectors: TensorLike) -> tuple[Tensor, ...]:
    """Index arrays for the cross product of vectors: ``x[ix_(rows, columns)]``. Bool vectors are masks."""
    found: list[Tensor] = []
    for k, vector in enumerate(vectors):
        one = as_tensor(vector)
        if one.ndim != 1:
            raise ShapeError(f"ix_ takes vectors, got {describe(one)}")
        one = flatnonzero(one) if one.element is dtypes.bool_ else one
        found.append(dimshuffle(one, *[0 if k == axis else "x" for axis in range(len(vectors))]))
    return tuple(found)


def inverse_permutation(perm: TensorLike) -> Tensor:
    """The permutation that undoes one: ``x[perm][inverse_permutation(perm)]`` is ``x``.

    ``perm`` holds each of 0 ... n - 1 once along its last axis; other axes hold one permutation each.

    Raises:
        DTypeError: it does not hold integers.
        ShapeError: it has no axis.
    """
    p = as_tensor(perm)
    if not p.element.is_integer:
        raise DTypeError(f"inverse_permutation takes integers, got {describe(p)}")
    if p.ndim == 0:
        raise ShapeError(f"inverse_permutation takes vectors of positions, got {describe(p)}")
    last = p.ndim - 1
    counts = [dimshuffle(count_up(dim(p, a)), *["x"] * a, 0, *["x"] * (last - a)) for a in range(p.ndim)]
    place = getitem(zeros_like(p), (*counts[:-1], p))
    return set_subtensor(place, as_element(counts[-1], p.element))


def _checked(position: Tensor, extent: Tensor) -> Tensor:
    """Positions as they are where they lie in [0, extent); others are refused when the program runs."""
    counted = OPS["switch"](OPS["lt"](position, int64(0)), extent, position)  # below zero counts as too large
    return getitem(count_up(extent), counted)


def _ordered(name: str, dims: Any, order: str) -> tuple[list[Tensor], bool]:
    if order not in ("C", "F"):
        raise ValueError(f"{name}: the order must be 'C' or 'F', not {order!r}")
    return [as_size_tensor(d) for d in sizes_of(name, dims)][:: -1 if order == "F" else 1], order == "F"


def unravel_index(indices: TensorLike, dims: Any, order: str = "C") -> tuple[Tensor, ...]:
    """Flat positions in an array of sizes ``dims`` as one index array for each axis.

    Raises:
        OutOfRangeError: when the program runs, for a position that is not in the array.
    """
    extents, turned = _ordered("unravel_index", dims, order)
    total = int64(1)
    for extent in extents:
        total = total * extent
    position = _checked(_indices("unravel_index", indices, total, "raise"), total)
    found: list[Tensor] = []
    for extent in reversed(extents[1:]):
        found.append(position % extent)
        position = position // extent
    found.append(position)
    return tuple(found if turned else reversed(found))


def ravel_multi_index(multi_index: Sequence[TensorLike], dims: Any, mode: str = "raise", order: str = "C") -> Tensor:
    """Index arrays as flat positions in an array of sizes ``dims``.

    ``mode``: ``"raise"``, ``"wrap"`` or ``"clip"`` indices out of range (negative ones among them).

    Raises:
        OutOfRangeError: when the program runs, for an index out of range.
    """
    extents, turned = _ordered("ravel_multi_index", dims, order)
    if len(extents) != len(multi_index):
        raise ShapeError(f"ravel_multi_index: {len(multi_index)} index arrays for {len(extents)} sizes")
    position = int64(0)
    for extent, given in zip(extents, list(multi_index)[:: -1 if turned else 1], strict=True):
        index = _indices("ravel_multi_index", given, extent, mode)
        position = position * extent + (_checked(index, extent) if mode == "raise" else index)
    return position
