"""Every NumPy ufunc has a counterpart in ``symtensor.tensor``: the same types, and the same values when compiled."""

import itertools
import warnings

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor.graph import variable
from symtensor.types import TensorType
from symtensor_codegen.errors import DTypeError

UFUNCS = {name: f for name, f in vars(np).items() if isinstance(f, np.ufunc) and f.signature is None}
ABSENT = {"isnat"}  # of dates
TYPES = ("bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "complex64")
PAIRS = tuple(itertools.product(("bool", "int8", "int64", "uint64", "float32", "complex64"), repeat=2))
OF_NO_ORDER = {"fmax", "fmin", "greater", "greater_equal", "less", "less_equal", "maximum", "minimum"}
# Where we differ, and why.
OURS = {
    ("reciprocal", "biu"): "Theano's is in floating point; NumPy's of integers is 0 nearly everywhere",
    ("conj", "b"): "a bool is its own conjugate, NumPy makes it an int8",
    ("conjugate", "b"): "a bool is its own conjugate, NumPy makes it an int8",
    ("positive", "b"): "NumPy refuses it",
}


def operands(types: tuple[str, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    found = []
    for k, name in enumerate(types):
        kind = np.dtype(name).kind
        if kind == "b":
            found.append(rng.random(9) < 0.5)
        elif kind in "iu":
            found.append(rng.integers(-5 if kind == "i" and k == 0 else 0, 6, 9).astype(name))
        else:
            values = rng.uniform(0.1, 0.9, 9)
            found.append((values + 1j * rng.uniform(0.1, 0.9, 9) if kind == "c" else values).astype(name))
    return found


def numpys(function: np.ufunc, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = function(*arrays)
        except (TypeError, ValueError):
            return None
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("name", [n for n in UFUNCS if n not in ABSENT])
def test_ufunc(name: str) -> None:
    function, ours = UFUNCS[name], getattr(T, name)
    kinds = [(one,) for one in TYPES] if function.nin == 1 else PAIRS
    inputs, outputs, given, wanted = [], [], [], []
    for types in kinds:
        if any(name == known and np.dtype(types[0]).kind in letters for known, letters in OURS):
            continue
        if name in OF_NO_ORDER and "complex64" in types:
            with pytest.raises(DTypeError, match="complex"):
                ours(*[variable(TensorType(t, (None,))) for t in types])
            continue
        arrays = operands(types)
        want = numpys(function, arrays)
        variables = [variable(TensorType(a.dtype, (None,))) for a in arrays]
        if want is None:
            continue
        found = ours(*variables)
        found = found if isinstance(found, tuple) else (found,)
        assert [f.dtype for f in found] == [w.dtype.name for w in want], types
        inputs += variables
        outputs += found
        given += arrays
        wanted += want
    compiled = symtensor.function(inputs, outputs, on_unused_input="ignore")
    for got, want in zip(compiled(*given), wanted, strict=True):
        assert got.dtype == want.dtype
        tolerance = 32 * np.finfo(want.dtype).eps if want.dtype.kind in "fc" else 0
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [n for n in UFUNCS if n not in ABSENT and n not in ("conj", "conjugate")])
def test_numpys_functions_build_expressions(name: str) -> None:
    x = T.lvector("x") if "bit" in name or "shift" in name or name in ("gcd", "lcm", "invert") else T.dvector("x")
    arguments = [x] * UFUNCS[name].nin
    if name == "ldexp":
        arguments[1] = T.lvector("n")
    assert UFUNCS[name](*arguments) == getattr(T, name)(*arguments)


def test_two_results() -> None:
    x = T.dvector("x")
    values = np.array([2.5, -2.5, 0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308])
    results = symtensor.function([x], [*T.modf(x), *T.frexp(x), T.spacing(x)])(values)
    with np.errstate(all="ignore"):
        for got, want in zip(results, (*np.modf(values), *np.frexp(values), np.spacing(values)), strict=True):
            np.testing.assert_array_equal(got, want)
            if want.dtype.kind == "f":
                np.testing.assert_array_equal(np.signbit(got[:4]), np.signbit(want[:4]))


def test_products_of_vectors_and_matrices() -> None:
    rng = np.random.default_rng(1)
    matrices, vectors = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4))
    rows = rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))
    a, b, c = T.dtensor3("a"), T.dmatrix("b"), T.zmatrix("c")
    compiled = symtensor.function([a, b, c], [T.matvec(a, b), T.vecmat(c, a), T.vecdot(b, b), T.vecdot(c, c)])
    wanted = [
        np.einsum("kij,kj->ki", matrices, vectors),
        np.einsum("ki,kij->kj", rows.conj(), matrices),
        np.sum(vectors * vectors, -1),
        np.sum(rows.conj() * rows, -1),
    ]
    for got, want in zip(compiled(matrices, vectors, rows), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


# Comparisons -----------------------------------------------------------------------------------------------

COMPARE = (T.eq, T.neq, T.lt, T.le, T.gt, T.ge)
NUMPY = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)


@pytest.mark.parametrize(("dtype", "number"), [
    ("uint8", 300), ("uint8", -1), ("int8", 128), ("int8", -129), ("int64", 2**63), ("uint64", -1),
    ("uint64", 2**64), ("int64", -(2**70)), ("int32", 2**31),
])  # fmt: skip
def test_comparison_with_a_number_out_of_range(dtype: str, number: int) -> None:
    x = variable(TensorType(dtype, (None,)))
    value = np.array([0, 1, 1, 0]).astype(dtype)
    compiled = symtensor.function([x], [c(x, number) for c in COMPARE] + [c(number, x) for c in COMPARE])
    wanted = [c(value, number) for c in NUMPY] + [c(number, value) for c in NUMPY]
    np.testing.assert_array_equal(compiled(value), wanted)


def test_signed_and_unsigned_compare_exactly() -> None:
    a, b = T.lvector("a"), variable(TensorType("uint64", (None,)))
    left = np.array([-1, 2**63 - 1, 2**63 - 1, 0, -(2**63)])
    right = np.array([2**64 - 1, 2**63, 2**63 - 1, 0, 2**63], np.uint64)
    compiled = symtensor.function([a, b], [c(a, b) for c in COMPARE] + [c(b, a) for c in COMPARE])
    wanted = [c(left, right) for c in NUMPY] + [c(right, left) for c in NUMPY]
    np.testing.assert_array_equal(compiled(left, right), wanted)


def test_bools_count_where_numpy_counts_them() -> None:
    p = variable(TensorType("bool", (None,)), "p")
    value = np.array([True, False])
    shifts = (lambda v: v << 1, lambda v: v << v)
    for build in (lambda v: v**2, lambda v: v**3, lambda v: v**v, lambda v: v // v, lambda v: v % v, *shifts):
        with np.errstate(all="ignore"):
            want = build(value)
        got = build(p).eval({p: value})
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
