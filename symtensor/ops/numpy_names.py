"""NumPy's other names for operations: ``absolute`` is ``abs_``, ``not_equal`` is ``neq``, ``acos`` is ``arccos``."""

from .casting import identity
from .complex_numbers import conj
from .elementwise import abs_, floordiv, mod, mul, neg, sub, true_div
from .elementwise_bits import invert, left_shift, right_shift
from .elementwise_compare import eq, ge, gt, le, lt, neq
from .elementwise_math import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    deg2rad,
    rad2deg,
    trunc,
)
from .joining import concatenate
from .reduction import max, min
from .shaping import transpose

absolute, negative, positive, conjugate = abs_, neg, identity, conj
subtract, multiply, divide, true_divide = sub, mul, true_div, true_div
floor_divide, remainder = floordiv, mod
equal, not_equal, less, less_equal, greater, greater_equal = eq, neq, lt, le, gt, ge
degrees, radians, fix = rad2deg, deg2rad, trunc
acos, asin, atan, atan2 = arccos, arcsin, arctan, arctan2
acosh, asinh, atanh = arccosh, arcsinh, arctanh
bitwise_invert, bitwise_left_shift, bitwise_right_shift = invert, left_shift, right_shift
amax, amin = max, min
concat, permute_dims = concatenate, transpose

__all__ = [
    "absolute", "acos", "acosh", "amax", "amin", "asin", "asinh", "atan", "atan2", "atanh",
    "bitwise_invert", "bitwise_left_shift", "bitwise_right_shift", "concat", "conjugate", "degrees", "divide", "equal",
    "fix", "floor_divide", "greater", "greater_equal", "less", "less_equal", "multiply", "negative", "not_equal",
    "permute_dims", "positive", "radians", "remainder", "subtract", "true_divide",
]  # fmt: skip
