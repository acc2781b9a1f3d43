"""Products that end with the kernel which follows them: its body runs where a product's results would be stored.

A kernel that computes each element from the element of a product at the same place has nothing to wait for but that
one. Which steps of a program are such a pair follows from the program alone (``finishes_of``); whether they are done in
one launch is decided when a call's actions are recorded (``fused``), for its sizes and its memory. Large products are
not ours; NVIDIA's library has some finishes of its own (``endings``).
"""

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from symtensor_codegen.cuda.calls.actions import Action, FusedAction, KernelAction, Multiplication, Place, ProductAction
from symtensor_codegen.cuda.compiling.kernels import Variant
from symtensor_codegen.cuda.matmul.endings import ending_of, is_own
from symtensor_codegen.cuda.matmul.variants import ELEMENTS, Epilogue
from symtensor_codegen.cuda.schedules.dependence import nodes_of, stores_of
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.schedules.stages import Schedule, Stage
from symtensor_codegen.cuda.text import prelude
from symtensor_codegen.cuda.text.emit import NO_FAILURE, StageWriter
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER
from symtensor_codegen.cuda.text.values import Identifiers, bare, identifier
from symtensor_codegen.expr import topological
from symtensor_codegen.finish import storage
from symtensor_codegen.loops import Declare, Statement, Store
from symtensor_codegen.program import Branch, Copy, Gemm, Launch, Loop, Program, Read, Row, Step, walk
from symtensor_codegen.scalar import Buffer, Scalar, checked_op, guarded_op, load_op, rarely_op, register_op

if TYPE_CHECKING:
    from symtensor_codegen.cuda.calls.steps import Prepared, Product

MOST_STATEMENTS: Final = 12  # of a body that is worth being run by a product's threads
_FURTHEST: Final = 64  # actions between a product and what finishes it


@dataclass(frozen=True, slots=True, eq=False)
class Finish:
    """A launch that can finish a product: ``position`` of the product among its buffers.

    ``kept``: something else reads the product too, so it has to be stored as well.
    """

    gemm: Gemm
    launch: Launch
    stage: Stage
    position: int
    kept: bool

    @property
    def element(self) -> Buffer:
        """What the kernel calls the product."""
        return self.launch.kernel.buffers[self.position]

    def fits(self, rows: int, columns: int, parameters: Sequence[int]) -> bool:
        """Whether a launch with these parameters goes through all of a product of this size, row by row."""
        return self.stage.extents(parameters) in ([rows * columns], [rows, columns])


# Which steps of a program ---------------------------------------------------------------------------------------------


def finishes_of(program: Program) -> dict[Step, Finish]:
    """The pairs of a program, by both of their steps."""
    launches, others = _uses(program)
    found: dict[Step, Finish] = {}
    for steps in _blocks(program.steps):
        waiting: dict[Buffer, Gemm] = {}
        for step in steps:
            if isinstance(step, Gemm):
                waiting[storage(step.out.buffer)] = step
            elif isinstance(step, Launch):
                for position, buffer in enumerate(step.buffers):
                    gemm = waiting.pop(storage(buffer), None)
                    if gemm is None or step in found:
                        continue
                    kept = launches[storage(buffer)] > 1 or storage(buffer) in others
                    finish = _finish(gemm, step, position, kept)
                    if finish is not None:
                        found[gemm] = found[step] = finish
    return found


def _blocks(steps: Sequence[Step]) -> Iterable[Sequence[Step]]:
    """The steps of a program, of each of its loops and of each branch."""
    yield steps
    for step in walk(tuple(steps)):
        if isinstance(step, Loop):
            yield step.steps
        elif isinstance(step, Branch):
            yield step.then
            yield step.otherwise


