"""Broadcasts: repeat as late as possible, and not at all where the reader repeats anyway."""

from symtensor.graph import Tensor
from symtensor.opdef import OPS
from symtensor.rewrite.conditions import when
from symtensor.rewrite.pattern import Hole, Param, Rest
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.words import broadcast_to
from symtensor_codegen.scalar import Dim


def _same_dims(x: Tensor, given: tuple[Tensor, ...], shape: tuple[int | None, ...]) -> bool:
    return OPS["broadcast_to"].make(x, *given, shape=shape).dims == x.dims


@ruleset
def broadcasts(x: Hole, r: Rest, s: Rest, a: Param, b: Param) -> Rows:
    """Broadcasts that do nothing, and broadcasts of broadcasts."""
    yield (
        "broadcast_to_same",
        broadcast_to(x, r, shape=a),
        x,
        when("the sizes are those of x", _same_dims, x, r, a),
    )
    yield (
        "broadcast_twice",
        broadcast_to(broadcast_to(x, r, shape=a), s, shape=b),
        broadcast_to(x, s, shape=b),
    )


elementwise_broadcasts = RuleSet("elementwise_broadcasts", "Elementwise operations repeat their operands themselves.")


@elementwise_broadcasts.procedure("elementwise", name="broadcast_operand", inputs=("broadcast_to",))
def _broadcast_operand(node: Tensor) -> Tensor | None:
    """f(x, broadcast(y)) becomes f(x, y) where x gives the sizes, else broadcast(f(x, y))."""
    inputs = node.inputs
    sources = [i.inputs[0] if i.op.name == "broadcast_to" else i for i in inputs]
    if all(s is i for s, i in zip(sources, inputs, strict=True)):
        return None
    after = node.op.make(*sources, **node.params)
    return after if _agree(after.dims, node.dims) else None


def _agree(after: tuple[Dim, ...], before: tuple[Dim, ...]) -> bool:
    """Whether sizes are the same, or 1 where they can be repeated: nothing that was checked is forgotten."""
    return len(after) <= len(before) and all(
        a is b or a == b or (isinstance(a, int) and a == 1) for a, b in zip(after[::-1], before[::-1], strict=False)
    )
