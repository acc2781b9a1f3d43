"""The error function and its complement.

``erf(x) = 1 - exp(-x Q(x))`` with one polynomial ``Q = -log(erfc(x)) / x`` over the whole range, so that
neither a choice of intervals nor a division is needed and small x keep their relative precision.
"""

from collections.abc import Callable
from typing import Final

from symtensor_codegen.mathlib import coefficients as table
from symtensor_codegen.mathlib.exponential import powers_of_two, reduced, scaled_expm1
from symtensor_codegen.mathlib.formats import FORMATS, at_most, polynomial, quick_two_sum, two_product
from symtensor_codegen.scalar import Scalar, abs_, copysign, fma, lt, select


def erf(x: Scalar) -> Scalar:
    """The error function."""
    f = FORMATS[x.dtype]
    magnitude = at_most(abs_(x), table.ERF_ONE[f.mantissa][0])
    slope, *rest = table.ERF[f.mantissa]
    exponent = fma(magnitude, f(slope), magnitude * polynomial(magnitude, rest))
    return copysign(scaled_expm1(f, -exponent, 0), x)


def erfc(x: Scalar) -> Scalar:
    """The complement ``1 - erf(x)``, of full relative precision where it is small.

    For positive x it is ``exp(-x^2) P(t) / (x + k)`` with ``t = (x - k) / (x + k)``, whose rounding is mended
    through its residual, and with ``x^2`` exact in two parts.
    """
    f = FORMATS[x.dtype]
    end, k = table.ERFC_END[f.mantissa]
    a = at_most(abs_(x), end)
    divisor, rest = quick_two_sum(f(k), a)  # exact in any order: k is a small integer
    reciprocal = f(1.0) / divisor
    reciprocal = fma(reciprocal, fma(-reciprocal, rest, fma(-reciprocal, divisor, f(1.0))), reciprocal)
    t = (a - f(k)) * reciprocal
    residual = fma(-t, a, fma(t + f(1.0), f(-k), a))
    first_term, *others = table.ERFC[f.mantissa]
    factor = (polynomial(fma(reciprocal, residual, t), others) + f(first_term)) * reciprocal
    square, error = two_product(a, a)
    shifted, _, head, tail = reduced(f, -square)
    tail = tail + error
    r = head - tail
    fraction = head + fma(r * r, polynomial(r, table.EXP[f.mantissa]), -tail)
    first, second = powers_of_two(f, -square, shifted, table.LOG2_E)
    value = fma(fraction, first, first) * factor * second
    return select(lt(x, f(0.0)), f(2.0) - value, value)


EXPANSIONS: Final[dict[str, Callable[..., Scalar]]] = {function.__name__: function for function in (erf, erfc)}
