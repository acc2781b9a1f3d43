"""Joining tensors along axes, and splitting them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, At, Gradients, Guard, Index, Inferred, OpDef, describe, promoted
from symtensor_codegen import scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.loops import For, Statement, Store
from symtensor_codegen.scalar import Buffer, Dim, Scalar

from .arguments import (
    equal_guard,
    int64,
    known_int,
    normal_axis,
    sizes_of,
)
from .indexing import getitem
from .shaping import (
    dimshuffle,
    expand_dims,
    make_vector,
    sizes,
    specify_shape,
)

# join -----------------------------------------------------------------------------------------------------


def _total(extents: Sequence[Dim]) -> Dim:
    known, result = 0, None
    for extent in extents:
        if isinstance(extent, int):
            known += extent
        else:
            result = extent if result is None else result + extent
    return known if result is None else scalar.as_dim(result + known)


def _common(pieces: Sequence[Tensor], axis: int) -> Dim:
    """The size that the pieces have on an axis along which they are not joined."""
    known = [p.dims[axis] for p in pieces if isinstance(p.dims[axis], int)]
    return known[0] if known else pieces[0].dims[axis]


def _join_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    first, along = inputs[0], params["axis"]
    for piece in inputs:
        if piece.ndim != first.ndim or piece.element is not first.element:
            raise ShapeError(
                "join takes tensors of one type and rank, got " + "; ".join(describe(i) for i in inputs)
            )
    dims: list[Dim] = []
    for axis in range(first.ndim):
        if axis == along:
            dims.append(_total([piece.dims[axis] for piece in inputs]))
            continue
        size = _common(inputs, axis)
        for piece in inputs:
            if isinstance(piece.dims[axis], int) and piece.dims[axis] != size:
                raise ShapeError(
                    f"join along axis {along}: sizes {size} and {piece.dims[axis]} differ on axis {axis}: "
                    + "; ".join(describe(i) for i in inputs)
                )
        dims.append(size)
    return first.element, tuple(dims)


def _join_guards(node: Tensor) -> list[Guard]:
    along = node.params["axis"]
    guards: list[Guard] = []
    for axis in range(node.ndim):
        for piece in node.inputs:
            if axis != along:
                message = (
                    f"join along axis {along}: sizes {{0}} and {{1}} differ on axis {axis}: {describe(piece)}"
                )
                guards += equal_guard(message, piece.dims[axis], node.dims[axis])
    return guards


def _offsets(node: Tensor) -> list[Scalar]:
    axis = node.params["axis"]
    return [scalar.as_int(_total([p.dims[axis] for p in node.inputs[:k]])) for k in range(len(node.inputs))]


def _join_pull(node: Tensor, at: At, index: Index) -> Scalar:
    axis, offsets = node.params["axis"], _offsets(node)
    place = index[axis]

    def piece(k: int) -> Scalar:
        return at(k, (*index[:axis], place - offsets[k], *index[axis + 1 :]))

    value = scalar.const(0, node.element)
    for k, offset in reversed(list(enumerate(offsets))):
        end = offsets[k + 1] if k + 1 < len(offsets) else scalar.as_int(node.dims[axis])
        inside = scalar.ge(place, offset) & scalar.lt(place, end)
        value = scalar.guarded(inside, piece(k), value)
    return value


def _join_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    axis = node.params["axis"]
    nests: list[Statement] = []
    for k, (piece, offset) in enumerate(zip(node.inputs, _offsets(node), strict=True)):
        extents = [*node.dims[:axis], piece.dims[axis], *node.dims[axis + 1 :]]
        index = tuple([scalar.index("ijklmnpq"[a % 8], extent) for a, extent in enumerate(extents)])
        target = (*index[:axis], index[axis] + offset, *index[axis + 1 :])
        nest: Statement = Store(out, target, at(k, index))
        for i, extent in zip(reversed(index), reversed(extents), strict=True):
            nest = For(i, extent, (nest,))
        nests.append(nest)
    return tuple(nests)


def _join_gradient(g: Tensor, node: Tensor) -> Gradients:
    axis = node.params["axis"]
    found: list[Tensor] = []
    start: int | Tensor = 0
    for piece in node.inputs:
        extent = sizes(piece)[axis]
        stop = start + extent
        found.append(getitem(g, (*[slice(None)] * axis, slice(start, stop))))
        start = stop
    return [specify_shape(part, sizes(piece)) for part, piece in zip(found, node.inputs, strict=True)]


def _join_cases(rng: np.random.Generator) -> Any:
    yield [rng.normal(size=n) for n in (3, 1, 0, 4)], {"axis": 0}
    yield [rng.normal(size=(n, 3)).astype("float32") for n in (2, 5)], {"axis": 0}
    yield [rng.normal(size=(4, n)) for n in (2, 1, 3)], {"axis": 1}
    yield [rng.integers(0, 9, size=(2, n, 3)) for n in (1, 2)], {"axis": 1}
    yield [rng.normal(size=(2, 2))], {"axis": 1}


JOIN = OpDef(
    name="join",
    doc="Tensors one after the other along an axis.",
    infer=_join_infer,
    reference=lambda *pieces, axis: np.concatenate(pieces, axis=axis),
    gradient=_join_gradient,
    pull=_join_pull,
    loops=_join_loops,
    guards=_join_guards,
    category="join",
    cases=_join_cases,
)


def join(axis: Any, *pieces: TensorLike) -> Tensor:
    """Tensors one after the other along ``axis``; they are promoted to a common element type.

    Raises:
        ShapeError: nothing to join, scalars, or sizes known to differ on another axis.
    """
    if not pieces:
        raise ShapeError("join: there is nothing to join")
    tensors = promoted(pieces, name="join")
    if tensors[0].ndim == 0:
        raise ShapeError("join: scalars have no axis to be joined along; use stack: " + describe(tensors[0]))
    along = normal_axis("join", axis, tensors[0].ndim, tensors[0])
    return tensors[0] if len(tensors) == 1 else JOIN.make(*tensors, axis=along)


def concatenate(pieces: Sequence[TensorLike], axis: Any = 0) -> Tensor:
    """As ``join``, with the tensors as a sequence."""
    return join(axis, *_several("concatenate", pieces))


def _several(name: str, pieces: Any) -> list[TensorLike]:
    if isinstance(pieces, (list, tuple)):
        return list(pieces)
    if isinstance(pieces, (Tensor, np.ndarray)) and pieces.ndim and pieces.shape is not None:
        count = pieces.type.shape[0] if isinstance(pieces, Tensor) else pieces.shape[0]
        if count is not None:
            return [pieces[k] for k in range(count)]
    raise TypeError(f"{name} takes a list or tuple of tensors, not {pieces!r}")


def stack(*pieces: Any, axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis.

    Takes a sequence and an axis (``stack([a, b], 1)``) or, as in old Theano, the tensors (``stack(a, b)``).
    """
    if len(pieces) == 2 and isinstance(pieces[0], (list, tuple)) and known_int(pieces[1]) is not None:
        axis = int(pieces[1])
        pieces = (pieces[0],)
    given = _several("stack", pieces[0]) if len(pieces) == 1 else list(pieces)
    if not given:
        raise ShapeError("stack: there is nothing to stack")
    tensors = promoted(given, name="stack")
    rank = tensors[0].ndim
    place = normal_axis("stack", axis, rank + 1, *tensors)
    for tensor in tensors:
        if tensor.ndim != rank:
            raise ShapeError(
                "stack takes tensors of one rank, got " + "; ".join(describe(t) for t in tensors)
            )
    if rank == 0:
        return make_vector(tensors)
    return join(place, *[expand_dims(t, place) for t in tensors])


