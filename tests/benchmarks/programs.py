"""What more than one peer needs to state a workload. Importing it loads only the standard library."""

from collections.abc import Callable, Sequence
from typing import Any

Arrays = dict[str, Any]
Call = Callable[[], tuple[Any, ...]]
State = Callable[[], Arrays]


class NotSupported(Exception):
    """The peer cannot state this workload; the message says why."""


def chain(x: Any, factors: Sequence[float], functions: Any) -> Any:
    """W10: one distinct node per factor. ``functions`` has ``sin``, ``tanh`` and ``exp``."""
    for position, factor in enumerate(factors):
        match position % 5:
            case 0:
                x = x * factor
            case 1:
                x = functions.sin(x)
            case 2:
                x = x + factor
            case 3:
                x = functions.tanh(x)
            case _:
                x = functions.exp(-x)
    return x


def minimised(value_and_gradient: Callable[[Any], tuple[Any, Any]], start: Any) -> Call:
    """W11: one call is a whole L-BFGS-B run from ``start``; returns the minimiser and the minimum."""
    import numpy as np
    from scipy.optimize import minimize

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-13, "gtol": 1e-8}

    def call() -> tuple[Any, ...]:
        found = minimize(value_and_gradient, start.copy(), jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x), np.asarray(found.fun)

    return call


def as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)
