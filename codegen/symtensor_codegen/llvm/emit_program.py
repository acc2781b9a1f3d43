"""Host programs to LLVM IR text: one native function ``i64 name(ptr frame, ptr call)``.

Sizes, guards, memory, then kernels and library calls, loops and branches around them. A failure returns 1 + the
position of its message in ``program.messages``; its details are the values of a guard, or for a failed kernel the
address of the frame, from which the arguments can be looked at again (``calling.arrays_of``). Kernels and library
routines are external symbols; ``st_output``, ``st_alloc`` and ``st_parallel_for`` belong to the run time (``calling``).
"""

from collections.abc import Sequence

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import BackendError, InternalError
from symtensor_codegen.llvm import clock
from symtensor_codegen.llvm.calling import OUT_OF_MEMORY
from symtensor_codegen.llvm.control_flow import ControlFlow, aliases, written_by
from symtensor_codegen.llvm.emission import Value
from symtensor_codegen.llvm.host_code import real_product
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import typed
from symtensor_codegen.loops import Assign, statements
from symtensor_codegen.program import (
    COUNTERS,
    Allocate,
    AllocateOutput,
    Branch,
    Copy,
    Gemm,
    Guard,
    Launch,
    Loop,
    Place,
    Program,
    Read,
    Reserve,
    Row,
    Step,
)
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int
from symtensor_codegen.substitution import product

_LARGEST_BLOCK = 2.0**62  # bytes


def emit_program(program: Program, kernel_symbols: Sequence[str], target: Target, symbol: str) -> tuple[str, list[str]]:
    """LLVM IR of a program, and the external symbols it calls.

    ``kernel_symbols`` names the kernel of each Launch, in order.
    """
    return _Emitter(program, kernel_symbols, target).text(symbol)


