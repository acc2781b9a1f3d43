"""Loops that random programs found wrong, made small."""

import numpy as np

import symtensor
import symtensor.tensor as T
from symtensor import function


def test_a_state_of_no_elements_has_memory() -> None:
    x = T.TensorType("float64", shape=(0, 3))("x")
    last = symtensor.fori_loop(0, 5, lambda i, s: T.sin(s + i * 0.1), x)
    f = function([x], last * 2)
    assert np.shape(f(np.zeros((0, 3)))) == (0, 3)
