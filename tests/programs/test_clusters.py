"""Unsupervised methods on real flowers: mixtures, k-means, and the map of t-SNE."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared

datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def flowers() -> np.ndarray:
    data = datasets.load_iris().data
    return np.asarray((data - data.mean(axis=0)) / data.std(axis=0))


def test_mixture_of_gaussians_by_expectation_maximisation(flowers: np.ndarray) -> None:
    """Every step is one call: all updates read the old parameters, and the likelihood never falls."""
    x = T.dmatrix("x")
    means = shared(flowers[[0, 60, 120]], "means")
    scales, weights = shared(np.ones((3, 4)), "scales"), shared(np.full(3, 1 / 3), "weights")
    z = (x.dimshuffle(0, "x", 1) - means) / scales
    log_p = T.log(weights) - (0.5 * z**2 + T.log(scales)).sum(axis=2) - 2 * np.log(2 * np.pi)
    likelihood = T.log(T.exp(log_p).sum(axis=1)).mean()
    share = T.exp(log_p) / T.exp(log_p).sum(axis=1, keepdims=True)
    total = share.sum(axis=0)
    new_means = T.dot(share.T, x) / total.dimshuffle(0, "x")
    spread = (share.dimshuffle(0, 1, "x") * (x.dimshuffle(0, "x", 1) - new_means) ** 2).sum(axis=0)
    new_scales = T.sqrt(spread / total.dimshuffle(0, "x") + 1e-6)
    updates = {means: new_means, scales: new_scales, weights: total / x.shape[0]}
    step = function([x], [likelihood, share], updates=updates)
    values = [step(flowers) for _ in range(60)]
    likelihoods = np.array([v for v, _ in values])
    assert (np.diff(likelihoods) > -1e-9).all()
    assert likelihoods[-1] > likelihoods[0] + 0.5
    np.testing.assert_allclose(values[-1][1].sum(axis=1), 1)
    np.testing.assert_allclose(weights.get_value().sum(), 1)
    assert (values[-1][1][:50].argmax(axis=1) == 0).mean() > 0.9  # setosa is far from the others


def test_k_means(flowers: np.ndarray) -> None:
    x, centres = T.dmatrix("x"), shared(flowers[[0, 60, 120]], "centres")
    distance = ((x.dimshuffle(0, "x", 1) - centres.dimshuffle("x", 0, 1)) ** 2).sum(axis=2)
    own = T.eq(T.arange(3).dimshuffle("x", 0), distance.argmin(axis=1).dimshuffle(0, "x"))
    members = T.cast(own, "float64")
    moved = T.dot(members.T, x) / T.maximum(members.sum(axis=0), 1).dimshuffle(0, "x")
    step = function([x], distance.min(axis=1).sum(), updates=[(centres, moved)])
    costs = [float(step(flowers)) for _ in range(15)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.8 * costs[0]
    centre, cost = flowers[[0, 60, 120]], []
    for _ in range(15):
        squares = ((flowers[:, None] - centre) ** 2).sum(axis=2)
        cost.append(squares.min(axis=1).sum())
        centre = np.stack([flowers[squares.argmin(axis=1) == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(costs, cost, rtol=1e-12)
    np.testing.assert_allclose(centres.get_value(), centre, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_map(flowers: np.ndarray) -> None:
    """t-SNE: what autodiff finds is the closed formula 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)."""
    rng = np.random.default_rng(0)
    p, y = T.dmatrix("p"), T.dmatrix("y")
    squares = ((y.dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)) ** 2).sum(axis=2)
    near = (1 - T.eye(y.shape[0])) / (1 + squares)
    q = near / near.sum()
    cost = (p * T.log(T.switch(p > 0, p / q, 1))).sum()
    both = function([p, y], [cost, T.grad(cost, y)])
    P = np.exp(-((flowers[:, None] - flowers) ** 2).sum(axis=2))
    np.fill_diagonal(P, 0)
    P /= P.sum()
    Y = rng.normal(size=(len(flowers), 2))
    value, slope = both(P, Y)
    apart = Y[:, None] - Y
    kernel = 1 / (1 + (apart**2).sum(axis=2))
    np.fill_diagonal(kernel, 0)
    Q = kernel / kernel.sum()
    off = ~np.eye(len(Y), dtype=bool)
    np.testing.assert_allclose(value, (P[off] * np.log(P[off] / Q[off])).sum(), rtol=1e-11)
    closed = 4 * (((P - Q) * kernel)[:, :, None] * apart).sum(axis=1)
    np.testing.assert_allclose(slope, closed, rtol=1e-8, atol=1e-14)
    for _ in range(30):
        Y = Y - 50 * both(P, Y)[1]
    assert both(P, Y)[0] < 0.8 * value
