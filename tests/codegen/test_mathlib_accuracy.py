"""The stated error bounds of the mathematical functions hold, in the code that LLVM makes of them."""

from typing import Any

import numpy as np
import pytest

from mathlib_tools import accuracy, native

KINDS = ("float32", "float64")
every_case = pytest.mark.parametrize("case", accuracy.CASES, ids=str)
both_formats = pytest.mark.parametrize("kind", KINDS)


@both_formats
@every_case
def test_error_is_within_the_bound(case: accuracy.Case, kind: str) -> None:
    worst, where = accuracy.measured(case, kind, 2000)
    assert worst <= case.bound(kind), f"{case.name}{where} is {worst:.3f} ulp off"


@pytest.mark.slow
@both_formats
@every_case
def test_error_is_within_the_bound_on_many_arguments(case: accuracy.Case, kind: str) -> None:
    worst, where = accuracy.measured(case, kind, 8000, seed=1)
    assert worst <= case.bound(kind), f"{case.name}{where} is {worst:.3f} ulp off"


@every_case
def test_one_element_alone_is_computed_as_in_a_vector(case: accuracy.Case) -> None:
    arguments = case.samples("float64", 60)
    kinds = ["float64"] * len(arguments)
    alone = native.NativeFunction(case.name, *kinds, vectors=False)(*arguments)
    np.testing.assert_array_equal(native.NativeFunction(case.name, *kinds)(*arguments), alone)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@both_formats
def test_circular_functions_beside_multiples_of_half_pi(name: str, kind: str) -> None:
    case = next(case for case in accuracy.CASES if case.name == name)
    rng = np.random.default_rng(0)
    turns = rng.integers(1, 2**16 if kind == "float32" else 2**26, 500)
    beside = (turns * (np.pi / 2)).astype(kind)
    # The float64 and the float32 nearest to a multiple of pi/2 (Kahan; J.-M. Muller, Elementary Functions).
    hardest = {"float64": 6381956970095103 * 2.0**797, "float32": 16367173 * 2.0**72}[kind]
    ends = np.array([hardest, np.finfo(kind).max, 2.0**17, 2.0**28, 2.0**28 + 1], kind)
    arguments = (np.concatenate([beside, -beside, ends]),)
    results = native.NativeFunction(name, kind)(*arguments)
    assert accuracy.errors(case, kind, arguments, results).max() <= case.bound(kind)


@pytest.mark.parametrize(("name", "kind", "base"), [("log2", k, 2) for k in KINDS] + [("log10", k, 10) for k in KINDS])
def test_logarithms_of_powers_are_whole(name: str, kind: str, base: int) -> None:
    steps = {
        ("float32", 2): (-149, 128),
        ("float64", 2): (-1074, 1024),
        ("float32", 10): (0, 11),
        ("float64", 10): (0, 23),
    }
    low, high = steps[kind, base]
    whole = np.arange(low, high)
    powers = np.array([float(base**k) if k >= 0 else 2.0**k for k in whole.tolist()], kind)
    np.testing.assert_array_equal(native.NativeFunction(name, kind)(powers), whole.astype(kind))


def test_exp2_of_whole_numbers_is_exact() -> None:
    whole = np.arange(-1074.0, 1024.0)
    np.testing.assert_array_equal(native.NativeFunction("exp2", "float64")(whole), np.ldexp(1.0, whole.astype(int)))


def test_float16_is_rounded_once_from_float32() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    every: np.ndarray[Any, Any] = bits.view(np.float16)
    for name in ("exp", "log", "tanh", "sigmoid", "arcsinh"):
        half = native.NativeFunction(name, "float16")(every)
        single = native.NativeFunction(name, "float32")(every.astype(np.float32))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(half, single.astype(np.float16))
