"""Padding with one value: the record. The other modes are in ``joining_pad_modes``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import At, Gradients, Guard, Index, Inferred, OpDef, describe
from symtensor_codegen import scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar

from .arguments import as_params, param_dims, param_values, same, size_guards
from .indexing import getitem
from .reduction import sum as sum_over
from .shaping import sizes, specify_shape


def _widths(params: Params, inputs: Sequence[Tensor]) -> list[tuple[Dim, Dim]]:
    flat = param_dims(params["shape"], inputs)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x, value = inputs[:2]
    widths = _widths(params, inputs[2:])
    if len(widths) != x.ndim or value.ndim or value.element is not x.element:
        raise ShapeError(
            f"pad: a width before and after each axis, and a scalar of the same type: {describe(x)}"
        )
    if any(isinstance(w, int) and w < 0 for pair in widths for w in pair):
        raise ShapeError(f"pad: a width is negative: {params['shape']}: {describe(x)}")
    dims = [_sum(before, size, after) for size, (before, after) in zip(x.dims, widths, strict=True)]
    return x.element, tuple(dims)


def _sum(*extents: Dim) -> Dim:
    total = scalar.as_int(0)
    for extent in extents:
        total = total + scalar.as_int(extent)
    return scalar.as_dim(total)


def _pull(node: Tensor, at: At, index: Index) -> Scalar:
    x = node.inputs[0]
    conditions: list[Scalar] = []
    source: list[Scalar] = []
    for i, size, (before, after) in zip(index, x.dims, _widths(node.params, node.inputs[2:]), strict=True):
        place = i - scalar.as_int(before)
        source.append(place)
        if not same(before, 0):
            conditions.append(scalar.ge(place, 0))
        if not same(after, 0):
            conditions.append(scalar.lt(place, scalar.as_int(size)))
    value = at(0, tuple(source))
    if not conditions:
        return value
    inside = conditions[0]
    for condition in conditions[1:]:
        inside = inside & condition
    return scalar.guarded(inside, value, at(1, ()))


def _gradient(g: Tensor, node: Tensor) -> Gradients:
    x = node.inputs[0]
    extents = sizes(x)
    stops = [start + extent for start, extent in zip(_starts(node), extents, strict=True)]
    part = getitem(g, tuple([slice(a, b) for a, b in zip(_starts(node), stops, strict=True)]))
    part = specify_shape(part, extents)
    return (part, sum_over(g) - sum_over(part), *[None] * (len(node.inputs) - 2))


def _starts(node: Tensor) -> list[int | Tensor]:
    rest = iter(node.inputs[2:])
    flat = [next(rest) if width is None else width for width in node.params["shape"]]
    return flat[::2]


def _guards(node: Tensor) -> list[Guard]:
    return size_guards("pad", node, [w for pair in _widths(node.params, node.inputs[2:]) for w in pair])


def _reference(x: Any, value: Any, *given: Any, shape: Any) -> Any:
    flat = param_values(shape, given)
    return np.pad(x, list(zip(flat[::2], flat[1::2], strict=True)), constant_values=value) if x.ndim else x


PAD = OpDef(
    name="pad",
    doc="A tensor with more elements, all of one value, before and after the ends of its axes.",
    infer=_infer,
    reference=_reference,
    gradient=_gradient,
    pull=_pull,
    guards=_guards,
    category="join",
    cases=lambda rng: [
        ((rng.normal(size=(3, 4)), np.asarray(1.5)), {"shape": (1, 2, 0, 3)}),
        ((rng.normal(size=5).astype("float32"), np.float32(0), np.int64(2)), {"shape": (None, 0)}),
        ((rng.normal(size=(0, 2)), np.asarray(-1.0)), {"shape": (1, 1, 0, 0)}),
    ],
)


Widths = Sequence[tuple[int | Tensor, int | Tensor]]  # before and after each axis


def surrounded(x: Tensor, value: Tensor, widths: Widths) -> Tensor:
    """``x`` with elements of a value (0-d, of its type) before and after the ends of its axes."""
    shape, given = as_params([width for pair in widths for width in pair])
    return PAD.make(x, value, *given, shape=shape)
