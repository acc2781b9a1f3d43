"""Patterns: expressions over holes, in which both sides of a rule are written.

They look like the expressions users write but are much lighter than tensors: no element type, no sizes, no
interning, because a row holds for every type and rank. ``words`` has a constructor for every operation the
rules speak of.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Number = int | float | bool

# Operations whose operands may be exchanged: rows match both orders, and nodes in both orders merge.
COMMUTATIVE: Final = frozenset(
    ("add", "mul", "eq", "neq", "maximum", "minimum", "fmax", "fmin", "bitwise_and", "bitwise_or",
     "bitwise_xor", "logaddexp", "logaddexp2", "hypot", "gcd", "lcm")
)  # fmt: skip


class Pattern:
    """An expression over holes."""

    __slots__ = ()

    def __add__(self, other: "PatternLike") -> "Apply":
        return Apply("add", (self, lift(other)))

    def __radd__(self, other: Number) -> "Apply":
        return Apply("add", (lift(other), self))

    def __sub__(self, other: "PatternLike") -> "Apply":
        return Apply("sub", (self, lift(other)))

    def __rsub__(self, other: Number) -> "Apply":
        return Apply("sub", (lift(other), self))

    def __mul__(self, other: "PatternLike") -> "Apply":
        return Apply("mul", (self, lift(other)))

    def __rmul__(self, other: Number) -> "Apply":
        return Apply("mul", (lift(other), self))

    def __truediv__(self, other: "PatternLike") -> "Apply":
        return Apply("true_div", (self, lift(other)))

    def __rtruediv__(self, other: Number) -> "Apply":
        return Apply("true_div", (lift(other), self))

    def __pow__(self, other: "PatternLike") -> "Apply":
        return Apply("pow", (self, lift(other)))

    def __neg__(self) -> "Apply":
        return Apply("neg", (self,))

    def __gt__(self, other: "PatternLike") -> "Apply":
        return Apply("gt", (self, lift(other)))

    def __ge__(self, other: "PatternLike") -> "Apply":
        return Apply("ge", (self, lift(other)))

    def __lt__(self, other: "PatternLike") -> "Apply":
        return Apply("lt", (self, lift(other)))

    def __le__(self, other: "PatternLike") -> "Apply":
        return Apply("le", (self, lift(other)))


PatternLike = Pattern | Number


class Hole(Pattern):
    """Stands for any tensor; the same hole twice stands for the same tensor."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Const(Hole):
    """Stands for a constant."""

    __slots__ = ()


class Rest(Hole):
    """Stands for all remaining inputs of an operation with any number of them; only as the last argument."""

    __slots__ = ()


class Param:
    """Stands for the value of a parameter of an operation."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


Bindings = Mapping[Hole | Param, Any]  # what each hole stands for: a Tensor, several, or a parameter


class Compute:
    """A parameter on the right side, computed from what the holes stand for."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., Any], *arguments: "Hole | Param") -> None:
        self.function, self.arguments = function, arguments

    def __call__(self, bindings: Bindings) -> Any:
        """The value of the parameter."""
        return self.function(*[bindings[a] for a in self.arguments])

    def __repr__(self) -> str:
        return f"{self.function.__name__.strip('_')}({', '.join(a.name for a in self.arguments)})"


class Literal(Pattern):
    """A number: a constant all of whose elements have this value, in the element type of its neighbours."""

    __slots__ = ("value",)

    def __init__(self, value: Number) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


class Apply(Pattern):
    """An operation, by name, on patterns, with parameters given as values or holes."""

    __slots__ = ("arguments", "op", "params")

    def __init__(self, op: str, arguments: tuple[Pattern, ...], params: Mapping[str, Any] | None = None) -> None:
        self.op, self.arguments, self.params = op, arguments, params or {}

    def __repr__(self) -> str:
        infix = _INFIX.get(self.op)
        if infix is not None:
            left, right = (f"({a!r})" if isinstance(a, Apply) and a.op in _INFIX else repr(a) for a in self.arguments)
            return f"{left} {infix} {right}"
        if self.op == "neg":
            inner = self.arguments[0]
            return f"-({inner!r})" if isinstance(inner, Apply) and inner.op in _INFIX else f"-{inner!r}"
        parts = [f"*{a!r}" if isinstance(a, Rest) else repr(a) for a in self.arguments]
        return f"{self.op}({', '.join(parts + [f'{k}={v!r}' for k, v in self.params.items()])})"


_INFIX: Final = {
    "add": "+", "sub": "-", "mul": "*", "true_div": "/", "pow": "**",
    "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
}  # fmt: skip


class Word:
    """Writes patterns of one operation: ``exp = Word("exp")``, then ``exp(x)``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: PatternLike, **params: Any) -> Apply:
        """The pattern of this operation on ``arguments``."""
        return Apply(self.name, tuple([lift(a) for a in arguments]), params)


def lift(value: PatternLike) -> Pattern:
    """A pattern as it is, a number as a literal."""
    return value if isinstance(value, Pattern) else Literal(value)


def holes(pattern: Pattern) -> set["Hole | Param"]:
    """The holes that occur in a pattern, those of its parameters included."""
    found: set[Hole | Param] = set()
    stack = [pattern]
    while stack:
        node = stack.pop()
        if isinstance(node, Hole):
            found.add(node)
        elif isinstance(node, Apply):
            stack.extend(node.arguments)
            for value in node.params.values():
                if isinstance(value, Param):
                    found.add(value)
                elif isinstance(value, Compute):
                    found.update(value.arguments)
    return found
