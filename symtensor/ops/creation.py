"""New tensors: filled, counted, spaced, diagonal.

Nothing here takes memory by itself: a filled tensor is a broadcast number, a count is the loop index.
"""

from typing import Any

import numpy as np

from symtensor.graph import Constant, Params, Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import OPS, Inferred, OpDef, describe, dim_of, promoted
from symtensor.settings import config
from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, ShapeError

from .arguments import (
    as_element,
    as_size_tensor,
    int64,
    known_int,
    nonnegative,
    normal_axis,
    size_guards,
    sizes_of,
)
from .shaping import broadcast_like, broadcast_sizes, dim, dimshuffle, moveaxis, shape_padleft


def _element(dtype: object) -> DType:
    return dtypes.of(config.floatX if dtype is None or dtype == "floatX" else dtype)


# Filled ---------------------------------------------------------------------------------------------------


def alloc(value: TensorLike, *shape: Any) -> Tensor:
    """``value`` repeated to a shape, along new axes in front and along axes known to have size 1."""
    wanted = shape[0] if len(shape) == 1 else shape
    return broadcast_sizes(as_tensor(value), sizes_of("alloc", wanted))


def full(shape: Any, fill_value: TensorLike, dtype: object = None) -> Tensor:
    """A tensor of one value. Its element type is that of the value unless ``dtype`` is given."""
    value = as_tensor(fill_value)
    value = value if dtype is None else as_element(value, _element(dtype))
    return broadcast_sizes(value, sizes_of("full", shape))


def zeros(shape: Any, dtype: object = None) -> Tensor:
    """Zeros, by default of ``config.floatX``."""
    return full(shape, constant(0, _element(dtype)))


def ones(shape: Any, dtype: object = None) -> Tensor:
    """Ones, by default of ``config.floatX``."""
    return full(shape, constant(1, _element(dtype)))


def empty(shape: Any, dtype: object = None) -> Tensor:
    """A tensor whose values do not matter: zeros, so that programs which read them give equal results."""
    return zeros(shape, dtype)


def full_like(x: TensorLike, fill_value: TensorLike, dtype: object = None) -> Tensor:
    """A tensor of one value in the shape (and, unless ``dtype`` is given, element type) of ``x``."""
    x = as_tensor(x)
    return broadcast_like(
        as_element(as_tensor(fill_value), x.element if dtype is None else _element(dtype)), x
    )


def zeros_like(x: TensorLike, dtype: object = None, opt: bool = False) -> Tensor:
    """Zeros in the shape and element type of ``x``. (``opt`` is Theano's and changes nothing.)"""
    return full_like(x, 0, dtype)


def ones_like(x: TensorLike, dtype: object = None, opt: bool = False) -> Tensor:
    """Ones in the shape and element type of ``x``. (``opt`` is Theano's and changes nothing.)"""
    return full_like(x, 1, dtype)


def empty_like(x: TensorLike, dtype: object = None) -> Tensor:
    """As ``empty``, in the shape and element type of ``x``."""
    return zeros_like(x, dtype)


def fill(a: TensorLike, b: TensorLike) -> Tensor:
    """``b`` repeated to the shape of ``a``."""
    return broadcast_like(as_tensor(b), as_tensor(a))


def second(a: TensorLike, b: TensorLike) -> Tensor:
    """``b`` repeated to the shape of ``a`` (another name of ``fill``)."""
    return fill(a, b)


# Counted --------------------------------------------------------------------------------------------------


def _arange_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    length = dim_of(inputs[0])
    if isinstance(length, int) and length < 0:
        raise ShapeError(f"arange: the length is negative: {length}")
    return dtypes.int64, (length,)


ARANGE = OpDef(
    name="arange",
    doc="The integers from 0 to n - 1 (int64).",
    infer=_arange_infer,
    reference=lambda length: np.arange(int(length)),
    gradient=lambda g, node: (None,),
    pull=lambda node, at, index: index[0],
    guards=lambda node: size_guards("arange", node, node.dims),
    category="creation",
    cost=0,
    cases=lambda rng: [((np.int64(5),), {}), ((np.int64(0),), {})],
)


