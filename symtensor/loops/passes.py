"""What the compiler does to loops before it lowers them.

The bodies are rewritten like every graph; states and values that nobody uses are dropped; and each loop is told what
it has to store.
"""

from collections.abc import Callable, Sequence

from symtensor.graph import Constant, Tensor, ancestors, inherit, no_recording, rebuild, replace
from symtensor.opdef import CONSTANT
from symtensor.ops.indexing_records import SUBTENSOR
from symtensor.ops.loop_body import Body, make_body
from symtensor.ops.loop_records import (
    FINAL,
    HISTORY,
    LOOP,
    TRACE,
    body_of,
    final,
    history,
    parts_of,
    steps_run,
    trace,
)

Rewriting = Callable[[Sequence[Tensor]], list[Tensor]]


def has_loops(outputs: Sequence[Tensor]) -> bool:
    """Whether the outputs are computed with loops."""
    return any(node.op is LOOP for node in ancestors(outputs))


def settle(outputs: Sequence[Tensor], rewriting: Rewriting) -> list[Tensor]:
    """The outputs with every loop in its final form; ``rewriting`` is applied to the bodies."""
    outputs = only_last(outputs)
    order = ancestors(outputs)
    taken: dict[Tensor, list[Tensor]] = {}
    for node in order:
        if node.inputs and node.inputs[0].op is LOOP:
            taken.setdefault(node.inputs[0], []).append(node)
    memo: dict[Tensor, Tensor] = {}
    with no_recording():
        for node in order:
            if node.op is LOOP:
                memo.update(_settled(node, taken.get(node, []), [memo[i] for i in node.inputs], rewriting))
            elif node not in memo:
                inputs = tuple([memo[i] for i in node.inputs])
                memo[node] = node if inputs == node.inputs else rebuild(node, inputs)
    return [memo[output] for output in outputs]


def only_last(outputs: Sequence[Tensor], keep: Sequence[Tensor] = ()) -> list[Tensor]:
    """The outputs with the last row of a state's values replaced by the last state: then no other row is stored.

    (For a loop without steps this is the initial state, where the row would be an error.) Rows in ``keep`` stay.
    """
    found: dict[Tensor, Tensor] = {}
    with no_recording():
        for node in ancestors(outputs, stop=keep):
            if node not in keep and node.op is SUBTENSOR and node.inputs[0].op is TRACE and _is_last(node):
                rows = node.inputs[0]
                loop, inner = rows.inputs[0], rows.params["node"]
                body = body_of(loop)
                if inner in body.nexts and not body.backwards:
                    found[node] = final(loop, body.nexts.index(inner))
    return replace(outputs, found) if found else list(outputs)


def _is_last(node: Tensor) -> bool:
    items = node.params["items"]
    if len(items) != 1 or items[0][0] != "index":
        return False
    place = items[0][1]
    if isinstance(place, tuple):
        given = node.inputs[1 + place[1]]
        if not isinstance(given, Constant):
            return False
        place = int(given.data)
    rows = node.inputs[0].type.shape[0]
    return place == -1 or (rows is not None and place == rows - 1)


def _settled(
    loop: Tensor, items: Sequence[Tensor], inputs: Sequence[Tensor], rewriting: Rewriting
) -> dict[Tensor, Tensor]:
    """The loop and what is taken out of it, in their final form."""
    body = body_of(loop)
    traced = list(dict.fromkeys(i.params["node"] for i in items if i.op is TRACE))
    stop = [body.until] if body.until is not None else []
    finals = {i.params["carry"] for i in items if i.op in (FINAL, HISTORY)}
    live = _live(body, [*traced, *stop], finals)
    outputs = rewriting([*[body.nexts[k] for k in live], *stop, *traced])
    nexts, rest = outputs[: len(live)], outputs[len(live) :]
    until, shown = (rest[0], rest[1:]) if stop else (None, rest)
    carries = [body.carries[k] for k in live]
    used = set(ancestors(outputs))
    kept = {v for v in (*body.sequences, *body.constants) if v in used}
    plain = frozenset((*body.variables, *nexts))
    stored = [v for v in dict.fromkeys(shown) if v not in plain and v.op is not CONSTANT]
    made = make_body(
        body.index, tuple(carries),
        tuple(v for v in body.sequences if v in kept), tuple(v for v in body.constants if v in kept),
        tuple(nexts), until, body.backwards, body.truncate, body.name, tuple(stored),
        body.recompute,
    )  # fmt: skip
    count, *others = inputs
    outer = dict(zip((*body.carries, *body.sequences, *body.constants), others, strict=True))
    new = LOOP.make(
        count,
        *[outer[v] for v in carries],
        *[outer[v] for v in body.sequences if v in kept],
        *[outer[v] for v in body.constants if v in kept],
        body=made,
    )
    inherit(new, loop)
    result = {loop: new}
    for item in items:
        if item.op is TRACE:
            inner = shown[traced.index(item.params["node"])]
            result[item] = _shown(new, inner, outer, item)
        elif item.op is FINAL or item.op is HISTORY:
            result[item] = item.op.make(new, carry=live.index(item.params["carry"]))
        else:
            result[item] = steps_run(new)
        inherit(result[item], item)
    return result


def _live(body: Body, wanted: Sequence[Tensor], finals: set[int]) -> list[int]:
    """The states that something wanted depends on."""
    live = set(finals)
    while True:
        reached = set(ancestors([*wanted, *[body.nexts[k] for k in live]]))
        more = {k for k, v in enumerate(body.carries) if v in reached} - live
        if not more:
            return sorted(live)
        live |= more


def _shown(loop: Tensor, inner: Tensor, outer: dict[Tensor, Tensor], item: Tensor) -> Tensor:
    """A value inside a settled loop, over all steps: read from outside where it is known there."""
    from symtensor.ops.shaping_axes import sizes
    from symtensor.ops.shaping_broadcast import broadcast_sizes

    body, count = body_of(loop), parts_of(loop).count
    if inner in body.carries or inner in body.nexts:
        late = inner not in body.carries
        carry = body.nexts.index(inner) if late else body.carries.index(inner)
        rows = history(loop, carry)
        return rows[1:] if late != body.backwards else rows[:-1]
    if inner in body.sequences:
        return outer[inner][:count]
    if inner is body.index:
        from symtensor.ops.creation import arange

        steps = arange(count)
        return steps[::-1] if body.backwards else steps
    if inner.op is CONSTANT or inner in body.constants:
        value = outer.get(inner, inner)
        return broadcast_sizes(value, [count, *sizes(value)])
    return trace(loop, inner)


__all__ = ["has_loops", "settle"]
