"""Random graphs: every pass ends within its budget, and the values stay the same."""

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import symtensor.tensor as T
from symtensor.graph import constant
from symtensor.reference import evaluate
from symtensor.rewrite import rewrite
from symtensor.rules import ruleset_named

UNARY = [
    T.exp, T.log, T.sqrt, T.sqr, abs, T.neg, T.tanh, T.nnet.sigmoid, T.nnet.softplus, T.log1p, T.expm1,
    lambda a: a**2, lambda a: a**-1, lambda a: a**0.5, lambda a: a * 1, lambda a: a + 0, lambda a: 1 + a,
    lambda a: 1 - a, lambda a: a / 4, lambda a: T.neg(-a), lambda a: a * 0, T.floor, T.ones_like,
    T.zeros_like, lambda a: T.switch(a > 0, a, 0.0),
]  # fmt: skip
BINARY = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, T.maximum, T.minimum,
    lambda a, b: T.switch(a > b, a, b), lambda a, b: a - (-b), lambda a, b: (-a) * b,
]  # fmt: skip
VIEWS = [
    lambda a: a.T, lambda a: a.T.T, lambda a: a.reshape((a.shape[0], -1)),
    lambda a: a.flatten().reshape(a.shape),
    lambda a: a.dimshuffle(0, "x", 1).dimshuffle(0, 2), lambda a: a - a.max(axis=1, keepdims=True),
    lambda a: a / a.sum(axis=1, keepdims=True), lambda a: a * a.mean(), lambda a: T.nnet.softmax(a),
    lambda a: a[::-1], lambda a: a[0:], lambda a: T.dot(a, a)[0] + a,
    lambda a: a + T.set_subtensor(a[:2], 2.0)[:2].sum(axis=0),
    lambda a: a.sum(axis=0) + a, lambda a: T.exp(a) / T.exp(a).sum(axis=1, keepdims=True),
]  # fmt: skip
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)), max_size=12)


def build(steps, leaves):
    pool = list(leaves)
    for kind, which, first, second in steps:
        a, b = pool[-1 - first % len(pool)], pool[-1 - second % len(pool)]
        if kind == 0:
            made = UNARY[which % len(UNARY)](a)
        elif kind == 1:
            made = BINARY[which % len(BINARY)](a, b)
        elif a.ndim != 2:
            continue
        else:
            made = VIEWS[which % len(VIEWS)](a)
        pool.append(made)
    return pool[-1]


@given(STEPS, st.integers(0, 5))
def test_values_stay_the_same(steps, seed):
    x, y = T.TensorType("float64", (None, None))("x"), T.TensorType("float64", (None, None))("y")
    output = build(steps, [x, y, constant(0.5), x])
    rng = np.random.default_rng(seed)
    values = {x: rng.normal(size=(3, 3)), y: rng.normal(size=(3, 3)) * 4}
    after = output
    for name in ("algebra", "layout", "stability", "specialise"):
        result = rewrite([after], ruleset_named(name))
        assert not result.circular, (name, result.circular)
        assert not result.stopped, (name, result.stopped)
        (after,) = result.outputs
        assert after.element is output.element
        assert after.ndim == output.ndim
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        (before,), (got,) = evaluate([output], values), evaluate([after], values)
    assert got.shape == before.shape
    # Where the original is not finite, the rewritten form may know better.
    sure = np.isfinite(before) & (np.abs(before) < 1e100)
    close = np.isclose(got, before, rtol=1e-6, atol=1e-8)
    assert (close | ~sure).all(), (before, got)


@given(STEPS)
def test_a_second_run_changes_nothing(steps):
    x, y = T.TensorType("float32", (None, None))("x"), T.TensorType("float32", (None, None))("y")
    output = build(steps, [x, y, x * 2])
    for name in ("algebra", "layout", "stability", "specialise"):
        rules = ruleset_named(name)
        once = rewrite([output], rules).outputs
        again = rewrite(once, rules)
        assert again.outputs == once, [str(f) for f in again.log]
        (output,) = once
