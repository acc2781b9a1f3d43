"""Elementwise arithmetic, comparisons, and choosing between values.

Bools follow NumPy: a sum of bools is their "or", a product their "and"; their difference is an error.
"""

from functools import reduce
from typing import Any

import numpy as np

from symtensor.graph import Constant, Params, Tensor, TensorLike
from symtensor.opdef import (
    Domain,
    Gradients,
    Inferred,
    OpDef,
    broadcast_dims,
    describe,
    elementwise,
    promoted,
    pull_elementwise,
)
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.scalar import Scalar

from . import complex_scalars
from .casting import as_condition, cast, identity
from .elementwise_bits import and_
from .elementwise_compare import eq, ge, gt, le, lt, neq
from .gradient_parts import typed, zeros

# Arithmetic ------------------------------------------------------------------------------------------------


def _add(a: Scalar, b: Scalar) -> Scalar:
    return scalar.bit_or(a, b) if a.dtype is dtypes.bool_ else scalar.add(a, b)


def _mul(a: Scalar, b: Scalar) -> Scalar:
    return scalar.bit_and(a, b) if a.dtype is dtypes.bool_ else scalar.mul(a, b)


add = elementwise(
    "add",
    doc="Sum.",
    arity=2,
    scalar=_add,
    numpy=np.add,
    arithmetic=True,
    associative=True,
    gradient=lambda g, x, y, out: (g, g),
)
sub = elementwise(
    "sub",
    doc="Difference.",
    arity=2,
    accepts="iufc",
    scalar=scalar.sub,
    numpy=np.subtract,
    arithmetic=True,
    gradient=lambda g, x, y, out: (g, -g),
)
mul = elementwise(
    "mul",
    doc="Product.",
    arity=2,
    scalar=_mul,
    numpy=np.multiply,
    associative=True,
    gradient=lambda g, x, y, out: (g * y, g * x),
)


def _true_div_gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Gradients:
    by_x = g / y
    return by_x, -(by_x * out)


true_div = elementwise(
    "true_div",
    doc="Quotient; integers are divided in floating point.",
    arity=2,
    integer="quotient",
    scalar=scalar.div,
    numpy=np.true_divide,
    gradient=_true_div_gradient,
    domains=(Domain(), Domain(0.5, 2)),
    cost=4,
)
floordiv = elementwise(
    "floordiv",
    doc="Largest integer not above the quotient; integer division by zero gives 0.",
    arity=2,
    accepts="iuf",
    scalar=scalar.floordiv,
    numpy=np.floor_divide,
    counting=True,
    cost=8,
    gradient=lambda g, x, y, out: (zeros(g), zeros(g)),
)


def _mod_gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Gradients:
    return g, -(g * floordiv(x, y))


mod = elementwise(
    "mod",
    doc="Remainder with the sign of the divisor; an integer modulo zero is 0.",
    arity=2,
    accepts="iuf",
    scalar=scalar.mod,
    numpy=np.mod,
    counting=True,
    gradient=_mod_gradient,
    cost=8,
    domains=(Domain(-3, 3), Domain(3.5, 5)),
)


def _fmod_gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Gradients:
    from .elementwise_math import trunc

    return g, -(g * trunc(x / y))


def _fmod(a: Scalar, b: Scalar) -> Scalar:
    """Of integers from the floored remainder, which has the sign of the divisor."""
    if a.dtype.is_float:
        return scalar.fmod(a, b)
    floored = scalar.mod(a, b)
    if a.dtype.kind == "u":
        return floored
    opposite = scalar.ne(scalar.lt(a, 0), scalar.lt(b, 0))
    return scalar.select(scalar.bit_and(opposite, scalar.ne(floored, 0)), floored - b, floored)


