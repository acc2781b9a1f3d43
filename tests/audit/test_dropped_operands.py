"""Operands that a rewrite drops (see docs/design.md): values are right, checks of their sizes go with them."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen.errors import ShapeError

x, y = T.lvector("x"), T.lvector("y")
CASES = {
    "times zero": ((x + y) * 0, lambda a, b: (a + b) * 0),
    "switch": (T.switch(True, x, x + y), lambda a, b: np.where(True, a, a + b)),
    "zeros_like": (T.zeros_like(x + y), lambda a, b: np.zeros_like(a + b)),
    "ones_like": (T.ones_like(x + y) + x, lambda a, b: np.ones_like(a + b) + a),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", ["fast_run", "fast_compile", "debug", "reference"])
def test_right_for_operands_that_fit(name: str, mode: str) -> None:
    expression, numpys = CASES[name]
    compiled = function([x, y], expression, mode=mode, on_unused_input="ignore")
    for size in (3, 1, 0):
        a, b = np.arange(size), np.arange(size) + 5
        np.testing.assert_array_equal(compiled(a, b), numpys(a, b))


@pytest.mark.parametrize("name", CASES)
def test_the_reference_checks_all_of_them(name: str) -> None:
    compiled = function([x, y], CASES[name][0], mode="reference", on_unused_input="ignore")
    with pytest.raises(ShapeError):
        compiled(np.arange(3), np.arange(4))
