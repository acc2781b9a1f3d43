"""Forms that lose precision or overflow, and their equivalents that do not.

Programs of Theano's time are written in the fragile forms and rely on these rules: ``log(1 - 1/(1 +
exp(-x)))`` with x = 1000 is -1000, not -inf. Rows are written for both the spelling of users and the
canonical one, because the set is also applied before differentiation, when nothing is canonical yet.
"""

import math

from symtensor.graph import Tensor
from symtensor.opdef import OPS
from symtensor.rewrite.conditions import real, uniform
from symtensor.rewrite.pattern import Hole, Param
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.words import (
    exp,
    expm1,
    log,
    log1p,
    log_softmax,
    logaddexp,
    logsumexp,
    sigmoid,
    softmax,
    softplus,
    sum,
    switch,
)


@ruleset
def stable_functions(x: Hole, y: Hole, a: Hole, b: Hole) -> Rows:
    """Logarithms, exponentials and sigmoids of one variable."""
    yield "log_of_one_plus", log(1 + x), log1p(x), real(x)
    yield "log_of_one_minus", log(1 - x), log1p(-x), real(x)
    yield "exp_minus_one", exp(x) - 1, expm1(x), real(x)
    yield "exp_plus_minus_one", exp(x) + -1, expm1(x), real(x)
    yield "one_minus_exp", 1 - exp(x), -expm1(x), real(x)
    yield "softplus", log1p(exp(x)), softplus(x), real(x)
    yield "log1p_of_expm1", log1p(expm1(x)), x, real(x)
    yield "expm1_of_log1p", expm1(log1p(x)), switch(x >= -1, x, math.nan), real(x)
    yield "exp_of_log1p", exp(log1p(x)), switch(x >= -1, 1 + x, math.nan), real(x)
    yield "exp_of_softplus", exp(softplus(x)), 1 + exp(x)
    yield "exp_of_neg_softplus", exp(-softplus(x)), sigmoid(-x)
    yield "expm1_of_neg_softplus", expm1(-softplus(x)), -sigmoid(x)

    yield "sigmoid_of_ratio", exp(x) / (1 + exp(x)), sigmoid(x), real(x)
    yield "sigmoid", 1 / (1 + exp(x)), sigmoid(-x), real(x)
    yield "sigmoid_times", y / (1 + exp(x)), y * sigmoid(-x), real(x)
    yield "sigmoid_of_difference", sigmoid(-(a - b)), sigmoid(b - a)
    yield "sigmoid_of_neg_and_minus", sigmoid((-a) - b), sigmoid(-(a + b))
    yield "softplus_of_neg_and_minus", softplus((-a) - b), softplus(-(a + b))
    yield "one_minus_sigmoid", 1 - sigmoid(x), sigmoid(-x)
    yield "sigmoid_minus_one", sigmoid(x) - 1, -sigmoid(-x)
    yield "exp_times_sigmoid", exp(x) * sigmoid(-x), sigmoid(x)
    yield "exp_of_neg_times_sigmoid", exp(-x) * sigmoid(x), sigmoid(-x)
    yield "log_of_sigmoid", log(sigmoid(x)), -softplus(-x)
    yield "log1p_of_neg_sigmoid", log1p(-sigmoid(x)), -softplus(x)
    yield "softplus_of_neg_minus", softplus(-(a - b)), softplus(b - a)
    yield "softplus_minus", softplus(x) - x, softplus(-x)
    yield "softplus_of_neg_plus", softplus(-x) + x, softplus(x)
    yield "logaddexp", log(exp(x) + exp(y)), logaddexp(x, y), real(x)
    yield "softplus_of_log_sum", logaddexp(0, x), softplus(x)


@ruleset
def stable_reductions(x: Hole, a: Param) -> Rows:
    """Softmax and sums of exponentials."""
    yield "logsumexp", log(sum(exp(x), axes=a)), logsumexp(x, axes=a), real(x)
    yield "log_of_softmax", log(softmax(x, axes=a)), log_softmax(x, axes=a)
    yield "exp_of_log_softmax", exp(log_softmax(x, axes=a)), softmax(x, axes=a)


@ruleset
def switch_sinking(p: Hole, x: Hole, y: Hole) -> Rows:
    """A product or quotient with zero where a condition says so is zero there, even beside infinity or NaN.

    This is what makes the gradient of ``switch(x > 0, log(x), 0)`` zero, not NaN, at x = 0. Sums of such terms
    are one again, for the gradient of the gradient.
    """
    yield "product_with_switch_yes", switch(p, x, 0) * y, switch(p, x * y, 0), real(x)
    yield "product_with_switch_no", switch(p, 0, x) * y, switch(p, 0, x * y), real(x)
    yield "quotient_of_switch_yes", switch(p, x, 0) / y, switch(p, x / y, 0), real(x)
    yield "quotient_of_switch_no", switch(p, 0, x) / y, switch(p, 0, x / y), real(x)
    yield "sum_of_switches_yes", switch(p, x, 0) + switch(p, y, 0), switch(p, x + y, 0), real(x)
    yield "sum_of_switches_no", switch(p, 0, x) + switch(p, 0, y), switch(p, 0, x + y), real(x)
    yield "difference_of_switches_yes", switch(p, x, 0) - switch(p, y, 0), switch(p, x - y, 0), real(x)
    yield "difference_of_switches_no", switch(p, 0, x) - switch(p, 0, y), switch(p, 0, x - y), real(x)
    yield "neg_of_switch_yes", -switch(p, x, 0), switch(p, -x, 0), real(x)
    yield "neg_of_switch_no", -switch(p, 0, x), switch(p, 0, -x), real(x)


