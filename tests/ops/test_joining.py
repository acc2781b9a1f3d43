"""Joining, splitting, repeating, moving and padding beside NumPy; sizes, gradients and errors."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.ops import joining
from symtensor_codegen.errors import DTypeError, ShapeError

rng = np.random.default_rng(2)
A, B = rng.normal(size=(2, 3, 1)), rng.normal(size=(2, 3, 1))
M = rng.normal(size=(2, 3))


def test_joins(agree):
    for axis in (0, 1, -1):
        agree(
            lambda a, b, k=axis: T.concatenate([a, b], k),
            lambda a, b, k=axis: np.concatenate([a, b], k),
            A,
            B,
        )
        agree(lambda a, b, k=axis: T.join(k, a, b, a), lambda a, b, k=axis: np.concatenate([a, b, a], k), A, B)
        agree(lambda a, b, k=axis: T.stack([a, b], axis=k), lambda a, b, k=axis: np.stack([a, b], k), M, M + 1)
    agree(lambda a, b: T.stack(a, b), lambda a, b: np.stack([a, b]), M, M + 1)  # fact 32
    agree(lambda a, b: T.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), M, M + 1)
    agree(lambda a, b: T.stack([a, b]), lambda a, b: np.stack([a, b]), np.float64(1), np.float64(2))
    for name in ("hstack", "vstack", "dstack"):
        for shape in ((3,), (2, 3), (2, 3, 4)):
            ours, numpys = getattr(joining, name), getattr(np, name)
            a, b = rng.normal(size=shape), rng.normal(size=shape)
            agree(lambda a, b, f=ours: f([a, b]), lambda a, b, f=numpys: f([a, b]), a, b)
    agree(lambda a, b: joining.vertical_stack(a, b), lambda a, b: np.vstack([a, b]), M, M)
    agree(lambda a, b: joining.horizontal_stack(a, b), lambda a, b: np.hstack([a, b]), M, M)
    agree(lambda a, b: T.concatenate([a, b]), lambda a, b: np.concatenate([a, b]), M, np.ones((1, 3), "int8"))


def test_static_sizes_of_joins():  # fact 3: the joined axis is not known to be 1, others stay known
    row = T.row("row")
    joined = T.concatenate([row, row], axis=0)
    assert joined.type.shape == (2, None)
    assert T.concatenate([T.col(), T.matrix()], axis=1).broadcastable == (False, False)
    assert T.concatenate([T.zeros((2, 3)), T.zeros((2, 4))], 1).type.shape == (2, 7)


def test_splits(agree):
    wide = rng.normal(size=(2, 6))
    for k in range(3):
        agree(lambda a, k=k: T.split(a, 3, axis=1)[k], lambda a, k=k: np.split(a, 3, 1)[k], wide)
        agree(lambda a, k=k: T.split(a, [1, 2, 3], 3, 1)[k], lambda a, k=k: np.split(a, [1, 3], 1)[k], wide)
        agree(
            lambda a, s, k=k: T.split(a, s, 3, 1)[k],
            lambda a, s, k=k: np.split(a, s.cumsum()[:-1], 1)[k],
            wide,
            np.array([1, 0, 5]),
        )
        agree(
            lambda a, k=k: joining.array_split(a, 3, axis=1)[k],
            lambda a, k=k: np.array_split(a, 3, 1)[k],
            rng.normal(size=(2, 7)),
        )
        agree(
            lambda a, k=k: joining.array_split(a, [1, 4], axis=1)[k],
            lambda a, k=k: np.array_split(a, [1, 4], 1)[k],
            wide,
        )


def test_repeats(agree):
    for reps in (2, (2,), (2, 3), (2, 1, 3), (1, 0)):
        agree(lambda a, r=reps: T.tile(a, r), lambda a, r=reps: np.tile(a, r), M)
    for counts, axis in ((2, 0), (3, 1), (2, None), ([1, 0], 0), ([1, 0, 3], 1), ([0, 0, 0], 1)):
        agree(lambda a, n=counts, k=axis: T.repeat(a, n, k), lambda a, n=counts, k=axis: np.repeat(a, n, k), M)
    agree(lambda a, n: T.repeat(a, n, 1), lambda a, n: np.repeat(a, n, 1), M, np.array([2, 0, 1]))
    agree(lambda a, n: T.repeat(a, n, 1), lambda a, n: np.repeat(a, n, 1), M, np.int64(2))
    agree(lambda a, n: T.tile(a, (n, 1)), lambda a, n: np.tile(a, (n, 1)), M, np.int64(2))


def test_moves(agree):
    for shift, axis in ((1, 0), (-2, 1), (5, None), ((1, 2), (0, 1))):
        agree(lambda a, s=shift, k=axis: T.roll(a, s, k), lambda a, s=shift, k=axis: np.roll(a, s, k), M)
    agree(lambda a, s: T.roll(a, s, 1), lambda a, s: np.roll(a, s, 1), M, np.int64(-4))
    for axis in (None, 0, 1, (0, 1)):
        agree(lambda a, k=axis: joining.flip(a, k), lambda a, k=axis: np.flip(a, k), M)
    agree(joining.fliplr, np.fliplr, M)
    agree(joining.flipud, np.flipud, M)
    for turns in range(-1, 5):
        agree(lambda a, k=turns: joining.rot90(a, k), lambda a, k=turns: np.rot90(a, k), A)
        agree(lambda a, k=turns: joining.rot90(a, k, (2, 0)), lambda a, k=turns: np.rot90(a, k, (2, 0)), A)


def test_pads(agree):
    for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
        for width in (1, (2, 1), ((1, 2), (0, 3)), ((0, 0), (7, 9))):
            agree(lambda a, w=width, m=mode: joining.pad(a, w, m), lambda a, w=width, m=mode: np.pad(a, w, m), M)
    agree(
        lambda a, n, v: joining.pad(a, ((n, 0), (1, n)), constant_values=v),
        lambda a, n, v: np.pad(a, ((n, 0), (1, n)), constant_values=v),
        M,
        np.int64(2),
        np.float64(7),
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda x: T.concatenate([x, 2 * x, x[:1]], 0),
        lambda x: T.split(x, [1, 2], 2, 1)[1],
        lambda x: T.tile(x, (2, 3)),
        lambda x: T.repeat(x, [2, 0, 1], 1),
        lambda x: T.roll(x, 2, 1) * x,
        lambda x: joining.pad(x, 2, "reflect"),
        lambda x: joining.pad(x, ((1, 0), (0, 2)), constant_values=3.0) ** 2,
        lambda x: joining.rot90(x),
    ],
)
def test_gradients(build):
    x = T.dmatrix("x")
    made = build(x)
    weight = T.cos(T.arange(T.size(made))).reshape(T.shape(made))
    f = function([x], [(made * weight).sum(), grad((made * weight).sum(), x)])
    slope = f(M)[1]
    for index in np.ndindex(M.shape):
        moved = np.zeros_like(M)
        moved[index] = 1e-5
        difference = (f(M + moved)[0] - f(M - moved)[0]) / 2e-5
        np.testing.assert_allclose(slope[index], difference, rtol=1e-6, atol=1e-8)


def test_a_rolled_tensor_has_the_same_size():
    x = T.dvector("x")
    assert T.roll(x, 3).dims == x.dims
    assert (joining.pad(x, (1, 0))[:-1]).dims == x.dims


def test_errors():
    x, y = T.dmatrix("x"), T.dvector("y")
    with pytest.raises(ShapeError, match="join: there is nothing to join"):
        T.concatenate([])
    with pytest.raises(ShapeError, match=r"join takes tensors of one type and rank, got x: .*; y: .*"):
        T.concatenate([x, y])
    with pytest.raises(ShapeError, match="scalars have no axis"):
        T.concatenate([T.dscalar(), T.dscalar()])
    with pytest.raises(ShapeError, match="join along axis 0: sizes 3 and 4 differ on axis 1"):
        T.concatenate([T.zeros((2, 3)), T.zeros((2, 4))])
    with pytest.raises(ShapeError, match="axis 2 is out of range"):
        T.concatenate([x, x], axis=2)
    with pytest.raises(TypeError, match="concatenate takes a list or tuple of tensors"):
        T.concatenate(x)
    with pytest.raises(ShapeError, match="stack: there is nothing to stack"):
        T.stack([])
    with pytest.raises(ShapeError, match="stack takes tensors of one rank"):
        T.stack([x, y])
    with pytest.raises(ShapeError, match="split: size 5 does not divide into 2 equal pieces"):
        T.split(T.zeros((5,)), 2)
    with pytest.raises(ShapeError, match="give n_splits"):
        T.split(x, T.lvector())
    with pytest.raises(ShapeError, match="split: 2 sizes for 3 pieces"):
        T.split(x, [1, 2], 3)
    with pytest.raises(DTypeError, match="the counts must be an integer or a vector of integers"):
        T.repeat(x, 1.5, 0)
    with pytest.raises(ShapeError, match="roll: 1 shifts for 2 axes"):
        T.roll(x, [1], (0, 1))
    with pytest.raises(ValueError, match="pad: mode must be one of constant, edge"):
        joining.pad(x, 1, "average")
    with pytest.raises(ShapeError, match="pad: a width is negative"):
        joining.pad(x, -1)
    with pytest.raises(ShapeError, match="tile: ndim is 1"):
        T.tile(x, 2, ndim=1)
    with pytest.raises(ShapeError, match="rot90: the two axes must differ"):
        joining.rot90(x, 1, (0, -2))


def test_errors_when_the_program_runs():
    x, y = T.dmatrix("x"), T.dmatrix("y")
    with pytest.raises(ValueError, match=r"join along axis 0: sizes .* differ on axis 1"):
        function([x, y], T.concatenate([x, y]))(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="specify_shape: axis 0 has size 4, not 3"):
        function([x], T.split(x, [1, 2])[0])(np.zeros((4, 2)))
