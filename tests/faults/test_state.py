"""What a call may change: the shared variables it updates, all of them or none, and nothing else."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor_codegen.errors import UserError

pytestmark = pytest.mark.faults


def test_failure_in_the_middle_of_a_call() -> None:
    """Products, sums and other updates run before the kernel that finds the bad index."""
    x, rows = T.dmatrix("x"), T.lvector("rows")
    w, count, seen = shared(np.ones((3, 3))), shared(0), shared(np.zeros(3))
    product = T.dot(T.exp(x), w)
    picked = T.cumsum(product, axis=0)[rows]
    run = function(
        [x, rows],
        [product.sum(), picked],
        updates={w: w - 0.1 * T.dot(x.T, product), count: count + 1, seen: T.inc_subtensor(seen[rows], 1)},
    )
    value = np.linspace(-1, 1, 12).reshape(4, 3)
    for bad in ([0, 7], [-5], [3]):  # 3 is a row of the product, but not of `seen`
        with pytest.raises(IndexError):
            run(value, np.array(bad))
        np.testing.assert_array_equal(w.get_value(), np.ones((3, 3)))
        np.testing.assert_array_equal(seen.get_value(), np.zeros(3))
        assert count.get_value() == 0
    total, _ = run(value, np.array([0, -1, 0]))
    np.testing.assert_allclose(total, (np.exp(value) @ np.ones((3, 3))).sum(), rtol=1e-13)
    np.testing.assert_array_equal(seen.get_value(), [2, 0, 1])
    assert count.get_value() == 1


def test_a_bad_argument_changes_nothing() -> None:
    x, y = T.dvector("x"), T.dvector("y")
    s = shared(np.zeros(4))
    run = function([x, y], (x * y).sum(), updates={s: s + x})
    attempts = [
        (np.zeros(4), np.zeros(3)), (np.zeros(3), np.zeros(3)), (np.zeros((4, 1)), np.zeros(4)), ("text", np.zeros(4)),
        (np.zeros(4) + 1j, np.zeros(4)), (np.zeros(4),), (None, np.zeros(4)),
    ]  # fmt: skip
    for arguments in attempts:
        with pytest.raises((UserError, TypeError, ValueError)):
            run(*arguments)
        np.testing.assert_array_equal(s.get_value(), np.zeros(4))
    run(np.ones(4), np.ones(4))
    np.testing.assert_array_equal(s.get_value(), np.ones(4))


def test_simultaneous_updates_use_old_values() -> None:
    a, b, c = shared(np.array([1.0, 2.0])), shared(np.array([3.0, 4.0])), shared(np.array([5.0, 6.0]))
    turn = function([], [a, b, c], updates={a: b, b: c, c: a})
    mix = function([], updates=[(a, a + b), (b, a[::-1] * c), (c, T.dot(T.outer(a, b), c))])
    values = [np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])]
    for _ in range(4):
        for got, want in zip(turn(), values, strict=True):
            np.testing.assert_array_equal(got, want)
        values = values[1:] + values[:1]
        mix()
        p, q, r = values
        values = [p + q, p[::-1] * r, np.outer(p, q) @ r]
        for variable, want in zip((a, b, c), values, strict=True):
            np.testing.assert_allclose(variable.get_value(), want, rtol=1e-13)
        values = [v / np.abs(v).max() for v in values]
        for variable, value in zip((a, b, c), values, strict=True):
            variable.set_value(value)


def test_updates_may_change_sizes() -> None:
    s, total = shared(np.array([1.0])), shared(0.0)
    grow = function([], s.shape[0], updates={s: T.concatenate([s, s + 1]), total: total + s.sum()})
    assert [int(grow()) for _ in range(4)] == [1, 2, 4, 8]
    assert s.get_value().shape == (16,)
    assert total.get_value() == 1 + 3 + 8 + 20


def test_results_are_copies() -> None:
    x = T.dmatrix("x")
    s = shared(np.arange(6.0).reshape(2, 3))
    run = function([x], [x, s, x.T.T, s[:1], s.flatten(), x.reshape((-1,)), s + 1, s + 1], updates={s: s + 1})
    value = np.arange(6.0).reshape(2, 3)
    first = run(value)
    for result in first:
        assert not np.shares_memory(result, value)
        assert not np.shares_memory(result, s.get_value(borrow=True))
    for k, one in enumerate(first):
        assert not any(np.shares_memory(one, other) for other in first[k + 1 :])
        one[...] = -7.0
    np.testing.assert_array_equal(value, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(s.get_value(), np.arange(6.0).reshape(2, 3) + 1)
    second = run(value)
    np.testing.assert_array_equal(second[1], np.arange(6.0).reshape(2, 3) + 1)
    np.testing.assert_array_equal(second[6], second[7])
    for result in first:
        np.testing.assert_array_equal(result, np.full(result.shape, -7.0))


def test_results_outlive_later_calls() -> None:
    x = T.dvector("x")
    run = function([x], [T.exp(x), T.cumsum(x)])
    kept = [run(np.full(n, float(n))) for n in (3, 1, 3, 50, 3)]
    for (values, sums), n in zip(kept, (3, 1, 3, 50, 3), strict=True):
        np.testing.assert_allclose(values, np.exp(np.full(n, float(n))), rtol=1e-13)
        np.testing.assert_array_equal(sums, np.cumsum(np.full(n, float(n))))


def test_borrowed_memory_is_the_users() -> None:
    """A borrowed array is written by in-place updates; a copy never is; an argument never is."""
    mine = np.zeros(4)
    borrowed, copied = shared(mine, borrow=True), shared(mine)
    add = T.dvector("add")
    run = function([add], updates={borrowed: borrowed + add, copied: copied + 2 * add})
    argument = np.ones(4)
    run(argument)
    np.testing.assert_array_equal(borrowed.get_value(), np.ones(4))
    np.testing.assert_array_equal(copied.get_value(), np.full(4, 2.0))
    np.testing.assert_array_equal(argument, np.ones(4))
    taken = copied.get_value()
    taken[...] = 9.0
    np.testing.assert_array_equal(copied.get_value(), np.full(4, 2.0))


def test_an_argument_inside_a_shared_variables_memory() -> None:
    """The state itself, backwards, as the argument of the function that updates it in place."""
    s = shared(np.arange(5.0))
    x = T.dvector("x")
    run = function([x], (x * x).sum(), updates={s: s + x})
    inside = s.get_value(borrow=True)
    assert run(inside[::-1]) == 30
    np.testing.assert_array_equal(s.get_value(), np.full(5, 4.0))
    assert run(s.get_value(borrow=True)) == 80
    np.testing.assert_array_equal(s.get_value(), np.full(5, 8.0))
