"""Points 25 to 29 of Theano's semantics: gradients, compiled."""

from collections.abc import Callable

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function
from symtensor.gradient import DisconnectedInputError, consider_constant, disconnected_grad, grad_clip, zero_grad
from symtensor.graph import Tensor

# 25 and 26: arguments of grad ------------------------------------------------------------------------------


def test_25_forms_of_wrt_and_cost() -> None:
    x, y = T.dscalars("x", "y")
    hidden = T.exp(x)
    cost = hidden * y
    assert isinstance(T.grad(cost, [x, y]), list)
    assert isinstance(T.grad(cost, (x, y)), tuple)
    gradients = [T.grad(cost, x), T.grad(cost, hidden), symtensor.grad(None, x, known_grads={hidden: y})]
    assert function([x, y], gradients)(0.0, 3.0) == [3.0, 3.0, 3.0]
    with pytest.raises(TypeError, match="cost must be a scalar"):
        T.grad(T.dvector(), x)


def test_25_disconnected_inputs() -> None:
    x, y = T.dvector("x"), T.fmatrix("y")
    with pytest.raises(DisconnectedInputError):
        T.grad(x.sum(), y)
    with pytest.warns(UserWarning, match="does not depend on it"):
        warned = T.grad(x.sum(), y, disconnected_inputs="warn")
    zeros = T.grad(x.sum(), y, disconnected_inputs="ignore")
    for got in function([y], [warned, zeros])(np.ones((2, 3), "float32")):
        assert (got.dtype, got.tolist()) == ("float32", [[0.0] * 3] * 2)
    assert T.grad(x.sum(), [x, y], disconnected_inputs="ignore", return_disconnected="None")[1] is None


def test_26_barriers() -> None:
    x = T.dscalar("x")
    z = x * x
    made = [
        T.grad(z * x, x, consider_constant=[z]), T.grad(disconnected_grad(z) * x, x), T.grad(zero_grad(z) * x, x),
        T.grad(consider_constant(z) * x, x), T.grad(grad_clip(x, -1, 1) * 100, x),
    ]  # fmt: skip
    assert function([x], made)(3.0) == [9.0, 9.0, 9.0, 9.0, 1.0]


# 27 and 28: where mathematics leaves a choice --------------------------------------------------------------

Case = tuple[Callable[[Tensor], Tensor], list[float], list[float]]

SLOPES: dict[str, Case] = {
    "max: all ties": (lambda x: x.max(axis=0), [1, 3, 3], [0, 1, 1]),
    "min: all ties": (lambda x: x.min(axis=0), [1, 3, 1], [1, 0, 1]),
    "max, axes kept: all ties": (lambda x: T.max(x, keepdims=True), [4, 1, 4], [1, 0, 1]),
    "maximum: the first": (lambda x: T.maximum(x, T.ones_like(x)), [1, 0, 2], [1, 0, 1]),
    "maximum: not the second": (lambda x: T.maximum(T.ones_like(x), x), [1, 0, 2], [0, 0, 1]),
    "minimum: the first": (lambda x: T.minimum(x, T.ones_like(x)), [1, 0, 2], [1, 1, 0]),
    "abs": (lambda x: abs(x), [-2, 0, 2], [-1, 0, 1]),
    "relu": (lambda x: T.nnet.relu(x), [-2, 0, 2], [0, 0.5, 1]),
    "leaky relu": (lambda x: T.nnet.relu(x, 0.5), [-2, 0, 2], [0.5, 0.75, 1]),
    "maximum of zero": (lambda x: T.maximum(x, 0), [-2, 0, 2], [0, 1, 1]),
    "clip": (lambda x: T.clip(x, -1, 1), [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]),
    "switch": (lambda x: T.switch(x > 0, x, 0), [-2, 0, 2], [0, 0, 1]),
    "sqrt": (lambda x: T.sqrt(x), [0, 4], [np.inf, 0.25]),
    "norm": (lambda x: x.norm(2), [0, 0], [np.nan, np.nan]),
    "product with a zero": (lambda x: x.prod(), [2, 0, 3], [0, 6, 0]),
    "product with two zeros": (lambda x: x.prod(), [0, 0, 3], [0, 0, 0]),
    "floor": (lambda x: T.floor(x) * x, [2.5], [2]),
    "round": (lambda x: T.round(x) * x, [1.6], [2]),
    "integer cast": (lambda x: T.cast(x, "int32") * x, [2.7], [2]),
    "comparison": (lambda x: T.eq(x, 1) * x, [1, 2], [1, 0]),
    "argmax": (lambda x: x.argmax() * x, [1, 5], [1, 1]),
    "shape": (lambda x: x.shape[0] * x, [1, 5], [2, 2]),
    "gather": (lambda x: x[[0, 1, 1]], [1, 5], [1, 2]),
    "scatter": (lambda x: T.inc_subtensor(T.zeros(2)[[0, 1, 1]], x) ** 2, [1, 5, 2], [2, 14, 14]),
}


