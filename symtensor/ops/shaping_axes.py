"""Sizes as expressions, and the order of axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import At, Gradients, Index, Inferred, OpDef, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Scalar

from .arguments import as_size_tensor, int64, normal_axes, normal_axis

ZERO = scalar.const(0, dtypes.int64)


def _n(value: int) -> np.ndarray[Any, Any]:
    return np.asarray(value, np.int64)


# Sizes ------------------------------------------------------------------------------------------------------


def _dim_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    return dtypes.int64, ()


DIM = OpDef(
    name="dim",
    doc="The size of one axis, as a 0-d int64; reads no element.",
    infer=_dim_infer,
    reference=lambda x, axis: _n(np.shape(x)[axis]),
    gradient=lambda g, node: (None,),
    pull=lambda node, at, index: scalar.as_int(node.inputs[0].dims[node.params["axis"]]),
    sizes=lambda node: (node.inputs[0].dims[node.params["axis"]],),
    category="shape",
    cases=lambda rng: [((rng.normal(size=(3, 0, 4)),), {"axis": a}) for a in range(3)],
)


def dim(x: TensorLike, axis: int) -> Tensor:
    """The size of ``x`` along ``axis`` (0-d int64); a constant where it is known."""
    x = as_tensor(x)
    axis = normal_axis("dim", axis, x.ndim, x)
    size = x.dims[axis]
    return int64(size) if isinstance(size, int) else DIM.make(x, axis=axis)


def sizes(x: Tensor) -> list[int | Tensor]:
    """The sizes of ``x``: ints where known, else 0-d int64 expressions."""
    return [size if isinstance(size, int) else DIM.make(x, axis=axis) for axis, size in enumerate(x.dims)]


def _vector_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    for x in inputs:
        if x.ndim or x.element is not inputs[0].element:
            raise ShapeError(
                "make_vector takes scalars of one type, got " + "; ".join(describe(i) for i in inputs)
            )
    return inputs[0].element, (len(inputs),)


def _vector_pull(node: Tensor, at: At, index: Index) -> Scalar:
    (position,) = index
    if position.op is scalar.const_op:
        # Beyond the ends only where a guard refuses the value, as roll does for what comes from the other end.
        return at(min(max(int(position.param), 0), len(node.inputs) - 1), ())
    value = at(len(node.inputs) - 1, ())
    for k in range(len(node.inputs) - 2, -1, -1):
        value = scalar.select(scalar.eq(position, k), at(k, ()), value)
    return value


def _vector_gradient(g: Tensor, node: Tensor) -> Gradients:
    from .indexing import getitem

    return [getitem(g, k) for k in range(len(node.inputs))]


MAKE_VECTOR = OpDef(
    name="make_vector",
    doc="A vector of scalars.",
    infer=_vector_infer,
    reference=lambda *values: np.stack(values),
    gradient=_vector_gradient,
    pull=_vector_pull,
    category="shape",
    cases=lambda rng: [
        ((_n(3), _n(4), _n(-1)), {}),
        ((np.asarray(rng.normal()),), {}),
        ([np.asarray(v) for v in rng.normal(size=4)], {}),
    ],
)


def make_vector(values: Sequence[Tensor]) -> Tensor:
    """A vector of 0-d tensors of one element type; at least one."""
    return MAKE_VECTOR.make(*values)


def shape(x: TensorLike) -> Tensor:
    """The sizes of ``x``: an int64 vector of known length, which can be unpacked and indexed."""
    x = as_tensor(x)
    known = x.type.shape
    if None not in known:
        return constant(np.asarray(known, np.int64))
    return make_vector([as_size_tensor(size) for size in sizes(x)])


def size(x: TensorLike) -> Tensor:
    """The number of elements of ``x`` (0-d int64)."""
    x = as_tensor(x)
    known, total = 1, None
    for extent in sizes(x):
        if isinstance(extent, int):
            known *= extent
        else:
            total = extent if total is None else total * extent
    if total is None or known == 0:
        return int64(known)
    return total if known == 1 else total * int64(known)


# Order of axes ----------------------------------------------------------------------------------------------


def _shuffle_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    order = params["order"]
    kept = [a for a in order if a != "x"]
    for axis in range(x.ndim):
        if axis not in kept and x.type.shape[axis] != 1:
            raise ShapeError(
                f"dimshuffle: axis {axis} is dropped, but its size is not known to be 1: {describe(x)}; "
                "use addbroadcast(x, axis) to say that it is"
            )
    return x.element, tuple([1 if a == "x" else x.dims[a] for a in order])


def _shuffle_pull(node: Tensor, at: At, index: Index) -> Scalar:
    source = [ZERO] * node.inputs[0].ndim
    for position, axis in enumerate(node.params["order"]):
        if axis != "x":
            source[axis] = index[position]
    return at(0, tuple(source))


def _shuffle_reference(x: Any, order: tuple[Any, ...]) -> Any:
    kept = [a for a in order if a != "x"]
    dropped = [a for a in range(np.ndim(x)) if a not in kept]
    moved = np.transpose(x, kept + dropped).reshape([np.shape(x)[a] for a in kept])
    return np.expand_dims(moved, [k for k, a in enumerate(order) if a == "x"])


def _shuffle_gradient(g: Tensor, node: Tensor) -> Gradients:
    order = node.params["order"]
    back = ["x" if axis not in order else order.index(axis) for axis in range(node.inputs[0].ndim)]
    return (dimshuffle(g, back),)


DIMSHUFFLE = OpDef(
    name="dimshuffle",
    doc="Axes in another order; 'x' inserts an axis of size 1, and axes of size 1 may be left out.",
    infer=_shuffle_infer,
    reference=_shuffle_reference,
    gradient=_shuffle_gradient,
    pull=_shuffle_pull,
    category="shape",
    cases=lambda rng: [
        ((rng.normal(size=(3, 4)),), {"order": (1, 0)}),
        ((rng.normal(size=(3, 4)).astype("float32"),), {"order": ("x", 1, "x", 0)}),
        ((rng.normal(size=(2, 0, 3)),), {"order": (2, 0, 1)}),
        ((rng.normal(size=()),), {"order": ("x", "x")}),
    ],
)


def dimshuffle(x: TensorLike, *pattern: Any) -> Tensor:
    """Axes of ``x`` in the order of ``pattern``, which may be given as arguments or as one sequence.

    ``'x'`` inserts an axis of size 1. Axes left out must be known to have size 1.
    """
    tensor = as_tensor(x)
    if len(pattern) == 1 and isinstance(pattern[0], (tuple, list)):
        pattern = tuple(pattern[0])
    order = tuple(
        [a if isinstance(a, str) else normal_axis("dimshuffle", a, tensor.ndim, tensor) for a in pattern]
    )
    named = [a for a in order if a != "x"]
    if any(isinstance(a, str) for a in named) or len(set(named)) != len(named):
        raise ShapeError(
            f"dimshuffle: the pattern {pattern} must name each axis at most once, or 'x': {describe(tensor)}"
        )
    if order == tuple(range(tensor.ndim)):
        return tensor
    return DIMSHUFFLE.make(tensor, order=order)


def transpose(x: TensorLike, axes: Any = None) -> Tensor:
    """Axes in the order ``axes``; without it, in reverse."""
    x = as_tensor(x)
    if axes is None:
        return dimshuffle(x, *reversed(range(x.ndim)))
    if len(axes) != x.ndim:
        raise ShapeError(f"transpose: {len(axes)} axes given for {x.ndim}: {describe(x)}")
    return dimshuffle(x, *axes)


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor(x)
    order = list(range(x.ndim))
    a, b = normal_axis("swapaxes", axis1, x.ndim, x), normal_axis("swapaxes", axis2, x.ndim, x)
    order[a], order[b] = b, a
    return dimshuffle(x, *order)


def moveaxis(x: TensorLike, source: Any, destination: Any) -> Tensor:
    """Axes ``source`` moved to the places ``destination``; the others keep their order."""
    x = as_tensor(x)
    sources = [normal_axis("moveaxis", a, x.ndim, x) for a in _listed(source)]
    places = [normal_axis("moveaxis", a, x.ndim, x) for a in _listed(destination)]
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} must name as many different axes"
        )
    order = [a for a in range(x.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return dimshuffle(x, *order)


def _listed(axis: Any) -> list[Any]:
    return list(axis) if isinstance(axis, (tuple, list)) else [axis]


def expand_dims(x: TensorLike, axis: Any) -> Tensor:
    """Axes of size 1 inserted so that they are number ``axis`` (an int or several) of the result."""
    x = as_tensor(x)
    listed = _listed(axis)
    rank = x.ndim + len(listed)
    new = normal_axes("expand_dims", listed, rank, x)
    rest = iter(range(x.ndim))
    return dimshuffle(x, *["x" if k in new else next(rest) for k in range(rank)])


def shape_i(x: TensorLike, i: int) -> Tensor:
    """The size of one axis: ``x.shape[i]``."""
    return dim(as_tensor(x), i)


def squeeze(x: TensorLike, axis: Any = None) -> Tensor:
    """Without the axes ``axis``, which must be known to have size 1; by default all that are known to."""
    x = as_tensor(x)
    if axis is None:
        return dimshuffle(x, *[a for a, size in enumerate(x.type.shape) if size != 1])
    gone = normal_axes("squeeze", axis, x.ndim, x)
    for a in gone:
        if x.type.shape[a] != 1:
            raise ShapeError(
                f"squeeze: axis {a} is not known to have size 1: {describe(x)}; see addbroadcast()"
            )
    return dimshuffle(x, *[a for a in range(x.ndim) if a not in gone])


def shape_padleft(x: TensorLike, n_ones: int = 1) -> Tensor:
    """``n_ones`` axes of size 1 in front."""
    x = as_tensor(x)
    return dimshuffle(x, *["x"] * n_ones, *range(x.ndim))


def shape_padright(x: TensorLike, n_ones: int = 1) -> Tensor:
    """``n_ones`` axes of size 1 at the end."""
    x = as_tensor(x)
    return dimshuffle(x, *range(x.ndim), *["x"] * n_ones)


def shape_padaxis(x: TensorLike, axis: int) -> Tensor:
    """One axis of size 1, as axis number ``axis`` of the result."""
    return expand_dims(x, axis)


def atleast_nd(x: TensorLike, n: int, left: bool = True) -> Tensor:
    """At least ``n`` axes; missing ones have size 1 and are put in front (``left``) or at the end."""
    x = as_tensor(x)
    missing = max(n - x.ndim, 0)
    return shape_padleft(x, missing) if left else shape_padright(x, missing)


def atleast_1d(x: TensorLike) -> Tensor:
    """At least one axis."""
    return atleast_nd(x, 1)


def atleast_2d(x: TensorLike) -> Tensor:
    """At least two axes; missing ones are put in front."""
    return atleast_nd(x, 2)


def atleast_3d(x: TensorLike) -> Tensor:
    """At least three axes, as ``numpy.atleast_3d``: a matrix gets its third axis at the end."""
    x = as_tensor(x)
    if x.ndim == 2:
        return shape_padright(x)
    return dimshuffle(x, "x", 0, "x") if x.ndim == 1 else atleast_nd(x, 3)
