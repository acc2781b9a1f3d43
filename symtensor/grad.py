"""Reverse-mode gradients: one sweep from the cost to its variables over the graph, building new expressions.

Every operation's record says how the gradient of its result becomes gradients of its inputs. ``grad`` walks the nodes
in reverse order, adds up what arrives at each, and stops where nothing asked for lies further up. The result is an
expression like any other, so gradients can be differentiated again.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from symtensor_codegen import dtypes
from symtensor_codegen.errors import DTypeError, InternalError, UserError

from .config import config
from .graph import Constant, Tensor, TensorLike, ancestors, as_tensor, constant, no_recording, variable
from .opdef import OPS, describe, where
from .ops.barriers import DisconnectedType, NullType
from .types import TensorType


class GradientError(UserError, ValueError):
    """A gradient cannot be had."""


class DisconnectedInputError(GradientError):
    """The cost does not depend on a variable, or only through sizes and other operations without a gradient."""


class NonDifferentiableError(GradientError, TypeError):
    """An operation between the cost and a variable has no gradient."""


class NullTypeGradError(GradientError, TypeError):
    """A gradient goes through an operation that declares it undefined or not implemented."""


# The sweep ---------------------------------------------------------------------------------------------------------


@dataclass
class _Flow:
    """Gradients that arrived at the variables asked for; ``undefined`` holds reasons where one does not exist."""

    arrived: dict[Tensor, Tensor] = field(default_factory=dict)
    undefined: dict[Tensor, Tensor] = field(default_factory=dict)
    zero: set[Tensor] = field(default_factory=set)


def _pull_back(
    seeds: Mapping[Tensor, Tensor], fixed: Mapping[Tensor, Tensor], wrt: Iterable[Tensor], constants: frozenset[Tensor]
) -> _Flow:
    """Gradients at ``wrt``. ``seeds`` are added to what arrives at a node; ``fixed`` replace it."""
    targets = frozenset(wrt)
    order = ancestors([*seeds, *fixed], stop=constants)
    needed: set[Tensor] = set()
    for node in order:
        if node in targets:
            needed.add(node)
        elif node.type.element.is_inexact and node not in constants:
            for i in node.inputs:
                if i in needed:
                    needed.add(node)
                    break
    flow = _Flow()
    terms: dict[Tensor, list[Tensor]] = {node: [g] for node, g in seeds.items()}
    with no_recording():
        for node in reversed(order):
            if node not in needed:
                continue
            arriving = terms.pop(node, None)
            total = fixed.get(node)
            if total is None:
                reason = flow.undefined.get(node) if node in targets else flow.undefined.pop(node, None)
                if reason is not None:
                    for i in node.inputs:
                        if i in needed:
                            flow.undefined.setdefault(i, reason)
                    continue
                if arriving is None:
                    continue
                total = _sum(arriving)
            if node in targets:
                flow.arrived[node] = total
            if node.inputs and node.type.element.is_inexact and node not in constants:
                _pull_back_node(node, total, needed, terms, flow)
    flow.undefined = {node: reason for node, reason in flow.undefined.items() if node in targets}
    return flow


def _pull_back_node(
    node: Tensor, g: Tensor, needed: set[Tensor], terms: dict[Tensor, list[Tensor]], flow: _Flow
) -> None:
    inputs = node.inputs
    for i in inputs:
        if i in needed:
            break
    else:
        return
    if node.type.element.is_complex or any(i in needed and i.type.element.is_complex for i in inputs):
        raise NonDifferentiableError(
            f"grad: {describe(node)}: gradients of complex numbers are not defined here; write the cost with "
            "the real and imaginary parts as separate real variables"
        )
    gradient = node.op.gradient
    if gradient is None:
        raise NonDifferentiableError(
            f"grad: {node.op.name} has no gradient{where(node)}, and it lies between the cost and "
            f"{next(describe(i) for i in inputs if i in needed)}. Stop the gradient before it with "
            "disconnected_grad(), or name the input in consider_constant"
        )
    parts = gradient(g, node)
    if len(parts) != len(inputs):
        raise InternalError(f"the gradient of {node.op.name} has {len(parts)} parts for {len(inputs)} inputs")
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
        if part.dims != i.dims or kind.element is not i.type.element:
            part = _fitted(part, i, node)
        _stamp(part, site)
        found = terms.get(i)
        if found is None:
            terms[i] = [part]
        else:
            found.append(part)


def _stamp(made: Tensor, site: tuple[CodeType, int] | None) -> None:
    """Give the new nodes below ``made`` the user's line of the node they are the gradient of."""
    if site is None or made._site is not None:
        return
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
        if len(terms) % 2:
            paired.append(terms[-1])
        for node in paired:
            _stamp(node, node.inputs[0]._site if node.inputs else None)
        terms = paired
    return terms[0]


