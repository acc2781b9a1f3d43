"""Elementwise functions of analysis: exponentials, logarithms, roots, trigonometry, rounding."""

import math
from typing import Any

import numpy as np

from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar

from ..opdef import Domain, OpDef, elementwise
from .complex_scalars import complex_exp, complex_log, complex_sqrt
from .elementwise import sqr
from .gradient_parts import typed, zeros


def _function(name: str, doc: str, meaning: Any, numpy: Any, gradient: Any, **facts: Any) -> OpDef:
    """A function of one argument that computes integers in floating point."""
    facts.setdefault("accepts", "f")
    facts.setdefault("cost", 15)
    return elementwise(
        name, doc=doc, arity=1, integer="float", scalar=meaning, numpy=numpy, gradient=gradient, **facts
    )


POSITIVE = (Domain(0.1, 3),)
UNIT = (Domain(-0.9, 0.9),)

# Exponentials and logarithms ------------------------------------------------------------------------------------

exp = _function("exp", "e to the power x.", complex_exp, np.exp, lambda g, x, out: (g * out,), accepts="fc")
exp2 = _function(
    "exp2", "2 to the power x.", scalar.exp2, np.exp2, lambda g, x, out: (g * (out * typed(math.log(2), x)),)
)
expm1 = _function(
    "expm1", "exp(x) - 1, accurate for x near zero.", scalar.expm1, np.expm1, lambda g, x, out: (g * exp(x),)
)
log = _function(
    "log", "Natural logarithm.", complex_log, np.log, lambda g, x, out: (g / x,), accepts="fc", domains=POSITIVE
)
log2 = _function(
    "log2", "Logarithm to base 2.", scalar.log2, np.log2, lambda g, x, out: (g / (x * typed(math.log(2), x)),),
    domains=POSITIVE,
)  # fmt: skip
log10 = _function(
    "log10", "Logarithm to base 10.", scalar.log10, np.log10, lambda g, x, out: (g / (x * typed(math.log(10), x)),),
    domains=POSITIVE,
)  # fmt: skip
log1p = _function(
    "log1p", "log(1 + x), accurate for x near zero.", scalar.log1p, np.log1p,
    lambda g, x, out: (g / (typed(1, x) + x),), domains=(Domain(-0.9, 3),),
)  # fmt: skip
sqrt = _function(
    "sqrt", "Square root; its derivative at 0 is infinite.", complex_sqrt, np.sqrt,
    lambda g, x, out: (g / (out + out),), accepts="fc", domains=POSITIVE, cost=6,
)  # fmt: skip
cbrt = _function(
    "cbrt", "Cube root, also of negative numbers.", scalar.cbrt, np.cbrt,
    lambda g, x, out: (g / (typed(3, x) * sqr(out)),), domains=POSITIVE,
)  # fmt: skip

# Sigmoids -------------------------------------------------------------------------------------------------------

tanh = _function(
    "tanh", "Hyperbolic tangent.", scalar.tanh, np.tanh, lambda g, x, out: (g * (typed(1, x) - sqr(out)),)
)


def _sigmoid_reference(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


sigmoid = _function(
    "sigmoid", "1 / (1 + exp(-x)), without overflow.", scalar.sigmoid, _sigmoid_reference,
    lambda g, x, out: (g * (out * (typed(1, x) - out)),),
)  # fmt: skip
softplus = _function(
    "softplus", "log(1 + exp(x)), without overflow.", scalar.softplus, lambda x: np.logaddexp(x.dtype.type(0), x),
    lambda g, x, out: (g * sigmoid(x),),
)  # fmt: skip

# Rounding -------------------------------------------------------------------------------------------------------


def _rounding(name: str, doc: str, meaning: Any, numpy: Any) -> OpDef:
    """Integers and bools are whole already."""

    def whole(x: Scalar) -> Scalar:
        result: Scalar = meaning(x) if x.dtype.is_float else x
        return result

    return elementwise(
        name, doc=doc + " The derivative is 0.", arity=1, accepts="biuf", scalar=whole, numpy=numpy,
        gradient=lambda g, x, out: (zeros(g),), domains=(Domain(-4, 4),),
    )  # fmt: skip


floor = _rounding("floor", "Largest whole number not above x.", scalar.floor, np.floor)
ceil = _rounding("ceil", "Smallest whole number not below x.", scalar.ceil, np.ceil)
trunc = _rounding("trunc", "x rounded toward zero.", scalar.trunc, np.trunc)
rint = _rounding("rint", "Nearest whole number, halves to the even one.", scalar.rint, np.rint)
