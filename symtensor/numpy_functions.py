"""NumPy's functions on tensors: ``np.exp(x)``, ``np.dot(x, y)`` and ``array + x`` build expressions.

NumPy hands its functions over through ``__array_ufunc__`` and ``__array_function__``; the operation of the
same name in ``symtensor.tensor`` takes their place (``symtensor.ops.numpy_names`` has NumPy's other names).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from symtensor_codegen.errors import UserError


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

    ours = getattr(tensor, name, None)
    if not callable(ours):
        raise NumPyError(
            f"np.{name} has no symbolic counterpart: compute it on arrays, outside of the expression"
        )
    found: Callable[..., Any] = ours
    return found


__all__ = ["NumPyError", "apply_function", "apply_ufunc"]
