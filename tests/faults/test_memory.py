"""Memory that is not there, and sizes whose bytes do not fit 64 bits: a MemoryError, and no state changes."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, shared
from symtensor_codegen.errors import ShapeError

pytestmark = pytest.mark.faults

HUGE = [(10**7, 10**7), (2**33, 2**33), (2**32, 2**29), (2**31, 2**30), (2**62, 4), (2**61, 1)]


@pytest.mark.parametrize("sizes", HUGE, ids=str)
def test_result_too_large(sizes: tuple[int, int]) -> None:
    n, m = T.lscalars("n", "m")
    state = shared(np.zeros(3))
    run = function([n, m], [n + m, T.alloc(1.0, n, m)], updates={state: state + 1})
    with pytest.raises(MemoryError, match="could not allocate"):
        run(*sizes)
    np.testing.assert_array_equal(state.get_value(), np.zeros(3))
    assert run(2, 3)[1].shape == (2, 3)
    np.testing.assert_array_equal(state.get_value(), np.ones(3))


@pytest.mark.parametrize("sizes", HUGE, ids=str)
def test_intermediate_too_large(sizes: tuple[int, int]) -> None:
    """A cumulative sum needs its whole result, though only the last element is asked for."""
    n, m = T.lscalars("n", "m")
    state = shared(np.zeros(3))
    total = T.cumsum(T.cumsum(T.alloc(1.0, n, m), axis=1), axis=0)[-1, -1]
    run = function([n, m], total, updates={state: state + 1})
    with pytest.raises(MemoryError, match="could not allocate"):
        run(*sizes)
    np.testing.assert_array_equal(state.get_value(), np.zeros(3))
    assert run(2, 3) == 6
    np.testing.assert_array_equal(state.get_value(), np.ones(3))


def test_updates_too_large() -> None:
    n = T.lscalar("n")
    a, b = shared(np.zeros(3)), shared(np.zeros((2, 2)))
    run = function([n], updates=[(a, a + 1), (b, T.alloc(b[0, 0] + 1, n, n))])
    with pytest.raises(MemoryError):
        run(2**30)
    np.testing.assert_array_equal(a.get_value(), np.zeros(3))
    np.testing.assert_array_equal(b.get_value(), np.zeros((2, 2)))
    run(4)
    np.testing.assert_array_equal(a.get_value(), np.ones(3))
    np.testing.assert_array_equal(b.get_value(), np.ones((4, 4)))


def test_products_too_large_for_blas() -> None:
    n = T.lscalar("n")
    state = shared(0)
    run = function([n], T.dot(T.alloc(1.0, 2, n), T.alloc(1.0, n, 2)), updates={state: state + 1})
    with pytest.raises(ShapeError, match="2147483648 by 2147483648 x 2 is too large: BLAS takes at most"):
        run(2**31)
    assert state.get_value() == 0
    np.testing.assert_array_equal(run(3), np.full((2, 2), 3.0))
