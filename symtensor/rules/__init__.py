"""The rules of the compiler, one file for each subject, and the sets that passes apply."""

from collections.abc import Iterable, Sequence
from typing import Final

from symtensor.graph import Tensor, replace, variable
from symtensor.rewrite import Procedure, RuleSet, rewrite

from .algebra import choices, identities, inverses, logic, powers
from .broadcasting import broadcasts, elementwise_broadcasts
from .casts import casts
from .reductions import more_reductions, reductions
from .shapes import layout as chains
from .shapes import sizes, views_of_repeated
from .signs import signs
from .stability import stability


def _union(name: str, doc: str, *parts: RuleSet) -> RuleSet:
    made = parts[0]
    for part in parts[1:]:
        made = made | part
    made.name, made.doc = name, doc
    return made


algebra: Final = _union(
    "algebra",
    "One spelling for each expression.",
    sizes, signs, identities, powers, inverses, logic, choices, casts, broadcasts, elementwise_broadcasts,
)  # fmt: skip
layout: Final = _union(
    "layout",
    "Cancel and join reshapes, dimshuffles, slices and reductions.",
    chains, views_of_repeated, reductions, more_reductions,
)  # fmt: skip

RULE_SETS: Final = {made.name: made for made in (algebra, layout, stability)}
_BEFORE_GRADIENT: Final = stability | signs


def ruleset_named(name: str) -> RuleSet:
    """The rule set that a pass applies."""
    return RULE_SETS[name]


def stabilise(outputs: Sequence[Tensor], keep: Iterable[Tensor] = ()) -> list[Tensor]:
    """The outputs with fragile forms replaced, to be differentiated.

    The gradient of a stable form is stable; that of ``log(sigmoid(x))`` as written is 0/0 where the sigmoid is 0,
    and no local rule repairs it afterwards. Tensors in ``keep`` stay in the graph as they are: gradients with
    respect to them are wanted. Outputs without a fragile form are returned unchanged.
    """
    opaque = {node: variable(node.type) for node in keep if node.inputs}
    hidden = replace(outputs, opaque) if opaque else list(outputs)
    done = rewrite(hidden, _BEFORE_GRADIENT, fold=False, merge=False)
    fragile = {row.name for row in stability.rows} | {p.name for p in stability.procedures}
    if fragile.isdisjoint(done.counts):
        return list(outputs)
    return replace(done.outputs, {shown: node for node, shown in opaque.items()}) if opaque else done.outputs


__all__ = ["RULE_SETS", "algebra", "layout", "ruleset_named", "stabilise", "stability"]
