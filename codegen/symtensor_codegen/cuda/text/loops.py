"""Statements and loops of one thread: what is the same in all iterations goes before, packs go side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from symtensor_codegen.cuda.schedules.dependence import touched
from symtensor_codegen.cuda.schedules.packs import BATCH, READS, VECTOR_BYTES, Packs, sole_load
from symtensor_codegen.cuda.text.accesses import Accesses
from symtensor_codegen.cuda.text.hoisting import MOST_HOISTED, invariants, reads_memory
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
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
)
from symtensor_codegen.substitution import substitute


class LoopWriter(Accesses):
    """Writes statements, and loops that a thread runs by itself or shares with others one by one."""

    reads_ahead = True  # whether loops that only read load several elements before they use the first

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
                changed = {self.register(r) for r in registers}  # all values are those before any of them changes
                texts = [self.held(v) for v in values]
                texts = [self.variable(t, v.dtype) if t in changed else t for t, v in zip(texts, values, strict=True)]
                for register, text in zip(registers, texts, strict=True):
                    self.line(f"{self.register(register)} = {text};")
                self.forget(registers)
            case Leave(condition=condition):
                self.line(f"if ({bare(self.value(condition))}) break;")
            case Store():
                self._store(statement)
            case Check(condition=condition, message=message):
                self.line(f"if (!({bare(self.value(condition))})) st_fail(status, {self._failure(message)});")

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

    def _for(self, loop: For, unroll: int = 0) -> None:
        """A loop that every thread runs as it stands."""
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(loop.extent))
        head = f"for (i64 {index} = 0; {index} < {extent}; ++{index})"
        before = set(self.dirty), set(self.touched)
        with self._hoisted(loop, loop.body, f"0 < {extent}"):
            if unroll:
                self.line(f"#pragma unroll {unroll}")
            with self.block(head):
                self.statements(loop.body)
                if self.together and touched(loop.body).writes:
                    self._wait()
        if not (isinstance(loop.extent, int) and loop.extent > 0):  # it may have no iterations, so no waiting either
            self.dirty |= before[0]
            self.touched |= before[1]

    def _strided(
        self, loop: For, body: Sequence[Statement], begin: str, end: str, rank: str, team: str, unroll: int = 0
    ) -> None:
        """A loop from ``begin`` to ``end`` of which thread ``rank`` of ``team`` takes its share."""
        packs = self.stage.packs.get(loop)
        index = self.names.of(loop.index, loop.index.param.name)
        start = rank if begin == "0" else f"{begin} + {rank}"
        if packs is not None:
            self._packed(packs, loop, body, begin, end, rank, team)
        elif self.reads_ahead and (read := sole_load(loop, body)) is not None:
            self._reading_ahead(read, index, body, start, end, team)
        else:
            if unroll:
                self.line(f"#pragma unroll {unroll if self.reads_ahead else 1}")
            with self.block(f"for (i64 {index} = {start}; {index} < {end}; {index} += {team})"):
                self.statements(body)

    def _packed(
        self, packs: Packs, loop: For, body: Sequence[Statement], begin: str, end: str, rank: str, team: str
    ) -> None:
        """The same in packs: they are loaded, then each of their elements is computed, then packs are stored.

        The last few elements come one by one; all of them, where rows of arrays do not begin at multiples of packs.
        """
        width, index = packs.width, self.names.of(loop.index, loop.index.param.name)
        near, rest = self.names.fresh("near"), self._end_of_packs(packs, loop, begin, end)
        start = f"{width} * {rank}" if begin == "0" else f"{begin} + {width} * {rank}"
        if packs.light:
            self._batches(packs, loop, body, near, start, rest, f"{width} * {team}")
            self._reading_ahead(packs.loads[0], index, body, f"{rest} + {rank}", end, team)
            return
        self.line("#pragma unroll 1")  # to unroll it, the compiler would divide to count its steps
        with self.block(f"for (i64 {near} = {start}; {near} < {rest}; {near} += {width} * {team})"):
            loaded = {load: self.names.fresh(f"{load[0].name}_pack") for load in packs.loads}
            stored = {store: self.names.fresh(f"{store[0].name}_out") for store in packs.stores}
            for (buffer, place), name in loaded.items():
                pack = f"st_pack<{MEMORY[buffer.dtype]}, {width}>"
                self.line(f"const {pack} {name} = st_load_pack<{pack}>({self._pack(buffer, place, loop, near)});")
            for (buffer, _), name in stored.items():
                self.line(f"st_pack<{MEMORY[buffer.dtype]}, {width}> {name};")
            words = self._words(packs, loop.index, near)
            repeated = packs.heavy and not loaded and not stored  # long code once or twice, not for each element
            self.line("#pragma unroll 2" if repeated else "#pragma unroll")
            with self.block(f"for (int k = 0; k < {width}; ++k)"):
                self.line(f"const i64 {index} = {near} + k;")
                self.known[-1].update({draw: f"{name}[{0 if repeated else 'k'}]" for draw, name in words.items()})
                self.elements = {place: f"{name}.v[k]" for place, name in (loaded | stored).items()}
                self.statements(body)
                self.elements = {}
                for name in words.values() if repeated else ():
                    self.line(f"st_move_down<1>({name}, 1);")
            for (buffer, place), name in stored.items():
                self.line(f"st_store_pack({self._pack(buffer, place, loop, near)}, {name});")
        self.forget(touched(body).writes)
        self._one_by_one(packs, index, rest, rank, end, team, body)

    def _batches(
        self, packs: Packs, loop: For, body: Sequence[Statement], near: str, start: str, rest: str, step: str
    ) -> None:
        """A loop that only reads: several packs are on their way before the first is used."""
        ((buffer, place),), width = packs.loads, packs.width
        index = self.names.of(loop.index, loop.index.param.name)
        gap, name = self.names.fresh("gap"), self.names.fresh("ahead")
        each, inside = f"for (int u = 0; u < {BATCH}; ++u)", f"if ({near} + u * {gap} < {rest})"
        pack = f"st_pack<{MEMORY[buffer.dtype]}, {width}>"
        self.line(f"const i64 {gap} = {step};")
        self.line("#pragma unroll 1")
        with self.block(f"for (i64 {near} = {start}; {near} < {rest}; {near} += {BATCH} * {gap})"):
            self.line(f"{pack} {name}[{BATCH}];")
            first = self._pack(buffer, place, loop, f"{near} + u * {gap}")
            self.line("#pragma unroll")
            self.line(f"{each} {inside} {name}[u] = st_load_pack<{pack}>({first});")
            self.line("#pragma unroll")
            with self.block(each), self.block(inside):
                self.line("#pragma unroll")
                with self.block(f"for (int k = 0; k < {width}; ++k)"):
                    self.line(f"const i64 {index} = {near} + u * {gap} + k;")
                    self.elements = {(buffer, place): f"{name}[u].v[k]"}
                    self.statements(body)
                    self.elements = {}

    def _reading_ahead(
        self, read: tuple[Buffer, Scalar], index: str, body: Sequence[Statement], start: str, end: str, team: str
    ) -> None:
        """A loop that only reads, element by element: several are on their way before the first is used.

        Near the end the last element stands for those behind it, so that loads need no conditions.
        """
        buffer, place = read
        near, gap, name = map(self.names.fresh, ("near", "gap", "ahead"))
        each, here = f"for (int u = 0; u < {READS}; ++u)", f"{near} + u * {gap}"
        self.line(f"{MEMORY[buffer.dtype]} {name}[{READS}];")
        self.line(f"const i64 {gap} = {team};")
        self.line("#pragma unroll 1")
        with self.block(f"for (i64 {near} = {start}; {near} < {end}; {near} += {READS} * {gap})"):
            self.line("#pragma unroll")
            with self.block(each):
                self.line(f"const i64 {index} = {here} < {end} ? {here} : {end} - 1;")
                self.line(f"{name}[u] = {self.names.of(buffer, buffer.name)}[{bare(self.value(place))}];")
            self.line("#pragma unroll")
            with self.block(each), self.block(f"if ({here} < {end})"):
                self.line(f"const i64 {index} = {here};")
                self.elements = {read: f"{name}[u]"}
                self.statements(body)
                self.elements = {}

    def _one_by_one(
        self, packs: Packs, index: str, rest: str, rank: str, end: str, team: str, body: Sequence[Statement]
    ) -> None:
        """The last few elements, or all where packs cannot be used."""
        self.line(f"#pragma unroll {1 if packs.heavy else 4}")
        with self.block(f"for (i64 {index} = {rest} + {rank}; {index} < {end}; {index} += {team})"):
            self.statements(body)

    def _end_of_packs(self, packs: Packs, loop: For, begin: str, end: str) -> str:
        """Where a loop goes on one by one: behind the last whole pack, or at once."""
        rest = self.names.fresh("rest")
        length = end if begin == "0" else f"({end} - {begin})"
        whole = f"{end} - ({length} & {packs.width - 1})"
        aligned = self._aligned(packs, loop, begin)
        self.line(f"const i64 {rest} = {f'{aligned} ? {whole} : {begin}' if aligned else whole};")
        return rest

    def _pack(self, buffer: Buffer, place: Scalar, loop: For, near: str) -> str:
        """Where a pack begins: a buffer, and the place of iteration ``near`` in it."""
        first = bare(self.value(substitute(place, {loop.index: as_int(0)})))
        return f"{self.names.of(buffer, buffer.name)}, {near if first == '0LL' else f'{first} + {near}'}"

    def _words(self, packs: Packs, index: Scalar, near: str) -> dict[Scalar, str]:
        """Compute the random words of a pack that begins at ``near``: the array of each."""
        found: dict[Scalar, str] = {}
        for draw in packs.draws:
            name = self.names.fresh("words")
            *state, first = [bare(self.value(substitute(part, {index: as_int(0)}))) for part in draw.args]
            offset = near if first == "0LL" else f"{first} + {near}"
            self.line(f"{REGISTER[draw.dtype]} {name}[{packs.width}];")
            self.line(f"st_philox_row({', '.join(state)}, {offset}, {name});")
            self._depends(draw)
            found[draw] = name
        return found

    def _aligned(self, packs: Packs, loop: For, begin: str) -> str:
        """Whether packs begin where they may: rows of arrays, and arrays of others, need not; "" for no memory."""
        tests: dict[str, None] = {}
        for buffer, base in packs.bases(loop.index):
            size = min(packs.width * buffer.dtype.itemsize, VECTOR_BYTES)
            tests[f"((u64){self.names.of(buffer, buffer.name)} & {size - 1}) == 0"] = None
            first = bare(self.value(base))
            if first != "0LL" or begin != "0":
                place, step = first if begin == "0" else f"{first} + {begin}", size // buffer.dtype.itemsize
                tests[f"(({place}) & {step - 1}) == 0"] = None
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

    def places_in(self, loops: Sequence[For], names: Sequence[str], number: str) -> None:
        """Where an iteration of nested loops is in each of them, from its number among all."""
        rest = number
        for loop, name in reversed(list(zip(loops[1:], names[1:], strict=True))):
            extent, following = self.held(as_int(loop.extent)), self.names.fresh("rest")
            self.line(f"const i64 {following} = st_quotient({rest}, {extent});")
            self.line(f"const i64 {name} = {rest} - {following} * {extent};")
            rest = following
        self.line(f"const i64 {names[0]} = {rest};")

    # Waiting ------------------------------------------------------------------------------------------------------

    def _wait_for(self, statement: Statement) -> None:
        """Make the team wait where a statement could meet memory that its other threads are not done with."""
        facts = touched([statement])
        reads = {self.identity(b) for b in facts.reads if b in self.written or self.aliased}
        writes = {self.identity(b) for b in facts.writes}
        if reads & self.dirty or writes & (self.dirty | self.touched):
            self._wait()
        if isinstance(statement, For) and statement not in self.stage.split and self.stage.steps:
            return  # what is inside sees to itself
        self.dirty |= writes
        self.touched |= reads

    def _wait(self) -> None:
        self.line("__syncthreads();" if self.stage.column else "st_team_sync();")
        self.dirty.clear()
        self.touched.clear()
