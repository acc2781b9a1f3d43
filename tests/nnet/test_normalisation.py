"""Normalisation, dropout, first values, and gradients of one's own."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function, nnet
from symtensor.gradient import custom_gradient, verify_grad
from symtensor.graph import Tensor
from symtensor.sandbox.rng_mrg import MRG_RandomStreams
from symtensor.tensor.nnet import bn
from symtensor.tensor.random.utils import RandomStream
from symtensor.tensor.shared_randomstreams import RandomStreams
from symtensor_codegen.errors import DTypeError, ShapeError

RNG = np.random.default_rng(2)
IMAGES = RNG.normal(1.0, 2.0, (6, 3, 4, 2))

# Batch normalisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "over"), [("per-activation", (0,)), ("spatial", (0, 2, 3)), ((0, 2), (0, 2)), ((0, -1), (0, 3))]
)
@pytest.mark.parametrize("keep", [False, True], ids=["few axes", "all axes"])
def test_train_is_the_formula(axes: Any, over: tuple[int, ...], keep: bool) -> None:
    shape = tuple(1 if a in over else n for a, n in enumerate(IMAGES.shape))
    given = [RNG.random(shape) + 0.5 for _ in range(4)]
    gamma, beta, mean, var = given
    kind = T.TensorType("float64", tuple(n if n == 1 else None for n in shape))
    small = tuple(n for a, n in enumerate(shape) if a not in over)
    variables = [kind() if keep else T.TensorType("float64", (None,) * len(small))() for _ in given]
    x = T.tensor4("x")
    made = bn.batch_normalization_train(x, variables[0], variables[1], axes, 1e-3, 0.2, *variables[2:])
    values = given if keep else [v.reshape(small) for v in given]
    out, m, invstd, new_mean, new_var = function([x, *variables], list(made))(IMAGES, *values)
    batch_mean, batch_var = IMAGES.mean(over, keepdims=True), IMAGES.var(over, keepdims=True)
    n = IMAGES.size / batch_mean.size
    factor = 1 / np.sqrt(batch_var + 1e-3)
    np.testing.assert_allclose(out, (IMAGES - batch_mean) * factor * gamma + beta, rtol=1e-11)
    assert m.shape == (shape if keep else small)
    np.testing.assert_allclose(m.reshape(shape), batch_mean, rtol=1e-12)
    np.testing.assert_allclose(invstd.reshape(shape), factor, rtol=1e-12)
    np.testing.assert_allclose(new_mean.reshape(shape), 0.8 * mean + 0.2 * batch_mean, rtol=1e-12)
    np.testing.assert_allclose(new_var.reshape(shape), 0.8 * var + 0.2 * batch_var * n / (n - 1), rtol=1e-12)


def test_train_without_running_values_and_its_gradient() -> None:
    x, p = T.matrix("x"), T.vector("p")
    assert len(bn.batch_normalization_train(x, p, p)) == 3
    at = [RNG.normal(size=(5, 3)), RNG.normal(size=3), RNG.normal(size=3)]
    verify_grad(lambda x, g, b: bn.batch_normalization_train(x, g, b)[0] ** 2, at)


def test_test_mode_and_the_low_level_form() -> None:
    x = T.matrix("x")
    at, gamma, beta, mean, var = RNG.random((4, 3)), *(RNG.random((4, 3)) + 0.5)
    trained = bn.batch_normalization_test(x, gamma, beta, mean, var, epsilon=0.01)
    plain = T.nnet.bn.batch_normalization(x, gamma, beta, mean, np.sqrt(var + 0.01), mode="high_mem")
    wanted = (at - mean) / np.sqrt(var + 0.01) * gamma + beta
    for found in function([x], [trained, plain])(at):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_batch_norm_layer_learns_the_running_values() -> None:
    layer = nnet.BatchNorm(3, running_average_factor=0.5)
    x = T.tensor4("x")
    out, updates = layer(x)
    train = function([x], out, updates=updates)
    for _ in range(30):
        normal = train(IMAGES)
    np.testing.assert_allclose(normal.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean.get_value(), IMAGES.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(layer.running_var.get_value(), IMAGES.var((0, 2, 3), ddof=1), rtol=1e-6)
    fixed, none = layer(x, training=False)
    assert not none
    found = function([x], fixed)(IMAGES)
    np.testing.assert_allclose(found * np.sqrt(48 / 47), normal, rtol=1e-4)
    assert [p.name for p in layer.parameters] == ["batch_norm.gamma", "batch_norm.beta"]


def test_bad_batch_norms() -> None:
    x, p = T.matrix("x"), T.vector("p")
    with pytest.raises(ValueError, match="not 'all'"):
        bn.batch_normalization_train(x, p, p, "all")
    with pytest.raises(ValueError, match="leaves nothing"):
        bn.batch_normalization_train(x, p, p, (0, 1))
    with pytest.raises(ShapeError, match="a parameter has 4 axes, or 1"):
        bn.batch_normalization_train(T.tensor4("x"), x, x, "spatial")
    with pytest.raises(ShapeError, match="a batch and at least one more axis"):
        bn.batch_normalization_test(p, p, p, p, p)


# Layer normalisation, dropout ---------------------------------------------------------------------------------


def test_layer_norm() -> None:
    x = T.tensor3("x")
    at, gamma, beta = RNG.normal(size=(2, 3, 5)), RNG.normal(size=5), RNG.normal(size=5)
    last = function([x], nnet.layer_norm(x, gamma, beta))(at)
    two = function([x], nnet.layer_norm(x, axis=(1, 2), epsilon=0.1))(at)
    centred = at - at.mean(-1, keepdims=True)
    np.testing.assert_allclose(last, centred / np.sqrt(at.var(-1, keepdims=True) + 1e-5) * gamma + beta, rtol=1e-11)
    wanted = (at - at.mean((1, 2), keepdims=True)) / np.sqrt(at.var((1, 2), keepdims=True) + 0.1)
    np.testing.assert_allclose(two, wanted, rtol=1e-11)
    verify_grad(lambda x, g, b: nnet.layer_norm(x, g, b) ** 2, [at[0], gamma, beta])


@pytest.mark.parametrize("streams", [RandomStreams, MRG_RandomStreams, RandomStream])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_keeps_the_mean(streams: Any, dtype: str) -> None:
    x = T.matrix("x", dtype=dtype)
    dropped = nnet.dropout(x, 0.2, streams(5))
    run = function([x], [dropped, T.grad(T.sum(dropped), x)])
    ones = np.ones((200, 300), dtype)
    (first, slope), (second, _) = run(ones), run(ones)
    assert first.dtype == dtype
    assert np.allclose(np.unique(first), [0, 1.25])
    assert abs((first == 0).mean() - 0.2) < 0.01  # six standard deviations
    assert np.array_equal(slope, first)
    assert abs(((first == 0) & (second == 0)).mean() - 0.04) < 0.005


def test_dropout_of_whole_axes_and_by_expressions() -> None:
    x, p = T.tensor3("x"), T.dscalar("p")
    srng = RandomStreams(1)
    run = function([x, p], nnet.dropout(x, p, srng, shared_axes=0))
    found = run(np.ones((7, 30, 40)), 0.5)
    assert (found == found[0]).all()
    assert 0.4 < (found[0] == 0).mean() < 0.6
    assert (run(np.ones((7, 30, 40)), 0.0) == 1).all()


def test_dropout_that_does_nothing_and_bad_arguments() -> None:
    x = T.matrix("x")
    assert nnet.dropout(x, 0.5, deterministic=True) is x
    assert nnet.dropout(x, 0) is x
    with pytest.raises(ValueError, match="outside of"):
        nnet.dropout(x, 1.0, RandomStreams(1))
    with pytest.raises(TypeError, match="random streams"):
        nnet.dropout(x, 0.5)
    with pytest.raises(DTypeError, match="floating point"):
        nnet.dropout(T.lmatrix("n"), 0.5, RandomStreams(1))


# First values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "variance"),
    [
        (nnet.initial.glorot_uniform, 2 / 500), (nnet.initial.glorot_normal, 2 / 500),
        (nnet.initial.he_uniform, 2 / 300), (nnet.initial.he_normal, 2 / 300),
    ],
)  # fmt: skip
def test_variances(make: Any, variance: float) -> None:
    values = make((300, 200), 0)
    assert values.dtype == symtensor.config.floatX
    assert np.isclose(values.var(), variance, rtol=0.02)
    assert abs(values.mean()) < 5 * np.sqrt(variance / 60000)
    assert np.array_equal(values, make((300, 200), np.random.default_rng(0)))
    assert make((30, 20), 0, dtype="float32").dtype == np.float32
    with pytest.raises(ValueError, match="no inputs and outputs"):
        make((3,), 0)


def test_inputs_of_filters() -> None:
    assert nnet.initial.fans((32, 3, 5, 4)) == (60, 640)


@pytest.mark.parametrize("shape", [(20, 20), (30, 12), (12, 30), (4, 3, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = nnet.initial.orthogonal(shape, 3, gain=2.0).reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


# Gradients of one's own -------------------------------------------------------------------------------------------


def tripled(g: Tensor, value: Tensor, x: Tensor, factor: Tensor) -> Sequence[Tensor]:
    return (g * factor * x,)


def test_custom_gradient() -> None:
    x, y = T.dvector("x"), T.dscalar("y")
    made = custom_gradient(T.exp(x) * y, [x], tripled, extra=[y * 3])
    gradient = T.grad(T.sum(made * x), x)
    run = function([x, y], [made, gradient, T.grad(T.sum(gradient), x)])
    at = np.array([0.5, -1.0])
    value, first, second = run(at, 2.0)
    np.testing.assert_allclose(value, np.exp(at) * 2)
    np.testing.assert_allclose(first, np.exp(at) * 2 + at * (6 * at))
    np.testing.assert_allclose(second, 6 * at + 12 * at)  # the value's own slope is 6 x
    assert function([], T.grad(T.sum(made), y, disconnected_inputs="ignore"))() == 0
    again = pickle.loads(pickle.dumps(function([x, y], gradient)))
    np.testing.assert_allclose(again(at, 2.0), first)


def test_rule_that_does_not_fit() -> None:
    x = T.dvector("x")
    with pytest.raises(ValueError, match="returns 2 gradients for 1 inputs"):
        T.grad(T.sum(custom_gradient(x * 2, [x], lambda g, value, x: (g, g))), x)
    with pytest.raises(ShapeError, match="does not fit"):
        T.grad(T.sum(custom_gradient(x * 2, [x], lambda g, value, x: (T.sum(g),))), x)


def test_custom_gradient_may_come_to_nothing() -> None:
    x = T.dvector("x")
    made = custom_gradient(x * 2, [x], lambda g, value, x: (None,))
    found = function([x], T.grad(T.sum(made), x, disconnected_inputs="ignore"))([1.0, 2.0])
    assert found.tolist() == [0.0, 0.0]
