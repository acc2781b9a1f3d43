"""Loops whose state is a few numbers: every element of every value in a step becomes a scalar of its own.

The state stays in registers from the first step to the last; small matrices are multiplied without a loop. This is
possible where all sizes inside are known and small, and every element is at a place that is known, too.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product as places
from math import prod
from typing import TYPE_CHECKING

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import finish, storage
from symtensor_codegen.loops import Assign, Declare, For, Leave, LoopKind, Statement, Store
from symtensor_codegen.program import Copy, Launch, Loop, Row, Step
from symtensor_codegen.scalar import (
    ARG_COMBINES,
    COMBINES,
    Buffer,
    Dim,
    Register,
    Scalar,
    as_dim,
    as_int,
    checked_op,
    const_op,
    load_op,
    reduce_op,
    symbol_op,
)
from symtensor_codegen.substitution import rebuild, substitute

from ..graph import Constant, Tensor, ancestors, constant
from ..opdef import Index, aligned, dim_of
from ..ops.loop_body import has_wide_products
from ..ops.loop_records import FINAL, HISTORY, STEPS_RUN, TRACE, body_of, parts_of
from .sizes import Sizes
from .units import Unit, operands, row_source, stored_body, value_inputs

if TYPE_CHECKING:
    from .plan import Planner, Work

COSTLY = 15  # an elementwise operation of this cost on several elements is done by a vector loop
FEW = 3  # but not on so few elements
LARGEST = 4096  # scalar operations in a step
OF_A_THREAD = 512  # the same on a device, where one thread does them and a block could share them
WIDEST = 256  # elements of one value
SHARED = 2048  # of one that a block of threads shares
CHUNK = 1 << 16  # steps between two looks at whether the user wants to stop


class _NotPossible(Exception):
    """The loop does not fit into registers."""


def lower_to_registers(unit: Unit, outer: "Planner", hints: Mapping[Scalar, int]) -> "Work | None":
    """The work of a loop with its state in registers; None where that is not possible.

    ``hints``: values of symbols in sizes; the work is right where ``holds``.
    """
    made = _Lowering(unit, outer, hints)
    if not made.fits():
        return None
    try:
        return made.work()
    except _NotPossible:
        return None


def may_fit(loop: Tensor) -> bool:
    """Whether a loop could have its state in registers if the sizes inside were known and small."""
    order = ancestors(body_of(loop).outputs)
    return len(order) <= LARGEST // 8 and all(not n.inputs or n.op.pull is not None for n in order)


def is_worth_it(
    loop: Tensor, hints: Mapping[Scalar, int], known: Sizes | None = None, device: bool = False
) -> bool:
    """Whether the states of a loop are small where sizes are as hinted (a quick look, before lowering anything).

    ``known``: equal sizes. On a ``device`` a block of threads may share them.
    """
    for state in parts_of(loop).initial:
        sizes = [known_size(size if known is None else known.of(size), hints) for size in state.dims]
        if any(size is None for size in sizes) or prod(size or 0 for size in sizes) > (SHARED if device else WIDEST):
            return False
    return may_fit(loop)


def holds(loop: Tensor, sizes: Sizes, hints: Mapping[Scalar, int]) -> Scalar:
    """Whether the sizes inside a loop are those that hints say."""
    result = scalar.const(True, dtypes.bool_)
    for outer in dict.fromkeys(outer for _, outer in outer_sizes(loop, sizes)):
        if isinstance(outer, Scalar):
            value = known_size(outer, hints)
            assert value is not None
            result = result & scalar.eq(outer, value)
    return result


def outer_sizes(loop: Tensor, sizes: Sizes) -> list[tuple[Scalar, Dim]]:
    """The symbolic sizes of a body's variables, with what they are outside."""
    body, given = body_of(loop), parts_of(loop)
    pairs = [(v, s.dims[1:]) for v, s in zip(body.sequences, given.sequences, strict=True)]
    pairs += [(v, x.dims) for v, x in zip(body.carries, given.initial, strict=True)]
    pairs += [(v, x.dims) for v, x in zip(body.constants, given.constants, strict=True)]
    return [
        (inner, sizes.of(outer))
        for v, dims in pairs for inner, outer in zip(v.dims, dims, strict=True) if isinstance(inner, Scalar)
    ]  # fmt: skip


def known_size(size: Dim, known: Mapping[Scalar, int]) -> int | None:
    """A size as a number, where it is one for known symbols."""
    if isinstance(size, int):
        return size
    result = substitute(size, {symbol: as_int(value) for symbol, value in known.items()})
    return int(result.param) if result.op is const_op else None


