"""Memory and order: kernels and library calls become the steps of a host program.

Everything that can fail comes before anything that changes a shared variable. An update is written into the
variable's own memory when the kernel that computes it reads the old value only at the same index and nothing
after it reads the old value; otherwise it gets new memory, and the variable is switched to it when the call ends.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from symtensor_codegen import scalar
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import Finished, finish, storage
from symtensor_codegen.loops import Check, For, Statement, Store, scalars, statements, values_of
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
    Output,
    Place,
    Program,
    Read,
    Reserve,
    Row,
    Step,
)
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_dim, as_int, checked_op, load_op, symbol_op
from symtensor_codegen.substitution import product

from ..graph import Constant, Tensor
from ..ops.branch_records import BRANCH
from ..ops.loop_records import LOOP
from .branches import lower_branch
from .kernels import Builder, Group, group
from .loops import lower_loop
from .reductions import CHUNK
from .sizes import SizeMessage, find_sizes, scalar_symbols
from .units import Unit, Units, computed, is_leaf

GRAIN = 1 << 15  # innermost iterations worth waking a thread for
ALIGNMENT = 64
BLAS_LARGEST = 2**31 - 1  # it counts in 32 bits
TOO_LARGE = "a product of {0} x {2} by {2} x {1} is too large: BLAS takes at most 2147483647 rows and columns"


S = TypeVar("S", bound=Step)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A tensor to compute: returned (``cell`` None), or the next value of shared variable number ``cell``."""

    node: Tensor
    cell: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A program, the constant arrays it reads as cells after the shared variables, and its units for reports.

    ``special``: hints about the sizes of inputs may make some of its loops faster; ``fast``: hints did.
    """

    program: Program
    constants: tuple[Constant, ...]
    units: Units
    special: bool = False
    fast: bool = False


@dataclass(eq=False, slots=True)
class Work:
    """One kernel or library call, with what it reads and writes."""

    step: Launch | Gemm | Loop | Branch
    reads: set[Buffer]
    writes: list[Unit]
    written: list[Buffer]
    body: tuple[Statement, ...] = ()
    can_fail: bool = False
    waits: tuple[Unit, ...] = ()
    copies: Buffer | None = None  # what the output must hold before the kernel runs
    results: tuple[Tensor, ...] = ()  # of a loop
    scratch: tuple[Buffer, ...] = ()  # memory that only this work uses
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()


def plan(
    name: str,
    inputs: Sequence[Tensor],
    cells: Sequence[Tensor],
    results: Sequence[Result],
    hints: Mapping[Scalar, int] | None = None,
    device: bool = False,
) -> Plan:
    """The program that computes ``results`` from input and shared variables.

    ``hints`` are sizes of variables that are likely: loops are made faster for them, and run as ever for others.
    ``device``: for a device, where many threads share a loop.
    """
    return Planner(name, inputs, cells, results, hints=hints, device=device).run()


class Planner:
    """Plans a program, or with ``step`` (the variable of the number of the step) the body of a loop.

    ``known`` says the sizes of a body's variables in terms of those outside; ``kept`` are the cells whose memory an
    update must not be written into.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tensor],
        cells: Sequence[Tensor],
        results: Sequence[Result],
        known: Mapping[Scalar, Scalar] | None = None,
        step: Tensor | None = None,
        kept: frozenset[int] = frozenset(),
        hints: Mapping[Scalar, int] | None = None,
        device: bool = False,
    ) -> None:
        self.name = name
        self.device = device
        self.hints = hints or {}
        self.special = False  # whether hints about more sizes may allow faster loops
        self.fast = False  # whether hints allowed faster loops
        self.results = results
        self.kept = kept
        outputs = list(dict.fromkeys(r.node for r in results))
        order = computed(outputs)
        self.sizes = find_sizes(order, known, step is not None)
        self.units = units = Units(outputs, order, self.sizes, step)
        for node in (*inputs, *cells, *outputs):
            units.buffer(node)
        constants = [n for n in order if isinstance(n, Constant) and n in units.buffers]
        self.inputs, self.cells, self.constants = inputs, cells, constants
        self.messages: list[object] = []
        self.targets = {r.node: units.leaves[cells[r.cell]] for r in results if r.cell is not None}

    def run(self) -> Plan:
        """The program."""
        owners, outputs, first, last = self.prepare()
        steps = self._steps(owners, first, last)
        leaf = self.units.leaves
        program = Program(
            self.name,
            tuple(leaf[n] for n in self.inputs),
            tuple(leaf[n] for n in (*self.cells, *self.constants)),
            tuple(outputs),
            tuple(steps),
            tuple(dict.fromkeys(self.messages)),
        )
        return Plan(program, tuple(self.constants), self.units, self.special, self.fast)

    def prepare(self) -> tuple[dict[Buffer, int], list[Output], list[Copy], list[Copy]]:
        """Find the works, and where their results go."""
        made = [self._work(g, number) for number, g in enumerate(group(self.units))]
        self.works = self._updates_last(made)
        home = {unit: position for position, work in enumerate(self.works) for unit in work.writes}
        return self._outputs(self.works, home)

    # Kernels ----------------------------------------------------------------------------------------------------

    def _work(self, made: Group, number: int) -> Work:
        first = made.units[0]
        if first.operands:
            return self._gemm(first)
        if first.node.op is LOOP:
            return lower_loop(first, self)
        if first.node.op is BRANCH:
            return lower_branch(first, self)
        body = Builder(made, self.units, self.targets).build()
        writes = [u for u in made.units if u.stored]
        nodes = scalars(body)
        failures = tuple(dict.fromkeys(
            [n.param for n in nodes if n.op is checked_op]
            + [s.message for s in statements(body) if isinstance(s, Check)]
        ))  # fmt: skip
        inside = f"{re.sub('[^A-Za-z0-9]+', '_', self.name)}_" if self.units.step is not None else ""
        done = finish(inside + _kernel_name(made, number), body, failures, _note(made), self.sizes.known)
        reads = {storage(n.param) for n in nodes if n.op is load_op}
        work = Work(self.launch(done), reads, writes, [u.buffer for u in writes], body, bool(failures))
        work.waits = tuple(w for u in made.units for w in u.waits)
        if first.node.op.overwrites and first.node.inputs[0] in self.units.buffers:
            source = storage(self.units.buffer(first.node.inputs[0]))
            work.copies = source
            work.reads.add(source)
        return work

    def launch(self, done: Finished) -> Launch:
        """The step that runs a finished kernel."""
        body = done.kernel.body
        total: Dim = done.extent
        loop = done.kernel.parallel_loop
        inner: Dim = 1
        if loop is not None:
            inner = _work_of(loop.body, done.parameters)
            chunked = _chunked_work(loop, done.parameters)
            total = product((done.extent, inner)) if chunked is None else chunked
        elif body:
            total = _work_of(body, done.parameters)
        weight = max(1, len(scalars(body)) // 8)
        grain = scalar.maximum(as_int(GRAIN // weight) // scalar.maximum(as_int(inner), as_int(1)), as_int(1))
        traffic: Dim = 0
        for buffer in done.buffers:
            traffic = as_dim(as_int(traffic) + as_int(product((*buffer.dims, buffer.dtype.itemsize))))
        return Launch(
            done.kernel, done.buffers, done.parameters, done.extent, as_dim(grain), done.kernel.failures, total, traffic
        )

    def _gemm(self, unit: Unit) -> Work:
        a, b = unit.operands
        dims = unit.dims
        batch: Dim = dims[0] if len(dims) == 3 else 1
        m, n = dims[-2], dims[-1]
        k = self.units.sizes.of(unit.node.inputs[0].dims[-1])
        out = Matrix(unit.buffer, 0, n, 1, product((m, n)) if len(dims) == 3 else 0)
        largest = as_int(1)
        for size in (m, n, k, a.row_stride, a.column_stride, b.row_stride, b.column_stride):
            largest = scalar.maximum(largest, as_int(size))
        message = SizeMessage(unit.node, unit.node.inputs, text=TOO_LARGE)
        self.sizes.guards.append(Guard(largest <= BLAS_LARGEST, message, (m, n, k)))
        reads = {storage(a.buffer), storage(b.buffer)}
        return Work(Gemm(out, a, b, m, n, k, batch), reads, [unit], [unit.buffer])

    def _updates_last(self, works: list[Work]) -> list[Work]:
        """Move kernels that only compute updates after everything else: in place is then possible more often."""
        updated = {r.node for r in self.results if r.cell is not None}
        read: set[Buffer] = set()
        for work in works:
            read |= {b for b in work.reads if not any(b is own for own in work.written)}
        waited = {u for work in works for u in work.waits}

        def only_updates(work: Work) -> bool:
            return bool(work.writes) and all(
                u.node in updated and u.buffer not in read and u not in waited for u in work.writes
            )

        return [w for w in works if not only_updates(w)] + [w for w in works if only_updates(w)]

    # Results ----------------------------------------------------------------------------------------------------

    def _outputs(
        self, works: list[Work], home: dict[Unit, int]
    ) -> tuple[dict[Buffer, int], list[Output], list[Copy], list[Copy]]:
        """The memory of each result, and the copies made before and after everything else."""
        units = self.units
        owners: dict[Buffer, int] = {}  # storage -> the output whose array it is
        in_place: dict[Buffer, Buffer] = {}
        outputs: list[Output] = []
        first: list[Copy] = []
        last: list[Copy] = []
        order = sorted(range(len(self.results)), key=lambda k: self.results[k].cell is None)
        made: dict[int, Output] = {}
        for position in order:
            result = self.results[position]
            node = result.node
            buffer = units.buffer(node)
            base = storage(buffer)
            unit = units.by_buffer.get(base)
            if result.cell is not None and unit is not None and base not in owners and base not in in_place:
                cell = units.leaves.get(self.cells[result.cell])
                if cell is not None and self._fits(unit, node, cell, self.cells[result.cell], works, home):
                    in_place[base] = cell
                    made[position] = Output(cell, result.cell, True)
                    for work in works[home[unit] :]:
                        self._move(work, base, cell)
                    continue
            if unit is None or base in owners or base in in_place:
                fresh = Buffer(f"{buffer.name}_copy", buffer.dtype, buffer.dims)
                source = in_place.get(base, base)
                (first if unit is None else last).append(Copy(fresh, source))
                owners[fresh] = position
                made[position] = Output(fresh, result.cell)
                continue
            owners[base] = position
            made[position] = Output(buffer, result.cell)
        outputs = [made[position] for position in range(len(self.results))]
        return owners, outputs, first, last

    def _fits(
        self, unit: Unit, node: Tensor, cell: Buffer, variable: Tensor, works: list[Work], home: dict[Unit, int]
    ) -> bool:
        """Whether an update may be written into the memory of the shared variable it is for."""
        position = home[unit]
        work = works[position]
        if unit.node is not node or unit.value is None or work.can_fail:
            return False
        if variable in self.cells and self.cells.index(variable) in self.kept:
            return False
        if self.sizes.shape(variable) != unit.dims or unit.buffer in work.reads:
            return False
        if cell.dtype.is_complex and cell in work.reads:
            return False  # a complex store is two: the second would read what the first has written
        if any(cell in w.reads or w.can_fail or w.waits for w in works[position + 1 :]):
            return False
        return _reads_before_store(work.body, unit, cell)

    def _move(self, work: Work, old: Buffer, new: Buffer) -> None:
        """Make a work use other memory for a buffer."""
        work.step = _moved(work.step, old, new)
        work.before = tuple(_moved(step, old, new) for step in work.before)
        if old in work.reads:
            work.reads = work.reads - {old} | {new}
        if work.copies is old:
            work.copies = new

    # Steps ------------------------------------------------------------------------------------------------------

    def _steps(self, owners: dict[Buffer, int], first: list[Copy], last: list[Copy]) -> list[Step]:
        steps: list[Step] = []
        flow = _Flow(self, steps)
        for node in self.units.values:
            if is_leaf(node):
                flow.learn(node)
        flow.guard()
        temporaries = self.temporaries(owners)
        fixed = [b for b in temporaries if flow.is_known(b)]
        slots, slot_of = self.slots(fixed, temporaries)
        steps.extend(_reserve(slots, slot_of))
        flow.placed.update(fixed)
        outputs = {base: self._output_buffer(base, position) for base, position in owners.items()}

        def allocate(base: Buffer) -> None:
            if base not in flow.placed:
                flow.placed.add(base)
                steps.append(AllocateOutput(outputs[base], owners[base]) if base in owners else Allocate(base))

        for base, buffer in outputs.items():
            if flow.is_known(buffer):
                allocate(base)
        flow.run(first, last, {*owners, *temporaries}, allocate)
        return steps

    def steps_inside(
        self,
        bound: set[Buffer],
        first: list[Copy],
        last: list[Copy],
        temporaries: Iterable[Buffer],
        late: Mapping[Buffer, Row],
    ) -> list[Step]:
        """The steps of a loop's body, where the buffers in ``bound`` have their memory from outside.

        Those in ``late`` get theirs once their sizes, which the body computes, are known and have been checked.
        """
        steps: list[Step] = []
        flow = _Flow(self, steps)
        flow.placed.update(bound)
        for node in self.units.values:
            if is_leaf(node):
                flow.learn(node)
        flow.guard()

        def allocate(base: Buffer) -> None:
            if base not in flow.placed:
                flow.placed.add(base)
                steps.append(late.get(base) or Allocate(base))

        flow.run(first, last, {*bound, *late, *temporaries}, allocate)
        return steps

    def _output_buffer(self, base: Buffer, position: int) -> Buffer:
        buffer = self.units.buffer(self.results[position].node)
        return buffer if storage(buffer) is base else base

    def temporaries(self, owners: Container[Buffer]) -> dict[Buffer, tuple[int, int]]:
        """Buffers that live inside one call, with the first and last work that touches them."""
        lives: dict[Buffer, tuple[int, int]] = {}
        for position, work in enumerate(self.works):
            used = set(work.written)
            if isinstance(work.step, Launch) and not work.before:
                used = {storage(b) for b in work.step.buffers}
            for buffer in work.written:
                if buffer not in owners and buffer in used:
                    lives[buffer] = (position, position)
            for buffer in work.scratch:
                lives[buffer] = (position, position)
            for buffer in work.reads:
                if buffer in lives:
                    lives[buffer] = (lives[buffer][0], position)
        return lives

    def slots(
        self, fixed: list[Buffer], lives: Mapping[Buffer, tuple[int, int]]
    ) -> tuple[list[Dim], dict[Buffer, int]]:
        """Sizes of memory, and which of it each buffer has: one may follow another of its size that lived earlier."""
        free: dict[Dim, list[tuple[int, int]]] = {}  # size -> (last use, slot)
        slots: list[Dim] = []
        slot_of: dict[Buffer, int] = {}
        for buffer in sorted(fixed, key=lambda b: lives[b][0]):
            size = product((*buffer.dims, buffer.dtype.itemsize))
            reusable = free.setdefault(size, [])
            begin, end = lives[buffer]
            found = next((entry for entry in reusable if entry[0] < begin), None)
            if found is None:
                slots.append(size)
                slot = len(slots) - 1
            else:
                reusable.remove(found)
                slot = found[1]
            reusable.append((end, slot))
            slot_of[buffer] = slot
        return slots, slot_of


def _moved(step: S, old: Buffer, new: Buffer) -> S:
    """A step with other memory for a buffer."""
    if isinstance(step, Launch):
        return replace(step, buffers=tuple(new if storage(b) is old else b for b in step.buffers))
    if isinstance(step, Gemm):
        a, b = (replace(m, buffer=new) if storage(m.buffer) is old else m for m in (step.a, step.b))
        return replace(step, a=a, b=b)
    if isinstance(step, (Row, Copy)) and storage(step.source) is old:
        return replace(step, source=new)
    if isinstance(step, Loop):
        return replace(step, rows=tuple(_moved(r, old, new) for r in step.rows), steps=_all_moved(step.steps, old, new))
    if isinstance(step, Branch):
        condition = step.condition
        if isinstance(condition, Buffer) and storage(condition) is old:
            condition = new
        then, otherwise = (_all_moved(steps, old, new) for steps in (step.then, step.otherwise))
        return replace(step, condition=condition, then=then, otherwise=otherwise)
    return step


def _all_moved(steps: tuple[Step, ...], old: Buffer, new: Buffer) -> tuple[Step, ...]:
    return tuple(_moved(step, old, new) for step in steps)


class _Flow:
    """The steps of a program or body in the making: what is known and what has memory so far."""

    def __init__(self, planner: Planner, steps: list[Step]) -> None:
        self.planner, self.steps = planner, steps
        self.reads_of = {n: scalar.symbol(("value", n)) for n in planner.units.values}
        self.unknown = set(self.reads_of.values())
        self.pending = list(planner.sizes.guards)
        self.placed: set[Buffer] = set()

    def knows(self, size: Dim) -> bool:
        """Whether a size is known by now."""
        return not any(s in self.unknown for s in scalar_symbols(size))

    def is_known(self, buffer: Buffer) -> bool:
        """Whether the sizes of a buffer are known by now."""
        return all(self.knows(d) for d in buffer.dims)

    def learn(self, node: Tensor) -> None:
        """Read the value of a 0-d tensor that sizes depend on."""
        symbol = self.reads_of[node]
        if symbol in self.planner.sizes.outside:  # inside a loop, of what is known outside
            self.unknown.discard(symbol)
            return
        self.steps.append(Read(symbol, storage(self.planner.units.buffer(node))))
        self.unknown.discard(symbol)

    def guard(self) -> None:
        """Check what can be checked by now."""
        planner = self.planner
        for item in list(self.pending):
            if self.knows(as_dim(item.condition)):
                self.pending.remove(item)
                planner.messages.append(item.message)
                told = [planner.sizes.before(v) for v in item.values]
                values = [b if self.knows(b) else planner.sizes.of(v) for b, v in zip(told, item.values, strict=True)]
                self.steps.append(Guard(item.condition, item.message, tuple(values)))

    def run(
        self, first: list[Copy], last: list[Copy], owned: set[Buffer], allocate: Callable[[Buffer], None]
    ) -> None:
        """Every work in order; ``allocate`` gives memory to those buffers of ``owned`` that have none."""
        planner, steps, units = self.planner, self.steps, self.planner.units
        waiting = list(first)  # copies of inputs, made as soon as their sizes are known

        def copy_inputs() -> None:
            for copy in list(waiting):
                if self.is_known(copy.target):
                    waiting.remove(copy)
                    allocate(copy.target)
                    steps.append(copy)

        copy_inputs()
        for work in planner.works:
            for base in (*work.written, *work.scratch):
                if base in owned:
                    allocate(base)
            if work.copies is not None:
                steps.append(Copy(work.writes[0].buffer, work.copies))
            if isinstance(work.step, Launch):
                planner.messages.extend(work.step.messages)
            steps.extend((*work.before, work.step, *work.after))
            nodes = [u.node for u in work.writes if u.buffer is units.buffer(u.node)]
            for node in (*nodes, *work.results):
                if node in self.reads_of:
                    self.learn(node)
                    self.guard()
                    copy_inputs()
        for copy in last:
            allocate(copy.target)
            steps.append(copy)


def _reserve(slots: Sequence[Dim], slot_of: Mapping[Buffer, int]) -> list[Step]:
    """One block of memory with a place for every slot."""
    offsets: list[Dim] = []
    total: Dim = 0
    for size in slots:
        offsets.append(total)
        rounded = (as_int(size) + (ALIGNMENT - 1)) // ALIGNMENT * ALIGNMENT
        total = as_dim(as_int(total) + rounded)
    if not slots:
        return []
    return [Reserve(total), *(Place(buffer, offsets[slot]) for buffer, slot in slot_of.items())]


def _reads_before_store(body: tuple[Statement, ...], unit: Unit, cell: Buffer) -> bool:
    """Whether a body reads ``cell`` only at the store's own index, and never after the store."""
    stored = False
    for statement in statements(body):
        if isinstance(statement, For):
            continue
        for value in values_of(statement):
            for node in _loads(value):
                if storage(node.param) is cell and (stored or node.args != unit.indices):
                    return False
        if isinstance(statement, Store) and statement.buffer is unit.buffer:
            stored = True
    return True


def _loads(value: Scalar) -> list[Scalar]:
    return [n for n in topological([value], lambda n: n.args) if n.op is load_op]


def _work_of(body: tuple[Statement, ...], parameters: Sequence[Dim]) -> Dim:
    """The innermost iterations of a finished body (of its largest nest, an estimate), in terms of launch values."""
    most: Dim = 1
    for statement in body:
        if isinstance(statement, For):
            extent: Dim = statement.extent
            if isinstance(extent, Scalar):
                token = extent.param
                extent = parameters[token[1]] if isinstance(token, tuple) and token[0] == "parameter" else CHUNK
            here = product((extent, _work_of(statement.body, parameters)))
            if most == 1:
                most = here
            elif here != most:
                most = as_dim(scalar.maximum(as_int(most), as_int(here)))
    return most


def _chunked_work(loop: For, parameters: Sequence[Dim]) -> Dim | None:
    """The innermost iterations of a loop over chunks of one long loop, the last of them shorter; None for others."""
    for statement in loop.body:
        if not isinstance(statement, For) or not isinstance(statement.extent, Scalar):
            continue
        if statement.extent.op is scalar.minimum:
            for left in statement.extent.args:
                if left.op is scalar.sub and left.args[0].op is symbol_op:
                    whole = parameters[left.args[0].param[1]]
                    return product((whole, _work_of(statement.body, parameters)))
    return None


def _kernel_name(made: Group, number: int) -> str:
    names = list(dict.fromkeys(u.node.op.name for u in made.units))
    return f"k{number}_" + "_".join(names[:3])


def _note(made: Group) -> str:
    named = [u.node.name for u in made.units if u.node.name]
    return ", ".join(dict.fromkeys(named))

