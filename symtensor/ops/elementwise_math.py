"""Elementwise functions of analysis: exponentials, logarithms, roots, trigonometry, rounding.

Integers and bools are computed in floating point. Derivatives at the edges of a domain are what the formula
gives (the square root's at 0 is infinite).
"""

import math
from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import Domain, OpDef, elementwise
from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar

from . import complex_scalars as parts
from .elementwise import sqr
from .gradient_parts import typed, zeros


def _function(name: str, doc: str, meaning: Any, numpy: Any, gradient: Any, **facts: Any) -> OpDef:
    facts.setdefault("accepts", "fc")
    facts.setdefault("cost", 15)
    facts.setdefault("arity", 1)
    return elementwise(
        name, doc=doc, integer="float", scalar=meaning, numpy=numpy, gradient=gradient, **facts
    )


POSITIVE = (Domain(0.1, 3),)
UNIT = (Domain(-0.9, 0.9),)

# Exponentials and logarithms -------------------------------------------------------------------------------

exp = _function("exp", "e to the power x.", parts.exp, np.exp, lambda g, x, out: (g * out,))
exp2 = _function(
    "exp2", "2 to the power x.", parts.exp2, np.exp2, lambda g, x, out: (g * (out * typed(math.log(2), x)),)
)
expm1 = _function(
    "expm1", "exp(x) - 1, accurate for x near zero.", parts.expm1, np.expm1, lambda g, x, out: (g * exp(x),)
)
log = _function("log", "Natural logarithm.", parts.log, np.log, lambda g, x, out: (g / x,), domains=POSITIVE)
log2 = _function(
    "log2",
    "Logarithm to base 2.",
    parts.log2,
    np.log2,
    lambda g, x, out: (g / (x * typed(math.log(2), x)),),
    domains=POSITIVE,
)
log10 = _function(
    "log10",
    "Logarithm to base 10.",
    parts.log10,
    np.log10,
    lambda g, x, out: (g / (x * typed(math.log(10), x)),),
    domains=POSITIVE,
)
log1p = _function(
    "log1p",
    "log(1 + x), accurate for x near zero.",
    parts.log1p,
    np.log1p,
    lambda g, x, out: (g / (typed(1, x) + x),),
    domains=(Domain(-0.9, 3),),
)
sqrt = _function(
    "sqrt",
    "Square root; its derivative at 0 is infinite.",
    parts.sqrt,
    np.sqrt,
    lambda g, x, out: (g / (out + out),),
    domains=POSITIVE,
    cost=6,
)
cbrt = _function(
    "cbrt",
    "Cube root, also of negative numbers.",
    scalar.cbrt,
    np.cbrt,
    lambda g, x, out: (g / (typed(3, x) * sqr(out)),),
    accepts="f",
    domains=POSITIVE,
)

# Angles ----------------------------------------------------------------------------------------------------

sin = _function(
    "sin", "Sine of an angle in radians.", parts.sin, np.sin, lambda g, x, out: (g * cos(x),), cost=20
)
cos: OpDef = _function(
    "cos", "Cosine of an angle in radians.", parts.cos, np.cos, lambda g, x, out: (-(g * sin(x)),), cost=20
)
tan = _function(
    "tan",
    "Tangent of an angle in radians.",
    parts.tan,
    np.tan,
    lambda g, x, out: (g * (typed(1, x) + sqr(out)),),
    domains=(Domain(-1.4, 1.4),),
    cost=25,
)
arcsin = _function(
    "arcsin",
    "Inverse sine, in radians.",
    parts.arcsin,
    np.arcsin,
    lambda g, x, out: (g / sqrt(typed(1, x) - sqr(x)),),
    domains=UNIT,
)
arccos = _function(
    "arccos",
    "Inverse cosine, in radians.",
    parts.arccos,
    np.arccos,
    lambda g, x, out: (-(g / sqrt(typed(1, x) - sqr(x))),),
    domains=UNIT,
)
arctan = _function(
    "arctan",
    "Inverse tangent, in radians.",
    parts.arctan,
    np.arctan,
    lambda g, x, out: (g / (typed(1, x) + sqr(x)),),
)


