"""Points 1 to 8 of Theano's semantics: types, broadcasting, and what variables are to Python."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor_codegen.errors import ShapeError

# 1 to 4: what broadcasts is known before the program runs --------------------------------------------------


def test_01_only_axes_known_to_be_1_broadcast() -> None:
    m, n, r = T.matrix("m"), T.matrix("n"), T.row("r")
    assert (m.broadcastable, r.broadcastable, T.col().broadcastable) == (
        (False, False),
        (True, False),
        (False, True),
    )
    add = function([m, n, r], [m + n, m + r], on_unused_input="ignore")
    three, one = np.ones((3, 4)), np.ones((1, 4))
    assert add(three, three, one)[1].tolist() == (three + one).tolist()
    with pytest.raises(ValueError, match=r"add: sizes on axis 0 do not agree: 3 and 1"):
        add(three, one, one)
    with pytest.raises(TypeError, match=r"input r .*axis 0 must have size 1, got shape \(2, 4\)"):
        add(three, three, np.ones((2, 4)))


def test_02_shared_arrays_do_not_broadcast_constants_do() -> None:
    value = np.ones((1, 3))
    assert shared(value).broadcastable == (False, False)
    pattern = tuple(size == 1 for size in value.shape)
    assert shared(value, broadcastable=pattern).broadcastable == (True, False)
    assert T.constant(value).broadcastable == (True, False)


def test_03_patterns_of_results() -> None:
    n, v, m, r, c = T.lscalar(), T.vector(), T.matrix(), T.row(), T.col()
    known = {
        "ones": (T.ones((1, n)), (True, False)),
        "alloc": (T.alloc(0.0, 1, n), (True, False)),
        "reshape": (v.reshape((1, -1)), (True, False)),
        "sum": (m.sum(axis=1, keepdims=True), (False, True)),
        "max": (m.max(axis=0, keepdims=True), (True, False)),
        "dimshuffle": (v.dimshuffle("x", 0), (True, False)),
        "slice": (m[0:1], (False, False)),
        "list index": (m[:, [0]], (False, True)),
        "joined on the axis": (T.concatenate([r, r], axis=0), (False, False)),
        "joined beside it": (T.concatenate([r, r], axis=1), (True, False)),
        "flatten": (c.flatten(), (False,)),
    }
    assert {name: x.broadcastable for name, (x, _) in known.items()} == {
        name: pattern for name, (_, pattern) in known.items()
    }


def test_04_dimshuffle() -> None:
    v, m, r = T.vector(), T.matrix("m"), T.row()
    assert m.dimshuffle(1, 0) is m.dimshuffle([1, 0]) is m.dimshuffle((1, 0)) is m.T
    assert v.dimshuffle((0, "x")).broadcastable == (False, True)
    assert r.dimshuffle(1).ndim == 1
    with pytest.raises(ValueError, match="axis 1 is dropped, but its size is not known to be 1"):
        m.dimshuffle(0)


def test_04_patterns_that_are_stated_are_checked_when_it_runs() -> None:
    m, n, r = T.matrix("m"), T.matrix("n"), T.row("r")
    assert T.patternbroadcast(m, (True, False)).broadcastable == (True, False)
    assert T.unbroadcast(r, 0).broadcastable == (False, False)
    f = function([m, n], T.addbroadcast(m, 0) + n)
    assert f(np.ones((1, 4)), np.ones((3, 4))).shape == (3, 4)
    with pytest.raises(ValueError, match="axis 0 has size 3, not 1"):
        f(np.ones((3, 4)), np.ones((3, 4)))


# 5: updates ------------------------------------------------------------------------------------------------


def test_05_updates_keep_the_type() -> None:
    row = shared(np.ones((1, 3)), "row", broadcastable=(True, False))
    count = shared(np.int64(0), "count")
    m = T.matrix("m")
    with pytest.raises(TypeError, match=r"new value must have the type .*row.*T.addbroadcast"):
        function([m], updates={row: row - m})
    with pytest.raises(TypeError, match=r"update of count: .*cast it"):
        function([], updates={count: count + 1.5})
    with pytest.raises(ValueError, match="count is given twice"):
        function([], updates=[(count, count + 1), (count, count + 2)])
    step = T.patternbroadcast(m.sum(axis=0, keepdims=True), row.broadcastable)
    function([m], updates={row: row - step, count: count + T.cast(1.9, "int64")})(np.ones((2, 3)))
    assert row.get_value().tolist() == [[-1.0, -1.0, -1.0]]
    assert count.get_value() == 1


# 6 and 7: variables in Python ------------------------------------------------------------------------------


def test_06_variables_are_compared_by_identity() -> None:
    x, y = T.matrices("x", "y")
    assert (x == y) is False
    assert (x != y) is True
    assert x in [y, x]
    assert {x: 1, y: 2}[y] == 2
    assert [(a < y).dtype for a in (x, x + y)] == ["bool", "bool"]
    for wrong in (lambda: bool(x > 0), lambda: len(x), lambda: list(x)):
        with pytest.raises(TypeError):
            wrong()


def test_06_shape_unpacks() -> None:
    x = T.tensor3()
    a, b, c = x.shape
    assert function([x], [a, b * c])(np.ones((2, 3, 4))) == [2, 12]


def test_07_free_attributes() -> None:
    x = T.matrix("x")
    x._keras_shape = (None, 3)
    x.tag.role = "weight"
    x.name = "renamed"
    assert (x._keras_shape, x.tag.role, str(x)) == ((None, 3), "weight", "renamed")


# 8: NumPy beside variables ---------------------------------------------------------------------------------


def test_08_numpy_builds_expressions() -> None:
    v, w, f, m = T.dvector("v"), T.dvector("w"), T.fvector("f"), T.dmatrix("m")
    array = np.array([1.0, 2.0, 3.0])
    expressions = [
        array * v, array - v, array / v, array < v, np.float64(2) ** v, np.sqrt(v), np.dot(v, w),
        sum([v, w]), abs(-v), array @ m, np.float32(3) * f,
    ]  # fmt: skip
    assert expressions[-1].dtype == "float32"
    V, W, F, M = np.array([1.0, 4.0, 9.0]), array + 1, array.astype("float32"), np.arange(6.0).reshape(3, 2)
    got = function([v, w, f, m], expressions)(V, W, F, M)
    want = [
        array * V, array - V, array / V, array < V, 2.0**V, np.sqrt(V), np.dot(V, W), V + W, V, array @ M, 3 * F
    ]  # fmt: skip
    for value, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_08_in_place_python_operators_make_new_expressions() -> None:
    x = T.dvector("x")
    y = x
    y += 1
    y *= 2
    assert y is not x
    assert y.eval({x: [1.0]}).tolist() == [4.0]


def test_shapes_are_checked_where_they_are_known() -> None:
    with pytest.raises(ShapeError, match="sizes do not agree"):
        T.zeros((2, 3)) + T.zeros((2, 4))
