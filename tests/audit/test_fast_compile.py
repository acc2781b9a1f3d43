"""The quick mode leaves out what makes code faster, not what makes values right."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, shared


@pytest.mark.parametrize("mode", ["fast_run", "fast_compile"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_logistic_regression_is_finite(mode: str, dtype: str) -> None:
    x, y = T.matrix("x", dtype=dtype), T.vector("y", dtype=dtype)
    w, b = shared(np.full(2, 500, dtype), name="w"), shared(np.zeros((), dtype), name="b")
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    cost = (-y * T.log(p_1) - (1 - y) * T.log(1 - p_1)).mean()
    step = function([x, y], [cost, *grad(cost, [w, b])], mode=mode)
    rows = np.array([[1, 1], [-1, -1]], dtype)  # logits of +1000 and -1000
    loss, gw, gb = step(rows, np.array([0, 1], dtype))
    assert loss == 1000
    np.testing.assert_allclose(gw, [1, 1])
    np.testing.assert_allclose(gb, 0, atol=1e-7)
