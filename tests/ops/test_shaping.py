"""Sizes, order of axes, reshape, broadcasting and stated sizes."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.ops import shaping
from symtensor_codegen.errors import DTypeError, ShapeError

rng = np.random.default_rng(6)
A = rng.normal(size=(2, 3, 4))


def test_order_of_axes(agree):
    agree(lambda a: a.dimshuffle(2, "x", 0, 1), lambda a: a.transpose(2, 0, 1)[:, None], A)
    agree(lambda a: a.dimshuffle([1, 0]), lambda a: a.T, A[0])  # fact 4: a list
    agree(lambda a: a.dimshuffle((0, "x")), lambda a: a[:, None], A[0, 0])
    agree(lambda a: a.T, lambda a: a.T, A)
    agree(lambda a: T.transpose(a, (1, 2, 0)), lambda a: a.transpose(1, 2, 0), A)
    agree(lambda a: T.swapaxes(a, 0, -1), lambda a: a.swapaxes(0, -1), A)
    agree(lambda a: shaping.moveaxis(a, 0, 2), lambda a: np.moveaxis(a, 0, 2), A)
    agree(lambda a: shaping.moveaxis(a, (0, 2), (1, 0)), lambda a: np.moveaxis(a, (0, 2), (1, 0)), A)
    agree(lambda a: T.expand_dims(a, (0, -1)), lambda a: np.expand_dims(a, (0, -1)), A)
    agree(lambda a: T.squeeze(a), np.squeeze, A[:1, :, :1])
    agree(lambda a: T.squeeze(a, 0), lambda a: np.squeeze(a, 0), A[:1, :, :1])
    agree(lambda a: T.shape_padleft(a, 2), lambda a: a[None, None], A)
    agree(lambda a: T.shape_padright(a), lambda a: a[..., None], A)
    agree(lambda a: T.shape_padaxis(a, 1), lambda a: a[:, None], A)
    for rank in range(4):
        values = rng.normal(size=(2, 3, 4)[:rank])
        for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
            agree(getattr(shaping, name), getattr(np, name), values)


def test_reshapes(agree):
    for target in ((24,), (6, 4), (2, -1), (-1, 1, 8), (3, 2, 4), (4, 3, 2), (2, 3, 2, 2), (1, 2, 12)):
        agree(lambda a, s=target: a.reshape(s), lambda a, s=target: a.reshape(s), A)
        agree(lambda a, s=target: (a * 2).reshape(s) + 1, lambda a, s=target: (a * 2).reshape(s) + 1, A)
    agree(lambda a, n: a.reshape((n, -1)), lambda a, n: a.reshape((n, -1)), A, np.int64(6))
    agree(lambda a, s: T.reshape(a, s, ndim=2), lambda a, s: a.reshape(s), A, np.array([6, 4]))
    agree(lambda a: a.reshape((a.shape[1], -1)), lambda a: a.reshape((3, -1)), A)
    agree(lambda a: a.flatten(2), lambda a: a.reshape(2, 12), A)  # fact 32: the leading axis stays
    agree(lambda a: a.flatten(), lambda a: a.reshape(-1), A)
    agree(lambda a: T.flatten(a), lambda a: a.reshape(1), np.float64(3))
    agree(lambda a: a.reshape((0, 5)), lambda a: a.reshape((0, 5)), np.zeros((2, 0)))


def test_sizes_through_reshapes():
    x = T.dtensor3("x")
    n, a, b = x.dims
    assert x.flatten(2).reshape((x.shape[0], -1)).dims == x.flatten(2).dims
    assert x.reshape((x.shape[0], x.shape[1] * x.shape[2])).dims == x.flatten(2).dims
    assert x.flatten().reshape((x.shape[0], x.shape[1], -1)).dims == (n, a, b)
    assert x.reshape(x.shape) is x
    assert x.reshape((-1, x.shape[1], x.shape[2])) is x
    assert T.reshape(x, (1, -1)).broadcastable == (True, False)  # fact 3
    assert T.col().flatten().broadcastable == (False,)  # fact 3


def test_broadcasts(agree):
    row = A[0, :1]
    agree(
        lambda a, n: T.broadcast_to(a, (2, n, 4)),
        lambda a, n: np.broadcast_to(a, (2, n, 4)),
        row,
        np.int64(3),
    )
    agree(lambda a: T.broadcast_to(a, (3, 4)), lambda a: np.broadcast_to(a, (3, 4)), A[0, 0])
    x = T.dvector("x")
    slope = grad((T.broadcast_to(x, (3, x.shape[0])) ** 2).sum(), x)
    assert function([x], slope)([1.0, 2.0]).tolist() == [6, 12]


def test_only_axes_known_to_be_one_broadcast():  # fact 1
    x = T.dmatrix("x")
    f = function([x], T.broadcast_to(x, (3, 4)))
    with pytest.raises(ValueError, match=r"size 1 cannot become 3.*only where its size is known to be 1"):
        f(np.zeros((1, 4)))


def test_stated_sizes():
    x, n = T.dmatrix("x"), T.lscalar("n")
    stated = T.specify_shape(x, (None, 4))
    assert stated.type.shape == (None, 4)
    f = function([x], stated * 2)
    assert f(np.ones((2, 4))).shape == (2, 4)
    with pytest.raises(ValueError, match="specify_shape: axis 1 has size 3, not 4 as stated"):
        f(np.ones((2, 3)))
    with pytest.raises(ValueError, match="axis 0 has size 2, not 5"):
        function([x, n], T.specify_shape(x, (n, 3)))(np.ones((2, 3)), 5)


def test_broadcast_patterns():  # facts 4, 5
    x = T.dmatrix("x")
    row = T.addbroadcast(x, 0)
    assert row.broadcastable == (True, False)
    f = function([x], row + T.zeros((3, 1)))
    assert f(np.ones((1, 2))).shape == (3, 2)
    with pytest.raises(ValueError, match="axis 0 has size 2, not 1"):
        f(np.ones((2, 2)))
    general = T.unbroadcast(T.row("r"), 0)
    assert general.broadcastable == (False, False)
    assert T.patternbroadcast(x, (False, True)).broadcastable == (False, True)
    assert T.patternbroadcast(T.row(), (False, False)).broadcastable == (False, False)
    r = T.row("r")
    assert function([r], T.unbroadcast(r, 0) * 2)(np.ones((1, 2))).tolist() == [[2, 2]]


def test_sizes_as_expressions():
    x = T.dtensor3("x")
    f = function([x], [x.shape, T.size(x), x.shape[0] * x.shape[2], T.shape(x)[-1]])
    got = f(A)
    assert got[0].tolist() == [2, 3, 4]
    assert [g.item() for g in got[1:]] == [24, 8, 4]
    assert all(g.dtype == "int64" for g in got)  # fact 12
    assert T.shape(T.zeros((2, 3))).data.tolist() == [2, 3]


def test_errors():
    x = T.dmatrix("x")
    with pytest.raises(ShapeError, match=r"dimshuffle: axis 1 is dropped, but its size is not known to be 1: x: .*"):
        x.dimshuffle(0)
    with pytest.raises(ShapeError, match="must name each axis at most once"):
        x.dimshuffle(0, 0, 1)
    with pytest.raises(ShapeError, match="axis 2 is out of range for 2 axes"):
        x.dimshuffle(0, 2)
    with pytest.raises(ShapeError, match="must name each axis at most once, or 'x'"):
        x.dimshuffle(0, "y", 1)
    with pytest.raises(ShapeError, match="transpose: 1 axes given for 2"):
        T.transpose(x, (0,))
    with pytest.raises(ShapeError, match="squeeze: axis 0 is not known to have size 1"):
        T.squeeze(x, 0)
    with pytest.raises(ShapeError, match="moveaxis: source"):
        shaping.moveaxis(x, (0, 0), (0, 1))
    with pytest.raises(ShapeError, match=r"reshape: \(2, 3\) cannot become \(4, -1\)"):
        T.zeros((2, 3)).reshape((4, -1))
    with pytest.raises(ShapeError, match="at most one size may be -1"):
        x.reshape((-1, -1))
    with pytest.raises(ShapeError, match=r"reshape: \(2, 3\) cannot become \(7,\)"):
        T.zeros((2, 3)).reshape((7,))
    with pytest.raises(ShapeError, match="reshape: a shape must have a statically known length"):
        x.reshape(T.lvector("s"))
    with pytest.raises(ShapeError, match="ndim is 3, but 2 sizes are given"):
        T.reshape(x, (2, 3), ndim=3)
    with pytest.raises(DTypeError, match="a size must be an integer"):
        x.reshape((T.dscalar(), 2))
    with pytest.raises(ShapeError, match="flatten: ndim must be from 1 to 2, not 3"):
        x.flatten(3)
    with pytest.raises(ShapeError, match=r"broadcast_to: \(2,\) cannot become \(3,\)"):
        T.broadcast_to(T.zeros(2), (3,))
    with pytest.raises(ShapeError, match="specify_shape: 1 sizes given"):
        T.specify_shape(x, (2,))
    with pytest.raises(ShapeError, match=r"specify_shape: .* does not agree"):
        T.specify_shape(T.zeros((2, 3)), (2, 4))
    with pytest.raises(ShapeError, match="patternbroadcast: 1 flags"):
        T.patternbroadcast(x, (True,))


def test_a_reshape_that_does_not_fit_when_the_program_runs():
    x, n = T.dmatrix("x"), T.lscalar("n")
    f = function([x, n], x.reshape((n, 2)))
    with pytest.raises(ValueError, match="reshape: 6 elements cannot become 8"):
        f(np.zeros((2, 3)), 4)
