"""A network with two hidden layers on scikit-learn's digits, trained with momentum."""

import itertools

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared


@pytest.mark.many_launches
def test_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data.target))
    x, labels = (data.data[order] / 16).astype("float32"), data.target[order]
    widths = (64, 48, 32, 10)
    weights = [
        shared((rng.normal(size=pair) * np.sqrt(2 / pair[0])).astype("float32")) for pair in itertools.pairwise(widths)
    ]
    biases = [shared(np.zeros(n, "float32")) for n in widths[1:]]
    images, classes = T.fmatrix("images"), T.lvector("classes")
    hidden = images
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        hidden = T.nnet.relu(T.dot(hidden, w) + b)
    p = T.nnet.softmax(T.dot(hidden, weights[-1]) + biases[-1])
    loss = T.nnet.categorical_crossentropy(p, classes).mean()
    parameters = [*weights, *biases]
    speeds = [shared(np.zeros_like(q.get_value())) for q in parameters]
    updates = []
    for q, v, g in zip(parameters, speeds, T.grad(loss, parameters), strict=True):
        speed = np.float32(0.9) * v - np.float32(0.05) * g
        updates += [(v, speed), (q, q + speed)]
    train = function([images, classes], loss, updates=updates)
    predict = function([images], T.argmax(p, axis=1))
    losses = []
    for _ in range(12):
        for start in range(0, 1500, 100):
            losses.append(float(train(x[start : start + 100], labels[start : start + 100])))
    assert losses[0] > 2.0
    assert np.mean(losses[-15:]) < 0.1
    assert (predict(x[1500:]) == labels[1500:]).mean() > 0.9


def test_one_step_is_numpys() -> None:
    rng = np.random.default_rng(1)
    w_value, x_value = rng.normal(size=(5, 3)), rng.normal(size=(7, 5))
    labels_value = rng.integers(0, 3, 7)
    w = shared(w_value)
    x, labels = T.dmatrix("x"), T.lvector("labels")
    loss = T.nnet.categorical_crossentropy(T.nnet.softmax(T.dot(x, w)), labels).mean()
    step = function([x, labels], loss, updates=[(w, w - 0.5 * T.grad(loss, w))])
    logits = x_value @ w_value
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(step(x_value, labels_value), -np.log(p[np.arange(7), labels_value]).mean(), rtol=1e-13)
    p[np.arange(7), labels_value] -= 1
    np.testing.assert_allclose(w.get_value(), w_value - 0.5 * (x_value.T @ p) / 7, rtol=1e-12)
