"""Sizes and positions that only the program's values show to be wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen.errors import ShapeError, UserError

ONES = np.ones((3, 2))
INTEGERS, NUMBER, REAL = T.lvector("k"), T.lscalar("k"), T.dscalar("s")
PROGRAMS: dict[str, tuple[Any, Callable[[Any], Any], Any, str]] = {
    "repeat": (INTEGERS, lambda k: T.repeat(ONES, k, axis=0), [2, -1, 1], "a size is negative"),
    "arange of integers": (NUMBER, lambda k: T.arange(0, 5, k), 0, "a size is negative"),
    "arange of floats": (REAL, lambda s: T.arange(0.0, 5.0, s), 0.0, "a size is negative"),
    "arange to infinity": (REAL, lambda s: T.arange(0.0, s), np.inf, "a size is negative"),
    "arange to nan": (REAL, lambda s: T.arange(0.0, s), np.nan, "a size is negative"),
    "split": (INTEGERS, lambda k: T.split(np.ones(3), k, 2)[0].sum(), [4, -1], "axis 0 has size 3, not 4"),
    "to_one_hot": (INTEGERS, lambda k: T.to_one_hot(k, 3), [0, 3], "index 3 .*out of (range|bounds)"),
}


@pytest.mark.parametrize("mode", ["fast_run", "reference"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_that_are_no_sizes_are_refused(name: str, mode: str) -> None:
    variable, expression, value, message = PROGRAMS[name]
    compiled = function([variable], expression(variable), mode=mode)
    with pytest.raises(UserError, match=message):
        compiled(value)


def test_a_negative_piece_known_when_split_is_built() -> None:
    with pytest.raises(ShapeError, match="split: a size is negative"):
        T.split(T.dvector(), [4, -1], 2)


def test_values_that_are_sizes() -> None:
    repeat = function([INTEGERS], T.repeat(ONES * np.arange(3.0)[:, None], INTEGERS, axis=0))
    np.testing.assert_array_equal(repeat([2, 0, 1])[:, 0], [0.0, 0.0, 2.0])
    np.testing.assert_array_equal(function([NUMBER], T.arange(9, 0, NUMBER))(-2), np.arange(9, 0, -2))
    np.testing.assert_array_equal(function([NUMBER], T.arange(9, 0, NUMBER))(2), np.arange(9, 0, 2))
    np.testing.assert_array_equal(function([REAL], T.arange(0.0, 1.0, REAL))(0.3), np.arange(0.0, 1.0, 0.3))
    np.testing.assert_array_equal(
        function([INTEGERS], T.to_one_hot(INTEGERS, 3))([0, 2, -1]), np.eye(3)[[0, 2, -1]]
    )
    first, second = function([INTEGERS], T.split(np.arange(3.0), INTEGERS, 2))([3, 0])
    np.testing.assert_array_equal(first, np.arange(3.0))
    assert second.shape == (0,)
