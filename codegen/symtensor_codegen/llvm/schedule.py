"""Which loop of a nest runs in vector lanes, and how many: chosen by counting instructions.

For every loop two costs are compared, for its whole trip count: one iteration at a time (with the best
choice for the loops inside it), and ``width`` iterations at a time. Along the vectorised loop an access to
neighbouring elements is one instruction, to one element one scalar instruction, and to anything else one
instruction a lane. So rows of a matrix are summed along the row, columns are summed side by side, and a
loop over 3 channels stays as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from symtensor_codegen.dtypes import DType
from symtensor_codegen.expr import topological
from symtensor_codegen.llvm.operations import is_function
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Declare,
    For,
    Kernel,
    Leave,
    LoopKind,
    Statement,
    Store,
    Update,
    statements,
    values_of,
)
from symtensor_codegen.scalar import (
    Dim,
    Register,
    Scalar,
    checked_op,
    const_op,
    index_op,
    load_op,
    philox32,
    philox64,
    register_op,
    symbol_op,
)
from symtensor_codegen.substitution import stride

_TRIP = 256  # iterations of a loop whose extent is not known
_HORIZONTAL = 8  # instructions to combine the lanes of an accumulator
_WEIGHT = {
    "div": 4, "sqrt": 5, "floordiv": 20, "mod": 20, "pow": 60, "erf": 25, "erfc": 30, "fmod": 40,
    "philox64": 90, "philox32": 45, "normal_quantile": 50,
}  # fmt: skip
_FUNCTION = 20  # instructions of a mathematical function
_WIDEST = 32


def vectorise(kernel: Kernel, target: Target) -> Kernel:
    """The kernel with widths and unroll factors for ``target``. Kernels that have widths already are left
    as they are.
    """
    if any(isinstance(s, For) and (s.width > 1 or s.unroll > 1) for s in statements(kernel.body)):
        return kernel
    planner = _Planner(target)
    return replace(kernel, body=tuple(planner.best(s, None)[1] for s in kernel.body))


@dataclass(frozen=True, slots=True)
class _Lanes:
    """The loop that a cost assumes to be vectorised."""

    index: Scalar
    width: int


@dataclass(frozen=True, slots=True)
class _Work:
    """The nodes of a statement that cost something, with their weights, and where it stores."""

    nodes: tuple[tuple[Scalar, float], ...]
    store: Store | None


class _Planner:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.register_bytes = target.vector_bits // 8
        self._work: dict[int, _Work] = {}

    # Choice ----------------------------------------------------------------------------------------------

    def best(self, statement: Statement, inside: Scalar | None) -> tuple[float, Statement]:
        """The cost of a statement in a loop over ``inside``, and its best form."""
        if not isinstance(statement, For):
            return self.cost(statement, inside, None), statement
        children = [self.best(child, statement.index) for child in statement.body]
        trips = _trips(statement.extent)
        serial = trips * (2 + sum(cost for cost, _ in children))
        chosen: For = replace(statement, body=tuple(child for _, child in children))
        width = self.width(statement)
        if width > 1 and vectorisable(statement):
            lanes = _Lanes(statement.index, width)
            group = 2 + sum(self.cost(child, statement.index, lanes) for child in statement.body)
            wide = -(-trips // width) * group + _HORIZONTAL * len(_outer_updates(statement.body))
            if wide < serial:
                unroll = self.unroll(statement, width, group)
                return wide, replace(statement, width=width, unroll=max(unroll, self.blocks(statement, width)))
        return serial, chosen

    def width(self, loop: For) -> int:
        """Lanes for a loop: as many of its elements as fill a vector register, no more than it has
        iterations.
        """
        width = min(_WIDEST, self.register_bytes // _element_size(loop.body))
        if isinstance(loop.extent, int):
            while width > 1 and width > loop.extent:
                if self.target.vector_bits >= 512 and width // 2 < loop.extent:
                    break  # the tail is masked: one group with idle lanes
                width //= 2
        return width

    def unroll(self, loop: For, width: int, group: float) -> int:
        """Copies of the vector body: enough accumulators to hide the latency of an addition, few for big
        bodies.
        """
        nested = any(isinstance(s, For) for s in loop.body)
        updates = bool(_outer_updates(loop.body)) or nested
        if nested:
            group = min(self.cost_of_one(s, loop, width) for s in loop.body if isinstance(s, For))
        copies = (4 if group <= 8 else 2 if group <= 16 else 1) if updates else (2 if group <= 12 else 1)
        if isinstance(loop.extent, int):
            while copies > 1 and copies * width > loop.extent:
                copies //= 2
        return copies

    def blocks(self, loop: For, width: int) -> int:
        """Copies with which random words come in whole blocks: a register full of blocks of four words."""
        nodes = topological([v for s in statements(loop.body) for v in values_of(s)], lambda n: n.args)
        drawn = [n.dtype.itemsize for n in nodes if n.op in (philox64, philox32) and loop.index in n.free]
        copies = 4 * self.register_bytes // (max(drawn) * width) if drawn else 1
        while isinstance(loop.extent, int) and copies > 1 and copies * width // 2 >= loop.extent:
            copies //= 2
        return max(copies, 1)

    def cost_of_one(self, inner: For, loop: For, width: int) -> float:
        """The cost of one iteration of a loop inside the lanes of ``loop``."""
        lanes = _Lanes(loop.index, width)
        return 2 + sum(self.cost(s, inner.index, lanes) for s in inner.body)

    # Cost ------------------------------------------------------------------------------------------------

    def cost(self, statement: Statement, inside: Scalar | None, lanes: _Lanes | None) -> float:
        """Instructions of one iteration (of one group with ``lanes``) of a statement in a loop over
        ``inside``.

        What does not depend on ``inside`` is hoisted out of that loop and not counted.
        """
        if isinstance(statement, For):
            body = sum(self.cost(child, statement.index, lanes) for child in statement.body)
            return _trips(statement.extent) * (2 + body)
        work = self.work(statement)
        total = 1.0
        for node, weight in work.nodes:
            if inside is not None and inside not in node.free and node.op is not register_op:
                continue
            total += self.node_cost(node, weight, lanes)
        if work.store is not None:
            total += self.access(work.store.index, work.store.buffer.dtype, lanes)
        return total

    def node_cost(self, node: Scalar, weight: float, lanes: _Lanes | None) -> float:
        if lanes is None or lanes.index not in node.free:
            return weight
        if node.op is load_op:
            return self.access(node.args, node.dtype, lanes)
        registers = -(-lanes.width * node.dtype.itemsize // self.register_bytes)
        if node.op.name in ("floordiv", "mod") and node.dtype.is_integer and node.args[1].op is not const_op:
            return weight * lanes.width  # there are no vector divisions of integers
        return weight * registers

    def access(self, at: Sequence[Scalar], dtype: DType, lanes: _Lanes | None) -> float:
        if lanes is None:
            return 1
        step = stride(at[0], lanes.index)
        registers = -(-lanes.width * dtype.itemsize // self.register_bytes)
        if step == 0:
            return 1
        if step == 1:
            return registers
        return 2 * registers if step == -1 else lanes.width

    def work(self, statement: Statement) -> _Work:
        """The weighted nodes of a statement."""
        found = self._work.get(id(statement))
        if found is None:
            nodes = []
            for node in topological(values_of(statement), lambda n: n.args):
                weight = _weight(node)
                if weight:
                    nodes.append((node, weight))
            found = _Work(tuple(nodes), statement if isinstance(statement, Store) else None)
            self._work[id(statement)] = found
        return found


def _weight(node: Scalar) -> float:
    op = node.op
    if op is const_op or op is index_op or op is symbol_op or op is register_op:
        return 0
    if node.op is load_op:
        return 1
    if op is checked_op:
        return 5
    if op.name in ("floordiv", "mod") and node.args[1].op is const_op:
        return 4
    known = _WEIGHT.get(op.name)
    return known if known is not None else _FUNCTION if is_function(node) else 1


def _trips(extent: Dim) -> int:
    return extent if isinstance(extent, int) else _TRIP


def _element_size(body: Iterable[Statement]) -> int:
    """Bytes of the elements that decide how many lanes fill a register."""
    results: set[DType] = set()
    loaded: set[DType] = set()
    for statement in statements(tuple(body)):
        match statement:
            case Store(buffer=buffer):
                results.add(buffer.dtype)
            case Update(register=register) | ArgUpdate(best=register):
                results.add(register.dtype)
            case Assign(registers=registers):
                results.update(register.dtype for register in registers)
        loaded.update(n.dtype for n in topological(values_of(statement), lambda n: n.args) if n.op is load_op)
    floats = [d.itemsize for d in results | loaded if d.is_float]
    if floats:
        return max(max(floats), 4)
    sizes = [d.itemsize for d in results if d.kind != "b"] or [d.itemsize for d in loaded]
    return max(sizes, default=8)


# Legality ------------------------------------------------------------------------------------------------


def vectorisable(loop: For) -> bool:
    """Whether the iterations of a loop can run side by side, but for registers that they combine."""
    inside = list(statements(loop.body))
    along = loop.index
    if any(isinstance(s, For) and isinstance(s.extent, Scalar) and along in s.extent.free for s in inside):
        return False
    if any(isinstance(s, Leave) for s in inside):
        return False
    updated = _outer_updates(loop.body)
    if None in updated.values():
        return False
    read: set[Register] = set()
    loaded: list[Scalar] = []
    for statement in inside:
        for node in topological(values_of(statement), lambda n: n.args):
            if node.op is register_op:
                read.add(node.param)
            elif node.op is load_op:
                loaded.append(node)
    if read & updated.keys():
        return False
    stores = [s for s in inside if isinstance(s, Store)]
    if loop.kind is LoopKind.PARALLEL:
        return all(along in s.index[0].free for s in stores)
    for store in stores:
        if stride(store.index[0], along) in (0, None):
            return False
        if any(n.param is store.buffer and n.args[0] is not store.index[0] for n in loaded):
            return False
    return True


def _outer_updates(body: Sequence[Statement]) -> dict[Register, str | None]:
    """The registers from outside that a body updates, and how (None: in several ways)."""
    inside = list(statements(tuple(body)))
    declared = {s.register for s in inside if isinstance(s, Declare)}
    found: dict[Register, str | None] = {}
    for statement in inside:
        targets: tuple[Register, ...]
        match statement:
            case Update(register=register):
                targets = (register,)
            case ArgUpdate(best=best, place=place):
                targets = (best, place)
            case Assign(registers=registers):
                found.update(dict.fromkeys(r for r in registers if r not in declared))
                continue
            case _:
                continue
        for register in targets:
            if register not in declared:
                combine = statement.combine
                found[register] = combine if found.setdefault(register, combine) == combine else None
    return found