def hstack(pieces: Sequence[TensorLike]) -> Tensor:
    """Side by side: along axis 1, or axis 0 of vectors (scalars count as vectors)."""
    tensors = [at_least(t, 1) for t in _several("hstack", pieces)]
    return concatenate(tensors, axis=0 if tensors and tensors[0].ndim == 1 else 1)


def vstack(pieces: Sequence[TensorLike]) -> Tensor:
    """One below the other; vectors are rows."""
    return concatenate([at_least(t, 2) for t in _several("vstack", pieces)], axis=0)


def dstack(pieces: Sequence[TensorLike]) -> Tensor:
    """Along the third axis."""
    from .shaping import atleast_3d

    return concatenate([atleast_3d(t) for t in _several("dstack", pieces)], axis=2)


def horizontal_stack(*pieces: TensorLike) -> Tensor:
    """Matrices side by side."""
    return concatenate(_matrices("horizontal_stack", pieces), axis=1)


def vertical_stack(*pieces: TensorLike) -> Tensor:
    """Matrices one below the other."""
    return concatenate(_matrices("vertical_stack", pieces), axis=0)


def _matrices(name: str, pieces: Sequence[TensorLike]) -> list[Tensor]:
    tensors = [as_tensor(p) for p in pieces]
    for tensor in tensors:
        if tensor.ndim != 2:
            raise ShapeError(f"{name} takes matrices, got {describe(tensor)}")
    return tensors


