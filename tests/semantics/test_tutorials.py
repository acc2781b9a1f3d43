"""Programs of Theano's tutorial as their users write them; only the import lines differ."""

import numpy as np

import symtensor
import symtensor.tensor as T
from symtensor import function, shared


def test_baby_steps() -> None:
    x, y = T.dscalar("x"), T.dscalar("y")
    z = x + y
    f = function([x, y], z)
    assert f(2, 3) == 5.0
    assert np.allclose(f(16.3, 12.1), 28.4)
    assert np.allclose(z.eval({x: 16.3, y: 12.1}), 28.4)
    assert symtensor.pp(z) == "x + y"
    assert x.type is T.dscalar
    x, y = T.dmatrix("x"), T.dmatrix("y")
    g = function([x, y], x + y)
    assert g([[1, 2], [3, 4]], [[10, 20], [30, 40]]).tolist() == [[11.0, 22.0], [33.0, 44.0]]
    a, b = T.vector(), T.vector()
    assert function([a, b], a**2 + b**2 + 2 * a * b)([1, 2], [4, 5]).tolist() == [25.0, 49.0]


def test_more_examples() -> None:
    x = T.dmatrix("x")
    both = function([x], [1 / (1 + T.exp(-x)), (1 + T.tanh(x / 2)) / 2])
    one, two = both([[0, 1], [-1, -2]])
    assert np.allclose(one, [[0.5, 0.73105858], [0.26894142, 0.11920292]])
    assert np.allclose(one, two)
    a, b = T.dmatrices("a", "b")
    f = function([a, b], [a - b, abs(a - b), (a - b) ** 2])
    assert [r.tolist() for r in f([[1, 1], [1, 1]], [[0, 1], [2, 3]])] == [
        [[1, 0], [-1, -2]], [[1, 0], [1, 2]], [[1, 0], [1, 4]]
    ]  # fmt: skip
    x, y, w = T.dscalars("x", "y", "w")
    g = function([x, symtensor.In(y, value=1), symtensor.In(w, value=2, name="w_by_name")], (x + y) * w)
    assert [g(33), g(33, 2), g(33, 0, 1), g(33, w_by_name=1), g(33, w_by_name=1, y=0)] == [68, 70, 33, 34, 33]


def test_shared_state() -> None:
    state, inc = shared(0), T.iscalar("inc")
    accumulator = function([inc], state, updates=[(state, state + inc)])
    assert [accumulator(1), accumulator(300), state.get_value()] == [0, 1, 301]
    state.set_value(-1)
    assert accumulator(3) == -1
    foo = T.scalar(dtype=state.dtype)
    skip_shared = function([inc, foo], state * 2 + inc, givens=[(state, foo)])
    assert (skip_shared(1, 3), state.get_value()) == (7, 2)
    new_state = shared(0)
    new_accumulator = accumulator.copy(swap={state: new_state})
    assert (new_accumulator(100), new_state.get_value(), state.get_value()) == (0, 100, 2)
    null_accumulator = accumulator.copy(delete_updates=True)
    assert (null_accumulator(9000), state.get_value()) == (2, 2)


def test_logistic_regression() -> None:
    rng = np.random.RandomState(0)
    N, feats = 400, 784
    D = (rng.randn(N, feats), rng.randint(size=N, low=0, high=2))
    x, y = T.dmatrix("x"), T.dvector("y")
    w, b = shared(rng.randn(feats), name="w"), shared(0.0, name="b")
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    prediction = p_1 > 0.5
    xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
    cost = xent.mean() + 0.01 * (w**2).sum()
    gw, gb = T.grad(cost, [w, b])
    train = function(inputs=[x, y], outputs=[prediction, xent], updates=((w, w - 0.1 * gw), (b, b - 0.1 * gb)))
    predict = function(inputs=[x], outputs=prediction)
    first = train(*D)[1].mean()
    for _ in range(200):
        pred, err = train(*D)
    assert np.isfinite(first)
    assert err.mean() < first / 20
    assert (predict(D[0]) == D[1]).mean() > 0.9
    assert (pred == D[1]).mean() > 0.9


def test_derivatives() -> None:
    x = T.dscalar("x")
    assert function([x], T.grad(x**2, x))(94.2) == 188.4
    m = T.dmatrix("m")
    slope = function([m], T.grad(T.sum(1 / (1 + T.exp(-m))), m))([[0, 1], [-1, -2]])
    assert np.allclose(slope, [[0.25, 0.19661193], [0.19661193, 0.10499359]])
    v, u = T.dvector("v"), T.dvector("u")
    assert function([v], T.hessian((v**2).sum(), v))([4, 4]).tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert function([v], symtensor.gradient.jacobian(v**2, v))([4, 4]).tolist() == [[8.0, 0.0], [0.0, 8.0]]
    W, V = T.dmatrix("W"), T.dmatrix("V")
    y = T.dot(v, W)
    assert function([V, v], T.Rop(y, W, V))([[2, 2], [2, 2]], [0, 1]).tolist() == [2.0, 2.0]
    assert function([u, v], T.Lop(y, W, u))([2, 2], [0, 1]).tolist() == [[0.0, 0.0], [2.0, 2.0]]
    gv = T.grad(T.sum(v**2), v)
    assert function([v, u], T.grad(T.sum(gv * u), v))([4, 4], [2, 2]).tolist() == [4.0, 4.0]
    assert function([v, u], T.Rop(gv, v, u))([4, 4], [2, 2]).tolist() == [4.0, 4.0]


def test_conditions_and_shapes() -> None:
    a, b = T.scalars("a", "b")
    x, y = T.matrices("x", "y")
    z = T.switch(T.lt(a, b), T.mean(x), T.mean(y))
    assert function([a, b, x, y], z, mode=symtensor.Mode(linker="vm"))(0.0, 1.0, np.ones((9, 9)), np.zeros((9, 9))) == 1
    r, c = T.row(), T.col()
    R, M = np.arange(3).reshape(1, 3), np.arange(9).reshape(3, 3)
    assert function([r, x], r + x)(R, M).tolist() == (R + M).tolist()
    assert function([c, x], c + x)(R.T, M).tolist() == (R.T + M).tolist()
    assert function([x], (x**2).shape)(np.ones((2, 3))).tolist() == [2, 3]
    assert T.specify_shape(x, (2, 2)).type.shape == (2, 2)
    rows, columns = T.mgrid[0:5, 0:3]
    assert (rows + columns).eval().tolist() == np.mgrid[0:5, 0:3].sum(0).tolist()


def test_expressions_as_inputs() -> None:
    """What an expression among the inputs is computed from is not looked at, as in Theano."""
    x, total = T.dvector("x"), shared(0.0)
    hidden = T.tanh(x * 3)
    hidden.name = "hidden"
    f = function([hidden, x], hidden * 2 + x)
    assert f([1.0], [10.0]).tolist() == f(hidden=[1.0], x=[10.0]).tolist() == [12.0]
    g = function([symtensor.In(hidden, value=[1.0, 2.0])], hidden.sum(), updates={total: total + hidden.sum()})
    assert (g(), total.get_value()) == (3.0, 3.0)
    assert (hidden + 1).eval({hidden: [1.0]}).tolist() == [2.0]
