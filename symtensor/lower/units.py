"""What is computed where: tensors inlined into their users, and units that get a loop of their own.

A *unit* is a tensor whose elements are computed by one scalar expression over canonical loop indices (its own axes
first, then the axes it reduces), or by statements of its operation, or by a library. Everything else is inlined by
substitution: the value at an index of an operation is built from the values of its inputs at indices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.errors import BackendError, InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import flat_offset, reshaped, storage
from symtensor_codegen.loops import For, Statement, Store, loads, symbols
from symtensor_codegen.program import Matrix
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_dim, as_int, const_op, load_op, reduce_op, symbol_op
from symtensor_codegen.substitution import product

from ..graph import Constant, Tensor
from ..opdef import CONSTANT, INPUT, SHARED, Index, OpDef
from ..ops.branch_records import BRANCH
from ..ops.indexing_records import SUBTENSOR
from ..ops.indexing_slices import stretch
from ..ops.loop_body import Body
from ..ops.loop_records import LOOP, TRACE, body_of, parts_of
from .reductions import CHUNK, Loops, Reductions
from .sizes import Sizes, scalar_symbols

CHEAP = 8  # an expression of at most this cost is computed again by each user rather than stored
REPEATED = 1  # and of at most this cost where it is computed again for every step of an outer loop
DEPTH = 24  # nesting of inlined operations (bounds the recursion of a pull)
LARGEST = 48  # inlined operations in one unit
MOVES = frozenset(("dimshuffle", "subtensor"))  # operations that may be views of their input
# Operations that read elements many times, or one after the other where computing them side by side is faster.
REPEATING = frozenset(("advanced_subtensor", "take", "repeat", "tile", "broadcast_to", "random_order"))
GATHERS = frozenset(("advanced_subtensor", "take"))
SIZE_ONLY = frozenset(("dim", "shape"))  # operations that look at sizes and never at elements


@dataclass(eq=False, slots=True)
class Unit:
    """A tensor with a loop (or library call) of its own."""

    node: Tensor
    dims: tuple[Dim, ...]
    buffer: Buffer
    indices: Index = ()
    value: Scalar | None = None  # the element at ``indices``; None for statements and library calls
    statements: tuple[Statement, ...] = ()
    stored: bool = False  # whether its elements are needed in memory
    operands: tuple[Matrix, ...] = ()  # of a library call
    reads: list["Unit"] = field(default_factory=list)
    nodes: list[Scalar] = field(default_factory=list)  # of ``value``, arguments first
    path: Index = ()  # the loops around the store, outermost first
    waits: list["Unit"] = field(default_factory=list)  # whose values the host must know before this one runs
    results: list[Tensor] = field(default_factory=list)  # of a loop: what is taken out of it
    cost: int = 0


def has_bodies(node: Tensor) -> bool:
    """Whether a node is a loop or a branch."""
    return node.op is LOOP or node.op is BRANCH


def row_source(sequence: Tensor) -> tuple[Tensor, Dim, Dim]:
    """Where the rows of a sequence are: row ``i`` is row ``first + step * i`` of another tensor (or of itself)."""
    node = sequence
    first: Dim = 0
    step: Dim = 1
    while node.op is SUBTENSOR and _takes_rows(node):
        cut = stretch(node.params["items"][0], node.inputs[0].dims[0], node.inputs[1:])
        if any(value_symbols(d) for d in (cut.first, cut.step) if isinstance(d, Scalar)):
            break
        first, step = as_dim(as_int(cut.first) + as_int(cut.step) * first), as_dim(as_int(cut.step) * step)
        node = node.inputs[0]
    return node, first, step


def _takes_rows(part: Tensor) -> bool:
    """Whether a part of a tensor is a slice of its first axis and everything of the others."""
    items = part.params["items"]
    return items[0][0] == "slice" and all(item == ("slice", None, None, 1) for item in items[1:])


def operands(node: Tensor) -> list[Tensor]:
    """What a loop or branch reads from memory."""
    if node.op is BRANCH:
        return list(node.inputs)
    given = parts_of(node)
    return [*given.initial, *[row_source(s)[0] for s in given.sequences], *given.constants]


def is_leaf(node: Tensor) -> bool:
    """Whether a tensor is an input, a shared variable or a constant."""
    op = node.op
    return op is INPUT or op is SHARED or op is CONSTANT


def value_inputs(node: Tensor) -> tuple[Tensor, ...]:
    """The inputs whose elements (not only sizes) an operation needs."""
    return () if node.op.name in SIZE_ONLY else node.inputs


def computed(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor whose elements are needed, inputs first; the values that sizes depend on are among them."""
    known: dict[tuple[Dim, ...], tuple[Tensor, ...]] = {}

    def needs(node: Tensor) -> tuple[Tensor, ...]:
        counted = known.get(node.dims) if node.op.sizes is None else None
        if counted is None:
            counted = tuple(_size_values(node))
            if node.op.sizes is None:
                known[node.dims] = counted
        return value_inputs(node) + counted if counted else value_inputs(node)

    return topological(outputs, needs)