def count_up(length: int | Tensor) -> Tensor:
    """The integers from 0 to ``length - 1`` (int64)."""
    (size,) = sizes_of("arange", length)
    return ARANGE.make(int64(size) if isinstance(size, int) else size)


def arange(
    start: TensorLike, stop: TensorLike | None = None, step: TensorLike = 1, dtype: object = None
) -> Tensor:
    """Numbers from ``start`` up to, not including, ``stop``; with one argument from 0 up to it.

    Integers give int64 (or ``dtype``); their count is a size as any other, so ``arange(x.shape[0])`` is as
    long as ``x`` without a check. Floats are ``start + i * step``; their count is computed when the program
    runs.

    Raises:
        ValueError: the step is known to be 0.
    """
    if stop is None:
        start, stop = 0, start
    bounds = [as_tensor(v) for v in (start, stop, step)]
    for value in bounds:
        if value.ndim:
            raise ShapeError(f"arange takes scalars, got {describe(value)}")
    if isinstance(bounds[2], Constant) and bounds[2].data == 0:
        raise ValueError("arange: the step is 0")
    if all(b.element.kind in "biu" for b in bounds):
        counted = _integers(*[as_element(b, dtypes.int64) for b in bounds])
        return counted if dtype is None else as_element(counted, _element(dtype))
    return _floats(start, stop, step, dtype)


