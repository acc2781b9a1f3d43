"""Programs of thousands of operations: results, gradients, and time that grows with their length only."""

import time

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function


def chain(x: T.Variable, length: int) -> T.Variable:
    factors = np.random.default_rng(1).uniform(0.9, 1.4, length)
    y = x
    for k, c in enumerate(factors):
        y = (
            y * c if k % 5 == 0 else T.sin(y) if k % 5 == 1 else y + c if k % 5 == 2 else T.tanh(y) if k % 5 == 3
            else T.exp(-y * y)
        )  # fmt: skip
    return y


def chain_in_numpy(x: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The value and the derivative, carried forward together."""
    factors = np.random.default_rng(1).uniform(0.9, 1.4, length)
    y, d = x, np.ones_like(x)
    for k, c in enumerate(factors):
        if k % 5 == 0:
            y, d = y * c, d * c
        elif k % 5 == 1:
            y, d = np.sin(y), d * np.cos(y)
        elif k % 5 == 2:
            y = y + c
        elif k % 5 == 3:
            y, d = np.tanh(y), d * (1 - np.tanh(y) ** 2)
        else:
            y, d = np.exp(-y * y), d * -2 * y * np.exp(-y * y)
    return y, d


@pytest.mark.parametrize("length", [23, 400])
def test_chain_with_gradient(length: int) -> None:
    x = T.dvector("x")
    y = chain(x, length).sum()
    run = function([x], [y, T.grad(y, x)])
    value = np.random.default_rng(2).uniform(0.1, 1, 37)
    wanted, slope = chain_in_numpy(value, length)
    got = run(value)
    np.testing.assert_allclose(got[0], wanted.sum(), rtol=1e-12)
    np.testing.assert_allclose(got[1], slope, rtol=1e-9, atol=1e-290)


@pytest.mark.slow
def test_2000_operations_with_gradient() -> None:
    x = T.dvector("x")
    y = chain(x, 2000).sum()
    run = function([x], [y, T.grad(y, x)])
    value = np.random.default_rng(2).uniform(0.1, 1, 37)
    wanted, slope = chain_in_numpy(value, 2000)
    got = run(value)
    np.testing.assert_allclose(got[0], wanted.sum(), rtol=1e-12)
    np.testing.assert_allclose(got[1], slope, rtol=1e-9, atol=1e-290)


@pytest.mark.slow
@pytest.mark.cpu_only("its limit is for the time that code for the CPU takes")
def test_compile_time_is_linear_up_to_50000_operations() -> None:
    seconds = {}
    for length in (5_000, 50_000):
        x = T.dvector("x")
        y = chain(x, length).sum()
        start = time.perf_counter()
        run = function([x], y)
        seconds[length] = time.perf_counter() - start
        value = np.random.default_rng(2).uniform(0.1, 1, 5)
        np.testing.assert_allclose(run(value), chain_in_numpy(value, length)[0].sum(), rtol=1e-10)
    assert seconds[50_000] < 10 * 2.0 * seconds[5_000]
