"""The programs of Theano's tutorial on scan, with the numbers they give, and their gradients."""

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import config, function, scan, shared
from symtensor.scan_module import until
from symtensor.tensor.shared_randomstreams import RandomStreams

from .both import both, gradients


def test_power_of_a_vector() -> None:
    """A**k, of which only the last value is kept."""
    k, a = T.iscalar("k"), T.dvector("A")
    result, updates = scan(
        fn=lambda prior, a: prior * a, outputs_info=T.ones_like(a), non_sequences=a, n_steps=k
    )
    final = result[-1]
    power = function(inputs=[a, k], outputs=final, updates=updates)
    np.testing.assert_array_equal(power(range(10), 2), np.arange(10.0) ** 2)
    np.testing.assert_array_equal(power(range(10), 4), np.arange(10.0) ** 4)
    value, first, second = both([a, k], [final, *gradients(final.sum(), [a])], np.arange(1.0, 4), 3)
    np.testing.assert_allclose(first, 3 * np.arange(1.0, 4) ** 2)
    np.testing.assert_allclose(second, 2 * first * 6 * np.arange(1.0, 4))
    assert value.tolist() == [1, 8, 27]


def test_polynomial() -> None:
    """A sum of terms, each from a row of the coefficients and of an arange."""
    coefficients, x = T.vector("coefficients"), T.scalar("x")
    components, updates = scan(
        fn=lambda coefficient, power, free: coefficient * (free**power),
        outputs_info=None,
        sequences=[coefficients, T.arange(10000)],
        non_sequences=x,
    )
    assert not updates
    polynomial = components.sum()
    value, *_ = both([coefficients, x], [polynomial, *gradients(polynomial, [coefficients, x])], [1.0, 0.0, 2.0], 3.0)
    assert value == 19.0


