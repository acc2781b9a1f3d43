"""Functions with exact results: remainders, floor division, powers and divisors of integers, neighbours."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from mathlib_tools.native import Array, NativeFunction

FLOATS = ("float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
EDGES = [0.0, 1.0, 0.5, 2.0, 3.0, 7.0, 0.1, 2.5, 1e10, 9007199254740993.0, math.inf, math.nan]


def pairs(kind: str, count: int = 3000) -> tuple[Array, Array]:
    """Pairs of every size, small and whole ones, and every pair of the edges."""
    rng = np.random.default_rng(0)
    info = np.finfo(kind)
    sizes = 2.0 ** rng.uniform(float(np.log2(float(info.smallest_subnormal))), float(info.maxexp), (2, count))
    small = rng.uniform(-100, 100, (2, count))
    everything = [sizes * rng.choice((-1, 1), sizes.shape), small, np.rint(small)]
    edges = [*EDGES, *(-edge for edge in EDGES), float(info.max), float(info.smallest_subnormal)]
    everything.append(np.array([grid.ravel() for grid in np.meshgrid(edges, edges)]))
    x, y = np.concatenate(everything, axis=1).astype(kind)
    return x, y


def assert_identical(results: Array, expected: Array) -> None:
    np.testing.assert_array_equal(results, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(results[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize(("name", "reference"), [("fmod", np.fmod), ("mod", np.mod), ("nextafter", np.nextafter)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_equals_numpy(name: str, reference: Callable[[Array, Array], Array], kind: str) -> None:
    x, y = pairs(kind)
    assert_identical(NativeFunction(name, kind, kind)(x, y), reference(x, y))


@pytest.mark.parametrize("kind", FLOATS)
def test_floor_division_is_exact_while_the_quotient_is_representable(kind: str) -> None:
    x, y = pairs(kind)
    ordinary = np.isfinite(x) & np.isfinite(y) & (y != 0)
    x, y = x[ordinary], y[ordinary]
    results = NativeFunction("floordiv", kind, kind)(x, y)
    info = np.finfo(kind)
    for a, b, result in zip(x.tolist(), y.tolist(), results.tolist(), strict=True):
        exact = math.floor(Fraction(a) / Fraction(b))
        if abs(exact) < 2**info.nmant:
            assert result == exact
        elif abs(exact) < int(float(info.max)):
            assert abs(Fraction(result) - exact) <= abs(exact) * Fraction(2) ** -info.nmant


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_floor_division_at_zeros_and_infinities_is_numpys(kind: str) -> None:
    edges = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, math.inf, -math.inf, math.nan], kind)
    x, y = (grid.ravel() for grid in np.meshgrid(edges, edges))
    assert_identical(NativeFunction("floordiv", kind, kind)(x, y), np.floor_divide(x, y))


@pytest.mark.parametrize(("kind", "exponents"), [("float32", "int32"), ("float64", "int64"), ("float64", "int8")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ldexp_rounds_once(kind: str, exponents: str) -> None:
    x, _ = pairs(kind)
    limits = np.iinfo(exponents)
    steps = np.random.default_rng(0).integers(max(-2300, limits.min), min(2300, limits.max), x.size).astype(exponents)
    assert_identical(NativeFunction("ldexp", kind, exponents)(x, steps), np.ldexp(x, steps.astype(np.int32)))


def test_neighbours_of_every_float16() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for toward in (math.inf, -math.inf, 0.0, math.nan):
        end = np.full_like(every, toward)
        with np.errstate(all="ignore"):
            expected = np.nextafter(every, end)
        np.testing.assert_array_equal(NativeFunction("nextafter", "float16", "float16")(every, end), expected)


def integer_pairs(kind: str) -> tuple[Array, Array]:
    info = np.iinfo(kind)
    rng = np.random.default_rng(0)
    x, y = rng.integers(info.min, info.max, (2, 600), dtype=kind, endpoint=True)
    x[:20], y[10:30], x[30] = 0, 0, info.min
    common = rng.integers(1, int(info.max**0.5), 300).astype(kind)
    x[300:], y[300:] = x[300:] // common * common, y[300:] // common * common
    worst = [1, 2]  # the quotients that Euclid's algorithm with least remainders takes the most steps for
    while 2 * worst[-1] + worst[-2] <= info.max:
        worst.append(2 * worst[-1] + worst[-2])
    x[31:33], y[31:33] = worst[-1], worst[-2:]
    return x, y


@pytest.mark.parametrize("kind", INTEGERS)
def test_greatest_common_divisor(kind: str) -> None:
    x, y = integer_pairs(kind)
    np.testing.assert_array_equal(NativeFunction("gcd", kind, kind)(x, y), np.gcd(x, y))


@pytest.mark.parametrize("kind", INTEGERS)
def test_integer_powers_wrap(kind: str) -> None:
    x, y = integer_pairs(kind)
    exponents = np.where(y > 0, y, 0).astype(kind)
    exponents[:400] %= 12
    bits = np.iinfo(kind).bits
    wanted = [pow(a, b, 2**bits) for a, b in zip(x.tolist(), exponents.tolist(), strict=True)]
    expected = np.array(wanted, np.uint64).astype(kind)
    np.testing.assert_array_equal(NativeFunction("pow", kind, kind)(x, exponents), expected)


def test_negative_powers_of_integers_are_rounded_toward_zero() -> None:
    x = np.array([1, -1, -1, 2, 0, 2**63 - 1, 3, -1])
    y = np.array([-3, -3, -2, -1, -1, -2, -(2**63), -(2**63)])
    np.testing.assert_array_equal(NativeFunction("pow", "int64", "int64")(x, y), [1, -1, 1, 0, 0, 0, 0, 1])
