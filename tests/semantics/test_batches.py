"""Batches that are passed one after another, without waiting: each call computes with its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import Out, function, grad, shared

STEPS = 12


@pytest.mark.parametrize("rows", [[300], [300, 20, 500]], ids=["one size", "several sizes"])
def test_batches_in_one_buffer(rows: list[int]) -> None:
    """The loader fills the same array again while the device may still be at the step before; costs are read last."""
    generator = np.random.default_rng(0)
    x, y, v = T.fmatrix("x"), T.fvector("y"), T.fmatrix("v")
    w = shared(np.zeros(64, np.float32), name="w")
    cost = ((T.dot(x, w) - y) ** 2).mean()
    train = function([x, y], Out(cost, borrow=True), updates={w: w - 0.01 * grad(cost, w)})
    totals = function([v], Out(v.sum(axis=0), borrow=True))

    weights = np.zeros(64)
    buffer, labels = np.empty((max(rows), 64), np.float32), np.empty(max(rows), np.float32)
    found: list[tuple[Any, Any, float, Any]] = []
    for step in range(STEPS):
        n = rows[step % len(rows)]
        buffer[:n], labels[:n] = generator.normal(size=(n, 64)), generator.normal(size=n)
        given, wanted = buffer[:n].astype(np.float64), labels[:n].astype(np.float64)
        difference = given @ weights - wanted
        one = train(buffer[:n], labels[:n])
        buffer[:n] += 1
        found.append((one, totals(buffer[:n]), (difference**2).mean(), (given + 1).sum(axis=0)))
        weights -= 0.01 * 2 / n * (difference @ given)
        buffer.fill(np.nan)
    for one, several, mean, sums in found:
        np.testing.assert_allclose(np.asarray(one), mean, rtol=1e-4)
        np.testing.assert_allclose(np.asarray(several), sums, rtol=1e-3)
    np.testing.assert_allclose(w.get_value(), weights, rtol=1e-3, atol=1e-5)
