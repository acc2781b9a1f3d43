"""Programs in the style of the Deep Learning Tutorials and of Lasagne, on real digits."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, shared
from symtensor.graph import Tensor
from symtensor.shared_variables import SharedVariable

datasets = pytest.importorskip("sklearn.datasets")

Updates = Any


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    with config.change(floatX="float32"):
        yield


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 8x8, shuffled, and their labels."""
    data = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    return (data.data / 16.0)[order], data.target[order]


class LogisticRegression:
    def __init__(self, input: Tensor, n_in: int, n_out: int) -> None:
        self.W = shared(value=np.zeros((n_in, n_out), dtype=config.floatX), name="W", borrow=True)
        self.b = shared(value=np.zeros((n_out,), dtype=config.floatX), name="b", borrow=True)
        self.p_y_given_x = T.nnet.softmax(T.dot(input, self.W) + self.b)
        self.y_pred = T.argmax(self.p_y_given_x, axis=1)
        self.params = [self.W, self.b]

    def negative_log_likelihood(self, y: Tensor) -> Tensor:
        return -T.mean(T.log(self.p_y_given_x)[T.arange(y.shape[0]), y])

    def errors(self, y: Tensor) -> Tensor:
        if y.ndim != self.y_pred.ndim:
            raise TypeError("y should have the same shape as self.y_pred", ("y", y.type, "y_pred", self.y_pred.type))
        if y.dtype.startswith("int"):
            return T.mean(T.neq(self.y_pred, y))
        raise NotImplementedError


class HiddenLayer:
    def __init__(
        self, rng: np.random.RandomState, input: Tensor, n_in: int, n_out: int, activation: Any = T.tanh
    ) -> None:
        bound = np.sqrt(6.0 / (n_in + n_out))
        W_values = np.asarray(rng.uniform(low=-bound, high=bound, size=(n_in, n_out)), dtype=config.floatX)
        if activation == T.nnet.sigmoid:
            W_values *= 4
        self.W = shared(value=W_values, name="W", borrow=True)
        self.b = shared(value=np.zeros((n_out,), dtype=config.floatX), name="b", borrow=True)
        self.output = activation(T.dot(input, self.W) + self.b)
        self.params = [self.W, self.b]


class MLP:
    def __init__(self, input: Tensor, n_hidden: int, activation: Any = T.tanh) -> None:
        rng = np.random.RandomState(1234)
        self.hidden = HiddenLayer(rng, input, 64, n_hidden, activation)
        self.top = LogisticRegression(self.hidden.output, n_hidden, 10)
        self.L1 = abs(self.hidden.W).sum() + abs(self.top.W).sum()
        self.L2_sqr = (self.hidden.W**2).sum() + (self.top.W**2).sum()
        self.negative_log_likelihood = self.top.negative_log_likelihood
        self.errors = self.top.errors
        self.params = self.hidden.params + self.top.params


