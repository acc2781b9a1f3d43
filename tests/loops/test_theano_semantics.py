"""Points 37 to 40 of Theano's semantics: what scan takes, returns, refuses, and lazy branches."""

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function, scan, shared
from symtensor.ifelse import ifelse
from symtensor.scan_module import until
from symtensor.tensor.shared_randomstreams import RandomStreams
from symtensor.updates import OrderedUpdates

from .both import both, gradients

# 37: what is returned, and in which order a step is given its arguments.


def test_37_returns_a_variable_and_updates() -> None:
    """A one-element list of outputs_info or of outputs still gives a bare variable."""
    x = T.dvector()
    single, updates = scan(lambda v, s: [v + s], x, [T.constant(0.0)])
    assert isinstance(updates, OrderedUpdates)
    assert not isinstance(single, (list, tuple))
    several, _ = scan(lambda v, s: (v + s, v), x, [T.constant(0.0), None])
    assert isinstance(several, list)
    listed, _ = scan(lambda v: v, x, return_list=True)
    assert isinstance(listed, list)
    updates[shared(1.0)] = T.constant(2.0)  # programs add to it
    assert len(updates + OrderedUpdates()) == 1


def test_37_arguments_are_sequences_by_taps_then_states_by_taps_then_non_sequences() -> None:
    a, b, c = T.dvector("a"), T.dvector("b"), T.dvector("c")
    s, k = T.dvector("s"), T.dscalar("k")
    seen: list[str] = []

    def step(a_now, a_next, b_now, s_two_before, s_before, c_before, k):
        seen.extend(str(v) for v in (a_now, a_next, b_now, s_two_before, s_before, c_before, k))
        new = a_now + 10 * a_next + 100 * b_now + 1000 * s_two_before + 10000 * s_before
        return [new, b_now * k, c_before + 1]

    outputs, _ = scan(
        step, [{"input": a, "taps": [0, 1]}, b],
        [{"initial": s, "taps": [-2, -1]}, None, {"initial": c}], [k],
    )  # fmt: skip
    assert seen == ["a[t]", "a[t+1]", "b[t]", "s[t-2]", "s[t-1]", "c[t-1]", "k"]
    first, second, third = both(
        [a, b, s, c, k], outputs, [1.0, 2, 3], [4.0, 5, 6], [0.5, 0.25], [1.0, 2.0], 3.0
    )
    assert first.shape == (2,)
    assert first[0] == 1 + 20 + 400 + 500 + 2500
    assert first[1] == 2 + 30 + 500 + 250 + 10000 * first[0]
    assert second.tolist() == [12, 15]
    assert third.tolist() == [[2, 3], [3, 4]]


@pytest.mark.parametrize("form", ["list", "tuple", "dict", "pairs", "until", "updates and until"])
def test_37_what_a_step_may_return(form: str) -> None:
    count = shared(np.int64(0), name="count")
    x = T.dvector()

    def step(v):
        made = {
            "list": [v * 2],
            "tuple": (v * 2,),
            "dict": (v * 2, {count: count + 1}),
            "pairs": ([v * 2], [(count, count + 1)]),
            "until": (v * 2, until(v > 1)),
            "updates and until": ([v * 2], {count: count + 1}, until(v > 1)),
        }
        return made[form]

    doubled, updates = scan(step, x)
    got = function([x], doubled, updates=updates)([1.0, 2.0, 3.0])
    assert got.tolist() == ([2, 4] if "until" in form else [2, 4, 6])
    steps = 2 if "until" in form else 3
    assert count.get_value() == (steps if form in ("dict", "pairs", "updates and until") else 0)


# 38: lengths, taps, directions.


def test_38_initial_state_is_not_an_output_and_one_step_keeps_its_axis() -> None:
    s = T.dvector("s")
    one, _ = scan(lambda v: v + 1, outputs_info=s, n_steps=1)
    (got,) = both([s], [one], [1.0, 2.0])
    assert got.tolist() == [[2, 3]]


