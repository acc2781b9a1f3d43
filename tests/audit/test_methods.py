"""Methods of expressions against those of NumPy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.elementwise_methods import ElementwiseMethods

NAMES = [name for name in vars(ElementwiseMethods) if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_elementary_functions_are_methods(name: str) -> None:
    x = T.dvector("x")
    value = np.linspace(0.05, 0.9, 7) + (1.0 if name == "arccosh" else 0.0)
    np.testing.assert_allclose(getattr(x, name)().eval({x: value}), getattr(np, name)(value), rtol=1e-14)
    assert getattr(x, name)() is getattr(T, name)(x)


@pytest.mark.parametrize("function", [math.floor, math.ceil, math.trunc])
def test_functions_of_python_round(function: Callable[[Any], Any]) -> None:
    x = T.dscalar("x")
    for value in (1.5, -1.5, 2.0):
        assert function(x).eval({x: value}) == function(value)


def test_diagonal() -> None:
    x = T.dtensor3("x")
    value = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(x.diagonal(1, 1, 2).eval({x: value}), value.diagonal(1, 1, 2))
