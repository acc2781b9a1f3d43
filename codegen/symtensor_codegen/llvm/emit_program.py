"""Host programs to LLVM IR text: one native function ``i64 name(ptr frame, ptr call)``.

The function is straight-line code: sizes, guards, memory, then kernels and library calls. A failure returns 1 + the
position of its message in ``program.messages``; its details are the values of a guard, or for a failed kernel the
address of the frame, from which the arguments can be looked at again (``calling.arrays_of``). Kernels and library
routines are external symbols; ``st_output``, ``st_alloc`` and ``st_parallel_for`` belong to the run time (``calling``).
"""

from collections.abc import Sequence

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import BackendError, InternalError
from symtensor_codegen.finish import storage
from symtensor_codegen.llvm import clock
from symtensor_codegen.llvm.calling import INTERRUPTED, OUT_OF_MEMORY, frame_layout
from symtensor_codegen.llvm.emission import Value
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import literal, typed
from symtensor_codegen.llvm.values import Evaluator
from symtensor_codegen.program import (
    COUNTERS,
    Allocate,
    AllocateOutput,
    Copy,
    Gemm,
    Guard,
    Launch,
    Matrix,
    Place,
    Program,
    Read,
    Reserve,
    Step,
)
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int
from symtensor_codegen.substitution import product

_GEMM = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}
_LARGEST_BLOCK = 2.0**62  # bytes
_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112  # CBLAS's enumerations


def emit_program(program: Program, kernel_symbols: Sequence[str], target: Target, symbol: str) -> tuple[str, list[str]]:
    """LLVM IR of a program, and the external symbols it calls.

    ``kernel_symbols`` names the kernel of each Launch, in order.
    """
    return _Emitter(program, kernel_symbols, target).text(symbol)


