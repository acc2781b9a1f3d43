"""The benchmark workloads at small sizes, against NumPy; the same functions then run at other sizes."""

import math

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function

SIZES = (1, 7, 64, 1001)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fused_elementwise_and_its_sum(dtype: str) -> None:
    x, y = T.TensorType(dtype, (None,))("x"), T.TensorType(dtype, (None,))("y")
    e = T.sqrt(T.exp(-(x**2)) + T.tanh(y) * x + 2)
    run = function([x, y], [e, e.sum()])
    assert run.memory
    for size in (0, *SIZES, 40_000):
        rng = np.random.default_rng(size)
        a, b = rng.uniform(-1.5, 1.5, size).astype(dtype), rng.normal(size=size).astype(dtype)
        wanted = np.sqrt(np.exp(-(a**2)) + np.tanh(b) * a + 2)
        got, total = run(a, b)
        close = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(got, wanted, rtol=close)
        np.testing.assert_allclose(total, wanted.astype("float64").sum(), rtol=close)
        assert got.dtype == dtype
        assert total.dtype == dtype


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_black_scholes(dtype: str) -> None:
    erf = np.vectorize(math.erf)
    kind = np.dtype(dtype).type
    s, k, t = (T.TensorType(dtype, (None,))(n) for n in "skt")
    rate, sigma, half, root = kind(0.02), kind(0.3), kind(0.5), kind(1 / np.sqrt(2))
    sq = sigma * T.sqrt(t)
    d1 = (T.log(s / k) + (rate + half * sigma * sigma) * t) / sq
    d2 = d1 - sq

    def cdf(z: T.Variable) -> T.Variable:
        return half + half * T.erf(z * root)

    run = function([s, k, t], s * cdf(d1) - k * T.exp(-rate * t) * cdf(d2))
    for size in SIZES:
        rng = np.random.default_rng(size)
        values = [rng.uniform(*b, size).astype(dtype) for b in ((50, 150), (50, 150), (0.1, 2))]
        spot, strike, time = (v.astype("float64") for v in values)
        spread = 0.3 * np.sqrt(time)
        first = (np.log(spot / strike) + (0.02 + 0.045) * time) / spread

        def normal(z: np.ndarray) -> np.ndarray:
            return 0.5 + 0.5 * erf(z / np.sqrt(2))

        wanted = spot * normal(first) - strike * np.exp(-0.02 * time) * normal(first - spread)
        got = run(*values)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=150 * 20 * np.finfo(dtype).eps)


def test_softmax_crossentropy_and_gradient() -> None:
    z, labels = T.fmatrix("z"), T.lvector("labels")
    loss = T.nnet.categorical_crossentropy(T.nnet.softmax(z), labels).mean()
    run = function([z, labels], [loss, T.grad(loss, z)])
    for rows, columns in ((1, 1), (3, 7), (64, 100), (17, 1000)):
        rng = np.random.default_rng(rows)
        value, label = (3 * rng.normal(size=(rows, columns))).astype("float32"), rng.integers(0, columns, rows)
        p = np.exp(value.astype("float64") - value.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        got, slope = run(value, label)
        wanted = -np.log(p[np.arange(rows), label]).mean()
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)
        p[np.arange(rows), label] -= 1
        np.testing.assert_allclose(slope, p / rows, rtol=1e-4, atol=1e-7)


def test_softmax_crossentropy_of_saturated_rows() -> None:
    z, labels = T.fmatrix("z"), T.lvector("labels")
    loss = T.nnet.categorical_crossentropy(T.nnet.softmax(z), labels)
    run = function([z, labels], [loss, T.grad(loss.sum(), z)])
    value = np.array([[1000, 0, -1000], [-1000, 1000, 0]], "float32")
    got, slope = run(value, np.array([2, 1]))
    np.testing.assert_array_equal(got, [2000, 0])
    np.testing.assert_array_equal(slope, [[1, 0, -1], [0, 0, 0]])


def test_standardise_and_argmax() -> None:
    x = T.fmatrix("x")
    z = (x - x.mean(0)) / x.std(0)
    run = function([x], [z, T.argmax(z, axis=1)])
    for rows, columns in ((5, 3), (200, 50), (33, 129), (1000, 8)):
        value = (2 * np.random.default_rng(rows).normal(size=(rows, columns)) + 1).astype("float32")
        wide = value.astype("float64")
        wanted = (wide - wide.mean(0)) / wide.std(0)
        got, best = run(value)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        assert (best == wanted.argmax(1)).mean() > 0.99
        np.testing.assert_array_equal(best, got.argmax(1))


def test_call_of_two_vectors() -> None:
    x, y = T.dvectors("x", "y")
    run = function([x, y], x * y + x)
    a, b = np.arange(10.0), np.linspace(0, 1, 10)
    np.testing.assert_array_equal(run(a, b), a * b + a)
    np.testing.assert_array_equal(run(a[::-1], list(b)), a[::-1] * b + a[::-1])
