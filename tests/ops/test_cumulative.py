"""Running sums and products, differences and counts beside NumPy."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.ops import cumulative
from symtensor_codegen.errors import DTypeError

rng = np.random.default_rng(4)
M = rng.normal(size=(3, 4))
COUNTED = rng.integers(0, 6, size=9)


def test_running_sums_and_products(agree):
    for axis in (None, 0, 1, -1):
        for values in (M, rng.integers(0, 5, size=(2, 3)), (M > 0), M.astype("float32")):
            agree(lambda a, k=axis: T.cumsum(a, k), lambda a, k=axis: np.cumsum(a, k), values)
            agree(lambda a, k=axis: T.cumprod(a, k), lambda a, k=axis: np.cumprod(a, k), values)
    agree(lambda a: T.cumsum(a).sum(), lambda a: np.cumsum(a).sum(), np.zeros(0))


def test_differences(agree):
    for order in (0, 1, 2, 5):
        for axis in (0, -1):
            agree(
                lambda a, n=order, k=axis: cumulative.diff(a, n, k),
                lambda a, n=order, k=axis: np.diff(a, n, k),
                M,
            )
    agree(cumulative.diff, np.diff, M > 0)
    agree(lambda a: cumulative.ediff1d(a, [1.0, 2.0], 3.0), lambda a: np.ediff1d(a, [1.0, 2.0], 3.0), M)


def test_counts(agree):
    agree(cumulative.bincount, np.bincount, COUNTED)
    agree(lambda a: cumulative.bincount(a, minlength=9), lambda a: np.bincount(a, minlength=9), COUNTED)
    agree(cumulative.bincount, np.bincount, np.zeros(0, int))
    agree(cumulative.bincount, np.bincount, COUNTED, rng.normal(size=9))


def test_product_gradient_where_elements_are_zero():
    x = T.dvector("x")
    first = grad(T.cumprod(x).sum(), x)
    got, second = function([x], [first, grad(first[0], x)])([2.0, 0.0, 3.0])
    # of a + ab + abc
    assert got.tolist() == [1 + 0 + 0, 2 + 2 * 3, 0]
    assert second.tolist() == [0, 1 + 3, 0]


def test_errors():
    with pytest.raises(DTypeError, match="bincount takes an integer vector"):
        cumulative.bincount(T.dvector())
    with pytest.raises(ValueError, match="the order must not be negative"):
        cumulative.diff(T.dvector(), -1)
    x = T.lvector("x")
    with pytest.raises(IndexError, match="out of range"):
        function([x], cumulative.bincount(x))([1, -1])
