"""What holds for real numbers but not for floating point. Applied only where ``config.fast_math`` is set."""

from symtensor.rewrite.conditions import Condition, inexact, real, when
from symtensor.rewrite.pattern import Const, Hole
from symtensor.rewrite.rules import Rows, ruleset
from symtensor.rewrite.words import abs, exp, log, sqrt


def _plain(*holes: Hole) -> Condition:
    """Constants that no folding turns into infinity."""
    return when("constants finite and not 0", _finite_nonzero, *holes)


def _finite_nonzero(*constants: object) -> bool:
    import numpy as np

    return all(bool(np.isfinite(c.data).all() and (c.data != 0).all()) for c in constants)  # type: ignore[attr-defined]


@ruleset
def fast_math(x: Hole, y: Hole, z: Hole, c: Const, d: Const) -> Rows:
    """Reassociate, cancel and distribute as if numbers were exact and finite."""
    yield "fast_constants_of_sum", (x + c) + d, x + (c + d), inexact(x)
    yield "fast_constants_of_difference", (x - c) + d, x + (d - c), inexact(x)
    yield "fast_constant_minus", (x + c) - d, x + (c - d), inexact(x)
    yield "fast_constants_of_product", (x * c) * d, x * (c * d), inexact(x)
    yield "fast_constants_of_quotient", (x * c) / d, x * (c / d), inexact(x) & _plain(d)
    yield "fast_quotient_of_quotient", (x / y) / z, x / (y * z), inexact(x)
    yield "fast_quotient_by_quotient", x / (y / z), (x * z) / y, inexact(x)
    yield "fast_quotient", x / c, x * (1 / c), inexact(x) & _plain(c)
    yield "fast_times_zero", x * 0, 0, inexact(x)
    yield "fast_minus_itself", x - x, 0, inexact(x)
    yield "fast_divided_by_itself", x / x, 1
    yield "fast_sum_minus_term", (x + y) - x, y, inexact(x)
    yield "fast_term_plus_difference", x + (y - x), y, inexact(x)
    yield "fast_product_divided", (x * y) / x, y
    yield "fast_quotient_times", (x / y) * y, x
    yield "fast_common_factor_of_sum", x * y + x * z, x * (y + z), inexact(x)
    yield "fast_common_factor_of_difference", x * y - x * z, x * (y - z), inexact(x)
    yield "fast_product_of_exps", exp(x) * exp(y), exp(x + y), inexact(x)
    yield "fast_quotient_of_exps", exp(x) / exp(y), exp(x - y), inexact(x)
    yield "fast_log_of_power", log(x**y), y * log(x), real(x)
    yield "fast_log_of_root", log(sqrt(x)), log(x) * 0.5, real(x)
    yield "fast_product_of_roots", sqrt(x) * sqrt(y), sqrt(x * y), real(x)
    yield "fast_square_of_abs", abs(x) * abs(y), abs(x * y), real(x)
    yield "fast_difference_of_negative", -(x - y), y - x, inexact(x)
