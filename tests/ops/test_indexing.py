"""Indexing as NumPy's: random keys, parts set and increased, selections, sizes and errors."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, shared
from symtensor.graph import constant
from symtensor.ops import indexing
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError

X = np.random.default_rng(1).normal(size=(4, 3, 5))


def random_key(rng, shape, advanced):
    """A key for an array of this shape: slices, integers, ellipses, new axes, index arrays and masks."""
    used = int(rng.integers(1, len(shape) + 1))
    front = int(rng.integers(used + 1)) if rng.random() < 0.3 else None
    axes = shape[:used] if front is None else (*shape[:front], *shape[len(shape) - used + front :])
    block = [(2,), (3, 2), (2, 1)][rng.integers(3)] if advanced else ()
    key = []
    for place, size in enumerate(axes):
        if place == front:
            key.append(Ellipsis)
        kind = rng.integers(6 if advanced else 4)
        if kind == 0:
            key.append(int(rng.integers(-size, size)))
        elif kind in (1, 2):
            low, high = (
                None if rng.random() < 0.3 else int(rng.integers(-size - 2, size + 3)) for _ in range(2)
            )
            step = [None, 1, 2, -1, -2, 3][rng.integers(6)]
            key.append(slice(low, high, step))
        elif kind == 3:
            key.append(slice(None))
        else:
            key.append(rng.integers(-size, size, size=block))
        if rng.random() < 0.15:
            key.append(None)
    return tuple(key)


@pytest.mark.parametrize("advanced", [False, True])
def test_random_keys(advanced, agree):
    rng = np.random.default_rng(advanced)
    for _ in range(120):
        key = random_key(rng, X.shape, advanced)
        agree(lambda a, key=key: a[key], lambda a, key=key: a[key], X)


@pytest.mark.parametrize("advanced", [False, True])
def test_random_parts_written(advanced, agree):
    rng = np.random.default_rng(10 + advanced)

    def put(a, key, value, add):
        result = a.copy()
        if add:
            np.add.at(result, key, value)
        else:
            result[key] = value
        return result

    for number in range(60):
        key = random_key(rng, X.shape, advanced)
        add = bool(number % 2)
        value = rng.normal(size=X[key].shape) if number % 3 else np.float64(2.5)
        write = indexing.inc_subtensor if add else indexing.set_subtensor
        agree(
            lambda a, v, key=key, write=write: write(a[key], v),
            lambda a, v, key=key, add=add: put(a, key, v, add),
            X,
            value,
        )


def test_slices_given_by_expressions():
    x, a, b, c = T.dvector("x"), T.lscalar("a"), T.lscalar("b"), T.iscalar("c")
    values = np.arange(7.0)
    f = function([x, a, b, c], [x[a:b:c], x[a:b], x[b:], x[:a], x[::c], x[a % 7]])
    for start in (-9, -3, 0, 2, 8):
        for stop in (-8, -1, 0, 5, 9):
            for step in (-2, -1, 1, 3):
                got = f(values, start, stop, step)
                want = [
                    values[start:stop:step],
                    values[start:stop],
                    values[stop:],
                    values[:start],
                    values[::step],
                    values[start % 7],
                ]
                for g, w in zip(got, want, strict=True):
                    np.testing.assert_array_equal(g, w)


def test_parts_between_computed_bounds_are_written():
    x, n = T.dmatrix("x"), T.lvector("n")
    part = x[n.sum() : n.sum() + 2]
    f = function([x, n], [T.set_subtensor(part, 0), T.inc_subtensor(part, T.ones((2, 3)))])
    values = np.arange(15.0).reshape(5, 3)
    cleared, raised = f(values, [1, 1])
    want = values.copy()
    want[2:4] = 0
    np.testing.assert_array_equal(cleared, want)
    want[2:4] = values[2:4] + 1
    np.testing.assert_array_equal(raised, want)


def test_minibatches():
    x, index = T.dmatrix("x"), T.lscalar("index")
    f = function([x, index], x[index * 2 : (index + 1) * 2].sum())
    values = np.arange(15.0).reshape(5, 3)
    assert [f(values, i) for i in range(4)] == [values[2 * i : 2 * i + 2].sum() for i in range(4)]


def test_equal_lengths_are_the_same_size():
    x = T.dvector("x")
    assert x[1:].dims == x[:-1].dims
    assert x[1:-1].dims == x[2:].dims == x[1:][:-1].dims
    assert x[::-1].dims == x.dims
    assert x[: x.shape[0]].dims == x.dims
    assert T.dvector()[3:].type.shape == (None,)
    assert T.zeros((7,))[1:6:2].type.shape == (3,)


def test_a_shape_is_taken_apart_when_the_expression_is_built():
    x = T.dmatrix("x")
    rows, columns = x.shape
    assert rows is T.shape(x)[0] is x.shape[-2]
    assert columns is x.shape[1:][0]
    assert T.zeros(x.shape).dims == x.dims
    assert constant(np.array([3, 4]))[1].data == 4


def test_masks(agree):
    mask = X[:, :, 0] > 0
    agree(lambda a, m: a[m], lambda a, m: a[m], X, mask)
    agree(lambda a, m: a[0, m], lambda a, m: a[0, m], X, X[0, :, 0] > 0)
    agree(lambda a: a[a > 0.5], lambda a: a[a > 0.5], X)
    agree(lambda a: a[mask], lambda a: a[mask], X)
    agree(lambda a: a[[True, False, True, True]], lambda a: a[[True, False, True, True]], X)
    agree(lambda a: T.set_subtensor(a[a < 0], 0.0), lambda a: np.where(a < 0, 0, a), X)
    agree(lambda a: T.inc_subtensor(a[a < 0], 1.0), lambda a: np.where(a < 0, a + 1, a), X)
    for k in range(3):
        agree(lambda a, k=k: T.nonzero(a > 0)[k], lambda a, k=k: np.nonzero(a > 0)[k], X)
    agree(T.flatnonzero, np.flatnonzero, X > 0)
    agree(lambda a: indexing.argwhere(a > 0), lambda a: np.argwhere(a > 0), X)
    agree(lambda a: indexing.nonzero_values(a > 1), lambda a: a[a > 1] > 1, X)
    agree(lambda a: T.nonzero(a, return_matrix=True), lambda a: np.stack(np.nonzero(a)), X > 0)


def test_an_integer_vector_of_zeros_and_ones_is_no_mask():  # fact 31
    x, k = T.dvector("x"), T.bvector("k")
    assert function([x, k], x[k])([5.0, 6.0, 7.0], np.array([0, 1, 1], "int8")).tolist() == [5, 6, 6]


def test_selections(agree):
    rows = np.array([[0, -1], [2, 1]])
    for axis in (None, 0, 1, -1):
        agree(
            lambda a, i, axis=axis: T.take(a, i, axis), lambda a, i, axis=axis: np.take(a, i, axis), X, rows
        )
    far = np.array([-7, 0, 9])
    for mode in ("wrap", "clip"):
        agree(
            lambda a, i, mode=mode: T.take(a, i, 1, mode),
            lambda a, i, mode=mode: np.take(a, i, 1, mode=mode),
            X,
            far,
        )
    order = np.argsort(X, axis=1)
    agree(lambda a, i: T.take_along_axis(a, i, 1), lambda a, i: np.take_along_axis(a, i, 1), X, order)
    agree(lambda a, i: a[indexing.ix_(i, [0, 2])], lambda a, i: a[np.ix_(i, [0, 2])], X, np.array([1, -1]))
    holds = np.array([True, False, True, False])
    agree(lambda c, a: indexing.compress(c, a, 0), lambda c, a: np.compress(c, a, 0), holds, X)
    agree(lambda c, a: indexing.extract(c, a), np.extract, X > 0, X)
    number = np.array([[0, 1, 2], [2, 1, 0]])
    options = [np.arange(3.0), np.full((2, 3), 7.0), np.float64(-1)]
    agree(lambda n: T.choose(n, options), lambda n: np.choose(n, options), number)
    agree(lambda n, c: T.choose(n, c), lambda n, c: np.choose(n, c), number, X[:3, :2, :3])

    def put(a, i, v):
        result = a.copy()
        np.put(result, i, v)
        return result

    agree(indexing.put, put, X[0], np.array([0, -1, 4]), np.array([1.0, 2.0, 3.0]))
    for axis in range(2):
        agree(
            lambda i, axis=axis: indexing.unravel_index(i, (4, 3))[axis],
            lambda i, axis=axis: np.unravel_index(i, (4, 3))[axis],
            np.array([0, 11, 5]),
        )
    agree(
        lambda i, j: indexing.ravel_multi_index((i, j), (4, 3)),
        lambda i, j: np.ravel_multi_index((i, j), (4, 3)),
        np.array([0, 3]),
        np.array([2, 1]),
    )


def test_rows_picked_by_labels():  # fact 30
    log_p, labels = T.dmatrix("log_p"), T.ivector("labels")
    picked = log_p[T.arange(labels.shape[0]), labels]
    slope = grad(picked.sum(), log_p)
    f = function([log_p, labels], [picked, slope])
    values = np.arange(6.0).reshape(3, 2)
    got, where = f(values, np.array([1, 0, 1], "int32"))
    assert got.tolist() == [1, 2, 5]
    assert where.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_repeated_indices_add_up():  # fact 29
    x, i = T.dvector("x"), T.lvector("i")
    gathered = grad((x[i] * T.constant([1.0, 10.0, 100.0])).sum(), x)
    f = function([x, i], [gathered, T.inc_subtensor(x[i], 1.0), T.set_subtensor(x[i], [1.0, 2.0, 3.0])])
    got = f(np.zeros(3), [1, 1, -1])
    assert [g.tolist() for g in got] == [[0, 11, 100], [0, 2, 1], [0, 2, 3]]


def test_only_the_last_value_written_has_a_gradient():
    x, i, v = T.dvector("x"), T.lvector("i"), T.dvector("v")
    slopes = grad((T.set_subtensor(x[i], v) * T.constant([1.0, 10.0, 100.0])).sum(), [x, v])
    got = function([x, i, v], slopes, on_unused_input="ignore")(np.zeros(3), [1, 1, -1], np.ones(3))
    assert [g.tolist() for g in got] == [[1, 0, 0], [0, 10, 100]]


def test_a_new_axis_can_be_written_through():
    x, y = T.dmatrix("x"), T.dmatrix("y")
    f = function([x, y], T.set_subtensor(x[:, 1, None], y[:, :1]))
    got = f(np.zeros((2, 3)), np.ones((2, 1)))
    assert got.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_a_shared_index():  # fact 30: xi[:, bit_i_idx]
    column = shared(np.int64(1))
    x = T.dmatrix("x")
    f = function([x], x[:, column])
    values = np.arange(6.0).reshape(2, 3)
    assert f(values).tolist() == [1, 4]
    column.set_value(2)
    assert f(values).tolist() == [2, 5]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda x: x[0, 0, 0],
            OutOfRangeError,
            r"too many indices: 3 for 2 axes of x: .* \(test_indexing.py:\d+\)",
        ),
        (lambda x: x[..., ...], OutOfRangeError, "only one ellipsis"),
        (lambda x: x[1.5], DTypeError, "an index must be an integer, a slice, a bool array or None, got 1.5"),
        (lambda x: x[x], DTypeError, "an index must be an integer, a slice, a bool array or None, got x"),
        (lambda x: x[True], DTypeError, "an index must not be True or False"),
        (lambda x: x[:, "a"], DTypeError, "got 'a'"),
        (lambda x: x[::0], ValueError, "a slice of step 0"),
        (lambda x: T.zeros((3, 2))[3], OutOfRangeError, "index 3 is out of range on axis 0"),
        (lambda x: T.zeros((3, 2))[:, [0, -3]], OutOfRangeError, "index -3 is out of range on axis 1"),
        (
            lambda x: T.zeros((3, 2))[[True, False]],
            OutOfRangeError,
            "a mask of size 2 does not fit axis 0 of size 3",
        ),
        (lambda x: T.set_subtensor(x, 1.0), TypeError, r"must be a part of a tensor, x\[...\], not x"),
        (lambda x: T.inc_subtensor(np.zeros(3), 1.0), TypeError, "must be a part of a tensor"),
        (
            lambda x: T.set_subtensor(T.lvector()[0], 1.5),
            DTypeError,
            "float64 does not convert to int64; use cast",
        ),
        (lambda x: T.set_subtensor(T.zeros((4,))[:2], np.zeros(3)), ShapeError, "the value does not fit"),
        (lambda x: T.inc_subtensor(T.zeros((4,), "bool")[:2], True), DTypeError, "bools cannot be added to"),
        (lambda x: T.take(x, [0.5]), DTypeError, "take: indices must be integers"),
        (lambda x: T.take(x, [0], mode="no"), ValueError, "mode must be one of raise, wrap, clip, not 'no'"),
        (lambda x: T.nonzero(x[0, 0]), ShapeError, "a scalar has no positions"),
    ],
)
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build(T.dmatrix("x"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x, i: x[i[0]], "out of range"),
        (lambda x, i: x[i], "out of range"),
        (lambda x, i: x[:, 3], "index 3 is out of range on axis 1, of size 2"),
        (lambda x, i: x[-4], "index -4 is out of range on axis 0, of size 3"),
        (lambda x, i: T.set_subtensor(x[i], 0.0), "out of range"),
        (lambda x, i: T.choose(i, [1.0, 2.0]), "out of range"),
    ],
)
def test_indices_out_of_range_when_the_program_runs(build, message):
    x, i = T.dmatrix("x"), T.lvector("i")
    f = function([x, i], build(x, i), on_unused_input="ignore")
    with pytest.raises(IndexError, match=message):
        f(np.zeros((3, 2)), [5, 0])


def test_sizes_that_do_not_fit_when_the_program_runs():
    x, y = T.dvector("x"), T.dvector("y")
    with pytest.raises(ValueError, match="differ"):
        function([x, y], T.set_subtensor(x[1:], y))(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match="specify_shape"):
        function([x, y], x[y > 0])(np.zeros(4), np.ones(3))


@pytest.mark.parametrize("mode", ["reference", "fast_run", "fast_compile"])
def test_vectors_are_added_at_matrices_of_positions(mode: str) -> None:
    """Each row of positions takes all the values, which the reference must broadcast itself."""
    x, y, n = T.dvector("x"), T.dvector("y"), T.lmatrix("n")
    rows = np.random.default_rng(0).integers(-2, 2, (33, 3))
    values, wanted = np.array([1.0, 10.0, 100.0]), np.zeros(2)
    for row in rows:
        for value, place in zip(values, row, strict=True):
            wanted[place] += value
    got = function([x, y, n], T.inc_subtensor(x[n], y), mode=mode)(np.zeros(2), values, rows)
    np.testing.assert_array_equal(got, wanted)


def test_windows_of_a_padded_array_have_its_size() -> None:
    """The bounds of a slice that differ by a number from the length are compared when the graph is built."""
    x = T.dmatrix("x")
    wide = T.pad(x, ((2, 3), (0, 0)))
    windows = [wide[k : k + x.shape[0]] for k in range(6)]
    assert all(w.dims == x.dims for w in windows)
    assert x[: x.shape[0] + 2].dims == x.dims
    values = np.arange(8.0).reshape(4, 2)
    padded = np.pad(values, ((2, 3), (0, 0)))
    for k, got in enumerate(function([x], [*windows, wide[4 : x.shape[0] + 9]])(values)):
        np.testing.assert_array_equal(got, padded[k : k + 4] if k < 6 else padded[4:])