def _uses(program: Program) -> tuple[dict[Buffer, int], set[Buffer]]:
    """How many launches use each buffer's memory, and the memory that is used otherwise than by them and products."""
    launches: dict[Buffer, int] = {}
    others = {storage(b) for b in (*program.inputs, *program.cells, *[o.buffer for o in program.outputs])}
    for step in walk(program.steps):
        match step:
            case Launch(buffers=buffers):
                for buffer in buffers:
                    launches[storage(buffer)] = launches.get(storage(buffer), 0) + 1
            case Gemm(out=out, a=a, b=b, beta=beta):
                others |= {storage(matrix.buffer) for matrix in (a, b)}
                others |= {storage(out.buffer)} if beta else set()
            case Copy(target=target, source=source):
                others |= {storage(target), storage(source)}
            case Row(buffer=buffer, source=source):
                others |= {storage(buffer), storage(source)}
            case Read(buffer=buffer) | Branch(condition=Buffer() as buffer):
                others.add(storage(buffer))
            case Loop(rows=rows, swaps=swaps, until=until, executed=executed):
                others |= {storage(b) for b in (until, executed) if b is not None}
                others |= {storage(b) for swap in swaps for b in swap}
                others |= {storage(b) for row in rows for b in (row.buffer, row.source)}
            case _:
                pass
    return launches, others


def _finish(gemm: Gemm, launch: Launch, position: int, kept: bool) -> Finish | None:
    """The two as a pair, if each iteration reads the product's element of its own place, and nothing can fail."""
    out, kernel, product = gemm.out, launch.kernel, launch.kernel.buffers[position]
    if gemm.beta != 0 or out.offset != 0 or gemm.batch != 1 or product.dtype is not out.buffer.dtype:
        return None
    if product.dtype.name not in ELEMENTS or product.dtype.is_complex or kernel.failures or product in kernel.written:
        return None
    memory = [storage(buffer) for buffer in launch.buffers]
    if memory.count(memory[position]) > 1:
        return None
    stages = schedule(kernel).stages
    stage = stages[0]
    if len(stages) > 1 or stage.form not in ("map", "nest") or len(stage.chain) > 2:
        return None
    if len(stage.body) > MOST_STATEMENTS or not all(isinstance(s, (Declare, Store)) for s in stage.body):
        return None
    places = [n.args[0] for n in nodes_of(stage.body) if n.op is load_op and n.param is product]
    if not places or not all(is_own(place, stage) for place in places):
        return None
    return Finish(gemm, launch, stage, position, kept)


# In one launch --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Planned(Multiplication):
    """A product that may yet be done together with its finish."""

    product: "Product"


def fused(
    prepared: "Prepared", actions: Sequence[Action | Planned], steps: Sequence[Step | None]
) -> list[Action | None]:
    """The actions, those pairs in one that can be: the product is None then, and done where its finish is.

    ``steps`` are what the actions are of.
    """
    made: list[Action | None] = [None if isinstance(action, Planned) else action for action in actions]
    planned: dict[int, Planned] = {}
    latest: dict[Finish, int] = {}
    for position, (action, step) in enumerate(zip(actions, steps, strict=True)):
        finish = None if step is None else prepared.finishes.get(step)
        if isinstance(action, Planned):
            planned[position] = action
            if finish is not None:
                latest[finish] = position
        elif isinstance(action, KernelAction) and finish in latest:
            assert finish is not None
            before = latest.pop(finish)
            if position - before <= _FURTHEST:
                one = _one(prepared, finish, planned[before], actions[before + 1 : position], action)
                if one is not None:
                    del planned[before]
                    made[position] = one
    for position, product in planned.items():
        made[position] = ProductAction(product.out, product.a, product.b, prepared.product(product.product))
    return made


def _one(
    prepared: "Prepared", finish: Finish, product: Planned, between: Sequence[Action | Planned], kernel: KernelAction
) -> FusedAction | None:
    """A product and its finish as one action; None where that would not be the same, or is no use."""
    sizes, out = product.product, product.out
    if out.place != kernel.places[finish.position] or not (out.row_stride == sizes.n or sizes.m == 1):
        return None
    parameters = struct.unpack_from(f"{len(finish.launch.parameters)}q", kernel.rest)
    if out.column_stride != 1 or sizes.batch != 1 or not finish.fits(sizes.m, sizes.n, parameters):
        return None
    if out.place.base in prepared.kept or _overlap(kernel.writes, (*product.reads, out.place)):
        return None
    for action in between:
        if _overlap(action.writes, (*product.reads, out.place)) or _overlap(action.reads, (out.place,)):
            return None
    products: Any = prepared.products
    multiply = products.finished(sizes, epilogue_of(finish))
    others = tuple([place for place in kernel.reads if place != out.place])
    writes = (*kernel.writes, out.place) if finish.kept else kernel.writes
    # A library looks at no status, and reads in an order of its own.
    if multiply is None and not kernel.gated and not _overlap(kernel.writes, others):
        multiply = _by_library(prepared, finish, sizes, kernel)
        writes = (*kernel.writes, out.place)  # in case both are done one after the other
    if multiply is None:
        return None
    return FusedAction(multiply, out, product.a, product.b, kernel, (*product.reads, *others), writes)


