"""The rules of the compiler, one file for each subject, and the sets that passes apply."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, NamedTuple

from symtensor.graph import Tensor, replace, variable
from symtensor.rewrite import Procedure, Row, RuleSet, rewrite

from .algebra import choices, identities, inverses, logic, powers, transparent
from .broadcasting import broadcasts, elementwise_broadcasts
from .casts import casts
from .crossentropy import crossentropy
from .fast_math import fast_math
from .indexing import parts, parts_of_results
from .reductions import more_reductions, reductions
from .shapes import chains, sizes, transposed_products, views_of_repeated
from .signs import signs
from .specialise import cheaper, scaled_sums, spread_slices
from .stability import before_gradient, stability


def _union(name: str, doc: str, *parts: RuleSet) -> RuleSet:
    made = parts[0]
    for part in parts[1:]:
        made = made | part
    made.name, made.doc = name, doc
    return made


algebra: Final = _union(
    "algebra",
    "One spelling for each expression.",
    sizes, transparent, signs, identities, powers, inverses, logic, choices, casts, broadcasts, elementwise_broadcasts,
)  # fmt: skip
layout: Final = _union(
    "layout",
    "Cancel and join reshapes, dimshuffles, broadcasts and reductions.",
    chains, views_of_repeated, reductions, more_reductions, transposed_products, parts, parts_of_results,
)  # fmt: skip
specialise: Final = _union(
    "specialise",
    "Cheaper operations for special operands.",
    cheaper, scaled_sums, spread_slices, crossentropy,
)  # fmt: skip

# Each kind of rule, once: for tables and checks.
RULE_SETS: Final = {made.name: made for made in (algebra, layout, stability, specialise, fast_math)}

# What a pass applies: what its rules produce is brought into canonical form at once.
_PASSES: Final = {
    "algebra": algebra,
    "layout": layout | algebra,
    "stability": stability | algebra,
    "specialise": specialise | algebra | layout,
    "fast_math": fast_math | algebra,
}
_STABILISING: Final = before_gradient | signs


def ruleset_named(name: str) -> RuleSet:
    """The rules that the pass of this name applies."""
    return _PASSES[name]


def stabilise(outputs: Sequence[Tensor], keep: Iterable[Tensor] = ()) -> list[Tensor]:
    """The outputs with fragile forms replaced, to be differentiated.

    The gradient of a stable form is stable; that of ``log(sigmoid(x))`` as written is 0/0 where the sigmoid
    is 0, and no local rule repairs it afterwards. Tensors in ``keep`` stay in the graph as they are:
    gradients with respect to them are wanted. Outputs without a fragile form are returned unchanged.
    """
    opaque = {node: variable(node.type) for node in keep if node.inputs}
    hidden = replace(outputs, opaque) if opaque else list(outputs)
    done = rewrite(hidden, _STABILISING, fold=False, merge=False)
    if not done.log or _fragile().isdisjoint(firing.rule for firing in done.log):
        return list(outputs)
    return replace(done.outputs, {shown: node for node, shown in opaque.items()}) if opaque else done.outputs


@cache
def _fragile() -> frozenset[str]:
    """The names of the rules that replace fragile forms."""
    rules: tuple[Row | Procedure, ...] = (*before_gradient.rows, *before_gradient.procedures)
    return frozenset([rule.name for rule in rules])


class Described(NamedTuple):
    """A rule as shown in tables. Procedures have their doc as ``before``, and no ``after``."""

    ruleset: str
    name: str
    before: str
    after: str
    condition: str


def rules_table() -> list[Described]:
    """Every rule of the compiler, in the order of the passes."""
    table: list[Described] = []
    for name, rules in RULE_SETS.items():
        for row in rules.rows:
            condition = "" if row.condition is None else repr(row.condition)
            table.append(Described(name, row.name, repr(row.left), repr(row.right), condition))
        table += [Described(name, procedure.name, procedure.doc, "", "") for procedure in rules.procedures]
    return table


__all__ = [
    "RULE_SETS", "Described", "algebra", "fast_math", "layout", "rules_table", "ruleset_named", "specialise",
    "stabilise", "stability",
]  # fmt: skip
