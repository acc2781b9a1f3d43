"""Cheaper operations for special operands. The last of the passes: no other rule has to know these forms."""

import math
from itertools import pairwise

import numpy as np

from symtensor.graph import Tensor
from symtensor.opdef import OPS
from symtensor.pullback import is_zero
from symtensor.rewrite.conditions import inexact, one_element, real, when
from symtensor.rewrite.pattern import Const, Hole
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.words import abs, eq, sigmoid, sqr, sqrt, switch


def _has_exact_reciprocal(c: Tensor) -> bool:
    """Whether every element is a power of two whose reciprocal is a normal number."""
    data = c.data  # type: ignore[attr-defined]
    if data.size > 4096:
        return False
    mantissa, exponent = np.frexp(data)
    limit = np.finfo(data.dtype).maxexp - 2
    return bool(((np.abs(mantissa) == 0.5) & (np.abs(exponent) < limit)).all())


def negatives(u: Tensor, v: Tensor) -> bool:
    """Whether one tensor is seen to be the negative of the other."""
    if u.op.name == "sub" and v.op.name == "sub":
        return u.inputs == v.inputs[::-1]
    return (u.op.name == "neg" and u.inputs[0] is v) or (v.op.name == "neg" and v.inputs[0] is u)


@ruleset
def cheaper(x: Hole, y: Hole, g: Hole, u: Hole, v: Hole, c: Const, d: Const) -> Rows:
    """Powers as products, quotients as products, and the gradient of the logistic loss."""
    yield "power_3", x**3, x * sqr(x)
    yield "power_4", x**4, sqr(sqr(x))
    yield "power_minus_2", x**-2, 1 / sqr(x), inexact(x)
    yield "power_half", x**0.5, switch(eq(x, -math.inf), math.inf, abs(sqrt(x))), real(x)
    yield "power_minus_half", x**-0.5, switch(eq(x, -math.inf), 0, 1 / abs(sqrt(x))), real(x)
    exact = real(c) & when("c is a power of two", _has_exact_reciprocal, c)
    yield "divided_by_power_of_two", x / c, x * (1 / c), exact
    yield "scaled_twice", (x * c) * d, x * (c * d), exact
    yield "scaled_twice_by_other", (x * d) * c, x * (d * c), exact
    opposite = when("v is -u", negatives, u, v)
    yield "logistic_gradient", (1 - y) * sigmoid(u) - y * sigmoid(v), sigmoid(u) - y, opposite
    yield (
        "scaled_logistic_gradient",
        (g * (1 - y)) * sigmoid(u) - (g * y) * sigmoid(v),
        g * (sigmoid(u) - y),
        opposite,
    )


scaled_sums = RuleSet("scaled_sums", "A factor common to all terms of a sum is applied once, to the sum.")


@scaled_sums.procedure("sum", name="sum_of_scaled", inputs=("mul", "true_div"))
def _sum_of_scaled(node: Tensor) -> Tensor | None:
    """sum(s * x) becomes s * sum(x), and sum(x / s) becomes sum(x) / s, for a factor s of one element."""
    (terms,) = node.inputs
    for x, s in (terms.inputs, terms.inputs[::-1]) if terms.op.name == "mul" else (terms.inputs,):
        factor = s.inputs[0] if s.op.name == "broadcast_to" else s
        if one_element(factor) and not one_element(x) and x.dims == terms.dims and terms.element.is_float:
            if factor.ndim:
                factor = OPS["dimshuffle"].make(factor, order=())
            return terms.op.make(OPS["sum"].make(x, **node.params), factor)
    return None


spread_slices = RuleSet("spread_slices", "The gradients of several slices of a tensor, side by side.")


def _slices(node: Tensor) -> tuple[int, tuple[tuple[tuple[int, int], Tensor], ...], Tensor] | None:
    """The axis, ranges with pieces, and whole, of pieces that are zero elsewhere."""
    if node.op.name == "spread":
        whole, *pieces = node.inputs
        return node.params["axis"], tuple(zip(node.params["ranges"], pieces, strict=True)), whole
    if node.op.name != "set_part" or len(node.inputs) != 2 or not is_zero(node.inputs[0]):
        return None
    whole, piece = node.inputs
    cut = [(axis, item) for axis, item in enumerate(node.params["items"]) if item != ("slice", None, None, 1)]
    if len(cut) != 1 or piece.ndim != whole.ndim or cut[0][1][0] != "slice":
        return None
    axis, (_, start, stop, step) = cut[0]
    start = 0 if start is None else start
    known = isinstance(start, int) and isinstance(stop, int) and step == 1 and 0 <= start < stop
    part = OPS["subtensor"].make(whole, items=node.params["items"])
    broadcast = any(have == 1 != want for have, want in zip(piece.type.shape, part.type.shape, strict=True))
    if not known or broadcast:  # other sizes that differ are refused when the program runs, as before
        return None
    return axis, (((start, stop), piece),), whole


@spread_slices.procedure("add", name="slices_side_by_side", inputs=("set_part", "spread"))
def _slices_side_by_side(node: Tensor) -> Tensor | None:
    """Slices set into zeros and added become pieces side by side, where they do not overlap."""
    one, another = (_slices(term) for term in node.inputs)
    if one is None or another is None:
        return None
    (axis, left, whole), (other, right, second) = one, another
    if axis != other or whole.dims != second.dims or whole.dims != node.dims:
        return None
    pieces = sorted((*left, *right), key=lambda entry: entry[0])
    if any(before[0][1] > after[0][0] for before, after in pairwise(pieces)):
        return None
    ranges = tuple(entry[0] for entry in pieces)
    return OPS["spread"].make(whole, *[entry[1] for entry in pieces], axis=axis, ranges=ranges)
