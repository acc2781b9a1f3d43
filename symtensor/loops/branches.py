"""Lazy branches before lowering: what only one branch needs is moved into it."""

from collections.abc import Callable, Mapping, Sequence

from symtensor.graph import Constant, Tensor, ancestors, inherit, no_recording, rebuild, replace, variable
from symtensor.opdef import CONSTANT
from symtensor.ops.branch_records import BRANCH, IFELSE, TAKEN
from symtensor.ops.loop_body import Body, index_variable, make_body
from symtensor.pullback import is_zero
from symtensor_codegen import dtypes

Rewriting = Callable[[Sequence[Tensor]], list[Tensor]]

# Operations that give zero where this input is zero: all inputs, or those at the given positions.
_LINEAR: Mapping[str, tuple[int, ...]] = {
    "neg": (0,), "cast": (0,), "mul": (0, 1), "truediv": (0,), "dot": (0, 1), "matmul": (0, 1), "sum": (0,),
    "dimshuffle": (0,), "reshape": (0,), "broadcast_to": (0,), "subtensor": (0,), "batched_dot": (0, 1),
}  # fmt: skip
_WRITES = frozenset(("set_part", "inc_part", "set_at", "inc_at"))  # linear in what is written into zeros


def has_branches(outputs: Sequence[Tensor]) -> bool:
    """Whether the outputs are computed with lazy branches."""
    return any(node.op is IFELSE for node in ancestors(outputs))


def settle_branches(outputs: Sequence[Tensor], rewriting: Rewriting) -> list[Tensor]:
    """The outputs with every ``ifelse`` as a branch with bodies, to which ``rewriting`` is applied."""
    with no_recording():
        current = deepened(outputs)
        while True:
            level = _lowest(current)
            if not level:
                return current
            current = _gathered(current, level, rewriting)


def deepened(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Operations on the results of branches moved into the branches, where zero stays zero.

    So the gradient of the branch that is not taken is not computed either.
    """
    memo: dict[Tensor, Tensor] = {}
    for node in ancestors(outputs):
        inputs = tuple([memo[i] for i in node.inputs])
        made = node if inputs == node.inputs else rebuild(node, inputs)
        memo[node] = _moved_in(made)
    return [memo[output] for output in outputs]


def _moved_in(node: Tensor) -> Tensor:
    if node.op.name == "add" and all(i.op is IFELSE for i in node.inputs):
        a, b = node.inputs
        if a.inputs[0] is b.inputs[0] and a.dims == b.dims:
            yes = _sum(node, a.inputs[1], b.inputs[1])
            return IFELSE.make(a.inputs[0], yes, _sum(node, a.inputs[2], b.inputs[2]))
        return node
    positions = _LINEAR.get(node.op.name, ())
    if node.op.name in _WRITES and is_zero(node.inputs[0]):
        positions = (1,)
    for position in positions:
        if position >= len(node.inputs):
            continue
        chosen = node.inputs[position]
        if chosen.op is IFELSE and chosen.dims == chosen.inputs[1].dims == chosen.inputs[2].dims:
            condition, yes, no = chosen.inputs
            if is_zero(yes) or is_zero(no):
                parts = [_part(node, position, value) for value in (yes, no)]
                return IFELSE.make(condition, *parts)
    return node


def _part(node: Tensor, position: int, value: Tensor) -> Tensor:
    made = rebuild(node, (*node.inputs[:position], value, *node.inputs[position + 1 :]))
    if not is_zero(value):
        return made
    from symtensor.ops.creation import zeros_like

    return zeros_like(made)


def _sum(node: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if is_zero(a):
        return b
    return a if is_zero(b) else rebuild(node, (a, b))


def _lowest(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The ifelse nodes of one condition that do not depend on one another."""
    depth: dict[Tensor, int] = {}
    best: list[Tensor] = []
    first: tuple[int, Tensor] | None = None
    for node in ancestors(outputs):
        above = max([depth[i] for i in node.inputs], default=0)
        depth[node] = above + (node.op is IFELSE)
        if node.op is IFELSE:
            key = (above, node.inputs[0])
            if first is None or above > first[0]:
                first, best = key, [node]
            elif key == first:
                best.append(node)
    return best


def _gathered(outputs: Sequence[Tensor], level: Sequence[Tensor], rewriting: Rewriting) -> list[Tensor]:
    """The outputs with these ifelse nodes, of one condition, replaced by the results of one branch."""
    condition = level[0].inputs[0]
    order = ancestors(outputs)
    side: dict[Tensor, int] = {}  # nodes that only one branch needs
    users: dict[Tensor, list[Tensor]] = {}
    for node in order:
        for i in node.inputs:
            users.setdefault(i, []).append(node)
    wanted, chosen = set(outputs), set(level)
    for node in reversed(order):
        if node in wanted or not node.inputs or node in chosen:
            continue
        sides = {_side(user, node, side, chosen) for user in users.get(node, [])}
        if len(sides) == 1:
            only = sides.pop()
            if only:
                side[node] = only
    for node in order:  # what is taken out of a loop goes with the loop
        if node.inputs and node.inputs[0].element is dtypes.results and side.get(node.inputs[0]) != side.get(node):
            side.pop(node, None)
    bodies: list[list[Tensor]] = []
    operands: dict[Tensor, Tensor] = {}
    for which in (1, 2):
        results = [node.inputs[which] for node in level]
        for node in ancestors(results, stop=[n for n in order if side.get(n) != which]):
            outside = side.get(node) != which
            given = outside and node.op is not CONSTANT
            if node not in operands and (given or (isinstance(node, Constant) and node.data.size > 1)):
                operands[node] = variable(node.type, node.name)
                inherit(operands[node], node)
        bodies.append(results)
    index = index_variable()
    made: list[Body] = []
    for results in bodies:
        inner = rewriting(replace(results, operands))
        made.append(make_body(index, (), (), tuple(operands.values()), tuple(inner)))
    branch = BRANCH.make(condition, *operands, bodies=tuple(made))
    inherit(branch, level[0])
    taken: dict[Tensor, Tensor] = {}
    for position, node in enumerate(level):
        taken[node] = TAKEN.make(branch, position=position)
        inherit(taken[node], node)
    return replace(outputs, taken)


def _side(user: Tensor, node: Tensor, side: Mapping[Tensor, int], chosen: set[Tensor]) -> int:
    """The branch for which ``user`` needs ``node``: 1, 2, or 0 for neither or both."""
    if user in chosen:
        condition, yes, no = user.inputs
        if node is condition or yes is no:
            return 0
        return 1 if node is yes else 2
    return side.get(user, 0)
