"""Replacing parts of scalar expressions, and what expressions say of loop indices."""

from collections.abc import Iterable, Mapping

from .scalar import (
    Dim,
    Scalar,
    add,
    apply,
    as_dim,
    as_int,
    bitcast,
    bitcast_op,
    cast,
    cast_op,
    checked_index,
    checked_op,
    load,
    load_op,
    mul,
    neg,
    reduce,
    reduce_op,
    sub,
)


def substitute(
    value: Scalar, replacements: Mapping[Scalar, Scalar], memo: dict[Scalar, Scalar] | None = None
) -> Scalar:
    """``value`` with nodes replaced, rebuilt (and simplified) above them; iterative.

    The index that a reduction runs over is its own: inside the reduction it is not replaced.
    """
    memo = dict(replacements) if memo is None else memo
    stack = [value]
    while stack:
        node = stack[-1]
        if node in memo:
            stack.pop()
            continue
        if node.op is reduce_op and node.param.index in replacements:
            others = {old: new for old, new in replacements.items() if old is not node.param.index}
            memo[node] = rebuild(node, (substitute(node.args[0], others),))
            continue
        missing = [a for a in node.args if a not in memo]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        args = tuple(memo[a] for a in node.args)
        memo[node] = node if args == node.args else rebuild(node, args)
    return memo[value]


def rebuild(node: Scalar, args: tuple[Scalar, ...]) -> Scalar:
    """The operation of ``node`` on other arguments of the same types."""
    op = node.op
    if op is load_op:
        return load(node.param, args)
    if op is cast_op:
        return cast(args[0], node.dtype)
    if op is bitcast_op:
        return bitcast(args[0], node.dtype)
    if op is checked_op:
        return checked_index(args[0], args[1], node.param)
    if op is reduce_op:
        return reduce(node.param.combine, node.param.index, args[0])
    return apply(op, *args)


def stride(value: Scalar, along: Scalar) -> Dim | None:
    """How much the int64 ``value`` grows when ``along`` grows by one; None where that is not the same everywhere."""
    if along not in value.free:
        return 0
    op = value.op
    if value is along:
        return 1
    if op is add or op is sub:
        left, right = stride(value.args[0], along), stride(value.args[1], along)
        if left is None or right is None:
            return None
        if isinstance(left, int) and isinstance(right, int):  # most are: no expressions are built for these
            return left + right if op is add else left - right
        return as_dim(as_int(left) + as_int(right) if op is add else as_int(left) - as_int(right))
    if op is mul:
        for factor, other in ((value.args[0], value.args[1]), (value.args[1], value.args[0])):
            if along not in other.free:
                inner = stride(factor, along)
                if inner is None or inner == 0:
                    return inner
                return as_dim(other if inner == 1 else as_int(inner) * other)
    if op is neg:
        inner = stride(value.args[0], along)
        return None if inner is None else as_dim(neg(as_int(inner)))
    return None


def product(factors: Iterable[Dim]) -> Dim:
    """The product of sizes, int where all are known."""
    known, result = 1, None
    for factor in factors:
        if isinstance(factor, int):
            known *= factor
        else:
            result = factor if result is None else result * factor
    if result is None or known == 0:
        return known
    return as_dim(result * known)
