"""Rows, procedures and the sets they form; and the index that finds the few which could apply to a node.

A rule set is written as a generator whose parameters are the holes::

    @ruleset
    def stability(x: Hole, a: Param):
        \"\"\"Replace forms that lose precision or overflow by exact equivalents.\"\"\"
        yield "log_of_one_plus", log(1 + x), log1p(x)
        yield "log_softmax", log(softmax(x, axes=a)), log_softmax(x, axis=a)

Nothing is built before the set is first used. Rows that cannot be said as patterns are procedures: functions
from a node to its replacement or None, declared for the operations they look at.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import product

from symtensor.graph import Tensor
from symtensor.opdef import CONSTANT, OPS, OpDef
from symtensor_codegen.errors import InternalError

from .conditions import Condition
from .match import Matcher
from .pattern import COMMUTATIVE, Apply, Const, Hole, Literal, Param, Pattern, PatternLike, Rest, holes, lift

RowTuple = tuple[str, Apply, PatternLike] | tuple[str, Apply, PatternLike, Condition]
Rows = Iterator[RowTuple]
Attempt = Callable[[Tensor], Tensor | None]


class Row:
    """One rule: ``left`` becomes ``right`` where ``condition`` holds."""

    __slots__ = ("condition", "left", "name", "right")

    def __init__(self, name: str, left: Apply, right: Pattern, condition: Condition | None) -> None:
        self.name, self.left, self.right, self.condition = name, left, right, condition

    def __repr__(self) -> str:
        return f"{self.name}: {self.left!r} -> {self.right!r}"


class Procedure:
    """A rule that no row can say: a function from a node to its replacement, or None.

    It is tried on nodes whose operation, or category of operations, is one of ``roots``, and where ``inputs``
    names operations, at least one of whose inputs is one of them.
    """

    __slots__ = ("function", "inputs", "name", "roots")

    def __init__(
        self, name: str, function: Attempt, roots: tuple[str, ...], inputs: frozenset[str] = frozenset()
    ) -> None:
        self.name, self.function, self.roots, self.inputs = name, function, roots, inputs

    @property
    def doc(self) -> str:
        """What it does, in one sentence."""
        return (self.function.__doc__ or "").strip().split("\n")[0]


Candidate = tuple[str, Attempt]  # a rule to try on a node: its name, and what gives the replacement or None


class RuleSet:
    """Named rules in the order they are tried. ``a | b`` tries those of ``a`` first."""

    def __init__(
        self,
        name: str,
        doc: str = "",
        source: Callable[..., Rows] | None = None,
        parts: Sequence["RuleSet"] = (),
    ) -> None:
        self.name, self.doc, self.source, self.parts = name, doc, source, tuple(parts)
        self._procedures: list[Procedure] = []
        self._found: dict[tuple[OpDef, ...], tuple[Candidate, ...]] = {}

    def __or__(self, other: "RuleSet") -> "RuleSet":
        parts = [*(self.parts or (self,)), *(p for p in (other.parts or (other,)) if p not in self.parts)]
        return RuleSet("+".join(p.name for p in parts), parts=parts)

    def __repr__(self) -> str:
        return f"RuleSet({self.name})"

    def procedure(self, *roots: str, name: str, inputs: Sequence[str] = ()) -> Callable[[Attempt], Attempt]:
        """Add a procedure, tried after the rows on the nodes that ``roots`` and ``inputs`` describe."""

        def register(function: Attempt) -> Attempt:
            self._procedures.append(Procedure(name, function, roots, frozenset(inputs)))
            return function

        return register

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of this set (of a union: of all its parts)."""
        if self.parts:
            return tuple([row for part in self.parts for row in part.rows])
        if self.source is None:
            return ()
        given = self.source.__annotations__
        arguments = [kind(name) for name, kind in given.items() if name != "return"]
        made = []
        for entry in self.source(*arguments):
            name, left, right = entry[:3]
            made.append(Row(name, left, lift(right), entry[3] if len(entry) == 4 else None))
        return tuple(made)

    @property
    def procedures(self) -> tuple[Procedure, ...]:
        """The procedures of this set (of a union: of all its parts)."""
        if self.parts:
            return tuple([p for part in self.parts for p in part.procedures])
        return tuple(self._procedures)

    @cached_property
    def _by_root(self) -> dict[str, list["_Entry"]]:
        table: dict[str, list[_Entry]] = {}
        for row in self.rows:
            table.setdefault(row.left.op, []).extend(_entries(row))
        return table

    @cached_property
    def _procedures_by_root(self) -> dict[str, list[Procedure]]:
        table: dict[str, list[Procedure]] = {}
        for procedure in self.procedures:
            for root in procedure.roots:
                table.setdefault(root, []).append(procedure)
        return table

    @cached_property
    def _roots(self) -> frozenset[str]:
        """The operations, or categories of operations, that any rule of this set looks at."""
        return frozenset([*self._by_root, *self._procedures_by_root])

    def candidates(self, op: OpDef, inputs: Sequence[Tensor]) -> tuple[Candidate, ...]:
        """The rules that could apply to ``op(*inputs)``, judging by the operations of the inputs only."""
        return self._candidates((op, *[i.op for i in inputs]))

    def _candidates(self, ops: tuple[OpDef, ...]) -> tuple[Candidate, ...]:
        """The rules that could apply to a node, by its operation and those of its inputs."""
        found = self._found.get(ops)
        if found is None:
            if self.parts:
                root = {ops[0].name, ops[0].category}
                parts = [part for part in self.parts if not root.isdisjoint(part._roots)]
                found = tuple([c for part in parts for c in part._candidates(ops)])
            else:
                found = tuple(self._select(ops[0], [op.name for op in ops[1:]]))
            self._found[ops] = found
        return found

    def _select(self, op: OpDef, children: list[str]) -> Iterator[Candidate]:
        for entry in self._by_root.get(op.name, ()):
            if entry.could_match(children):
                for matcher in entry.matchers:
                    yield entry.row.name, matcher
        table = self._procedures_by_root
        for procedure in (*table.get(op.name, ()), *table.get(op.category, ())):
            if not procedure.inputs or any(child in procedure.inputs for child in children):
                yield procedure.name, procedure.function