class _Lowering:
    def __init__(self, unit: Unit, outer: "Planner", hints: Mapping[Scalar, int]) -> None:
        self.unit, self.outer, self.hints = unit, outer, hints
        self.inside: dict[Scalar, int] = {}  # sizes of the body's variables
        self.body, self.given = stored_body(unit), parts_of(unit.node)
        self.items = {(n.op, n.params.get("carry", n.params.get("node"))): n for n in unit.results}
        self.order = ancestors(self.body.outputs)
        self.shapes: dict[Tensor, tuple[int, ...]] = {}
        self.elements: dict[Tensor, list[Scalar]] = {}
        self.proxies: dict[Buffer, Tensor] = {}
        self.buffer_of: dict[Tensor, Buffer] = {}
        self.resolved: dict[Scalar, Scalar] = {}
        self.vectors: list[Statement] = []  # loops over the elements of costly values, in order
        self.lanes: list[Buffer] = []  # their operands and results, in memory between them and the rest of the step
        self.count = outer.sizes.of(dim_of(self.given.count))
        self.alone = outer.device and self.body.until is None  # one launch, between whose steps nobody could look
        self.whole = self.alone or (isinstance(self.count, int) and self.count <= CHUNK)
        self.chunk = scalar.symbol(("chunk", unit.node), dtypes.int64)

    def fits(self) -> bool:
        """Whether all sizes are known and the step is small."""
        total = 0
        for symbol, outer in outer_sizes(self.unit.node, self.outer.sizes):
            value = known_size(outer, self.hints)
            if value is None:
                return False
            self.inside[symbol] = value
        for node in (*self.body.variables, *self.order):
            known = [known_size(size, self.inside) for size in node.dims]
            shape = tuple(size for size in known if size is not None)
            if len(shape) < node.ndim:
                return False
            self.shapes[node] = shape
            if prod(shape) > WIDEST and not isinstance(node, Constant):
                return False
            if node.inputs:
                if node.op.pull is None:
                    return False
                work: int = max([prod(shape), *[prod(self.shapes[i]) for i in node.inputs]])
                if node.op.library is not None:
                    work = prod(shape) * self.shapes[node.inputs[0]][-1]
                total += work * max(node.op.cost, 1)
        most = OF_A_THREAD if self.outer.device else LARGEST
        return total <= most and not has_wide_products(self.order, self.shapes.__getitem__)

    # Elements ---------------------------------------------------------------------------------------------------

    def _element(self, node: Tensor, index: Sequence[int]) -> Scalar:
        flat = 0
        for position, size in zip(index, self.shapes[node], strict=True):
            if not -size <= position < size:
                raise _NotPossible
            flat = flat * size + position % size
        return self.elements[node][flat]

    def _proxy(self, node: Tensor) -> Buffer:
        found = self.buffer_of.get(node)
        if found is None:
            found = self.buffer_of[node] = Buffer(node.op.name, node.element, self.shapes[node])
            self.proxies[found] = node
        return found

    def _expand(self, node: Tensor) -> list[Scalar]:
        inputs = value_inputs(node)
        apart = node.op.is_elementwise and node.op.cost >= COSTLY and not self.outer.device
        if apart and len(self._places(node)) > FEW:
            return self._by_vectors(node)
        pull = node.op.pull
        assert pull is not None

        def at(position: int, index: Index) -> Scalar:
            source = inputs[position]
            if all(i.op is const_op for i in index):
                return self._element(source, [int(i.param) for i in index])
            return scalar.load(self._proxy(source), index)

        return [
            self._resolve(pull(node, at, tuple(as_int(i) for i in index)))
            for index in places(*[range(size) for size in self.shapes[node]])
        ]

    def _by_vectors(self, node: Tensor) -> list[Scalar]:
        """The elements of a costly elementwise value: operands are put side by side, for a loop to run over."""
        assert node.op.scalar is not None
        where = self._places(node)
        lane = scalar.index("lane", len(where))
        operands: list[Scalar] = []
        for number, source in enumerate(node.inputs):
            if len(self.elements[source]) == 1:
                operands.append(self.elements[source][0])
                continue
            side = Buffer(f"{node.op.name}_{number}", source.element, (len(where),))
            self.lanes.append(side)
            for k, index in enumerate(where):
                at = [int(i.param) for i in aligned(source, index)]
                self.vectors.append(Store(side, (as_int(k),), self._element(source, at)))
            operands.append(scalar.load(side, (lane,)))
        result = Buffer(node.op.name, node.element, (len(where),))
        self.lanes.append(result)
        value = node.op.scalar(*operands, **node.params)
        self.vectors.append(For(lane, len(where), (Store(result, (lane,), value),)))
        return [scalar.load(result, (as_int(k),)) for k in range(len(where))]

    def _resolve(self, value: Scalar) -> Scalar:
        """``value`` with reductions written out, and elements in place of loads from values inside the step."""
        memo = self.resolved
        for node in topological([value], lambda n: () if n in memo or n.op is reduce_op else n.args):
            if node in memo:
                continue
            if node in self.inside:
                memo[node] = as_int(self.inside[node])
            elif node.op is reduce_op:
                memo[node] = self._reduced(node)
            elif node.op is checked_op:
                position, extent = (memo[a] for a in node.args)
                if position.op is not const_op or extent.op is not const_op:
                    raise _NotPossible
                memo[node] = as_int(self._wrapped(int(position.param), int(extent.param)))
            elif node.op is load_op and node.param in self.proxies:
                index = [memo[a] for a in node.args]
                if any(i.op is not const_op for i in index):
                    raise _NotPossible
                memo[node] = self._element(self.proxies[node.param], [int(i.param) for i in index])
            else:
                args = tuple(memo[a] for a in node.args)
                memo[node] = node if args == node.args else rebuild(node, args)
        return memo[value]

    def _wrapped(self, position: int, extent: int) -> int:
        if not -extent <= position < extent:
            raise _NotPossible
        return position % extent

    def _reduced(self, node: Scalar) -> Scalar:
        index, combine = node.param.index, node.param.combine
        extent = known_size(index.param.extent, self.inside)
        if extent is None or (extent == 0 and combine in ARG_COMBINES):
            raise _NotPossible
        terms = [self._resolve(substitute(node.args[0], {index: as_int(k)})) for k in range(extent)]
        if combine in ARG_COMBINES:
            return _extreme(combine, terms)
        if not terms:
            return scalar.const(COMBINES[combine].neutral(node.dtype), node.dtype)
        while len(terms) > 1:  # in pairs: the chain of dependent operations is short
            terms = [
                COMBINES[combine].step(terms[k], terms[k + 1]) if k + 1 < len(terms) else terms[k]
                for k in range(0, len(terms), 2)
            ]
        return terms[0]

    # The kernel -------------------------------------------------------------------------------------------------

    def work(self) -> "Work":
        """The steps that run the loop."""
        from .plan import Work

        body, units = self.body, self.outer.units
        step = scalar.index("t", self._extent())
        number = step if self.whole else self.chunk * CHUNK + step
        row = as_int(self.count) - 1 - number if body.backwards else number
        scope = frozenset((step,))
        begin, end, scratch, before = self._states()
        after: list[Step] = []
        registers: dict[Tensor, list[Register]] = {}
        self.elements[body.index] = [number]
        for k, carry in enumerate(body.carries):
            name = carry.name or f"state_{k}"
            registers[carry] = [Register(name, carry.element) for _ in self._places(carry)]
            self.elements[carry] = [scalar.read(r, scope) for r in registers[carry]]
        for variable, outer in zip(body.sequences, self.given.sequences, strict=True):
            base, start, spacing = row_source(outer)
            place = as_int(start) + as_int(spacing) * row
            self.elements[variable] = [scalar.load(units.buffer(base), (place, *i)) for i in self._places(variable)]
        for variable, outer in zip(body.constants, self.given.constants, strict=True):
            self.elements[variable] = [scalar.load(units.buffer(outer), i) for i in self._places(variable)]
        for node in self.order:
            if isinstance(node, Constant):
                self.elements[node] = [scalar.const(v.item(), node.element) for v in node.data.reshape(-1)]
            elif node.inputs:
                self.elements[node] = self._expand(node)
        made = self.vectors
        scratch += self.lanes
        first: list[Statement] = []
        starting: list[Statement] = []
        last: list[Statement] = []
        targets: list[Register] = []
        values: list[Scalar] = []
        for k, (carry, after_step) in enumerate(zip(body.carries, body.nexts, strict=True)):
            rows = self.items.get((HISTORY, k))
            for register, index, value in zip(
                registers[carry], self._places(carry), self.elements[after_step], strict=True
            ):
                first.append(Declare(register, scalar.load(begin[k], index)))
                target = end[k]
                if target is not None:
                    last.append(Store(target, index, scalar.read(register)))
                if rows is not None and self.alone:
                    early = as_int(self.count if body.backwards else 0)
                    starting.append(Store(units.buffer(rows), (early, *index), scalar.read(register)))
                targets.append(register)
                values.append(value)
                if rows is not None:
                    late = row if body.backwards else row + 1
                    made.append(Store(units.buffer(rows), (late, *index), value))
        for node in body.traced:
            target = units.buffer(self.items[TRACE, node])
            for index, value in zip(self._places(node), self.elements[node], strict=True):
                made.append(Store(target, (row, *index), value))
        ending: list[Statement] = []
        until = None
        item = self.items.get((STEPS_RUN, None))
        executed = units.buffer(item) if item is not None else None
        if body.until is None and executed is not None:
            last.append(Store(executed, (), as_int(self.count)))
        if body.until is not None:
            until = Buffer("stop", dtypes.bool_, ())
            stop, run = Register("stop", dtypes.bool_), Register("steps", dtypes.int64)
            zero = scalar.const(0, dtypes.int64)
            first += [Declare(stop, scalar.const(False, dtypes.bool_)), Declare(run, zero)]
            targets += [stop, run]
            values += [self.elements[body.until][0], number + 1]
            ending = [Leave(scalar.read(stop, scope))]
            last.append(Store(until, (), scalar.read(stop)))
            scratch.append(until)
            if executed is not None:
                last.append(Store(executed, (), scalar.read(run)))
        made += [Assign(tuple(targets), tuple(values))] if targets else []
        statements: tuple[Statement, ...] = (*first, *starting, For(step, self._extent(), (*made, *ending)), *last)
        if self.outer.device:  # one thread has it all
            statements = (For(scalar.index("i", 1), 1, statements, LoopKind.PARALLEL),)
        fixed = {
            outer: as_int(known_size(outer, self.hints) or 0)
            for _, outer in outer_sizes(self.unit.node, self.outer.sizes)
            if isinstance(outer, Scalar) and outer.op is symbol_op
        }
        known = {size: substitute(value, fixed) for size, value in self.outer.sizes.known.items()}
        done = finish(body.name or "loop", statements, (), body.name, {**known, **fixed})
        launch = self.outer.launch(done)
        run_step, before_loop = self._run(launch, until, executed)
        reads = {storage(units.buffer(i)) for i in operands(self.unit.node)}
        work = Work(run_step, reads, [self.unit], [units.buffer(n) for n in self.unit.results], (), True)
        work.waits, work.results = tuple(self.unit.waits), tuple(self.unit.results)
        work.scratch, work.before, work.after = tuple(scratch), (*before, *before_loop), tuple(after)
        return work

    def _places(self, node: Tensor) -> list[Index]:
        return [tuple(as_int(i) for i in place) for place in places(*[range(size) for size in self.shapes[node]])]

    def _extent(self) -> Dim:
        if self.whole:
            return self.count
        return as_dim(scalar.minimum(as_int(self.count) - self.chunk * CHUNK, as_int(CHUNK)))

    def _states(self) -> tuple[list[Buffer], list[Buffer | None], list[Buffer], list[Step]]:
        """Where states are before and after a run of the kernel, and what prepares the loop."""
        units = self.outer.units
        buffers: list[Buffer] = []
        scratch: list[Buffer] = []
        if self.alone:
            finals = [self.items.get((FINAL, k)) for k in range(len(self.body.carries))]
            buffers = [units.buffer(initial) for initial in self.given.initial]
            return buffers, [None if last is None else units.buffer(last) for last in finals], [], []
        before: list[Step] = []
        for k, carry in enumerate(self.body.carries):
            initial = units.buffer(self.given.initial[k])
            last, rows = self.items.get((FINAL, k)), self.items.get((HISTORY, k))
            if last is not None:
                state = units.buffer(last)
            else:
                state = Buffer(carry.name or f"state_{k}", carry.element, self.shapes[carry])
                scratch.append(state)
            buffers.append(state)
            before.append(Copy(state, initial))
            if rows is not None:
                begin = Buffer(f"{state.name}_first", state.dtype, state.dims)
                start: Dim = self.count if self.body.backwards else 0
                before += [Row(begin, units.buffer(rows), start), Copy(begin, initial)]
        return buffers, [*buffers], scratch, before

    def _run(
        self, launch: Launch, until: Buffer | None, executed: Buffer | None
    ) -> tuple[Launch | Loop, list[Step]]:
        if self.whole and until is None:
            return launch, []
        before: list[Step] = []
        if executed is not None:
            zero = constant(0, "int64")
            if zero not in self.outer.constants:
                self.outer.constants.append(zero)
            before.append(Copy(executed, self.outer.units.buffer(zero)))
        chunks: Dim = 1 if self.whole else as_dim((as_int(self.count) + (CHUNK - 1)) // CHUNK)
        return Loop(self.chunk, chunks, (), (launch,), (), until, None), before


def _extreme(combine: str, terms: Sequence[Scalar]) -> Scalar:
    """The position of the first extreme of some values (the first NaN wins)."""
    better: Callable[[Scalar, Scalar], Scalar] = scalar.gt if combine == "argmax" else scalar.lt
    best, place = terms[0], as_int(0)
    for k, value in enumerate(terms[1:], 1):
        takes = better(value, best)
        if value.dtype.is_float:
            takes = (takes | scalar.ne(value, value)) & scalar.eq(best, best)
        best, place = scalar.select(takes, value, best), scalar.select(takes, as_int(k), place)
    return place
