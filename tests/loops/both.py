"""Programs run compiled and in the reference interpreter, which must agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.testing

import symtensor
from symtensor.graph import Tensor


def both(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], *values: Any, updates: Any = None, rtol: float = 1e-11
) -> list[Any]:
    """The outputs for these values, compiled; equal to those of mode ``reference``."""
    found = symtensor.function(inputs, list(outputs), updates=updates, on_unused_input="ignore")(*values)
    if updates is None:
        meant = symtensor.function(inputs, list(outputs), mode="reference", on_unused_input="ignore")(*values)
        for got, want in zip(found, meant, strict=True):
            assert got.dtype == want.dtype
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-12)
    return found


def gradients(cost: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a sum of squares, and one second derivative of it."""
    first: list[Tensor] = symtensor.grad(cost, list(wrt))
    second = symtensor.grad(sum((g**2).sum() for g in first), list(wrt), disconnected_inputs="ignore")
    return [*first, *second]
