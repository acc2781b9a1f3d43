"""Fragile forms against the truth (mpmath), and the programs that rely on their replacement."""

import mpmath
import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.reference import evaluate
from symtensor.rewrite import rewrite
from symtensor.rules import ruleset_named

PASSES = ("algebra", "layout", "stability", "specialise")
POINTS = [0.0, 1e-8, -1e-8, 1e-300, 0.3, -0.3, 2.0, -2.0, 17.0, -17.0, 40.0, -40.0, 90.0, -90.0, 1e3, -1e3]
DIGITS = 900  # exp(1000) and 1 + exp(-1000) are told apart


def compiled(outputs):
    for name in PASSES:
        result = rewrite(outputs, ruleset_named(name))
        assert not result.circular
        assert not result.stopped
        outputs = result.outputs
    return outputs


def sig(x):
    return 1 / (1 + mpmath.exp(-x))


FORMS = {
    "log(1 + x)": (lambda x: T.log(1 + x), mpmath.log1p, lambda x: x > -1),
    "log(1 - x)": (lambda x: T.log(1 - x), lambda x: mpmath.log1p(-x), lambda x: x < 1),
    "exp(x) - 1": (lambda x: T.exp(x) - 1, mpmath.expm1, lambda x: x < 80),
    "1 - exp(x)": (lambda x: 1 - T.exp(x), lambda x: -mpmath.expm1(x), lambda x: x < 80),
    "log(1 + exp(x))": (lambda x: T.log(1 + T.exp(x)), lambda x: mpmath.log(1 + mpmath.exp(x)), None),
    "log(exp(x))": (lambda x: T.log(T.exp(x)), lambda x: x, None),
    "1 / (1 + exp(-x))": (lambda x: 1 / (1 + T.exp(-x)), sig, None),
    "exp(x) / (1 + exp(x))": (lambda x: T.exp(x) / (1 + T.exp(x)), sig, None),
    "exp(x) / (exp(x) + 1) again": (lambda x: T.exp(x) * (1 / (T.exp(x) + 1)), sig, None),
    "1 - sigmoid(x)": (lambda x: 1 - T.nnet.sigmoid(x), lambda x: sig(-x), None),
    "sigmoid(x) - 1": (lambda x: T.nnet.sigmoid(x) - 1, lambda x: -sig(-x), None),
    "log(sigmoid(x))": (lambda x: T.log(T.nnet.sigmoid(x)), lambda x: mpmath.log(sig(x)), None),
    "log(1 - sigmoid(x))": (lambda x: T.log(1 - T.nnet.sigmoid(x)), lambda x: mpmath.log(sig(-x)), None),
    "log1p(-sigmoid(x))": (lambda x: T.log1p(-T.nnet.sigmoid(x)), lambda x: mpmath.log(sig(-x)), None),
    "log(1 / (1 + exp(x)))": (lambda x: T.log(1 / (1 + T.exp(x))), lambda x: mpmath.log(sig(-x)), None),
    "softplus(x) - x": (
        lambda x: T.nnet.softplus(x) - x, lambda x: mpmath.log(1 + mpmath.exp(-x)), None,
    ),
    "exp(-softplus(x))": (lambda x: T.exp(-T.nnet.softplus(x)), lambda x: sig(-x), None),
    "log(exp(x) + exp(2 x))": (
        lambda x: T.log(T.exp(x) + T.exp(2 * x)),
        lambda x: mpmath.log(mpmath.exp(x) + mpmath.exp(2 * x)), None,
    ),
    "binary_crossentropy": (
        lambda x: T.nnet.binary_crossentropy(T.nnet.sigmoid(x), 0.0),
        lambda x: mpmath.log(1 + mpmath.exp(x)), None,
    ),
    "of a flattened sigmoid": (
        lambda x: T.log(1 - T.nnet.sigmoid(x.reshape((1, -1))).flatten()),
        lambda x: mpmath.log(sig(-x)), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", FORMS)
def test_form_is_accurate(form, dtype):
    build, truth, domain = FORMS[form]
    x = T.TensorType(dtype, (None,))("x")
    (after,) = compiled([build(x)])
    points = np.array([p for p in POINTS if domain is None or domain(p)], dtype)
    with np.errstate(all="ignore"):
        (got,) = evaluate([after], {x: points})
    with mpmath.workdps(DIGITS):
        for point, value in zip(points, got, strict=True):
            expected = truth(mpmath.mpf(float(point)))
            tolerance = 24 * float(np.finfo(dtype).eps) * abs(expected) + float(np.finfo(dtype).tiny)
            assert abs(mpmath.mpf(float(value)) - expected) <= tolerance, (form, point, value)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logistic_regression_saturated(dtype):
    """The program of the front page with logits of 1000: cost and gradients are finite and right."""
    x, y = T.TensorType(dtype, (None, None))("x"), T.TensorType(dtype, (None,))("y")
    w, b = T.TensorType(dtype, (None,))("w"), T.TensorType(dtype, ())("b")
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
    cost = xent.mean()
    gw, gb = T.grad(cost, [w, b])
    values = {
        x: np.array([[1000.0, 0], [-1000, 0], [1000, 1], [-1000, 1], [0, 3]], dtype),
        y: np.array([0, 1, 1, 0, 1], dtype),
        w: np.array([1.0, 0.5], dtype),
        b: np.asarray(0.25, dtype),
    }
    outputs = compiled([xent, cost, gw, gb])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = evaluate(outputs, values)
    logits = values[x].astype(float) @ values[w] + 0.25
    with mpmath.workdps(DIGITS):
        p = [sig(mpmath.mpf(z)) for z in logits]
        expected = [-mpmath.log(q if t else 1 - q) for q, t in zip(p, values[y], strict=True)]
        slope = [(q - int(t)) / 5 for q, t in zip(p, values[y], strict=True)]
        gradient = [sum(s * mpmath.mpf(float(v)) for s, v in zip(slope, column, strict=True)) for column in values[x].T]
        np.testing.assert_allclose(got[0], np.array(expected, float), rtol=1e-5 if dtype == "float32" else 1e-13)
        np.testing.assert_allclose(got[1], float(sum(expected) / 5), rtol=1e-6 if dtype == "float32" else 1e-14)
        np.testing.assert_allclose(got[2], np.array(gradient, float), rtol=1e-5 if dtype == "float32" else 1e-13)
        np.testing.assert_allclose(got[3], float(sum(slope)), atol=1e-7 if dtype == "float32" else 1e-15)


def test_logistic_gradient_is_one_sigmoid():
    """(p - y) / n: the gradient costs one sigmoid, which the prediction shares."""
    z, y = T.dvectors("z", "y")
    p = 1 / (1 + T.exp(-z))
    cost = T.mean(-y * T.log(p) - (1 - y) * T.log(1 - p))
    outputs = compiled([p, T.grad(cost, z)])
    names = sorted(n.op.name for n in set(nodes(outputs)) if n.op.category == "elementwise")
    assert names == sorted(["sigmoid", "sub", "mul", "true_div", "cast"])


def nodes(outputs):
    from symtensor.graph import ancestors

    return ancestors(outputs)


LABELS = {
    "crossentropy": lambda z, y: T.nnet.categorical_crossentropy(T.nnet.softmax(z), y).mean(),
    "tutorial": lambda z, y: -T.mean(T.log(T.nnet.softmax(z))[T.arange(y.shape[0]), y]),
    "log outside": lambda z, y: -T.mean(T.log(T.nnet.softmax(z)[T.arange(z.shape[0]), y])),
    "by hand": lambda z, y: -T.mean(T.log(T.exp(z) / T.exp(z).sum(axis=1, keepdims=True))[T.arange(y.shape[0]), y]),
}


@pytest.mark.parametrize("spelling", LABELS)
def test_softmax_crossentropy(spelling):
    """Finite at logits of 1000, no scatter is left, and negative labels count from the end."""
    z, y = T.dmatrix("z"), T.lvector("y")
    cost = LABELS[spelling](z, y)
    outputs = compiled([cost, T.grad(cost, z)])
    assert not [n for n in nodes(outputs) if n.op.name in ("inc_at", "set_at", "log", "exp")]
    logits = np.array([[1000.0, 0, -1000], [0, 1, 2], [-1000, 1000, 0], [3, 3, 3]])
    labels = np.array([2, 0, 1, -1])
    with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
        value, gradient = evaluate(outputs, {z: logits, y: labels})
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    picked = (shifted - total)[np.arange(4), labels]
    np.testing.assert_allclose(value, -picked.mean(), rtol=1e-14)
    np.testing.assert_allclose(gradient, (np.exp(shifted - total) - np.eye(3)[labels]) / 4, atol=1e-15)


def test_labels_for_the_first_rows_only():
    """Fewer labels than rows: the other rows get no gradient."""
    z, y = T.dmatrix("z"), T.lvector("y")
    cost = LABELS["tutorial"](z, y)
    (gradient,) = compiled([T.grad(cost, z)])
    assert "inc_at" not in {n.op.name for n in nodes([gradient])}
    (got,) = evaluate([gradient], {z: np.zeros((4, 2)), y: np.array([0, 1])})
    np.testing.assert_allclose(got, [[-0.25, 0.25], [0.25, -0.25], [0, 0], [0, 0]])


def test_labels_out_of_range_are_still_errors():
    z, y = T.dmatrix("z"), T.lvector("y")
    (gradient,) = compiled([T.grad(LABELS["crossentropy"](z, y), z)])
    with pytest.raises(IndexError):
        evaluate([gradient], {z: np.zeros((2, 3)), y: np.array([0, 3])})


def test_untaken_branch_does_not_leak():
    """d/dx switch(x > 0, log(x), 0) is 0 where x is 0, though log'(0) is infinite (Theano's point 28)."""
    x = T.dvector("x")
    (gradient,) = compiled([T.grad(T.switch(x > 0, T.log(x), 0.0).sum(), x)])
    with np.errstate(divide="ignore", invalid="ignore"):
        (got,) = evaluate([gradient], {x: np.array([0.0, 2.0, -1.0])})
    np.testing.assert_array_equal(got, [0.0, 0.5, 0.0])
