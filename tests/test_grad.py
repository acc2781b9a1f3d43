"""Gradients of whole programs against differences of the programs, to third order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.differentiation import Lop, Rop, grad, hessian_vector_product
from symtensor.gradient import hessian, jacobian, numeric_grad
from symtensor.graph import Tensor
from symtensor.loops import scan
from symtensor.reference import evaluate
from symtensor.types import TensorType
from symtensor.vectorize import RULES, VectorizeError, vectorize

RNG = np.random.default_rng(3)
LABELS = np.array([2, 0, 1, 2])


def a(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape)


def positive(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.uniform(0.5, 2.0, size=shape)


def logistic(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    y = np.array([1.0, 0.0, 0.0, 1.0])
    p = 1 / (1 + T.exp(-T.dot(x, w) - b))
    return (-y * T.log(p) - (1 - y) * T.log(1 - p)).mean() + 0.01 * (w**2).sum()


def perceptron(x: Tensor, w: Tensor, b: Tensor, v: Tensor) -> Tensor:
    h = T.tanh(T.dot(x, w) + b)
    p = T.nnet.softmax(T.dot(h, v))
    return -T.mean(T.log(p)[np.arange(4), LABELS])


PROGRAMS: dict[str, tuple[Callable[..., Tensor], list[np.ndarray[Any, Any]]]] = {
    "logistic": (logistic, [a(4, 3), a(3), a()]),
    "perceptron": (perceptron, [a(4, 5), a(5, 6), a(6), a(6, 3)]),
    "broadcasting": (lambda r, c, s: (r * T.sin(c) / (s * s + 1) + r).sum(), [a(1, 4), a(3, 1), a()]),
    "missing_axes": (lambda m, v, s: (m * v + s * v + m * s).sum(), [a(3, 4), a(4), a()]),
    "used_often": (lambda x: (x * x + T.exp(x) * x + T.sin(x) / (x * x + 2)).sum(), [a(5)]),
    "matrices": (
        lambda x, y, v: T.dot(v, T.dot(T.dot(x, y), v)) + T.dot(x, y).sum(),
        [a(3, 4), a(4, 3), a(3)],
    ),
    "reductions": (
        lambda x: x.sum(axis=0).prod() + x.mean(axis=1).max() + x.min() + (x.var(axis=0) + 1).sum(),
        [a(3, 4)],
    ),
    "logsumexp": (lambda x: (T.logsumexp(x, axis=1) ** 2).sum(), [a(3, 4)]),
    "norm": (lambda x: T.sqrt((x**2).sum(axis=1)).sum(), [a(3, 4)]),
    "slices": (lambda x: (x[1:] * x[:-1] * x[::-1][1:]).sum() + x[-1] ** 3, [a(6)]),
    "gather": (lambda x: (x[np.array([0, 2, 2, 1])] ** 2 * np.arange(1.0, 5.0)).sum(), [a(3)]),
    "set_part": (lambda x, y: (T.set_subtensor(x[1:3], y) ** 2 * np.arange(1.0, 6.0)).sum(), [a(5), a(2)]),
    "inc_at": (lambda x, y: (T.inc_subtensor(x[np.array([1, 1, 0])], y) ** 3).sum(), [a(3), a(3)]),
    "layout": (
        lambda x: (x.dimshuffle(1, "x", 0) * x.T.reshape((4, 1, 3)) * x.flatten()[3]).sum(),
        [a(3, 4)],
    ),
    "choice": (lambda x, y: T.switch(x > y, x * x, T.exp(y)).sum() + T.maximum(x, y).prod(), [a(4), a(4)]),
    "powers": (lambda x, y: (x**y).sum() + (x**-1.5).sum(), [positive(4), a(4)]),
    "sizes": (lambda x: (x * x.shape[0] / (x.shape[1] + 1)).sum(), [a(3, 4)]),
}


def build(name: str) -> tuple[list[Tensor], Tensor, list[np.ndarray[Any, Any]]]:
    make, points = PROGRAMS[name]
    variables = [
        TensorType(p.dtype, tuple(1 if size == 1 else None for size in p.shape))(f"x{k}")
        for k, p in enumerate(points)
    ]
    return variables, make(*variables), points


def assert_gradient(variables: list[Tensor], cost: Tensor, points: list[np.ndarray[Any, Any]]) -> None:
    gradients = grad(cost, variables)
    for g, x in zip(gradients, variables, strict=True):
        assert g.type.element is x.element
        assert g.ndim == x.ndim
    symbolic = evaluate(gradients, dict(zip(variables, points, strict=True)))
    numeric = numeric_grad(lambda *at: evaluate([cost], dict(zip(variables, at, strict=True)))[0], points)
    for s, n in zip(symbolic, numeric.gf, strict=True):
        assert s.shape == n.shape
        np.testing.assert_allclose(s, n, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_first_order(name: str) -> None:
    assert_gradient(*build(name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_order(name: str) -> None:
    variables, cost, points = build(name)
    gradients = grad(cost, variables)
    weighted = sum((g * RNG.normal(size=p.shape)).sum() for g, p in zip(gradients, points, strict=True))
    second = grad(weighted, variables, disconnected_inputs="ignore")
    symbolic = evaluate(second, dict(zip(variables, points, strict=True)))
    numeric = numeric_grad(lambda *at: evaluate([weighted], dict(zip(variables, at, strict=True)))[0], points)
    for s, n in zip(symbolic, numeric.gf, strict=True):
        np.testing.assert_allclose(s, n, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled(name: str) -> None:
    variables, cost, points = build(name)
    outputs = [cost, *grad(cost, variables)]
    compiled = function(variables, outputs)(*points)
    for got, expected in zip(
        compiled, evaluate(outputs, dict(zip(variables, points, strict=True))), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_third_order() -> None:
    x = T.dscalar("x")
    y = x**5 + T.exp(2 * x) + T.tanh(x)
    for _ in range(3):
        y = grad(y, x)
    t = np.tanh(0.3)
    tanh3 = (1 - t * t) * (6 * t * t - 2)
    assert evaluate([y], {x: 0.3})[0] == pytest.approx(60 * 0.3**2 + 8 * np.exp(0.6) + tanh3)


@pytest.mark.parametrize("name", PROGRAMS)
def test_product_with_the_jacobian_from_the_right(name: str) -> None:
    variables, cost, points = build(name)
    directions = [RNG.normal(size=p.shape) for p in points]
    forward = Rop(cost, variables, directions)
    at = dict(zip(variables, points, strict=True))
    dots = sum(
        (evaluate([g], at)[0] * d).sum() for g, d in zip(grad(cost, variables), directions, strict=True)
    )
    assert evaluate([forward], at)[0] == pytest.approx(dots, rel=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_hessian_times_vector(name: str) -> None:
    variables, cost, points = build(name)
    directions = [RNG.normal(size=p.shape) for p in points]
    products = evaluate(
        hessian_vector_product(cost, variables, directions), dict(zip(variables, points, strict=True))
    )
    gradients = grad(cost, variables)
    step = 1e-6
    above, below = (
        evaluate(
            gradients, {x: p + s * step * d for x, p, d in zip(variables, points, directions, strict=True)}
        )
        for s in (1, -1)
    )
    for product, up, down in zip(products, above, below, strict=True):
        np.testing.assert_allclose(product, (up - down) / (2 * step), rtol=1e-5, atol=1e-5)


# Jacobians -----------------------------------------------------------------------------------------------

VECTORS: dict[str, tuple[Callable[..., Tensor], list[np.ndarray[Any, Any]]]] = {
    "elementwise": (lambda x: T.exp(x) * x.sum(), [a(4)]),
    "linear": (lambda w, x: T.tanh(T.dot(w, x)), [a(3, 4), a(4)]),
    "left": (lambda w, x: T.dot(x, w) ** 2, [a(3, 4), a(3)]),
    "matrix": (lambda x, y: T.dot(T.exp(x), T.sin(y)), [a(2, 3), a(3, 4)]),
    "softmax": (lambda x: T.nnet.softmax(x), [a(3, 4)]),
    "reductions": (lambda x: x.max(axis=0) + x.prod(axis=0) + T.logsumexp(x, axis=0), [a(3, 4)]),
    "indexing": (lambda x: x[1:] * x[np.array([0, 0, 2])] + T.set_subtensor(x[::2], 0.0)[1:], [a(4)]),
    "apart": (lambda x: x[np.array([0, 1, 1]), :, np.array([1, 0, 1])] ** 2, [a(2, 3, 2)]),
    "layout": (lambda x: (x.T.reshape((2, 6)) ** 2).dimshuffle(1, "x", 0)[2], [a(3, 4)]),
    "stacked": (lambda x: T.stack([x[0] * x[1], x[2] ** 2, x.sum()]), [a(3)]),
    "running": (lambda x: T.cumprod(T.cumsum(x, axis=0), axis=1)[0] + T.roll(x, 1, axis=1)[0], [a(2, 3)]),
    "diagonal": (lambda x: T.diag(x) * T.diag(T.diag(x)).sum(axis=0), [a(3, 3)]),
    "padded": (lambda x: T.pad(x**2, 1)[1], [a(2, 3)]),
    "joined": (lambda x, y: T.concatenate([x * y[0], y**2]), [a(3), a(2)]),
}


@pytest.mark.parametrize("name", VECTORS)
def test_jacobian_of_unknown_size(name: str) -> None:
    make, points = VECTORS[name]
    variables = [TensorType("float64", (None,) * p.ndim)() for p in points]
    out = make(*variables)
    at = dict(zip(variables, points, strict=True))
    value, *jacobians = evaluate([out, *jacobian(out, variables)], at)
    for k, (got, point) in enumerate(zip(jacobians, points, strict=True)):
        assert got.shape == value.shape + point.shape
        for index in np.ndindex(point.shape):
            step = np.zeros(point.shape)
            step[index] = 1e-5
            up, down = (evaluate([out], {**at, variables[k]: point + s * step})[0] for s in (1, -1))
            np.testing.assert_allclose(got[(..., *index)], (up - down) / 2e-5, rtol=1e-6, atol=1e-6)


def test_jacobian_without_a_rule_takes_elements_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "dimshuffle")
    x = T.dvector("x")
    y = x * (x.dimshuffle("x", 0) ** 2)[0]
    with pytest.raises(
        VectorizeError, match=r"dimshuffle cannot be computed for a batch \(test_grad.py:\d+\)"
    ):
        vectorize([y], {x: T.dmatrix()})
    j = evaluate([jacobian(y, x)], {x: [1.0, 2.0, 3.0]})[0]
    np.testing.assert_allclose(j, np.diag([3.0, 12.0, 27.0]))


def test_second_derivatives_of_a_loop() -> None:
    """Of x ** (2 ** n) by squaring n times: no batch of loops, so the rows are computed one by one."""
    x, n = T.dvector("x"), T.lscalar("n")
    powers, _ = scan(lambda state: state**2, outputs_info=[x], n_steps=n)
    cost = powers[-1].sum() * x[0]
    at = {x: [0.9, 1.1, 1.3], n: 3}
    wanted = [hessian(cost, x), jacobian(powers, x)]
    h, j = evaluate(wanted, at)
    for got, reference in zip(function([x, n], wanted)(*at.values()), (h, j), strict=True):
        np.testing.assert_allclose(got, reference)
    v = np.array(at[x])
    expected = np.diag(56 * v**6 * v[0])
    expected[0] += 8 * v**7
    expected[:, 0] += 8 * v**7
    np.testing.assert_allclose(h, expected)
    np.testing.assert_allclose(j, [np.diag(2.0**k * v ** (2**k - 1)) for k in (1, 2, 3)])


def test_jacobian_is_shaped_as_its_variables() -> None:
    x = T.dvector()
    assert isinstance(jacobian(x * 2, x), Tensor)
    assert isinstance(jacobian(x * 2, [x]), list)
    assert isinstance(jacobian(x * 2, (x,)), tuple)
    assert jacobian(x.sum(), x).ndim == 1


def test_hessian() -> None:
    x = T.dvector("x")
    cost = (x**3).sum() + x[0] * x[1] ** 2
    h = evaluate([hessian(cost, x)], {x: [1.0, 2.0, 3.0]})[0]
    np.testing.assert_allclose(h, [[6, 4, 0], [4, 14, 0], [0, 0, 18]])


def test_hessian_of_a_linear_cost_is_zero() -> None:
    x = T.dvector("x")
    np.testing.assert_array_equal(evaluate([hessian((2 * x).sum(), x)], {x: [1.0, 2.0]})[0], np.zeros((2, 2)))


def test_products_with_jacobians_agree() -> None:
    x, v, u = T.dvector("x"), T.dvector("v"), T.dvector("u")
    y = T.exp(x) * x.sum()
    at = {x: a(4), v: a(4), u: a(4)}
    j, left, right = evaluate([jacobian(y, x), Lop(y, x, u), Rop(y, x, v)], at)
    np.testing.assert_allclose(left, at[u] @ j)
    np.testing.assert_allclose(right, j @ at[v])


def test_product_from_the_left_adds_up_dependent_outputs() -> None:
    x = T.dscalar("x")
    y = x * x
    z = 3 * y
    assert evaluate([Lop([y, z], x, [1.0, 10.0])], {x: 2.0})[0] == 4 + 10 * 12


def test_product_from_the_right_costs_a_constant_factor() -> None:
    from symtensor.graph import ancestors

    def count(length: int) -> int:
        x = T.dvector("x")
        y = x
        for _ in range(length):
            y = T.tanh(y) * x
        return len(ancestors([Rop(y, x, T.dvector("v"))]))

    assert count(80) < 2.2 * count(40)


# Shape of the graph --------------------------------------------------------------------------------------


def test_many_terms_are_added_as_a_balanced_tree() -> None:
    x = T.dvector("x")
    cost = sum(T.sin(x * float(k)) for k in range(64)).sum()
    g = grad(cost, x)
    depth: dict[Tensor, int] = {}
    from symtensor.graph import ancestors

    for node in ancestors([g]):
        depth[node] = 1 + max((depth[i] for i in node.inputs if node.op.name == "add"), default=0)
    assert depth[g] <= 8


def test_no_casts_or_sums_without_need() -> None:
    from symtensor.graph import ancestors

    x, y = T.fmatrix("x"), T.fmatrix("y")
    nodes = ancestors([*grad((x * y).sum(), [x, y])])
    assert {node.op.name for node in nodes} <= {
        "input",
        "constant",
        "mul",
        "broadcast_to",
        "dim",
        "dimshuffle",
    }


def test_gradient_nodes_have_the_line_of_their_forward_node() -> None:
    x = T.dvector("x")
    y = T.exp(x)
    line = y.site
    (g,) = grad(y.sum(), [x])
    assert g.site == line