fmod = elementwise(
    "fmod",
    doc="Remainder with the sign of the dividend, as C's fmod.",
    arity=2,
    accepts="iuf",
    scalar=_fmod,
    numpy=np.fmod,
    counting=True,
    gradient=_fmod_gradient,
    cost=8,
    domains=(Domain(-3, 3), Domain(3.5, 5)),
)
neg = elementwise(
    "neg",
    doc="Negation.",
    arity=1,
    accepts="iufc",
    scalar=scalar.neg,
    numpy=np.negative,
    arithmetic=True,
    gradient=lambda g, x, out: (-g,),
)
abs_ = elementwise(
    "abs",
    doc="Absolute value; the modulus of a complex number. Its derivative at 0 is 0.",
    arity=1,
    scalar=complex_scalars.absolute,
    numpy=np.abs,
    result=dtypes.real_of,
    arithmetic=True,
    gradient=lambda g, x, out: (g * sign(x),),
)
sign: OpDef = elementwise(
    "sign",
    doc="-1, 0 or 1; of a complex number, the number divided by its modulus.",
    arity=1,
    accepts="iufc",
    scalar=complex_scalars.sign,
    numpy=np.sign,
    arithmetic=True,
    gradient=lambda g, x, out: (zeros(g),),
)


def _reciprocal(x: Scalar) -> Scalar:
    return scalar.div(scalar.const(1, x.dtype), x)


reciprocal = elementwise(
    "reciprocal",
    doc="1 / x.",
    arity=1,
    integer="float",
    scalar=_reciprocal,
    numpy=lambda x: np.true_divide(x.dtype.type(1), x),
    gradient=lambda g, x, out: (-(g * sqr(out)),),
    domains=(Domain(0.5, 2),),
    cost=4,
)
sqr: OpDef = elementwise(
    "sqr",
    doc="Square.",
    arity=1,
    scalar=lambda x: _mul(x, x),
    numpy=lambda x: np.multiply(x, x),
    counting=True,
    gradient=lambda g, x, out: (g * (typed(2, x) * x),),
)


# Powers ----------------------------------------------------------------------------------------------------


