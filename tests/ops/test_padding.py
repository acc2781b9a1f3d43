"""Padding in every mode of NumPy, and what is refused."""

from functools import partial

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.ops.joining_pad_modes import MODES
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError

RNG = np.random.default_rng(7)
ARRAYS = [RNG.normal(size=(3, 4)), RNG.normal(size=(1, 3)).astype("float32"), RNG.integers(-9, 9, (4, 2))]
WIDTHS = (2, (0, 3), ((1, 2), (0, 3)), ((7, 0), (2, 11)))
OPTIONS = [
    *[(mode, {}) for mode in MODES if mode != "empty"],
    *[(mode, {"reflect_type": "odd"}) for mode in ("reflect", "symmetric")],
    *[(m, {"stat_length": n}) for m in ("maximum", "minimum", "mean") for n in (1, (1, 3), ((1, 2), (9, 1)))],
    *[("constant", {"constant_values": v}) for v in (3, (2, 5), ((1, 2), (3, 4)))],
    *[("linear_ramp", {"end_values": v}) for v in (3, (2, 5), ((-1, 2), (3, -4)))],
]


@pytest.mark.parametrize(("mode", "options"), OPTIONS, ids=str)
def test_pads_as_numpy(agree, mode, options):
    for array in ARRAYS:
        for width in WIDTHS:
            ours, numpys = partial(T.pad, pad_width=width, mode=mode), partial(np.pad, pad_width=width, mode=mode)
            agree(partial(ours, **options), partial(numpys, **options), array)


def test_empty_is_zero() -> None:
    x = T.dvector("x")
    np.testing.assert_array_equal(T.pad(x, (1, 2), "empty").eval({x: [5.0]}), [0, 5, 0, 0])


def test_values_and_widths_may_be_expressions() -> None:
    x, v, n = T.dvector("x"), T.dscalar("v"), T.lscalar("n")
    padded = T.pad(x, (n, 1), constant_values=(v, 2 * v))
    np.testing.assert_array_equal(padded.eval({x: [5.0], v: 3.0, n: 2}), [3, 3, 5, 6])
    ramp = T.pad(x, (n, 0), "linear_ramp", end_values=v)
    np.testing.assert_array_equal(ramp.eval({x: [4.0, 1.0], v: 0.0, n: 4}), [0, 1, 2, 3, 4, 1])


def test_what_is_refused() -> None:
    x = T.dmatrix("x")
    with pytest.raises(ValueError, match=r"pad: mode must be one of .*'median' needs sorting"):
        T.pad(x, 1, "median")
    with pytest.raises(ValueError, match="pad: mode 'edge' has no end_values"):
        T.pad(x, 1, "edge", end_values=1)
    with pytest.raises(ValueError, match="pad: reflect_type must be 'even' or 'odd', not 'both'"):
        T.pad(x, 1, "reflect", reflect_type="both")
    with pytest.raises(ValueError, match="pad: stat_length must be positive, got 0"):
        T.pad(x, 1, "mean", stat_length=0)
    with pytest.raises(ShapeError, match=r"pad: \[1, 2, 3\] must be a value, a pair, or a pair for each axis"):
        T.pad(x, 1, constant_values=[1, 2, 3])
    with pytest.raises(DTypeError, match="pad: bools have no odd reflection"):
        T.pad(x > 0, 1, "reflect", reflect_type="odd")
    for mode in ("edge", "wrap", "reflect", "linear_ramp"):
        with pytest.raises(OutOfRangeError):
            T.pad(x, 1, mode).eval({x: np.zeros((0, 2))})