def test_38_backwards_outputs_are_in_the_order_of_steps() -> None:
    x = T.dvector("x")
    sums, _ = scan(lambda v, s: s + v, x, T.constant(0.0), go_backwards=True)
    rows, _ = scan(lambda v: v, x, go_backwards=True)
    a, b, *_ = both([x], [sums, rows, *gradients((sums**2).sum() + (rows**3).sum(), [x])], [1.0, 10.0, 100.0])
    assert a.tolist() == [100, 110, 111]
    assert b.tolist() == [100, 10, 1]


def test_38_backwards_with_taps_and_fewer_steps() -> None:
    """The step gets the rows from the end; n_steps counts from there."""
    x = T.dvector("x")
    both_rows, _ = scan(
        lambda now, later: now * 10 + later, {"input": x, "taps": [0, 1]}, go_backwards=True, n_steps=2
    )
    (got,) = both([x], [both_rows], [1.0, 2.0, 3.0, 4.0])
    assert got.tolist() == [34, 23]


def test_38_taps_shorten_and_the_shortest_sequence_decides() -> None:
    x, y = T.dvector("x"), T.dvector("y")
    out, _ = scan(
        lambda before, now, after, other: before + 10 * now + 100 * after + 0 * other,
        [{"input": x, "taps": [-1, 0, 1]}, y],
    )
    long, short = both([x, y], [out, *gradients((out**2).sum(), [x])][:2], np.arange(6.0), np.ones(10))
    assert long.tolist() == [210, 321, 432, 543]
    (cut,) = both([x, y], [out], np.arange(6.0), np.ones(2))
    assert cut.tolist() == [210, 321]
    assert short.shape == (6,)


def test_38_more_steps_than_rows_is_an_error() -> None:
    x, n = T.dvector("x"), T.iscalar("n")
    out, _ = scan(lambda v: v * 2, x, n_steps=n)
    f = function([x, n], out)
    assert f([1.0, 2.0], 1).tolist() == [2]
    with pytest.raises(ValueError, match="3 steps, but sequence 'x\\[t\\]' has only 2 rows"):
        f([1.0, 2.0], 3)


def test_38_until_includes_the_last_step() -> None:
    x = T.dvector("x")
    out, _ = scan(lambda v, s: (s + v, until(s + v > 3)), x, T.constant(0.0))
    got, *_ = both([x], [out, *gradients((out**2).sum(), [x])], [1.0, 2.0, 3.0, 4.0])
    assert got.tolist() == [1, 3, 6]


def test_38_no_steps() -> None:
    """Theano did not implement this: outputs without rows, states as they began."""
    x, s = T.dmatrix("x"), T.dvector("s")
    out, _ = scan(lambda v, s: s + v, x, s)
    last = symtensor.fori_loop(0, x.shape[0], lambda i, s: s * x[i], s)
    got = both([x, s], [out, last, *gradients((last**2).sum() + out.sum(), [x, s])], np.ones((0, 2)), [1.0, 2.0])
    assert got[0].shape == (0, 2)
    assert got[1].tolist() == [1, 2]
    assert got[2].shape == (0, 2)
    assert got[3].tolist() == [2, 4]


# 39: states keep their type; closures, updates, draws; truncation.


def test_39_state_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="begins as float32 but a step makes it float64"):
        scan(lambda s, v: s * v, outputs_info=T.fscalar("s"), non_sequences=T.dscalar("v"), n_steps=3)
    with pytest.raises(ValueError, match="begins as int64 but a step makes it float64"):
        scan(lambda s: s * 0.5, outputs_info=T.constant(0), n_steps=3)
    with pytest.raises(ValueError, match=r"state 's\[t-1\]' begins as .* but a step makes it"):
        scan(lambda s: s + T.dmatrix("m"), outputs_info=T.dvector("s"), n_steps=3)


def test_39_closures_over_variables_and_shared() -> None:
    x, k, s = T.dvector("x"), T.dscalar("k"), shared(3.0, name="s")
    product = k * s
    out, _ = scan(lambda v: v * product + s, x)
    got, *_ = both([x, k], [out, *gradients((out**2).sum(), [x, k, s])], [1.0, 2.0], 5.0)
    assert got.tolist() == [18, 33]


