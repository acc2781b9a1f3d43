"""NumPy's functions on tensors: ``np.exp(x)``, ``np.dot(x, y)`` and ``array + x`` build expressions.

NumPy hands its functions over through ``__array_ufunc__`` and ``__array_function__``; the operation of the
same name in ``symtensor.tensor`` takes their place.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from symtensor_codegen.errors import UserError

# NumPy's name where ours is another.
_OURS = {
    "absolute": "abs", "conjugate": "conj", "divide": "true_div", "equal": "eq",
    "fabs": "abs", "floor_divide": "floordiv", "greater": "gt", "greater_equal": "ge", "less": "lt",
    "less_equal": "le", "multiply": "mul", "negative": "neg", "not_equal": "neq", "positive": "identity",
    "power": "pow", "float_power": "pow", "remainder": "mod", "subtract": "sub", "true_divide": "true_div",
    "degrees": "rad2deg", "radians": "deg2rad", "amax": "max", "amin": "min", "fix": "trunc",
}  # fmt: skip


class NumPyError(UserError, TypeError):
    """A NumPy function has no symbolic counterpart, or was called in a way that has none."""


def apply_ufunc(ufunc: Any, method: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The expression for ``ufunc(*values)``."""
    if method != "__call__" or named:
        how = f".{method}" if method != "__call__" else f" with {', '.join(named)}"
        raise NumPyError(f"np.{ufunc.__name__}{how} does not take symbolic expressions")
    return _function(ufunc.__name__)(*values)


def apply_function(function: Callable[..., Any], values: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The expression for ``function(*values, **named)``."""
    if function is np.shape:
        return values[0].shape
    if function is np.ndim:
        return values[0].ndim
    return _function(function.__name__)(*values, **named)


def _function(name: str) -> Callable[..., Any]:
    from . import tensor

    ours = getattr(tensor, _OURS.get(name, name), None)
    if not callable(ours):
        raise NumPyError(
            f"np.{name} has no symbolic counterpart: compute it on arrays, outside of the expression"
        )
    found: Callable[..., Any] = ours
    return found


__all__ = ["NumPyError", "apply_function", "apply_ufunc"]
