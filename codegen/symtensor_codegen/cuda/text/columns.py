"""Combinations along columns where a thread has several neighbouring columns: it reads them in accesses of 16 bytes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from symtensor_codegen.cuda.schedules.dependence import nodes_of, registers_in
from symtensor_codegen.cuda.schedules.packs import VECTOR_BYTES, Packs
from symtensor_codegen.cuda.schedules.sharing import BLOCK, SCRATCH, Spread, as_bits
from symtensor_codegen.cuda.text.hoisting import MOST_HOISTED, invariants, reads_memory
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER, literal
from symtensor_codegen.cuda.text.teams import TeamWriter, renamed
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import Declare, For, Statement, Store, map_values
from symtensor_codegen.scalar import COMBINES, Buffer, Register, Scalar, as_int, load_op, read, register_op
from symtensor_codegen.substitution import stride, substitute


class ColumnWriter(TeamWriter):
    """Writes teams of columns for arrays whose rows begin at multiples of packs."""

    def _wide_columns(self, packs: Packs, spread: Spread, begin: str, end: str, total: str) -> None:
        """All that a stage does for such arrays; what is written after it is for others."""
        width = packs.width
        start, here = f"{width} * (i64)blockIdx.x * blockDim.x", f"tile + {width} * threadIdx.x"
        step = f"{width} * (i64)gridDim.x * blockDim.x"
        fewer = f"(i64)gridDim.x * blockDim.x < {total}"  # than columns: the launch has a thread for several
        with self.block(f"if ({fewer} && {self._aligned_rows(packs, spread.loop)})"):
            with self.block(f"for (i64 tile = {start}; tile < {total}; tile += {step})"):
                self.line(f"const bool active = {here} < {total};")
                self.line(f"const i64 item = active ? {here} : {total} - {width};")
                first = self.names.fresh("first")
                self._places_in_chain(first)
                self._neighbours(packs, spread, begin, end, first)
            self.line("return;")

    def _neighbours(self, packs: Packs, spread: Spread, begin: str, end: str, first: str) -> None:
        """The columns of a thread: the loop that the team shares, the exchange, and what follows for each column."""
        body, at = self.stage.body, self.stage.body.index(spread.loop)
        own: dict[Register, Register] = {}
        for register, combine in spread.combined:
            own[register] = self._in_pack(register, "own")
            neutral = literal(COMBINES[combine].neutral(register.dtype), register.dtype)
            self.line(f"{self._pack_type(REGISTER[register.dtype], packs)} {self._whole(own[register])};")
            self.line("#pragma unroll")
            self.line(f"{_each(packs)} {self.register(own[register])} = {neutral};")
        self.together = False
        self._rows(packs, spread.loop, [renamed(s, own) for s in spread.loop.body], begin, end, first)
        self.together = True
        results = {r: self._totals_of_columns(r, own[r], combine, packs) for r, combine in spread.combined}
        with self.block("if (gridDim.y > 1)"):
            with self._columns(packs, first):
                for position, result in enumerate(results.values()):
                    place = spread.place(self.stage.chain, position, BLOCK)
                    self._store(Store(SCRATCH, (place,), as_bits(read(result))))
            self.line("continue;")
        with self._columns(packs, first):
            self.statements(body[:at])
            for register, combine in spread.combined:
                self._update(register, combine, read(results[register]))
            self.statements(body[at + 1 :])

    def _rows(
        self, packs: Packs, loop: For, body: Sequence[Statement], begin: str, end: str, first: str
    ) -> None:
        """The loop over rows: packs of several of them are on their way before the first is used."""
        index = self.names.of(loop.index, loop.index.param.name)
        near, gap = self.names.fresh("near"), self.names.fresh("gap")
        ahead = packs.ahead(len(packs.loads))
        here, each = f"{near} + u * {gap}", f"for (int u = 0; u < {ahead}; ++u)"
        names = {load: self.names.fresh(f"{load[0].name}_pack") for load in packs.loads}
        body, changes = self._fixed(packs, loop, body, f"{begin} < {end}", first)
        self.line(f"const i64 {gap} = team;")
        self.line("#pragma unroll 1")
        with self.block(f"for (i64 {near} = {begin} + rank; {near} < {end}; {near} += {ahead} * {gap})"):
            for load, name in names.items():
                self.line(f"{self._pack_type(MEMORY[load[0].dtype], packs)} {name}[{ahead}];")
            self.line("#pragma unroll")
            with self.block(each), self.block(f"if ({here} < {end})"):
                self.line(f"const i64 {index} = {here};")
                for load, name in names.items():
                    self.line(f"{name}[u] = {self._read_columns(packs, *load, first)};")
            self.line("#pragma unroll")
            with self.block(each), self.block(f"if ({here} < {end})"):
                self.line(f"const i64 {index} = {here};")
                words = self._words(packs, self.stage.chain[-1].index, first)
                with self._columns(packs, first):
                    self.known[-1].update({substitute(draw, changes): f"{name}[k]" for draw, name in words.items()})
                    self.elements = {
                        (buffer, substitute(place, changes)): f"{name}[u].v[k]"
                        for (buffer, place), name in names.items()
                    }
                    self.statements(body)
                    self.elements = {}

    def _fixed(
        self, packs: Packs, loop: For, body: Sequence[Statement], filled: str, first: str
    ) -> tuple[Sequence[Statement], Mapping[Scalar, Scalar]]:
        """Compute what is the same in all rows, for each column; the body with that in its place, and what changed."""
        own = {s.register for s in body if isinstance(s, Declare)}

        def varies(node: Scalar) -> bool:
            return loop.index in node.free or not own.isdisjoint(registers_in(node))

        def comes_in_packs(node: Scalar) -> bool:
            return node in packs.draws or (node.op is load_op and (node.param, node.args[0]) in packs.loads)

        kept: dict[Scalar, Register] = {}
        for value in (
            *invariants(body, varies, comes_in_packs)[:MOST_HOISTED],
            *[n for n in nodes_of(body) if n.op is register_op and n.param not in own],
        ):
            kept[value] = self._in_pack(Register("fixed", value.dtype), "here")
        changes = {value: read(register, value.free) for value, register in kept.items()}
        body = map_values(tuple(body), partial(substitute, replacements=changes))
        if not kept:
            return body, changes
        for register in kept.values():
            self.line(f"{self._pack_type(REGISTER[register.dtype], packs)} {self._whole(register)};")
        with self._columns(packs, first):
            self.statements(self.stage.body[: self.stage.body.index(loop)])
            reading = [value for value in kept if reads_memory(value, lambda node: False)]
            self._set({value: register for value, register in kept.items() if value not in reading})
            if reading:
                with self.block(f"if ({filled})"):
                    self._set({value: kept[value] for value in reading})
        return body, changes

    def _set(self, values: Mapping[Scalar, Register]) -> None:
        for value, register in values.items():
            self.line(f"{self.register(register)} = {bare(self.value(value))};")

    def _totals_of_columns(self, register: Register, own: Register, combine: str, packs: Packs) -> Register:
        """The combination of what every thread of the team has, for each of its columns."""
        pack, result = self._pack_type(REGISTER[register.dtype], packs), self._in_pack(register, "all")
        a, b = Register("a", register.dtype), Register("b", register.dtype)
        names = [self.names.fresh("a"), self.names.fresh("b")]
        step = COMBINES[combine].step(read(a), read(b))
        each = " ".join(
            f"{names[0]}.v[{k}] = {bare(self._spell(step, [f'{name}.v[{k}]' for name in names]))};"
            for k in range(packs.width)
        )
        function = f"[]({pack} {names[0]}, const {pack}& {names[1]}) -> {pack} {{ {each} return {names[0]}; }}"
        operands = f"{self._whole(own)}, {self.shared_array(pack)}, {function}"
        self.line(f"const {pack} {self._whole(result)} = st_reduce_column({operands});")
        return result

    # Packs --------------------------------------------------------------------------------------------------------

    def _in_pack(self, register: Register, role: str) -> Register:
        """A register that is one of a pack's elements, ``k``."""
        element = Register(f"{register.name}_{role}", register.dtype)
        self.names.give(element, f"{self.names.fresh(element.name)}.v[k]")
        return element

    def _whole(self, element: Register) -> str:
        """The pack whose element a register is."""
        return self.register(element).removesuffix(".v[k]")

    def _pack_type(self, kind: str, packs: Packs) -> str:
        """The name of the type of packs of ``kind``."""
        name = f"{kind}_{packs.width}"
        self.definitions[name] = f"typedef st_pack<{kind}, {packs.width}> {name};"
        return name

    @contextmanager
    def _columns(self, packs: Packs, first: str) -> Iterator[None]:
        """Statements for each of a thread's columns."""
        index = self.stage.chain[-1].index
        self.line("#pragma unroll")
        with self.block(_each(packs)):
            self.line(f"const i64 {self.names.of(index, index.param.name)} = {first} + k;")
            yield

    def _read_columns(self, packs: Packs, buffer: Buffer, place: Scalar, first: str) -> str:
        """The elements of a thread's columns."""
        pack = self._pack_type(MEMORY[buffer.dtype], packs)
        start = bare(self.value(substitute(place, {self.stage.chain[-1].index: as_int(0)})))
        at = first if start == "0LL" else f"{start} + {first}"
        return f"st_load_pack<{pack}>({self.names.of(buffer, buffer.name)}, {at})"

    def _aligned_rows(self, packs: Packs, loop: For) -> str:
        """Whether every row of the arrays begins where a pack may, and has whole packs."""
        *outer, last = [c.index for c in self.stage.chain]
        sizes = [as_int(self.stage.chain[-1].extent)]
        tests: dict[str, None] = {}
        for buffer, place in packs.loads:
            bytes_ = min(packs.width * buffer.dtype.itemsize, VECTOR_BYTES)
            tests[f"((u64){self.names.of(buffer, buffer.name)} & {bytes_ - 1}) == 0"] = None
            walked = [*outer, loop.index]
            sizes += [as_int(step) for i in walked if (step := stride(place, i)) is not None]
            sizes.append(substitute(place, {i: as_int(0) for i in (*walked, last)}))
        for size in dict.fromkeys(sizes):
            text = bare(self.value(size))
            if text != "0LL":
                tests[f"({text} & {packs.width - 1}) == 0"] = None
        return " && ".join(tests)


def _each(packs: Packs) -> str:
    return f"for (int k = 0; k < {packs.width}; ++k)"