def test_39_shared_updates_inside_are_seen_by_the_next_step() -> None:
    x, total = T.dvector("x"), shared(10.0, name="total")
    before, updates = scan(lambda v: (total * 1.0, {total: total + v}), x)
    f = function([x], [before, total * 2], updates=updates)
    seen, outside = f([1.0, 2.0, 3.0])
    assert seen.tolist() == [10, 11, 13]
    assert outside == 20
    assert total.get_value() == 16
    symtensor.function([x], before)([1.0])  # without the updates nothing changes
    assert total.get_value() == 16


def test_39_draws_advance_with_each_step_and_with_each_call() -> None:
    x = T.dvector("x")
    draws, updates = scan(lambda v: v * 0 + RandomStreams(3).uniform(()), x)
    rng = RandomStreams(3)
    draws, updates = scan(lambda v: v * 0 + rng.uniform(()), x)
    assert updates
    advancing = function([x], draws, updates=updates)
    a, b = advancing(np.zeros(4)), advancing(np.zeros(4))
    assert len(set(a) | set(b)) == 8
    frozen = function([x], draws, no_default_updates=True)
    np.testing.assert_array_equal(frozen(np.zeros(4)), frozen(np.zeros(4)))


def test_39_what_non_sequences_draw_is_drawn_once() -> None:
    """A step that gets a random variable as an argument sees one value; outside it is that value, too."""
    rng = RandomStreams(3)
    v = rng.uniform((2,))
    out, updates = scan(lambda s, v: s + v, outputs_info=T.zeros(2), non_sequences=2 * v, n_steps=4)
    assert not updates
    totals = function([], [out, v])
    for _ in range(2):
        got, drawn = totals()
        np.testing.assert_allclose(got, np.arange(1, 5)[:, None] * 2 * drawn)
    gradient, drawn = function([], [T.grad(out[-1].sum(), v), v])()
    np.testing.assert_array_equal(gradient, [8, 8])
    # A scan in a step that draws: one value for all of its own steps, another in each step outside.
    x = T.dvector("x")

    def step(v: symtensor.Variable) -> symtensor.Variable:
        sums, _ = scan(lambda s, r: s + r, outputs_info=T.constant(0.0), non_sequences=rng.uniform(()), n_steps=3)
        return sums + 0 * v

    nested, updates = scan(step, x)
    rows = function([x], nested, updates=updates)(np.zeros(5))
    np.testing.assert_allclose(rows, rows[:, :1] * [1, 2, 3])
    assert len(set(rows[:, 0])) == 5


def test_39_truncated_gradient() -> None:
    w = T.dscalar("w")
    out, _ = scan(lambda s, w: s * w, outputs_info=T.constant(1.0), non_sequences=w, n_steps=4, truncate_gradient=2)
    whole, _ = scan(lambda s, w: s * w, outputs_info=T.constant(1.0), non_sequences=w, n_steps=4)
    a, b = both([w], [T.grad(out[-1], w), T.grad(whole[-1], w)], 2.0)
    assert (a, b) == (16, 32)


# 40: lazy branches.


def test_40_only_the_taken_branch_is_computed() -> None:
    c, x, i = T.iscalar("c"), T.dvector("x"), T.iscalar("i")
    chosen = ifelse(c, x[i], x[0])
    f = function([c, x, i], [chosen, T.grad(chosen, x)])
    value, gradient = f(0, [1.0, 2.0], 7)
    assert value == 1
    assert gradient.tolist() == [1, 0]
    with pytest.raises(IndexError):
        f(1, [1.0, 2.0], 7)
    both_sides = function([c, x, i], T.switch(c, x[i], x[0]))
    with pytest.raises(IndexError):
        both_sides(0, [1.0, 2.0], 7)


def test_40_takes_lists_and_refuses_other_types() -> None:
    c, x, y = T.bscalar("c"), T.dvector("x"), T.dmatrix("y")
    a, b = ifelse(T.lt(c, 1), [x * 2, y], [x, y.T])
    f = function([c, x, y], [a, b])
    assert f(0, [1.0], [[1.0, 2.0]])[0].tolist() == [2]
    assert f(1, [1.0], [[1.0, 2.0]])[1].shape == (2, 1)
    with pytest.raises(TypeError, match="the branches must have one type"):
        ifelse(c, x, y)
    with pytest.raises(ValueError, match="1 expressions in one branch and 2 in the other"):
        ifelse(c, [x], [x, x])
