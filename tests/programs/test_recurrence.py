"""A recurrent network over a known number of steps: every step is written into the graph."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, shared
from symtensor.graph import Tensor


def network(images: Tensor, weights: list[Tensor]) -> Tensor:
    """An Elman network reads images, (n, steps, inputs), row by row; logarithms of probabilities, (n, classes)."""
    W_in, W, b, W_out = weights
    hidden = T.zeros((images.shape[0], W.shape[0]), dtype=images.dtype)
    for step in range(8):
        hidden = T.tanh(T.dot(images[:, step], W_in) + T.dot(hidden, W) + b)
    return T.log(T.nnet.softmax(T.dot(hidden, W_out)))


def start(rng: np.random.Generator, inputs: int, width: int, classes: int) -> list[np.ndarray]:
    orthogonal, _ = np.linalg.qr(rng.normal(size=(width, width)))
    scale = 1 / np.sqrt(width)
    return [
        rng.normal(size=(inputs, width)) / 3,
        orthogonal,
        np.zeros(width),
        rng.normal(size=(width, classes)) * scale,
    ]


def test_digits_row_by_row() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images.reshape(-1, 8, 8)[order] / 16).astype("float32"), labels[order]
    weights = [shared(w.astype("float32")) for w in start(np.random.default_rng(0), 8, 32, 10)]
    x, y, rate = T.ftensor3("x"), T.lvector("y"), T.fscalar("rate")
    log_p = network(x, weights)
    cost = -log_p[T.arange(y.shape[0]), y].mean()
    gradients = grad(cost, weights)
    norm = T.sqrt(sum((g**2).sum() for g in gradients))
    limit = np.float32(1)
    clipped = [g * T.switch(norm > limit, limit / norm, np.float32(1)) for g in gradients]
    memories = [shared(w.get_value() * 0) for w in weights]
    updates = []
    for w, m, g in zip(weights, memories, clipped, strict=True):
        mean_square = np.float32(0.9) * m + np.float32(0.1) * g**2
        updates += [(m, mean_square), (w, w - rate * g / T.sqrt(mean_square + np.float32(1e-6)))]
    train = function([x, y, rate], [cost, norm], updates=updates, allow_input_downcast=True)
    predict = function([x], log_p.argmax(axis=1))
    first, last = [], []
    for epoch in range(12):
        last = [train(images[k : k + 100], labels[k : k + 100], 0.003) for k in range(0, 1500, 100)]
        first = first or last
        assert np.isfinite(last).all(), epoch
    assert np.mean(last, axis=0)[0] < 0.3 * np.mean(first, axis=0)[0]
    assert (predict(images[1500:]) == labels[1500:]).mean() > 0.85


def test_gradients_are_those_of_differences() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 8, 2)), np.array([1, 0, 1])
    points = start(rng, 2, 4, 2)
    T.verify_grad(lambda *w: -network(T.as_tensor(x), list(w))[T.arange(3), y].mean(), points, rng=np.random)
