"""Logistic regression with conjugate gradients, as in the Deep Learning Tutorials: all parameters are one vector."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared


@pytest.mark.many_launches
def test_conjugate_gradients() -> None:
    datasets, optimize = pytest.importorskip("sklearn.datasets"), pytest.importorskip("scipy.optimize")
    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = images / 16, labels.astype("int32")
    n_in, n_out, batch_size = 64, 10, 300
    train_x, train_y = shared(images[:1500], borrow=True), shared(labels[:1500], borrow=True)
    minibatch_offset, x, y = T.lscalar(), T.matrix(), T.ivector()
    theta = shared(np.zeros(n_in * n_out + n_out), name="theta", borrow=True)
    W = theta[0 : n_in * n_out].reshape((n_in, n_out))
    b = theta[n_in * n_out : n_in * n_out + n_out]
    p_y_given_x = T.nnet.softmax(T.dot(x, W) + b)
    cost = -T.mean(T.log(p_y_given_x)[T.arange(y.shape[0]), y]) + 1e-4 * (W**2).sum()
    part = slice(minibatch_offset, minibatch_offset + batch_size)
    givens = {x: train_x[part], y: train_y[part]}
    batch_cost = function([minibatch_offset], cost, givens=givens, name="batch_cost")
    batch_grad = function([minibatch_offset], T.grad(cost, theta), givens=givens, name="batch_grad")
    predict = function([x], T.argmax(p_y_given_x, axis=1))
    offsets = range(0, 1500, batch_size)

    def train_fn(theta_value: np.ndarray) -> float:
        theta.set_value(theta_value, borrow=True)
        return float(np.mean([batch_cost(k) for k in offsets]))

    def train_fn_grad(theta_value: np.ndarray) -> np.ndarray:
        theta.set_value(theta_value, borrow=True)
        return np.mean([batch_grad(k) for k in offsets], axis=0)

    assert train_fn(np.zeros(650)) == pytest.approx(np.log(10))
    point = np.random.RandomState(0).randn(650) / 10
    assert optimize.check_grad(train_fn, train_fn_grad, point) < 1e-5
    best = optimize.fmin_cg(f=train_fn, x0=np.zeros(650), fprime=train_fn_grad, disp=0, maxiter=60)
    assert train_fn(best) < 0.15
    assert (predict(images[1500:]) == labels[1500:]).mean() > 0.88