class _Emitter(Evaluator):
    def __init__(self, program: Program, kernel_symbols: Sequence[str], target: Target) -> None:
        super().__init__(target)
        self.program = program
        self.kernels = iter(kernel_symbols)
        self.layout = frame_layout(
            [len(b.dims) for b in program.inputs],
            [len(b.dims) for b in program.cells],
            [len(o.buffer.dims) for o in program.outputs],
        )
        self.status = {message: 1 + k for k, message in enumerate(program.messages)}
        self.pointers: dict[Buffer, str] = {}
        self.known: dict[Scalar, Value] = {}
        self.stack: list[str] = []
        self.blocks = 0
        self.declared: dict[str, str] = {}
        self.block = ""
        cells = {o.buffer for o in program.outputs if o.in_place}
        self.last_chance = _first_written(program.steps, cells)  # from this step on a call must be completed
        for buffers, starts in ((program.inputs, self.layout.inputs), (program.cells, self.layout.cells)):
            for buffer, start in zip(buffers, starts, strict=True):
                self._bind(buffer, start)

    def _bind(self, buffer: Buffer, start: int) -> None:
        self.pointers[buffer] = self._frame_load("ptr", start)
        for axis, size in enumerate(buffer.dims):
            if isinstance(size, Scalar):
                self.known[size] = Value((self._frame_load("i64", start + 1 + axis),), False, 0)

    def _slot(self, word: int) -> str:
        return self.here.put(f"getelementptr inbounds i64, ptr %frame, i64 {word}")

    def _frame_load(self, kind: str, word: int) -> str:
        return self.here.put(f"load {kind}, ptr {self._slot(word)}, align 8")

    # Values -----------------------------------------------------------------------------------------------------

    def symbol(self, node: Scalar) -> Value:
        """The value of a symbol that the program has met."""
        found = self.known.get(node)
        if found is None:
            raise InternalError(f"program {self.program.name}: {node!r} is used before it is known")
        return found

    def size(self, value: Dim) -> str:
        """A host value as an LLVM operand."""
        return str(value) if isinstance(value, int) else self.value(value).names[0]

    def pointer(self, buffer: Buffer) -> str:
        """The address of a buffer's first element."""
        found = self.pointers.get(storage(buffer))
        if found is None:
            raise InternalError(f"program {self.program.name}: {buffer.name} has no memory yet")
        return found

    # Steps ------------------------------------------------------------------------------------------------------

    def text(self, symbol: str) -> tuple[str, list[str]]:
        """The whole module."""
        begin = self._ticks() if self.program.counters is not None else ""
        row = 0
        for number, step in enumerate(self.program.steps):
            self.may_stop = number < self.last_chance
            if self.program.counters is not None and isinstance(step, (Launch, Gemm)):
                self._timed(step, row)
                row += 1
            else:
                self._step(step)
        if self.program.counters is not None:
            self._count(row, begin, 0, 0)
        body = "\n".join([*self.stack, *self.here.lines])
        declarations = "\n".join(f"declare {signature}" for signature in self.declared.values())
        head = f"define i64 @{symbol}(ptr %frame, ptr %call) nounwind"
        return f"{declarations}\n\n{head} {{\nentry:\n{body}\n  ret i64 0\n}}\n", list(self.declared)

    def _step(self, step: object) -> None:
        match step:
            case Guard(condition=condition, message=message, values=values):
                holds = self.value(condition).names[0]
                self._fail_unless(holds, str(self.status[message]), values)
            case Reserve(size=size):
                self._check_overflow(size)
                self.block = self._allocate(size)
            case Place(buffer=buffer, offset=offset):
                at = self.size(offset)
                self.pointers[buffer] = self.here.put(f"getelementptr inbounds i8, ptr {self.block}, i64 {at}")
            case Allocate(buffer=buffer):
                self.pointers[buffer] = self._allocate(product((*buffer.dims, buffer.dtype.itemsize)))
            case AllocateOutput(buffer=buffer, position=position):
                self._allocate_output(buffer, position)
            case Read(symbol=symbol, buffer=buffer):
                self._read(symbol, buffer)
            case Copy(target=target, source=source):
                self._copy(target, source)
            case Launch():
                self._launch(step)
            case Gemm():
                self._gemm(step)
            case _:
                raise BackendError(f"the LLVM backend has no step {type(step).__name__}")

    # Profiles ---------------------------------------------------------------------------------------------------

    def _ticks(self) -> str:
        name = f"llvm.{clock.COUNTER}"
        self._declare(name, f"i64 @{name}()")
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

    def _fail_unless(self, holds: str, status: str, values: Sequence[Dim] = (), frame: bool = False) -> None:
        """Return ``status`` unless ``holds``; the details are ``values``, or the address of the frame."""
        if holds == "true":
            return
        shown = [self.here.put("ptrtoint ptr %frame to i64")] if frame else [self.size(v) for v in values[:4]]
        self.blocks += 1
        bad, good = f"fail{self.blocks}", f"go{self.blocks}"
        self.here.jump(f"br i1 {holds}, label %{good}, label %{bad}", bad)
        for word, value in enumerate(shown):
            self.here.do(f"store i64 {value}, ptr {self._slot(self.layout.details + word)}, align 8")
        self.here.jump(f"ret i64 {status}", good)

    def _declare(self, name: str, signature: str) -> str:
        self.declared[name] = signature
        return name

    def _allocate(self, size: Dim) -> str:
        self._declare("st_alloc", "ptr @st_alloc(ptr, i64)")
        found = self.here.put(f"call ptr @st_alloc(ptr %call, i64 {self.size(size)})")
        self._fail_unless(self.here.put(f"icmp ne ptr {found}, null"), str(OUT_OF_MEMORY), (size,))
        return found

    def _check_overflow(self, size: Dim) -> None:
        """Refuse sizes whose number of bytes does not fit int64 (the sum is made again in floating point)."""
        placed = [step.buffer for step in self.program.steps if isinstance(step, Place)]
        totals = dict.fromkeys(_real_product((*b.dims, b.dtype.itemsize)) for b in placed)  # each once, in order
        held = {product(b.dims) for b in (*self.program.inputs, *self.program.cells)}
        if all(product(b.dims) in held for b in placed):  # no larger than arrays that exist
            return
        total = scalar.const(0.0, dtypes.float64)
        for each in totals:
            total = total + each * float(len(placed))
        fits = self.value(scalar.lt(total, _LARGEST_BLOCK)).names[0]
        self._fail_unless(fits, str(OUT_OF_MEMORY), (size,))

    def _allocate_output(self, buffer: Buffer, position: int) -> None:
        start = self.layout.outputs[position]
        for axis, size in enumerate(buffer.dims):
            self.here.do(f"store i64 {self.size(size)}, ptr {self._slot(start + 1 + axis)}, align 8")
        self._declare("st_output", "ptr @st_output(ptr, i64)")
        found = self.here.put(f"call ptr @st_output(ptr %call, i64 {position})")
        size = product((*buffer.dims, buffer.dtype.itemsize))
        self._fail_unless(self.here.put(f"icmp ne ptr {found}, null"), str(OUT_OF_MEMORY), (size,))
        self.pointers[storage(buffer)] = found

    def _read(self, symbol: Scalar, buffer: Buffer) -> None:
        kind = buffer.dtype
        memory = "i8" if kind is dtypes.bool_ else typed(kind, 1)
        value = self.here.put(f"load {memory}, ptr {self.pointer(buffer)}, align 1")
        if kind.itemsize < 8 and kind.kind in "iub":
            extend = "sext" if kind.kind == "i" else "zext"
            value = self.here.put(f"{extend} {memory} {value} to i64")
        elif kind.kind not in "iu":
            raise InternalError(f"a size cannot be {kind}")
        self.known[symbol] = Value((value,), False, 0)

    def _copy(self, target: Buffer, source: Buffer) -> None:
        size = self.size(product((*source.dims, source.dtype.itemsize)))
        self._declare("llvm.memcpy.p0.p0.i64", "void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        to, origin = self.pointer(target), self.pointer(source)
        self.here.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {to}, ptr {origin}, i64 {size}, i1 false)")

    # Kernels ----------------------------------------------------------------------------------------------------

    def _launch(self, step: Launch) -> None:
        name = next(self.kernels)
        self._declare(name, f"i64 @{name}(i64, i64, ptr)")
        words = [self.pointer(b) for b in step.buffers], [self.size(p) for p in step.parameters]
        count = len(words[0]) + len(words[1])
        self.blocks += 1
        number = self.blocks
        args = f"%args{number}"
        self.stack.append(f"  {args} = alloca [{max(count, 1)} x i64], align 16")
        for position, (kind, word) in enumerate([*(("ptr", w) for w in words[0]), *(("i64", w) for w in words[1])]):
            slot = self.here.put(f"getelementptr inbounds i64, ptr {args}, i64 {position}")
            self.here.do(f"store {kind} {word}, ptr {slot}, align 8")
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
            self._fail_unless(self.here.put(f"icmp eq i64 {status}, 0"), code, frame=True)

    def _parallel(self, name: str, args: str, extent: str, grain: Dim, number: int) -> str:
        """Run on several threads where there is work for two; the call itself is cheaper for less."""
        self._declare("st_parallel_for", "i64 @st_parallel_for(ptr, ptr, i64, i64)")
        least = self.size(grain)
        twice = self.size(as_int(grain) * 2)
        large = self.here.put(f"icmp sge i64 {extent}, {twice}")
        many, one, done = f"many{number}", f"one{number}", f"done{number}"
        self.here.jump(f"br i1 {large}, label %{many}, label %{one}", many)
        shared = self.here.put(f"call i64 @st_parallel_for(ptr @{name}, ptr {args}, i64 {extent}, i64 {least})")
        leave = many
        if self.may_stop:
            leave = f"went{number}"
            self._stop_if_interrupted(leave)
        self.here.jump(f"br label %{done}", one)
        alone = self.here.put(f"call i64 @{name}(i64 0, i64 {extent}, ptr {args})")
        self.here.jump(f"br label %{done}", done)
        return self.here.put(f"phi i64 [ {shared}, %{leave} ], [ {alone}, %{one} ]")

    def _stop_if_interrupted(self, following: str) -> None:
        """End the call where a signal handler has raised (Ctrl-C); looked at after large steps only."""
        self._declare("st_interrupted", "i1 @st_interrupted(ptr)")
        self.blocks += 1
        stop = f"stop{self.blocks}"
        raised = self.here.put("call i1 @st_interrupted(ptr %call)")
        self.here.jump(f"br i1 {raised}, label %{stop}, label %{following}", stop)
        self.here.jump(f"ret i64 {INTERRUPTED}", following)

    # Matrix products --------------------------------------------------------------------------------------------

    def _gemm(self, step: Gemm) -> None:
        kind = step.out.buffer.dtype
        letter = _GEMM.get(kind.name)
        if letter is None:
            raise BackendError(f"BLAS has no matrix product of {kind}")
        m, n, k = (self.size(s) for s in (step.m, step.n, step.k))
        batch = self.size(step.batch)
        if batch == "1":
            self._one_gemm(step, letter, m, n, k, "0")
            return
        self.blocks += 1
        head, body, done = f"batch{self.blocks}", f"product{self.blocks}", f"batched{self.blocks}"
        position = f"%position{self.blocks}"
        self._sizes_of(step)
        before = self.here.label
        self.here.jump(f"br label %{head}", head)
        following = f"%following{self.blocks}"
        self.here.do(f"{position} = phi i64 [ 0, %{before} ], [ {following}, %{body} ]")
        more = self.here.put(f"icmp slt i64 {position}, {batch}")
        self.here.jump(f"br i1 {more}, label %{body}, label %{done}", body)
        self._one_gemm(step, letter, m, n, k, position)
        self.here.do(f"{following} = add i64 {position}, 1")
        self.here.jump(f"br label %{head}", done)

    def _sizes_of(self, step: Gemm) -> None:
        """Evaluate every size of a product where all later code can use it."""
        for matrix, columns in ((step.a, step.k), (step.b, step.n), (step.out, step.n)):
            self.size(matrix.offset)
            self.size(matrix.batch_stride)
            self.size(self._leading(matrix, columns))
        self.size(self._leading(step.a, step.m))
        self.size(self._leading(step.b, step.k))

    def _leading(self, matrix: Matrix, columns: Dim) -> Dim:
        """The leading dimension: BLAS wants it no less than the row it strides over, even of one row or none."""
        step = matrix.row_stride if matrix.column_stride == 1 else matrix.column_stride
        return scalar.as_dim(scalar.maximum(scalar.maximum(as_int(step), as_int(columns)), as_int(1)))

    def _one_gemm(self, step: Gemm, letter: str, m: str, n: str, k: str, position: str) -> None:
        kind = step.out.buffer.dtype
        real = typed(dtypes.real_of(kind), 1)
        put = self.here.put
        operands: list[str] = []
        for matrix, rows, columns in ((step.a, step.m, step.k), (step.b, step.k, step.n)):
            plain = matrix.column_stride == 1
            order = _NO_TRANSPOSE if plain else _TRANSPOSE
            leading = put(f"trunc i64 {self.size(self._leading(matrix, columns if plain else rows))} to i32")
            operands += [str(order), self._start(matrix, position), leading]
        target = self._start(step.out, position)
        leading = put(f"trunc i64 {self.size(self._leading(step.out, step.n))} to i32")
        sizes = [put(f"trunc i64 {s} to i32") for s in (m, n, k)]
        if kind.is_complex:
            alpha, beta = self._complex_factor(step.alpha, kind), self._complex_factor(step.beta, kind)
            factor = "ptr"
        else:
            alpha, beta = literal(step.alpha, kind), literal(step.beta, kind)
            factor = real
        types = f"i32, i32, i32, i32, i32, i32, {factor}, ptr, i32, ptr, i32, {factor}, ptr, i32"
        name = self._declare(f"cblas_{letter}gemm", f"void @cblas_{letter}gemm({types})")
        ta, a, lda, tb, b, ldb = operands
        self.here.do(
            f"call void @{name}(i32 {_ROW_MAJOR}, i32 {ta}, i32 {tb}, i32 {sizes[0]}, i32 {sizes[1]}, i32 {sizes[2]}, "
            f"{factor} {alpha}, ptr {a}, i32 {lda}, ptr {b}, i32 {ldb}, {factor} {beta}, ptr {target}, i32 {leading})"
        )

    def _start(self, matrix: Matrix, position: str) -> str:
        """The address of the first element of matrix number ``position`` of a batch."""
        kind = matrix.buffer.dtype
        offset = self.size(matrix.offset)
        if position != "0" and matrix.batch_stride != 0:
            moved = self.here.put(f"mul i64 {position}, {self.size(matrix.batch_stride)}")
            offset = self.here.put(f"add i64 {offset}, {moved}")
        base = self.pointer(matrix.buffer)
        if offset == "0":
            return base
        return self.here.put(f"getelementptr inbounds [{kind.itemsize} x i8], ptr {base}, i64 {offset}")

    def _complex_factor(self, value: float, kind: dtypes.DType) -> str:
        real = dtypes.real_of(kind)
        t = typed(real, 1)
        self.blocks += 1
        place = f"%factor{self.blocks}"
        self.stack.append(f"  {place} = alloca [2 x {t}], align 16")
        self.here.do(f"store {t} {literal(value, real)}, ptr {place}, align 16")
        second = self.here.put(f"getelementptr inbounds {t}, ptr {place}, i64 1")
        self.here.do(f"store {t} {literal(0.0, real)}, ptr {second}, align {real.itemsize}")
        return place


def _first_written(steps: Sequence[Step], cells: set[Buffer]) -> int:
    """The position of the first step that writes into shared variables; the number of steps where none does."""
    for position, step in enumerate(steps):
        if isinstance(step, Launch):
            formal = zip(step.kernel.buffers, step.buffers, strict=True)
            if any(own in step.kernel.written and actual in cells for own, actual in formal):
                return position
    return len(steps)


def _real_product(sizes: Sequence[Dim]) -> Scalar:
    """The product of sizes in floating point, where it cannot overflow."""
    result = scalar.const(1.0, dtypes.float64)
    for size in sizes:
        result = result * _as_real(as_int(size))
    return result


def _as_real(size: Scalar) -> Scalar:
    if size.op is scalar.mul:
        return _as_real(size.args[0]) * _as_real(size.args[1])
    return scalar.cast(size, dtypes.float64)
