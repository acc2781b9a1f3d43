"""Filled, counted and spaced tensors beside NumPy; element types, sizes and errors."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.ops import creation, indexing
from symtensor.settings import config
from symtensor_codegen.errors import DTypeError, ShapeError

rng = np.random.default_rng(3)
M, V = rng.normal(size=(3, 4)), rng.normal(size=5)


def integers(*numbers):
    return [np.int64(n) for n in numbers]


def test_counting(agree):
    for bounds in ((5,), (2, 9), (2, 9, 3), (9, 2, -2), (0, 10, 4), (5, 2), (3, 3)):
        agree(lambda b=bounds: T.arange(*b), lambda b=bounds: np.arange(*b))
    for bounds in ((2, 9, 3), (9, 2, -2), (5, 2, 1), (0, 7, 7), (0, 0, 3)):
        agree(T.arange, np.arange, *integers(*bounds))
    for bounds in ((0.0, 1.0, 0.1), (1.0, -2.0, -0.3), (2.0, 3.0, 0.25), (1.0, 0.0, 0.5)):
        agree(lambda b=bounds: T.arange(*b), lambda b=bounds: np.arange(*b))
        agree(T.arange, np.arange, *[np.float64(b) for b in bounds])
    agree(lambda: T.arange(3, dtype="float32"), lambda: np.arange(3, dtype="float32"))


def test_a_count_of_rows_has_their_number():  # no guard is needed for x[arange(n), y]
    x, y = T.dmatrix("x"), T.lvector("y")
    assert T.arange(x.shape[0]).dims == (x.dims[0],)
    assert T.arange(y.shape[0] * 2).dims[0] is (y.shape[0] * 2).op.scalar(y.dims[0], 2)
    assert T.arange(T.zeros((4, 2)).shape[0]).type.shape == (4,)
    assert T.arange(x.shape[0]).dtype == "int64"  # fact 12


def test_spaces(agree):
    for start, stop, number in ((0, 1, 5), (2, 3, 1), (2.5, -1, 7), (0, 1, 0)):
        for endpoint in (True, False):
            agree(
                lambda a=start, b=stop, n=number, e=endpoint: T.linspace(a, b, n, e),
                lambda a=start, b=stop, n=number, e=endpoint: np.linspace(a, b, n, e),
            )
        agree(
            lambda n, a=start, b=stop: T.linspace(a, b, n),
            lambda n, a=start, b=stop: np.linspace(a, b, n),
            np.int64(number),
        )
    agree(lambda: T.linspace([0, 1], [2, 5], 4, axis=1), lambda: np.linspace([0, 1], [2, 5], 4, axis=1))
    agree(lambda: T.linspace(0, 10, 4, dtype="int64"), lambda: np.linspace(0, 10, 4, dtype="int64"))
    agree(lambda: T.linspace(0, 1, 5, retstep=True)[1], lambda: np.linspace(0, 1, 5, retstep=True)[1])
    agree(lambda: creation.logspace(0, 2, 4), lambda: np.logspace(0, 2, 4))
    agree(lambda: creation.geomspace(1, 1000, 4), lambda: np.geomspace(1, 1000, 4))
    agree(lambda: creation.geomspace(-1, -8, 4), lambda: np.geomspace(-1, -8, 4))


def test_the_last_number_of_linspace_is_exact():
    start, stop = T.dscalar("start"), T.dscalar("stop")
    f = function([start, stop], T.linspace(start, stop, 50))
    assert f(0.1, 0.7)[-1] == 0.7


def test_matrices(agree):
    for k in (-2, 0, 1, 5):
        agree(lambda k=k: T.eye(3, 4, k), lambda k=k: np.eye(3, 4, k))
        agree(lambda k=k: creation.tri(3, 4, k), lambda k=k: np.tri(3, 4, k))
        agree(lambda a, k=k: T.tril(a, k), lambda a, k=k: np.tril(a, k), M)
        agree(lambda a, k=k: T.triu(a, k), lambda a, k=k: np.triu(a, k), M)
        agree(lambda a, k=k: T.diag(a, k), lambda a, k=k: np.diag(a, k), V)
        agree(lambda a, k=k: indexing.diagonal(a, k), lambda a, k=k: np.diagonal(a, k), M)
    agree(lambda a: T.diag(a), np.diag, M)
    agree(lambda a: T.tril(a), np.tril, rng.normal(size=(2, 3, 3)))
    agree(lambda n, k: T.eye(n, k=k), lambda n, k: np.eye(n, k=k), *integers(4, 1))
    agree(lambda: T.eye(3, dtype="int32"), lambda: np.eye(3, dtype="int32"))
    agree(creation.identity_like, lambda a: np.eye(*a.shape), M)

    def filled(a, k=0):
        result = a.copy()
        rows = np.arange(a.shape[0])[:, None]
        result[rows + k == np.arange(a.shape[1])] = 7
        return result

    for k in (0, 1, -1):
        agree(lambda a, k=k: creation.fill_diagonal_offset(a, 7, k), lambda a, k=k: filled(a, k), M)
    agree(lambda y: creation.to_one_hot(y, 3), lambda y: np.eye(3)[y], np.array([0, 2, 1, 1]))


def test_grids(agree):
    for indexing_ in ("xy", "ij"):
        for k in range(3):
            agree(
                lambda a, b, c, i=indexing_, k=k: creation.meshgrid(a, b, c, indexing=i)[k],
                lambda a, b, c, i=indexing_, k=k: np.meshgrid(a, b, c, indexing=i)[k],
                V,
                M[0],
                M[:2, 0],
            )
    agree(lambda: T.mgrid[0:5, 0:2], lambda: np.mgrid[0:5, 0:2])
    agree(lambda: T.mgrid[-1:1:5j], lambda: np.mgrid[-1:1:5j])
    agree(lambda: T.mgrid[0:4:2, 0:1:0.25], lambda: np.mgrid[0:4:2, 0:1:0.25])
    for k in range(2):
        agree(lambda k=k: T.ogrid[0:3, 0:2][k], lambda k=k: np.ogrid[0:3, 0:2][k])
    agree(lambda: creation.indices((2, 3)), lambda: np.indices((2, 3)))


def test_filled(agree):
    agree(lambda n: T.zeros((2, n)), lambda n: np.zeros((2, n)), np.int64(3))
    agree(lambda n: T.ones(n, "int8"), lambda n: np.ones(n, "int8"), np.int64(3))
    agree(lambda v, n: T.alloc(v, 2, n), lambda v, n: np.full((2, n), v), *integers(7, 3))
    agree(lambda v, n: T.alloc(v, n, 4), lambda v, n: np.broadcast_to(v, (n, 4)), M[:1], np.int64(3))
    agree(lambda a: T.zeros_like(a), np.zeros_like, M)
    agree(lambda a: T.ones_like(a, "int32"), lambda a: np.ones_like(a, "int32"), M)
    agree(lambda a: creation.full_like(a, 7), lambda a: np.full_like(a, 7), M)
    agree(lambda a, b: T.fill(a, b), lambda a, b: np.broadcast_to(b, a.shape).copy(), M, V[:4])
    agree(lambda: creation.full((2, 2), 1.5), lambda: np.full((2, 2), 1.5))
    agree(lambda a: T.zeros(a.shape), lambda a: np.zeros(a.shape), M)
    agree(lambda a: T.zeros(a.shape[1:]), lambda a: np.zeros(a.shape[1:]), M)


def test_default_element_type_is_floatx():  # facts 12, 13
    with config.change(floatX="float32"):
        assert {T.zeros(2).dtype, T.ones(2).dtype, T.eye(2).dtype} == {"float32"}
        assert T.zeros(2, dtype="floatX").dtype == "float32"
    assert T.zeros(2).dtype == "float64"


def test_known_sizes():  # fact 3
    n = T.lscalar("n")
    assert T.ones((1, n)).broadcastable == (True, False)
    assert T.alloc(0.0, 1, n).type.shape == (1, None)
    x = T.dmatrix("x")
    assert T.zeros_like(x).dims == x.dims


def test_errors():
    with pytest.raises(ValueError, match="arange: the step is 0"):
        T.arange(0, 3, 0)
    with pytest.raises(ShapeError, match="arange takes scalars"):
        T.arange(T.dvector("v"))
    with pytest.raises(DTypeError, match="full: a size must be an integer"):
        T.zeros((2, 1.5))
    with pytest.raises(ShapeError, match=r"a shape must have a statically known length, got s: .*; pass"):
        T.zeros(T.lvector("s"))
    with pytest.raises(ShapeError, match=r"broadcast_to: \(\) cannot become \(-1,\)"):
        T.zeros(-1)
    with pytest.raises(ShapeError, match="tril takes matrices"):
        T.tril(T.dvector())
    with pytest.raises(ShapeError, match="diag takes a vector or a matrix"):
        T.diag(T.dscalar())
    with pytest.raises(ShapeError, match="axis1 and axis2 are the same axis"):
        indexing.diagonal(T.dmatrix(), 0, 1, -1)
    with pytest.raises(DTypeError, match="to_one_hot takes integers"):
        creation.to_one_hot(T.dvector(), 3)
    with pytest.raises(ValueError, match="indexing must be 'xy' or 'ij'"):
        creation.meshgrid(V, V, indexing="yx")


def test_a_negative_size_is_an_error_when_the_program_runs():
    n = T.lscalar("n")
    with pytest.raises(ValueError, match="a size is negative: -2"):
        function([n], T.zeros((3, n)))(-2)