class _Emitter(ControlFlow):
    def __init__(self, program: Program, kernel_symbols: Sequence[str], target: Target) -> None:
        super().__init__(program, target)
        self.kernels = iter(kernel_symbols)
        self.block = ""
        self.row = 0  # of the counters

    def text(self, symbol: str) -> tuple[str, list[str]]:
        """The whole module."""
        program = self.program
        begin = self._ticks() if program.counters is not None else ""
        cells = aliases(program.steps, {o.buffer for o in program.outputs if o.in_place})
        for step in program.steps:
            if not cells.isdisjoint(written_by(step)):
                self.may_stop = False  # from here on the call must be completed
            self.steps((step,))
        if program.counters is not None:
            self._count(self.row, begin, 0, 0)
        body = "\n".join([*self.stack, *self.here.lines])
        declarations = "\n".join(f"declare {signature}" for signature in self.declared.values())
        head = f"define i64 @{symbol}(ptr %frame, ptr %call) nounwind"
        return f"{declarations}\n\n{head} {{\nentry:\n{body}\n  ret i64 0\n}}\n", list(self.declared)

    # Steps ------------------------------------------------------------------------------------------------------

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self.program.counters is not None and isinstance(step, (Launch, Gemm)):
                self.row += 1
                self._timed(step, self.row - 1)
            else:
                self._step(step)

    def _step(self, step: Step) -> None:
        if isinstance(step, (Reserve, Place, AllocateOutput)) and self.here.depth > 0:
            raise InternalError(f"program {self.program.name}: {type(step).__name__} in a loop or branch")
        match step:
            case Guard(condition=condition, message=message, values=values):
                holds = self.value(condition).names[0]
                self.fail_where_not(holds, str(self.status[message]), values)
            case Reserve(size=size):
                self._check_overflow(size)
                self.block = self.allocate(size)
            case Place(buffer=buffer, offset=offset):
                at = self.size(offset)
                self.place(buffer, self.here.put(f"getelementptr inbounds i8, ptr {self.block}, i64 {at}"))
            case Allocate(buffer=buffer):
                self.place(buffer, self.allocate(product((*buffer.dims, buffer.dtype.itemsize))))
            case AllocateOutput(buffer=buffer, position=position):
                self._allocate_output(buffer, position)
            case Read(symbol=symbol, buffer=buffer):
                self._read(symbol, buffer)
            case Copy(target=target, source=source):
                self._copy(target, source)
            case Launch():
                self._launch(step)
            case Gemm():
                self.gemm(step)
            case Row():
                self.bind_row(step)
            case Loop():
                self.loop(step)
            case Branch():
                self.branch(step)
            case _:
                raise BackendError(f"the LLVM backend has no step {type(step).__name__}")

    # Profiles ---------------------------------------------------------------------------------------------------

    def _ticks(self) -> str:
        name = f"llvm.{clock.COUNTER}"
        self.declare(name, f"i64 @{name}()")
        return self.here.put(f"call i64 @{name}()")

    def _timed(self, step: Launch | Gemm, row: int) -> None:
        """A step between two looks at the clock."""
        begin = self._ticks()
        self._step(step)
        if isinstance(step, Launch):
            iterations, traffic = step.cost, step.traffic
        else:
            m, n, k, batch = (as_int(size) for size in (step.m, step.n, step.k, step.batch))
            itemsize = step.out.buffer.dtype.itemsize
            iterations = scalar.as_dim(m * n * k * batch)
            traffic = scalar.as_dim((m * n + m * k + k * n) * batch * itemsize)
        self._count(row, begin, iterations, traffic)

    def _count(self, row: int, begin: str, iterations: Dim, traffic: Dim) -> None:
        """Add one call to a row of the counters; atomic, because several threads may call the program."""
        assert self.program.counters is not None
        elapsed = self.here.put(f"sub i64 {self._ticks()}, {begin}")
        base = self.pointer(self.program.counters)
        for word, amount in enumerate(("1", elapsed, self.size(iterations), self.size(traffic))):
            place = self.here.put(f"getelementptr inbounds i64, ptr {base}, i64 {row * COUNTERS + word}")
            self.here.do(f"atomicrmw add ptr {place}, i64 {amount} monotonic, align 8")

    def _check_overflow(self, size: Dim) -> None:
        """Refuse sizes whose number of bytes does not fit int64 (the sum is made again in floating point)."""
        placed = [step.buffer for step in self.program.steps if isinstance(step, Place)]
        totals = dict.fromkeys(real_product((*b.dims, b.dtype.itemsize)) for b in placed)  # each once, in order
        held = {product(b.dims) for b in (*self.program.inputs, *self.program.cells)}
        if all(product(b.dims) in held for b in placed):  # no larger than arrays that exist
            return
        total = scalar.const(0.0, dtypes.float64)
        for each in totals:
            total = total + each * float(len(placed))
        fits = self.value(scalar.lt(total, _LARGEST_BLOCK)).names[0]
        self.fail_where_not(fits, str(OUT_OF_MEMORY), (size,))

    def _allocate_output(self, buffer: Buffer, position: int) -> None:
        start = self.layout.outputs[position]
        for axis, size in enumerate(buffer.dims):
            self.here.do(f"store i64 {self.size(size)}, ptr {self.slot(start + 1 + axis)}, align 8")
        self.declare("st_output", "ptr @st_output(ptr, i64)")
        found = self.here.put(f"call ptr @st_output(ptr %call, i64 {position})")
        size = product((*buffer.dims, buffer.dtype.itemsize))
        self.fail_where_not(self.here.put(f"icmp ne ptr {found}, null"), str(OUT_OF_MEMORY), (size,))
        self.place(buffer, found)

    def _read(self, symbol: Scalar, buffer: Buffer) -> None:
        kind = buffer.dtype
        memory = "i8" if kind is dtypes.bool_ else typed(kind, 1)
        value = self.here.put(f"load {memory}, ptr {self.pointer(buffer)}, align 1")
        if kind.itemsize < 8 and kind.kind in "iub":
            extend = "sext" if kind.kind == "i" else "zext"
            value = self.here.put(f"{extend} {memory} {value} to i64")
        elif kind.kind not in "iu":
            raise InternalError(f"a size cannot be {kind}")
        self.known[symbol] = Value((value,), False, self.here.depth)

    def _copy(self, target: Buffer, source: Buffer) -> None:
        size = self.size(product((*source.dims, source.dtype.itemsize)))
        self.declare("llvm.memcpy.p0.p0.i64", "void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        to, origin = self.pointer(target), self.pointer(source)
        self.here.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {to}, ptr {origin}, i64 {size}, i1 false)")

    # Kernels ----------------------------------------------------------------------------------------------------

    def _launch(self, step: Launch) -> None:
        name = next(self.kernels)
        self.declare(name, f"i64 @{name}(i64, i64, ptr)")
        if self.loops == 0 and any(isinstance(s, Assign) for s in statements(step.kernel.body)):
            self.release_gil(self.work((step,)))  # a recurrence runs long on little memory
        words = [("ptr", self.address(b)) for b in step.buffers]
        words += [("i64", self.size_value(p)) for p in step.parameters]
        number = self.number()
        args = f"%args{number}"
        self.stack.append(f"  {args} = alloca [{max(len(words), 1)} x i64], align 16")
        for position, (kind, word) in enumerate(words):
            level = self.levels[word.depth]  # what does not change in a loop is stored before it
            slot = level.put(f"getelementptr inbounds i64, ptr {args}, i64 {position}")
            level.do(f"store {kind} {word.names[0]}, ptr {slot}, align 8")
        extent = self.size(step.extent)
        if step.kernel.parallel_loop is None or extent == "1":
            status = self.here.put(f"call i64 @{name}(i64 0, i64 {extent}, ptr {args})")
        else:
            status = self._parallel(name, args, extent, step.grain, number)
        if step.messages:
            code = "0"
            for position, message in enumerate(step.messages):
                hit = self.here.put(f"icmp eq i64 {status}, {position + 1}")
                code = self.here.put(f"select i1 {hit}, i64 {self.status[message]}, i64 {code}")
            self.fail_where_not(self.here.put(f"icmp eq i64 {status}, 0"), code, frame=True)

    def _parallel(self, name: str, args: str, extent: str, grain: Dim, number: int) -> str:
        """Run on several threads where there is work for two; the call itself is cheaper for less."""
        self.declare("st_parallel_for", "i64 @st_parallel_for(ptr, ptr, i64, i64)")
        least = self.size(grain)
        twice = self.size(as_int(grain) * 2)
        large = self.here.put(f"icmp sge i64 {extent}, {twice}")
        many, one, done = f"many{number}", f"one{number}", f"done{number}"
        self.here.jump(f"br i1 {large}, label %{many}, label %{one}", many)
        shared = self.here.put(f"call i64 @st_parallel_for(ptr @{name}, ptr {args}, i64 {extent}, i64 {least})")
        leave = many
        if self.may_stop:
            leave = f"went{number}"
            self.stop_if_interrupted(leave)
        self.here.jump(f"br label %{done}", one)
        alone = self.here.put(f"call i64 @{name}(i64 0, i64 {extent}, ptr {args})")
        self.here.jump(f"br label %{done}", done)
        return self.here.put(f"phi i64 [ {shared}, %{leave} ], [ {alone}, %{one} ]")