def _by_library(prepared: "Prepared", finish: Finish, sizes: "Product", kernel: KernelAction) -> Any:
    """The product by a library that goes on with its finish; None where that is no use, or there is no such thing."""
    products: Any = prepared.products
    found = ending_of(finish)
    return None if found is None else products.ended(sizes, found, kernel.stages, partial(prepared.product, sizes))


def _overlap(some: Sequence[Place], others: Sequence[Place]) -> bool:
    """Whether any of these are the same memory in part."""
    return any(
        p.base == q.base and p.offset < q.offset + q.size and q.offset < p.offset + p.size
        for p in some for q in others
    )  # fmt: skip


# The text -------------------------------------------------------------------------------------------------------------

_epilogues: dict[str, Epilogue] = {}


def finish_texts(program: Program) -> list[str]:
    """What products of a program may end with, with names for people."""
    found = dict.fromkeys(finishes_of(program).values())
    names = [f"finish_{identifier(finish.launch.kernel.name)}" for finish in found]
    return [finish_text(f, Variant.of(f.launch), name) for f, name in zip(found, names, strict=True)]


def epilogue_of(finish: Finish) -> Epilogue:
    """What a product's kernel has at its end: one for all kernels that differ in names only."""
    variant = Variant.of(finish.launch)
    memory = [storage(buffer) for buffer in finish.launch.buffers]
    same = [memory.index(each) for each in memory]
    key = variant.key(f"after a product {finish.position} {finish.kept} {same}")
    found = _epilogues.get(key)
    if found is None:
        found = _epilogues.setdefault(key, _epilogue(finish, variant, key[:12]))
    return found


def _epilogue(finish: Finish, variant: Variant, name: str) -> Epilogue:
    kernel = variant.kernel
    kinds = [f"{'' if b in kernel.written else 'const '}{MEMORY[b.dtype]}* finish_" for b in kernel.buffers]
    kinds += ["i64 finish_"] * len(kernel.parameters) + ["int* finish_", "int finish_"]
    parameters = "".join(f", {kind}{k}" for k, kind in enumerate(kinds))
    arguments = ", ".join(["row", "column", "n", *[f"finish_{k}" for k in range(len(kinds))]])
    symbol = f"st_finish_{name}"
    functions = finish_text(finish, variant, symbol)
    reads = bool(_early(finish, finish.stage.body))
    text = f"{symbol}(value, {'early, ' if reads else ''}{arguments});"
    early = (f"{symbol}_reads", f"{symbol}_read({arguments})") if reads else None
    return Epilogue(text, (), parameters, functions, name, finish.kept, early)


def finish_text(finish: Finish, variant: Variant, symbol: str) -> str:
    """The function that does a kernel's work for one element, and what it calls.

    What it can read before anything is stored another function reads, ``symbol_read``; it gives a ``symbol_reads``.
    """
    writer = _FinishWriter(finish, variant, symbol)
    text = writer.text(symbol)
    if writer.early:
        text = _FinishWriter(finish, variant, symbol).reading() + text
    body = "\n".join([*writer.functions.values(), text])
    called = {name for name in re.findall(r"\bst_\w+", body) if not name.startswith(symbol)}
    return f"{prelude.functions(sorted(called - writer.functions.keys()))}{body}"


