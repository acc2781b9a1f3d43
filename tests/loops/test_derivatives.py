"""Derivatives of loops in every direction, against finite differences and against each other."""

from collections.abc import Callable

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import Rop, function, scan
from symtensor.gradient import hessian, jacobian, verify_grad
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse


def _recurrence(x: Tensor) -> Tensor:
    return scan(lambda v, a, b: T.tanh(a * v) + T.sin(b), x, {"initial": x[:2] * 0.5, "taps": [-2, -1]})[0]


def _backwards(x: Tensor) -> Tensor:
    return scan(lambda v, s: s * T.cos(v) + x.sum(), x, x[0], go_backwards=True)[0]


def _fori(x: Tensor) -> Tensor:
    return symtensor.fori_loop(0, 3, lambda i, s: T.sin(s) * (i + 1) + x, x)


def _prefixes(x: Tensor) -> Tensor:
    return symtensor.associative_scan(lambda a, b: a * b, T.sin(x) + 2)


def _lazy(x: Tensor) -> Tensor:
    return scan(lambda v, s: ifelse(v > 0.1, s * v, T.sin(s)), x, T.constant(1.0))[0]


PROGRAMS = pytest.mark.parametrize("program", [_recurrence, _backwards, _fori, _prefixes, _lazy])
POINT, DIRECTION = np.array([0.3, -0.7, 1.1, 0.5]), np.array([1.0, 0.5, -2.0, 0.25])


@PROGRAMS
def test_gradient_against_finite_differences(program: Callable[[Tensor], Tensor]) -> None:
    verify_grad(lambda x: program(x).sum(), [POINT], rng=np.random.default_rng(0))
    verify_grad(lambda x: T.grad((program(x) ** 2).sum(), x), [POINT], rng=np.random.default_rng(0))


@PROGRAMS
def test_products_with_the_jacobian_and_hessian_agree(program: Callable[[Tensor], Tensor]) -> None:
    x, v = T.dvector("x"), T.dvector("v")
    y = program(x)
    cost = (y**2).sum()
    slope = T.grad(cost, x)
    f = function([x, v], [jacobian(y, x), Rop(y, x, v), hessian(cost, x), Rop(slope, x, v), slope, y])
    matrix, along, curve, bent, g, value = f(POINT, DIRECTION)
    np.testing.assert_allclose(matrix @ DIRECTION, along, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curve @ DIRECTION, bent, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curve, curve.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(2 * value @ matrix, g, rtol=1e-9, atol=1e-12)