# Views between a function and its inverse ------------------------------------------------------------

_VIEWS = frozenset(("dimshuffle", "reshape", "broadcast_to", "specify_shape", "subtensor", "advanced_subtensor"))
through_views = RuleSet("through_views", "Bring a logarithm to the softmax or sigmoid it belongs to, past views.")


@through_views.procedure("log", name="log_past_views")
def _log_past_views(node: Tensor) -> Tensor | None:
    """log(view(f)) becomes view(log(f)) for a softmax, sigmoid or sum of exponentials, which have rows above."""
    source = _below_views(node.inputs[0], ("softmax", "sigmoid", "sum"))
    if source is None or (source.op.name == "sum" and source.inputs[0].op.name != "exp"):
        return None
    return _with_views(node.inputs[0], source, OPS["log"].make(source))


@through_views.procedure("sub", name="complement_past_views")
def _complement_past_views(node: Tensor) -> Tensor | None:
    """1 - view(sigmoid(x)) becomes view(sigmoid(-x))."""
    if uniform(node.inputs[0]) != 1:
        return None
    source = _below_views(node.inputs[1], ("sigmoid",))
    if source is None:
        return None
    return _with_views(node.inputs[1], source, OPS["sigmoid"].make(OPS["neg"].make(source.inputs[0])))


def _below_views(node: Tensor, wanted: tuple[str, ...]) -> Tensor | None:
    """What one or more views show, if it is one of the operations wanted."""
    seen = False
    while node.op.name in _VIEWS:
        node, seen = node.inputs[0], True
    return node if seen and node.op.name in wanted else None


def _with_views(node: Tensor, source: Tensor, other: Tensor) -> Tensor:
    """The views between ``source`` and ``node``, on ``other``."""
    chain = []
    while node is not source:
        chain.append(node)
        node = node.inputs[0]
    for view in reversed(chain):
        other = view.op.make(other, *view.inputs[1:], **view.params)
    return other


# Softmax as users spell it -----------------------------------------------------------------------------

spelled_softmax = RuleSet("spelled_softmax", "Recognise softmax and its logarithm in their definitions.")


def _kept_axes(node: Tensor, reduction: str) -> tuple[Tensor, tuple[int, ...]] | None:
    """What is reduced, and over which axes, where the node is a reduction with its axes put back."""
    if node.op.name != "dimshuffle" or node.inputs[0].op.name != reduction:
        return None
    (x,), axes = node.inputs[0].inputs, node.inputs[0].params["axes"]
    rest = iter(range(x.ndim))
    order = tuple(["x" if k in axes else next(rest) for k in range(x.ndim)])
    return (x, axes) if node.params["order"] == order else None


@spelled_softmax.procedure("true_div", name="softmax_of_exps", inputs=("exp",))
def _softmax_of_exps(node: Tensor) -> Tensor | None:
    """exp(x) / sum(exp(x), keepdims=True) becomes softmax(x)."""
    powers, total = node.inputs
    found = _kept_axes(total, "sum")
    if found is None or found[0] is not powers or not node.element.is_float:
        return None
    return OPS["softmax"].make(powers.inputs[0], axes=found[1])


@spelled_softmax.procedure("softmax", "log_softmax", name="softmax_of_shifted", inputs=("sub",))
def _softmax_of_shifted(node: Tensor) -> Tensor | None:
    """softmax(x - max(x, keepdims=True)) becomes softmax(x), which subtracts the largest value itself."""
    x, shift = node.inputs[0].inputs
    found = _kept_axes(shift, "max")
    if found is None or found != (x, node.params["axes"]):
        return None
    return node.op.make(x, **node.params)


@spelled_softmax.procedure("sub", name="log_softmax_of_difference", inputs=("dimshuffle",))
def _log_softmax_of_difference(node: Tensor) -> Tensor | None:
    """X - logsumexp(x, keepdims=True) becomes log_softmax(x)."""
    x, total = node.inputs
    found = _kept_axes(total, "logsumexp")
    return None if found is None or found[0] is not x else OPS["log_softmax"].make(x, axes=found[1])


before_gradient = stable_functions | stable_reductions | through_views | spelled_softmax
before_gradient.name = "before_gradient"
before_gradient.doc = "The part of stability that gives a cost the stable form of its gradient."
stability = before_gradient | switch_sinking
stability.name = "stability"
stability.doc = "Replace forms that lose precision or overflow by equivalents that do not."
