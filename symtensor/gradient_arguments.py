"""What the functions of gradients take and return: checks of arguments, and results of a sweep."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from symtensor_codegen.errors import DTypeError

from .graph import Constant, Tensor, TensorLike, as_tensor, constant
from .opdef import OPS, describe
from .ops.barriers import DisconnectedType, NullType
from .ops.shaping_broadcast import broadcast_like
from .pullback import DisconnectedInputError, Flow, NullTypeGradError, connected, float_like
from .types import TensorType

Variables = Tensor | Sequence[Tensor]


def listed(value: Any, what: str) -> list[Tensor]:
    """A variable or a list or tuple of variables as a list."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    for v in values:
        if not isinstance(v, Tensor):
            raise TypeError(f"{what} must be a variable or a list of them, got {type(v).__name__}: {v!r}")
    return values


def shaped_as(given: object, values: Sequence[Any]) -> Any:
    """The values as a list, tuple or single value, as ``given`` is."""
    if isinstance(given, tuple):
        return tuple(values)
    return list(values) if isinstance(given, list) else values[0]


def zero_like(x: Tensor) -> Tensor:
    """A gradient of zero with respect to ``x``."""
    return broadcast_like(constant(0, float_like(x)), x)


def check_choice(function: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse an option that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{function}: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def check_cost(cost: object) -> None:
    """Refuse what is no real scalar expression."""
    if not isinstance(cost, Tensor):
        raise TypeError(f"grad: cost must be a symbolic expression, got {type(cost).__name__}: {cost!r}")
    if isinstance(cost.type, NullType):
        raise NullTypeGradError(f"grad: the cost is an undefined gradient: {cost.type.why_null}")
    if cost.ndim != 0:
        raise TypeError(
            f"grad: cost must be a scalar, got {describe(cost)}. Reduce it first, as in cost.sum() or "
            "cost.mean()"
        )
    if cost.element.is_complex:
        raise DTypeError(
            f"grad: cost must be real, got {describe(cost)}. Take its real part or absolute value first"
        )


def refuse_complex(function: str, variables: Iterable[Tensor]) -> None:
    """Refuse complex variables."""
    for x in variables:
        if x.element.is_complex:
            raise DTypeError(
                f"{function}: complex numbers have no gradient here, got {describe(x)}. Make the real and "
                "imaginary parts two real variables"
            )


def given_gradient(what: str, x: Tensor, value: TensorLike) -> Tensor:
    """A gradient or direction given by the user, in its variable's element type; the ranks must agree."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: keys must be variables, got {type(x).__name__}: {x!r}")
    g = as_tensor(value)
    if g.type.__class__ is not TensorType:
        return g
    if g.ndim != x.ndim:
        raise TypeError(f"{what}: for {describe(x)} there must be {x.ndim} dimensions, got {describe(g)}")
    if g.element.is_complex:
        raise DTypeError(f"{what}: for {describe(x)} it must be real, got {describe(g)}")
    element = float_like(x)
    if g.element is element:
        return g
    return constant(g.data, element) if isinstance(g, Constant) else OPS["cast"].make(g, dtype=element)


def seeds_of(function: str, outputs: Sequence[Tensor], eval_points: Any) -> dict[Tensor, Tensor]:
    """Gradients given for expressions, by expression; those of one given twice are added."""
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(points) != len(outputs):
        raise ValueError(
            f"{function}: {len(outputs)} expressions need as many eval_points, got {len(points)}"
        )
    seeds: dict[Tensor, Tensor] = {}
    for out, point in zip(outputs, points, strict=True):
        g = given_gradient(f"{function}: eval_points", out, point)
        seeds[out] = g if out not in seeds else seeds[out] + g
    return seeds


def results_of(
    function: str,
    roots: Iterable[Tensor],
    variables: Sequence[Tensor],
    constants: frozenset[Tensor],
    flow: Flow,
    disconnected_inputs: str,
    return_disconnected: str,
    null_gradients: str = "raise",
) -> list[Any]:
    """What was asked for, from what arrived: zeros where it vanishes, errors where there is none."""
    missing = frozenset(v for v in variables if v not in flow.arrived and v not in flow.undefined)
    vanishing = flow.zero & missing
    if missing - vanishing:
        vanishing |= connected(list(roots), missing - vanishing, constants)
    results: list[Any] = []
    for x in variables:
        if x in flow.undefined:
            if null_gradients == "raise":
                raise_undefined(function, x, flow.undefined[x])
            results.append(flow.undefined[x])
        elif x in flow.arrived:
            results.append(flow.arrived[x])
        elif x in vanishing:
            results.append(zero_like(x))
        else:
            _report_disconnected(function, x, disconnected_inputs)
            absent = {"None": None, "Disconnected": DisconnectedType()()}
            results.append(zero_like(x) if return_disconnected == "zero" else absent[return_disconnected])
    return results


def raise_undefined(function: str, x: Tensor, reason: Tensor) -> None:
    """Report a gradient declared undefined."""
    assert isinstance(reason.type, NullType)
    raise NullTypeGradError(f"{function}: no gradient with respect to {describe(x)}: {reason.type.why_null}")


def _report_disconnected(function: str, x: Tensor, how: str) -> None:
    message = (
        f"{function}: asked for the gradient with respect to {describe(x)}, but the cost does not depend "
        "on it, or only through operations that have no gradient. Remove it from wrt, or pass "
        "disconnected_inputs='ignore' to get zeros"
    )
    if how == "raise":
        raise DisconnectedInputError(message)
    if how == "warn":
        warnings.warn(message, stacklevel=4)


def name_results(results: Iterable[Any], variables: Iterable[Tensor], cost: str) -> None:
    """Name gradients ``(dcost/dx)``, where the variable has a name and the gradient none."""
    for g, x in zip(results, variables, strict=True):
        if isinstance(g, Tensor) and g.inputs and g.name is None and x.name:
            g.name = f"(d{cost}/d{x.name})"