@pytest.mark.parametrize("mode", ["fast_run", "fast_compile"])
def test_27_28_subgradients(mode: str) -> None:
    inputs = [T.dvector() for _ in SLOPES]
    outputs = [T.grad(make(x).sum(), x) for x, (make, _, _) in zip(inputs, SLOPES.values(), strict=True)]
    got = function(inputs, outputs, mode=mode)(*[np.array(at, float) for _, at, _ in SLOPES.values()])
    found = {name: g.tolist() for name, g in zip(SLOPES, got, strict=True)}
    for name, (_, _, expected) in SLOPES.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_28_integer_variables_have_gradients_in_double_precision() -> None:
    n = T.ivector("n")
    g = function([n], T.grad((n * 1.5).sum(), n))(np.array([1, 2], "int32"))
    assert (g.dtype, g.tolist()) == ("float64", [1.5, 1.5])


UNTAKEN: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], list[float]]]] = {
    "log": (T.log, lambda x: [np.log(x), 1 / x, -1 / x**2]),
    "sqrt": (T.sqrt, lambda x: [x**0.5, 0.5 * x**-0.5, -0.25 * x**-1.5]),
    "reciprocal": (lambda x: 1 / x, lambda x: [1 / x, -1 / x**2, 2 / x**3]),
    "power": (lambda x: x**-0.5, lambda x: [x**-0.5, -0.5 * x**-1.5, 0.75 * x**-2.5]),
    "x log x": (lambda x: x * T.log(x), lambda x: [x * np.log(x), np.log(x) + 1, 1 / x]),
    "square of log": (
        lambda x: T.log(x) ** 2,
        lambda x: [np.log(x) ** 2, 2 * np.log(x) / x, 2 * (1 - np.log(x)) / x**2],
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNTAKEN)
def test_28_branches_not_taken_have_no_gradient(name: str, dtype: str) -> None:
    """switch(x > 0, log x, 0): value, gradient and its gradient are 0, not NaN, where x <= 0."""
    make, exact = UNTAKEN[name]
    x = T.TensorType(dtype, (None,))("x")
    outputs = []
    for y in (T.switch(x > 0, make(x), 0), T.switch(x <= 0, 0, make(x))):
        first = T.grad(y.sum(), x)
        outputs += [y, first, T.grad(first.sum(), x)]
    got = function([x], outputs)(np.array([-1.0, 0.0, 4.0], dtype))
    for value, expected in zip(got, 2 * exact(4.0), strict=True):
        assert value[:2].tolist() == [0.0, 0.0]
        assert value[2] == pytest.approx(expected, rel=1e-5)


def test_28_branches_not_taken_in_other_derivatives() -> None:
    x = T.dvector("x")
    y = T.switch(x > 0, T.sqrt(x), 0)
    made = [T.hessian(y.sum(), x), T.Rop(y, x, T.ones_like(x)), T.Lop(y, x, T.ones_like(x)), T.jacobian(y, x)]
    hessian, right, left, jacobian = function([x], made)([-1.0, 0.0, 4.0])
    np.testing.assert_allclose(hessian, np.diag([0, 0, -0.03125]))
    assert right.tolist() == left.tolist() == np.diag(jacobian).tolist() == [0.0, 0.0, 0.25]


# 29: products with Jacobians -------------------------------------------------------------------------------


def test_29_jacobian_hessian_and_their_products() -> None:
    x, v, W, V = T.dvector("x"), T.dvector("v"), T.dmatrix("W"), T.dmatrix("V")
    y = T.dot(x, W)
    gradient = T.grad((x**3).sum(), x)
    made = [
        T.jacobian(x**2, x), T.hessian((x**3).sum(), x), T.Rop(y, W, V), T.Lop(y, W, v),
        T.Rop(gradient, x, v), T.grad((gradient * v).sum(), x), *T.Rop([y, x * 2], [x], [v]),
        symtensor.gradient.hessian_vector_product((x**3).sum(), [x], [v])[0],
    ]  # fmt: skip
    f = function([x, v, W, V], made)
    X, U, A, B = np.array([1.0, 2.0]), np.array([3.0, -1.0]), np.eye(2) * 5, np.arange(4.0).reshape(2, 2)
    six = 6 * X * U
    want = [np.diag(2 * X), np.diag(6 * X), X @ B, np.outer(X, U), six, six, U @ A, 2 * U, six]
    for got, expected in zip(f(X, U, A, B), want, strict=True):
        np.testing.assert_allclose(got, expected)


def test_29_jacobian_takes_consider_constant_and_disconnected_inputs() -> None:
    x, y = T.dvector("x"), T.dvector("y")
    square = x**2
    made = [
        T.jacobian(square * x, x, consider_constant=[square]),
        T.hessian((square * x + x**4).sum(), x, consider_constant=[square]),
        T.jacobian(x, [x, y], disconnected_inputs="ignore")[1],
        T.hessian((x**2).sum(), [x, y], disconnected_inputs="ignore")[1],
    ]
    first, second, zero, also = function([x, y], made)([1.0, 2.0], [1.0, 2.0, 3.0])
    assert first.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert second.tolist() == [[12.0, 0.0], [0.0, 48.0]]
    assert zero.tolist() == [[0.0] * 3] * 2
    assert also.tolist() == [[0.0] * 3] * 3


def test_29_verify_grad() -> None:
    T.verify_grad(lambda x: T.tanh(x) ** 2, [np.array([0.3, -0.7])], rng=np.random.RandomState(1))
    with pytest.raises(symtensor.gradient.GradientMismatchError):
        T.verify_grad(lambda x: disconnected_grad(x) * x, [np.array([0.3])], rng=np.random.RandomState(1))
