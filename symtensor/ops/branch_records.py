"""The operations of lazy branches.

``ifelse(condition, a, b)`` is what users write. Before lowering, the compiler gathers what only one branch needs:
``branch(condition, *values, bodies=(then, otherwise))`` computes the results of one of two bodies, of which
``taken`` takes out one.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import Gradients, Inferred, OpDef, describe, where
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.scalar import Dim

from .loop_body import Body, outer_size


def _infer_ifelse(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    condition, yes, no = inputs
    if condition.ndim != 0 or condition.element.kind not in "biu":
        raise DTypeError(f"ifelse: the condition must be a bool or integer scalar, got {describe(condition)}")
    if yes.element is not no.element or yes.ndim != no.ndim:
        raise DTypeError(
            f"ifelse: the branches must have one type, got {describe(yes)} and {describe(no)}; cast one of them"
        )
    return yes.element, _chosen_dims(condition, yes.dims, no.dims)


def _chosen_dims(condition: Tensor, yes: tuple[Dim, ...], no: tuple[Dim, ...]) -> tuple[Dim, ...]:
    holds = None
    dims: list[Dim] = []
    for a, b in zip(yes, no, strict=True):
        if a is b or a == b:
            dims.append(a)
            continue
        if holds is None:
            holds = scalar.ne(scalar.symbol(("value", condition), dtypes.int64), 0)
        dims.append(scalar.as_dim(scalar.select(holds, scalar.as_int(a), scalar.as_int(b))))
    return tuple(dims)


def _gradient(g: Tensor, node: Tensor) -> Gradients:
    condition, yes, no = node.inputs
    from .creation import zeros_like

    return None, IFELSE.make(condition, g, zeros_like(yes)), IFELSE.make(condition, zeros_like(no), g)


IFELSE: Final = OpDef(
    name="ifelse",
    doc="The first value where the condition (a scalar) holds, else the second; the other is not computed.",
    infer=_infer_ifelse,
    reference=lambda condition, yes, no: yes if condition else no,
    gradient=_gradient,
    category="control",
    cases=lambda rng: [
        ((np.bool_(True), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))), {}),
        ((np.bool_(False), rng.normal(size=3), rng.normal(size=4)), {}),
    ],
)


def _infer_branch(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    return dtypes.results, ()


class Chosen:
    """What the reference interpreter keeps of a branch: its results."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values


def chosen_body(condition: Any, bodies: tuple[Body, Body]) -> Body:
    """The body that runs for this value of the condition."""
    return bodies[0] if condition else bodies[1]


def _run_branch(
    condition: Any, *given: Any, bodies: tuple[Body, Body], inside: Callable[..., Any]
) -> Chosen:
    body = chosen_body(condition, bodies)
    environment = inside(dict(zip(body.constants, given, strict=True)))
    return Chosen([environment.value(node) for node in body.nexts])


def _branch_sizes(node: Tensor) -> list[Dim]:
    from symtensor.graph import ancestors

    found: dict[Dim, None] = {}
    for body in node.params["bodies"]:
        outside = outer_size(body, (node.inputs[0], *node.inputs[1:]))
        for inner in ancestors(body.outputs):
            for size in inner.dims:
                if not isinstance(size, int):
                    try:
                        found[outside(size)] = None
                    except ShapeError:
                        continue
    return list(found)


BRANCH: Final = OpDef(
    name="branch",
    doc="The results of one of two computations; ``taken`` takes them out.",
    infer=_infer_branch,
    reference=_run_branch,
    sizes=_branch_sizes,
    category="control",
)


def _infer_taken(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (node,) = inputs
    yes, no = node.params["bodies"]
    a, b = yes.nexts[params["position"]], no.nexts[params["position"]]
    try:
        return a.element, _chosen_dims(
            node.inputs[0],
            tuple(map(outer_size(yes, node.inputs), a.dims)),
            tuple(map(outer_size(no, node.inputs), b.dims)),
        )
    except ShapeError:
        raise ShapeError(
            f"ifelse: the size of a branch is computed in it{where(a, b)}; compute the size outside"
        ) from None


TAKEN: Final = OpDef(
    name="taken",
    doc="A result of a branch.",
    infer=_infer_taken,
    reference=lambda chosen, position: chosen.values[position],
    category="control",
)