def _arctan2_gradient(g: Tensor, y: Tensor, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    scaled = g / (sqr(x) + sqr(y))
    return scaled * x, -(scaled * y)


arctan2 = _function(
    "arctan2",
    "Angle of the point (x, y) to the x axis: arctan2(y, x), in (-pi, pi].",
    scalar.arctan2,
    np.arctan2,
    _arctan2_gradient,
    arity=2,
    accepts="f",
    domains=(Domain(-2, 2), Domain(0.3, 2)),
    cost=25,
)
hypot = _function(
    "hypot",
    "sqrt(x² + y²), without overflow.",
    scalar.hypot,
    np.hypot,
    lambda g, x, y, out: (g * (x / out), g * (y / out)),
    arity=2,
    accepts="f",
)
deg2rad = _function(
    "deg2rad",
    "Degrees as radians.",
    lambda x: x * (math.pi / 180),
    np.deg2rad,
    lambda g, x, out: (g * typed(math.pi / 180, x),),
    accepts="f",
    domains=(Domain(-400, 400),),
    cost=1,
)
rad2deg = _function(
    "rad2deg",
    "Radians as degrees.",
    lambda x: x * (180 / math.pi),
    np.rad2deg,
    lambda g, x, out: (g * typed(180 / math.pi, x),),
    accepts="f",
    cost=1,
)

# Hyperbolic functions --------------------------------------------------------------------------------------

sinh = _function("sinh", "Hyperbolic sine.", parts.sinh, np.sinh, lambda g, x, out: (g * cosh(x),))
cosh: OpDef = _function("cosh", "Hyperbolic cosine.", parts.cosh, np.cosh, lambda g, x, out: (g * sinh(x),))
tanh = _function(
    "tanh", "Hyperbolic tangent.", parts.tanh, np.tanh, lambda g, x, out: (g * (typed(1, x) - sqr(out)),)
)
arcsinh = _function(
    "arcsinh",
    "Inverse hyperbolic sine.",
    parts.arcsinh,
    np.arcsinh,
    lambda g, x, out: (g / sqrt(typed(1, x) + sqr(x)),),
    cost=25,
)
arccosh = _function(
    "arccosh",
    "Inverse hyperbolic cosine.",
    parts.arccosh,
    np.arccosh,
    lambda g, x, out: (g / sqrt(sqr(x) - typed(1, x)),),
    domains=(Domain(1.2, 4),),
    cost=25,
)
arctanh = _function(
    "arctanh",
    "Inverse hyperbolic tangent.",
    parts.arctanh,
    np.arctanh,
    lambda g, x, out: (g / (typed(1, x) - sqr(x)),),
    domains=UNIT,
    cost=25,
)

# Rounding --------------------------------------------------------------------------------------------------


def _rounding(
    name: str, doc: str, meaning: Any, numpy: Any, integer: str = "keep", accepts: str = "biuf"
) -> OpDef:
    """Integers and bools are whole already."""

    def whole(x: Scalar) -> Scalar:
        result: Scalar = meaning(x) if x.dtype.is_inexact else x
        return result

    def reference(x: Any) -> Any:
        return numpy(x) if x.dtype.kind in "fc" else x.copy()

    return elementwise(
        name,
        doc=doc + " The derivative is 0.",
        arity=1,
        integer=integer,
        accepts=accepts,
        scalar=whole,
        numpy=reference,
        gradient=lambda g, x, out: (zeros(g),),
        domains=(Domain(-4, 4),),
    )


def _half_away(x: Scalar) -> Scalar:
    whole = scalar.trunc(x)
    one = scalar.copysign(scalar.const(1, x.dtype), x)
    return scalar.select(scalar.ge(scalar.abs_(x - whole), 0.5), whole + one, whole)


def _half_away_reference(x: Any) -> Any:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(x.dtype.type(1), x), whole)


floor = _rounding("floor", "Largest whole number not above x.", scalar.floor, np.floor)
ceil = _rounding("ceil", "Smallest whole number not below x.", scalar.ceil, np.ceil)
trunc = _rounding("trunc", "x rounded toward zero.", scalar.trunc, np.trunc)
rint = _rounding(
    "rint",
    "Nearest whole number in floating point, halves to the even one; of complex numbers, of both parts.",
    parts.rint,
    np.rint,
    "float",
    "fc",
)
round_half_away_from_zero = _rounding(
    "round_half_away_from_zero",
    "Nearest whole number, halves away from zero.",
    _half_away,
    _half_away_reference,
)
round_half_to_even = rint


def round(x: TensorLike, mode: str | None = None) -> Tensor:
    """The nearest whole number; halves go to the even one, or away from zero. Integers are themselves.

    Raises:
        ValueError: ``mode`` is neither None, ``"half_to_even"`` nor ``"half_away_from_zero"``.
    """
    if mode in (None, "half_to_even"):
        tensor = as_tensor(x)
        return tensor if tensor.element.kind in "biu" else rint(tensor)
    if mode == "half_away_from_zero":
        return round_half_away_from_zero(x)
    raise ValueError(f'round: mode must be "half_to_even" or "half_away_from_zero", not {mode!r}')


def iround(x: TensorLike, mode: str | None = None) -> Tensor:
    """The nearest whole number as int64."""
    from .casting import cast

    return cast(round(x, mode), "int64")
