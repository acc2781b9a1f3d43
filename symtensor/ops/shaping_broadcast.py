"""Broadcasting to sizes, and assertions about sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, At, Gradients, Guard, Index, Inferred, OpDef, describe, dim_of, where
from symtensor_codegen import scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar

from .arguments import (
    as_params,
    equal_guard,
    normal_axes,
    param_dims,
    param_values,
    same,
    size_guards,
    sizes_of,
)
from .shaping_axes import DIM, ZERO, dimshuffle, sizes


def _broadcast_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x = inputs[0]
    target = param_dims(params["shape"], inputs[1:])
    if len(target) < x.ndim or any(isinstance(size, int) and size < 0 for size in target):
        raise ShapeError(f"broadcast_to: {x.type.shape} cannot become {params['shape']}: {describe(x)}")
    for k, have in enumerate(x.dims, len(target) - x.ndim):
        want = target[k]
        if isinstance(have, int) and have != 1:
            if isinstance(want, int) and want != have:
                raise ShapeError(
                    f"broadcast_to: {x.type.shape} cannot become {params['shape']}: {describe(x)}"
                )
            target[k] = have
    return x.element, tuple(target)


def _broadcast_guards(node: Tensor) -> list[Guard]:
    x = node.inputs[0]
    target = param_dims(node.params["shape"], node.inputs[1:])
    guards = size_guards("broadcast_to", node, target)
    for k, have in enumerate(x.dims, len(target) - x.ndim):
        if not (isinstance(have, int) and have == 1):
            message = (
                f"broadcast_to: size {{0}} cannot become {{1}}: {describe(x)}; "
                "an axis is repeated only where its size is known to be 1 when the expression is built"
            )
            guards += equal_guard(message, have, target[k])
    return guards


def _broadcast_pull(node: Tensor, at: At, index: Index) -> Scalar:
    x = node.inputs[0]
    tail = index[len(index) - x.ndim :]
    return at(0, tuple([ZERO if size == 1 else i for size, i in zip(x.type.shape, tail, strict=True)]))


def _broadcast_gradient(g: Tensor, node: Tensor) -> Gradients:
    return (sum_to(g, node.inputs[0]), *[None] * (len(node.inputs) - 1))


BROADCAST = OpDef(
    name="broadcast_to",
    doc="Elements repeated along new axes in front and along axes known to have size 1.",
    infer=_broadcast_infer,
    reference=lambda x, *given, shape: np.broadcast_to(x, param_values(shape, given)),
    gradient=_broadcast_gradient,
    pull=_broadcast_pull,
    guards=_broadcast_guards,
    category="shape",
    cases=lambda rng: [
        ((rng.normal(size=()), np.int64(3)), {"shape": (None, 2)}),
        ((rng.normal(size=(1, 4)), np.int64(3)), {"shape": (2, None, 4)}),
        ((rng.normal(size=(3,)).astype("float32"), np.int64(0)), {"shape": (None, 3)}),
    ],
)


def broadcast_sizes(x: Tensor, target: Sequence[int | Tensor]) -> Tensor:
    """Broadcast to sizes that are ints or 0-d int64 expressions."""
    if len(target) == x.ndim and all(same(dim_of(s), d) for s, d in zip(target, x.dims, strict=True)):
        return x
    shape, given = as_params(target)
    return BROADCAST.make(x, *given, shape=shape)


def broadcast_to(x: TensorLike, shape: Any) -> Tensor:
    """``x`` repeated to ``shape`` along new axes in front and along axes known to have size 1."""
    return broadcast_sizes(as_tensor(x), sizes_of("broadcast_to", shape))


def broadcast_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` repeated to the sizes of ``like``."""
    if x.dims == like.dims:
        return x
    return broadcast_sizes(x, sizes(like))


def sum_to(g: Tensor, x: Tensor) -> Tensor:
    """A gradient in a broadcast shape, summed to the shape of ``x``."""
    new = g.ndim - x.ndim
    axes = list(range(new))
    repeated = [k for k in range(x.ndim) if x.type.shape[k] == 1 and g.type.shape[new + k] != 1]
    axes += [new + k for k in repeated]
    if not axes:
        return g
    summed = OPS["sum"].make(g, axes=tuple(axes))
    rest = iter(range(summed.ndim))
    return dimshuffle(summed, *["x" if k in repeated else next(rest) for k in range(x.ndim)])


# Assertions about sizes -------------------------------------------------------------------------------------


def _specify_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x = inputs[0]
    wanted: list[Dim] = param_dims(params["shape"], inputs[1:])
    if len(wanted) != x.ndim:
        raise ShapeError(f"specify_shape: {len(wanted)} sizes given for {describe(x)}")
    found: list[Dim] = []
    for have, want in zip(x.dims, wanted, strict=True):
        if isinstance(have, int) and isinstance(want, int) and want not in (-1, have):
            raise ShapeError(f"specify_shape: {params['shape']} does not agree with {describe(x)}")
        found.append(have if isinstance(have, int) or (isinstance(want, int) and want == -1) else want)
    return x.element, tuple(found)