def _size_values(node: Tensor) -> list[Tensor]:
    """The 0-d tensors whose values the sizes of a tensor depend on."""
    if is_leaf(node):
        return []
    found: list[Tensor] = []
    further = node.op.sizes(node) if node.op.sizes is not None else ()
    for d in (*node.dims, *further):
        if isinstance(d, Scalar):
            found.extend(value_symbols(d))
    return found


def value_symbols(size: Scalar) -> tuple[Tensor, ...]:
    """The 0-d tensors in a size expression."""
    return tuple(s.param[1] for s in scalar_symbols(size) if s.param[0] == "value")


def stored_body(unit: Unit) -> Body:
    """The body of a loop, which stores exactly what is taken out of the loop.

    What the body says was settled earlier: since then results may have been dropped, or taken out of a loop that was
    made for a batch.
    """
    taken = [item.params["node"] for item in unit.results if item.op is TRACE]
    return replace(body_of(unit.node), traced=tuple(dict.fromkeys(taken)))


class Units:
    """The units of a program, with the buffers and expressions of everything in between."""

    def __init__(
        self, outputs: Sequence[Tensor], order: Sequence[Tensor], sizes: Sizes, step: Tensor | None = None
    ) -> None:
        """``step``: inside a loop, the variable of the number of the step; its value is known to the host."""
        self.sizes = sizes
        self.step = step
        # What the host knows before the body of a loop begins.
        self._outside = {step, *(v for size in sizes.known.values() for v in value_symbols(size))}
        self.outputs = outputs
        self.order = order
        self.buffers: dict[Tensor, Buffer] = {}
        self.leaves: dict[Tensor, Buffer] = {}
        self._named: dict[str, int] = {}
        self.of: dict[Tensor, Unit] = {}
        self.list: list[Unit] = []
        self.by_buffer: dict[Buffer, Unit] = {}
        self.loops = Loops()
        self.inner: list[Units] = []  # those of loops and branches inside
        self._pulled: dict[tuple[Tensor, Index], Scalar] = {}
        self._uses = self._count_uses()
        self._repeated = self._find_repeated()
        self._forced = self._find_forced()
        self._split()

    def indices(self, dims: Sequence[Dim]) -> Index:
        """The canonical indices of an element of an array of these sizes."""
        found: list[Scalar] = []
        level = 0
        for extent in dims:
            if extent == 1:
                found.append(as_int(0))
            else:
                found.append(self.loops.at(level, extent))
                level += 1
        return tuple(found)

    # What gets a unit -------------------------------------------------------------------------------------------

    def _count_uses(self) -> dict[Tensor, int]:
        uses: dict[Tensor, int] = {}
        for node in self.order:
            for value in value_inputs(node):
                uses[value] = uses.get(value, 0) + 1
        return uses

    def _find_forced(self) -> set[Tensor]:
        """Tensors that must be in memory: outputs, library operands, reshaped arrays, values that sizes need."""
        forced = set(self.outputs)
        self.values: list[Tensor] = []
        seen: set[tuple[Dim, ...]] = set()
        for node in self.order:
            if node.dims not in seen or node.op.sizes is not None:
                seen.add(node.dims)
                for counted in _size_values(node):
                    forced.add(counted)
                    if counted not in self.values:
                        self.values.append(counted)
        for node in reversed(self.order):
            if uses_library(node):
                for operand in node.inputs:
                    base = operand
                    while base.op.name in MOVES and base not in forced:
                        base = base.inputs[0]
                    forced.add(base if self._view(operand, base) is not None else operand)
            elif node.op.alias:
                forced.add(node.inputs[0])
            elif has_bodies(node):
                forced.update(operands(node))
        return forced

    def buffer(self, node: Tensor) -> Buffer:
        """The buffer that holds the elements of a tensor."""
        found = self.buffers.get(node)
        if found is None:
            dims = self.sizes.shape(node)
            if node.op.alias:
                found = reshaped(self.buffer(node.inputs[0]), dims)
            elif is_leaf(node):
                inside = self.step is not None and not isinstance(node, Constant)
                found = self.leaves[node] = Buffer(self._name(node), node.element, dims if inside else node.dims)
                if not inside and dims != node.dims:  # other names for equal sizes, so that loops over either fuse
                    found = reshaped(found, dims)
            else:
                found = Buffer(self._name(node), node.element, dims)
            self.buffers[node] = found
        return found

    def _name(self, node: Tensor) -> str:
        """The user's name of a tensor, or its operation's; numbered where it is taken."""
        base = node.name or node.op.name
        self._named[base] = number = self._named.get(base, 0) + 1
        return base if number == 1 else f"{base}_{number}"

    def _view(self, node: Tensor, base: Tensor) -> Matrix | None:
        """``node`` as strides into the memory of ``base``; None where it is not one that a library takes."""
        dims = self.sizes.shape(node)
        index = tuple(scalar.index("v", d) for d in dims)
        value = self._pull_above(node, base, index)
        if value is None or value.op is not load_op:
            return None
        steps = [substitution.stride(place, i) for place in value.args for i in index[-2:]]
        if not all(isinstance(step, int) and step >= 0 for step in steps):
            return None  # BLAS reads nothing backwards
        buffer = self.buffer(base)
        offset = self.sizes.scalar(flat_offset(buffer, value.args))
        strides = [substitution.stride(offset, i) for i in index]
        if any(s is None for s in strides):
            return None
        row, column = strides[-2], strides[-1]
        assert row is not None
        assert column is not None
        if row != 1 and column != 1:
            return None
        if 0 not in dims and any(s == 0 and n != 1 for s, n in zip((row, column), dims[-2:], strict=True)):
            return None  # BLAS reads no row twice
        start = substitution.substitute(offset, {i: as_int(0) for i in index})
        batch = strides[0] if len(dims) == 3 else 0
        assert batch is not None
        return Matrix(buffer, scalar.as_dim(start), row, column, batch)

    def _pull_above(self, node: Tensor, base: Tensor, index: Index) -> Scalar | None:
        if node is base:
            return scalar.load(self.buffer(base), index)
        assert node.op.pull is not None

        def at(position: int, where: Index) -> Scalar:
            source = node.inputs[position]
            if position == 0:
                found = self._pull_above(source, base, where)
                if found is None:
                    raise InternalError("a view reads through a view")
                return found
            return self._symbolic(source)

        return node.op.pull(node, at, index)

    def _symbolic(self, node: Tensor) -> Scalar:
        return scalar.symbol(("value", node))

    def _split(self) -> None:
        """Decide, inputs first, which tensors become units, and build those."""
        weight: dict[Tensor, int] = {}
        depth: dict[Tensor, int] = {}
        inlined: dict[Tensor, int] = {}
        for node in self.order:
            if is_leaf(node) or node.op.alias:
                weight[node] = depth[node] = inlined[node] = 0
                if node.op.alias:
                    self.buffer(node)
                continue
            if has_bodies(node) or node in self.of:
                weight[node] = depth[node] = inlined[node] = 0
                if has_bodies(node):
                    self._add_whole(node)
                continue
            sources = value_inputs(node)
            own = 0 if node.op.name in MOVES else node.op.cost  # of a view it is that of other indices
            weight[node] = own + sum([weight[i] for i in sources])
            depth[node] = 1 + max([depth[i] for i in sources], default=0)
            inlined[node] = 1 + sum([inlined[i] for i in sources])
            if _is_one_value(node):
                weight[node] = 0  # computed once, before the loops of its users
            if self._is_unit(node, weight, depth, inlined):
                self._add(node, weight[node])
                weight[node] = depth[node] = inlined[node] = 0

    def _is_unit(
        self, node: Tensor, weight: dict[Tensor, int], depth: dict[Tensor, int], inlined: dict[Tensor, int]
    ) -> bool:
        if node in self._forced or not can_inline(node.op):
            return True
        source = self.of.get(node.inputs[0]) if node.op.name in GATHERS else None
        if source is not None and source.value is not None and not source.stored:
            return True  # in one loop with what it reads from, it computes just the elements it needs
        if depth[node] >= DEPTH or inlined[node] >= LARGEST:
            return True
        if node in self._repeated:
            return weight[node] > self._repeated[node]
        return weight[node] > CHEAP and self._uses.get(node, 0) > 1

    def _find_repeated(self) -> dict[Tensor, int]:
        """Tensors whose elements are read again and again, and the cost up to which they are computed each time."""
        found: dict[Tensor, int] = {}
        for user in self.order:
            for position, value in enumerate(value_inputs(user)):
                if user.op.is_elementwise:
                    if _broadcasts_outer(value, user):
                        found[value] = REPEATED
                elif position == 0 and user.op.name in REPEATING:
                    found[value] = REPEATED
                elif user.op.name == "dot" and not uses_library(user) and user.inputs[1 - position].ndim > 1:
                    found.setdefault(value, CHEAP)  # the vector beside a matrix is read again for each of its rows
        return found

    def _add(self, node: Tensor, cost: int) -> None:
        dims = self.sizes.shape(node)
        unit = Unit(node, dims, self.buffer(node), cost=cost, stored=node in self._forced)
        op = node.op
        if uses_library(node):
            unit.stored = True
            unit.operands = tuple(self._operand(i) for i in node.inputs)
            unit.reads = self._units_of([m.buffer for m in unit.operands])
        elif op.loops is not None:
            unit.stored = True
            unit.statements = op.loops(node, self._at(node), unit.buffer)
            if op.overwrites and not self._in_memory(node.inputs[0]):
                unit.statements = (*self._filled(unit, node.inputs[0]), *unit.statements)
            copied = [self.buffer(node.inputs[0])] if op.overwrites and self._in_memory(node.inputs[0]) else []
            unit.reads = self._units_of([*_buffers_read(unit.statements), *copied])
        elif op.pull is not None:
            unit.indices = self.indices(dims)
            value = self.sizes.scalar(op.pull(node, self._at(node), unit.indices))
            reductions = Reductions(self.loops, self.sizes, partial(self._helper, node))
            self._set_value(unit, reductions.staged(reductions.canonical(value), dims))
        else:
            raise BackendError(f"{op.name} is not implemented by the compiled backends; use mode='reference'")
        unit.waits = self._waits(unit)
        self.of[node] = unit
        self.by_buffer[unit.buffer] = unit
        self.list.append(unit)

    def _add_whole(self, node: Tensor) -> None:
        """A loop or branch, and all that is taken out of it, as one unit."""
        unit = Unit(node, (), Buffer(node.op.name, dtypes.int64, ()), cost=CHUNK)
        unit.results = [n for n in self.order if n.inputs and n.inputs[0] is node]
        unit.reads = self._units_of([self.buffer(i) for i in operands(node)])
        unit.waits = self._waits(unit)
        for result in unit.results:
            self.of[result] = self.by_buffer[self.buffer(result)] = unit
        self.of[node] = unit
        self.list.append(unit)

    def _set_value(self, unit: Unit, value: Scalar) -> None:
        unit.value = value
        unit.nodes = topological([value], lambda n: n.args)
        unit.reads = self._units_of([n.param for n in unit.nodes if n.op is load_op])
        unit.path = _path(unit)

    def _waits(self, unit: Unit) -> list[Unit]:
        """The units whose values are sizes or positions of this one."""
        found: list[Tensor] = []
        for size in (*unit.dims, *(unit.node.op.sizes(unit.node) if has_bodies(unit.node) else ())):  # type: ignore[misc]
            if isinstance(size, Scalar):
                found.extend(value_symbols(size))
        for inner in unit.nodes:
            if inner.op is symbol_op and inner.param[0] == "value":
                found.append(inner.param[1])
            elif inner.op is reduce_op and isinstance(inner.param.index.param.extent, Scalar):
                found.extend(value_symbols(inner.param.index.param.extent))
        for symbol in symbols(unit.statements):
            found.extend(value_symbols(symbol))
        for value in found:
            if value not in self.values and value not in self._outside:
                raise InternalError(f"{unit.node.op.name}: {value!r} is needed as a size, but no size mentions it")
        return list(dict.fromkeys(self.of[v] for v in found if v in self.of))

    def _in_memory(self, node: Tensor) -> bool:
        return is_leaf(node) or node.op.alias or node in self.of

    def _filled(self, unit: Unit, source: Tensor) -> tuple[Statement, ...]:
        """Statements that store the elements of an inlined tensor into the buffer of a unit."""
        index = tuple(scalar.index("ijklmnpq"[axis % 8], size) for axis, size in enumerate(unit.dims))
        body: tuple[Statement, ...] = (Store(unit.buffer, index, self._value(source, index)),)
        for position in reversed(index):
            body = (For(position, position.param.extent, body),)
        return body

    def _operand(self, node: Tensor) -> Matrix:
        base = node
        while base.op.name in MOVES and base not in self._forced:
            base = base.inputs[0]
        found = self._view(node, base)
        if found is None:
            raise InternalError(f"{node!r} is not a view")
        return found

    def _units_of(self, buffers: Sequence[Buffer]) -> list[Unit]:
        found = [self.by_buffer.get(storage(b)) for b in buffers]
        return list(dict.fromkeys(u for u in found if u is not None))

    # The value at an index --------------------------------------------------------------------------------------

    def _at(self, node: Tensor) -> Callable[[int, Index], Scalar]:
        inputs = node.inputs

        def at(position: int, index: Index) -> Scalar:
            return self._value(inputs[position], index)

        return at

    def element(self, unit: Unit, index: Index) -> Scalar | None:
        """The element of a unit by its inputs' elements; None where it is not computed element by element."""
        if unit.value is not None:
            moved = {i: at for i, at in zip(unit.indices, index, strict=True) if i.op is not const_op}
            return substitution.substitute(unit.value, moved)
        pull = unit.node.op.pull
        if pull is None or unit.operands or unit.node.ndim != len(index):
            return None
        return self.sizes.scalar(pull(unit.node, self._at(unit.node), index))

    def _value(self, node: Tensor, index: Index) -> Scalar:
        key = (node, index)
        found = self._pulled.get(key)
        if found is None:
            found = self._pulled[key] = self._compute(node, index)
        return found

    def _compute(self, node: Tensor, index: Index) -> Scalar:
        if isinstance(node, Constant) and node.data.size == 1:
            return scalar.const(node.data.item(), node.element)
        if node is self.step:
            return scalar.symbol(("value", node), dtypes.int64)
        if self._in_memory(node):
            return scalar.load(self.buffer(node), index)
        assert node.op.pull is not None
        return node.op.pull(node, self._at(node), index)

    def _helper(self, node: Tensor, dims: tuple[Dim, ...], indices: Index, value: Scalar) -> Buffer:
        """Where a new unit stores an intermediate value that is no tensor of the user's graph."""
        unit = Unit(node, dims, Buffer(f"{node.op.name}_part", value.dtype, dims), indices, cost=CHUNK)
        self._set_value(unit, value)
        self.by_buffer[unit.buffer] = unit
        self.list.append(unit)
        return unit.buffer


