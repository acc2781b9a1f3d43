"""Loops over a batch: every state, row and result has one more axis, and the loop is run once."""

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from symtensor.graph import Tensor, ancestors, variable
from symtensor.ops.loop_body import make_body
from symtensor.ops.loop_records import FINAL, HISTORY, LOOP, STEPS_RUN, TRACE, body_of, trace
from symtensor.ops.shaping_axes import dimshuffle, sizes
from symtensor.ops.shaping_broadcast import broadcast_sizes
from symtensor.types import TensorType

Size = int | Tensor

# For a loop made here: what has a batch axis inside it, by the variables of the loop it was made from.
_BATCHED: WeakKeyDictionary[Tensor, Mapping[Tensor, Tensor]] = WeakKeyDictionary()


def batched_loop(node: Tensor, inputs: Sequence[Tensor], has: Sequence[bool], count: Size) -> Tensor:
    """The loop ``node`` with those of its inputs that ``has`` says having a batch axis in front.

    Raises:
        VectorizeError: the number of steps differs from element to element of the batch.
    """
    from symtensor.vectorize import VectorizeError, describe_site, vectorize

    body = body_of(node)
    variables = (*body.carries, *body.sequences, *body.constants)
    batched = {v for v, has_axis in zip(variables, has[1:], strict=True) if has_axis}
    while True:
        reached = _reached(body.outputs, batched)
        more = {c for c, after in zip(body.carries, body.nexts, strict=True) if after in reached} - batched
        if not more:
            break
        batched |= more
    if has[0] or body.until in reached:
        raise VectorizeError(f"{node.op}{describe_site(node)}: the number of steps differs in a batch")
    length = count if isinstance(count, int) else None
    change = {v: variable(TensorType(v.element, (length, *v.type.shape)), v.name) for v in batched}
    nexts = [
        vectorize([after], change)[0] if carry in batched else after
        for carry, after in zip(body.carries, body.nexts, strict=True)
    ]
    made = make_body(
        body.index,
        *[tuple(change.get(v, v) for v in part) for part in (body.carries, body.sequences, body.constants)],
        tuple(nexts), body.until, body.backwards, body.truncate, body.name, (), body.recompute,
    )  # fmt: skip
    given = dict(zip(variables, inputs[1:], strict=True))
    wide = dict(zip(variables, has[1:], strict=True))
    outside: list[Tensor] = [inputs[0]]
    for v in variables:
        x = given[v]
        if v in batched and not wide[v]:
            x = broadcast_sizes(x, [count, *sizes(x)])
        if v in body.sequences and v in batched:
            x = dimshuffle(x, 1, 0, *range(2, x.ndim))
        outside.append(x)
    loop = LOOP.make(*outside, body=made)
    _BATCHED[loop] = change
    return loop


def _reached(outputs: Sequence[Tensor], sources: set[Tensor]) -> set[Tensor]:
    found: set[Tensor] = set()
    for node in ancestors(outputs):
        if node in sources or any(i in found for i in node.inputs):
            found.add(node)
    return found


def batched_result(node: Tensor, inputs: Sequence[Tensor], has: Sequence[bool], count: Size) -> Tensor:
    """What is taken out of a loop, for a batch."""
    from symtensor.vectorize import vectorize

    (loop,) = inputs
    body, old = body_of(loop), body_of(node.inputs[0])
    change = _BATCHED[loop]
    if node.op is STEPS_RUN:
        return broadcast_sizes(STEPS_RUN.make(loop), [count])
    if node.op is TRACE:
        inner = node.params["node"]
        if not _reached([inner], set(change)) & {inner}:
            rows = trace(loop, inner)
            return broadcast_sizes(rows, [count, *sizes(rows)])
        rows = trace(loop, vectorize([inner], change)[0])
        return dimshuffle(rows, 1, 0, *range(2, rows.ndim))
    assert node.op is FINAL or node.op is HISTORY
    carry = node.params["carry"]
    made = node.op.make(loop, carry=carry)
    if old.carries[carry] not in change:
        return broadcast_sizes(made, [count, *sizes(made)])
    assert body.carries[carry] is change[old.carries[carry]]
    return dimshuffle(made, 1, 0, *range(2, made.ndim)) if node.op is HISTORY else made
