"""The immutable, interned node that every expression of the compiler is made of.

Two nodes with the same operation, arguments and parameters are one object, so equality is identity, common
subexpressions merge when they are built, and a node can be a dictionary key at the cost of a pointer. Names,
source lines and tags are kept beside the node and never take part in its identity.
"""

from collections.abc import Callable, Hashable, Iterable
from threading import RLock
from typing import Any, Generic, TypeVar
from weakref import ref


class Node:
    """An interned expression; subclasses say what its arguments are."""

    __slots__ = ("__weakref__",)


N = TypeVar("N", bound=Node)


class _KeyedRef(ref):  # type: ignore[type-arg]
    __slots__ = ("key",)
    key: Hashable


class InternTable(Generic[N]):
    """Weak table from keys to the one node with that key."""

    def __init__(self) -> None:
        self._refs: dict[Hashable, _KeyedRef] = {}
        self._lock = RLock()

        def forget(dead: Any, refs: dict[Hashable, _KeyedRef] = self._refs) -> None:
            key: Hashable = dead.key
            if refs.get(key) is dead:
                del refs[key]

        self._forget = forget

    def __len__(self) -> int:
        return len(self._refs)

    def get(self, key: Hashable) -> N | None:
        """The live node with this key, if any."""
        found = self._refs.get(key)
        return found() if found is not None else None

    def add(self, key: Hashable, node: N) -> N:
        """Register ``node`` under ``key`` and return it, or the node another thread registered first."""
        entry = _KeyedRef(node, self._forget)
        entry.key = key
        with self._lock:
            present = self.get(key)
            if present is not None:
                return present
            self._refs[key] = entry
        return node


def topological(roots: Iterable[N], arguments: Callable[[N], Iterable[N]]) -> list[N]:
    """Every node reachable from ``roots``, each after its arguments; iterative, so any depth works."""
    order: list[N] = []
    done: set[N] = set()
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in done:
                stack.pop()
                continue
            height = len(stack)
            for argument in arguments(node):
                if argument not in done:
                    stack.append(argument)
            if len(stack) == height:  # all arguments are in the order already
                stack.pop()
                done.add(node)
                order.append(node)
    return order
