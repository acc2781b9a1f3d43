"""Points 30 to 33 of Theano's semantics: parts, shapes, and products, compiled."""

import itertools

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, shared

M = np.arange(12.0).reshape(3, 4)
V = np.arange(5.0)


def test_30_parts_are_what_subtensors_take() -> None:
    x = T.dvector("x")
    for write in (T.set_subtensor, T.inc_subtensor):
        with pytest.raises(TypeError, match=r"the first argument must be a part of a tensor, x\[\.\.\.\]"):
            write(x, 1.0)


def test_30_forms_of_indices() -> None:
    m, k = T.dmatrix("m"), T.iscalar("k")
    column = shared(np.int32(1))
    forms = {
        "integer": (m[1], M[1]), "negative": (m[-1], M[-1]), "slice": (m[1:, :-1], M[1:, :-1]),
        "step": (m[::-2, ::3], M[::-2, ::3]), "beyond the end": (m[1:99], M[1:99]),
        "new axis": (m[:, None], M[:, None]),
        "vectors": (m[[0, 2], [1, 3]], M[[0, 2], [1, 3]]), "list": (m[:, [0]], M[:, [0]]),
        "symbolic": (m[k], M[2]), "symbolic slice": (m[k - 1 : k], M[1:2]), "shared": (m[:, column], M[:, 1]),
        "nonzero": (m[(m > 5).nonzero()], M[M > 5]), "mask": (m[m > 5], M[M > 5]),
        "wraps": (m[T.arange(-1, k)], M[[-1, 0, 1]]),
        "grid": (m[T.arange(k).dimshuffle(0, "x"), T.arange(3)], M[[[0], [1]], [0, 1, 2]]),
    }  # fmt: skip
    got = function([m, k], [x for x, _ in forms.values()])(M, 2)
    for name, value, (_, expected) in zip(forms, got, forms.values(), strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=name)


def test_30_rows_of_several_axes_at_once() -> None:
    """The CTC idiom: ``logp[:, arange(B).dimshuffle(0, 'x'), labels]``."""
    logp, labels = T.dtensor3("logp"), T.imatrix("labels")
    picked = logp[:, T.arange(labels.shape[0]).dimshuffle(0, "x"), labels]
    values = np.arange(24.0).reshape(2, 3, 4)
    chosen = np.array([[3, 0], [1, 1], [2, -1]], "int32")
    got = function([logp, labels], picked)(values, chosen)
    np.testing.assert_array_equal(got, values[:, np.arange(3)[:, None], chosen])


def test_30_writing() -> None:
    m, column = T.dmatrix("m"), shared(np.int32(1))
    bit = m[:, column]
    written = [
        T.set_subtensor(bit, 1 - bit), T.set_subtensor(m[1:, :2], T.zeros((2,))), T.set_subtensor(m[m > 5], 0),
        T.inc_subtensor(m[[0, 0, 2]], 1.0), T.inc_subtensor(m[:, -1], m[:, 0]), T.set_subtensor(m[::2, ::-1], m[:2]),
        T.set_subtensor(m[1:, :2], m[:2, [3]]), T.inc_subtensor(m[[-1, 2, 0]], 1.0),
        T.inc_subtensor(m[(m > 5).nonzero()], m[m > 5]),
    ]  # fmt: skip
    got = function([m], written)(M)
    want = [M.copy() for _ in written]
    want[0][:, 1] = 1 - M[:, 1]
    want[1][1:, :2] = 0
    want[2][M > 5] = 0
    np.add.at(want[3], [0, 0, 2], 1.0)
    want[4][:, -1] += M[:, 0]
    want[5][::2, ::-1] = M[:2]
    want[6][1:, :2] = M[:2, [3]]
    np.add.at(want[7], [-1, 2, 0], 1.0)
    want[8][M > 5] *= 2
    for value, expected in zip(got, want, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_31_bools_are_masks_and_small_integers_positions() -> None:
    x = T.dvector("x")
    f = function([x], [x[x > 2], x[T.cast(x > 2, "int8")]])
    assert [r.tolist() for r in f(V)] == [[3.0, 4.0], [0.0, 0.0, 0.0, 1.0, 1.0]]


def test_31_integers_out_of_range_are_errors() -> None:
    x, k = T.dvector("x"), T.lscalar("k")
    f = function([x, k], [x[k], x[1:k]])
    assert f(V, -1)[0] == 4.0
    for outside in (5, -6):
        with pytest.raises(IndexError, match=r"index -?\d \(k .*out of range on axis 0, of size 5"):
            f(V, outside)


def test_32_reshape_and_its_relatives() -> None:
    m, t, n = T.dmatrix("m"), T.dtensor3("t"), T.lscalar("n")
    made = [
        m.reshape((n, -1)), m.reshape([12]), m.reshape(T.stack([n, 6]), ndim=2), t.flatten(2), t.flatten(ndim=2),
        t.T, t.sum(axis=-1), t.sum(axis=(0, 2)), t.max(axis=[0, 1]), T.concatenate([m, m], axis=-1), T.stack([m, m]),
        T.stack(m[0], m[1]), T.tile(m, (2, 1)), m.repeat(2, axis=1), T.repeat(m, 2, axis=0), T.shape_padleft(m, 2),
        m.dimshuffle("x", 1, 0), T.join(0, m, m),
    ]  # fmt: skip
    D = np.arange(24.0).reshape(2, 3, 4)
    want = [
        M.reshape(2, 6), M.ravel(), M.reshape(2, 6), D.reshape(2, 12), D.reshape(2, 12),
        D.T, D.sum(-1), D.sum((0, 2)), D.max((0, 1)), np.concatenate([M, M], -1), np.stack([M, M]),
        M[:2], np.tile(M, (2, 1)), M.repeat(2, 1), M.repeat(2, 0), M[None, None],
        M.T[None], np.concatenate([M, M]),
    ]  # fmt: skip
    for value, expected in zip(function([m, t, n], made)(M, D, 2), want, strict=True):
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match="must have a statically known length"):
        m.reshape(T.ivector())