def _pow_gradient(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Gradients:
    from .elementwise_math import log

    if isinstance(y, Constant) and y.ndim == 0:
        exponent = y.data.item()
        if exponent == 2:
            return g * (y * x), zeros(g)
        if exponent == 1:
            return g, zeros(g)
        if exponent == 0:
            return zeros(g), zeros(g)
        return g * (y * pow_(x, typed(exponent - 1, x))), zeros(g)
    by_y = switch(eq(x, 0), zeros(g), g * (out * log(x)))
    return g * (y * pow_(x, y - typed(1, y))), by_y


def _check_power(base: Tensor, exponent: Tensor) -> None:
    if base.element.is_integer and isinstance(exponent, Constant) and (exponent.data < 0).any():
        raise DTypeError(
            f"pow: an integer to a negative power is no integer: {describe(base)}; cast it to floating point first"
        )


pow_ = elementwise(
    "pow",
    doc="Power. Integers stay integers; negative exponents known when the graph is built are refused there, others "
    "give the quotient rounded toward zero.",
    arity=2,
    accepts="iufc",
    scalar=complex_scalars.power,
    check=_check_power,
    numpy=np.power,
    counting=True,
    gradient=_pow_gradient,
    cost=40,
    domains=(Domain(0.1, 3), Domain(0, 3)),
    tolerance=8,  # complex powers: the error of the logarithm is multiplied by the exponent
)


# Extremes --------------------------------------------------------------------------------------------------


def _maximum(a: Scalar, b: Scalar) -> Scalar:
    return scalar.bit_or(a, b) if a.dtype is dtypes.bool_ else scalar.maximum(a, b)


def _minimum(a: Scalar, b: Scalar) -> Scalar:
    return scalar.bit_and(a, b) if a.dtype is dtypes.bool_ else scalar.minimum(a, b)


def _split(g: Tensor, first: Tensor) -> Gradients:
    """All of the gradient to the first argument where ``first`` holds, to the second elsewhere."""
    zero = typed(0, g)
    return switch(first, g, zero), switch(first, zero, g)


maximum = elementwise(
    "maximum",
    doc="Larger value, NaN where one is NaN. At a tie the first argument gets the gradient.",
    arity=2,
    accepts="biuf",
    scalar=_maximum,
    numpy=np.maximum,
    gradient=lambda g, x, y, out: _split(g, ge(x, y)),
)
minimum = elementwise(
    "minimum",
    doc="Smaller value, NaN where one is NaN. At a tie the first argument gets the gradient.",
    arity=2,
    accepts="biuf",
    scalar=_minimum,
    numpy=np.minimum,
    gradient=lambda g, x, y, out: _split(g, le(x, y)),
)


def _fmax(a: Scalar, b: Scalar) -> Scalar:
    return scalar.fmax(a, b) if a.dtype.is_float else _maximum(a, b)


def _fmin(a: Scalar, b: Scalar) -> Scalar:
    return scalar.fmin(a, b) if a.dtype.is_float else _minimum(a, b)


fmax = elementwise(
    "fmax",
    doc="Larger value; where one is NaN, the other.",
    arity=2,
    accepts="biuf",
    scalar=_fmax,
    numpy=np.fmax,
    gradient=lambda g, x, y, out: _split(g, eq(out, x)),
)
fmin = elementwise(
    "fmin",
    doc="Smaller value; where one is NaN, the other.",
    arity=2,
    accepts="biuf",
    scalar=_fmin,
    numpy=np.fmin,
    gradient=lambda g, x, y, out: _split(g, eq(out, x)),
)


def _clip_gradient(g: Tensor, x: Tensor, low: Tensor, high: Tensor, out: Tensor) -> Gradients:
    zero = typed(0, g)
    inside = switch(and_(ge(x, low), le(x, high)), g, zero)
    return inside, switch(lt(x, low), g, zero), switch(gt(x, high), g, zero)


clip_op = elementwise(
    "clip",
    doc="x moved into [low, high]; its derivative on the bounds is 1.",
    arity=3,
    accepts="biuf",
    scalar=lambda x, low, high: _minimum(_maximum(x, low), high),
    numpy=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    gradient=_clip_gradient,
    domains=(Domain(-2, 2), Domain(-1, -0.5), Domain(0.5, 1)),
    cost=2,
)


def clip(x: TensorLike, low: TensorLike | None, high: TensorLike | None) -> Tensor:
    """``x`` moved into [low, high]; None is no bound."""
    if low is None:
        return minimum(x, high) if high is not None else identity(x)
    return maximum(x, low) if high is None else clip_op(x, low, high)


# Choosing --------------------------------------------------------------------------------------------------


def _switch_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    condition, yes, no = inputs
    if condition.element is not dtypes.bool_ or yes.element is not no.element:
        raise DTypeError("switch: " + "; ".join(describe(i) for i in inputs))
    return yes.element, broadcast_dims("switch", inputs)


def _switch_convert(op: OpDef, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
    if len(values) != 3:
        raise TypeError(f"switch takes a condition and two values, got {len(values)} arguments")
    return as_condition(values[0]), *promoted(values[1:], name="switch")


def _switch_gradient(g: Tensor, node: Tensor) -> Gradients:
    condition = node.inputs[0]
    zero = typed(0, g)
    return None, switch.make(condition, g, zero), switch.make(condition, zero, g)


switch = OpDef(
    name="switch",
    doc="Values of ``yes`` where the condition holds (is not zero), else of ``no``; both are computed.",
    infer=_switch_infer,
    convert=_switch_convert,
    reference=np.where,
    scalar=scalar.select,
    pull=pull_elementwise,
    gradient=_switch_gradient,
    domains=(Domain(), Domain(), Domain()),
    category="elementwise",
)


def where(condition: TensorLike, yes: TensorLike = None, no: TensorLike = None) -> Any:
    """``switch``; with the condition alone, the positions where it holds, as ``nonzero`` gives them."""
    if yes is None and no is None:
        from .indexing import nonzero

        return nonzero(condition)
    return switch(condition, yes, no)


def smallest(*values: Any) -> Any:
    """The smallest of several values, element by element."""
    return reduce(minimum, values)


def largest(*values: Any) -> Any:
    """The largest of several values, element by element."""
    return reduce(maximum, values)


def ceil_intdiv(a: TensorLike, b: TensorLike) -> Tensor:
    """The smallest integer not below the quotient of two integers."""
    quotient = floordiv(a, b)
    return quotient + cast(neq(mod(a, b), 0), quotient.element)


int_div = floor_div = floordiv
power = pow_
inv = reciprocal
sgn = sign
square = sqr
