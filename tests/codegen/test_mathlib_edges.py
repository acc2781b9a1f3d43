"""Functions at NaN, infinities, zeros, subnormal numbers and the ends of their domains: as in C99."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mathlib_tools.native import Array, NativeFunction

INF, NAN = math.inf, math.nan
KINDS = ("float32", "float64")


def softplus(x: Array) -> Array:
    return np.logaddexp(np.zeros_like(x), x)


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (e + 1)


def from_math(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.array([function(v) for v in x.tolist()], x.dtype)


UNARY: dict[str, Callable[[Array], Array]] = {
    "erf": from_math(math.erf),
    "erfc": from_math(math.erfc),
    "sigmoid": sigmoid,
    "softplus": softplus,
} | {
    name: getattr(np, name)
    for name in [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "arcsinh",
        "arccosh",
        "arctanh",
        "cbrt",
    ]
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "pow": np.power,
    "arctan2": np.arctan2,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
}


def special_numbers(kind: str) -> Array:
    """Numbers where a function may go wrong, in both signs."""
    info = np.finfo(kind)
    tiny, least, most = float(info.smallest_subnormal), float(info.smallest_normal), float(info.max)
    sizes = [
        0.0,
        tiny,
        3 * tiny,
        least / 2,
        least,
        1e-20,
        float(info.eps),
        0.5,
        1.0,
        1.5,
        2.0,
        3.0,
        7.0,
        1e10,
        most / 2,
        most,
    ]
    sizes += [float(np.nextafter(np.array(1, kind), np.array(end, kind))) for end in (0, 2)]
    return np.array([*sizes, *(-size for size in sizes), INF, -INF, NAN], kind)


def assert_same(results: Array, expected: Array, what: list[Any], sizes: Array | None = None) -> None:
    """Both NaN, or equal with the same sign, or ordinary and a few units (of value or size) apart."""
    units = np.spacing(np.abs(expected) if sizes is None else np.maximum(np.abs(expected), sizes))
    for result, value, arguments, unit in zip(results, expected, what, units, strict=True):
        if np.isnan(value):
            assert np.isnan(result), (arguments, result, value)
        elif np.isinf(value) or (value == 0 and sizes is None):
            assert result == value, (arguments, result, value)
            assert np.signbit(result) == np.signbit(value), (arguments, result, value)
        else:
            assert abs(result - value) <= 5 * unit, (arguments, result, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_arguments(name: str, kind: str) -> None:
    x = special_numbers(kind)
    assert_same(NativeFunction(name, kind)(x), UNARY[name](x), x.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_pairs(name: str, kind: str) -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(special_numbers(kind), special_numbers(kind)))
    finite = np.where(np.isfinite(x), np.abs(x), 0), np.where(np.isfinite(y), np.abs(y), 0)
    sizes = np.maximum(*finite) if name.startswith("logadd") else None  # the sum may cancel
    assert_same(NativeFunction(name, kind, kind)(x, y), BINARY[name](x, y), list(zip(x, y, strict=True)), sizes)


# Function, format, the last argument before the result overflows or becomes zero, what it then becomes.
LIMITS = [
    ("exp", "float64", 709.782712893384, INF),
    ("exp", "float64", -745.1332191019411, 0.0),
    ("exp", "float32", 88.72283, INF),
    ("exp", "float32", -103.97207641601562, 0.0),
    ("exp2", "float64", np.nextafter(1024.0, 0.0), INF),
    ("exp2", "float64", -1074.9999999999998, 0.0),
    ("expm1", "float64", 709.782712893384, INF),
    ("expm1", "float32", 88.72283, INF),
    ("sinh", "float64", 710.4758600739439, INF),
    ("sinh", "float32", 89.41598510742188, INF),
    ("cosh", "float64", 710.4758600739439, INF),
    ("cosh", "float32", 89.41598510742188, INF),
    ("erfc", "float64", 27.226017111108362, 0.0),
    ("erfc", "float32", 10.054194450378418, 0.0),
]


@pytest.mark.parametrize(("name", "kind", "last", "beyond"), LIMITS)
def test_overflow_and_underflow_begin_where_they_should(name: str, kind: str, last: float, beyond: float) -> None:
    inner = np.array(last, kind)
    outer = np.nextafter(inner, np.array(math.copysign(INF, last), kind))
    at_last, after = NativeFunction(name, kind)(np.array([inner, outer], kind))
    assert 0 < at_last < INF
    assert after == beyond


def test_saturated_values() -> None:
    for kind in KINDS:
        x = np.array([1000, -1000], kind)
        np.testing.assert_array_equal(NativeFunction("softplus", kind)(x), [1000, 0])
        np.testing.assert_array_equal(NativeFunction("sigmoid", kind)(x), [1, 0])
        np.testing.assert_array_equal(NativeFunction("tanh", kind)(x), [1, -1])
        np.testing.assert_array_equal(NativeFunction("erf", kind)(x), [1, -1])


def test_small_results_are_not_lost() -> None:
    x = np.array([-720.0, -744.0, -1e-300, 5e-324])
    np.testing.assert_allclose(NativeFunction("sigmoid", "float64")(x)[:2], np.exp(x[:2]), rtol=1e-9, atol=5e-324)
    for name in ("expm1", "log1p", "sin", "tan", "arcsin", "arctan", "sinh", "tanh", "arcsinh", "arctanh"):
        np.testing.assert_array_equal(NativeFunction(name, "float64")(x)[2:], x[2:])
