"""Jacobians and Hessians as tensors, by computing the gradients of all elements as a batch."""

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

    The gradients of all its elements are computed together, as a batch, so the size need not be known
    before the program runs. Where an operation cannot be computed for a batch, the elements are taken one
    by one, which needs a vector of known length.

    Returns:
        A Jacobian, list or tuple, as ``wrt`` is.

    Raises:
        VectorizeError: an operation cannot be computed for a batch, and the length is not known.
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
    try:
        return shaped_as(wrt, _batch_of_gradients(out, variables, options))
    except VectorizeError:
        length = out.type.shape[0]
        if out.ndim != 1 or length is None:
            raise
    from .ops.joining import stack

    rows = [grad(out[k], variables, **options) for k in range(length)]
    return shaped_as(wrt, [stack(parts) for parts in zip(*rows, strict=True)])


def _batch_of_gradients(out: Tensor, variables: Sequence[Tensor], options: Mapping[str, Any]) -> list[Tensor]:
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
    batch = vectorize(gradients, {weight: basis})
    if out.ndim > 1:
        batch = [reshape_to(g, [*sizes(out), *sizes(x)]) for g, x in zip(batch, variables, strict=True)]
    return replace(batch, {weight: zero_like(out)})  # only its sizes are left


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
