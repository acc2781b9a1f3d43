"""One spelling for each expression: neutral elements, repeated operands, powers, constants of integer chains.

Floating-point rows keep NaN and infinity: ``x * 0`` and ``x - x`` stay. The one liberty, which Theano takes
too, is ``x + 0``: it becomes ``x``, though -0.0 + 0.0 is +0.0.
"""

import math

from symtensor.graph import Tensor
from symtensor.opdef import CONSTANT
from symtensor.rewrite.conditions import Condition, boolean, inexact, integer, ordered, real, when
from symtensor.rewrite.pattern import Const, Hole
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.words import (
    abs,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    ceil,
    eq,
    exp,
    floor,
    floordiv,
    identity,
    invert,
    log,
    maximum,
    minimum,
    neq,
    reciprocal,
    rint,
    sign,
    sqr,
    sqrt,
    switch,
    trunc,
)


def _variable(x: Hole) -> Condition:
    return when(f"{x.name} is not constant", lambda t: t.op is not CONSTANT, x)


@ruleset
def identities(x: Hole, y: Hole, z: Hole, c: Const, d: Const) -> Rows:
    """Remove neutral elements and repeated operands; collect constants of integers."""
    yield "identity", identity(x), x
    yield "plus_zero", x + 0, x
    yield "minus_zero", x - 0, x
    yield "times_one", x * 1, x
    yield "divided_by_one", x / 1, x
    yield "divided_down_by_one", floordiv(x, 1), x, integer(x)
    yield "times_zero", x * 0, 0, integer(x)
    yield "minus_itself", x - x, 0, integer(x)
    yield "constants_of_sum", (x + c) + d, x + (c + d), integer(x)
    yield "constants_of_difference", (x - c) + d, x + (d - c), integer(x)
    yield "constant_minus", (x + c) - d, x + (c - d), integer(x)
    yield "constants_of_product", (x * c) * d, x * (c * d), integer(x)
    yield "constant_out_of_sum", (x + c) + y, (x + y) + c, integer(x) & _variable(y) & _variable(x)
    yield "sum_minus_term", (x + y) - x, y, integer(x)
    yield "term_plus_difference", x + (y - x), y, integer(x)
    yield "reciprocal", reciprocal(x), 1 / x
    yield "times_itself", x * x, sqr(x)
    yield "maximum_of_itself", maximum(x, x), x
    yield "minimum_of_itself", minimum(x, x), x
    yield "maximum_twice", maximum(maximum(x, y), y), maximum(x, y)
    yield "minimum_twice", minimum(minimum(x, y), y), minimum(x, y)


@ruleset
def powers(x: Hole) -> Rows:
    """Powers with a known small exponent."""
    yield "power_0", x**0, 1
    yield "power_1", x**1, x
    yield "power_2", x**2, sqr(x)
    yield "power_minus_1", x**-1, 1 / x, inexact(x)


@ruleset
def inverses(x: Hole) -> Rows:
    """Functions that undo each other or themselves; the result is the more accurate side."""
    yield "log_of_exp", log(exp(x)), x, real(x)
    yield "root_of_square", sqrt(sqr(x)), abs(x), real(x)
    yield "square_of_root", sqr(sqrt(x)), switch(x >= 0, x, math.nan), real(x)
    yield "exp_of_log", exp(log(x)), switch(x >= 0, x, math.nan), real(x)
    yield "abs_of_abs", abs(abs(x)), abs(x), ordered(x)
    yield "abs_of_square", abs(sqr(x)), sqr(x), real(x)
    yield "abs_of_exp", abs(exp(x)), exp(x), real(x)
    yield "sign_of_sign", sign(sign(x)), sign(x), ordered(x)
    for outer in (floor, ceil, trunc, rint):
        for inner in (floor, ceil, trunc, rint):
            yield f"{outer.name}_of_{inner.name}", outer(inner(x)), inner(x)
    for outer in (floor, ceil, trunc):  # rint makes floats of integers
        yield f"{outer.name}_of_whole", outer(x), x, when("x integer or bool", _whole, x)


def _whole(x: Tensor) -> bool:
    return x.element.kind in "iub"


@ruleset
def logic(x: Hole, y: Hole) -> Rows:
    """Conditions."""
    yield "not_not", invert(invert(x)), x
    yield "not_eq", invert(eq(x, y)), neq(x, y)
    yield "not_neq", invert(neq(x, y)), eq(x, y)
    yield "and_itself", bitwise_and(x, x), x
    yield "or_itself", bitwise_or(x, x), x
    yield "xor_itself", bitwise_xor(x, x), 0
    yield "and_true", bitwise_and(x, True), x, boolean(x)
    yield "and_false", bitwise_and(x, False), False, boolean(x)
    yield "or_true", bitwise_or(x, True), True, boolean(x)
    yield "or_false", bitwise_or(x, False), x, boolean(x)
    yield "xor_false", bitwise_xor(x, False), x, boolean(x)
    yield "eq_itself", eq(x, x), True, when("x integer or bool", _whole, x)
    yield "neq_itself", neq(x, x), False, when("x integer or bool", _whole, x)
    yield "ge_itself", x >= x, True, when("x integer or bool", _whole, x)
    yield "le_itself", x <= x, True, when("x integer or bool", _whole, x)
    yield "gt_itself", x > x, False
    yield "lt_itself", x < x, False


@ruleset
def choices(p: Hole, x: Hole, y: Hole, z: Hole) -> Rows:
    """``switch`` with a known condition, equal branches, or the same condition twice."""
    yield "switch_true", switch(True, x, y), x
    yield "switch_false", switch(False, x, y), y
    yield "switch_same", switch(p, x, x), x
    yield "switch_not", switch(invert(p), x, y), switch(p, y, x)
    yield "switch_again_yes", switch(p, switch(p, x, y), z), switch(p, x, z)
    yield "switch_again_no", switch(p, x, switch(p, y, z)), switch(p, x, z)


transparent = RuleSet("transparent", "Operations that matter to gradients and printing only are left out.")


@transparent.procedure(
    "zero_grad", "consider_constant", "disconnected_grad", "undefined_grad", "grad_clip", "grad_scale", "print",
    "with_gradient",
    name="values_only",
)  # fmt: skip
def _values_only(node: Tensor) -> Tensor:
    """grad_clip(x), disconnected_grad(x), Print(x) and their like become x: gradients are taken already."""
    return node.inputs[0]