def test_32_argmax_takes_the_first_of_equal_elements() -> None:
    m = T.dmatrix("m")
    f = function([m], [m.argmax(), T.argmax(m, axis=1), m.argmin(axis=0)])
    assert [r.tolist() for r in f([[1, 3, 3], [3, 1, 1]])] == [1, [1, 0], [0, 1, 1]]


def test_33_dot_is_a_tensor_product() -> None:
    v, m, t = T.dvector("v"), T.dmatrix("m"), T.dtensor3("t")
    made = [T.dot(v, v), T.dot(m, v), T.dot(v, m.T), T.dot(t, m), T.dot(t, t), T.tensordot(t, m, axes=[[2], [1]])]
    A, B, C = V[:4], M[:, :4], np.arange(32.0).reshape(2, 4, 4)
    square = np.arange(16.0).reshape(4, 4)
    got = function([v, m, t], made)(A, square, C)
    want = [A @ A, square @ A, A @ square.T, C @ square, np.dot(C, C), np.tensordot(C, square, [[2], [1]])]
    assert [g.ndim for g in got] == [0, 1, 1, 3, 4, 3]
    for value, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(value, expected)
    assert B.shape == M.shape


@pytest.mark.parametrize(("policy", "shape"), [("theano", (1, 5)), ("numpy", (5,))])
def test_33_softmax_of_a_vector(policy: str, shape: tuple[int, ...]) -> None:
    """A row in Theano; by default a vector."""
    with config.change(cast_policy=policy):
        v = T.dvector("v")
        assert function([v], T.nnet.softmax(v))(V).shape == shape


def test_33_crossentropy_of_labels_or_distributions() -> None:
    p, labels, wanted = T.dmatrix("p"), T.ivector("labels"), T.dmatrix("wanted")
    made = [T.nnet.categorical_crossentropy(p, labels), T.nnet.categorical_crossentropy(p, wanted)]
    P, L = np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0], "int32")
    for got in function([p, labels, wanted], made)(P, L, np.eye(2)[L]):
        np.testing.assert_allclose(got, -np.log([0.75, 0.5]))


def test_theanos_helpers() -> None:
    x, y, p = T.dvector("x"), T.dvector("y"), T.lmatrix("p")
    orders = np.array([[2, 0, 1], [1, 2, 0]])
    made = [T.smallest(x, y), T.largest(x, y, 2.5), T.shape_i(p, 1), T.inverse_permutation(p)]
    made.append(T.inverse_permutation(p[0]))
    got = [r.tolist() for r in function([x, y, p], made)([1.0, 5.0], [3.0, 0.5], orders)]
    assert got == [[1.0, 0.5], [3.0, 5.0], 3, np.argsort(orders, 1).tolist(), np.argsort(orders[0]).tolist()]
    assert T.extract_constant(T.ones((2, 3)).sum() / 2) == 3.0
    assert T.extract_constant(x) is x
    assert T.extract_constant(T.constant(2) * 3, only_process_constants=True).ndim == 0
    with pytest.raises(TypeError, match="takes integers"):
        T.inverse_permutation(x)
    with pytest.raises(ValueError, match="vectors of positions"):
        T.inverse_permutation(T.lscalar())


# Axes in other places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [3, 4, 5])
def test_an_array_beside_itself_with_other_axes(ndim: int) -> None:
    """Equal sizes: two loops then run along one pair of an array's axes, and along another pair of the same array."""
    orders = list(itertools.permutations(range(ndim)))
    rng = np.random.default_rng(ndim)
    chosen = orders if ndim < 4 else [orders[k] for k in rng.choice(len(orders), 24, replace=False)]
    if ndim == 4:
        chosen.append((2, 3, 0, 1))
    x = T.TensorType("int64", (None,) * ndim)("x")
    fixed = T.specify_shape(x, (3,) * ndim)
    values = rng.integers(0, 1000, (3,) * ndim)
    for order, other in zip(chosen, reversed(chosen), strict=True):
        outputs = [x + x.dimshuffle(order), x.dimshuffle(order) - 2 * x.dimshuffle(other)]
        outputs += [fixed * fixed.dimshuffle(order), (x * x.dimshuffle(order)).sum((0, ndim - 1))]
        wanted = [values + values.transpose(order), values.transpose(order) - 2 * values.transpose(other)]
        wanted += [values * values.transpose(order), (values * values.transpose(order)).sum((0, ndim - 1))]
        for got, want in zip(function([x], outputs)(values), wanted, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"{order} {other}")
    w = T.lmatrix("w")
    square = w.reshape((2, 3, 2, 3))
    matrix = values.reshape(-1)[:36].reshape(6, 6) if values.size >= 36 else np.arange(36).reshape(6, 6)
    there = matrix.reshape(2, 3, 2, 3)
    np.testing.assert_array_equal(
        function([w], square + square.dimshuffle(2, 3, 0, 1))(matrix), there + there.transpose(2, 3, 0, 1)
    )
