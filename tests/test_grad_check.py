"""The check of gradients against differences, and that it finds what is wrong."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.gradient import GradientError, GradientMismatchError, numeric_grad, verify_grad
from symtensor.opdef import OPS, OpDef, elementwise
from symtensor_codegen.errors import DTypeError


@pytest.fixture
def wrong() -> Iterator[OpDef]:
    """``x * x`` with a gradient that forgets the factor 2 where x is above 1."""
    yield elementwise(
        "test_wrong_square", doc="", scalar=lambda x: x * x, numpy=lambda x: x * x, arity=1,
        gradient=lambda g, x, out: (g * x * T.switch(x > 1, 1.0, 2.0),),
    )  # fmt: skip
    del OPS["test_wrong_square"]


def test_numeric_gradient() -> None:
    point = np.array([1.0, 2.0]), np.array([[3.0]])
    numeric = numeric_grad(lambda x, y: (x**2).sum() * y[0, 0], point)
    np.testing.assert_allclose(numeric.gf[0], [6, 12], rtol=1e-8)
    np.testing.assert_allclose(numeric.gf[1], [[5]], rtol=1e-8)
    np.testing.assert_allclose(numeric_grad(lambda x: x.sum(), np.ones(2, np.float32)).gf, [1, 1], rtol=1e-4)


def test_worst_element() -> None:
    numeric = numeric_grad(lambda x, y: x.sum() + y.sum(), [np.ones(2), np.ones((2, 2))])
    argument, index, absolute, relative = numeric.max_err(
        [np.ones(2), np.array([[1.0, 1.5], [1.1, 1]])], 1e-6, 1e-6
    )
    assert (argument, index) == (1, (0, 1))
    assert absolute == pytest.approx(0.5)
    assert relative == pytest.approx(0.2)
    assert numeric.max_err([np.array([1.0, np.nan]), np.ones((2, 2))], 1.0, 1.0)[:2] == (0, (1,))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"the gradient has shape \(3,\), its variable \(2,\)"):
        numeric_grad(lambda x: x.sum(), np.ones(2)).abs_rel_errors(np.ones(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_gradients_pass(dtype: str) -> None:
    rng = np.random.default_rng(0)
    points = [rng.normal(size=(3, 1)).astype(dtype), rng.normal(size=(1, 2)).astype(dtype)]
    verify_grad(lambda x, y: T.tanh(x * y) / (1 + y * y), points, rng=rng)


def test_wrong_gradients_are_found(wrong: OpDef) -> None:
    verify_grad(wrong, [np.array([0.5, -1.0])])
    with pytest.raises(GradientMismatchError, match=r"argument 0 at index \(1,\) is .*\(allowed 1e-05\)"):
        verify_grad(wrong, [np.array([0.5, 1.5])])
    assert issubclass(GradientMismatchError, GradientError)
    assert verify_grad.E_grad is GradientMismatchError  # type: ignore[attr-defined]


def test_tolerances_can_be_given(wrong: OpDef) -> None:
    verify_grad(wrong, [np.array([1.5])], rel_tol=0.9)
    verify_grad(wrong, [np.array([1.5])], abs_tol=10.0)


def bad(kind: str) -> Any:
    if kind == "integers":
        return verify_grad(T.exp, [np.arange(3)])
    if kind == "integer_result":
        return verify_grad(lambda x: x.argmax(), [np.ones(3)])
    return numeric_grad(lambda x: x.sum(), np.arange(3))


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("integers", DTypeError, "verify_grad: point 0 must be floating point, got int64"),
        ("integer_result", TypeError, "the function must return a floating-point expression"),
        ("numeric", DTypeError, "numeric_grad: points must be floating point, got int64"),
    ],
)
def test_errors(kind: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bad(kind)
