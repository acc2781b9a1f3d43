"""One function in many threads, and compilation in many threads."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared

pytestmark = pytest.mark.faults


def together(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` in ``count`` threads that start at once; the first exception of any is raised here."""
    start, failures = threading.Barrier(count), []

    def body(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("size", [3, 5_000, 100_000])
def test_updates_of_eight_threads_are_counted_exactly(size: int) -> None:
    """Small calls hold the GIL, large ones run without it and in parallel loops: no update is lost or torn."""
    x = T.dvector("x")
    count, total = shared(0), shared(np.zeros(size))
    step = function([x], [count, total.sum()], updates={count: count + 1, total: total + x})
    calls = 200 if size < 100_000 else 25
    seen: list[int] = []

    def work(number: int) -> None:
        argument = np.full(size, number + 1.0)
        for _ in range(calls):
            before, _ = step(argument)
            seen.append(int(before))

    together(8, work)
    assert count.get_value() == 8 * calls
    np.testing.assert_array_equal(total.get_value(), np.full(size, 36.0 * calls))
    assert sorted(seen) == list(range(8 * calls)), "two calls saw the same state"


def test_results_of_threads_do_not_mix() -> None:
    x = T.dmatrix("x")
    run = function([x], [T.exp(x).sum(axis=0), T.dot(x, x.T)])

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for rows in rng.integers(1, 60, 40):
            value = rng.normal(size=(rows, 7 + number))
            sums, products = run(value)
            np.testing.assert_allclose(sums, np.exp(value).sum(0), rtol=1e-12)
            np.testing.assert_allclose(products, value @ value.T, rtol=1e-9, atol=1e-11)

    together(8, work)


def test_compilation_in_eight_threads() -> None:
    def work(number: int) -> None:
        for k in range(4):
            x = T.dvector("x")
            y = (T.exp(x * (k + 1)) + number % 2).sum()
            run = function([x], [y, T.grad(y, x)])
            value, slope = run(np.arange(3.0))
            wanted = np.exp(np.arange(3.0) * (k + 1))
            np.testing.assert_allclose(value, (wanted + number % 2).sum(), rtol=1e-12)
            np.testing.assert_allclose(slope, (k + 1) * wanted, rtol=1e-12)

    together(8, work)


def test_a_swap_is_never_seen_halfway() -> None:
    a, b = shared(np.zeros(2000)), shared(np.ones(2000))
    swap = function([], [a[0], a[-1], b[0], b[-1]], updates={a: b, b: a})

    def work(number: int) -> None:
        for _ in range(100):
            first_a, last_a, first_b, last_b = swap()
            assert first_a == last_a
            assert first_b == last_b
            assert first_a + first_b == 1

    together(8, work)
    np.testing.assert_array_equal(a.get_value(), np.zeros(2000))
