"""Fewer loops: loops of the same steps become one, and those of a few steps none.

Loops that run equally often and do not depend on one another are one loop with the states of all: what they compute
in a step can then share kernels and the rows they read.
"""

from collections.abc import Sequence

from symtensor.graph import Constant, Tensor, ancestors, inherit, no_recording, rebuild, replace, variable
from symtensor.opdef import OPS
from symtensor.ops.branch_records import IFELSE
from symtensor.ops.loop_body import Body, make_body
from symtensor.ops.loop_records import FINAL, HISTORY, LOOP, STEPS_RUN, TRACE, body_of, parts_of, state_label, trace
from symtensor.ops.shaping_broadcast import SPECIFY_SHAPE
from symtensor.types import TensorType

from .outside import is_small

UNROLLED = 4  # steps at most
LARGEST = 200  # operations that unrolling may make


def unroll_short(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs with loops of a few steps written out."""
    order = ancestors(outputs)
    shown: dict[Tensor, list[Tensor]] = {}
    for node in order:
        if node.op is TRACE:
            shown.setdefault(node.inputs[0], []).append(node.params["node"])
    short = [n for n in order if n.op is LOOP and _is_short(n, shown.get(n, []))]
    if not short:
        return list(outputs)
    memo: dict[Tensor, Tensor] = {}
    with no_recording():
        for node in order:
            if node.inputs and node.inputs[0] in short:
                memo[node] = _unrolled(node, memo)
                inherit(memo[node], node)
            elif node in short:
                memo[node] = node  # only its results are used
            else:
                inputs = tuple([memo[i] for i in node.inputs])
                memo[node] = node if inputs == node.inputs else rebuild(node, inputs)
    return [memo[output] for output in outputs]


def _is_short(loop: Tensor, shown: Sequence[Tensor]) -> bool:
    body, count = body_of(loop), parts_of(loop).count
    if not isinstance(count, Constant) or body.until is not None or body.recompute:
        return False
    steps, inside = int(count.data), ancestors([*body.outputs, *shown])
    if any(node.op is IFELSE for node in inside):  # the branches outside are settled already
        return False
    return 1 <= steps <= UNROLLED and steps * len(inside) <= LARGEST


def _unrolled(item: Tensor, memo: dict[Tensor, Tensor]) -> Tensor:
    """A result of a loop, its steps written out (equal expressions are one node, so this may be done for each)."""
    from symtensor.ops.joining import stack

    loop = item.inputs[0]
    body, given = body_of(loop), parts_of(loop)
    steps = int(given.count.data)  # type: ignore[attr-defined]
    if item.op is STEPS_RUN:
        return given.count
    state = [memo[x] for x in given.initial]
    constants = dict(zip(body.constants, [memo[x] for x in given.constants], strict=True))
    shown: list[Tensor] = []
    states: list[Tensor] = []
    for step in range(steps):
        position = steps - 1 - step if body.backwards else step
        values = {body.index: OPS["cast"].make(_number(step), dtype=body.index.element), **constants}
        values.update(zip(body.carries, state, strict=True))
        values.update(zip(body.sequences, [memo[s][position] for s in given.sequences], strict=True))
        if item.op is TRACE:
            shown += replace([item.params["node"]], values)
        elif item.op is HISTORY:
            states.append(state[item.params["carry"]])
        state = [
            _sized_as(initial, after, before)
            for initial, after, before in zip(given.initial, replace(body.nexts, values), body.carries, strict=True)
        ]
    if item.op is FINAL:
        return state[item.params["carry"]]
    if item.op is HISTORY:
        shown = [*states, state[item.params["carry"]]]
    made: Tensor = stack(shown[::-1] if body.backwards else shown)
    return made


def _sized_as(initial: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """The next state; that it keeps its sizes is checked, as the loop did."""
    from symtensor.ops.shaping_axes import sizes

    if after.dims == initial.dims:
        return after
    wanted = sizes(initial)
    known = tuple(size if isinstance(size, int) else None for size in wanted)
    given = [size for size in wanted if not isinstance(size, int)]
    return SPECIFY_SHAPE.make(after, *given, shape=known, state=state_label(before))


def _number(step: int) -> Tensor:
    from symtensor.graph import constant

    return constant(step, "int64")


def merge_loops(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs with loops of equally many steps that do not depend on one another as one loop."""
    order = ancestors(outputs)
    depth: dict[Tensor, int] = {}
    groups: dict[tuple[object, ...], list[Tensor]] = {}
    for node in order:
        depth[node] = max([depth[i] for i in node.inputs], default=0) + (node.op is LOOP)
        if node.op is LOOP:
            body = body_of(node)
            if body.until is None and not body.recompute:
                small = is_small(body, body.outputs)
                key = (node.inputs[0], body.backwards, small, depth[node])
                groups.setdefault(key, []).append(node)
    joined = {loop: group for group in groups.values() if len(group) > 1 for loop in group}
    if not joined:
        return list(outputs)
    made = _Merge(joined)
    with no_recording():
        return [made.renewed(output) for output in outputs]


class _Merge:
    """What nodes become when the loops of each group are one."""

    def __init__(self, joined: dict[Tensor, list[Tensor]]) -> None:
        self.joined = joined
        self.memo: dict[Tensor, Tensor] = {}
        # loop -> the joint loop, what variables of its body became, and its first state
        self.inside: dict[Tensor, tuple[Tensor, dict[Tensor, Tensor], int]] = {}

    def renewed(self, wanted: Tensor) -> Tensor:
        """What a node becomes; a group becomes one loop when the first of its results is met."""
        memo = self.memo
        for node in ancestors([wanted], stop=memo):
            if node in memo:
                continue
            source = node.inputs[0] if node.inputs else None
            if node in self.joined:
                memo[node] = node  # only its results are used
            elif source in self.joined:
                if source not in self.inside:
                    self._join(self.joined[source])
                memo[node] = _of_joint(node, *self.inside[source])
                inherit(memo[node], node)
            else:
                inputs = tuple([memo[i] for i in node.inputs])
                memo[node] = node if inputs == node.inputs else rebuild(node, inputs)
        return memo[wanted]

    def _join(self, group: Sequence[Tensor]) -> None:
        """Make one loop of a group (whose loops are equally deep: none needs a result of another)."""
        first: Body = body_of(group[0])
        carries: list[Tensor] = []
        nexts: list[Tensor] = []
        initial: list[Tensor] = []
        rows: dict[tuple[Tensor, TensorType], Tensor] = {}  # outside, type -> variable
        fixed: dict[tuple[Tensor, TensorType], Tensor] = {}
        places: list[tuple[Tensor, dict[Tensor, Tensor], int]] = []
        used: set[Tensor] = set()  # loops that were written out several times share a body
        for loop in group:
            body, given = body_of(loop), parts_of(loop)
            change: dict[Tensor, Tensor] = {}
            if body.index is not first.index:
                change[body.index] = first.index
            for variables, outside, known in (
                (body.sequences, given.sequences, rows), (body.constants, given.constants, fixed),
            ):  # fmt: skip
                for own, tensor in zip(variables, outside, strict=True):
                    kept = known.setdefault((self.renewed(tensor), own.type), _unused(own, used))
                    if kept is not own:
                        change[own] = kept
                    used.add(kept)
            for own in body.carries:
                kept = _unused(own, used)
                if kept is not own:
                    change[own] = kept
                used.add(kept)
            places.append((loop, change, len(carries)))
            carries += [change.get(own, own) for own in body.carries]
            initial += [self.renewed(x) for x in given.initial]
            nexts += replace(body.nexts, change) if change else list(body.nexts)
        made = make_body(
            first.index, tuple(carries), tuple(rows.values()), tuple(fixed.values()), tuple(nexts), None,
            first.backwards, first.truncate, first.name,
        )  # fmt: skip
        joint = LOOP.make(self.renewed(group[0].inputs[0]), *initial, *[x for x, _ in (*rows, *fixed)], body=made)
        inherit(joint, group[0])
        for loop, change, start in places:
            self.inside[loop] = (joint, change, start)


def _unused(own: Tensor, used: set[Tensor]) -> Tensor:
    """A variable of a body, or another where a loop merged before has it already."""
    return variable(own.type, own.name) if own in used else own


def _of_joint(item: Tensor, joint: Tensor, change: dict[Tensor, Tensor], start: int) -> Tensor:
    if item.op is TRACE:
        (inner,) = replace([item.params["node"]], change) if change else [item.params["node"]]
        return trace(joint, inner)
    if item.op is STEPS_RUN:
        return STEPS_RUN.make(joint)
    return item.op.make(joint, carry=item.params["carry"] + start)
