"""Denoising autoencoders as in the Deep Learning Tutorials: tied weights, training layer by layer."""

from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, shared
from symtensor.graph import Tensor

datasets = pytest.importorskip("sklearn.datasets")
BATCH = 100


class dA:
    """One layer which reconstructs its input from a part of it; ``corruption`` is a mask of zeros and ones."""

    def __init__(self, numpy_rng: np.random.RandomState, input: Tensor, n_visible: int, n_hidden: int) -> None:
        bound = 4 * np.sqrt(6.0 / (n_hidden + n_visible))
        initial_W = np.asarray(numpy_rng.uniform(low=-bound, high=bound, size=(n_visible, n_hidden)), config.floatX)
        self.W = shared(value=initial_W, name="W", borrow=True)
        self.b_prime = shared(value=np.zeros(n_visible, dtype=config.floatX), borrow=True)
        self.b = shared(value=np.zeros(n_hidden, dtype=config.floatX), name="b", borrow=True)
        self.W_prime = self.W.T
        self.x = input
        self.params = [self.W, self.b, self.b_prime]

    def get_hidden_values(self, input: Tensor) -> Tensor:
        return T.nnet.sigmoid(T.dot(input, self.W) + self.b)

    def get_reconstructed_input(self, hidden: Tensor) -> Tensor:
        return T.nnet.sigmoid(T.dot(hidden, self.W_prime) + self.b_prime)

    def get_cost_updates(self, corruption: Tensor, learning_rate: float) -> tuple[Tensor, list[Any]]:
        y = self.get_hidden_values(corruption * self.x)
        z = self.get_reconstructed_input(y)
        L = -T.sum(self.x * T.log(z) + (1 - self.x) * T.log(1 - z), axis=1)
        cost = T.mean(L)
        gparams = T.grad(cost, self.params)
        return cost, [(p, p - learning_rate * g) for p, g in zip(self.params, gparams, strict=True)]


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    return data.data[order] / 16.0, data.target[order]


@pytest.mark.many_launches
def test_denoising_autoencoder(digits: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.RandomState(123)
    train_set_x = shared(digits[0][:1500], borrow=True)
    index, x, corruption = T.lscalar(), T.matrix("x"), T.matrix("corruption")
    da = dA(rng, x, 64, 40)
    cost, updates = da.get_cost_updates(corruption, learning_rate=0.1)
    givens = {x: train_set_x[index * BATCH : (index + 1) * BATCH]}
    train_da = function([index, corruption], cost, updates=updates, givens=givens)
    epochs = []
    for _ in range(30):
        losses = [train_da(k, rng.binomial(1, 0.7, (BATCH, 64)).astype(float)) for k in range(1500 // BATCH)]
        epochs.append(np.mean(losses))
    assert epochs[-1] < 0.75 * epochs[0]
    reconstruct = function([x], da.get_reconstructed_input(da.get_hidden_values(x)))
    held_out = digits[0][1500:]
    assert np.mean((reconstruct(held_out) - held_out) ** 2) < 0.5 * held_out.var(axis=0).mean()


def test_one_step_is_numpys() -> None:
    rng = np.random.RandomState(3)
    X, mask = rng.uniform(size=(7, 5)), rng.binomial(1, 0.5, (7, 5)).astype(float)
    x, corruption = T.dmatrix("x"), T.dmatrix("corruption")
    da = dA(rng, x, 5, 3)
    W, b, c = (p.get_value() for p in da.params)
    cost, updates = da.get_cost_updates(corruption, 0.5)
    loss = function([x, corruption], cost, updates=updates)(X, mask)

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    h = sigmoid((X * mask) @ W + b)
    z = sigmoid(h @ W.T + c)
    dz = (z - X) / 7
    dh = dz @ W * h * (1 - h)
    np.testing.assert_allclose(loss, -(X * np.log(z) + (1 - X) * np.log(1 - z)).sum(1).mean(), rtol=1e-13)
    np.testing.assert_allclose(da.W.get_value(), W - 0.5 * ((X * mask).T @ dh + dz.T @ h), rtol=1e-12)
    np.testing.assert_allclose(da.b.get_value(), b - 0.5 * dh.sum(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(da.b_prime.get_value(), c - 0.5 * dz.sum(0), rtol=1e-12, atol=1e-15)


@pytest.mark.many_launches
def test_stacked_autoencoders(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """The layers of a classifier share their weights with the autoencoders which train them first."""
    rng = np.random.RandomState(89677)
    train_x, train_y = shared(digits[0][:1500]), T.cast(shared(digits[1][:1500].astype(float)), "int32")
    index, x, y, corruption = T.lscalar("index"), T.matrix("x"), T.ivector("y"), T.scalar("corruption")
    batch = slice(index * BATCH, (index + 1) * BATCH)
    layer, params, pretraining = x, [], []
    for n_in, n_out in ((64, 48), (48, 32)):
        da = dA(rng, layer, n_in, n_out)
        mask = T.gt(T.sin(1e4 * T.arange(n_in) + index), corruption)  # some pattern which changes with the batch
        cost, updates = da.get_cost_updates(T.cast(mask, config.floatX).dimshuffle("x", 0), 0.1)
        pretraining.append(function([index, corruption], cost, updates=updates, givens={x: train_x[batch]}))
        layer = da.get_hidden_values(layer)
        params += [da.W, da.b]
    W, b = shared(np.zeros((32, 10)), "W"), shared(np.zeros(10), "b")
    p_y_given_x = T.nnet.softmax(T.dot(layer, W) + b)
    finetune_cost = -T.mean(T.log(p_y_given_x)[T.arange(y.shape[0]), y])
    params += [W, b]
    updates = [(p, p - 0.5 * g) for p, g in zip(params, T.grad(finetune_cost, params), strict=True)]
    train = function([index], finetune_cost, updates=updates, givens={x: train_x[batch], y: train_y[batch]})
    predict = function([x], T.argmax(p_y_given_x, axis=1))
    batches = range(1500 // BATCH)
    for pretrain in pretraining:
        costs = [np.mean([pretrain(k, corruption=-0.5) for k in batches]) for _ in range(8)]
        assert costs[-1] < 0.95 * costs[0]
    for _ in range(30):
        losses = [train(k) for k in batches]
    assert np.mean(losses) < 0.3
    assert (predict(digits[0][1500:]) == digits[1][1500:]).mean() > 0.88
