"""Kernels to CUDA C: one ``__global__`` function for each stage.

All stages of a kernel take the same arguments: its buffers, scratch memory if blocks share items, its parameters,
``status``, where failed checks leave the smallest of their numbers, and ``first``, the number of this launch's first
check. A negative ``first`` stands for ``-1 - first`` and asks the kernel to do nothing when a check has failed before:
it writes into a shared variable.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from symtensor_codegen.cuda import prelude
from symtensor_codegen.cuda.dependence import Scan, nodes_of, touched
from symtensor_codegen.cuda.hoisting import MOST_HOISTED, invariants, reads_memory
from symtensor_codegen.cuda.operations import MEMORY, REGISTER, literal
from symtensor_codegen.cuda.packs import VECTOR_BYTES, Packs
from symtensor_codegen.cuda.schedule import (
    LARGEST_TEAM,
    PARTS,
    SCRATCH,
    Schedule,
    Spread,
    Stage,
    as_bits,
    part_place,
)
from symtensor_codegen.cuda.values import Identifiers, Values, bare
from symtensor_codegen.dtypes import float16, int64
from symtensor_codegen.errors import InternalError
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
    Kernel,
    Leave,
    Statement,
    Store,
    Update,
    statements,
)
from symtensor_codegen.scalar import (
    COMBINES,
    Buffer,
    Register,
    Scalar,
    as_int,
    read,
    symbol,
)
from symtensor_codegen.substitution import substitute

BLOCK = symbol(("block",))  # which of the blocks that share an item this is
NO_FAILURE = 0x7F7F7F7F  # what the status word holds while no check has failed


def emit_kernel(kernel: Kernel, schedule: Schedule, symbol: str, aliased: bool = False) -> str:
    """The text of a kernel's stages, functions ``symbol_0``, ``symbol_1`` ... of C linkage.

    ``aliased``: buffers that are read and written may be the same memory.
    """
    names = Identifiers()
    for buffer in kernel.buffers:
        names.of(buffer, buffer.name)
    functions: dict[str, str] = {}
    texts = []
    for position, stage in enumerate(schedule.stages):
        writer = StageWriter(kernel, schedule, stage, names, aliased)
        texts.append(writer.text(f"{symbol}_{position}"))
        functions |= writer.functions
    body = "\n".join([*functions.values(), *texts])
    helpers = prelude.functions(dict.fromkeys(re.findall(r"\bst_\w+", body)).keys() - functions.keys())
    title = f"// {kernel.note}\n" if kernel.note else ""
    return f"{title}{prelude.TYPES}{helpers}\n{body}"


class StageWriter(Values):
    """Writes one stage."""

    def __init__(
        self, kernel: Kernel, schedule: Schedule, stage: Stage, names: Identifiers, aliased: bool
    ) -> None:
        super().__init__()
        self.kernel, self.scheduled, self.stage, self.names, self.aliased = kernel, schedule, stage, names, aliased
        names.give(SCRATCH, "scratch")
        self.written = {b for b in kernel.buffers if b in kernel.written}
        self.together = stage.form == "team"  # whether the threads of a team take the same steps here
        self.packs: dict[tuple[Buffer, Scalar], str] = {}  # the pack that holds element k of a place
        self.scratch: dict[tuple[str, str], str] = {}  # shared arrays by role and type
        self.dirty: set[object] = set()  # memory that threads of the team wrote since they last waited for each other
        self.touched: set[object] = set()  # memory that they read since then
        self.standing: dict[Register, str] = {}  # what registers are called inside a running combination

    # The function -----------------------------------------------------------------------------------------------

    def text(self, symbol: str) -> str:
        """The whole function."""
        self.line(f"if (first < 0) {{ if (*status != {NO_FAILURE}) return; first = -1 - first; }}")
        match self.stage.form:
            case "map":
                self._map()
            case "nest":
                self._nest()
            case "team":
                self._team()
            case "owned":
                self._owned()
        arguments = [self._pointer(buffer) for buffer in self.kernel.buffers]
        arguments += ["u64* scratch"] if self.scheduled.spreads else []
        arguments += [f"const i64 p{k}" for k in range(len(self.kernel.parameters))]
        listed = ", ".join([*arguments, "int* status", "int first"])
        declared = [f"    __shared__ {kind} {name}[{LARGEST_TEAM}];" for (_, kind), name in self.scratch.items()]
        body = "\n".join([*declared, *self.lines])
        note = f"// {self.kernel.name}: {_told(self.stage)}\n"
        bounds = f"__launch_bounds__({self.stage.threads})"
        return f'{note}extern "C" __global__ void {bounds} {symbol}({listed}) {{\n{body}\n}}\n'

    def _pointer(self, buffer: Buffer) -> str:
        constant = "" if buffer in self.written else "const "
        restrict = "" if self.aliased else " __restrict__"
        return f"{constant}{MEMORY[buffer.dtype]}*{restrict} {self.names.of(buffer, buffer.name)}"

    # Forms ------------------------------------------------------------------------------------------------------

    def _map(self) -> None:
        loop = self.stage.chain[0]
        thread, threads = "((i64)blockIdx.x * blockDim.x + threadIdx.x)", "(i64)gridDim.x * blockDim.x"
        with self._hoisted(loop, self.stage.body, None):
            self._strided(loop, self.stage.body, "0", self.held(as_int(loop.extent)), thread, threads)

    def _strided(self, loop: For, body: Sequence[Statement], begin: str, end: str, rank: str, team: str) -> None:
        """A loop from ``begin`` to ``end`` of which thread ``rank`` of ``team`` takes its share."""
        packs = self.stage.packs.get(loop)
        index = self.names.of(loop.index, loop.index.param.name)
        if packs is not None:
            self._packed(packs, loop, body, begin, end, rank, team)
            return
        start = rank if begin == "0" else f"{begin} + {rank}"
        with self.block(f"for (i64 {index} = {start}; {index} < {end}; {index} += {team})"):
            self.statements(body)

    def _packed(
        self, packs: Packs, loop: For, body: Sequence[Statement], begin: str, end: str, rank: str, team: str
    ) -> None:
        """The same in packs: they are loaded, then each of their elements is computed, then packs are stored.

        The last few elements come one by one; all of them, where rows of arrays do not begin at multiples of packs.
        """
        width, index = packs.width, self.names.of(loop.index, loop.index.param.name)
        near, rest = self.names.fresh("near"), self.names.fresh("rest")
        length = end if begin == "0" else f"({end} - {begin})"
        none = end if begin == "0" else f"({end} > {begin} ? {end} : {begin})"
        self.line(f"const i64 {rest} = {self._aligned(packs, loop, begin)} ? {none} - {length} % {width} : {begin};")
        start = f"{width} * {rank}" if begin == "0" else f"{begin} + {width} * {rank}"
        self.line(f"#pragma unroll {1 if packs.heavy else 2 if len(packs.loads) < 3 else 1}")
        with self.block(f"for (i64 {near} = {start}; {near} < {rest}; {near} += {width} * {team})"):
            loaded = {load: self.names.fresh(f"{load[0].name}_pack") for load in packs.loads}
            stored = {store: self.names.fresh(f"{store[0].name}_out") for store in packs.stores}
            for (buffer, place), name in loaded.items():
                pack = f"st_pack<{MEMORY[buffer.dtype]}, {width}>"
                self.line(f"const {pack} {name} = st_load_pack<{pack}>({self._pack(buffer, place, loop, near)});")
            for (buffer, _), name in stored.items():
                self.line(f"st_pack<{MEMORY[buffer.dtype]}, {width}> {name};")
            self.line("#pragma unroll")
            with self.block(f"for (int k = 0; k < {width}; ++k)"):
                self.line(f"const i64 {index} = {near} + k;")
                self.packs = {**loaded, **stored}
                self.statements(body)
                self.packs = {}
            for (buffer, place), name in stored.items():
                self.line(f"st_store_pack({self._pack(buffer, place, loop, near)}, {name});")
        self.forget(touched(body).writes)
        self.line(f"#pragma unroll {1 if packs.heavy else 4}")
        with self.block(f"for (i64 {index} = {rest} + {rank}; {index} < {end}; {index} += {team})"):
            self.statements(body)

    def _pack(self, buffer: Buffer, place: Scalar, loop: For, near: str) -> str:
        """Where a pack begins: a buffer, and the place of iteration ``near`` in it."""
        first = bare(self.value(substitute(place, {loop.index: as_int(0)})))
        return f"{self.names.of(buffer, buffer.name)}, {near if first == '0LL' else f'{first} + {near}'}"

    def _aligned(self, packs: Packs, loop: For, begin: str) -> str:
        """Whether packs begin where they may: rows of arrays, and arrays of others, need not."""
        tests: dict[str, None] = {}
        for buffer, base in packs.bases(loop.index):
            size = min(packs.width * buffer.dtype.itemsize, VECTOR_BYTES)
            tests[f"(u64){self.names.of(buffer, buffer.name)} % {size} == 0"] = None
            first = bare(self.value(base))
            if first != "0LL" or begin != "0":
                tests[f"({first if begin == '0' else f'{first} + {begin}'}) % {packs.width} == 0"] = None
        return " && ".join(tests)

    @contextmanager
    def _hoisted(self, loop: For, body: Sequence[Statement], filled: str | None) -> Iterator[None]:
        """Compute before a loop what is the same in all of its iterations, for the loop that is written meanwhile.

        ``filled`` tells whether there are any: what reads memory, or fails, is left out where there are none.
        """
        facts = touched(body)
        own = {s.register for s in statements(tuple(body)) if isinstance(s, Declare)}
        varying = self._bits_of([*facts.registers, *own, *facts.writes])
        inside = {s.index for s in statements(tuple(body)) if isinstance(s, For)} | {loop.index}

        def varies(node: Scalar) -> bool:
            return bool(self._depends(node) & varying) or not inside.isdisjoint(node.free)

        def known(node: Scalar) -> bool:
            return self.lookup(node) is not None

        found = invariants(body, varies, known)[:MOST_HOISTED]
        reading = [n for n in found if reads_memory(n, known)] if filled is not None else []
        for node in found:
            if node not in reading:
                self.held(node)
        names = [self.declared(node.dtype) for node in reading]
        if reading:
            with self.block(f"if ({filled})"):
                for node, name in zip(reading, names, strict=True):
                    self.line(f"{name} = {bare(self.value(node))};")
        table = self.known[-1]
        table.update(zip(reading, names, strict=True))
        yield
        for node in reading:  # another loop may have iterations where this one had none
            table.pop(node, None)

    def _nest(self) -> None:
        chain = self.stage.chain
        axes = ((chain[:-3], None), (chain[-3:-2], "z"), (chain[-2:-1], "y"))
        with ExitStack() as open_loops:
            for loops, axis in axes:
                open_loops.enter_context(self._nested(loops, axis))
            open_loops.enter_context(self._hoisted(chain[-1], self.stage.body, None))
            thread, threads = "((i64)blockIdx.x * blockDim.x + threadIdx.x)", "(i64)gridDim.x * blockDim.x"
            end = self.held(as_int(chain[-1].extent))
            self._strided(chain[-1], self.stage.body, "0", end, thread, threads)

    @contextmanager
    def _nested(self, loops: Sequence[For], axis: str | None) -> Iterator[None]:
        """Loops on one axis of the grid, or in every thread."""
        if not loops:
            yield
            return
        loop = loops[0]
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(loop.extent))
        start, step = "0", "1"
        if axis is not None:
            start = f"(i64)blockIdx.{axis} * blockDim.{axis} + threadIdx.{axis}"
            step = f"(i64)gridDim.{axis} * blockDim.{axis}"
        head = f"for (i64 {index} = {start}; {index} < {extent}; {index} += {step})"
        with self.block(head), self._nested(loops[1:], axis):
            yield

    def _team(self) -> None:
        column, chain = self.stage.column, self.stage.chain
        rank, size, lane = ("y", "y", "x") if column else ("x", "x", "y")
        self.line(f"const int rank = threadIdx.{rank}, team = blockDim.{size};")
        if self.stage.source is not None:
            self.line("if (blockIdx.y > 0) return;")
        if not chain:
            self.statements(self.stage.body)
            return
        total = self.held(as_int(self.stage.items))
        if column:
            head = f"for (i64 tile = (i64)blockIdx.x * blockDim.x; tile < {total}; tile += (i64)gridDim.x * blockDim.x)"
        else:
            start = f"(i64)blockIdx.x * blockDim.{lane} + threadIdx.{lane}"
            head = f"for (i64 item = {start}; item < {total}; item += (i64)gridDim.x * blockDim.{lane})"
        with self.block(head):
            if column:  # threads beyond the last item stay with the others, and store nothing
                self.line(f"const bool active = tile + threadIdx.x < {total};")
                self.line(f"const i64 item = active ? tile + threadIdx.x : {total} - 1;")
            rest = "item"
            for position, loop in reversed(list(enumerate(chain))):
                index = self.names.of(loop.index, loop.index.param.name)
                extent = self.held(as_int(loop.extent))
                self.line(f"const i64 {index} = {rest if position == 0 else f'{rest} % {extent}'};")
                if position:
                    following = self.names.fresh("rest")
                    self.line(f"const i64 {following} = {rest} / {extent};")
                    rest = following
            if self.stage.spread is not None:
                self._spread(self.stage.spread)
            elif self.stage.fans:
                for number, statement in enumerate(self.stage.body):
                    with self.block(f"if (gridDim.y == 1 || blockIdx.y == {number})"):
                        self._statement(statement)
            else:
                self.statements(self.stage.body)

    def _spread(self, spread: Spread) -> None:
        """An item whose loop several blocks may share: each leaves its part, a block that is alone goes on."""
        at = self.stage.body.index(spread.loop)
        self.statements(self.stage.body[:at])
        self.forget([register for register, _ in spread.combined])
        total, share = self.held(as_int(spread.loop.extent)), self.names.fresh("share")
        begin, end = self.names.fresh("begin"), self.names.fresh("end")
        self.line(f"const i64 {share} = (({total} + gridDim.y - 1) / gridDim.y + 7) / 8 * 8;")
        self.line(f"const i64 {begin} = {share} * blockIdx.y;")
        self.line(f"const i64 {end} = {total} - {begin} < {share} ? {total} : {begin} + {share};")
        results = self._shared_loop(spread.loop, begin, end)
        with self.block("if (gridDim.y > 1)"):
            for position, (register, _) in enumerate(spread.combined):
                place = part_place(self.stage.chain, position, BLOCK)
                self._store(Store(SCRATCH, (place,), as_bits(read(results[register][0]))))
            self.line("continue;")
        for register, (result, combine) in results.items():
            self._update(register, combine, read(result))
        self.statements(self.stage.body[at + 1 :])

    def _owned(self) -> None:
        if self.stage.owners:
            self.line("const u64 owners = (u64)gridDim.x * blockDim.x;")
            self.line("const u64 me = (u64)blockIdx.x * blockDim.x + threadIdx.x;")
        self.statements(self.stage.body)

    # Statements -------------------------------------------------------------------------------------------------

    def statements(self, body: Sequence[Statement]) -> None:
        """Write statements in the open block."""
        for statement in body:
            if self.together:
                self._wait_for(statement)
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        match statement:
            case For():
                self._for(statement)
            case Declare(register=register, value=value):
                text = bare(self.value(value))
                self.line(f"{REGISTER[register.dtype]} {self.register(register)} = {text};")
                self.forget([register])
            case Update(register=register, combine=combine, value=value):
                self._update(register, combine, value)
            case ArgUpdate():
                self._arg_update(statement)
            case Assign(registers=registers, values=values):
                texts = [self.held(v) for v in values]
                for register, text in zip(registers, texts, strict=True):
                    self.line(f"{self.register(register)} = {text};")
                self.forget(registers)
            case Leave(condition=condition):
                self.line(f"if ({bare(self.value(condition))}) break;")
            case Store():
                self._store(statement)
            case Check(condition=condition, message=message):
                self.line(f"if (!({bare(self.value(condition))})) st_fail(status, {self._failure(message)});")

    def register(self, register: Register) -> str:
        """The variable of a register."""
        return self.names.of(register, register.name)

    def _update(self, register: Register, combine: str, value: Scalar) -> None:
        step = COMBINES[combine].step(read(register), value)
        self.line(f"{self.register(register)} = {bare(self.value(step))};")
        self.forget([register])

    def _arg_update(self, statement: ArgUpdate) -> None:
        best, place = self.register(statement.best), self.register(statement.place)
        value = self.held(statement.value)
        order = ">" if statement.combine == "argmax" else "<"
        wins = f"{value} {order} {best}"
        if statement.best.dtype.is_float:
            wins = f"{wins} || ({value} != {value} && {best} == {best})"
        with self.block(f"if ({wins})"):
            self.line(f"{best} = {value};")
            self.line(f"{place} = {bare(self.value(statement.position))};")
        self.forget([statement.best, statement.place])

    def _failure(self, message: object) -> str:
        position = next(k for k, known in enumerate(self.kernel.failures) if known is message or known == message)
        return f"first + {position}" if position else "first"

    # Stores and loads -------------------------------------------------------------------------------------------

    def identity(self, thing: Register | Buffer) -> object:
        """What stands for a register or for the memory of a buffer."""
        if self.aliased and isinstance(thing, Buffer):
            return thing.dtype  # any two of a type may be the same memory
        return thing

    def load(self, buffer: Buffer, place: Scalar, at: str) -> str:
        """An element of a buffer."""
        pointer = self.names.of(buffer, buffer.name)
        pack = self.packs.get((buffer, place))
        if pack is not None:
            text = f"{pack}.v[k]"
        else:
            text = f"{pointer}[{bare(at)}]"
        return _from_memory(buffer, text)

    def leaf(self, node: Scalar) -> str:
        """A constant, index, parameter or register; or a number of blocks."""
        if node is PARTS:
            return "(i64)gridDim.y"
        return "(i64)blockIdx.y" if node is BLOCK else super().leaf(node)

    def checked(self, node: Scalar, operands: Sequence[str]) -> str:
        """An index from data: negative ones count from the end, others out of range fail."""
        return f"st_checked({bare(operands[0])}, {bare(operands[1])}, status, {self._failure(node.param)})"

    def _store(self, store: Store) -> None:
        buffer = store.buffer
        pack = self.packs.get((buffer, store.index[0]))
        if pack is not None:
            self.line(f"{pack}.v[k] = {_to_memory(buffer, bare(self.value(store.value)))};")
            return
        pointer = self.names.of(buffer, buffer.name)
        conditions = []
        if self.together:
            conditions.append("rank == 0")
        if self.stage.column:
            conditions.append("active")
        if store.where is not None:
            conditions.append(self.value(store.where))
        if self.stage.owners:
            conditions.append(f"((u64)({self.held(store.index[0])}) % owners == me)")
        if conditions:
            with self.block(f"if ({bare(' && '.join(conditions))})"):
                self._store_here(store, pointer)
        else:
            self._store_here(store, pointer)
        self.forget([buffer])

    def _store_here(self, store: Store, pointer: str) -> None:
        at = bare(self.value(store.index[0]))
        if store.combine is None:
            self.line(f"{pointer}[{at}] = {_to_memory(store.buffer, bare(self.value(store.value)))};")
            return
        old = Register("old", store.buffer.dtype)
        name = self.register(old)
        place = self.names.fresh("at")
        self.line(f"const i64 {place} = {at};")
        self.line(f"const {REGISTER[store.buffer.dtype]} {name} = {_from_memory(store.buffer, f'{pointer}[{place}]')};")
        new = self.value(COMBINES[store.combine].step(read(old), store.value))
        self.line(f"{pointer}[{place}] = {_to_memory(store.buffer, bare(new))};")

    # Loops ------------------------------------------------------------------------------------------------------

    def _for(self, loop: For) -> None:
        facts = touched(loop.body)
        changed: list[Register | Buffer] = [*facts.registers, *facts.writes]
        self.forget(changed)
        scan = next((scan for scanned, scan in self.stage.scans if scanned is loop), None)
        if scan is not None:
            self._scan(loop, scan)
        elif loop in self.stage.split:
            self._split(loop)
        else:
            index = self.names.of(loop.index, loop.index.param.name)
            extent = self.held(as_int(loop.extent))
            head = f"for (i64 {index} = 0; {index} < {extent}; ++{index})"
            with self._hoisted(loop, loop.body, f"0 < {extent}"), self.block(head):
                self.statements(loop.body)
                if self.together and facts.writes:
                    self._wait()
        self.forget(changed)

    def _split(self, loop: For) -> None:
        """A loop whose iterations the threads of a team share; what it combines is put together after it."""
        results = self._shared_loop(loop, "0", self.held(as_int(loop.extent)))
        for register, (result, combine) in results.items():
            self._update(register, combine, read(result))

    def _shared_loop(self, loop: For, begin: str, end: str) -> dict[Register, tuple[Register, str]]:
        """Write a loop over every ``team``-th iteration; what the team combined is for the caller to add."""
        private: dict[Register, tuple[Register, str]] = {}
        places: dict[Register, tuple[Register, Register]] = {}
        body = loop.body
        for statement in _updates(body):
            if isinstance(statement, Update) and statement.register in touched(body).registers:
                register = statement.register
                if register not in private:
                    own = Register(f"{register.name}_own", register.dtype)
                    neutral = COMBINES[statement.combine].neutral(register.dtype)
                    self.line(f"{REGISTER[own.dtype]} {self.register(own)} = {literal(neutral, own.dtype)};")
                    private[register] = own, statement.combine
            elif isinstance(statement, ArgUpdate) and statement.best in touched(body).registers:
                best, place = statement.best, statement.place
                own, here = Register(f"{best.name}_own", best.dtype), Register(f"{place.name}_own", int64)
                extreme = "maximum" if statement.combine == "argmax" else "minimum"
                neutral = COMBINES[extreme].neutral(best.dtype)
                self.line(f"{REGISTER[own.dtype]} {self.register(own)} = {literal(neutral, own.dtype)};")
                self.line(f"i64 {self.register(here)} = 9223372036854775807LL;")
                private[best], private[place] = (own, statement.combine), (here, "")
                places[best] = place, here
        renamed = tuple(_renamed(s, {r: own for r, (own, _) in private.items()}) for s in body)
        self.together = False
        with self._hoisted(loop, body, f"{begin} < {end}"):
            inner = self.stage.pairs.get(loop)
            if inner is not None:
                self._paired(loop, inner, renamed, begin, end)
            else:
                if loop not in self.stage.packs and not any(isinstance(s, For) for s in body):
                    self.line(f"#pragma unroll {8 if self.stage.column else 4}")
                self._strided(loop, renamed, begin, end, "rank", "team")
        self.together = True
        results: dict[Register, tuple[Register, str]] = {}
        for register, (own, combine) in private.items():
            if register in places:
                self._combine_extremes(register, places[register][0], own, places[register][1], combine)
            elif combine:
                results[register] = self._combined(register, own, combine), combine
        return results

    def _paired(self, loop: For, inner: For, body: Sequence[Statement], begin: str, end: str) -> None:
        """A loop with nothing but another one inside: as many threads beside each other share that as it needs."""
        (renamed,) = body
        assert isinstance(renamed, For)
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(inner.extent))
        across, lane = self.names.fresh("across"), self.names.fresh("lane")
        self.line(f"int {across} = 1;")
        self.line(f"while ({across} < team && {across} < {extent}) {across} *= 2;")
        self.line(f"const int {lane} = rank % {across};")
        start = f"rank / {across}" if begin == "0" else f"{begin} + rank / {across}"
        head = f"for (i64 {index} = {start}; {index} < {end}; {index} += team / {across})"
        with self.block(head), self._hoisted(inner, renamed.body, f"0 < {extent}"):
            self._strided(inner, renamed.body, "0", extent, lane, across)

    def _combined(self, register: Register, own: Register, combine: str) -> Register:
        """The combination of what every thread of the team has."""
        shape = "column" if self.stage.column else "row"
        result = Register(f"{register.name}_all", register.dtype)
        kind = REGISTER[register.dtype]
        operands = f"{self.register(own)}, {self._scratch(register)}, {self._lambda(register, combine)}"
        self.line(f"const {kind} {self.register(result)} = st_reduce_{shape}({operands});")
        return result

    def _lambda(self, register: Register, combine: str) -> str:
        """The step of a combination as a function of two values."""
        kind = REGISTER[register.dtype]
        a, b = Register("a", register.dtype), Register("b", register.dtype)
        left, right = self.names.of(a, "a"), self.names.of(b, "b")
        step = COMBINES[combine].step(read(a), read(b))
        text = bare(self._spell(step, [left, right]))
        return f"[]({kind} {left}, {kind} {right}) -> {kind} {{ return {text}; }}"

    def _combine_extremes(self, best: Register, place: Register, own: Register, here: Register, combine: str) -> None:
        kind = REGISTER[best.dtype]
        wins = "st_above" if combine == "argmax" else "st_below"
        shape = "column" if self.stage.column else "row"
        compare = f"[]({kind} a, i64 at, {kind} b, i64 bt) -> bool {{ return {wins}<{kind}>(a, at, b, bt); }}"
        values, mine = self.register(own), self.register(here)
        self.line(
            f"st_extreme_{shape}({values}, {mine}, {self._scratch(best)}, {self._scratch(here, 'places')}, {compare});"
        )
        total, spot = self.register(best), self.register(place)
        self.line(
            f"if ({wins}<{kind}>({values}, {mine}, {total}, {spot})) {{ {total} = {values}; {spot} = {mine}; }}"
        )
        self.forget([best, place])

    def _scratch(self, register: Register, role: str = "scratch") -> str:
        """The shared array in which threads exchange values of a register's type."""
        kind = REGISTER[register.dtype]
        found = self.scratch.get((role, kind))
        if found is None:
            found = self.scratch[role, kind] = self.names.fresh(f"{role}_{kind}")
        return found

    def _scan(self, loop: For, scan: Scan) -> None:
        """A running combination: the team takes as many iterations at once as it has threads."""
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(loop.extent))
        tile, inside = self.names.fresh("tile"), self.names.fresh("inside")
        stand: dict[Register, Register] = {}
        early: dict[Register, Register] = {}
        totals: list[tuple[Update, str]] = []
        with self.block(f"for (i64 {tile} = 0; {tile} < {extent}; {tile} += team)"):
            self.line(f"const i64 {index} = {tile} + rank;")
            self.line(f"const bool {inside} = {index} < {extent};")
            for update in scan.updates:
                register, kind = update.register, REGISTER[update.register.dtype]
                term = Register(f"{register.name}_term", register.dtype)
                total = self.names.fresh(f"{register.name}_total")
                neutral = COMBINES[update.combine].neutral(register.dtype)
                self.line(f"{kind} {self.register(term)} = {literal(neutral, register.dtype)};")
                self.together = False
                with self.block(f"if ({inside})"):
                    self.line(f"{self.register(term)} = {bare(self.value(update.value))};")
                self.together = True
                sums = Register(f"{register.name}_sums", register.dtype)
                self.line(f"{kind} {total};")
                self.line(
                    f"const {kind} {self.register(sums)} = st_scan_row({self.register(term)}, {total}, "
                    f"{self._scratch(register)}, {self._lambda(register, update.combine)});"
                )
                after = stand[register] = Register(f"{register.name}_here", register.dtype)
                step = COMBINES[update.combine].step(read(register), read(sums))
                self.line(f"const {kind} {self.register(after)} = {bare(self.value(step))};")
                if register in scan.before:
                    early[register] = Register(f"{register.name}_before", register.dtype)
                    value = bare(self.value(read(after) - read(term)))
                    self.line(f"const {kind} {self.register(early[register])} = {value};")
                totals.append((update, total))
            self.together = False
            with self.block(f"if ({inside})"):
                done: set[Register] = set()
                for statement in loop.body:
                    if isinstance(statement, Update):
                        done.add(statement.register)
                        continue
                    now = {r: stand[r] if r in done else early.get(r, stand[r]) for r in stand}
                    self.statements([_reading(statement, now)])
            self.together = True
            for update, total in totals:
                register = update.register
                held = Register("total", register.dtype)
                self.names.give(held, total)
                step = COMBINES[update.combine].step(read(register), read(held))
                self.line(f"{self.register(register)} = {bare(self.value(step))};")
                self.forget([register])

    # Waiting ----------------------------------------------------------------------------------------------------

    def _wait_for(self, statement: Statement) -> None:
        """Make the team wait where a statement could meet memory that its other threads are not done with."""
        facts = touched([statement])
        reads = {self.identity(b) for b in facts.reads if b in self.written or self.aliased}
        writes = {self.identity(b) for b in facts.writes}
        if reads & self.dirty or writes & (self.dirty | self.touched):
            self._wait()
        self.dirty |= writes
        self.touched |= reads

    def _wait(self) -> None:
        self.line("__syncthreads();" if self.stage.column else "st_team_sync();")
        self.dirty.clear()
        self.touched.clear()


