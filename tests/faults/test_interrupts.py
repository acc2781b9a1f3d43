"""Ctrl-C at any moment: nothing is half done, and everything can be used afterwards."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system"),
]


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """A KeyboardInterrupt, as Python raises for Ctrl-C, some time from now."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def repeatedly(run: Callable[..., Any], *arguments: Any) -> None:
    """Calls without end."""
    while True:
        run(*arguments)


# Python drops an exception that is raised while it runs the callback of a weak reference, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_during_compilation() -> None:
    assert threading.current_thread() is threading.main_thread()
    stopped = 0
    for number in range(40):
        x = T.dmatrix("x")
        y = (T.tanh(T.dot(x, x.T)) * (number + 0.5)).sum()
        try:
            with interrupted_after(0.0005 + 0.001 * number):
                for power in range(2, 8):
                    function([x], [y**power, T.grad(y**power, x)])
        except KeyboardInterrupt:
            stopped += 1
        value = np.eye(3)
        run = function([x], [y, T.grad(y, x)])
        np.testing.assert_allclose(run(value)[0], 3 * np.tanh(1.0) * (number + 0.5), rtol=1e-12)
    assert stopped > 10


def test_during_a_long_call() -> None:
    x = T.dvector("x")
    state, count = shared(np.zeros(3)), shared(0)
    grid = x[:, None] * x[None, :]
    run = function([x], [T.exp(grid).sum(), T.sin(grid).max()], updates={state: state + 1, count: count + 1})
    long = np.linspace(0, 1, 12_000)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.05):
        repeatedly(run, long)
    calls = int(count.get_value())
    np.testing.assert_array_equal(state.get_value(), np.full(3, float(calls)))
    np.testing.assert_allclose(run(np.ones(2))[0], 4 * np.e, rtol=1e-13)
    assert count.get_value() == calls + 1
    np.testing.assert_array_equal(state.get_value(), np.full(3, calls + 1.0))


def test_the_interrupted_call_changes_nothing() -> None:
    """One call that takes much longer than the timer (its arguments are large, so it runs without the GIL)."""
    x, y = T.dvectors("x", "y")
    count = shared(0)
    grid = x[:, None] * x[None, :]
    run = function([x, y], T.exp(grid).sum() + y.sum(), updates={count: count + 1})
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.02):
        run(np.zeros(10_000), np.zeros(50_000))
    assert count.get_value() == 0
    assert run(np.zeros(2), np.zeros(3)) == 4
    assert count.get_value() == 1


def test_between_small_calls() -> None:
    """Wherever the interrupt hits in a loop of short calls, the two updates stay together."""
    a, b = shared(0), shared(np.zeros(5))
    step = function([], a, updates={a: a + 1, b: b + 1})
    for wait in (0.001, 0.004, 0.011):
        with pytest.raises(KeyboardInterrupt), interrupted_after(wait):
            repeatedly(step)
        np.testing.assert_array_equal(b.get_value(), np.full(5, float(a.get_value())))
