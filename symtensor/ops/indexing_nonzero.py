"""Where elements are not zero: results whose size depends on the data."""

from typing import Any

import numpy as np

from symtensor.graph import Constant, Params, Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import At, Inferred, OpDef, describe, dim_of
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.loops import Declare, For, Statement, Store, Update
from symtensor_codegen.scalar import Buffer, Register

from .arguments import as_element
from .reduction_records import SUM
from .shaping import dim, ravel


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    mask, count = inputs
    if mask.ndim != 1 or mask.element is not dtypes.bool_:
        raise ShapeError(f"flatnonzero takes a vector of bools, got {describe(mask)}")
    return dtypes.int64, (dim_of(count),)


def _loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    mask = node.inputs[0]
    filled = Register("filled", dtypes.int64)
    i = scalar.index("i", mask.dims[0])
    holds = at(0, (i,))
    return (
        Declare(filled, scalar.const(0, dtypes.int64)),
        For(
            i,
            mask.dims[0],
            (
                Store(out, (scalar.read(filled),), i, where=holds),
                Update(filled, "add", scalar.cast(holds, dtypes.int64)),
            ),
        ),
    )


def _cases(rng: np.random.Generator) -> Any:
    for mask in (rng.random(11) < 0.5, np.zeros(3, bool), np.ones(4, bool), np.zeros(0, bool)):
        yield (mask, np.asarray(mask.sum(), np.int64)), {}


FLATNONZERO = OpDef(
    name="flatnonzero",
    doc="Positions of the elements of a bool vector that hold; their number is the second input.",
    infer=_infer,
    reference=lambda mask, count: np.flatnonzero(mask),
    gradient=lambda g, node: (None, None),
    loops=_loops,
    category="indexing",
    cases=_cases,
)


def flatnonzero(x: TensorLike) -> Tensor:
    """Positions in C order of the elements of ``x`` that are not zero (int64)."""
    mask = as_element(ravel(as_tensor(x)), dtypes.bool_)
    count = SUM.make(as_element(mask, dtypes.int64), axes=(0,))
    return FLATNONZERO.make(mask, count)


def nonzero(x: TensorLike, return_matrix: bool = False) -> Any:
    """Indices of the elements that are not zero: a tuple with an int64 vector for each axis.

    ``return_matrix``: as the rows of one matrix instead.

    Raises:
        ShapeError: ``x`` has no axis.
    """
    found = positions(as_tensor(x))
    if return_matrix:
        from .joining import stack

        return stack(found)
    return found


def positions(x: Tensor) -> tuple[Tensor, ...]:
    """As ``nonzero``; those of a constant are constants."""
    if x.ndim == 0:
        raise ShapeError(f"nonzero: a scalar has no positions: {describe(x)}")
    if isinstance(x, Constant):
        return tuple([constant(i.astype(np.int64)) for i in np.nonzero(x.data)])
    return _unravelled(flatnonzero(x), x)


def _unravelled(position: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    for axis in range(x.ndim - 1, 0, -1):
        size = dim(x, axis)
        found.append(position % size)
        position = position // size
    return (position, *reversed(found))


def nonzero_values(x: TensorLike) -> Tensor:
    """The elements that are not zero, in C order."""
    from .indexing_keys import getitem

    x = as_tensor(x)
    return getitem(ravel(x), flatnonzero(x))


def argwhere(x: TensorLike) -> Tensor:
    """Indices of the elements that are not zero: a matrix with a row for each."""
    found = nonzero(x, return_matrix=True)
    assert isinstance(found, Tensor)
    return found.T


def count_nonzero(x: TensorLike, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many elements over ``axis`` are not zero (int64)."""
    from .reduction import sum

    return sum(as_element(as_tensor(x), dtypes.bool_), axis, keepdims=keepdims)
