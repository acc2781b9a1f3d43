"""Gradients of expressions: ``grad``, and products with Jacobians and Hessians."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .gradient_arguments import (
    Variables,
    check_choice,
    check_cost,
    given_gradient,
    listed,
    name_results,
    raise_undefined,
    refuse_complex,
    results_of,
    seeds_of,
    shaped_as,
    zero_like,
)
from .graph import Tensor, TensorLike, constant, replace, variable
from .opdef import describe
from .pullback import DisconnectedInputError, connected, float_like, pull_back
from .test_values import compute_all
from .types import TensorType


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
    check_choice("grad", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    check_choice("grad", "return_disconnected", return_disconnected, ("zero", "None", "Disconnected"))
    check_choice("grad", "null_gradients", null_gradients, ("raise", "return"))
    variables = listed(wrt, "grad: wrt")
    refuse_complex("grad", variables)
    constants = frozenset(listed(list(consider_constant or ()), "grad: consider_constant"))
    known = {x: given_gradient("grad: known_grads", x, g) for x, g in (known_grads or {}).items()}
    roots = list(known)  # as the user wrote them: what is connected does not depend on rewriting
    if cost is not None:
        check_cost(cost)
        roots.append(cost)
        if cost not in known:
            (root,) = stable([cost], [*variables, *constants, *known])
            known[root] = constant(1, float_like(cost))
    elif not known:
        raise ValueError("grad: cost may be None only where known_grads gives gradients to start from")
    flow = pull_back(known, variables, constants, fixed=True)
    results = results_of(
        "grad", roots, variables, constants, flow, disconnected_inputs, return_disconnected, null_gradients
    )
    if add_names and cost is not None and cost.name:
        name_results(results, variables, cost.name)
    compute_all([g for g in results if isinstance(g, Tensor)])
    return shaped_as(wrt, results)


def stable(outputs: Sequence[Tensor], keep: Sequence[Tensor]) -> list[Tensor]:
    """The expressions with fragile forms replaced, so that their gradients are stable too.

    The tensors in ``keep`` stay as they are: the gradient is asked for, or stops, there.
    """
    from .loops.passes import only_last
    from .rules import stabilise

    return list(stabilise(only_last(outputs, keep), keep))


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
    check_choice("Lop", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    outputs, variables = listed(f, "Lop: f"), listed(wrt, "Lop: wrt")
    refuse_complex("Lop", [*outputs, *variables])
    constants = frozenset(listed(list(consider_constant or ()), "Lop: consider_constant"))
    seeds = seeds_of("Lop", stable(outputs, [*variables, *constants]), eval_points)
    flow = pull_back(seeds, variables, constants)
    return shaped_as(wrt, results_of("Lop", outputs, variables, constants, flow, disconnected_inputs, "zero"))


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
    check_choice("Rop", "disconnected_outputs", disconnected_outputs, ("raise", "ignore"))
    outputs, variables = listed(f, "Rop: f"), listed(wrt, "Rop: wrt")
    refuse_complex("Rop", [*outputs, *variables])
    points = list(eval_points) if isinstance(eval_points, (list, tuple)) else [eval_points]
    if len(points) != len(variables):
        raise ValueError(f"Rop: {len(variables)} variables need as many eval_points, got {len(points)}")
    moved = [
        (x, given_gradient("Rop: eval_points", x, p))
        for x, p in zip(variables, points, strict=True)
        if p is not None
    ]
    roots = stable(outputs, variables)
    results = [
        _directional(root, out, moved, disconnected_outputs) for root, out in zip(roots, outputs, strict=True)
    ]
    return shaped_as(f, results)


def _directional(
    root: Tensor, out: Tensor, moved: Sequence[tuple[Tensor, Tensor]], disconnected_outputs: str
) -> Tensor:
    """Derivative of one expression along the given directions; ``root`` is ``out`` in stable form."""
    targets = [x for x, _ in moved]
    weight = variable(TensorType(float_like(root), root.type.shape))
    back = pull_back({root: weight}, targets)
    if back.undefined:
        raise_undefined("Rop", *next(iter(back.undefined.items())))
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
        return zero_like(out)
    # The product is linear in the weight, so its derivative does not depend on it, except through its sizes.
    (result,) = replace([forward], {weight: zero_like(out)})
    return result


def hessian_vector_product(
    cost: Tensor,
    wrt: Variables,
    p: Any,
    consider_constant: Iterable[Tensor] | None = None,
    disconnected_inputs: str = "raise",
) -> Any:
    """The Hessian of a scalar cost times ``p``, without forming it: two sweeps, whatever the size.

    ``p`` is shaped as ``wrt``, or a list of such; the other arguments are those of ``grad``. The result is
    shaped as ``wrt``.
    """
    variables = listed(wrt, "hessian_vector_product: wrt")
    points = list(p) if isinstance(p, (list, tuple)) else [p]
    if len(points) != len(variables):
        raise ValueError(
            f"hessian_vector_product: {len(variables)} variables need as many vectors, got {len(points)}"
        )
    constants = frozenset(listed(list(consider_constant or ()), "hessian_vector_product: consider_constant"))
    first = grad(cost, variables, constants, disconnected_inputs, add_names=False)
    seeds: dict[Tensor, Tensor] = {}
    for x, g, point in zip(variables, first, points, strict=True):
        direction = given_gradient("hessian_vector_product: p", x, point)
        seeds[g] = direction if g not in seeds else seeds[g] + direction
    flow = pull_back(seeds, variables, constants)
    # A gradient that does not depend on its variable is a linear cost's: the product is zero, not an error.
    return shaped_as(
        wrt, results_of("hessian_vector_product", seeds, variables, constants, flow, "ignore", "zero")
    )


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
    parameters, ends = listed(wrt, "subgraph_grad: wrt"), listed(end, "subgraph_grad: end")
    variables = list(dict.fromkeys([*parameters, *ends]))
    parts: list[list[Tensor | None]] = []
    for root, known in ((None, start), (cost, None)):
        if root is None and known is None:
            parts.append([None] * len(variables))
        else:
            parts.append(
                grad(
                    root,
                    variables,
                    consider_constant=ends,
                    disconnected_inputs="ignore",
                    known_grads=known,
                    return_disconnected="None",
                )
            )
    total: dict[Tensor, Tensor] = {}
    for x, *found in zip(variables, *parts, strict=True):
        given = [g for g in found if g is not None]
        total[x] = sum(given[1:], given[0]) if given else zero_like(x)
    results = [total[x] for x in parameters], [total[x] for x in ends]
    if not details:
        return results
    zeros = [zero_like(x) for x in variables]
    return *results, *[[z if g is None else g for g, z in zip(part, zeros, strict=True)] for part in parts]
