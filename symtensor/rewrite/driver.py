"""The driver: bring every node of a graph into the normal form of a rule set.

Each node is visited once, after its inputs, by an explicit stack (any depth works). A node whose inputs
changed is rebuilt; then the rules are tried, and where one applies, its result takes the node's place and is
brought into normal form in turn, inner nodes first. Nodes are interned, so what was normalised once is never
looked at again, and only what changed is revisited: the work is proportional to the nodes plus the firings.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import CodeType

from symtensor.graph import Tensor, ancestors, inherit, no_recording, rebuild
from symtensor.opdef import CONSTANT

from .fold import conform, folded
from .pattern import COMMUTATIVE
from .rules import RuleSet

FIRINGS_PER_NODE = 8  # a rule that fires more often than this for every node of the graph is stopped
FIRINGS_FREE = 256


class Firing:
    """One application of a rule: its name, the operation it replaced, and where the user made that."""

    __slots__ = ("_site", "before", "rule")

    def __init__(self, rule: str, before: str, site: tuple[CodeType, int] | None) -> None:
        self.rule, self.before, self._site = rule, before, site

    @property
    def site(self) -> str | None:
        """``file.py:line`` of the user's program, where known."""
        if self._site is None:
            return None
        code, instruction = self._site
        line = next((ln for start, end, ln in code.co_lines() if start <= instruction < end), None)
        return f"{Path(code.co_filename).name}:{line or code.co_firstlineno}"

    def __str__(self) -> str:
        return f"{self.rule}: {self.before}" + (f" ({self.site})" if self._site is not None else "")


class RewriteResult:
    """What a rewrite did.

    outputs: the new graph. log: the firings in order. tried: how often each rule was tried and did not apply.
    seconds: time spent in each rule, hits and misses. stopped: rules that exceeded their budget. circular:
    rules whose result contained what it replaced, and was refused. nodes: how many were visited.
    """

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []
        self.log: list[Firing] = []
        self.tried: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.stopped: list[str] = []
        self.circular: list[str] = []
        self.nodes = 0
        self.milliseconds = 0.0

    @property
    def counts(self) -> Counter[str]:
        """How often each rule fired."""
        return Counter(firing.rule for firing in self.log)


def rewrite(
    outputs: Sequence[Tensor],
    rules: RuleSet,
    *,
    fold: bool = True,
    merge: bool = True,
    budget: int = FIRINGS_PER_NODE,
) -> RewriteResult:
    """Bring ``outputs`` into the normal form of ``rules``.

    fold: replace operations on constants by their value. merge: let ``a + b`` and ``b + a`` be one node.
    budget: how often a rule may fire, for every node of the graph, before it is stopped.

    The outputs keep their element types and ranks, and know at least the sizes they knew. Element values are
    the same; a zero may change its sign where a rule says so.
    """
    start = perf_counter()
    result = RewriteResult()
    with no_recording():
        limit = budget * len(ancestors(outputs)) + FIRINGS_FREE
        run = _Run(rules, result, fold, merge, limit)
        result.outputs = [run.normalise(output) for output in outputs]
    result.nodes = len(run.normal)
    result.milliseconds = (perf_counter() - start) * 1e3
    return result


class _Run:
    """The state of one rewrite."""

    def __init__(self, rules: RuleSet, result: RewriteResult, fold: bool, merge: bool, budget: int) -> None:
        self.rules, self.result, self.fold, self.merge, self.budget = rules, result, fold, merge, budget
        self.normal: dict[Tensor, Tensor] = {}  # normal forms found so far
        self.became: dict[Tensor, tuple[Tensor, str]] = {}  # nodes in work: what they turned into, by which rule
        self.orders: dict[object, Tensor] = {}  # commutative nodes by their operands in either order
        self.fired: Counter[str] = Counter()

    def normalise(self, root: Tensor) -> Tensor:
        """The normal form of ``root``."""
        normal, became = self.normal, self.became
        working: set[Tensor] = set()  # nodes on the stack that wait for others
        stack = [root]
        while stack:
            node = stack[-1]
            if node in normal:
                stack.pop()
                continue
            inputs = node.inputs
            step = became.get(node)
            if step is not None:
                normal[node] = normal[step[0]]
                working.discard(node)
                stack.pop()
                continue
            if node.op.category == "leaf":
                normal[node] = node
                continue
            missing = [i for i in inputs if i not in normal]
            if missing:
                if not working.isdisjoint(missing):
                    self._break(stack, working)
                    continue
                working.add(node)
                stack.extend(missing)
                continue
            changed = tuple([normal[i] for i in inputs])
            if changed != inputs:
                after, rule = rebuild(node, changed), ""
            else:
                found = self._replacement(node)
                if found is None:
                    normal[node] = node
                    continue
                after, rule = found
            if after in normal:
                normal[node] = normal[after]
                continue
            if after in working:
                self.result.circular.append(rule)
                normal[node] = node
                continue
            became[node] = (after, rule)
            working.add(node)
            stack.append(after)
        return normal[root]

    def _break(self, stack: list[Tensor], working: set[Tensor]) -> None:
        """Give up the last replacement, because it leads back to what is being normalised."""
        while stack[-1] not in self.became:
            working.discard(stack.pop())
        node = stack[-1]
        self.result.circular.append(self.became.pop(node)[1])
        working.discard(node)
        self.normal[node] = node

    def _replacement(self, node: Tensor) -> tuple[Tensor, str] | None:
        """What replaces a node whose inputs are normal, and the rule that says so."""
        op, inputs = node.op, node.inputs
        if self.merge and op.name in COMMUTATIVE:
            first = self.orders.setdefault((op, frozenset(inputs)), node)
            # Both make sure that the sizes of the operands agree, so their own sizes are equal too.
            if first is not node and first.type is node.type:
                return self._record("merge", node, first)
        if self.fold and inputs and inputs[0].op is CONSTANT:
            value = folded(node)
            if value is not None:
                return self._record("constant_folding", node, value)
        for name, attempt in self.rules.candidates(op, inputs):
            if name in self.result.stopped:
                continue
            start = perf_counter()
            found = attempt(node)
            after = None if found is None or found is node else conform(found, node)
            spent = self.result.seconds
            spent[name] = spent.get(name, 0.0) + perf_counter() - start
            if after is None or after is node:
                self.result.tried[name] += 1
                continue
            self.fired[name] += 1
            if self.fired[name] > self.budget:
                self.result.stopped.append(name)
                continue
            return self._record(name, node, after)
        return None

    def _record(self, rule: str, node: Tensor, after: Tensor) -> tuple[Tensor, str]:
        self.result.log.append(Firing(rule, node.op.name, node._site))
        if after.inputs:
            inherit(after, node)
        return after, rule
