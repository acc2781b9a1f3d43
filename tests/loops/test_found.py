"""Loops that random programs found wrong, made small."""

import numpy as np

import symtensor
import symtensor.tensor as T
from symtensor import function, scan
from symtensor.ifelse import ifelse

from .both import both


def test_a_state_of_no_elements_has_memory() -> None:
    x = T.TensorType("float64", shape=(0, 3))("x")
    last = symtensor.fori_loop(0, 5, lambda i, s: T.sin(s + i * 0.1), x)
    f = function([x], last * 2)
    assert np.shape(f(np.zeros((0, 3)))) == (0, 3)


def test_a_reduction_over_a_computed_number_of_rows_waits_for_it() -> None:
    b, c = T.dvectors("b", "c")
    rows = T.arange(T.argmax(c)).dimshuffle(0, "x")
    both([b, c], [T.tanh(b), T.sum(T.sin(rows * b), axis=0)], np.arange(3.0), np.array([1.0, 2.0, 5.0, 3.0]))


def test_products_of_what_a_branch_chose_are_summed_inside_the_loop() -> None:
    x, w, s = T.dmatrix("x"), T.dmatrix("w"), T.dvector("s")
    states, _ = scan(lambda row, s: ifelse(row.sum() > 0, T.tanh(T.dot(s, w)), s * 0.7) + row, x, s)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    both([x, w, s], [states, *T.grad(T.sin(states).sum(), [x, w, s])], *values)
