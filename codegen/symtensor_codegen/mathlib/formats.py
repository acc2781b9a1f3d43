"""The binary formats the functions are written for, and the small pieces every function is built from.

Every function is written once for a ``Format``; only constants and polynomial degrees differ between
float32 and float64. All pieces are free of branches: both sides of a choice are computed and ``select``
picks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.scalar import Scalar, bitcast, const, fma, gt, lt, select, shl


@dataclass(frozen=True, slots=True)
class Format:
    """An IEEE 754 binary format: its types and the numbers that describe it.

    ``mantissa`` counts the stored bits (52 for float64) and ``bias`` is that of the exponent field.
    ``shift`` is the number whose last place is one: adding it rounds to an integer, which then sits in the
    low bits.
    """

    dtype: DType
    signed: DType
    unsigned: DType
    mantissa: int
    bias: int

    @property
    def shift(self) -> float:
        """1.5 times two to the number of stored mantissa bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest(self) -> float:
        """The smallest positive number."""
        return 2.0 ** (1 - self.bias - self.mantissa)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number of full precision."""
        return 2.0 ** (1 - self.bias)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0**-self.mantissa) * 2.0**self.bias

    @property
    def epsilon(self) -> float:
        """The distance from one to the next number."""
        return 2.0**-self.mantissa

    def __call__(self, value: float) -> Scalar:
        """A constant of this format."""
        return const(value, self.dtype)

    def integer(self, value: int) -> Scalar:
        """A signed integer of the width of this format."""
        return const(value, self.signed)

    def bits(self, value: Scalar) -> Scalar:
        """The representation of a float as a signed integer."""
        return bitcast(value, self.signed)

    def number(self, bits: Scalar) -> Scalar:
        """The float with this representation."""
        return bitcast(bits, self.dtype)

    def exponent(self, biased: Scalar) -> Scalar:
        """Two to the power ``biased - bias``, for an integer whose low bits are the wanted exponent field."""
        return self.number(shl(biased, self.integer(self.mantissa)))


BINARY16: Final = Format(dtypes.float16, dtypes.int16, dtypes.uint16, 10, 15)
BINARY32: Final = Format(dtypes.float32, dtypes.int32, dtypes.uint32, 23, 127)
BINARY64: Final = Format(dtypes.float64, dtypes.int64, dtypes.uint64, 52, 1023)
FORMATS: Final = {dtypes.float32: BINARY32, dtypes.float64: BINARY64}


def polynomial(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """The polynomial with these coefficients, lowest power first.

    Long ones are split into two or four interleaved ones, so that the chain of dependent operations is
    shorter at the cost of one or two multiplications.
    """
    if len(coefficients) < 6:
        return horner(x, coefficients)
    square = x * x
    if len(coefficients) < 14:
        return fma(x, horner(square, coefficients[1::2]), horner(square, coefficients[0::2]))
    fourth = square * square
    p, q, r, s = (horner(fourth, coefficients[k::4]) for k in range(4))
    return fma(square, fma(x, s, r), fma(x, q, p))


def horner(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """The polynomial with these coefficients, lowest power first, as one chain."""
    total = const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, const(coefficient, x.dtype))
    return total


def at_most(x: Scalar, bound: float) -> Scalar:
    """The smaller of ``x`` and ``bound``; NaN stays. The operands are in the order of the x86 instruction."""
    limit = const(bound, x.dtype)
    return select(lt(limit, x), limit, x)


def at_least(x: Scalar, bound: float) -> Scalar:
    """The larger of ``x`` and ``bound``; NaN stays."""
    limit = const(bound, x.dtype)
    return select(gt(limit, x), limit, x)


def two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """The rounded sum and its exact error (Knuth)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def quick_two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """The rounded sum and its exact error where ``|a| >= |b|`` or ``a`` is zero (Dekker)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """The rounded product and its exact error."""
    product = a * b
    return product, fma(a, b, -product)
