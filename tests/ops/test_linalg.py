"""Products beside NumPy: dot, matmul, tensordot, einsum; gradients, contraction order and errors."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.ops import linalg
from symtensor.ops.einsum import path
from symtensor_codegen.errors import ShapeError

rng = np.random.default_rng(5)

DOTS = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (6, 3, 4)), ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((), (3,)), ((0, 3), (3, 2)),
    ((2, 0), (0, 2)),
]  # fmt: skip
MATMULS = [
    ((3,), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((6, 5, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)),
]  # fmt: skip


def normal(*shape):
    return rng.normal(size=shape)


def test_dot(agree):
    for a, b in DOTS:
        agree(T.dot, np.dot, normal(*a), normal(*b))
    for dtype in ("int32", "float32", "bool", "int8", "complex64"):
        a, b = (rng.integers(0, 3, size=s).astype(dtype) for s in ((4, 3), (3, 5)))
        agree(T.dot, np.dot, a, b)
    agree(T.dot, np.dot, normal(2, 3).astype("float32"), rng.integers(0, 3, size=(3, 2)))  # promoted


def test_three_dimensional_dot_is_not_batched():  # fact 33
    assert T.dot(T.dtensor3(), T.dtensor3()).ndim == 4


def test_matmul(agree):
    for a, b in MATMULS:
        agree(T.matmul, np.matmul, normal(*a), normal(*b))
    agree(lambda a, b: a @ b, np.matmul, normal(2, 3), normal(3, 4))


def test_tensordot(agree):
    for axes, a, b in [
        (0, (2,), (3, 2)),
        (1, (2, 3), (3, 4)),
        (2, (5, 2, 3), (2, 3, 4)),
        (((0, 1), (1, 0)), (2, 3, 4), (3, 2, 5)),
        (((2,), (0,)), (2, 3, 4), (4, 5)),
        ((-1, 0), (2, 3, 4), (4, 5)),
    ]:
        agree(
            lambda x, y, k=axes: T.tensordot(x, y, k),
            lambda x, y, k=axes: np.tensordot(x, y, k),
            normal(*a),
            normal(*b),
        )


def test_batched(agree):
    for term, a, b in [
        ("b,bi->bi", (4,), (4, 3)),
        ("bi,bi->b", (4, 3), (4, 3)),
        ("bij,bj->bi", (4, 2, 3), (4, 3)),
        ("bij,bjk->bik", (4, 2, 3), (4, 3, 5)),
        ("bij,bkjl->bikl", (4, 2, 3), (4, 5, 3, 2)),
    ]:
        agree(T.batched_dot, lambda x, y, t=term: np.einsum(t, x, y), normal(*a), normal(*b))
    agree(
        lambda x, y: T.batched_tensordot(x, y, ((1,), (2,))),
        lambda x, y: np.einsum("bji,bkj->bik", x, y),
        normal(4, 2, 3),
        normal(4, 5, 2),
    )
    agree(
        lambda x, y: T.batched_tensordot(x, y, 2),
        lambda x, y: np.einsum("bcij,bijk->bck", x, y),
        normal(4, 6, 2, 3),
        normal(4, 2, 3, 5),
    )


def test_others(agree):
    agree(T.outer, np.outer, normal(2, 3), normal(4))
    agree(linalg.inner, np.inner, normal(2, 3), normal(4, 3))
    agree(linalg.kron, np.kron, normal(2, 3), normal(4, 5))
    agree(linalg.kron, np.kron, normal(3), normal(4, 5))
    agree(linalg.vdot, np.vdot, normal(3) + 1j * normal(3), normal(3) + 1j * normal(3))
    agree(linalg.trace, np.trace, normal(3, 4))
    agree(lambda a: linalg.trace(a, 1, 0, 2), lambda a: np.trace(a, 1, 0, 2), normal(3, 4, 5))


EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ba,cb->ca", (2, 3), (4, 2)), ("ii", (3, 3)),
    ("ii->i", (3, 3)), ("iii->i", (3, 3, 3)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("i,j->ij", (2,), (3,)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bi,bi->b", (2, 3), (2, 3)), ("bij,bj->bi", (2, 3, 4), (2, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("...ij,jk->...ik", (2, 5, 3, 4), (4, 5)),
    ("i...->...", (3, 2, 2)), ("...", (2, 2)), (",ij->ij", (), (2, 3)), ("iij,jk->ik", (3, 3, 2), (2, 4)),
    ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)), ("i,i,i->", (4,), (4,), (4,)), ("ij,ij->ij", (1, 3), (2, 3)),
    ("abcd,dcef->abef", (2, 3, 4, 5), (5, 4, 2, 3)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,jk,kl,lm,mn,no->io", (2, 3), (3, 4), (4, 5), (5, 2), (2, 3), (3, 2)),
]  # fmt: skip


def test_einsum(agree):
    for term, *shapes in EINSUMS:
        agree(
            lambda *a, t=term: T.einsum(t, *a),
            lambda *a, t=term: np.einsum(t, *a),
            *[normal(*s) for s in shapes],
        )
        agree(
            lambda *a, t=term: T.einsum(t, *a),
            lambda *a, t=term: np.einsum(t, *a),
            *[rng.integers(-3, 4, size=s).astype("int8") for s in shapes],
        )


def test_contraction_order():
    # A row times a chain of matrices is cheapest from the left; times a column, from the right.
    terms = [{"a", "b"}, {"b", "c"}, {"c", "d"}]
    extents = {"a": 1, "b": 100, "c": 100, "d": 100}
    assert path(extents, terms, {"a", "d"})[0] == (0, 1)
    assert path({**extents, "a": 100, "d": 1}, terms, {"a", "d"})[0] == (1, 2)
    chain = [{"abcdefgh"[k], "abcdefgh"[k + 1]} for k in range(7)]
    steps = path(dict.fromkeys("abcdefgh", 10), chain, {"a", "h"})  # greedy: more than 5 operands
    assert len(steps) == 6


@pytest.mark.parametrize(("a", "b"), [*DOTS, *MATMULS])
def test_gradients(a, b):
    product = T.dot if (a, b) in DOTS else T.matmul
    x, y = (T.TensorType("float64", tuple(size == 1 for size in shape))() for shape in (a, b))
    made = product(x, y)
    total = T.sum(made * T.cos(T.arange(T.size(made))).reshape(T.shape(made)))
    f = function([x, y], [total, *grad(total, [x, y])])
    values = [normal(*a), normal(*b)]
    _, *slopes = f(*values)
    for k, slope in enumerate(slopes):
        for index in np.ndindex(slope.shape):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [np.array(v) for v in values]
                moved[k][index] += step
                ends.append(f(*moved)[0])
            np.testing.assert_allclose(slope[index], (ends[0] - ends[1]) / 2e-4, rtol=1e-7, atol=1e-9)


def test_errors():
    x, w = T.zeros((50, 784)), T.zeros((800, 10))
    x.name, w.name = "x", "w"
    with pytest.raises(
        ShapeError,
        match=r"dot: inner sizes differ: x has 784 columns \(test_linalg.py:\d+\), w has 800 rows \(test_lin",
    ):
        T.dot(x, w)
    with pytest.raises(ShapeError, match="batched_dot: the first axis counts the products"):
        T.batched_dot(T.dscalar(), T.dmatrix())
    with pytest.raises(ShapeError, match="batched_dot: axis 0 and axis 0 have different sizes"):
        T.batched_dot(T.zeros((2, 3, 4)), T.zeros((3, 4, 5)))
    with pytest.raises(ShapeError, match=r"matmul does not take scalars, use \*"):
        T.matmul(T.dscalar(), T.dmatrix())
    with pytest.raises(ShapeError, match="matmul: stacks do not agree"):
        T.matmul(T.zeros((2, 3, 4)), T.zeros((3, 4, 5)))
    with pytest.raises(ShapeError, match="tensordot: 3 axes to sum over"):
        T.tensordot(x, w, 3)
    with pytest.raises(ShapeError, match="tensordot: axis 1 and axis 0 have different sizes"):
        T.tensordot(x, w, ((1,), (0,)))
    with pytest.raises(ShapeError, match="batched_tensordot: the first axis counts the products"):
        T.batched_tensordot(x, w, ((0,), (1,)))
    with pytest.raises(ShapeError, match="is for 1 operands, got 2"):
        T.einsum("ij", x, w)
    with pytest.raises(ShapeError, match="'i' is for 1 axes, not 2"):
        T.einsum("i,ij", x, w)
    with pytest.raises(ShapeError, match="'j' has size 784 and size 800"):
        T.einsum("ij,jk", x, w)
    with pytest.raises(ShapeError, match="the labels of the result must be different ones of the operands"):
        T.einsum("ij->ik", x)
    with pytest.raises(ShapeError, match="must be made of letters"):
        T.einsum("i1->i", x)


def test_inner_sizes_are_checked_when_the_program_runs():
    x, w = T.dmatrix("x"), T.dvector("w")
    with pytest.raises(ValueError, match=r"dot: inner sizes differ: x has 4 columns .*, w has 3 elements"):
        function([x, w], T.dot(x, w))(np.zeros((2, 4)), np.zeros(3))
