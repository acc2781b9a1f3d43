"""Conditions of rows: predicates on what the holes stand for, with a text for the rule table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Tensor
from symtensor.opdef import CONSTANT

from .pattern import Bindings, Hole, Param


class Condition:
    """A predicate on bindings; ``a & b`` holds where both hold."""

    __slots__ = ("test", "text")

    def __init__(self, text: str, test: Callable[[Bindings], bool]) -> None:
        self.text, self.test = text, test

    def __call__(self, found: Bindings) -> bool:
        """Whether it holds."""
        return self.test(found)

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(f"{self.text}, {other.text}", lambda found: self.test(found) and other.test(found))

    def __repr__(self) -> str:
        return self.text


def when(text: str, test: Callable[..., bool], *arguments: Hole | Param) -> Condition:
    """The condition that ``test`` holds of what these holes stand for."""
    return Condition(text, lambda found: test(*[found[a] for a in arguments]))


def real(*holes: Hole) -> Condition:
    """The tensors are floating point (not complex)."""
    return _kinds("f", "real floating point", holes)


def inexact(*holes: Hole) -> Condition:
    """The tensors are floating point or complex."""
    return _kinds("fc", "floating point", holes)


def integer(*holes: Hole) -> Condition:
    """The tensors are integers."""
    return _kinds("iu", "integer", holes)


def ordered(*holes: Hole) -> Condition:
    """The tensors are real numbers, floating point or integer."""
    return _kinds("iuf", "real", holes)


def boolean(*holes: Hole) -> Condition:
    """The tensors are bools."""
    return _kinds("b", "bool", holes)


def _kinds(kinds: str, text: str, holes: tuple[Hole, ...]) -> Condition:
    names = ", ".join(h.name for h in holes)
    return Condition(f"{names} {text}", lambda found: all(found[h].element.kind in kinds for h in holes))


def scalar_like(hole: Hole) -> Condition:
    """The tensor has one element, whatever its rank."""
    return when(f"{hole.name} has one element", one_element, hole)


def same_sizes(a: Hole, b: Hole) -> Condition:
    """Both tensors have the same sizes, known when compiled."""
    return when(f"{a.name} and {b.name} have the same sizes", lambda x, y: x.dims == y.dims, a, b)


def one_element(x: Tensor) -> bool:
    """Whether every axis is known to have size 1 (also: no axes)."""
    return all(size == 1 for size in x.type.shape)


def uniform(node: Tensor) -> Any:
    """The one value of all elements, as a Python number, where it is known; else None."""
    while node.op.name == "broadcast_to":
        node = node.inputs[0]
    if node.op is not CONSTANT:
        return None
    data: np.ndarray[Any, Any] = node.data  # type: ignore[attr-defined]
    if data.size == 1:
        return data.item()
    if data.size == 0 or data.size > 4096:
        return None
    first = data.flat[0]
    return first.item() if (data == first).all() else None
