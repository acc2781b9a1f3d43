"""Reductions beside NumPy, their element types, sub-gradients and errors."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.ops import reduction
from symtensor.settings import config
from symtensor_codegen.errors import DTypeError, ShapeError

rng = np.random.default_rng(0)
FLOATS = rng.normal(size=(2, 3, 4))
INTEGERS = rng.integers(0, 5, size=(2, 3, 4))
AXES = [None, 0, -1, (0, 2), [1]]


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "any", "all", "ptp"])
def test_like_numpy(name, agree):
    ours, numpys = getattr(reduction, name), getattr(np, name)
    for axis in AXES:
        for keepdims in (False, True):
            for values in (FLOATS, INTEGERS):
                theirs = tuple(axis) if isinstance(axis, list) else axis
                agree(
                    lambda a, axis=axis, keepdims=keepdims: ours(a, axis, keepdims=keepdims),
                    lambda a, axis=theirs, keepdims=keepdims: numpys(a, axis=axis, keepdims=keepdims),
                    values,
                )


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name, agree):
    ours, numpys = getattr(reduction, name), getattr(np, name)
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            agree(
                lambda a, axis=axis, keepdims=keepdims: ours(a, axis, keepdims),
                lambda a, axis=axis, keepdims=keepdims: numpys(a, axis=axis, keepdims=keepdims),
                INTEGERS,
            )
    agree(lambda a: ours(a), numpys, np.array([1.0, np.nan, 5.0, np.nan]))


def test_norms(agree):
    for order in (None, 1, 2, 3, 0.5, np.inf, -np.inf, 0):
        agree(
            lambda a, order=order: reduction.norm(a, order, 1),
            lambda a, order=order: np.linalg.norm(a, order, 1),
            FLOATS[0],
        )
    agree(reduction.norm, np.linalg.norm, FLOATS[0])
    agree(lambda a: reduction.norm(a, "fro", (0, 1)), lambda a: np.linalg.norm(a, "fro", (0, 1)), FLOATS[0])


def test_complex_values(agree):
    values = FLOATS[0] + 1j * FLOATS[1]
    agree(lambda a: reduction.sum(a, 0), lambda a: a.sum(0), values)
    agree(lambda a: reduction.mean(a, 1), lambda a: a.mean(1), values)
    agree(lambda a: reduction.var(a, 1, ddof=1), lambda a: np.var(a, 1, ddof=1), values)


def test_element_types(agree):
    for dtype in ("int8", "uint8", "bool", "int32", "float16", "float32"):
        values = rng.integers(0, 2, size=(4, 5)).astype(dtype)
        for name in ("sum", "prod", "mean", "max"):
            agree(getattr(reduction, name), getattr(np, name), values)
    agree(lambda a: T.sum(a, dtype="float32"), lambda a: a.sum(dtype="float32"), INTEGERS)


def test_float16_is_summed_in_float32():
    x = T.vector("x", dtype="float16")
    values = np.full(4096, 1.0, "float16")
    total = function([x], T.sum(x))(values)
    assert total.dtype == "float16"
    assert total == 4096  # a float16 running sum stays at 2048


def test_accumulation_type():
    x = T.fvector("x")
    wide = T.sum(x, acc_dtype="float64")
    assert wide.dtype == "float32"
    values = np.concatenate([[1e8], np.ones(1000), [-1e8]]).astype("float32")
    assert function([x], wide)(values) == 1000
    with config.change(cast_policy="theano"):  # Theano accumulates float32 in float64 (fact 11)
        assert function([x], T.sum(x))(values) == 1000


def test_logsumexp_of_extremes():
    x = T.dmatrix("x")
    values = np.array([[1000.0, 1000.0], [-np.inf, -np.inf], [np.inf, 0.0], [-1000.0, -1001.0]])
    got = function([x], T.logsumexp(x, axis=1))(values)
    np.testing.assert_allclose(got, [1000 + np.log(2), -np.inf, np.inf, -1000 + np.log1p(np.exp(-1))])


def test_every_tie_of_a_maximum_gets_the_gradient():  # fact 27
    x = T.dvector("x")
    slope = function([x], grad(T.max(x), x))
    assert slope([1.0, 3.0, 3.0]).tolist() == [0, 1, 1]


def test_norm_at_zero_has_no_slope():  # fact 27
    x = T.dvector("x")
    assert np.isnan(function([x], grad(T.norm(x), x))(np.zeros(2))).all()


def test_argmax_has_gradient_zero():  # fact 28
    x = T.dvector("x")
    assert function([x], grad(T.cast(T.argmax(x), "float64"), x))([1.0, 2.0]).tolist() == [0, 0]


@pytest.mark.parametrize("values", [[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 3.0, 0.0]])
def test_product_has_exact_first_and_second_derivatives(values):
    x = T.dvector("x")
    first = grad(T.prod(x), x)
    got, second = function([x], [first, grad(first[0] + 2 * first[2], x)])(values)
    a, b, c = values
    assert got.tolist() == [b * c, a * c, a * b]
    assert second.tolist() == [2 * b, c + 2 * a, b]


def test_product_of_a_shape_is_a_size():
    x = T.dtensor3("x")
    flat = x.reshape((x.shape[0], T.prod(x.shape[1:])))
    assert flat.dims[0] is x.dims[0]
    assert function([x], flat)(np.zeros((2, 3, 4))).shape == (2, 12)


def test_nothing_reduced(agree):
    agree(lambda a: T.sum(a, axis=()), lambda a: a.sum(axis=()), FLOATS)
    agree(lambda a: T.max(a), np.max, np.float64(3))
    agree(lambda a: T.mean(a), np.mean, np.int64(3))


def test_errors():
    x = T.dmatrix("x")
    with pytest.raises(
        ShapeError, match=r"sum: axis 2 is out of range for 2 axes: x: .* \(test_reduction.py:\d+\)"
    ):
        T.sum(x, axis=2)
    with pytest.raises(ShapeError, match="an axis is given twice"):
        T.sum(x, axis=(0, -2))
    with pytest.raises(TypeError, match="the axis must be an integer known when the expression is built"):
        T.sum(x, axis=T.lscalar("a"))
    with pytest.raises(ShapeError, match="max of no elements has no value"):
        T.max(T.TensorType("float64", (0, 3))("e"), axis=0)
    with pytest.raises(ShapeError, match="argmax: give one axis, or None"):
        T.argmax(T.dtensor3(), axis=(0, 1))
    with pytest.raises(DTypeError, match="max does not take complex128"):
        T.max(T.zmatrix("z"))
    with pytest.raises(DTypeError, match="complex values have no float64 sum"):
        T.sum(T.zmatrix("z"), dtype="float64")
    with pytest.raises(ValueError, match="order 3 is for one axis"):
        T.norm(x, 3, axis=(0, 1))


def test_an_empty_maximum_is_an_error_when_it_runs():
    x = T.dmatrix("x")
    f = function([x], T.max(x, axis=0))
    with pytest.raises(ValueError, match="max of no elements has no value"):
        f(np.zeros((0, 3)))
