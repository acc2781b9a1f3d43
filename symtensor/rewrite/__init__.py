"""Graph rewriting: rules as rows over holes, one driver for all of them, and a log of what fired."""

from .driver import Firing, RewriteResult, rewrite
from .pattern import Compute, Const, Hole, Param, Pattern, Rest, Word
from .rules import Procedure, Row, Rows, RuleSet, check, ruleset

__all__ = [
    "Compute", "Const", "Firing", "Hole", "Param", "Pattern", "Procedure", "Rest", "RewriteResult", "Row",
    "RuleSet", "Rows", "Word", "check", "rewrite", "ruleset",
]  # fmt: skip