def _from_memory(buffer: Buffer, text: str) -> str:
    if buffer.dtype.kind == "b":
        return f"({text} != 0)"
    return f"st_half_to_float({text})" if buffer.dtype is float16 else text


def _to_memory(buffer: Buffer, text: str) -> str:
    if buffer.dtype.kind == "b":
        return f"(u8)({text})"
    return f"st_float_to_half({text})" if buffer.dtype is float16 else text


def _updates(body: Sequence[Statement]) -> Iterator[Update | ArgUpdate]:
    for statement in body:
        if isinstance(statement, (Update, ArgUpdate)):
            yield statement
        elif isinstance(statement, For):
            yield from _updates(statement.body)


def _renamed(statement: Statement, own: dict[Register, Register]) -> Statement:
    """A statement that combines into other registers."""
    match statement:
        case Update(register=register, combine=combine, value=value):
            return Update(own.get(register, register), combine, value)
        case ArgUpdate(best=best, place=place, combine=combine, value=value, position=position):
            return ArgUpdate(own.get(best, best), own.get(place, place), combine, value, position)
        case For(index=index, extent=extent, body=body, kind=kind):
            return For(index, extent, tuple(_renamed(s, own) for s in body), kind)
    return statement


def _reading(statement: Statement, now: dict[Register, Register]) -> Statement:
    """A store with other registers in the place of some."""
    if not isinstance(statement, Store):
        raise InternalError("a running combination holds a statement that is no store")
    changes: dict[Scalar, Scalar] = {}
    for node in nodes_of([statement]):
        if node.op.name == "register" and node.param in now:
            changes[node] = read(now[node.param], node.free)
    index = tuple(substitute(i, changes) for i in statement.index)
    where = None if statement.where is None else substitute(statement.where, changes)
    return Store(statement.buffer, index, substitute(statement.value, changes), statement.combine, where)


def _told(stage: Stage) -> str:
    """A stage in words."""
    match stage.form:
        case "map":
            width = stage.width(stage.chain[0])
            return "a thread an element" if width == 1 else f"{width} elements a thread"
        case "nest":
            return f"{len(stage.chain)} loops on the grid"
        case "team":
            team = "a column of threads" if stage.column else "a row of threads"
            return f"{team} for each item" if stage.chain else "one block"
        case "owned":
            return "in order; each thread stores what it owns" if stage.owners else "one thread"
