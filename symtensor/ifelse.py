"""``ifelse``: a choice between expressions of which only the chosen one is computed."""

from collections.abc import Callable, Sequence
from typing import Any

from .graph import TensorLike, as_tensor
from .ops.branch_records import IFELSE


def ifelse(condition: TensorLike, then_branch: Any, else_branch: Any, name: str | None = None) -> Any:
    """``then_branch`` where the scalar ``condition`` is not zero, else ``else_branch``.

    Unlike ``switch``, which chooses element by element, one scalar decides, and the branch that is not taken is not
    computed: it costs no time and no memory, and an error in it does not occur. The same holds for its gradient.

    Args:
        condition: a bool or integer scalar.
        then_branch, else_branch: expressions of one type (their sizes may differ), or lists of such of one length.
        name: the name of the result.

    Returns:
        An expression, or a list of them where the branches are lists.

    Raises:
        TypeError: the types of the branches differ, or the condition is no scalar.
        ValueError: the branches are lists of different lengths.
    """
    many = isinstance(then_branch, (list, tuple)), isinstance(else_branch, (list, tuple))
    yes = list(then_branch) if many[0] else [then_branch]
    no = list(else_branch) if many[1] else [else_branch]
    if len(yes) != len(no):
        raise ValueError(f"ifelse: {len(yes)} expressions in one branch and {len(no)} in the other")
    chosen = as_tensor(condition)
    results = [IFELSE(chosen, a, b) for a, b in zip(yes, no, strict=True)]
    if name is not None:
        for result in results:
            result.name = name
    return results if any(many) else results[0]


def cond(predicate: TensorLike, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` where ``predicate`` holds, else ``false_fun(*operands)``; only one is computed."""
    return ifelse(predicate, true_fun(*operands), false_fun(*operands))


def case(index: TensorLike, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """The result of ``branches[index](*operands)``; only that one is computed.

    An index below 0 chooses the first branch, one beyond the end the last.
    """
    if not branches:
        raise ValueError("case: there are no branches")
    return _between(as_tensor(index), [branch(*operands) for branch in branches], 0)


def _between(index: Any, values: Sequence[Any], first: int) -> Any:
    """Halving: the number of conditions that are looked at is the logarithm of the number of branches."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    early, late = _between(index, values[:middle], first), _between(index, values[middle:], first + middle)
    return ifelse(index < first + middle, early, late)


__all__ = ["case", "cond", "ifelse"]
