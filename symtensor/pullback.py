"""The reverse sweep: from gradients of results to gradients of what they are computed from.

Every operation's record says how the gradient of its result becomes gradients of its inputs. The sweep
walks the nodes in reverse order, adds up what arrives at each, and stops where nothing asked for lies
further up. What it builds are expressions like any other, so gradients can be differentiated again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from symtensor_codegen import dtypes
from symtensor_codegen.errors import InternalError, UserError

from .collecting import no_collection
from .graph import Constant, Tensor, ancestors, no_recording, variable
from .opdef import OPS, describe, where
from .ops.barriers import DisconnectedType, NullType
from .settings import config
from .types import TensorType


class GradientError(UserError, ValueError):
    """A gradient cannot be had."""


class DisconnectedInputError(GradientError):
    """The cost does not depend on a variable, or only through operations without a gradient (sizes)."""


class NonDifferentiableError(GradientError, TypeError):
    """An operation between the cost and a variable has no gradient."""


class NullTypeGradError(GradientError, TypeError):
    """A gradient goes through an operation that declares it undefined or not implemented."""


@dataclass
class Flow:
    """What arrived at the variables asked for.

    ``undefined`` holds, instead of a gradient, a variable of NullType with the reason; ``zero`` the nodes
    whose gradient is known to vanish.
    """

    arrived: dict[Tensor, Tensor] = field(default_factory=dict)
    undefined: dict[Tensor, Tensor] = field(default_factory=dict)
    zero: set[Tensor] = field(default_factory=set)


def pull_back(
    seeds: Mapping[Tensor, Tensor],
    wrt: Iterable[Tensor],
    constants: frozenset[Tensor] = frozenset(),
    *,
    fixed: bool = False,
) -> Flow:
    """Gradients at ``wrt``, given those at the keys of ``seeds``.

    What arrives at a node of ``seeds`` from elsewhere is added to its seed, or ignored where ``fixed``. The
    gradient does not go through ``constants``.
    """
    targets = frozenset(wrt)
    order = ancestors(seeds, stop=constants)
    needed = _on_the_way(order, targets, constants)
    flow = Flow()
    terms: dict[Tensor, list[Tensor]] = {}
    for node, g in seeds.items():
        if isinstance(g.type, NullType):
            flow.undefined[node] = g
        elif not isinstance(g.type, DisconnectedType):
            terms[node] = [g]
    with no_recording(), no_collection():
        for node in reversed(order):
            if node not in needed:
                continue
            arriving = terms.pop(node, None)
            if fixed and node in seeds:
                arriving = arriving and arriving[:1]
            if node in flow.undefined:
                _spread_undefined(node, targets, constants, flow)
            elif arriving is not None and node.element is dtypes.results:
                _pull_back_results(node, arriving, needed, terms, flow)
            elif arriving is not None:
                g = arriving[0] if len(arriving) == 1 else _sum(arriving)
                if node in targets:
                    flow.arrived[node] = g
                if node.inputs and has_gradient(node) and node not in constants:
                    _pull_back_node(node, g, needed, terms, flow)
    flow.undefined = {node: reason for node, reason in flow.undefined.items() if node in targets}
    return flow


def has_gradient(node: Tensor) -> bool:
    """Whether a gradient may flow through a node: floating point, or several results."""
    element = node.type.element
    return element.is_inexact or element is dtypes.results


def _on_the_way(
    order: Iterable[Tensor], targets: frozenset[Tensor], constants: frozenset[Tensor]
) -> set[Tensor]:
    """The targets, and the nodes through which a gradient flows to them: floating point all the way."""
    needed: set[Tensor] = set()
    for node in order:
        if node in targets:
            needed.add(node)
        elif has_gradient(node) and node not in constants:
            for i in node.inputs:
                if i in needed:
                    needed.add(node)
                    break
    return needed


def _spread_undefined(
    node: Tensor, targets: frozenset[Tensor], constants: frozenset[Tensor], flow: Flow
) -> None:
    """Everything a node without a defined gradient is computed from has none either."""
    reason = flow.undefined[node] if node in targets else flow.undefined.pop(node)
    if node not in constants:
        for i in node.inputs:
            flow.undefined.setdefault(i, reason)


def _pull_back_node(
    node: Tensor, g: Tensor, needed: set[Tensor], terms: dict[Tensor, list[Tensor]], flow: Flow
) -> None:
    """Add the parts of the gradient ``g`` of a node to the terms of its inputs."""
    inputs = node.inputs
    for i in inputs:
        if i in needed:
            break
    else:
        return
    if inputs[0].element is dtypes.results:  # the gradients of all results are pulled back together
        terms.setdefault(inputs[0], []).append((node, g))  # type: ignore[arg-type]
        return
    _check_differentiable(node, needed)
    assert node.op.gradient is not None
    _spread(node, node.op.gradient(g, node), needed, terms, flow)


def _pull_back_results(
    node: Tensor, arriving: Any, needed: set[Tensor], terms: dict[Tensor, list[Tensor]], flow: Flow
) -> None:
    """The same for a node with several results: ``arriving`` are pairs of a result and its gradient."""
    gradient: Any = node.op.gradient
    assert gradient is not None
    _spread(node, gradient(dict(arriving), node, needed), needed, terms, flow)


def _spread(
    node: Tensor, parts: Any, needed: set[Tensor], terms: dict[Tensor, list[Tensor]], flow: Flow
) -> None:
    """Add the parts of a gradient to the terms of the node's inputs."""
    inputs = node.inputs
    if len(parts) != len(inputs):
        raise InternalError(f"the gradient of {node.op} has {len(parts)} parts for {len(inputs)} inputs")
    site = node._site
    for i, part in zip(inputs, parts, strict=True):
        if part is None or i not in needed:
            continue
        kind = part.type
        if kind.__class__ is not TensorType:
            if isinstance(kind, NullType):
                flow.undefined.setdefault(i, part)
            continue
        if is_zero(part):
            flow.zero.add(i)
            continue
        if kind is not i.type:
            part = _fitted(part, i, node)
        if site is not None and part._site is None:
            _stamp(part, site)
        found = terms.get(i)
        if found is None:
            terms[i] = [part]
        else:
            found.append(part)


