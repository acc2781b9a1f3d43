"""The error function and its complement.

``erf(x) = 1 - exp(-x Q(x))`` with one polynomial ``Q = -log(erfc(x)) / x`` over the whole range, so that neither a
choice of intervals nor a division is needed and small x keep their relative precision.
"""

from collections.abc import Callable
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.exponential import scaled_expm1
from symtensor_codegen.mathlib.formats import FORMATS, at_most, polynomial
from symtensor_codegen.scalar import Scalar, abs_, copysign, fma


def erf(x: Scalar) -> Scalar:
    """The error function."""
    f = FORMATS[x.dtype]
    magnitude = at_most(abs_(x), table.ERF_ONE[f.mantissa][0])
    slope, *rest = table.ERF[f.mantissa]
    exponent = fma(magnitude, f(slope), magnitude * polynomial(magnitude, rest))
    return copysign(scaled_expm1(f, -exponent, 0), x)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {function.__name__: function for function in (erf,)}
