"""The steps of a program, carried out for known sizes: each becomes actions on places in memory.

``Walk`` follows the program's control flow; its subclasses say where memory comes from, what becomes of the actions,
and how a value that lies in memory is known: ``recording.Recorder`` collects the actions, ``direct.Direct`` does them.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.cuda.calls.actions import (
    FIRST_BASE,
    Action,
    CopyAction,
    KernelAction,
    Operand,
    Place,
    ProductAction,
)
from symtensor_codegen.cuda.calls.reporting import ProgramFailure
from symtensor_codegen.cuda.calls.sizes import Sizes
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.finish import storage
from symtensor_codegen.program import (
    Allocate,
    AllocateOutput,
    Branch,
    Copy,
    Gemm,
    Guard,
    Launch,
    Loop,
    Matrix,
    Program,
    Read,
    Reserve,
    Row,
    Step,
    walk,
)
from symtensor_codegen.program import Place as PlaceStep
from symtensor_codegen.scalar import Buffer, Scalar

if TYPE_CHECKING:
    from symtensor_codegen.cuda.compiling.kernels import DeviceKernel, Variant
    from symtensor_codegen.cuda.device import Block, Device
    from symtensor_codegen.cuda.matmul.fusion import Finish

ALIGNMENT: Final = 256
INTACT: Final = 0x7F7F7F7F  # the status while nothing has failed
_MOST_PRODUCTS: Final = 256  # that are kept ready
LAST_FAILURE: Final = 0x7F000000  # failures are numbered up to here

Multiply = Callable[[int, int, int], object]
Products = Callable[["Product"], Multiply]


def aligned(size: int) -> int:
    """A number of bytes, rounded up so that what follows is aligned."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Product:
    """The sizes of ``out = alpha * a @ b + beta * out``, batch by batch.

    Strides are in elements: of rows, of columns, of the matrices of a batch. One of an operand's row and column strides
    is 1, and the column stride of out. ``k`` may be 0.
    """

    dtype: DType
    m: int
    n: int
    k: int
    batch: int
    out: tuple[int, int, int]
    a: tuple[int, int, int]
    b: tuple[int, int, int]
    alpha: float
    beta: float