def test_sum_of_arange() -> None:
    """Accumulation with a state whose type is given by as_tensor_variable(np.asarray(0, dtype))."""
    up_to = T.iscalar("up_to")
    start = T.as_tensor_variable(np.asarray(0, T.arange(up_to).dtype))
    result, _ = scan(fn=lambda i, total: total + i, outputs_info=start, sequences=T.arange(up_to))
    triangular = function(inputs=[up_to], outputs=result)
    assert triangular(15).tolist() == [n * (n + 1) // 2 for n in range(15)]
    assert triangular(1).tolist() == [0]


def test_values_set_one_after_the_other() -> None:
    location, values, model = T.imatrix("location"), T.vector("values"), T.matrix("output_model")

    def set_value_at_position(where, value, like):
        return T.set_subtensor(T.zeros_like(like)[where[0], where[1]], value)

    result, _ = scan(
        fn=set_value_at_position, outputs_info=None, sequences=[location, values], non_sequences=model
    )
    (got,) = both([location, values, model], [result], np.int32([[1, 1], [2, 3]]), [42.0, 50.0], np.zeros((5, 5)))
    want = np.zeros((2, 5, 5))
    want[0, 1, 1], want[1, 2, 3] = 42, 50
    np.testing.assert_array_equal(got, want)


def test_elementwise_tanh_of_products() -> None:
    """tanh(x(t).W + b)."""
    x, w, b = T.matrix("X"), T.matrix("W"), T.vector("b_sym")
    results, _ = scan(lambda v: T.tanh(T.dot(v, w) + b), sequences=x)
    rng = np.random.default_rng(1)
    xv, wv, bv = rng.normal(size=(3, 2)), rng.normal(size=(2, 4)), rng.normal(size=4)
    value, *_ = both([x, w, b], [results, *gradients((results**2).sum(), [x, w, b])], xv, wv, bv)
    np.testing.assert_allclose(value, np.tanh(xv @ wv + bv))


def test_recurrence_with_two_inputs() -> None:
    """x(t) = tanh(x(t-1).W + y(t).U + p(T-t).V)."""
    x, w, y, u = T.vector("X"), T.matrix("W"), T.matrix("Y"), T.matrix("U")
    p, v = T.matrix("P"), T.matrix("V")
    results, _ = scan(
        lambda y, p, before: T.tanh(T.dot(before, w) + T.dot(y, u) + T.dot(p, v)),
        sequences=[y, p[::-1]],
        outputs_info=[x],
    )
    rng = np.random.default_rng(2)
    wv, uv, vv = rng.normal(size=(2, 2)), rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    xv, yv, pv = rng.normal(size=2), rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    value, *_ = both(
        [x, w, y, u, p, v], [results, *gradients((results**3).sum(), [x, w, y, u, p, v])], xv, wv, yv, uv, pv, vv,
        rtol=1e-9,
    )  # fmt: skip
    state = xv
    for t in range(5):
        state = np.tanh(state @ wv + yv[t] @ uv + pv[4 - t] @ vv)
        np.testing.assert_allclose(value[t], state)


def test_norms_of_rows_and_columns() -> None:
    x = T.matrix("X")
    rows, _ = scan(lambda v: T.sqrt((v**2).sum()), sequences=[x])
    columns, _ = scan(lambda v: T.sqrt((v**2).sum()), sequences=[x.T])
    value = np.diag(np.arange(1.0, 6), 1)[:, 1:] + 0.5
    by_row, by_column, *_ = both([x], [rows, columns, *gradients((rows**3).sum() * columns.prod(), [x])], value)
    np.testing.assert_allclose(by_row, np.sqrt((value**2).sum(1)))
    np.testing.assert_allclose(by_column, np.sqrt((value**2).sum(0)))


def test_trace_of_a_matrix() -> None:
    x = T.matrix("X")
    results, _ = scan(
        lambda i, j, total: T.cast(x[i, j] + total, config.floatX),
        sequences=[T.arange(x.shape[0]), T.arange(x.shape[1])],
        outputs_info=np.asarray(0.0, dtype=config.floatX),
    )
    value = np.eye(5)
    value[0] = np.arange(5)
    got, gradient = both([x], [results[-1], symtensor.grad(results[-1], x)], value)
    assert got == 4
    np.testing.assert_array_equal(gradient, np.eye(5))


def test_two_steps_back() -> None:
    """x(t) = x(t-2).U + x(t-1).V + tanh(x(t-1).W + b)."""
    x, w, b = T.matrix("X"), T.matrix("W"), T.vector("b_sym")
    u, v = T.matrix("U"), T.matrix("V")
    n = T.iscalar("n_sym")
    results, _ = scan(
        lambda x_tm2, x_tm1: T.dot(x_tm2, u) + T.dot(x_tm1, v) + T.tanh(T.dot(x_tm1, w) + b),
        n_steps=n,
        outputs_info=[{"initial": x, "taps": [-2, -1]}],
    )
    rng = np.random.default_rng(3)
    xv, wv, bv = rng.normal(size=(2, 2)), 0.5 * rng.normal(size=(2, 2)), rng.normal(size=2)
    uv, vv = 0.3 * rng.normal(size=(2, 2)), 0.3 * rng.normal(size=(2, 2))
    value, *_ = both(
        [x, w, b, u, v, n], [results, *gradients((results**2).sum(), [x, w, b, u, v])], xv, wv, bv, uv, vv, 10,
        rtol=1e-8,
    )  # fmt: skip
    before, last = xv
    for row in value:
        before, last = last, before @ uv + last @ vv + np.tanh(last @ wv + bv)
        np.testing.assert_allclose(row, last)


def test_jacobian() -> None:
    """The Jacobian of tanh(v.A) row by row, beside symtensor.gradient's."""
    v, a = T.vector(), T.matrix()
    y = T.tanh(T.dot(v, a))
    rows, _ = scan(lambda i: T.grad(y[i], v), sequences=[T.arange(y.shape[0])])
    vv, av = np.ones(5), np.eye(5)[:, :4] * 0.5
    got, other = both([a, v], [rows, T.jacobian(y, v)], av, vv)
    np.testing.assert_allclose(got, ((1 - np.tanh(vv @ av) ** 2) * av).T)
    np.testing.assert_allclose(got, other)


def test_accumulation_in_a_shared_variable() -> None:
    """A step that returns nothing but updates."""
    k, n = shared(0), T.iscalar("n_sym")
    outputs, updates = scan(lambda: {k: k + 1}, n_steps=n)
    assert outputs is None
    accumulator = function([n], [], updates=updates, allow_input_downcast=True)
    k.get_value()
    accumulator(5)
    assert k.get_value() == 5
    accumulator(3)
    assert k.get_value() == 8


def test_gibbs_sampling() -> None:
    """Binomial draws inside the steps: different in each step and each call, the same for the same seed."""
    w_values = np.random.default_rng(4).normal(size=(4, 3))
    w, bvis, bhid = shared(w_values), shared(np.zeros(4)), shared(np.zeros(3))

    def program():
        trng = RandomStreams(1234)

        def one_step(vsample):
            hmean = T.nnet.sigmoid(T.dot(vsample, w) + bhid)
            hsample = trng.binomial(size=hmean.shape, n=1, p=hmean)
            vmean = T.nnet.sigmoid(T.dot(hsample, w.T) + bvis)
            return trng.binomial(size=vsample.shape, n=1, p=vmean, dtype=config.floatX)

        sample = T.vector()
        values, updates = scan(one_step, outputs_info=sample, n_steps=10)
        return [function([sample], values, updates=updates, mode=mode) for mode in ("fast_run", "reference")]

    gibbs10, meant = program()
    first, second = gibbs10(np.ones(4)), gibbs10(np.ones(4))
    assert first.shape == (10, 4)
    assert set(np.unique(first)) <= {0.0, 1.0}
    assert not np.array_equal(first, second)
    assert len({tuple(row) for row in np.concatenate([first, second])}) > 3
    again, meant = program()
    np.testing.assert_array_equal(again(np.ones(4)), first)
    np.testing.assert_array_equal(meant(np.ones(4)), second)


def test_strict_gibbs_with_consider_constant() -> None:
    """The gradient of a free energy at the end of a chain that is held constant."""
    w = shared(np.random.default_rng(5).normal(size=(4, 3)), name="W")
    trng = RandomStreams(7)

    def one_step(v, w):
        h = trng.binomial(size=(3,), p=T.nnet.sigmoid(T.dot(v, w)), dtype="float64")
        return T.nnet.sigmoid(T.dot(h, w.T))

    v0 = T.dvector()
    chain, updates = scan(one_step, outputs_info=v0, non_sequences=w, n_steps=5, strict=True)
    end = chain[-1]
    cost = -T.dot(v0, T.dot(w, T.ones(3))) + T.dot(end, T.dot(w, T.ones(3)))
    gradient = T.grad(cost, w, consider_constant=[end])
    f = function([v0], [end, gradient], updates=updates)
    last, got = f(np.ones(4))
    np.testing.assert_allclose(got, np.outer(last - 1, np.ones(3)))


def test_until() -> None:
    """Powers of two up to a bound; the step that reaches it is included."""
    limit = T.scalar("max_value")
    values, _ = scan(
        lambda power, limit: (power * 2, until(power * 2 > limit)),
        outputs_info=T.constant(1.0), non_sequences=limit, n_steps=1024,
    )  # fmt: skip
    (got,) = both([limit], [values], 45.0)
    assert got.tolist() == [2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("strict", [True, False])
def test_strict(strict: bool) -> None:
    """A shared variable must be passed to a strict scan."""
    rate = shared(2.0, name="rate")
    x = T.dvector("x")
    passed, _ = scan(lambda v, r: v * r, x, non_sequences=rate, strict=strict)
    assert function([x], passed)([1.0, 2.0]).tolist() == [2, 4]
    if strict:
        with pytest.raises(ValueError, match="strict=True forbids"):
            scan(lambda v: v * rate, x, strict=True)
    else:
        assert function([x], scan(lambda v: v * rate, x)[0])([1.0, 2.0]).tolist() == [2, 4]


def test_map_and_folds() -> None:
    x = T.dvector("x")
    squares, _ = symtensor.map(lambda v: v**2, x)
    total, _ = symtensor.reduce(lambda v, acc: acc + v, x, T.constant(0.0))
    left, _ = symtensor.foldl(lambda v, acc: acc * 10 + v, x, T.constant(0.0))
    right, _ = symtensor.foldr(lambda v, acc: acc * 10 + v, x, T.constant(0.0))
    cost = (squares.sum() + total) * left * right
    got = both([x], [squares, total, left, right, *gradients(cost, [x])], [1.0, 2.0, 3.0])
    assert got[0].tolist() == [1, 4, 9]
    assert [float(v) for v in got[1:4]] == [6, 123, 321]
