"""Arguments that lie in the memory of shared variables, and values that do not fit their type."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor_codegen.errors import UserError

UPDATES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "transposed": (lambda w, x: w + x.T, lambda w, x: w + x.T),
    "reversed rows": (lambda w, x: w + x[::-1], lambda w, x: w + x[::-1]),
    "less its column sums": (lambda w, x: w - x.sum(axis=0), lambda w, x: w - x.sum(axis=0)),
    "same elements": (lambda w, x: w * x, lambda w, x: w * x),
}


@pytest.mark.parametrize("size", [3, 300])
@pytest.mark.parametrize("name", UPDATES)
def test_an_argument_in_the_memory_that_is_updated(name: str, size: int) -> None:
    symbolic, numeric = UPDATES[name]
    start = np.random.RandomState(0).uniform(size=(size, size))
    w, x = shared(start), T.dmatrix("x")
    step = function([x], x.sum(), updates={w: symbolic(w, x)})
    memory = w.get_value(borrow=True)
    np.testing.assert_allclose(step(memory), start.sum())
    np.testing.assert_allclose(w.get_value(), numeric(start, start))
    assert w.get_value(borrow=True) is memory, "the update was not in place: this tests nothing"


def test_an_argument_that_is_a_part_of_the_memory_that_is_updated() -> None:
    w, x = shared(np.arange(5.0)), T.dvector("x")
    step = function([x], [], updates={w: w + T.concatenate([x[::-1], x[:1]])})
    step(w.get_value(borrow=True)[:4])
    np.testing.assert_array_equal(w.get_value(), np.array([3.0, 3.0, 3.0, 3.0, 4.0]))


def test_negative_numbers_do_not_fit_unsigned_inputs() -> None:
    x = T.TensorType("uint64", (None,))("x")
    double = function([x], x * 2)
    np.testing.assert_array_equal(double([1, 2]), np.array([2, 4], "uint64"))
    with pytest.raises(UserError, match="does not convert to uint64 without loss"):
        double([1, -1])


def test_complex_numbers_do_not_fit_real_inputs() -> None:
    x = T.dscalar("x")
    double = function([x], x * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (1j, 1 + 0j):
            with pytest.raises(UserError, match="does not convert to float64 without loss"):
                double(value)