def _fitted(part: Tensor, x: Tensor, node: Tensor) -> Tensor:
    """A gradient in the shape and element type of the input it belongs to.

    Elementwise operations give gradients in their broadcast shape: what was repeated is summed.
    """
    have, want = part.type.shape, x.type.shape
    if len(have) < len(want) or (len(have) > len(want) and not node.op.is_elementwise):
        raise InternalError(f"the gradient of {node.op.name} for {describe(x)} has type {part.type}")
    extra = len(have) - len(want)
    repeated = [extra + k for k, size in enumerate(want) if size == 1 and have[extra + k] != 1]
    if extra or repeated:
        if not node.op.is_elementwise:
            raise InternalError(f"the gradient of {node.op.name} for {describe(x)} has type {part.type}")
        from .ops import reduction, shaping

        part = reduction.sum(part, axis=(*range(extra), *repeated))
        if repeated:
            kept = iter(range(part.ndim))
            part = shaping.dimshuffle(part, ["x" if extra + k in repeated else next(kept) for k in range(len(want))])
    element = x.type.element
    if part.type.element is not element and element.is_inexact:
        part = OPS["cast"].make(part, dtype=element)
    return part


def is_zero(value: Tensor) -> bool:
    """Whether an expression is known to be zero everywhere."""
    while value.op.name in _REPEATS and value.inputs:
        value = value.inputs[0]
    return isinstance(value, Constant) and value.data.size > 0 and not value.data.any()


_REPEATS = frozenset(("broadcast_to", "alloc", "cast", "dimshuffle", "reshape"))  # change no element, or only its type


# What is connected -------------------------------------------------------------------------------------------------

_SIZES = frozenset(("dim", "shape"))  # depend on the size of their input, not on its elements


def _connections(node: Tensor) -> tuple[bool, ...]:
    """For each input, whether ``node`` depends on its elements in Theano's sense (the gradient may still be zero)."""
    op = node.op
    if op.gradient is None:
        return (op.name not in _SIZES,) * len(node.inputs)
    kind = node.type.element if node.type.element.is_inexact else dtypes.of(config.floatX)
    try:
        parts = op.gradient(variable(TensorType(kind, node.type.shape)), node)
    except UserError:
        return (True,) * len(node.inputs)
    if op.is_elementwise:  # the condition of a switch: connected, with a gradient of zero
        return tuple(part is None or not isinstance(part.type, DisconnectedType) for part in parts)
    return tuple(part is not None and not isinstance(part.type, DisconnectedType) for part in parts)


def _connected(roots: Iterable[Tensor], wrt: frozenset[Tensor], constants: frozenset[Tensor]) -> set[Tensor]:
    """Those of ``wrt`` that the roots are connected to, with whatever gradient."""
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
            for i, connected in zip(node.inputs, _connections(node), strict=True):
                if connected and i in above:
                    reached.add(i)
    return reached & wrt


# Public functions --------------------------------------------------------------------------------------------------