def _specify_guards(node: Tensor) -> list[Guard]:
    x = node.inputs[0]
    guards: list[Guard] = []
    wanted = param_dims(node.params["shape"], node.inputs[1:])
    for axis, (have, want) in enumerate(zip(x.dims, wanted, strict=True)):
        if not (isinstance(want, int) and want == -1):
            message = f"specify_shape: axis {axis} has size {{0}}, not {{1}} as stated: {describe(x)}"
            if "state" in node.params:
                message = changed_state(node.params["state"], axis, x)
            guards += equal_guard(message, have, want)
    return guards


def changed_state(label: str, axis: int, after: Tensor) -> str:
    """What is said of a state of a loop that begins with size 1 and has size 0 after a step."""
    return f"scan: {label} has size {{1}} on axis {axis} at first, and {{0}} after a step{where(after)}"


def _specify_gradient(g: Tensor, node: Tensor) -> Gradients:
    return node.op.make(g, *node.inputs[1:], **node.params), *[None] * (len(node.inputs) - 1)


SPECIFY_SHAPE = OpDef(
    name="specify_shape",
    doc="The same tensor with sizes stated, which is checked once per call (-1: nothing is stated).",
    infer=_specify_infer,
    reference=lambda x, *given, shape, state="": np.asarray(x),
    gradient=_specify_gradient,
    pull=lambda node, at, index: at(0, index),
    alias=True,
    guards=_specify_guards,
    sizes=lambda node: param_dims(node.params["shape"], node.inputs[1:]),
    category="shape",
    cases=lambda rng: [((rng.normal(size=(3, 4)), np.int64(4)), {"shape": (-1, None)})],
)  # fmt: skip


def specify_shape(x: TensorLike, shape: Any) -> Tensor:
    """``x`` with sizes stated by the user: they are checked when the program runs, and relied upon before.

    Args:
        x: any tensor.
        shape: one size for each axis; None (or -1) states nothing.
    """
    tensor = as_tensor(x)
    if isinstance(shape, (tuple, list)):
        shape = [-1 if s is None else s for s in shape]
    wanted = sizes_of("specify_shape", shape)
    known = tensor.type.shape
    params, given = as_params(wanted)
    if len(params) == tensor.ndim and all(
        w == -1 or (w is not None and w == k) for w, k in zip(params, known, strict=True)
    ):
        return tensor
    return SPECIFY_SHAPE.make(tensor, *given, shape=params)


def addbroadcast(x: TensorLike, *axes: int) -> Tensor:
    """``x`` with the sizes of ``axes`` stated to be 1 (checked at run time), so that they broadcast."""
    x = as_tensor(x)
    ones = normal_axes("addbroadcast", axes, x.ndim, x)
    return specify_shape(x, [1 if a in ones else -1 for a in range(x.ndim)])


def _unbroadcast_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    dims = [
        scalar.symbol(("value", DIM.make(x, axis=a))) if a in params["axes"] else d
        for a, d in enumerate(x.dims)
    ]
    return x.element, tuple(dims)


UNBROADCAST = OpDef(
    name="unbroadcast",
    doc="The same tensor, in which the sizes of some axes are no longer known to be 1.",
    infer=_unbroadcast_infer,
    reference=lambda x, axes: np.asarray(x),
    gradient=lambda g, node: (addbroadcast(g, *node.params["axes"]),),
    pull=lambda node, at, index: at(0, index),
    category="shape",
    cases=lambda rng: [((rng.normal(size=(1, 4)),), {"axes": (0,)})],
)


def unbroadcast(x: TensorLike, *axes: int) -> Tensor:
    """``x`` with the sizes of ``axes`` no longer known to be 1, as in the type of a general array."""
    x = as_tensor(x)
    wanted = normal_axes("unbroadcast", axes, x.ndim, x)
    known = tuple([a for a in wanted if x.type.shape[a] == 1])
    return UNBROADCAST.make(x, axes=known) if known else x


def patternbroadcast(x: TensorLike, broadcastable: Sequence[bool]) -> Tensor:
    """``x`` with exactly the axes marked True known to have size 1."""
    x = as_tensor(x)
    if len(broadcastable) != x.ndim:
        raise ShapeError(f"patternbroadcast: {len(broadcastable)} flags given for {describe(x)}")
    x = addbroadcast(x, *[a for a, flag in enumerate(broadcastable) if flag])
    return unbroadcast(x, *[a for a, flag in enumerate(broadcastable) if not flag])
