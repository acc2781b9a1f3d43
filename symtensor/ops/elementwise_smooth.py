"""Elementwise functions of statistics and learning: sigmoids, error function, logarithms of sums, x log x."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Tensor
from symtensor.opdef import Domain, OpDef, elementwise
from symtensor_codegen import scalar
from symtensor_codegen.scalar import Scalar

from .elementwise import sign, sqr
from .elementwise_math import POSITIVE, exp, log
from .gradient_parts import typed


def _function(name: str, doc: str, meaning: Any, numpy: Any, gradient: Any, **facts: Any) -> OpDef:
    facts.setdefault("cost", 20)
    facts.setdefault("arity", 1)
    return elementwise(
        name, doc=doc, integer="float", accepts="f", scalar=meaning, numpy=numpy, gradient=gradient, **facts
    )


def _sigmoid_reference(x: Any) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), small) / (1 + small)


sigmoid = _function(
    "sigmoid",
    "1 / (1 + exp(-x)), without overflow.",
    scalar.sigmoid,
    _sigmoid_reference,
    lambda g, x, out: (g * (out * (typed(1, x) - out)),),
)
softplus = _function(
    "softplus",
    "log(1 + exp(x)), without overflow.",
    scalar.softplus,
    lambda x: np.logaddexp(x.dtype.type(0), x),
    lambda g, x, out: (g * sigmoid(x),),
)
relu_op = elementwise(
    "relu",
    doc="The larger of x and 0; its derivative at 0 is 1/2.",
    arity=1,
    accepts="iuf",
    arithmetic=True,
    scalar=lambda x: scalar.maximum(x, 0),
    numpy=lambda x: np.maximum(x, x.dtype.type(0)),
    gradient=lambda g, x, out: (g * (typed(0.5, g) * (typed(1, x) + sign(x))),),
)


def _log_of_sum_gradient(base: float) -> Callable[..., tuple[Tensor, Tensor]]:
    def gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        difference = x - y if base == math.e else (x - y) * typed(math.log(base), x)
        return g * sigmoid(difference), g * sigmoid(-difference)

    return gradient


logaddexp = _function(
    "logaddexp",
    "log(exp(x) + exp(y)), without overflow.",
    scalar.logaddexp,
    np.logaddexp,
    _log_of_sum_gradient(math.e),
    arity=2,
)
logaddexp2 = _function(
    "logaddexp2",
    "log2(2**x + 2**y), without overflow.",
    scalar.logaddexp2,
    np.logaddexp2,
    _log_of_sum_gradient(2),
    arity=2,
)


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    def reference(x: Any) -> Any:
        return np.asarray(np.vectorize(function, otypes=[np.float64])(x)).astype(x.dtype)

    return reference


TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

erf = _function(
    "erf",
    "Error function.",
    scalar.erf,
    _each(math.erf),
    lambda g, x, out: (g * (typed(TWO_OVER_ROOT_PI, x) * exp(-sqr(x))),),
)
erfc = _function(
    "erfc",
    "1 - erf(x), accurate for large x.",
    scalar.erfc,
    _each(math.erfc),
    lambda g, x, out: (-(g * (typed(TWO_OVER_ROOT_PI, x) * exp(-sqr(x)))),),
    cost=30,
)


def _times_log(x: Scalar, y: Scalar) -> Scalar:
    return scalar.select(scalar.eq(x, 0), scalar.const(0, x.dtype), scalar.mul(x, scalar.log(y)))


def _times_log_reference(x: Any, y: Any) -> Any:
    return np.where(x == 0, x.dtype.type(0), x * np.log(y))


xlogx = _function(
    "xlogx",
    "x log(x), 0 at 0.",
    lambda x: _times_log(x, x),
    lambda x: _times_log_reference(x, x),
    lambda g, x, out: (g * (typed(1, x) + log(x)),),
    domains=POSITIVE,
)
xlogy0 = _function(
    "xlogy0",
    "x log(y), 0 where x is 0.",
    _times_log,
    _times_log_reference,
    lambda g, x, y, out: (g * log(y), g * (x / y)),
    arity=2,
    domains=(Domain(), *POSITIVE),
)