def _check_differentiable(node: Tensor, needed: set[Tensor]) -> None:
    """Refuse nodes that a gradient has to go through and cannot."""
    if node.type.element.is_complex or any(i in needed and i.type.element.is_complex for i in node.inputs):
        raise NonDifferentiableError(
            f"grad: {describe(node)}: gradients of complex numbers are not defined here; write the cost with "
            "the real and imaginary parts as separate real variables"
        )
    if node.op.gradient is None:
        source = next(i for i in node.inputs if i in needed)
        raise NonDifferentiableError(
            f"grad: {node.op} has no gradient{where(node)}, and it lies between the cost and "
            f"{describe(source)}. Stop the gradient before it with disconnected_grad(), or name its input in "
            "consider_constant"
        )


def _stamp(made: Tensor, site: Any) -> None:
    """Give new nodes the line of the user's program that they are the gradient of."""
    stack = [made]
    while stack:
        node = stack.pop()
        if node._site is None and node.inputs:
            node._site = site
            stack.extend(node.inputs)


def _sum(terms: list[Tensor]) -> Tensor:
    """The terms added pairwise: the depth of the sum is the logarithm of their number."""
    add = OPS["add"]
    while len(terms) > 1:
        paired = [add(terms[k], terms[k + 1]) for k in range(0, len(terms) - 1, 2)]
        for node, first in zip(paired, terms[::2], strict=False):
            if node._site is None:
                node._site = first._site
        if len(terms) % 2:
            paired.append(terms[-1])
        terms = paired
    return terms[0]


def _fitted(part: Tensor, x: Tensor, node: Tensor) -> Tensor:
    """A gradient in the shape and element type of the input it belongs to.

    Elementwise operations give gradients in their broadcast shape: what was repeated is summed.
    """
    have, want = part.type.shape, x.type.shape
    if have != want and node.op.is_elementwise:
        from .ops.shaping_broadcast import sum_to

        part = sum_to(part, x)
    elif len(have) != len(want):
        raise InternalError(f"the gradient of {node.op} for its input {describe(x)} has type {part.type}")
    element = x.type.element
    if part.type.element is not element and element.is_inexact:
        part = OPS["cast"].make(part, dtype=element)
    return part


_REPEATS = frozenset(("broadcast_to", "alloc", "cast", "dimshuffle", "reshape"))


def is_zero(value: Tensor) -> bool:
    """Whether an expression is known to be zero everywhere: a constant, perhaps repeated or converted."""
    while value.op.name in _REPEATS and value.inputs:
        value = value.inputs[0]
    return isinstance(value, Constant) and value.data.size > 0 and not value.data.any()


# What is connected ---------------------------------------------------------------------------------------

_SIZES = frozenset(("dim",))  # depend on the size of their input, not on its elements


def _connections(node: Tensor) -> tuple[bool, ...]:
    """For each input, whether ``node`` depends on its elements, perhaps with a gradient of zero."""
    op = node.op
    if node.element is dtypes.results or (node.inputs and node.inputs[0].element is dtypes.results):
        return (True,) * len(node.inputs)
    if op.gradient is None:
        return (op.name not in _SIZES,) * len(node.inputs)
    element = float_like(node)
    try:
        parts = op.gradient(variable(TensorType(element, node.type.shape)), node)
    except UserError:  # refuses, for instance, integers: there it is zero
        return (True,) * len(node.inputs)
    if op.is_elementwise:  # also the condition of a switch
        return tuple(part is None or not isinstance(part.type, DisconnectedType) for part in parts)
    return tuple(part is not None and not isinstance(part.type, DisconnectedType) for part in parts)


def connected(
    roots: Iterable[Tensor], wrt: frozenset[Tensor], constants: frozenset[Tensor] = frozenset()
) -> set[Tensor]:
    """Those of ``wrt`` that a root depends on other than through sizes and stopped gradients."""
    order = ancestors(roots, stop=constants)
    above: set[Tensor] = set()
    for node in order:
        if node in wrt or (node not in constants and any(i in above for i in node.inputs)):
            above.add(node)
    reached = {root for root in roots if root in above}
    with no_recording():
        for node in reversed(order):
            if node not in reached or not node.inputs or node in constants:
                continue
            for i, is_connected in zip(node.inputs, _connections(node), strict=True):
                if is_connected and i in above:
                    reached.add(i)
    return reached & wrt


def float_like(x: Tensor) -> dtypes.DType:
    """The element type of gradients with respect to ``x``: its own, or floatX for integers."""
    return x.type.element if x.type.element.is_inexact else dtypes.of(config.floatX)
