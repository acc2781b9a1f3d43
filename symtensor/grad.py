"""Gradients of expressions: ``grad``, products with Jacobians, Jacobians and Hessians."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symtensor_codegen.errors import DTypeError

from .graph import Constant, Tensor, TensorLike, as_tensor, constant, replace, variable
from .opdef import OPS, describe
from .ops.barriers import DisconnectedType, NullType
from .pullback import (
    DisconnectedInputError,
    Flow,
    GradientError,
    NonDifferentiableError,
    NullTypeGradError,
    connected,
    float_like,
    pull_back,
)
from .types import TensorType

Variables = Tensor | Sequence[Tensor]


def grad(
    cost: Tensor | None,
    wrt: Variables,
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
        wrt: a variable, or a list or tuple of them: any nodes of the graph.
        consider_constant: variables that the gradient does not go through.
        disconnected_inputs: what to do about a variable that the cost does not depend on: ``"raise"`` a
            DisconnectedInputError, ``"warn"``, or ``"ignore"``.
        add_names: name the results ``(dcost/dx)`` after named costs and variables.
        known_grads: gradients that are known already, by variable. They are taken as they are; what the
            cost says about these variables is not looked at.
        return_disconnected: for such variables ``"zero"`` (zeros of the variable's shape), ``"None"``, or
            ``"Disconnected"`` (a variable of DisconnectedType).
        null_gradients: ``"raise"`` an error for gradients declared undefined, or ``"return"`` a variable
            of NullType.

    Returns:
        A gradient, list or tuple, as ``wrt`` is. Each has its variable's shape and element type (with
        respect to
        integers: floating point).

    Raises:
        TypeError: the cost is not a scalar, or ``wrt`` not made of variables.
        DisconnectedInputError: a variable is not connected to the cost.
        NonDifferentiableError: an operation on the way has no gradient.
        NullTypeGradError: an operation on the way declares its gradient undefined.
    """
    _choice("grad", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    _choice("grad", "return_disconnected", return_disconnected, ("zero", "None", "Disconnected"))
    _choice("grad", "null_gradients", null_gradients, ("raise", "return"))
    variables = _listed(wrt, "grad: wrt")
    constants = frozenset(_listed(list(consider_constant or ()), "grad: consider_constant"))
    known = {x: _given("grad: known_grads", x, g) for x, g in (known_grads or {}).items()}
    if cost is not None:
        _check_cost(cost)
        known.setdefault(cost, constant(1, float_like(cost)))
    elif not known:
        raise ValueError("grad: cost may be None only where known_grads gives gradients to start from")
    _refuse_complex("grad", variables)
    flow = pull_back(known, variables, constants, fixed=True)
    results = _results(
        "grad", known, variables, constants, flow, disconnected_inputs, return_disconnected, null_gradients
    )
    if add_names and cost is not None and cost.name:
        _name(results, variables, cost.name)
    return _like(wrt, results)


def Lop(
    f: Variables,
    wrt: Variables,
    eval_points: Any,
    consider_constant: Iterable[Tensor] | None = None,
    disconnected_inputs: str = "raise",
) -> Any:
    """``eval_points`` times the Jacobian of ``f`` with respect to ``wrt`` (vector times matrix).

    ``f`` and ``eval_points`` are expressions of the same shapes, or lists of such. The result is shaped as
    ``wrt``.
    """
    _choice("Lop", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    outputs, variables = _listed(f, "Lop: f"), _listed(wrt, "Lop: wrt")
    _refuse_complex("Lop", [*outputs, *variables])
    constants = frozenset(_listed(list(consider_constant or ()), "Lop: consider_constant"))
    seeds = _seeds("Lop", outputs, eval_points)
    flow = pull_back(seeds, variables, constants)
    return _like(wrt, _results("Lop", seeds, variables, constants, flow, disconnected_inputs, "zero"))


def Rop(f: Variables, wrt: Variables, eval_points: Any, disconnected_outputs: str = "raise") -> Any:
    """The Jacobian of ``f`` with respect to ``wrt`` times ``eval_points`` (matrix times vector).

    ``wrt`` and ``eval_points`` are expressions of the same shapes, or lists of such (None for no change of
    that variable). The result is shaped as ``f``. It costs a few times the computation of ``f``, whatever
    the sizes: the product from the left is linear in its vector, and *its* product from the left is the one
    from the right. So it works for every operation whose gradient has a gradient.

    Raises:
        DisconnectedInputError: an ``f`` does not depend on any of the variables (zeros where
            ``disconnected_outputs`` is ``"ignore"``).
    """
    _choice("Rop", "disconnected_outputs", disconnected_outputs, ("raise", "ignore"))
    outputs, variables = _listed(f, "Rop: f"), _listed(wrt, "Rop: wrt")
    _refuse_complex("Rop", [*outputs, *variables])
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(points) != len(variables):
        raise ValueError(f"Rop: {len(variables)} variables need as many eval_points, got {len(points)}")
    moved = [
        (x, _given("Rop: eval_points", x, p)) for x, p in zip(variables, points, strict=True) if p is not None
    ]
    results = [_directional(out, moved, disconnected_outputs) for out in outputs]
    return _like(f, results)


def _directional(out: Tensor, moved: Sequence[tuple[Tensor, Tensor]], disconnected_outputs: str) -> Tensor:
    """Derivative of one expression along the given directions."""
    targets = [x for x, _ in moved]
    weight = variable(TensorType(float_like(out), out.type.shape))
    back = pull_back({out: weight}, targets)
    if back.undefined:
        _raise_undefined("Rop", *next(iter(back.undefined.items())))
    seeds: dict[Tensor, Tensor] = {}
    for x, direction in moved:
        g = back.arrived.get(x)
        if g is not None:
            seeds[g] = direction if g not in seeds else seeds[g] + direction
    forward = pull_back(seeds, [weight]).arrived.get(weight) if seeds else None
    if forward is None:
        if disconnected_outputs == "raise" and not connected([out], frozenset(targets)):
            raise DisconnectedInputError(
                f"Rop: {describe(out)} does not depend on any variable of wrt; pass "
                "disconnected_outputs='ignore' "
                "to get zeros"
            )
        return _zero(out)
    # The product is linear in the weight, so its derivative does not depend on it, except through its sizes.
    (result,) = replace([forward], {weight: _zero(out)})
    return result


def hessian_vector_product(cost: Tensor, wrt: Variables, p: Any, **options: Any) -> Any:
    """The Hessian of a scalar cost times ``p``, without forming it: two sweeps, whatever the size.

    ``p`` is shaped as ``wrt``, or a list of such; ``options`` are those of ``grad``. The result is shaped
    as ``wrt``.
    """
    variables = _listed(wrt, "hessian_vector_product: wrt")
    points = list(p) if isinstance(p, (list, tuple)) else [p]
    if len(points) != len(variables):
        raise ValueError(
            f"hessian_vector_product: {len(variables)} variables need as many vectors, got {len(points)}"
        )
    first = grad(cost, variables, add_names=False, **options)
    seeds: dict[Tensor, Tensor] = {}
    for x, g, point in zip(variables, first, points, strict=True):
        direction = _given("hessian_vector_product: p", x, point)
        seeds[g] = direction if g not in seeds else seeds[g] + direction
    constants = frozenset(options.get("consider_constant") or ())
    flow = pull_back(seeds, variables, constants)
    # A gradient that does not depend on its variable is a linear cost's: the product is zero, not an error.
    return _like(wrt, _results("hessian_vector_product", seeds, variables, constants, flow, "ignore", "zero"))


def subgraph_grad(
    wrt: Variables,
    end: Variables,
    start: Mapping[Tensor, TensorLike] | None = None,
    cost: Tensor | None = None,
    details: bool = False,
) -> tuple[list[Any], ...]:
    """Gradients of a part of a graph: from ``start`` and/or ``cost`` down to ``end`` and no further.

    Args:
        wrt: variables, usually parameters, that the part uses.
        end: variables where the part begins; the gradient does not go through them.
        start: gradients known at the results of the part, by variable.
        cost: a scalar to add to them.
        details: return also what comes from ``start`` and from ``cost`` alone.

    Returns:
        Gradients with respect to ``wrt`` and with respect to ``end`` (usable as ``start`` of the part
        before), as lists; with ``details`` also the parts from ``start`` and from ``cost``, for ``wrt`` and
        then ``end``.
    """
    if start is None and cost is None:
        raise ValueError("subgraph_grad: give start, cost, or both")
    parameters, ends = _listed(wrt, "subgraph_grad: wrt"), _listed(end, "subgraph_grad: end")
    variables = list(dict.fromkeys([*parameters, *ends]))
    options: dict[str, Any] = {
        "consider_constant": ends, "disconnected_inputs": "ignore", "return_disconnected": "None",
    }  # fmt: skip
    from_start = from_cost = [None] * len(variables)
    if start is not None:
        from_start = grad(None, variables, known_grads=start, **options)
    if cost is not None:
        from_cost = grad(cost, variables, **options)
    total = {
        x: _zero(x) if a is None and b is None else a if b is None else b if a is None else a + b
        for x, a, b in zip(variables, from_start, from_cost, strict=True)
    }
    results = [total[x] for x in parameters], [total[x] for x in ends]
    if not details:
        return results
    parts = [
        [_zero(x) if g is None else g for x, g in zip(variables, gs, strict=True)]
        for gs in (from_start, from_cost)
    ]
    return *results, *parts


# Arguments and results -----------------------------------------------------------------------------------


def _listed(value: Any, what: str) -> list[Tensor]:
    """A variable or a list or tuple of variables as a list."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    for v in values:
        if not isinstance(v, Tensor):
            raise TypeError(f"{what} must be a variable or a list of them, got {type(v).__name__}: {v!r}")
    return values


def _like(given: object, values: Sequence[Any]) -> Any:
    """The values as a list, tuple or single value, as ``given`` is."""
    if isinstance(given, tuple):
        return tuple(values)
    return list(values) if isinstance(given, list) else values[0]


def _zero(x: Tensor) -> Tensor:
    from .ops.creation import zeros_like

    return zeros_like(x, dtype=float_like(x).name)


def _choice(function: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{function}: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def _check_cost(cost: Tensor) -> None:
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


def _refuse_complex(function: str, variables: Iterable[Tensor]) -> None:
    for x in variables:
        if x.element.is_complex:
            raise DTypeError(
                f"{function}: complex numbers have no gradient here, got {describe(x)}. Make the real and "
                "imaginary "
                "parts two real variables"
            )


def _given(what: str, x: Tensor, value: TensorLike) -> Tensor:
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


def _seeds(function: str, outputs: Sequence[Tensor], eval_points: Any) -> dict[Tensor, Tensor]:
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(points) != len(outputs):
        raise ValueError(
            f"{function}: {len(outputs)} expressions need as many eval_points, got {len(points)}"
        )
    seeds: dict[Tensor, Tensor] = {}
    for out, point in zip(outputs, points, strict=True):
        g = _given(f"{function}: eval_points", out, point)
        seeds[out] = g if out not in seeds else seeds[out] + g
    return seeds


def _results(
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
                _raise_undefined(function, x, flow.undefined[x])
            results.append(flow.undefined[x])
        elif x in flow.arrived:
            results.append(flow.arrived[x])
        elif x in vanishing:
            results.append(_zero(x))
        else:
            _report_disconnected(function, x, disconnected_inputs)
            absent = {"None": None, "Disconnected": DisconnectedType()()}
            results.append(_zero(x) if return_disconnected == "zero" else absent[return_disconnected])
    return results


def _raise_undefined(function: str, x: Tensor, reason: Tensor) -> None:
    assert isinstance(reason.type, NullType)
    raise NullTypeGradError(f"{function}: no gradient with respect to {describe(x)}: {reason.type.why_null}")


def _report_disconnected(function: str, x: Tensor, how: str) -> None:
    message = (
        f"{function}: asked for the gradient with respect to {describe(x)}, but the cost does not depend "
        "on it, or "
        "only through operations that have no gradient. Remove it from wrt, or pass "
        "disconnected_inputs='ignore' to "
        "get zeros"
    )
    if how == "raise":
        raise DisconnectedInputError(message)
    if how == "warn":
        warnings.warn(message, stacklevel=4)


def _name(results: Iterable[Any], variables: Iterable[Tensor], cost: str) -> None:
    for g, x in zip(results, variables, strict=True):
        if isinstance(g, Tensor) and g.inputs and g.name is None and x.name:
            g.name = f"(d{cost}/d{x.name})"


__all__ = [
    "DisconnectedInputError", "GradientError", "Lop", "NonDifferentiableError", "NullTypeGradError", "Rop",
    "grad", "hessian_vector_product", "subgraph_grad",
]  # fmt: skip
