"""Running combinations that the threads of a team share, and blocks too where there are few of them and they are long.

A team takes the iterations piece by piece. Each thread computes the values to be combined of several iterations, with
all of their loads on the way before the first is used, and combines them; the threads exchange what they have; then
each goes through its values again, from what everything before them comes to, and stores.

In a row, neighbouring threads take neighbouring packs, and a warp takes several times as many, one after the other. In
a column, a thread takes consecutive iterations. A register holds what it holds at the same statement of the loop, so a
store may stand before a value is combined or after it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from symtensor_codegen.cuda.schedules.dependence import Scan, nodes_of, touched
from symtensor_codegen.cuda.schedules.packs import Packs, is_heavy
from symtensor_codegen.cuda.schedules.sharing import BLOCK, Spread, gathering
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER, literal
from symtensor_codegen.cuda.text.teams import TeamWriter
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.loops import For, Statement, Store, Update, map_values
from symtensor_codegen.scalar import COMBINES, Buffer, Register, Scalar, as_int, read, register_op
from symtensor_codegen.substitution import substitute


@dataclass(frozen=True, slots=True)
class _Piece:
    """The iterations of a thread in a piece: ``count`` times ``width`` neighbours, from ``here`` on (for ``u``).

    ``inside``: whether these are before the end.
    """

    loop: For
    updates: tuple[Update, ...]
    packs: Packs | None
    count: int
    width: int
    here: str
    inside: str

    @property
    def each(self) -> str:
        return f"for (int u = 0; u < {self.count}; ++u)"

    @property
    def where_inside(self) -> str:
        return f"if ({self.inside})"

    @property
    def further(self) -> str:
        """What is added to ``here`` within a pack."""
        return "" if self.packs is None else " + k"

    @property
    def element(self) -> str:
        """Which of an array of values is that of an iteration."""
        return "[u]" if self.packs is None else "[u][k]"


class ScanWriter(TeamWriter):
    """Writes running combinations."""

    _share: tuple[str, str] | None = None  # where the iterations of this block begin and end

    def _for(self, loop: For, unroll: int = 0) -> None:
        scan = next((scan for scanned, scan in self.stage.scans if scanned is loop), None)
        if scan is None:
            super()._for(loop, unroll)
            return
        facts = touched(loop.body)
        changed: list[Register | Buffer] = [*facts.registers, *facts.writes]
        self.forget(changed)
        self._scan(loop, scan)
        self.forget(changed)

    def _resume(self, spread: Spread, begin: str, end: str) -> None:
        """An item whose loop several blocks may share, each from what the parts before its own come to."""
        ((loop, _),) = self.stage.scans
        at = self.stage.body.index(loop)
        self.statements(self.stage.body[:at])
        registers = [register for register, _ in spread.combined]
        self.forget(registers)
        self.reads_ahead = self.stage.column  # in a row a thread has one part, or two
        with self.block("if (gridDim.y > 1)"):
            self._split(gathering(spread, self.stage.chain, BLOCK))
        self.reads_ahead = True
        self.forget(registers)
        self._share = begin, end
        self.statements([loop])
        if behind := self.stage.body[at + 1 :]:
            with self.block("if (blockIdx.y == gridDim.y - 1)"):
                self.statements(behind)

    def _scan(self, loop: For, scan: Scan) -> None:
        begin, end = self._share or ("0", self.held(as_int(loop.extent)))
        packs = self.stage.packs.get(loop)
        self.together = False
        with self._hoisted(loop, loop.body, f"{begin} < {end}"):
            lanes = "1"
            if not self.stage.column:
                lanes = self.names.fresh("lanes")
                self.line(f"const int {lanes} = team < 32 ? team : 32;")
            if packs is not None:
                rest = self._end_of_packs(packs, loop, begin, end)
                self._pieces(loop, scan, begin, rest, lanes, packs)
                begin = rest
            self._pieces(loop, scan, begin, end, lanes, None)
        self.together = True

    def _pieces(self, loop: For, scan: Scan, begin: str, end: str, lanes: str, packs: Packs | None) -> None:
        """The iterations from ``begin`` to ``end``, in packs or one by one."""
        width = 1 if packs is None else packs.width
        count = _batch(loop, scan, width, self.stage.column)
        piece, mine, near, left = map(self.names.fresh, ("piece", "mine", "near", "left"))
        first, further = f"{count} * rank", "u"
        if not self.stage.column:
            first, further = f"rank / 32 * {32 * count} + (rank & ({lanes} - 1))", f"u * {lanes}"
            if width > 1:
                gap = self.names.fresh("gap")
                self.line(f"const int {gap} = {width} * {lanes};")
                first, further = f"{width} * ({first})", f"u * {gap}"
        self.line(f"const int {mine} = {first};")
        self.line("#pragma unroll 1")
        with self.block(f"for (i64 {piece} = {begin}; {piece} < {end}; {piece} += {count * width} * team)"):
            self.line(f"const i64 {near} = {piece} + {mine};")
            rest = f"{end} - {near} < 1 << 30 ? {end} - {near} : 1 << 30"
            self.line(f"const int {left} = (int)({f'!active ? 0 : {rest}' if self.stage.column else rest});")
            step = _Piece(loop, scan.updates, packs, count, width, f"{near} + {further}", f"{further} < {left}")
            loaded = self._loaded(step)
            terms = self._terms(step, loaded)
            exchanged = {u.register: self._exchanged(step, u, terms[u.register]) for u in scan.updates}
            self.all_active = True
            self._stored(step, loaded, terms, {register: before for register, (before, _) in exchanged.items()})
            self.all_active = False
            for update in scan.updates:
                self._update(update.register, update.combine, read(exchanged[update.register][1]))

    def _loaded(self, step: _Piece) -> dict[tuple[Buffer, Scalar], str]:
        """The packs that a thread reads, each in an array."""
        if step.packs is None:
            return {}
        loaded: dict[tuple[Buffer, Scalar], str] = {}
        kinds = {}
        for buffer, place in step.packs.loads:
            loaded[buffer, place] = name = self.names.fresh(f"{buffer.name}_ahead")
            kinds[name] = f"st_pack<{MEMORY[buffer.dtype]}, {step.width}>"
            self.line(f"{kinds[name]} {name}[{step.count}];")
        self.line("#pragma unroll")
        with self.block(step.each), self.block(step.where_inside):
            for (buffer, place), name in loaded.items():
                pack = self._pack(buffer, place, step.loop, step.here)
                self.line(f"{name}[u] = st_load_pack<{kinds[name]}>({pack});")
        return loaded

    def _terms(self, step: _Piece, loaded: Mapping[tuple[Buffer, Scalar], str]) -> dict[Register, Register]:
        """The values to be combined, one for each iteration of a thread; neutral ones behind the end."""
        index = self.names.of(step.loop.index, step.loop.index.param.name)
        terms: dict[Register, Register] = {}
        neutral: dict[Register, str] = {}
        for update in step.updates:
            register = update.register
            name = self.names.fresh(f"{register.name}_term")
            terms[register] = self._named(register, f"{name}{step.element}")
            neutral[register] = _neutral(update)
            sizes = f"[{step.count}]" if step.packs is None else f"[{step.count}][{step.width}]"
            self.line(f"{REGISTER[register.dtype]} {name}{sizes};")
        self.line("#pragma unroll")
        with self.block(step.each):
            with self._iterations(step):
                for register in terms:
                    self.line(f"{self.register(terms[register])} = {neutral[register]};")
            with self.block(step.where_inside):
                words = {} if step.packs is None else self._words(step.packs, step.loop.index, step.here)
                with self._iterations(step):
                    self.line(f"const i64 {index} = {step.here}{step.further};")
                    self.known[-1].update({draw: f"{name}[k]" for draw, name in words.items()})
                    self.elements = {place: f"{name}[u].v[k]" for place, name in loaded.items()}
                    for update in step.updates:
                        self.line(f"{self.register(terms[update.register])} = {bare(self.value(update.value))};")
                    self.elements = {}
        return terms

    def _exchanged(self, step: _Piece, update: Update, term: Register) -> tuple[Register, Register]:
        """What the team combined before each pack of a thread (before the thread, in a column), and in all."""
        register, combine = update.register, update.combine
        kind, name = REGISTER[register.dtype], self.names.fresh(f"{register.name}_before")
        total = Register(f"{register.name}_total", register.dtype)
        if self.stage.column:
            before = self._named(register, name)
            self.line(f"{kind} {name} = {_neutral(update)};")
        else:
            before = self._named(register, f"{name}[u]")
            self.line(f"{kind} {name}[{step.count}];")
        self.line("#pragma unroll")
        with self.block(step.each):
            if step.packs is None and not self.stage.column:
                self.line(f"{self.register(before)} = {self.register(term)};")
            elif step.packs is None:
                self._update(before, combine, read(term))
            else:
                self.line(f"{self.register(before)} = {_neutral(update)};")
                with self._iterations(step):
                    self._update(before, combine, read(term))
        operands = f"{name}, {_neutral(update)}, {self._scratch(register)}, {self._lambda(register, combine)}"
        form = "column" if self.stage.column else "row"
        self.line(f"const {kind} {self.register(total)} = st_scan_{form}({operands});")
        return before, total

    def _stored(
        self,
        step: _Piece,
        loaded: Mapping[tuple[Buffer, Scalar], str],
        terms: Mapping[Register, Register],
        before: Mapping[Register, Register],
    ) -> None:
        """The statements of the loop, over what the values before come to."""
        now = {u.register: Register(f"{u.register.name}_now", u.register.dtype) for u in step.updates}

        def begun() -> None:
            for update in step.updates:
                start = COMBINES[update.combine].step(read(update.register), read(before[update.register]))
                kind = REGISTER[update.register.dtype]
                self.line(f"{kind} {self.register(now[update.register])} = {bare(self.value(start))};")

        if self.stage.column:
            begun()
        self.line("#pragma unroll")
        with self.block(step.each), self.block(step.where_inside):
            if not self.stage.column:
                begun()
            if step.packs is None:
                self._iteration(step, terms, now)
                return
            out = {store: self.names.fresh(f"{store[0].name}_out") for store in step.packs.stores}
            for (buffer, _), name in out.items():
                self.line(f"st_pack<{MEMORY[buffer.dtype]}, {step.width}> {name};")
            with self._iterations(step):
                self.elements = {place: f"{name}[u].v[k]" for place, name in loaded.items()}
                self.elements |= {place: f"{name}.v[k]" for place, name in out.items()}
                self._iteration(step, terms, now)
                self.elements = {}
            for (buffer, place), name in out.items():
                self.line(f"st_put_pack({self._pack(buffer, place, step.loop, step.here)}, {name});")

    def _iteration(self, step: _Piece, terms: Mapping[Register, Register], now: Mapping[Register, Register]) -> None:
        """The statements of one iteration, with registers and values of this thread."""
        index = self.names.of(step.loop.index, step.loop.index.param.name)
        self.line(f"const i64 {index} = {step.here}{step.further};")
        for statement in step.loop.body:
            if isinstance(statement, Update):
                self._update(now[statement.register], statement.combine, read(terms[statement.register]))
            elif isinstance(statement, Store):
                self._statement(_reading(statement, now))

    @contextmanager
    def _iterations(self, step: _Piece) -> Iterator[None]:
        """Each iteration of a pack, where there are packs."""
        if step.packs is None:
            yield
            return
        self.line("#pragma unroll")
        with self.block(f"for (int k = 0; k < {step.width}; ++k)"):
            yield

    def _named(self, register: Register, text: str) -> Register:
        """A register of the same type with this text for a name."""
        made = Register(register.name, register.dtype)
        self.names.give(made, text)
        return made


def _batch(loop: For, scan: Scan, width: int, column: bool) -> int:
    """How many packs, or single elements, a thread takes in a piece: its values must fit in registers."""
    words = sum(max(update.register.dtype.itemsize // 4, 1) for update in scan.updates)
    count, most = (8, 16) if column else (4, 4) if width == 1 else (2, 8)
    if is_heavy(loop.body):
        count //= 2
    while count > 1 and count * width * words > most:
        count //= 2
    return count


def _neutral(update: Update) -> str:
    return literal(COMBINES[update.combine].neutral(update.register.dtype), update.register.dtype)


def _reading(store: Store, now: Mapping[Register, Register]) -> Statement:
    """A store with other registers in the place of some."""
    changes: dict[Scalar, Scalar] = {
        node: read(now[node.param], node.free)
        for node in nodes_of([store])
        if node.op is register_op and node.param in now
    }
    return map_values((store,), partial(substitute, replacements=changes))[0]
