"""What scalar expressions depend on besides their operands: memory, registers, checks."""

from typing import NamedTuple

from symtensor_codegen.expr import topological
from symtensor_codegen.scalar import Buffer, Scalar, checked_op, load_op, register_op


class Facts(NamedTuple):
    """What an expression depends on besides its operands.

    ``changing`` is a set of bits (see ``FactFinder.bit``): recurrences have hundreds of registers and thousands of
    values that depend on most of them.
    """

    accesses: bool  # loads or checks something: must not be done where guarded off
    changing: int  # registers, and buffers that the kernel writes
    messages: tuple[object, ...]  # of checked indices, in an order that every process finds


_PURE = Facts(False, 0, ())


class FactFinder:
    """Finds the facts of expressions of a kernel that writes the buffers ``written``; each node once."""

    def __init__(self, written: frozenset[Buffer]) -> None:
        self._written = written
        self._known: dict[Scalar, Facts] = {}
        self._bits: dict[object, int] = {}

    def bit(self, thing: object) -> int:
        """The bit that stands for a register or buffer in ``changing``."""
        found = self._bits.get(thing)
        if found is None:
            found = self._bits[thing] = 1 << len(self._bits)
        return found

    def of(self, root: Scalar) -> Facts:
        """The facts of an expression."""
        known = self._known
        found = known.get(root)
        if found is not None:
            return found
        for node in topological([root], lambda n: () if n in known else n.args):
            if node in known:
                continue
            merged = _PURE
            for argument in node.args:
                fact = known[argument]
                if fact is merged or fact is _PURE:
                    continue
                merged = (
                    fact
                    if merged is _PURE
                    else Facts(
                        merged.accesses or fact.accesses,
                        merged.changing | fact.changing,
                        _joined(merged.messages, fact.messages),
                    )
                )
            if node.op is load_op:
                written = self.bit(node.param) if node.param in self._written else 0
                merged = Facts(True, merged.changing | written, merged.messages)
            elif node.op is checked_op:
                merged = Facts(True, merged.changing, _joined(merged.messages, (node.param,)))
            elif node.op is register_op:
                merged = Facts(False, self.bit(node.param), ())
            known[node] = merged
        return known[root]


def _joined(first: tuple[object, ...], second: tuple[object, ...]) -> tuple[object, ...]:
    """All messages, each once."""
    return (*first, *[message for message in second if message not in first])