def _integers(start: Tensor, stop: Tensor, step: Tensor) -> Tensor:
    first, stride = known_int(start), known_int(step)
    span = stop if first == 0 else stop - start
    if stride == 1:
        length = span
    else:
        length = -((-span) // step)  # rounded up, for steps of either sign
    known = dim_of(length)
    if isinstance(known, int):
        counted = count_up(max(known, 0))
    elif stride is None:
        counted = count_up(_length_if(OPS["neq"](step, int64(0)), length))
    else:
        counted = count_up(length if nonnegative(known) else OPS["maximum"](length, int64(0)))
    if stride != 1:
        counted = counted * step
    return counted if first == 0 else counted + start


def _floats(start: TensorLike, stop: TensorLike, step: TensorLike, dtype: object) -> Tensor:
    first, last, stride = promoted((start, stop, step), integer="float", name="arange")
    result = first.element if dtype is None else _element(dtype)
    if all(isinstance(b, Constant) for b in (first, last, stride)):
        numbers = [b.data.item() for b in (first, last, stride)]  # type: ignore[attr-defined]
        return constant(np.arange(*numbers, dtype=result.numpy))
    wide = [as_element(b, dtypes.float64) for b in (first, last, stride)]
    length = OPS["ceil"]((wide[1] - wide[0]) / wide[2])
    finite = OPS["isfinite"](length)
    counted = as_element(count_up(_length_if(finite, as_element(length, dtypes.int64))), first.element)
    return as_element(first + counted * stride, result)


def _length_if(valid: Tensor, length: Tensor) -> Tensor:
    """The length, at least 0; where it is not valid (step 0, bounds not finite) one that is refused."""
    return OPS["switch"](valid, OPS["maximum"](length, int64(0)), int64(-1))


# Spaced ---------------------------------------------------------------------------------------------------


def linspace(
    start: TensorLike,
    stop: TensorLike,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: object = None,
    axis: int = 0,
) -> Any:
    """``num`` evenly spaced numbers from ``start`` to ``stop``; the last one is ``stop`` exactly if
    ``endpoint``.

    ``start`` and ``stop`` may be arrays, which broadcast; the numbers are then along ``axis``. With
    ``retstep`` the spacing is returned too. An integer ``dtype`` rounds down.
    """
    first, last = promoted((start, stop), integer="float", name="linspace")
    (count,) = sizes_of("linspace", num)
    position = count_up(count)
    spaces = as_size_tensor(count) - int64(1 if endpoint else 0)
    divisor = as_element(OPS["maximum"](spaces, int64(1)), first.element)
    spacing = (last - first) / divisor
    rank = max(first.ndim, last.ndim)
    along = dimshuffle(position, 0, *["x"] * rank)
    first, last = shape_padleft(first, rank - first.ndim + 1), shape_padleft(last, rank - last.ndim + 1)
    values = first + as_element(along, first.element) * shape_padleft(spacing)
    if endpoint:
        at_end = OPS["bitwise_and"](OPS["eq"](along, spaces), OPS["gt"](along, int64(0)))
        values = OPS["switch"](at_end, last, values)
    if dtype is not None:
        wanted = _element(dtype)
        values = as_element(OPS["floor"](values) if wanted.is_integer else values, wanted)
    values = moveaxis(values, 0, normal_axis("linspace", axis, values.ndim))
    return (values, spacing) if retstep else values


def logspace(
    start: TensorLike,
    stop: TensorLike,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: object = None,
) -> Tensor:
    """``base`` to the powers of ``linspace(start, stop, num, endpoint)``."""
    values = OPS["pow"](base, linspace(start, stop, num, endpoint))
    return values if dtype is None else as_element(values, _element(dtype))


def geomspace(
    start: TensorLike, stop: TensorLike, num: Any = 50, endpoint: bool = True, dtype: object = None
) -> Tensor:
    """``num`` numbers from ``start`` to ``stop`` (of one sign), each the same multiple of the one before."""
    first, last = promoted((start, stop), integer="float", name="geomspace")
    share = linspace(constant(0, first.element), constant(1, first.element), num, endpoint)
    share = dimshuffle(share, 0, *["x"] * max(first.ndim, last.ndim))
    values = first * OPS["pow"](last / first, share)
    if endpoint:
        values = OPS["switch"](OPS["eq"](share, constant(1, first.element)), last, values)
    return values if dtype is None else as_element(values, _element(dtype))


# Masks and diagonals --------------------------------------------------------------------------------------


def _band(n: Any, m: Any, k: Any) -> tuple[Tensor, Tensor]:
    """Rows shifted by ``k`` and columns of an n x m matrix, ready to be compared."""
    (rows,) = sizes_of("eye", n)
    (columns,) = sizes_of("eye", n if m is None else m)
    down = dimshuffle(count_up(rows), 0, "x")
    shift = known_int(k)
    down = down if shift == 0 else down + as_size_tensor(k if shift is None else shift)
    return down, dimshuffle(count_up(columns), "x", 0)


def eye(n: Any, m: Any = None, k: Any = 0, dtype: object = None) -> Tensor:
    """A matrix of ``n`` rows and ``m`` (or ``n``) columns with ones on diagonal ``k`` and zeros elsewhere."""
    row, column = _band(n, m, k)
    return as_element(OPS["eq"](row, column), _element(dtype))


def identity_like(x: TensorLike, dtype: object = None) -> Tensor:
    """Ones on the diagonal and zeros elsewhere, in the shape and element type of the matrix ``x``."""
    x = as_tensor(x)
    if x.ndim != 2:
        raise ShapeError(f"identity_like takes a matrix, got {describe(x)}")
    return eye(dim(x, 0), dim(x, 1), dtype=x.element if dtype is None else dtype)


def tri(n: Any, m: Any = None, k: Any = 0, dtype: object = None) -> Tensor:
    """Ones at and below diagonal ``k``, zeros above."""
    row, column = _band(n, m, k)
    return as_element(OPS["ge"](row, column), _element(dtype))


def _triangle(name: str, m: TensorLike, k: Any, keep: str) -> Tensor:
    m = as_tensor(m)
    if m.ndim < 2:
        raise ShapeError(f"{name} takes matrices, got {describe(m)}")
    row, column = _band(dim(m, -2), dim(m, -1), k)
    return OPS["switch"](OPS[keep](row, column), m, constant(0, m.element))


def tril(m: TensorLike, k: Any = 0) -> Tensor:
    """``m`` with zeros above diagonal ``k`` (of its last two axes)."""
    return _triangle("tril", m, k, "ge")


def triu(m: TensorLike, k: Any = 0) -> Tensor:
    """``m`` with zeros below diagonal ``k`` (of its last two axes)."""
    return _triangle("triu", m, k, "le")


def fill_diagonal(a: TensorLike, val: TensorLike, offset: int = 0) -> Tensor:
    """The matrix ``a`` with diagonal ``offset`` set to the scalar ``val``."""
    a = as_tensor(a)
    if a.ndim != 2:
        raise ShapeError(f"fill_diagonal takes a matrix, got {describe(a)}")
    row, column = _band(dim(a, 0), dim(a, 1), offset)
    return OPS["switch"](OPS["eq"](row, column), as_element(as_tensor(val), a.element), a)


def fill_diagonal_offset(a: TensorLike, val: TensorLike, offset: int) -> Tensor:
    """The matrix ``a`` with diagonal ``offset`` set to the scalar ``val``."""
    return fill_diagonal(a, val, offset)


def to_one_hot(y: TensorLike, nb_class: Any, dtype: object = None) -> Tensor:
    """A row for each integer of ``y``, with a one in its column; negative ones count from the last column.

    Where there is no such column the program raises IndexError.
    """
    from .indexing import getitem

    y = as_tensor(y)
    if y.element.kind not in "biu":
        raise DTypeError(f"to_one_hot takes integers, got {describe(y)}")
    (count,) = sizes_of("to_one_hot", nb_class)
    column = count_up(count)
    at = dimshuffle(getitem(column, as_element(y, dtypes.int64)), *range(y.ndim), "x")
    return as_element(OPS["eq"](at, column), _element(dtype))


def one_hot(y: TensorLike, nb_class: Any, dtype: object = None) -> Tensor:
    """Another name of ``to_one_hot``."""
    return to_one_hot(y, nb_class, dtype)


# Grids ----------------------------------------------------------------------------------------------------


def meshgrid(*vectors: TensorLike, indexing: str = "xy", sparse: bool = False) -> list[Tensor]:
    """Coordinate matrices of coordinate vectors, as ``numpy.meshgrid``."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}")
    given = [as_tensor(v) for v in vectors]
    given = [dimshuffle(v, "x") if v.ndim == 0 else v for v in given]
    rank = len(given)
    places = list(range(rank))
    if indexing == "xy" and rank > 1:
        places[0], places[1] = 1, 0
    grids = [
        dimshuffle(v, *[0 if k == place else "x" for k in range(rank)])
        for v, place in zip(given, places, strict=True)
    ]
    if sparse:
        return grids
    extents = [dim(given[places[k]], 0) for k in range(rank)]
    return [broadcast_sizes(grid, sizes_of("meshgrid", extents)) for grid in grids]


def indices(dimensions: Any, dtype: object = "int64", sparse: bool = False) -> Any:
    """The index of every element of an array of these sizes, axis by axis, as ``numpy.indices``."""
    grids = meshgrid(
        *[count_up(size) for size in sizes_of("indices", dimensions)], indexing="ij", sparse=sparse
    )
    grids = [as_element(grid, _element(dtype)) for grid in grids]
    if sparse:
        return tuple(grids)
    from .joining import stack

    return stack(grids)


class _Grid:
    """``mgrid`` and ``ogrid``: grids written as slices."""

    def __init__(self, sparse: bool) -> None:
        self.sparse = sparse

    def __getitem__(self, key: Any) -> Any:
        """Grids over ``start:stop:step`` along each axis; an imaginary step is a count (with both ends)."""
        if isinstance(key, slice):
            return self._vector(key)
        vectors = [self._vector(part) for part in key]
        common = promoted([constant(0, v.element) for v in vectors], name="mgrid")[0].element
        grids = meshgrid(*[as_element(v, common) for v in vectors], indexing="ij", sparse=self.sparse)
        if self.sparse:
            return grids
        from .joining import stack

        return stack(grids)

    def _vector(self, part: slice) -> Tensor:
        start = 0 if part.start is None else part.start
        if isinstance(part.step, complex):
            spaced = linspace(start, part.stop, int(abs(part.step)))
            assert isinstance(spaced, Tensor)
            return spaced
        return arange(start, part.stop, 1 if part.step is None else part.step)


mgrid = _Grid(sparse=False)
ogrid = _Grid(sparse=True)
