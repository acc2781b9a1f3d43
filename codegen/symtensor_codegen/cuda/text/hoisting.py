"""What a loop computes that is the same in all of its iterations.

The compiler finds most of it by itself; not what it takes for a side effect, such as a check that may fail, and not
what it would have to read from memory earlier than the text says.
"""

from collections.abc import Callable, Sequence

from symtensor_codegen.expr import topological
from symtensor_codegen.loops import For, Statement, Store, values_of
from symtensor_codegen.scalar import (
    Scalar,
    bitcast_op,
    checked_op,
    guarded_op,
    load_op,
    rarely_op,
)

MOST_HOISTED = 24  # values kept in registers through a loop


Test = Callable[[Scalar], bool]


def invariants(body: Sequence[Statement], varies: Test, known: Test) -> list[Scalar]:
    """The largest expressions of a body that do not vary and are not known yet; cheap ones are left out.

    Those that read memory must be computed in every iteration.
    """
    found: dict[Scalar, None] = {}
    seen: set[tuple[Scalar, bool]] = set()
    pending = [(value, sometimes) for value, sometimes in reversed(_values(body, False))]
    while pending:
        node, sometimes = pending.pop()
        if not node.args or (node, sometimes) in seen or known(node):
            continue
        seen.add((node, sometimes))
        if not varies(node) and not (sometimes and reads_memory(node, known)):
            if not (node.op is bitcast_op and not node.args[0].args):
                found[node] = None
            continue
        conditional = node.op is guarded_op or node.op is rarely_op
        for position, argument in enumerate(node.args):
            pending.append((argument, sometimes or (conditional and position == 1)))
    return list(found)


def _values(body: Sequence[Statement], sometimes: bool) -> list[tuple[Scalar, bool]]:
    """The values of statements, and whether each is computed only sometimes."""
    found: list[tuple[Scalar, bool]] = []
    for statement in body:
        masked = isinstance(statement, Store) and statement.where is not None
        for value in values_of(statement):
            found.append((value, sometimes or (masked and value is not statement.where)))  # type: ignore[union-attr]
        if isinstance(statement, For):
            found += _values(statement.body, True)
    return found


def reads_memory(value: Scalar, known: Test) -> bool:
    """Whether an expression reads memory or may fail: it must not be computed where nobody asks for it."""
    order = topological([value], lambda n: () if known(n) else n.args)
    return any((node.op is load_op or node.op is checked_op) and not known(node) for node in order)


__all__ = ["MOST_HOISTED", "invariants", "reads_memory"]
