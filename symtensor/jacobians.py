"""Jacobians and Hessians as tensors, by computing the gradients of all elements as a batch, or else in a loop."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .differentiation import grad, stable
from .gradient_arguments import (
    Variables,
    check_choice,
    listed,
    refuse_complex,
    results_of,
    shaped_as,
    zero_like,
)
from .graph import Tensor, replace, variable
from .opdef import describe
from .pullback import float_like, pull_back
from .types import TensorType
from .vectorize import VectorizeError, vectorize


def jacobian(
    expression: Tensor,
    wrt: Variables,
    consider_constant: Iterable[Tensor] | None = None,
    disconnected_inputs: str = "raise",
) -> Any:
    """All derivatives of an expression by variables: axes of the expression, then of the variable.

    The gradients of all its elements are computed together, as a batch. Where an operation cannot be computed for
    a batch (a loop), they are computed one by one, in a loop.

    Returns:
        A Jacobian, list or tuple, as ``wrt`` is.
    """
    check_choice("jacobian", "disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore"))
    variables = listed(wrt, "jacobian: wrt")
    (out,) = listed([expression], "jacobian: expression")
    options: dict[str, Any] = {
        "consider_constant": consider_constant,
        "disconnected_inputs": disconnected_inputs,
        "add_names": False,
    }
    if out.ndim == 0:
        return shaped_as(wrt, grad(out, variables, **options))
    refuse_complex("jacobian", [out, *variables])
    return shaped_as(wrt, _gradients_of_elements(out, variables, options))


def _gradients_of_elements(out: Tensor, variables: Sequence[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
    """Gradients of every element of ``out``, the axes of ``out`` in front."""
    from .ops.creation import eye
    from .ops.shaping import reshape_to
    from .ops.shaping_axes import size, sizes

    weight = variable(TensorType(float_like(out), out.type.shape))
    constants = frozenset(listed(list(options["consider_constant"] or ()), "jacobian: consider_constant"))
    (root,) = stable([out], [*variables, *constants])
    flow = pull_back({root: weight}, variables, constants)
    gradients = results_of(
        "jacobian", [out], variables, constants, flow, options["disconnected_inputs"], "zero"
    )
    basis = eye(size(out), dtype=weight.dtype)
    if out.ndim > 1:
        basis = reshape_to(basis, [size(out), *sizes(out)])
    try:
        batch = vectorize(gradients, {weight: basis})
    except VectorizeError:
        batch = _one_by_one(gradients, weight, basis)
    if out.ndim > 1:
        batch = [reshape_to(g, [*sizes(out), *sizes(x)]) for g, x in zip(batch, variables, strict=True)]
    return replace(batch, {weight: zero_like(out)})  # only its sizes are left


def _one_by_one(gradients: Sequence[Tensor], weight: Tensor, basis: Tensor) -> list[Tensor]:
    """The gradients for every row of ``basis`` as ``weight``, in a loop over the rows."""
    from .loops.scan import scan

    rows, _ = scan(
        lambda row: replace(gradients, {weight: row}), sequences=[basis], return_list=True, name="jacobian"
    )
    return list(rows)


def hessian(
    cost: Tensor,
    wrt: Variables,
    consider_constant: Iterable[Tensor] | None = None,
    disconnected_inputs: str = "raise",
) -> Any:
    """Second derivatives of a scalar cost with respect to vectors: a matrix for each, as ``wrt`` is.

    Raises:
        TypeError: a variable is not a vector, or the cost not a scalar.
    """
    variables = listed(wrt, "hessian: wrt")
    for x in variables:
        if x.ndim != 1:
            raise TypeError(
                f"hessian: wrt must be vectors, got {describe(x)}; flatten it, or use jacobian() of grad()"
            )
    first = grad(cost, variables, consider_constant, disconnected_inputs, add_names=False)
    # The gradient of a linear cost does not depend on its variable: zeros, no error.
    return shaped_as(
        wrt, [jacobian(g, x, consider_constant, "ignore") for g, x in zip(first, variables, strict=True)]
    )
