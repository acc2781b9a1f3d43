"""Small loops on a device: one block of threads runs all the steps, with the states in memory of its own.

Where a step needs all of the states (a product of matrices, a sum) and sizes are known and small, its kernels follow
each other in one launch, in each step: the threads share every loop, and wait for each other in between. States and
what else lives in a step are in memory that only this launch has.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import Finished, finish, reshaped, storage
from symtensor_codegen.loops import (
    Assign,
    Declare,
    For,
    Leave,
    LoopKind,
    Statement,
    Store,
    Update,
    map_values,
    scalars,
    statements,
)
from symtensor_codegen.program import Gemm, Launch, Matrix
from symtensor_codegen.scalar import Buffer, Dim, Register, Scalar, as_int, checked_op, load_op, symbol_op
from symtensor_codegen.substitution import product, rebuild, substitute

from ..graph import Tensor
from ..ops.loop_records import HISTORY, TRACE
from .launched import Launched, NotPossible
from .registers import known_size, outer_sizes
from .units import Unit

if TYPE_CHECKING:
    from .plan import Planner, Work

MEMORY = 36 << 10  # bytes of a block's own memory; exchanges between threads take some more
THREADS = 512
MOST_ITERATIONS = 1 << 10  # of a thread in a step: more take longer than launches would
MOST_KERNELS = 48  # of a step
LARGEST = 4096  # scalar operations in a step

Target = tuple[Buffer, tuple[Scalar, ...]]  # an array, and which row of it


def lower_together(unit: Unit, outer: "Planner", inner: "Planner", hints: Mapping[Scalar, int]) -> "Work | None":
    """The work of a loop that one block runs; None where that is not possible.

    ``inner`` has planned the body. ``hints``: values of symbols in sizes.
    """
    for turns in (True, False):
        loop = Launched(unit, outer, inner)
        kernel = _Kernel(loop, hints, turns)
        try:
            return loop.work([outer.launch(kernel.finished())])
        except NotPossible:
            if not kernel.turned:
                break  # there was room enough
    return None


class _Kernel:
    """The kernel of a loop."""

    def __init__(self, loop: Launched, hints: Mapping[Scalar, int], turns: bool) -> None:
        """``turns``: there may be transposed copies of matrices."""
        self.loop, self.outer, self.inner, self.hints, self.turns = loop, loop.outer, loop.inner, hints, turns
        self.t = scalar.index("t", loop.extent)
        self.states = [storage(self.inner.units.buffer(carry)) for carry in loop.body.carries]
        self.local: dict[Buffer, Buffer] = {}
        self.memo: dict[Scalar, Scalar] = {}
        self.copies: list[Statement] = []  # made before the first step
        self.serial: frozenset[Scalar] = frozenset()  # loops inside of those that threads share
        self.turned: dict[Buffer, Buffer] = {}  # matrices that threads read across their rows
        self.iterations = 0
        self._begin(frozenset())

    def finished(self) -> Finished:
        """The kernel, ready to be launched."""
        loop, body, units = self.loop, self.loop.body, self.outer.units
        if len(self.inner.works) > MOST_KERNELS:
            raise NotPossible
        first: list[Statement] = []
        each: list[Statement] = []
        last: list[Statement] = []
        for k, carry in enumerate(body.carries):
            targets: list[Target] = [(self._own(self.states[k]), ())]
            history, end = loop.items.get((HISTORY, k)), loop.end[k]
            if history is not None:
                targets.append((units.buffer(history), (loop.first_row,)))
            first += self._copied(carry, partial(_at, loop.begin[k]), targets)
            if end is not None:
                last += self._copied(carry, partial(_at, self._own(self.states[k])), [(end, ())])
        for made in self.inner.works:
            if isinstance(made.step, Gemm):
                each += self._changed(self._product(made.step))
            elif self._is_shared(made):
                each += self._changed(made.body)
            else:
                raise NotPossible
        each += self._after_step()
        self._ending(first, each, last)
        whole: tuple[Statement, ...] = (*self.copies, *first, For(self.t, loop.extent, tuple(each)), *last)
        if len(scalars(whole)) > LARGEST:
            raise NotPossible
        fixed = {
            size: as_int(known_size(size, self.hints) or 0)
            for _, size in outer_sizes(loop.unit.node, self.outer.sizes)
            if isinstance(size, Scalar) and size.op is symbol_op
        }
        known = {size: substitute(value, fixed) for size, value in self.outer.sizes.known.items()}
        local = (*self.local.values(), *self.turned.values())
        return finish(body.name or "loop", whole, (), body.name, {**known, **fixed}, local)

    def _ending(self, first: list[Statement], each: list[Statement], last: list[Statement]) -> None:
        """Count the steps, and end where the condition holds."""
        loop, until = self.loop, self.loop.body.until
        run, scope = Register("steps", dtypes.int64), frozenset((self.t,))
        if loop.executed is not None:
            first.append(Declare(run, as_int(0)))
            each.append(Assign((run,), (loop.number(self.t) + 1,)))
            last.append(Store(loop.executed, (), scalar.read(run, scope)))
        if until is not None:
            stop = self._value(scalar.load(self.inner.units.buffer(until), ()))
            each.append(Leave(stop))
            if loop.stop is not None:
                last.append(Store(loop.stop, (), stop))

    def _is_shared(self, made: "Work") -> bool:
        """Whether a kernel can be one of those that the block runs: nothing fails, or decides what runs."""
        return isinstance(made.step, Launch) and not (made.can_fail or made.waits or made.copies is not None)

    # Memory -----------------------------------------------------------------------------------------------------

    def _size(self, size: Dim) -> int:
        found = known_size(self.outer.sizes.of(self.inner.sizes.of(size)), self.hints)
        if found is None:
            raise NotPossible
        return found

    def _shape(self, node: Tensor) -> tuple[int, ...]:
        return tuple(self._size(size) for size in node.dims)

    def _own(self, base: Buffer) -> Buffer:
        """The block's memory for what the body keeps in a buffer."""
        found = self.local.get(base)
        if found is None:
            if base.dtype.is_complex:
                raise NotPossible
            found = Buffer(base.name, base.dtype, tuple(self._size(size) for size in base.dims))
            self.local[base] = found
            self._check_memory()
        return found

    def _element(self, buffer: Buffer, place: tuple[Scalar, ...]) -> Scalar:
        """An element of a value in the body."""
        matrix = self.loop.same(buffer)
        if matrix is not None and len(place) == 2 and place[1] in self.serial and place[0] not in self.serial:
            turned = self._turned(matrix)
            if turned is not None:
                return scalar.load(turned, place[::-1])
        outside = self.loop.outside(buffer, place, self.t)
        return scalar.load(reshaped(self._own(storage(buffer)), buffer.dims), place) if outside is None else outside

    def _turned(self, matrix: Buffer) -> Buffer | None:
        """The block's transposed copy of a matrix, where there is room for it.

        Threads beside each other read rows below each other: of the copy they read neighbours.
        """
        key = storage(matrix)
        if key not in self.turned:
            rows, columns = (self._size(size) for size in matrix.dims)
            made = Buffer(f"{key.name}_turned", matrix.dtype, (columns, rows))
            if matrix.dtype.is_complex or not self.turns:
                return None
            self.turned[key] = made
            self._check_memory()
            i, j = scalar.index("i", rows), scalar.index("j", columns)
            value = scalar.load(matrix, (i, j))
            self.copies.append(
                For(i, rows, (For(j, columns, (Store(made, (j, i), value),), LoopKind.PARALLEL),), LoopKind.PARALLEL)
            )
        found = self.turned[key]
        return found if tuple(map(self._size, matrix.dims[::-1])) == found.dims else None

    def _check_memory(self) -> None:
        own = (*self.local.values(), *self.turned.values())
        if sum(prod([b.dtype.itemsize, *[self._size(size) for size in b.dims]]) for b in own) > MEMORY:
            raise NotPossible

    # Statements -------------------------------------------------------------------------------------------------

    def _value(self, value: Scalar) -> Scalar:
        """A value of the body over the memory that it has here."""
        memo = self.memo
        for node in topological([value], lambda n: () if n in memo else n.args):
            if node in memo:
                continue
            args = tuple(memo[a] for a in node.args)
            if node.op is checked_op:
                raise NotPossible
            if node.op is load_op:
                memo[node] = self._element(node.param, args)
            else:
                memo[node] = node if args == node.args else rebuild(node, args)
        return memo[value]

    def _changed(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Statements of the body over the memory that they have here."""
        self.iterations += sum(self._of_a_thread(s) for s in body)
        if self.iterations > MOST_ITERATIONS:
            raise NotPossible

        def one(statement: Statement) -> Statement:
            if isinstance(statement, For):
                extent = self._size(statement.extent)
                return For(statement.index, extent, tuple(one(s) for s in statement.body), statement.kind)
            (changed,) = map_values((statement,), self._value)
            if isinstance(changed, Store):
                return Store(
                    reshaped(self._own(storage(changed.buffer)), changed.buffer.dims), changed.index, changed.value,
                    changed.combine, changed.where,
                )  # fmt: skip
            return changed

        made: list[Statement] = []
        for statement in body:
            self._begin(_inner_loops(statement))
            made.append(one(statement))
        self._begin(frozenset())
        return tuple(made)

    def _begin(self, serial: frozenset[Scalar]) -> None:
        """Begin a nest, of which a thread runs some loops by itself: where it reads a matrix depends on that."""
        self.serial = serial
        self.memo = {scalar.symbol(("value", self.loop.body.index), dtypes.int64): self.loop.number(self.t)}

    def _of_a_thread(self, statement: Statement) -> int:
        """The iterations of a thread, where threads share the outer loop, and one that is alone in it."""
        if not isinstance(statement, For):
            return 1
        shared, body = self._size(statement.extent), statement.body
        if len(body) == 1 and isinstance(body[0], For):
            shared, body = shared * self._size(body[0].extent), body[0].body
        return -(-shared // THREADS) * sum(self._iterations(s) for s in body)

    def _iterations(self, statement: Statement) -> int:
        if not isinstance(statement, For):
            return 1
        return self._size(statement.extent) * sum(self._iterations(s) for s in statement.body)

    def _product(self, gemm: Gemm) -> tuple[Statement, ...]:
        """A product of matrices as loops."""
        names = iter("bijk")
        batch, i, j, k = (
            scalar.index(next(names), self._size(size)) for size in (gemm.batch, gemm.m, gemm.n, gemm.k)
        )
        total = Register("dot", gemm.out.buffer.dtype)

        def at(matrix: Matrix, row: Scalar, column: Scalar) -> tuple[Buffer, Scalar]:
            size = prod(self._size(d) for d in matrix.buffer.dims)
            place = as_int(matrix.offset) + batch * as_int(matrix.batch_stride)
            place = place + row * as_int(matrix.row_stride) + column * as_int(matrix.column_stride)
            return reshaped(matrix.buffer, (size,)), place

        (a, a_place), (b, b_place), (out, out_place) = at(gemm.a, i, k), at(gemm.b, k, j), at(gemm.out, i, j)
        if gemm.alpha != 1 or gemm.beta != 0:
            raise NotPossible
        term = scalar.load(a, (a_place,)) * scalar.load(b, (b_place,))
        inside: tuple[Statement, ...] = (
            Declare(total, scalar.const(0, total.dtype)),
            For(k, k.param.extent, (Update(total, "add", term),)),
            Store(out, (out_place,), scalar.read(total, frozenset((batch, i, j)))),
        )
        for index in (j, i, batch):
            if index is not batch or index.param.extent != 1:
                inside = (For(index, index.param.extent, inside, LoopKind.PARALLEL),)
        if batch.param.extent == 1:
            inside = tuple(map_values(inside, lambda v: substitute(v, {batch: as_int(0)})))
        return inside

    def _after_step(self) -> list[Statement]:
        """Copies of the next states to where the next step reads them, and of what is kept of every step."""
        loop, body, units = self.loop, self.loop.body, self.outer.units
        made: list[Statement] = []
        row = loop.row(self.t)
        values = {node: self._output(node) for node in (*body.nexts, *body.traced)}
        for k, node in enumerate(body.nexts):
            base = storage(self.inner.units.buffer(node))
            if base in self.states and base is not self.states[k]:  # another state, which is about to change
                kept = self._own(Buffer(f"{base.name}_before", base.dtype, base.dims))
                made += self._copied(node, self._output(node), [(kept, ())])
                values[node] = partial(_at, kept)
        for node in body.traced:
            made += self._copied(node, self._output(node), [(units.buffer(loop.items[TRACE, node]), (row,))])
        for k, node in enumerate(body.nexts):
            history = loop.items.get((HISTORY, k))
            targets: list[Target] = [] if history is None else [(units.buffer(history), (loop.next_row(self.t),))]
            if storage(self.inner.units.buffer(node)) is not self.states[k]:
                targets.append((self._own(self.states[k]), ()))
            if targets:
                made += self._copied(node, values[node], targets)
        return made

    def _output(self, node: Tensor) -> Callable[[Scalar], Scalar]:
        """The elements of an output of the body, by their number."""
        return lambda index: self._value(_at(self.inner.units.buffer(node), index))

    def _copied(self, node: Tensor, value: Callable[[Scalar], Scalar], targets: Sequence[Target]) -> list[Statement]:
        """Copies of an array of this shape to several places."""
        size = prod(self._shape(node))
        index = scalar.index("i", size)
        stores = tuple(
            Store(reshaped(target, (*target.dims[: len(row)], size)), (*row, index), value(index))
            for target, row in targets
        )
        return [For(index, size, stores, LoopKind.PARALLEL)]


def _inner_loops(statement: Statement) -> frozenset[Scalar]:
    """The indices of the loops that a thread runs by itself."""
    if not isinstance(statement, For):
        return frozenset()
    body = statement.body
    if len(body) == 1 and isinstance(body[0], For):
        body = body[0].body
    return frozenset(s.index for s in statements(body) if isinstance(s, For))


def _at(buffer: Buffer, index: Scalar) -> Scalar:
    """An element of an array, by its number."""
    return scalar.load(reshaped(buffer, (product(buffer.dims),)), (index,))
