"""Updates for training against their formulas written in NumPy, on a quadratic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor.nnet import updates as train
from symtensor.updates import OrderedUpdates

CURVATURE = np.array([1.0, 3.0, 0.5])
START = np.array([2.0, -1.0, 0.5])
STEPS = 6


def compiled(method: Callable[..., OrderedUpdates], dtype: str = "float64", **numbers: Any) -> list[np.ndarray]:
    p = symtensor.shared(START.astype(dtype), "p")
    loss = T.sum(T.constant(CURVATURE.astype(dtype)) * p**2) / 2
    step = symtensor.function([], loss, updates=method(loss, [p], **numbers))
    path = []
    for _ in range(STEPS):
        step()
        path.append(p.get_value())
    assert path[-1].dtype == dtype
    return path


def sgd(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    return -0.1 * g


def momentum(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["v"] = 0.8 * state.get("v", 0) - 0.1 * g
    return state["v"]


def nesterov_momentum(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["v"] = 0.8 * state.get("v", 0) - 0.1 * g
    return 0.8 * state["v"] - 0.1 * g


def adagrad(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["s"] = state.get("s", 0) + g**2
    return -0.1 * g / np.sqrt(state["s"] + 1e-6)


def rmsprop(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["s"] = 0.7 * state.get("s", 0) + 0.3 * g**2
    return -0.1 * g / np.sqrt(state["s"] + 1e-6)


def adadelta(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["s"] = 0.7 * state.get("s", 0) + 0.3 * g**2
    change = g * np.sqrt(state.get("d", 0) + 1e-6) / np.sqrt(state["s"] + 1e-6)
    state["d"] = 0.7 * state.get("d", 0) + 0.3 * change**2
    return -0.1 * change


def adam(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
    state["v"] = 0.95 * state.get("v", 0) + 0.05 * g**2
    rate = 0.1 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t)
    return -rate * state["m"] / (np.sqrt(state["v"]) + 1e-8)


def adamax(g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
    state["u"] = np.maximum(0.95 * state.get("u", 0), np.abs(g))
    return -0.1 / (1 - 0.8**t) * state["m"] / (state["u"] + 1e-8)


NUMBERS = {
    sgd: {},
    momentum: {"momentum": 0.8},
    nesterov_momentum: {"momentum": 0.8},
    adagrad: {},
    rmsprop: {"rho": 0.7},
    adadelta: {"rho": 0.7},
    adam: {"beta1": 0.8, "beta2": 0.95},
    adamax: {"beta1": 0.8, "beta2": 0.95},
}


@pytest.mark.parametrize("formula", NUMBERS, ids=lambda f: f.__name__)
def test_path_is_that_of_the_formula(formula: Callable[..., np.ndarray]) -> None:
    method, numbers = getattr(train, formula.__name__), {"learning_rate": 0.1, **NUMBERS[formula]}
    p, state = START.copy(), {}
    path = compiled(method, **numbers)
    single = compiled(method, "float32", **numbers)
    for t in range(STEPS):
        p = p + formula(CURVATURE * p, state, t + 1)
        np.testing.assert_allclose(path[t], p, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(single[t], p, rtol=1e-4, atol=1e-6)


def test_rate_may_be_a_shared_variable_of_another_type() -> None:
    rate = symtensor.shared(np.float64(0.1))
    p = symtensor.shared(START.astype("float32"))
    step = symtensor.function([], updates=train.adam(T.sum(p**2), [p], rate))
    step()
    rate.set_value(0.0)
    before = p.get_value()
    step()
    assert p.get_value().dtype == np.float32
    assert np.array_equal(p.get_value(), before)
    assert np.allclose(before, START - 0.1 * np.sign(START), atol=1e-5)


def test_gradients_may_be_given() -> None:
    p, q = symtensor.shared(1.0), symtensor.shared(2.0)
    made = train.sgd([p * 0 + 3.0, q], [p, q], 0.5)
    symtensor.function([], updates=made)()
    assert (float(p.get_value()), float(q.get_value())) == (-0.5, 1.0)


def test_norms_are_constrained() -> None:
    w = np.array([[3.0, 0.3], [4.0, 0.4]])
    one = train.norm_constraint(T.constant(w), 1.0).eval()
    assert np.allclose(one, [[0.6, 0.3], [0.8, 0.4]], rtol=1e-6)
    scaled, norm = train.total_norm_constraint([T.constant(w), T.constant(np.zeros(3))], 1.0, return_norm=True)
    assert np.isclose(norm.eval(), np.sqrt(25.25))
    assert np.allclose(scaled[0].eval(), w / np.sqrt(25.25))
    same = train.total_norm_constraint([T.constant(w)], 100.0)
    assert np.allclose(same[0].eval(), w, rtol=1e-6)


def test_bad_arguments() -> None:
    p = symtensor.shared(1.0)
    with pytest.raises(TypeError, match="params must be shared variables"):
        train.sgd(p**2, [p * 2], 0.1)
    with pytest.raises(ValueError, match="there are 1 gradients for 2 parameters"):
        train.sgd([p], [p, symtensor.shared(2.0)], 0.1)
    with pytest.raises(ValueError, match="norm_axes must be given"):
        train.norm_constraint(T.constant(np.ones(3)), 1.0)
