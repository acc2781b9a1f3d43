"""Slices side by side along one axis, zero in between: what the gradients of the slices of one tensor add up to."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import At, Gradients, Guard, Index, Inferred, OpDef, describe
from symtensor_codegen import scalar
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.loops import For, LoopKind, Statement, Store
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_dim, as_int

from .arguments import equal_guard
from .indexing_keys import getitem

Ranges = tuple[tuple[int, int], ...]  # where each piece begins and ends along the axis, in order, not overlapping


def _extent(node_dims: Sequence[Dim], axis: int, start: int, stop: int) -> Dim:
    """How much of a range lies inside the axis."""
    size = node_dims[axis]
    if isinstance(size, int):
        return max(min(stop, size) - start, 0)
    return as_dim(scalar.maximum(scalar.minimum(as_int(size), as_int(stop)) - start, as_int(0)))


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    whole, *pieces = inputs
    axis, ranges = params["axis"], params["ranges"]
    for piece, (start, stop) in zip(pieces, ranges, strict=True):
        if piece.element is not whole.element:
            raise DTypeError(f"spread: {describe(piece)} has another type than {describe(whole)}")
        have = piece.dims[axis]
        want = _extent(whole.dims, axis, start, stop)
        if isinstance(have, int) and isinstance(want, int) and have != want:
            raise ShapeError(f"spread: {describe(piece)} does not fit {start} to {stop}")
    return whole.element, whole.dims


def _guards(node: Tensor) -> list[Guard]:
    whole, *pieces = node.inputs
    axis = node.params["axis"]
    found: list[Guard] = []
    for piece, (start, stop) in zip(pieces, node.params["ranges"], strict=True):
        for a in range(node.ndim):
            want = _extent(whole.dims, axis, start, stop) if a == axis else whole.dims[a]
            found += equal_guard("spread: sizes {0} and {1} differ", piece.dims[a], want)
    return found


def _reference(whole: Any, *pieces: Any, axis: int, ranges: Ranges) -> Any:
    result = np.zeros_like(whole)
    for piece, (start, stop) in zip(pieces, ranges, strict=True):
        result[(*[slice(None)] * axis, slice(start, stop))] = piece
    return result


def _pull(node: Tensor, at: At, index: Index) -> Scalar:
    axis, place = node.params["axis"], index[node.params["axis"]]
    value = scalar.const(0, node.element)
    for k, (start, stop) in enumerate(node.params["ranges"]):
        inside = scalar.ge(place, start) & scalar.lt(place, stop)
        piece = at(k + 1, (*index[:axis], place - start, *index[axis + 1 :]))
        value = scalar.guarded(inside, piece, value)
    return value


def _loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    axis = node.params["axis"]
    outer = tuple([scalar.index("ijklmnpq"[a % 8], extent) for a, extent in enumerate(node.dims[:axis])])
    inside: list[Statement] = []

    def over(first: int, extent: Dim, piece: int | None) -> None:
        index = tuple([
            scalar.index("ijklmnpq"[(axis + a) % 8], size) for a, size in enumerate((extent, *node.dims[axis + 1 :]))
        ])  # fmt: skip
        value = scalar.const(0, node.element) if piece is None else at(piece, (*outer, *index))
        nest: Statement = Store(out, (*outer, index[0] + first, *index[1:]), value)
        for i in reversed(index):
            nest = For(i, i.param.extent, (nest,))
        inside.append(nest)

    position = 0
    for k, (start, stop) in enumerate(node.params["ranges"]):
        if start > position:
            over(position, _extent(node.dims, axis, position, start), None)
        over(start, node.inputs[k + 1].dims[axis], k + 1)
        position = stop
    size = node.dims[axis]
    if not isinstance(size, int) or size > position:
        over(position, as_dim(scalar.maximum(as_int(size) - position, as_int(0))), None)
    body = tuple(inside)
    for number, i in reversed(list(enumerate(outer))):
        body = (For(i, i.param.extent, body, LoopKind.PARALLEL if number == 0 else LoopKind.SERIAL),)
    return body


def _gradient(g: Tensor, node: Tensor) -> Gradients:
    axis = node.params["axis"]
    return [None, *[getitem(g, (*[slice(None)] * axis, slice(a, b))) for a, b in node.params["ranges"]]]


def _cases(rng: np.random.Generator) -> Any:
    yield [np.zeros((3, 7)), rng.normal(size=(3, 2)), rng.normal(size=(3, 3))], {"axis": 1, "ranges": ((0, 2), (3, 6))}
    yield [np.zeros(5), rng.normal(size=5)], {"axis": 0, "ranges": ((0, 5),)}
    yield [np.zeros((2, 4, 3)), rng.normal(size=(2, 1, 3))], {"axis": 1, "ranges": ((2, 3),)}
    yield [np.zeros((2, 3)), rng.normal(size=(2, 1))], {"axis": 1, "ranges": ((2, 6),)}


SPREAD: Final = OpDef(
    name="spread",
    doc="Pieces at ranges of one axis of a tensor of the first argument's sizes, zero elsewhere.",
    infer=_infer,
    reference=_reference,
    gradient=_gradient,
    pull=_pull,
    loops=_loops,
    guards=_guards,
    sizes=lambda node: [_extent(node.dims, node.params["axis"], a, b) for a, b in node.params["ranges"]],
    category="join",
    cases=_cases,
)
