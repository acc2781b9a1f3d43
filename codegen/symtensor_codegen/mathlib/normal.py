"""The quantile of the normal distribution, in a form that takes random bits without loss in the tails.

``z = x P(w)`` for ``x`` in (-1, 1) and ``w = -log(1 - x^2)``: z is smooth in w (M. Giles, "Approximating the erfinv
function", GPU Computing Gems, 2010). One polynomial in w serves the centre, which nearly every sample falls into; the
tails take one in ``sqrt(w)``, which is computed only where a lane needs it. The polynomials are minimax ones of ours.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.formats import FORMATS, Format, polynomial
from symtensor_codegen.mathlib.logarithm import as_float, log_of_parts, split
from symtensor_codegen.scalar import Scalar, abs_, fma, gt, rarely, sqrt


def _over(f: Format, value: Scalar, ends: tuple[float, ...], coefficients: tuple[float, ...]) -> Scalar:
    """The polynomial over [-1, 1] that an interval is mapped to."""
    half = (ends[1] - ends[0]) / 2
    return polynomial(fma(value, f(1 / half), f(-(ends[0] + ends[1]) / 2 / half)), coefficients)


def normal_quantile(x: Scalar, rest: Scalar) -> Scalar:
    """The normal variable z with ``P(Z <= z) = (1 + x) / 2``, given also ``rest = 1 - |x|`` with its own precision."""
    f = FORMATS[x.dtype]
    m = f.mantissa
    bits, biased = split(f, fma(rest, abs_(x), rest))
    w = -log_of_parts(f, as_float(f, biased, float(f.bias)), f.number(bits) - f(1.0))
    centre = _over(f, w, table.NORMAL_CENTRE_RANGE[m], table.NORMAL_CENTRE[m])
    tail = _over(f, sqrt(w), table.NORMAL_TAIL_RANGE[m], table.NORMAL_TAIL[m])
    return x * rarely(gt(w, f(table.NORMAL_CENTRE_RANGE[m][1])), tail, centre)


def quantile_of(x: Any, rest: Any) -> Any:
    """As ``normal_quantile``, of arrays; by M. Wichura's algorithm (AS 241), which the standard library has."""
    from statistics import NormalDist  # takes as long to import as all of this package

    x = np.asarray(x)
    lower = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(np.asarray(rest, np.float64) / 2)
    return np.copysign(lower, x).astype(x.dtype)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {"normal_quantile": normal_quantile}
