"""A loop of which only the last rows are used keeps those, not all."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, scan
from symtensor.reference import evaluate


def power(n_steps):
    x, w = T.dvector("x"), T.dmatrix("w")
    (h, q), _ = scan(lambda h: (T.tanh(T.dot(w, h)), h.sum()), outputs_info=[x, None], n_steps=n_steps)
    return x, w, h, q


VALUES = [np.linspace(-1, 1, 4), np.random.default_rng(0).normal(size=(4, 4))]

PARTS = {
    "last": lambda h, q: [h[-1], q[-1]],
    "one before": lambda h, q: [h[-2], q[-3]],
    "counted from the front": lambda h, q: [h[49], q[48]],
    "several": lambda h, q: [h[-3:], h[-1], q[-2:]],
}


@pytest.mark.parametrize("part", PARTS)
def test_values_and_memory(part) -> None:
    x, w, h, q = power(50)
    outputs = PARTS[part](h, q)
    f = function([x, w], outputs)
    for _ in range(2):  # the second call is specialised to the sizes of the first
        for got, expected in zip(f(*VALUES), evaluate(outputs, dict(zip((x, w), VALUES, strict=True))), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert "50" not in f.memory


@pytest.mark.parametrize("part", PARTS)
def test_gradients(part) -> None:
    x, w, h, q = power(50)
    cost = sum((p**2).sum() for p in PARTS[part](h, q))
    outputs = grad(cost, [x, w])
    got = function([x, w], outputs)(*VALUES)
    for a, b in zip(got, evaluate(outputs, dict(zip((x, w), VALUES, strict=True))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_all_rows_are_kept_where_there_may_be_fewer() -> None:
    n = T.lscalar("n")
    x, w, h, _ = power(n)
    f = function([x, w, n], h[-3:])
    assert f(*VALUES, 2).shape == (2, 4)
    assert f(*VALUES, 7).shape == (3, 4)


def test_other_rows_keep_all() -> None:
    x, w, h, _ = power(50)
    outputs = [h[-2], h.sum(axis=0)]
    got = function([x, w], outputs)(*VALUES)
    for a, b in zip(got, evaluate(outputs, dict(zip((x, w), VALUES, strict=True))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
