"""Where minus signs go: outward, until they meet a sum, a constant or another sign. Exact for every value."""

from symtensor.graph import Tensor
from symtensor.rewrite.conditions import inexact, when
from symtensor.rewrite.pattern import Const, Hole
from symtensor.rewrite.rules import Rows, ruleset
from symtensor.rewrite.words import abs, cos, cosh, neg, sqr


def _signed(x: Tensor) -> bool:
    return x.element.kind != "u"  # -1 is 255 as uint8, and so is its absolute value


@ruleset
def signs(x: Hole, y: Hole, c: Const) -> Rows:
    """Move minus signs outward and cancel them; rounding is symmetric, so this is exact."""
    yield "neg_of_neg", neg(-x), x
    yield "neg_times", (-x) * y, -(x * y)
    yield "neg_divided", (-x) / y, -(x / y)
    yield "divided_by_neg", x / (-y), -(x / y)
    yield "neg_of_scaled", -(x * c), x * (-c)
    yield "neg_of_divided", -(x / c), x / (-c)
    yield "neg_of_divided_constant", -(c / x), (-c) / x
    yield "times_minus_one", x * -1, -x, inexact(x)
    yield "divided_by_minus_one", x / -1, -x
    yield "plus_neg", x + (-y), x - y
    yield "minus_neg", x - (-y), x + y
    yield "abs_of_neg", abs(-x), abs(x), when("x signed", _signed, x)
    yield "square_of_neg", sqr(-x), sqr(x)
    yield "cos_of_neg", cos(-x), cos(x)
    yield "cosh_of_neg", cosh(-x), cosh(x)
