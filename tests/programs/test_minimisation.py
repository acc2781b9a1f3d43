"""SciPy's optimisers drive compiled functions."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function


def test_rosenbrock_with_lbfgs() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x = T.dvector("x")
    a, b = x[:-1], x[1:]
    value = (100 * (b - a * a) ** 2 + (1 - a) ** 2).sum()
    both = function([x], [value, T.grad(value, x)])
    start = np.tile([-1.2, 1.0], 10)
    expected_value, expected_slope = optimize.rosen(start), optimize.rosen_der(start)
    np.testing.assert_allclose(both(start)[0], expected_value, rtol=1e-13)
    np.testing.assert_allclose(both(start)[1], expected_slope, rtol=1e-12, atol=1e-11)
    found = optimize.minimize(lambda v: both(v), start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    assert found.success
    np.testing.assert_allclose(found.x, np.ones(20), atol=1e-3)
    assert found.nfev < 200


def test_rosenbrock_with_newtons_method() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x, v = T.dvector("x"), T.dvector("v")
    a, b = x[:-1], x[1:]
    value = (100 * (b - a * a) ** 2 + (1 - a) ** 2).sum()
    slope = T.grad(value, x)
    times = function([x, v], T.grad((slope * v).sum(), x, consider_constant=[v]))
    point, direction = np.linspace(-1, 2, 8), np.linspace(3, -1, 8)
    np.testing.assert_allclose(times(point, direction), optimize.rosen_hess(point) @ direction, rtol=1e-11)
    hessian = function([x], T.hessian(value, x))
    np.testing.assert_allclose(hessian(point), optimize.rosen_hess(point), rtol=1e-11, atol=1e-9)
    found = optimize.minimize(
        function([x], value), np.zeros(8), jac=function([x], slope), hessp=times, method="Newton-CG", tol=1e-9
    )
    np.testing.assert_allclose(found.x, np.ones(8), atol=1e-5)