class _Entry:
    """A row in one order of the operands at its root, and what the operations of the inputs must be."""

    __slots__ = ("arguments", "needed", "row", "variadic", "_matchers")

    def __init__(self, row: Row, arguments: tuple[Pattern, ...]) -> None:
        self.row, self.arguments = row, arguments
        self.variadic = bool(arguments) and isinstance(arguments[-1], Rest)
        self.needed = [_needed(a) for a in (arguments[:-1] if self.variadic else arguments)]
        self._matchers: list[Matcher] | None = None

    def could_match(self, children: list[str]) -> bool:
        """Whether inputs of these operations could be the arguments."""
        needed = self.needed
        if len(children) != len(needed) and not (self.variadic and len(children) > len(needed)):
            return False
        return all(not names or child in names for names, child in zip(needed, children, strict=False))

    @property
    def matchers(self) -> list[Matcher]:
        """One for each order of the operands further down."""
        if self._matchers is None:
            row = self.row
            self._matchers = [
                Matcher(row.name, Apply(row.left.op, arguments, row.left.params), row.right, row.condition)
                for arguments in product(*[list(_spellings(a)) for a in self.arguments])
            ]
        return self._matchers


def _entries(row: Row) -> list[_Entry]:
    first = _Entry(row, row.left.arguments)
    if not _exchangeable(row.left):
        return [first]
    return [first, _Entry(row, row.left.arguments[::-1])]


def _needed(argument: Pattern) -> tuple[str, ...]:
    """The operations an argument can be; none given: any."""
    if isinstance(argument, Apply):
        return (argument.op,)
    if isinstance(argument, Literal):
        return (CONSTANT.name, "broadcast_to")
    return (CONSTANT.name,) if isinstance(argument, Const) else ()


def _exchangeable(pattern: Apply) -> bool:
    """Whether the operands may be exchanged, and exchanging them makes a difference."""
    return pattern.op in COMMUTATIVE and pattern.arguments[0] is not pattern.arguments[1]


def _spellings(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern with the operands of its commutative operations in every order that makes a difference."""
    if not isinstance(pattern, Apply):
        yield pattern
        return
    exchange = _exchangeable(pattern)
    for arguments in product(*[list(_spellings(a)) for a in pattern.arguments]):
        yield Apply(pattern.op, arguments, pattern.params)
        if exchange:
            yield Apply(pattern.op, arguments[::-1], pattern.params)


def ruleset(source: Callable[..., Rows]) -> RuleSet:
    """Make a rule set of a generator of rows; its name and doc are those of the function."""
    return RuleSet(source.__name__, (source.__doc__ or "").strip(), source)


def check(rules: RuleSet) -> None:
    """Verify what can be verified without running a row.

    Raises:
        InternalError: a row or procedure names an operation that does not exist, or the right side of a row
        has a
            hole that the left side does not bind, or two rules have one name.
    """
    seen: set[str] = set()
    known = {*OPS, *[op.category for op in OPS.values()]}
    both: list[Row | Procedure] = [*rules.rows, *rules.procedures]
    for rule in both:
        if rule.name in seen:
            raise InternalError(f"{rules.name}: two rules are called {rule.name}")
        seen.add(rule.name)
        roots = {*rule.roots, *rule.inputs} if isinstance(rule, Procedure) else _operations(rule.left, rule.right)
        for root in roots:
            if root not in known:
                raise InternalError(f"rule {rule.name} speaks of {root!r}, which is not an operation")
        if isinstance(rule, Row):
            unbound = holes(rule.right) - holes(rule.left)
            if unbound:
                raise InternalError(f"rule {rule.name}: {sorted(h.name for h in unbound)} unbound on the right")


def _operations(*patterns: Pattern) -> set[str]:
    found: set[str] = set()
    stack = list(patterns)
    while stack:
        pattern = stack.pop()
        if isinstance(pattern, Apply):
            found.add(pattern.op)
            stack.extend(pattern.arguments)
    return found


__all__ = ["Candidate", "Hole", "Param", "Procedure", "Row", "RuleSet", "Rows", "check", "ruleset"]
