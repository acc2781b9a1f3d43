"""Diagonals: taken out of two axes, and put into zeros."""

from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import At, Gradients, Guard, Index, Inferred, OpDef, describe
from symtensor_codegen import scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar

from .arguments import as_params, equal_guard, known_int, normal_axis, param_dims, param_values, sizes_of
from .indexing_slices import dropped
from .shaping import dim, sizes


def _length(rows: Dim, columns: Dim, offset: int) -> Dim:
    down, right = dropped(rows, max(-offset, 0)), dropped(columns, max(offset, 0))
    return scalar.as_dim(scalar.minimum(scalar.as_int(down), scalar.as_int(right)))


def _others(rank: int, axis1: int, axis2: int) -> list[int]:
    return [a for a in range(rank) if a not in (axis1, axis2)]


def _take_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    one, two = params["axis1"], params["axis2"]
    rest = [x.dims[a] for a in _others(x.ndim, one, two)]
    return x.element, (*rest, _length(x.dims[one], x.dims[two], params["offset"]))


def _take_pull(node: Tensor, at: At, index: Index) -> Scalar:
    (x,) = node.inputs
    one, two, offset = node.params["axis1"], node.params["axis2"], node.params["offset"]
    rest = iter(index[:-1])
    place = {one: index[-1] + max(-offset, 0), two: index[-1] + max(offset, 0)}
    return at(0, tuple([place[a] if a in place else next(rest) for a in range(x.ndim)]))


def _take_gradient(g: Tensor, node: Tensor) -> Gradients:
    (x,) = node.inputs
    extents = sizes(x)
    shape, given = as_params([extents[node.params["axis1"]], extents[node.params["axis2"]]])
    return (PUT_DIAGONAL.make(g, *given, shape=shape, **node.params),)


DIAGONAL = OpDef(
    name="diagonal",
    doc="The diagonal of two axes, as the last axis.",
    infer=_take_infer,
    reference=lambda x, offset, axis1, axis2: np.diagonal(x, offset, axis1, axis2),
    gradient=_take_gradient,
    pull=_take_pull,
    category="indexing",
    cases=lambda rng: [
        ((rng.normal(size=(4, 3)),), {"offset": 0, "axis1": 0, "axis2": 1}),
        ((rng.normal(size=(4, 3)),), {"offset": -2, "axis1": 0, "axis2": 1}),
        ((rng.normal(size=(2, 3, 4)).astype("float32"),), {"offset": 1, "axis1": 2, "axis2": 0}),
        ((rng.normal(size=(2, 2)),), {"offset": 5, "axis1": 0, "axis2": 1}),
    ],
)


def _put_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    v = inputs[0]
    extents = param_dims(params["shape"], inputs[1:])
    dims = list(v.dims[:-1])
    for axis, size in sorted(
        [(params["axis1"], extents[0]), (params["axis2"], extents[1])], key=lambda pair: pair[0]
    ):
        dims.insert(axis, size)
    return v.element, tuple(dims)


def _put_pull(node: Tensor, at: At, index: Index) -> Scalar:
    one, two, offset = node.params["axis1"], node.params["axis2"], node.params["offset"]
    row, column = index[one], index[two]
    on_it = scalar.eq(row + max(offset, 0), column + max(-offset, 0))
    place = row if offset >= 0 else column
    rest = [index[a] for a in _others(len(index), one, two)]
    length = node.inputs[0].dims[-1]
    inside = on_it & scalar.lt(place, scalar.as_int(length))
    return scalar.guarded(inside, at(0, (*rest, place)), scalar.const(0, node.element))


def _put_guards(node: Tensor) -> list[Guard]:
    v = node.inputs[0]
    rows, columns = param_dims(node.params["shape"], node.inputs[1:])
    message = f"the diagonal has {{0}} elements, not {{1}}: {describe(v)}"
    return equal_guard(message, _length(rows, columns, node.params["offset"]), v.dims[-1])


def _put_gradient(g: Tensor, node: Tensor) -> Gradients:
    back = DIAGONAL.make(g, **{name: node.params[name] for name in ("offset", "axis1", "axis2")})
    return (back, *[None] * (len(node.inputs) - 1))


def _put_reference(v: Any, *given: Any, shape: Any, offset: int, axis1: int, axis2: int) -> Any:
    rows, columns = param_values(shape, given)
    result = np.zeros((*v.shape[:-1], rows, columns), v.dtype)
    k = np.arange(v.shape[-1])
    result[..., k + max(-offset, 0), k + max(offset, 0)] = v
    return np.moveaxis(result, (-2, -1), (axis1, axis2))


PUT_DIAGONAL = OpDef(
    name="put_diagonal",
    doc="Zeros with the last axis on the diagonal of two new axes.",
    infer=_put_infer,
    reference=_put_reference,
    gradient=_put_gradient,
    pull=_put_pull,
    guards=_put_guards,
    category="indexing",
    cases=lambda rng: [
        (
            (rng.normal(size=3), np.int64(3), np.int64(3)),
            {"shape": (None, None), "offset": 0, "axis1": 0, "axis2": 1},
        ),
        ((rng.normal(size=2), np.int64(4)), {"shape": (None, 3), "offset": -2, "axis1": 0, "axis2": 1}),
        (
            (rng.normal(size=(2, 3)).astype("float32"),),
            {"shape": (3, 4), "offset": 1, "axis1": 2, "axis2": 0},
        ),
    ],
)


def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements with index ``i`` on ``axis1`` and ``i + offset`` on ``axis2``, as a new last axis."""
    x = as_tensor(x)
    one, two = normal_axis("diagonal", axis1, x.ndim, x), normal_axis("diagonal", axis2, x.ndim, x)
    if one == two:
        raise ShapeError(f"diagonal: axis1 and axis2 are the same axis: {describe(x)}")
    return DIAGONAL.make(x, offset=_offset(offset), axis1=one, axis2=two)


def _offset(offset: Any) -> int:
    number = known_int(offset)
    if number is None:
        raise TypeError(f"the offset of a diagonal must be an integer, not {offset!r}")
    return number


def diag(v: TensorLike, k: int = 0) -> Tensor:
    """Of a vector: a matrix with it on diagonal ``k``. Of a matrix: its diagonal ``k``."""
    v = as_tensor(v)
    if v.ndim == 1:
        return alloc_diag(v, k)
    if v.ndim != 2:
        raise ShapeError(f"diag takes a vector or a matrix, got {describe(v)}")
    return diagonal(v, k)


def alloc_diag(v: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Zeros with the last axis of ``v`` on diagonal ``offset`` of two new axes, as small as they can be."""
    v = as_tensor(v)
    shift = _offset(offset)
    length = dim(v, -1)
    size = length + abs(shift) if shift else length
    one = normal_axis("alloc_diag", axis1, v.ndim + 1, v)
    two = normal_axis("alloc_diag", axis2, v.ndim + 1, v)
    shape, given = as_params(sizes_of("alloc_diag", [size, size]))
    return PUT_DIAGONAL.make(v, *given, shape=shape, offset=shift, axis1=one, axis2=two)


def extract_diag(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Another name of ``diagonal``."""
    return diagonal(x, offset, axis1, axis2)
