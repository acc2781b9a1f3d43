"""Positions and sizes that are out of range are refused when the program runs, as in NumPy."""

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor_codegen.errors import OutOfRangeError, ShapeError


@pytest.mark.parametrize("order", ["C", "F"])
def test_positions_there_and_back(order: str) -> None:
    flat, n = T.lmatrix("flat"), T.lscalar("n")
    index = T.unravel_index(flat, (n, 3, 2), order)
    back = T.ravel_multi_index(index, (n, 3, 2), order=order)
    values = np.array([[0, 23], [7, 12]])
    *found, again = symtensor.function([flat, n], [*index, back])(values, 4)
    np.testing.assert_array_equal(found, np.unravel_index(values, (4, 3, 2), order))
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("bad", [24, -1, 2**62])
def test_unravel_index_out_of_range(bad: int) -> None:
    flat = T.lvector("flat")
    compiled = symtensor.function([flat], T.unravel_index(flat, (4, 3, 2)))
    with pytest.raises(OutOfRangeError, match="is out of range"):
        compiled([0, bad])
    number = T.lscalar("number")
    with pytest.raises(OutOfRangeError, match="is out of range"):
        T.unravel_index(number, (4, 3, 2))[1].eval({number: bad})


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_ravel_multi_index_out_of_range(mode: str) -> None:
    i, j = T.lvector("i"), T.lvector("j")
    compiled = symtensor.function([i, j], T.ravel_multi_index((i, j), (4, 3), mode))
    rows, columns = np.array([0, -2, 5]), np.array([2, 1, -1])
    if mode == "raise":
        for bad in ((rows[1:2], columns[1:2]), (rows[2:], columns[:1]), (rows[:1], columns[2:])):
            with pytest.raises(OutOfRangeError, match="is out of range"):
                compiled(*bad)
    else:
        wanted = np.ravel_multi_index((rows, columns), (4, 3), mode=mode)
        np.testing.assert_array_equal(compiled(rows, columns), wanted)
    with pytest.raises(ValueError, match="mode must be one of raise, wrap, clip, not 'skip'"):
        T.ravel_multi_index((i, j), (4, 3), "skip")
    with pytest.raises(ValueError, match="unravel_index: the order must be 'C' or 'F', not 'A'"):
        T.unravel_index(i, (4, 3), "A")


def test_an_unknown_size_beside_a_zero() -> None:
    x = T.dmatrix("x")
    with pytest.raises(ShapeError, match="a size of -1 cannot be found beside sizes of 0"):
        x.reshape((0, -1))
    n = T.lscalar("n")
    compiled = symtensor.function([x, n], x.reshape((n, -1)))
    assert compiled(np.zeros((2, 6)), 3).shape == (3, 4)
    with pytest.raises(ShapeError):
        compiled(np.zeros((0, 6)), 0)


@pytest.mark.parametrize("mode", ["fast_run", "fast_compile", "reference"])
def test_index_arrays_of_one_element_broadcast_only_where_that_is_known(mode: str) -> None:
    """Theano's rule: which sizes broadcast is known when the program is built."""
    x, i, j = T.dmatrix("x"), T.lvector("i"), T.lvector("j")
    value = np.arange(12.0).reshape(3, 4)
    compiled = symtensor.function([x, i, j], x[i, j], mode=mode)
    np.testing.assert_array_equal(compiled(value, [1, 2], [3, 0]), value[[1, 2], [3, 0]])
    for rows, columns in (([1], [3, 0]), ([1, 2], [3])):
        with pytest.raises(ShapeError, match="sizes"):
            compiled(value, rows, columns)
    np.testing.assert_array_equal(x[[1], j].eval({x: value, j: [3, 0]}), value[[1], [3, 0]])
    three = T.dtensor3("three")
    mixed = symtensor.function([three, i, j], three[i, :, j], mode=mode)
    with pytest.raises(ShapeError, match="sizes"):
        mixed(np.zeros((2, 3, 4)), [1], [0, 1])
