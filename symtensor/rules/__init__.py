"""The rules of the compiler, one file for each subject, and the sets that passes apply."""

from typing import Final

from symtensor.rewrite import RuleSet

from .algebra import choices, identities, inverses, logic, powers
from .broadcasting import broadcasts, elementwise_broadcasts
from .casts import casts
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
    signs, identities, powers, inverses, logic, choices, casts, broadcasts, elementwise_broadcasts,
)  # fmt: skip

RULE_SETS: Final = (algebra, stability)

__all__ = ["RULE_SETS", "algebra", "stability"]