def shared_dataset(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    shared_x = shared(np.asarray(x, dtype=config.floatX), borrow=True)
    shared_y = shared(np.asarray(y, dtype=config.floatX), borrow=True)
    return shared_x, T.cast(shared_y, "int32")


@pytest.mark.parametrize("kind", ["logistic_sgd", "mlp"])
@pytest.mark.parametrize("policy", ["numpy", "theano"])
def test_deep_learning_tutorials(kind: str, policy: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Minibatches are slices of shared data, given by ``givens``; labels are a cast of floats."""
    batch_size = 50
    with config.change(cast_policy=policy):
        train_x, train_y = shared_dataset(digits[0][:1500], digits[1][:1500])
        test_x, test_y = shared_dataset(digits[0][1500:], digits[1][1500:])
        index, x, y = T.lscalar(), T.matrix("x"), T.ivector("y")
        model = LogisticRegression(input=x, n_in=64, n_out=10) if kind == "logistic_sgd" else MLP(x, 30)
        cost = model.negative_log_likelihood(y)
        if isinstance(model, MLP):
            cost = cost + 0.0001 * model.L1 + 0.0001 * model.L2_sqr
        test_model = function(inputs=[], outputs=model.errors(y), givens={x: test_x, y: test_y})
        gparams = [T.grad(cost, param) for param in model.params]
        updates = [(param, param - 0.5 * g) for param, g in zip(model.params, gparams, strict=True)]
        part = slice(index * batch_size, (index + 1) * batch_size)
        train_model = function([index], cost, updates=updates, givens={x: train_x[part], y: train_y[part]})
    epochs = [np.mean([train_model(i) for i in range(1500 // batch_size)]) for _ in range(8)]
    assert epochs[-1] < epochs[0] / 2
    assert train_model(0).dtype == "float32"
    assert test_model() < 0.08


# Optimisers of well-known snippets, written from the published formulas ------------------------------------


def sgd(loss: Tensor, params: list[SharedVariable]) -> Updates:
    return OrderedDict((p, p - T.cast(0.5, config.floatX) * T.grad(loss, p)) for p in params)


def momentum(loss: Tensor, params: list[SharedVariable]) -> Updates:
    updates = []
    for param in params:
        param_update = shared(param.get_value() * 0.0, broadcastable=param.broadcastable)
        updates.append((param, param - 0.5 * param_update))
        updates.append((param_update, 0.9 * param_update + (1.0 - 0.9) * T.grad(loss, param)))
    return updates


def nesterov(loss: Tensor, params: list[SharedVariable]) -> Updates:
    updates = sgd(loss, params)
    for param in params:
        velocity = shared(np.zeros_like(param.get_value(borrow=True)), broadcastable=param.broadcastable)
        x = 0.9 * velocity + updates[param] - param
        updates[velocity] = x
        updates[param] = 0.9 * x + updates[param]
    return updates


def adagrad(loss: Tensor, params: list[SharedVariable]) -> Updates:
    updates = OrderedDict()
    for param, grad in zip(params, T.grad(loss, params), strict=True):
        value = param.get_value(borrow=True)
        accu = shared(np.zeros(value.shape, dtype=value.dtype), broadcastable=param.broadcastable)
        accu_new = accu + grad**2
        updates[accu] = accu_new
        updates[param] = param - (0.1 * grad / T.sqrt(accu_new + 1e-6))
    return updates


def rmsprop(loss: Tensor, params: list[SharedVariable]) -> Updates:
    updates = []
    for p, g in zip(params, T.grad(cost=loss, wrt=params), strict=True):
        acc = shared(p.get_value() * 0.0)
        acc_new = 0.9 * acc + (1 - 0.9) * g**2
        updates.append((acc, acc_new))
        updates.append((p, p - 0.01 * (g / T.sqrt(acc_new + 1e-6))))
    return updates


def adadelta(loss: Tensor, params: list[SharedVariable]) -> Updates:
    zipped = [shared(p.get_value() * np.asarray(0.0, config.floatX), name=f"{p}_rgrad2") for p in params]
    steps = [shared(p.get_value() * np.asarray(0.0, config.floatX), name=f"{p}_rup2") for p in params]
    updates: Updates = {}
    for p, g, rg2, ru2 in zip(params, T.grad(loss, wrt=params), zipped, steps, strict=True):
        rg2_new = 0.95 * rg2 + 0.05 * (g**2)
        ud = -T.sqrt(ru2 + 1e-4) / T.sqrt(rg2_new + 1e-4) * g
        updates |= {rg2: rg2_new, ru2: 0.95 * ru2 + 0.05 * (ud**2), p: p + ud}
    return updates


def adam(loss: Tensor, params: list[SharedVariable]) -> Updates:
    updates: Updates = OrderedDict()
    t_prev = shared(np.asarray(0.0, dtype=config.floatX))
    one = T.constant(np.float32(1))
    t = t_prev + 1
    a_t = 0.01 * T.sqrt(one - 0.999**t) / (one - 0.9**t)
    for param, g_t in zip(params, T.grad(loss, params), strict=True):
        value = param.get_value(borrow=True)
        m_prev = shared(np.zeros(value.shape, dtype=value.dtype), broadcastable=param.broadcastable)
        v_prev = shared(np.zeros(value.shape, dtype=value.dtype), broadcastable=param.broadcastable)
        m_t = 0.9 * m_prev + (one - 0.9) * g_t
        v_t = 0.999 * v_prev + (one - 0.999) * g_t**2
        updates[m_prev] = m_t
        updates[v_prev] = v_t
        updates[param] = param - a_t * m_t / (T.sqrt(v_t) + 1e-8)
    updates[t_prev] = t
    return updates


OPTIMISERS: list[Callable[[Tensor, list[SharedVariable]], Updates]] = [
    sgd, momentum, nesterov, adagrad, rmsprop, adadelta, adam,
]  # fmt: skip


@pytest.mark.parametrize("policy", ["numpy", "theano"])
@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda o: o.__name__)
def test_optimisers(optimiser: Any, policy: str, digits: tuple[np.ndarray, np.ndarray]) -> None:
    with config.change(cast_policy=policy):
        x, y = T.matrix("x"), T.ivector("y")
        model = MLP(x, 20, activation=T.nnet.sigmoid)
        cost = model.negative_log_likelihood(y)
        step = function([x, y], cost, updates=optimiser(cost, model.params), allow_input_downcast=True)
    losses = [float(step(digits[0][:300], digits[1][:300])) for _ in range(40)]
    assert losses[0] == pytest.approx(np.log(10), abs=0.05)
    assert losses[-1] < 0.85 * losses[0]


def test_adam_as_lasagne_spells_it_needs_theanos_policy() -> None:
    """``one = T.constant(1)``: an int8 to Theano, which keeps float32; to NumPy an int64, which does not."""
    w = shared(np.ones(2, "float32"), "w")
    with config.change(cast_policy="theano"):
        assert (T.constant(1) - w).dtype == "float32"
    with pytest.raises(TypeError, match=r"update of w: .*cast it: T.cast\(value, 'float32'\)"):
        function([], updates={w: T.constant(1) - w})


def test_patterns_of_lasagne_layers(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Biases of one row, inputs of more axes flattened, masks, a learning rate that is shared, mixed updates."""
    images, target = T.tensor4("images"), T.ivector("target")
    W = shared(np.zeros((64, 10), config.floatX), name="W")
    b = shared(np.zeros((1, 10), config.floatX), name="b", broadcastable=(True, False))
    mask = T.cast(T.arange(64) % 2, config.floatX)
    flat = images.flatten(2) * mask.dimshuffle("x", 0)
    prediction = T.nnet.softmax(T.nnet.relu(T.dot(flat, W) + b, 0.01))
    loss = T.nnet.categorical_crossentropy(prediction, target).mean()
    rate = shared(np.array(1.0, config.floatX), name="rate")
    updates = OrderedDict()
    for param, grad in zip([W, b], T.grad(loss, [W, b]), strict=True):
        assert grad.broadcastable == param.broadcastable
        updates[param] = T.patternbroadcast(param - rate * T.clip(grad, -1, 1), param.broadcastable)
    updates[rate] = rate * T.cast(0.99, config.floatX)
    accuracy = T.mean(T.eq(T.argmax(prediction, axis=1), target), dtype=config.floatX)
    train = function([images, target], [loss, accuracy], updates=updates)
    X, Y = digits[0][:500].reshape(-1, 1, 8, 8).astype("float32"), digits[1][:500].astype("int32")
    results = [train(X, Y) for _ in range(100)]
    assert results[0][0] == pytest.approx(np.log(10), rel=1e-5)
    assert results[-1][1] > 0.85
    assert results[-1][1].dtype == rate.get_value().dtype == "float32"
    assert b.get_value().shape == (1, 10)
    assert not T.unbroadcast(b, 0).broadcastable[0]
    assert T.addbroadcast(W, 0).broadcastable[0]
