"""The last few values of a loop without the others: states that remember what was computed some steps ago."""

from collections.abc import Sequence

from symtensor.graph import Tensor, ancestors, constant, no_recording, replace, variable
from symtensor.ops.indexing_records import SUBTENSOR
from symtensor.ops.loop_body import make_body
from symtensor.ops.loop_records import LOOP, TRACE, body_of, final, parts_of
from symtensor.types import TensorType

FEW = 8  # rows at most: each is copied from state to state in every step


def last_few(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs with the last rows of a loop's values read from states, where no other rows are used.

    Where the number of steps is not known to suffice, all rows are kept: there may be fewer, or none.
    """
    users: dict[Tensor, list[Tensor]] = {}
    for node in ancestors(outputs):
        for i in node.inputs:
            users.setdefault(i, []).append(node)
    wanted: dict[Tensor, dict[Tensor, int]] = {}  # loop -> inner value -> how many steps back
    for rows, readers in users.items():
        if rows.op is not TRACE or rows in outputs or body_of(rows.inputs[0]).backwards:
            continue
        back = [_steps_back(reader, rows) for reader in readers]
        known = [steps for steps in back if steps is not None]
        if len(known) == len(back) and max(known) <= FEW:
            wanted.setdefault(rows.inputs[0], {})[rows.params["node"]] = max(known)
    changes: dict[Tensor, Tensor] = {}
    with no_recording():
        for loop, values in wanted.items():
            if body_of(loop).until is None:
                changes[loop] = longer = _with_delays(loop, values)
                for node, reader in [(r, u) for r in users if r.op is TRACE for u in users[r]]:
                    if node.inputs[0] is loop and node.params["node"] in values:
                        changes[reader] = _read(reader, node, longer, values)
    return replace(outputs, changes) if changes else list(outputs)


def _steps_back(reader: Tensor, rows: Tensor) -> int | None:
    """How many steps from the end the rows that ``reader`` takes begin; None where it takes others."""
    count = rows.type.shape[0]
    if reader.op is not SUBTENSOR or reader.inputs[0] is not rows or count is None:
        return None
    first, *others = reader.params["items"]
    if any(item != ("slice", None, None, 1) for item in others) or len(reader.inputs) > 1:
        return None
    place = first[1] if first[0] in ("index", "slice") else None
    if not isinstance(place, int) or (first[0] == "slice" and first[2:] != (None, 1)):
        return None
    back = -place if place < 0 else count - place
    return back if 1 <= back <= count else None


def _with_delays(loop: Tensor, values: dict[Tensor, int]) -> Tensor:
    """The loop with states for the latest values, and for those of some steps before."""
    from symtensor.ops.creation import zeros
    from symtensor.ops.shaping_axes import sizes

    body, given = body_of(loop), parts_of(loop)
    before: list[Tensor] = []
    after: list[Tensor] = []
    initial: list[Tensor] = []
    for inner, back in values.items():
        shape = sizes(TRACE.make(loop, node=inner))[1:]
        latest = inner
        for _ in range(back):
            state = variable(TensorType(inner.element, inner.type.shape), inner.name)
            before.append(state)
            after.append(latest)
            initial.append(zeros(shape, inner.element.name) if shape else constant(0, inner.element))
            latest = state
    made = make_body(
        body.index, (*body.carries, *before), body.sequences, body.constants, (*body.nexts, *after), body.until,
        body.backwards, body.truncate, body.name, (), body.recompute,
    )  # fmt: skip
    return LOOP.make(given.count, *given.initial, *initial, *given.sequences, *given.constants, body=made)


def _read(reader: Tensor, rows: Tensor, longer: Tensor, values: dict[Tensor, int]) -> Tensor:
    """What ``reader`` took from the rows of a value, from the states of the longer loop."""
    from symtensor.ops.joining import stack

    start = len(body_of(longer).carries) - sum(values.values())
    for inner, back in values.items():
        if inner is rows.params["node"]:
            break
        start += back
    steps = _steps_back(reader, rows)
    assert steps is not None
    if reader.params["items"][0][0] == "index":
        return final(longer, start + steps - 1)
    made: Tensor = stack([final(longer, start + k) for k in range(steps - 1, -1, -1)])
    return made

