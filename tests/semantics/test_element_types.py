"""Points 9 to 13 of Theano's semantics: element types, of compiled results, under both policies.

NumPy 2's rule is the default; ``config.cast_policy = "theano"`` gives Theano's own.
"""

from collections.abc import Iterator

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function
from symtensor.apply import explicit_inputs
from symtensor.graph import Tensor


@pytest.fixture
def theano() -> Iterator[None]:
    with config.change(cast_policy="theano", floatX="float32"):
        yield


def types_of(expressions: list[Tensor]) -> list[str]:
    """The element types inferred, which compiled results must have too."""
    inferred = [e.dtype for e in expressions]
    inputs = explicit_inputs(expressions)
    results = function(inputs, expressions)(*[VALUES[str(x.name)] for x in inputs])
    assert [str(r.dtype) for r in results] == inferred
    return inferred


def operands() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return T.bvector("b"), T.ivector("i"), T.lvector("l"), T.fvector("f")


VALUES: dict[str, np.ndarray] = {
    "b": np.array([1, 2], "int8"), "i": np.array([3, 4], "int32"), "l": np.array([5, 6]),
    "f": np.array([7, 8], "float32"), "c": np.array(1.0), "v": np.array([1.0, 2.0]),
}  # fmt: skip


@pytest.mark.usefixtures("theano")
def test_09_theanos_integers_beside_floats() -> None:
    b, i, n, f = operands()
    made = [b + f, i + f, n + f, i * 1.0, f + 2.0, f * np.pi, f + np.float64(2), T.dot(i, f)]
    assert types_of(made) == [
        "float32", "float64", "float64", "float64", "float32", "float32", "float64", "float64"
    ]  # fmt: skip
    with config.change(floatX="float64"):
        assert types_of([f * np.pi, f + 2.0]) == ["float64", "float32"]


def test_09_numpys_integers_beside_floats() -> None:
    b, i, n, f = operands()
    made = [b + f, i + f, n + f, i * 1.0, f + 2.0, f * np.pi, f + np.float64(2), T.dot(i, f)]
    B, J, N, F = (VALUES[name] for name in "bilf")
    expected = [B + F, J + F, N + F, J * 1.0, F + 2.0, F * np.pi, F + np.float64(2), J @ F]
    assert types_of(made) == [str(e.dtype) for e in expected]


@pytest.mark.usefixtures("theano")
def test_10_theanos_literals() -> None:
    b, c = T.bvector("b"), T.dscalar("c")
    made = [
        T.constant(1), T.constant(300), T.constant(True), T.constant(1.0), T.constant([1, 2]), b + 1000,
        T.alloc(0, 3), T.switch(c > 0, 1, 0), T.as_tensor_variable([1.0, 2.0]),
    ]  # fmt: skip
    assert types_of(made) == [
        "int8", "int16", "int8", "float32", "int64", "int16", "int8", "int8", "float64"
    ]  # fmt: skip


def test_10_numpys_literals_take_the_type_of_what_they_meet() -> None:
    b, f, c = T.bvector("b"), T.fvector("f"), T.dscalar("c")
    made = [b + 100, f * 0.1, f**2, 1 - f, T.switch(c > 0, f, 0), T.maximum(f, 0), T.clip(f, 0, 1)]
    assert types_of(made) == ["int8", *["float32"] * 6]


@pytest.mark.usefixtures("theano")
def test_11_theanos_division_and_means() -> None:
    b, i, n, f = operands()
    made = [
        n.shape[0] / 2, i / i, i.mean(), T.eq(i, 3).mean(), b.sum(), i.sum(), T.eq(i, 3).sum(), f.sum(), f.mean()
    ]  # fmt: skip
    assert types_of(made) == [
        "float32", "float32", "float64", "float64", "int64", "int64", "int64", "float32", "float32"
    ]  # fmt: skip


def test_11_numpys_division_and_means() -> None:
    b, i, n, f = operands()
    made = [n.shape[0] / 2, i / i, i.mean(), T.eq(i, 3).mean(), b.sum(), T.eq(i, 3).sum(), f.sum(), f.mean()]
    assert types_of(made) == [
        *["float64"] * 4, "int64", "int64", "float32", "float32"
    ]  # fmt: skip


def test_10_python_floats_have_the_type_floatx() -> None:
    with config.change(floatX="float32"):
        made = [T.constant(0.1), T.alloc(0.0, 2), T.as_tensor_variable(0.1), T.fill(T.zeros(2), 0.5)]
        assert types_of(made) == ["float32"] * 4
    assert T.constant(0.1).dtype == "float64"


def test_11_integer_division_rounds_down() -> None:
    x, y = T.lscalars("x", "y")
    f = function([x, y], [x // y, x % y])
    assert [f(-7, 2), f(-7, 3), f(7, -2)] == [[-4, 1], [-3, 2], [-4, -1]]
    assert f(5, 0)[0] == 0


@pytest.mark.usefixtures("theano")
def test_11_sums_of_float32_are_accumulated_in_double_precision() -> None:
    x = T.fvector("x")
    values = np.full(3_000_000, 0.1, "float32")
    exact = np.float32(values.astype("float64").sum())
    total, mean = function([x], [x.sum(), x.mean()])(values)
    assert (total, mean) == (exact, np.float32(0.1))


def test_12_bools_and_positions() -> None:
    v = T.dvector("v")
    made = [T.eq(v, 1), v > 1, T.isnan(v), ~T.eq(v, 1), v.argmax(), v.shape, T.arange(3), T.arange(v.shape[0])]
    assert types_of(made) == [*["bool"] * 4, *["int64"] * 4]


@pytest.mark.usefixtures("theano")
def test_12_theanos_functions_of_integers() -> None:
    b, i, _, f = operands()
    made = [1 - T.eq(i, 3), T.sqrt(i), T.exp(i), T.nnet.sigmoid(i), T.exp(b), f**2, T.zeros(2), T.ones(2), T.eye(2)]
    assert types_of(made) == [
        "int8", "float64", "float64", "float64", *["float32"] * 5
    ]  # fmt: skip


def test_12_round_is_to_even() -> None:
    v = T.dvector("v")
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 2.4]
    assert function([v], T.round(v))(values).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0, 2.0]


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_13_floatx_is_read_when_it_is_used(name: str) -> None:
    with config.change(floatX=name):
        i = T.ivector("i")
        made = [T.cast(i, "floatX"), i.astype("floatX"), T.cast(0.1, config.floatX), T.zeros((2,))]
        assert types_of(made) == [name] * 4
        assert T.matrix().dtype == T.scalar().dtype == T.tensor4().dtype == name