def at_least(x: TensorLike, rank: int) -> Tensor:
    """``x`` with axes of size 1 in front, so that it has ``rank`` of them or more."""
    x = as_tensor(x)
    return dimshuffle(x, *["x"] * (rank - x.ndim), *range(x.ndim)) if x.ndim < rank else x


# Splitting ------------------------------------------------------------------------------------------------


def split(x: TensorLike, splits_size: Any, n_splits: int | None = None, axis: int = 0) -> list[Tensor]:
    """Pieces of ``x`` along ``axis``.

    Args:
        x: any tensor with an axis.
        splits_size: the sizes of the pieces (ints, expressions, or an integer vector); or the number of
        equal pieces. n_splits: how many pieces there are, where it is not known from ``splits_size``.
        axis: along which axis.

    Raises:
        ShapeError: the sizes do not add up to that of ``x`` (also when the program runs).
    """
    x = as_tensor(x)
    along = normal_axis("split", axis, x.ndim, x)
    count = known_int(splits_size)
    extents: list[int | Tensor]
    if count is not None and n_splits is None:
        if count < 1:
            raise ShapeError(f"split: {count} pieces: {describe(x)}")
        total = sizes(x)[along]
        if isinstance(total, int) and total % count:
            raise ShapeError(f"split: size {total} does not divide into {count} equal pieces: {describe(x)}")
        extents = [total // count if isinstance(total, int) else total // int64(count)] * count
    elif isinstance(splits_size, Tensor) and splits_size.ndim == 1 and splits_size.type.shape[0] is None:
        if n_splits is None:
            raise ShapeError("split: give n_splits, as the length of splits_size is not known")
        extents = sizes_of("split", [getitem(splits_size, k) for k in range(n_splits)])
    else:
        extents = sizes_of("split", splits_size)
    if n_splits is not None and len(extents) != n_splits:
        raise ShapeError(f"split: {len(extents)} sizes for {n_splits} pieces")
    if any(isinstance(size, int) and size < 0 for size in extents):
        raise ShapeError(f"split: a size is negative: {extents}: {describe(x)}")
    ends = _running(extents)
    wanted = [-1] * x.ndim
    checked = specify_shape(x, [*wanted[:along], ends[-1], *wanted[along + 1 :]])
    starts = [0, *ends[:-1]]
    pieces = [_slice(checked, along, start, stop) for start, stop in zip(starts, ends, strict=True)]
    # Sizes that add up may still be negative: then the piece, which is empty, has another size.
    return [
        piece if isinstance(size, int) else specify_shape(piece, [*wanted[:along], size, *wanted[along + 1 :]])
        for piece, size in zip(pieces, extents, strict=True)
    ]


def _running(extents: Sequence[int | Tensor]) -> list[int | Tensor]:
    ends: list[int | Tensor] = []
    total: int | Tensor = 0
    for extent in extents:
        total = extent if isinstance(total, int) and total == 0 else total + extent
        ends.append(total)
    return ends


def _slice(x: Tensor, axis: int, start: Any, stop: Any, step: Any = None) -> Tensor:
    return getitem(x, (*[slice(None)] * axis, slice(start, stop, step)))


def array_split(x: TensorLike, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Nearly equal pieces (a number of them), or pieces cut before the given indices, as NumPy's."""
    x = as_tensor(x)
    along = normal_axis("array_split", axis, x.ndim, x)
    count = known_int(indices_or_sections)
    if count is None:
        cuts: list[Any] = [0, *sizes_of("array_split", indices_or_sections), None]
        return [_slice(x, along, start, stop) for start, stop in pairwise(cuts)]
    if count < 1:
        raise ShapeError(f"array_split: {count} pieces: {describe(x)}")
    total = sizes(x)[along]
    if isinstance(total, int):
        each, rest = divmod(total, count)
        return split(x, [each + (k < rest) for k in range(count)], axis=along)
    each_, rest_ = total // int64(count), total % int64(count)
    edges: list[Any] = [each_ * int64(k) + OPS["minimum"](int64(k), rest_) for k in range(count)]
    return [_slice(x, along, start, stop) for start, stop in zip(edges, [*edges[1:], None], strict=True)]
