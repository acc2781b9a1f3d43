"""Point 34 of Theano's semantics: formulas in their textbook form, where they overflow as written.

Values and gradients of each form, compiled, against the exact ones; with logits of 1000, where exp() of any
of them is 0 or infinite in both precisions.
"""

from collections.abc import Callable

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.graph import Tensor

BIG = 1000.0
V = np.array([-BIG, -1.0, 0.0, 2.0, BIG])
TARGETS = np.array([1.0, 0.5, 0.25, 0.0, 0.0])
X = np.array([[BIG, 0.0, -BIG], [0.0, BIG, 0.0], [1.0, 2.0, 3.0]])
LABELS = np.array([1, 0, 2])


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-softplus(-x))


ELEMENTWISE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], np.ndarray, np.ndarray]] = {
    "log(sigmoid)": (lambda x, t: T.log(T.nnet.sigmoid(x)), -softplus(-V), sigmoid(-V)),
    "log(1 - sigmoid)": (lambda x, t: T.log(1 - T.nnet.sigmoid(x)), -softplus(V), -sigmoid(V)),
    "log1p(-sigmoid)": (lambda x, t: T.log1p(-T.nnet.sigmoid(x)), -softplus(V), -sigmoid(V)),
    "log(1 + exp)": (lambda x, t: T.log(1 + T.exp(x)), softplus(V), sigmoid(V)),
    "log(exp + 1)": (lambda x, t: T.log(T.exp(x) + 1), softplus(V), sigmoid(V)),
    "log1p(exp)": (lambda x, t: T.log1p(T.exp(x)), softplus(V), sigmoid(V)),
    "-log(1 + exp(-x))": (lambda x, t: -T.log(1 + T.exp(-x)), -softplus(-V), sigmoid(-V)),
    "log(1/(1 + exp(-x)))": (lambda x, t: T.log(1 / (1 + T.exp(-x))), -softplus(-V), sigmoid(-V)),
    "log(exp/(1 + exp))": (lambda x, t: T.log(T.exp(x) / (1 + T.exp(x))), -softplus(-V), sigmoid(-V)),
    "binary_crossentropy with 0": (
        lambda x, t: T.nnet.binary_crossentropy(T.nnet.sigmoid(x), 0),
        softplus(V),
        sigmoid(V),
    ),
    "binary_crossentropy": (
        lambda x, t: T.nnet.binary_crossentropy(T.nnet.sigmoid(x), t),
        TARGETS * softplus(-V) + (1 - TARGETS) * softplus(V),
        sigmoid(V) - TARGETS,
    ),
    "cross-entropy by hand": (
        lambda x, t: -t * T.log(T.nnet.sigmoid(x)) - (1 - t) * T.log(1 - T.nnet.sigmoid(x)),
        TARGETS * softplus(-V) + (1 - TARGETS) * softplus(V),
        sigmoid(V) - TARGETS,
    ),
    "cross-entropy by hand, factored": (
        lambda x, t: -(t * T.log(1 / (1 + T.exp(-x))) + (1 - t) * T.log(1 - 1 / (1 + T.exp(-x)))),
        TARGETS * softplus(-V) + (1 - TARGETS) * softplus(V),
        sigmoid(V) - TARGETS,
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_34_elementwise_forms(dtype: str) -> None:
    kind = T.TensorType(dtype, (None,))
    x, t = kind("x"), kind("t")
    outputs = []
    for make, _, _ in ELEMENTWISE.values():
        value = make(x, t)
        outputs += [value, T.grad(value.sum(), x)]
    got = function([x, t], outputs)(V.astype(dtype), TARGETS.astype(dtype))
    for k, (name, (_, value, gradient)) in enumerate(ELEMENTWISE.items()):
        close(got[2 * k], value, dtype, name)
        close(got[2 * k + 1], gradient, dtype, f"gradient of {name}")


def close(got: np.ndarray, want: np.ndarray, dtype: str, name: str) -> None:
    assert got.dtype == dtype, name
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, err_msg=name)


LOG_P = X - np.logaddexp.reduce(X, axis=1, keepdims=True)
P = np.exp(LOG_P)
PICKED = LOG_P[np.arange(3), LABELS]
ONE_HOT = np.eye(3)[LABELS]


def one_hot(x: Tensor, y: Tensor) -> Tensor:
    return T.cast(T.eq(T.arange(3).dimshuffle("x", 0), y.dimshuffle(0, "x")), x.dtype)


def spelled(x: Tensor) -> Tensor:
    e = T.exp(x)
    return e / e.sum(axis=1, keepdims=True)


def shifted(x: Tensor) -> Tensor:
    e = T.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


MEANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "-mean(log(p)[arange(n), y])": lambda x, y: -T.mean(T.log(T.nnet.softmax(x))[T.arange(y.shape[0]), y]),
    "-mean(log(p[arange(n), y]))": lambda x, y: -T.mean(T.log(T.nnet.softmax(x)[T.arange(y.shape[0]), y])),
    "categorical_crossentropy": lambda x, y: T.nnet.categorical_crossentropy(T.nnet.softmax(x), y).mean(),
    "with distributions": lambda x, y: T.nnet.categorical_crossentropy(T.nnet.softmax(x), one_hot(x, y)).mean(),
    "-(t * log(p)).sum().mean()": lambda x, y: -(one_hot(x, y) * T.log(T.nnet.softmax(x))).sum(axis=1).mean(),
    "softmax by hand": lambda x, y: -T.mean(T.log(spelled(x))[T.arange(y.shape[0]), y]),
    "shifted softmax by hand": lambda x, y: -T.mean(T.log(shifted(x))[T.arange(y.shape[0]), y]),
    "fixed number of rows": lambda x, y: -T.mean(T.log(T.nnet.softmax(x))[T.arange(3), y]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_34_classification_costs(dtype: str) -> None:
    x, y = T.TensorType(dtype, (None, None))("x"), T.lvector("y")
    outputs = []
    for make in MEANS.values():
        cost = make(x, y)
        outputs += [cost, T.grad(cost, x)]
    got = function([x, y], outputs)(X.astype(dtype), LABELS)
    assert -PICKED.mean() > BIG / 2
    for k, name in enumerate(MEANS):
        close(got[2 * k], -PICKED.mean(), dtype, name)
        close(got[2 * k + 1], (P - ONE_HOT) / 3, dtype, f"gradient of {name}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_34_logarithms_of_softmax_and_of_sums(dtype: str) -> None:
    x = T.TensorType(dtype, (None, None))("x")
    log_p, total = T.log(T.nnet.softmax(x)), T.log(T.sum(T.exp(x), axis=1))
    made = [log_p, T.grad(log_p.sum(), x), total, T.grad(total.sum(), x)]
    got = function([x], made)(X.astype(dtype))
    for value, want in zip(got, [LOG_P, 1 - 3 * P, np.logaddexp.reduce(X, 1), P], strict=True):
        close(value, want, dtype, "log")
    assert got[0][0].tolist() == [0.0, -BIG, -2 * BIG]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_34_second_derivatives(dtype: str) -> None:
    x = T.TensorType(dtype, (None,))("x")
    first = T.grad(T.log(1 + T.exp(x)).sum(), x)
    got = function([x], [T.grad(first.sum(), x), T.grad(T.grad(T.log(T.nnet.sigmoid(x)).sum(), x).sum(), x)])(
        V.astype(dtype)
    )
    slope = sigmoid(V) * sigmoid(-V)
    close(got[0], slope, dtype, "softplus")
    close(got[1], -slope, dtype, "log(sigmoid)")