def _listed(value: Any, what: str) -> list[Tensor]:
    """A variable or a list or tuple of variables as a list."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    for v in values:
        if not isinstance(v, Tensor):
            raise TypeError(f"{what} must be a variable or a list of variables, got {type(v).__name__}: {v!r}")
    return values


def _like(given: Any, values: Sequence[Any]) -> Any:
    """The values as a list, tuple or single value, as ``given`` is."""
    if isinstance(given, (list, tuple)):
        return type(given)(values) if type(given) in (list, tuple) else list(values)
    return values[0]


def _float_like(x: Tensor) -> dtypes.DType:
    return x.type.element if x.type.element.is_inexact else dtypes.of(config.floatX)


def _zero(x: Tensor) -> Tensor:
    from .ops.creation import zeros_like

    return zeros_like(x, dtype=_float_like(x).name)


def _choice(function: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{function}: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def grad(
    cost: Tensor | None,
    wrt: Tensor | Sequence[Tensor],
    consider_constant: Iterable[Tensor] | None = None,
    disconnected_inputs: str = "raise",
    add_names: bool = True,
    known_grads: Mapping[Tensor, TensorLike] | None = None,
    return_disconnected: str = "zero",
    null_gradients: str = "raise",
) -> Any:
    """Symbolic gradients of a scalar cost with respect to one or more variables.

    Args:
        cost: a 0-d expression; may be None where ``known_grads`` says where the gradient starts.
        wrt: a variable, or a list or tuple of them: any node of the graph.
        consider_constant: variables that the gradient does not go through.
        disconnected_inputs: what to do about a variable that the cost does not depend on: ``"raise"`` a
            DisconnectedInputError, ``"warn"``, or ``"ignore"``.
        add_names: name the results ``(dcost/dx)`` after named costs and variables.
        known_grads: gradients known already (for instance from outside of the graph), by variable. They are taken as
            they are; what the cost says about these variables is not looked at.
        return_disconnected: ``"zero"`` (zeros of the variable's shape), ``"None"``, or ``"Disconnected"`` (a
            variable of DisconnectedType).
        null_gradients: what to do about gradients declared undefined: ``"raise"`` or ``"return"`` them.

    Returns:
        A gradient, list or tuple, as ``wrt`` is. Each has its variable's shape and element type (of integers:
        floating point).

    Raises:
        TypeError: where the cost is not a scalar or ``wrt`` not made of variables.
        DisconnectedInputError, NonDifferentiableError, NullTypeGradError: see there.

    >>> x = T.dscalar("x")
    >>> grad(x ** 2 * 3, x).eval({x: 2.0})
    array(12.)
    """
    _choice("grad", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    _choice("grad", "return_disconnected", return_disconnected, ("zero", "None", "Disconnected"))
    _choice("grad", "null_gradients", null_gradients, ("raise", "return"))
    variables = _listed(wrt, "grad: wrt")
    fixed = {x: _given_gradient("grad: known_grads", x, g) for x, g in (known_grads or {}).items()}
    if cost is None:
        if not fixed:
            raise ValueError("grad: cost may be None only where known_grads gives gradients to start from")
    else:
        _check_cost(cost)
        fixed.setdefault(cost, constant(1, _float_like(cost)))
    constants = frozenset(_listed(list(consider_constant or ()), "grad: consider_constant"))
    _refuse_complex("grad", variables)
    flow = _pull_back({}, fixed, variables, constants)
    results = _results("grad", fixed, variables, constants, flow, disconnected_inputs, return_disconnected, null_gradients)
    if add_names and cost is not None and cost.name:
        _name_results(results, variables, cost.name)
    return _like(wrt, results)


def _check_cost(cost: Tensor) -> None:
    if not isinstance(cost, Tensor):
        raise TypeError(f"grad: cost must be a symbolic expression, got {type(cost).__name__}: {cost!r}")
    if isinstance(cost.type, NullType):
        raise ValueError(f"grad: the cost is an undefined gradient: {cost.type.why_null}")
    if cost.ndim != 0:
        raise TypeError(f"grad: cost must be a scalar, got {describe(cost)}. Reduce it first, as in cost.sum() or cost.mean()")
    if cost.element.is_complex:
        raise DTypeError(f"grad: the cost must be real, got {describe(cost)}. Use its real part or its absolute value")


def _refuse_complex(function: str, variables: Iterable[Tensor]) -> None:
    for x in variables:
        if x.element.is_complex:
            raise DTypeError(
                f"{function}: gradients with respect to complex variables are not defined here, got {describe(x)}. "
                "Make the real and imaginary parts two real variables"
            )


def _given_gradient(what: str, x: Tensor, value: TensorLike) -> Tensor:
    """A gradient given by the user, in its variable's element type; its rank must be the variable's."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: keys must be variables, got {type(x).__name__}: {x!r}")
    g = as_tensor(value)
    if g.type.__class__ is not TensorType:
        return g
    if g.ndim != x.ndim:
        raise TypeError(f"{what}: the gradient of {describe(x)} must have {x.ndim} dimensions, got {describe(g)}")
    if g.element.is_complex:
        raise DTypeError(f"{what}: the gradient of {describe(x)} must be real, got {describe(g)}")
    element = _float_like(x)
    if g.element is element:
        return g
    if isinstance(g, Constant):
        return constant(g.data, element)
    return OPS["cast"].make(g, dtype=element)


def _results(
    function: str,
    roots: Iterable[Tensor],
    variables: Sequence[Tensor],
    constants: frozenset[Tensor],
    flow: _Flow,
    disconnected_inputs: str,
    return_disconnected: str,
    null_gradients: str = "raise",
) -> list[Any]:
    """What was asked for, from what arrived: zeros where the gradient vanishes, errors where there is none."""
    missing = frozenset(v for v in variables if v not in flow.arrived and v not in flow.undefined and v not in flow.zero)
    connected = _connected(list(roots), missing, constants) | flow.zero if missing else flow.zero
    results: list[Any] = []
    for x in variables:
        reason = flow.undefined.get(x)
        if reason is not None:
            if null_gradients == "raise":
                assert isinstance(reason.type, NullType)
                raise NullTypeGradError(f"{function}: no gradient with respect to {describe(x)}: {reason.type.why_null}")
            results.append(reason)
        elif x in flow.arrived:
            results.append(flow.arrived[x])
        elif x in connected:
            results.append(_zero(x))
        else:
            _report_disconnected(function, x, disconnected_inputs)
            results.append(
                _zero(x) if return_disconnected == "zero" else None if return_disconnected == "None" else DisconnectedType()()
            )
    return results


def _report_disconnected(function: str, x: Tensor, how: str) -> None:
    message = (
        f"{function}: the gradient is asked with respect to a variable that the cost does not depend on, or only "
        f"through operations without a gradient: {describe(x)}. Remove it from wrt, or pass disconnected_inputs='ignore' "
        "to get zeros"
    )
    if how == "raise":
        raise DisconnectedInputError(message)
    if how == "warn":
        warnings.warn(message, stacklevel=4)


def _name_results(results: Iterable[Any], variables: Iterable[Tensor], cost: str) -> None:
    for g, x in zip(results, variables, strict=True):
        if isinstance(g, Tensor) and g.inputs and g.name is None and x.name:
            g.name = f"(d{cost}/d{x.name})"
