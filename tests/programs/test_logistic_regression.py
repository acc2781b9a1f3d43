"""The first program of Theano's documentation on real data, and on logits that saturate."""

from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

import symtensor.tensor as T
from symtensor import function, grad, shared

Array = npt.NDArray[Any]


class Regression:
    """The program as a user writes it."""

    def __init__(self, weights: Array, decay: float = 0.01, rate: float = 0.1) -> None:
        kind = weights.dtype.type
        x = T.TensorType(weights.dtype, (None, None))("x")
        y = T.TensorType(weights.dtype, (None,))("y")
        self.w = shared(weights, name="w")
        self.b = shared(np.zeros((), weights.dtype), name="b")
        p_1 = 1 / (1 + T.exp(-T.dot(x, self.w) - self.b))
        xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
        prediction = p_1 > 0.5
        cost = xent.mean() + decay * (self.w**2).sum()
        gw, gb = grad(cost, [self.w, self.b])
        self.train = function(
            inputs=[x, y],
            outputs=[prediction, xent],
            updates={self.w: self.w - kind(rate) * gw, self.b: self.b - kind(rate) * gb},
        )
        self.predict = function([x], prediction)
        self.gradients = function([x, y], [cost, gw, gb])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_breast_cancer(dtype: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = data.data[order]
    y = data.target[order].astype(dtype)
    x = ((x - x[:400].mean(0)) / x[:400].std(0)).astype(dtype)
    model = Regression((np.random.default_rng(1).normal(size=x.shape[1]) * 0.01).astype(dtype))
    losses = [model.train(x[:400], y[:400])[1].mean() for _ in range(200)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert losses[-1] < 0.12
    assert all(later < earlier for earlier, later in zip(losses[::20], losses[20::20], strict=False))
    held_out = model.predict(x[400:])
    assert held_out.dtype == np.bool_
    assert (held_out == y[400:].astype(bool)).mean() > 0.95
    assert model.w.get_value().dtype == dtype
    assert model.b.get_value().dtype == dtype


def test_each_step_is_numpys() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 7)), rng.integers(0, 2, 50).astype(float)
    w, b = rng.normal(size=7), 0.0
    model = Regression(w)
    for _ in range(5):
        p = 1 / (1 + np.exp(-x @ w - b))
        prediction, xent = model.train(x, y)
        np.testing.assert_array_equal(prediction, p > 0.5)
        np.testing.assert_allclose(xent, -y * np.log(p) - (1 - y) * np.log(1 - p), rtol=1e-12)
        w, b = w - 0.1 * (x.T @ (p - y) / 50 + 0.02 * w), b - 0.1 * (p - y).mean()
        np.testing.assert_allclose(model.w.get_value(), w, rtol=1e-12)
        np.testing.assert_allclose(model.b.get_value(), b, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1000.0, 80.0, 20.0, 0.5])
def test_saturated_logits(dtype: str, size: float) -> None:
    """Cost and gradients against 50 digits; p_1 itself is 0 or 1 and its logarithm infinite when computed plainly."""
    x = np.array([[size, 0.25], [-size, 0.5], [size, -1.0], [-size, 2.0]], dtype)
    y = np.array([1, 0, 0, 1], dtype)
    w = np.array([1.0, 0.0], dtype)
    cost, gw, gb = Regression(w, decay=0.0).gradients(x, y)
    with mpmath.workdps(50):
        logits = [mpmath.mpf(float(row @ w)) for row in x]
        costs = [mpmath.log1p(mpmath.exp(z)) - int(t) * z for z, t in zip(logits, y, strict=True)]
        slopes = [1 / (1 + mpmath.exp(-z)) - int(t) for z, t in zip(logits, y, strict=True)]
        true_cost = float(sum(costs) / 4)
        columns = [[mpmath.mpf(float(v)) for v in x[:, k]] for k in (0, 1)]
        true_gw = [float(sum(s * v for s, v in zip(slopes, column, strict=True)) / 4) for column in columns]
        true_gb = float(sum(slopes) / 4)
    close = 8 * float(np.finfo(dtype).eps)
    assert cost.dtype == dtype
    np.testing.assert_allclose(cost, true_cost, rtol=close)
    np.testing.assert_allclose(gw, true_gw, rtol=close)
    np.testing.assert_allclose(gb, true_gb, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_costs_keep_their_digits(dtype: str) -> None:
    """A well classified example has a cost of exp(-|z|), far below the spacing of numbers at 1."""
    x = np.array([[40.0, 0.0]], dtype)
    cost, _, _ = Regression(np.array([1.0, 0.0], dtype), decay=0.0).gradients(x, np.ones(1, dtype))
    np.testing.assert_allclose(cost, np.exp(-40.0), rtol=1e-5 if dtype == "float32" else 1e-14)


def test_stable_forms_are_found() -> None:
    stages = Regression(np.zeros(3)).gradients.stages
    assert "log" in stages["graph"]
    assert "softplus" in stages["stability"]
    assert "exp" not in stages["stability"]