def can_inline(op: OpDef) -> bool:
    """Whether an operation may be computed inside its users (it computes one element in a few operations)."""
    if op.pull is None or op.loops is not None or op.library is not None:
        return False
    return op.is_elementwise or op.category in INLINED


INLINED = frozenset(("shape", "shaping", "index", "indexing", "creation", "join", "random"))


def _is_one_value(node: Tensor) -> bool:
    return all(size == 1 for size in node.type.shape)


def uses_library(node: Tensor) -> bool:
    """Whether a tensor is computed by a library call rather than loops (matrix times matrix)."""
    if node.op.library is None:
        return False
    return all(i.ndim >= 2 for i in node.inputs) and node.element.kind in "fc" and node.element.itemsize >= 4


def _broadcasts_outer(value: Tensor, user: Tensor) -> bool:
    """Whether ``user`` reads each element of ``value`` again for every step of an outer loop."""
    if value.ndim == 0:
        return False
    missing = user.ndim - value.ndim
    own = [size != 1 for size in value.type.shape]
    if not any(own):
        return False
    first = missing + own.index(True)
    return any(user.type.shape[axis] != 1 for axis in range(first))


def _path(unit: Unit) -> Index:
    """The loops around the store of a unit, outermost first: those its reductions depend on come first."""
    loops = [i for i in unit.indices if i.op is not const_op]
    frees = {n.free for n in unit.nodes if n.op is reduce_op}
    if not frees:
        return tuple(loops)
    ordered: list[Scalar] = []
    for free in sorted(frees, key=len):
        ordered.extend(i for i in loops if i in free and i not in ordered)
    ordered.extend(i for i in loops if i not in ordered)
    return tuple(ordered)


def _buffers_read(statements: tuple[Statement, ...]) -> list[Buffer]:
    return [load.param for load in loads(statements)]


def element_count(unit: Unit) -> Dim:
    """The number of elements of a unit."""
    return product(unit.dims)