class Result(NamedTuple):
    """A result that is not written in place: the base of its memory, the cell it is for (None: returned), its type."""

    base: int
    cell: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Results:
    """The results of a call that are not written in place, ready for what follows it.

    ``returned`` and ``updates`` are positions among all, ``cells`` those of the cells to update.
    """

    __slots__ = ("all", "cells", "returned", "types", "updates")

    def __init__(self, results: Sequence[Result]) -> None:
        self.all = tuple(results)
        self.types = [(r.shape, r.dtype) for r in results]
        self.returned = [k for k, r in enumerate(results) if r.cell is None]
        self.updates = [k for k, r in enumerate(results) if r.cell is not None]
        self.cells = [r.cell for r in results if r.cell is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A program on a device, and what every call needs to know of it.

    ``block`` holds its status word, at the address ``status``. ``changing``: the symbols whose value changes during
    a call.
    """

    program: Program
    device: "Device"
    kernels: Mapping[Launch, "DeviceKernel"]
    products: Products
    block: "Block"
    status: int
    changing: frozenset[Scalar]
    kept: frozenset[int]  # bases of the cells that are written in place
    word: np.ndarray[Any, Any]  # for the status, on the host
    counts: frozenset[Buffer]  # which only ever hold the number of steps that a loop ran
    ready: dict[Product, Multiply]
    finishes: "Mapping[Step, Finish]"  # products and launches that can be one, by both steps

    @classmethod
    def of(
        cls,
        program: Program,
        device: "Device",
        kernels: Mapping["Variant", "DeviceKernel"],
        products: Products,
        block: "Block",
    ) -> "Prepared":
        """What a program needs for calls."""
        from symtensor_codegen.cuda.compiling.kernels import Variant

        steps = list(walk(program.steps))
        changing = [step.index for step in steps if isinstance(step, Loop)]
        changing += [step.symbol for step in steps if isinstance(step, Read)]
        cells = FIRST_BASE + len(program.inputs)
        kept = [cells + o.cell for o in program.outputs if o.in_place and o.cell is not None]
        launches = {step: kernels[Variant.of(step)] for step in steps if isinstance(step, Launch)}
        finishes: Mapping[Step, Finish] = {}
        if hasattr(products, "finished"):
            from symtensor_codegen.cuda.matmul.fusion import finishes_of

            finishes = finishes_of(program)
        return cls(
            program, device, launches, products, block, block.address, frozenset(changing), frozenset(kept),
            np.empty((), np.int32), counts_of(steps), {}, finishes,
        )  # fmt: skip

    def product(self, product: Product) -> Multiply:
        """What multiplies matrices of these sizes."""
        found = self.ready.get(product)
        if found is None:
            if len(self.ready) >= _MOST_PRODUCTS:
                self.ready.clear()
            found = self.ready[product] = self.products(product)
        return found

    @property
    def first_output(self) -> int:
        """The base of the first result."""
        return FIRST_BASE + len(self.program.inputs) + len(self.program.cells)


class Walk:
    """One pass through the steps of a program whose arguments have these shapes."""

    def __init__(self, prepared: Prepared, shapes: Sequence[tuple[int, ...]]) -> None:
        self.prepared = prepared
        program = prepared.program
        self.sizes = Sizes(program.name, prepared.changing)
        self.places: dict[Buffer, Place] = {}
        self.arena = Place(0, 0, 0)
        self.first = 0  # number of the next failure
        self.failures: list[tuple[int, tuple[object, ...]]] = []  # first numbers, and the messages from there on
        self._counted: dict[Buffer, int] = {}
        self._undo: list[tuple[Scalar, int | None]] = []
        for position, (buffer, shape) in enumerate(zip((*program.inputs, *program.cells), shapes, strict=True)):
            size = math.prod(shape) * buffer.dtype.itemsize
            self.places[buffer] = Place(FIRST_BASE + position, 0, size)
            for symbol, actual in zip(buffer.dims, shape, strict=True):
                if isinstance(symbol, Scalar):
                    self.sizes.set(symbol, actual)

    # What subclasses do -------------------------------------------------------------------------------------------

    def do(self, action: Action, step: Step) -> None:
        """Take note of an action, or run it."""
        raise NotImplementedError

    def allocate(self, size: int) -> Place:
        """Memory until the call ends, or the loop's step or branch that is running."""
        raise NotImplementedError

    def output(self, position: int, buffer: Buffer) -> Place:
        """The memory of a result."""
        raise NotImplementedError

    def value(self, place: Place, dtype: DType) -> Any:
        """The value of the one element that is there now."""
        raise NotImplementedError

    def put(self, number: int, place: Place) -> None:
        """Write an int64."""
        raise NotImplementedError

    def check(self) -> None:
        """Go on only if nothing has failed so far."""
        raise NotImplementedError

    def mark(self) -> int:
        """How much memory is allocated now."""
        raise NotImplementedError

    def release(self, mark: int) -> None:
        """Give back what has been allocated since."""
        raise NotImplementedError

    # Steps --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All steps."""
        self.block(self.prepared.program.steps)

    def block(self, steps: Sequence[Step]) -> None:
        """Steps in order."""
        for step in steps:
            _STEPS[type(step)](self, step)

    def nested(self, steps: tuple[Step, ...]) -> None:
        """Steps in a loop or branch: what they allocate and read is gone afterwards."""
        undo, mark = len(self._undo), self.mark()
        self.block(steps)
        while len(self._undo) > undo:
            self.sizes.set(*self._undo.pop())
        self.release(mark)

    def place(self, buffer: Buffer) -> Place:
        """Where a buffer is now."""
        found = self.places.get(storage(buffer))
        if found is None:
            raise InternalError(f"{self.prepared.program.name}: {buffer.name} has no memory here")
        return found

    def bytes_of(self, buffer: Buffer) -> int:
        """The size of a buffer in bytes; not in int64, so it cannot wrap around."""
        return max(math.prod(self.sizes.shape(buffer.dims)), 0) * buffer.dtype.itemsize

    def _guard(self, step: Guard) -> None:
        if not self.sizes(step.condition):
            raise ProgramFailure(step.message, self.sizes.shape(step.values))

    def _reserve(self, step: Reserve) -> None:
        self.arena = self.allocate(max(self.sizes(step.size), 0))

    def _put_in_place(self, step: PlaceStep) -> None:
        offset, size = self.sizes(step.offset), self.bytes_of(step.buffer)
        if offset < 0 or offset + size > self.arena.size:  # sizes in int64 wrapped around
            raise DeviceMemoryError(f"{step.buffer.name} would take {size:,} bytes")
        self.places[storage(step.buffer)] = Place(self.arena.base, self.arena.offset + offset, size)

    def _allocate_buffer(self, step: Allocate) -> None:
        self.places[storage(step.buffer)] = self.allocate(self.bytes_of(step.buffer))

    def _allocate_output(self, step: AllocateOutput) -> None:
        self.places[storage(step.buffer)] = self.output(step.position, step.buffer)

    def _read(self, step: Read) -> None:
        count = self._counted.get(storage(step.buffer))
        value = int(self.value(self.place(step.buffer), step.buffer.dtype)) if count is None else count
        self._undo.append((step.symbol, self.sizes.set(step.symbol, value)))

    def _copy(self, step: Copy) -> None:
        target, source = self.place(step.target), self.place(step.source)
        size = min(target.size, source.size)
        if size == 0 or target == source:
            return
        self._commit((target,))
        self.do(CopyAction(target._replace(size=size), source._replace(size=size)), step)

    def _launch(self, step: Launch) -> None:
        prepared = self.prepared
        parameters = self.sizes.shape(step.parameters)
        kernel = prepared.kernels[step].fitting(parameters, prepared.device)
        stages = kernel.stages(parameters, prepared.device.multiprocessors)
        first = self.first
        if step.messages:
            if first > LAST_FAILURE - len(step.messages):
                self.check()
                first = self.first = 0
                self.failures.clear()
            self.failures.append((first, step.messages))
            self.first += len(step.messages)
        if not stages:
            return
        places = tuple([self.place(b) for b in step.buffers])
        writes = tuple([p for p, written in zip(places, kernel.written, strict=True) if written])
        reads = tuple([p for p, written in zip(places, kernel.written, strict=True) if not written])
        gated = first > 0 and any(p.base in prepared.kept for p in writes)
        if kernel.schedule.spreads:  # what blocks leave for each other, until the launch has ended
            scratch = self.allocate(kernel.schedule.scratch(parameters, prepared.device.multiprocessors))
            places, writes = (*places, scratch), (*writes, scratch)
        rest = struct.pack(f"{len(parameters)}qQi", *parameters, prepared.status, -1 - first if gated else first)
        self.do(KernelAction(stages, places, rest, reads, writes, bool(step.messages), gated), step)

    def _gemm(self, step: Gemm) -> None:
        m, n, k, batch = self.sizes.shape((step.m, step.n, step.k, step.batch))
        if m <= 0 or n <= 0 or batch <= 0:
            return
        out, a, b = (
            self._operand(matrix, rows, columns, batch)
            for matrix, rows, columns in ((step.out, m, n), (step.a, m, k), (step.b, k, n))
        )
        self._commit((out.place,))
        product = Product(
            step.out.buffer.dtype, m, n, k, batch, out[1:], a[1:], b[1:], step.alpha, step.beta
        )  # fmt: skip
        self.multiply(product, out, a, b, step)

    def multiply(self, product: Product, out: Operand, a: Operand, b: Operand, step: Gemm) -> None:
        """Multiply matrices of these sizes."""
        self.do(ProductAction(out, a, b, self.prepared.product(product)), step)

    def _operand(self, matrix: Matrix, rows: int, columns: int, batch: int) -> Operand:
        """A matrix with its first element's place, which is as large as everything between first and last."""
        whole, itemsize = self.place(matrix.buffer), matrix.buffer.dtype.itemsize
        offset, *strides = self.sizes.shape(
            (matrix.offset, matrix.row_stride, matrix.column_stride, matrix.batch_stride)
        )
        counts = (rows, columns, batch)
        last = sum(stride * (count - 1) for stride, count in zip(strides, counts, strict=True))
        size = (last + 1) * itemsize if min(counts) > 0 else 0
        start = offset * itemsize
        if size and (min(strides) < 0 or start < 0 or start + size > whole.size):
            raise InternalError(f"{self.prepared.program.name}: a matrix reaches out of {matrix.buffer.name}")
        return Operand(Place(whole.base, whole.offset + start, size), *strides)

    def _row(self, row: Row) -> None:
        whole, size, position = self.place(row.source), self.bytes_of(row.buffer), self.sizes(row.position)
        if not 0 <= position * size <= whole.size - size:
            raise InternalError(f"{self.prepared.program.name}: {row.source.name} has no row number {position}")
        self.places[storage(row.buffer)] = Place(whole.base, whole.offset + position * size, size)

    def _loop(self, loop: Loop) -> None:
        number, count, places = 0, self.sizes(loop.count), self.places
        swaps = [[storage(b) for b in buffers] for buffers in loop.swaps]
        before = self.sizes.set(loop.index, None)
        while number < count:
            self.sizes.set(loop.index, number)
            for row in loop.rows:
                self._row(row)
            self.nested(loop.steps)
            number += 1
            ended = loop.until is not None and bool(self.value(self.place(loop.until), dtypes.bool_))
            for buffers in swaps:
                memory = [places[b] for b in buffers]
                places.update(zip(buffers, [*memory[1:], memory[0]], strict=True))
            if ended:
                break
        self.sizes.set(loop.index, before)
        if loop.executed is not None:
            target = self.place(loop.executed)
            self._commit((target,))
            self.put(number, target)
            if storage(loop.executed) in self.prepared.counts:
                self._counted[storage(loop.executed)] = number

    def _branch(self, step: Branch) -> None:
        condition = step.condition
        if isinstance(condition, Scalar):
            held = bool(self.sizes(condition))
        else:
            held = bool(self.value(self.place(condition), condition.dtype))
        self.nested(step.then if held else step.otherwise)

    def _commit(self, writes: Sequence[Place]) -> None:
        """Before something that cannot be gated writes into a shared variable: make sure that nothing failed."""
        if self.first and any(p.base in self.prepared.kept for p in writes):
            self.check()

    # The end ------------------------------------------------------------------------------------------------------

    def results(self) -> Results:
        """Where the results are that are not written in place: each fills a block of its own."""
        program, own = self.prepared.program, self.prepared.first_output
        found: dict[int, int] = {}
        fresh = [(n, o) for n, o in enumerate(program.outputs) if not o.in_place]
        for n, output in fresh:
            place = self.place(output.buffer)
            if place.base >= own and place.offset == 0 and place.base not in found.values():
                found[n] = place.base
        for n, output in fresh:
            if n not in found:  # after an exchange of memory in a loop
                place = self.place(output.buffer)
                free = [m for m, _ in fresh if own + m not in found.values()]
                target = self.output(n if n in free else free[0], output.buffer)
                found[n] = target.base
                if place.size:
                    self.do(CopyAction(target, place), Copy(output.buffer, output.buffer))
        return Results([
            Result(found[n], o.cell, self.sizes.shape(o.buffer.dims), o.buffer.dtype.numpy) for n, o in fresh
        ])  # fmt: skip


def failure(failures: Sequence[tuple[int, tuple[object, ...]]], status: int) -> ProgramFailure:
    """The failure that a status tells of; ``failures`` are the first numbers of launches, and their messages."""
    first, messages = next(found for found in reversed(failures) if found[0] <= status)
    return ProgramFailure(messages[status - first])


def counts_of(steps: Sequence[Step]) -> frozenset[Buffer]:
    """The buffers that only ever hold the number of steps that a loop ran, so that nobody need look at them."""
    counts = {storage(step.executed) for step in steps if isinstance(step, Loop) and step.executed is not None}
    for step in steps:
        match step:
            case Launch(kernel=kernel, buffers=buffers):
                used = zip(kernel.buffers, buffers, strict=True)
                counts -= {storage(actual) for formal, actual in used if formal in kernel.written}
            case Copy(target=target):
                counts.discard(storage(target))
            case Row(buffer=buffer, source=source):
                counts -= {storage(buffer), storage(source)}
            case Loop(rows=rows, swaps=swaps):
                counts -= {storage(b) for swap in swaps for b in swap}
                counts -= {storage(b) for row in rows for b in (row.buffer, row.source)}
            case _:
                pass
    return frozenset(counts)


def refuse_nested(program: Program) -> None:
    """Refuse steps that only the whole call may have in loops and branches."""
    for step in walk(program.steps):
        nested: tuple[Step, ...] = ()
        if isinstance(step, Loop):
            nested = step.steps
        elif isinstance(step, Branch):
            nested = (*step.then, *step.otherwise)
        for each in nested:
            if isinstance(each, (Reserve, PlaceStep, AllocateOutput)):
                raise InternalError(f"{program.name}: {type(each).__name__} in a loop or branch")


_STEPS: Final[Mapping[type, Callable[[Any, Any], None]]] = {
    Guard: Walk._guard, Reserve: Walk._reserve, PlaceStep: Walk._put_in_place, Allocate: Walk._allocate_buffer,
    AllocateOutput: Walk._allocate_output, Read: Walk._read, Launch: Walk._launch, Gemm: Walk._gemm, Copy: Walk._copy,
    Row: Walk._row, Loop: Walk._loop, Branch: Walk._branch,
}  # fmt: skip