class _FinishWriter(StageWriter):
    """Writes a stage's body for one element, whose product is an argument."""

    def __init__(self, finish: Finish, variant: Variant, symbol: str) -> None:
        names = Identifiers()
        self.product, self.finish, self.symbol = names.fresh("value"), finish, symbol
        early = names.fresh("early")
        self.row, self.column, self.columns = (names.fresh(name) for name in ("row", "column", "columns"))
        for buffer in variant.kernel.buffers:
            names.of(buffer, buffer.name)
        super().__init__(variant.kernel, Schedule((finish.stage,)), finish.stage, names, variant.aliased)
        self.reads = _early(finish, finish.stage.body)
        self.early = {(n.param, n.args[0]): f"{early}.e{k}" for k, n in enumerate(self.reads)}
        self.arguments = [f"const {symbol}_reads& {early}"] if self.early else []

    def text(self, symbol: str) -> str:
        """The whole function."""
        self.line(f"if (first < 0 && *status != {NO_FAILURE}) return;")
        self._begin()
        self.statements(self.stage.body)
        value = f"{MEMORY[self.finish.element.dtype]} {self.product}"
        listed = ", ".join([value, *self.arguments, self._shared_arguments()])
        body = "\n".join(self.lines)
        return (
            f"// {self.kernel.name}, at the end of a product: an element of {self.finish.element.name}\n"
            f"static __device__ __forceinline__ void {symbol}({listed}) {{\n{body}\n}}\n"
        )

    def reading(self) -> str:
        """What is read early: its type, and the function that reads it."""
        self.early.clear()
        self._begin()
        members = "".join(f" {REGISTER[node.dtype]} e{k};" for k, node in enumerate(self.reads))
        self.line(f"return {self.symbol}_reads{{{', '.join(bare(self.value(node)) for node in self.reads)}}};")
        body = "\n".join(self.lines)
        head = f"{self.symbol}_reads {self.symbol}_read({self._shared_arguments()})"
        return (
            f"struct {self.symbol}_reads {{{members} }};\n"
            f"static __device__ __forceinline__ {head} {{\n{body}\n}}\n"
        )  # fmt: skip

    def _shared_arguments(self) -> str:
        """The arguments that both functions have."""
        listed = [f"i64 {name}" for name in (self.row, self.column, self.columns)]
        listed += [self._pointer(buffer) for buffer in self.kernel.buffers]
        listed += [f"i64 p{k}" for k in range(len(self.kernel.parameters))]
        return ", ".join([*listed, "int* status", "int first"])

    def _begin(self) -> None:
        """Which iteration this is."""
        chain = self.stage.chain
        places = [f"{self.row} * {self.columns} + {self.column}"] if len(chain) == 1 else [self.row, self.column]
        for loop, place in zip(chain, places, strict=True):
            self.line(f"const i64 {self.names.of(loop.index, loop.index.param.name)} = {place};")

    def load(self, buffer: Buffer, place: Scalar, at: str) -> str:
        """An element of a buffer; that of the product is at hand, others have been read before anything is stored."""
        if buffer is self.finish.element:
            return self.product
        return self.early.get((buffer, place)) or super().load(buffer, place, at)


def _early(finish: Finish, body: Sequence[Statement]) -> list[Scalar]:
    """The elements that may be read before anything is stored, so that nobody waits for one after the other.

    Not those that a statement stored before, perhaps by another name of its memory, nor what not everybody reads.
    """
    nodes = nodes_of(body)
    if any(n.op is guarded_op or n.op is rarely_op for n in nodes):
        return []
    memory = dict(zip(finish.launch.kernel.buffers, map(storage, finish.launch.buffers), strict=True))
    stored: set[Buffer] = set()
    late: set[Scalar] = set()
    for statement in body:
        late |= {n for n in nodes_of([statement]) if n.op is load_op and memory[n.param] in stored}
        stored |= {memory[s.buffer] for s in stores_of([statement])}
    return [
        n for n in nodes
        if n.op is load_op and n.param is not finish.element and n not in late and _is_known(n.args[0])
    ]  # fmt: skip


def _is_known(place: Scalar) -> bool:
    """Whether a place follows from parameters and the iteration alone."""
    order = topological([place], lambda n: n.args)
    return not any(n.op is load_op or n.op is checked_op or n.op is register_op for n in order)
