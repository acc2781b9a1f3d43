"""Loops that the threads of a team share: each takes its part, and what they combine is put together."""

from collections.abc import Iterator, Mapping, Sequence

from symtensor_codegen.cuda.schedules.dependence import touched
from symtensor_codegen.cuda.schedules.launch_numbers import power_of_two
from symtensor_codegen.cuda.schedules.packs import is_heavy
from symtensor_codegen.cuda.schedules.sharing import BLOCK, SCRATCH, Spread, as_bits
from symtensor_codegen.cuda.text.operations import REGISTER, literal
from symtensor_codegen.cuda.text.steps import StepWriter
from symtensor_codegen.cuda.text.values import bare
from symtensor_codegen.dtypes import int64
from symtensor_codegen.loops import (
    ArgUpdate,
    For,
    Statement,
    Store,
    Update,
)
from symtensor_codegen.scalar import (
    COMBINES,
    Buffer,
    Register,
    as_int,
    read,
)


class TeamWriter(StepWriter):
    """Writes loops of teams."""

    def _for(self, loop: For, unroll: int = 0) -> None:
        facts = touched(loop.body)
        changed: list[Register | Buffer] = [*facts.registers, *facts.writes]
        self.forget(changed)
        if loop in self.stage.split:
            self._split(loop)
        else:
            super()._for(loop, unroll)
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
        inside = tuple(renamed(s, {r: own for r, (own, _) in private.items()}) for s in body)
        self.together = False
        with self._hoisted(loop, body, f"{begin} < {end}"):
            inner = self.stage.pairs.get(loop)
            if inner is not None:
                self._paired(loop, inner, inside, begin, end)
            else:
                unroll = 2 if is_heavy(body) else 8 if self.stage.column else 4
                unroll = 0 if any(isinstance(s, For) for s in body) else unroll
                self._strided(loop, inside, begin, end, "rank", "team", unroll)
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
        (nested,) = body
        assert isinstance(nested, For)
        index, extent = self.names.of(loop.index, loop.index.param.name), self.held(as_int(inner.extent))
        across, lane = self.names.fresh("across"), self.names.fresh("lane")
        if isinstance(inner.extent, int):
            most = power_of_two(inner.extent)
            self.line(f"const int {across} = team < {most} ? team : {most};")
        else:
            self.line(f"int {across} = 1;")
            self.line(f"while ({across} < team && {across} < {extent}) {across} *= 2;")
        self.line(f"const int {lane} = rank % {across};")
        start = f"rank / {across}" if begin == "0" else f"{begin} + rank / {across}"
        head = f"for (i64 {index} = {start}; {index} < {end}; {index} += team / {across})"
        with self.block(head), self._hoisted(inner, nested.body, f"0 < {extent}"):
            self._strided(inner, nested.body, "0", extent, lane, across)

    def _places_in_chain(self, last: str = "") -> None:
        """Where an item is in each of the loops around it; ``item`` is its number; ``last`` names the last place."""
        names = [self.names.of(loop.index, loop.index.param.name) for loop in self.stage.chain]
        self.places_in(self.stage.chain, [*names[:-1], last or names[-1]], "item")

    def _share_of_block(self) -> tuple[str, str] | None:
        """The iterations that are a block's, of a loop that several blocks may share: where they begin and end."""
        if self.stage.cut is None:
            return None
        total = self.held(as_int(self.stage.cut.loop.extent))
        share, begin, end = map(self.names.fresh, ("share", "begin", "end"))
        self.line(f"const i64 {share} = gridDim.y == 1 ? {total} : ({total} / gridDim.y + 8) & ~7LL;")
        first = f"{share} * blockIdx.y"
        self.line(f"const i64 {begin} = {first} < {total} ? {first} : {total};")
        self.line(f"const i64 {end} = {total} - {begin} < {share} ? {total} : {begin} + {share};")
        return begin, end

    def _spread(self, spread: Spread, begin: str, end: str) -> None:
        """An item whose loop several blocks may share: each leaves its part, a block that is alone goes on."""
        at = self.stage.body.index(spread.loop)
        self.statements(self.stage.body[:at])
        self.forget([register for register, _ in spread.combined])
        results = self._shared_loop(spread.loop, begin, end)
        if spread.running:
            self._leave_part(spread, results)
            return
        with self.block("if (gridDim.y > 1)"):
            self._leave_part(spread, results)
            self.line("continue;")
        for register, (result, combine) in results.items():
            self._update(register, combine, read(result))
        self.statements(self.stage.body[at + 1 :])

    def _leave_part(self, spread: Spread, results: Mapping[Register, tuple[Register, str]]) -> None:
        left = [results[register][0] for register, _ in spread.combined]
        left += [register for extreme in spread.extremes for register in (extreme.best, extreme.place)]
        for position, register in enumerate(left):
            place = spread.place(self.stage.chain, position, BLOCK)
            self._store(Store(SCRATCH, (place,), as_bits(read(register))))

    # What threads combine -----------------------------------------------------------------------------------------

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
        return self.shared_array(REGISTER[register.dtype], role)

    def shared_array(self, kind: str, role: str = "scratch") -> str:
        """The shared array for values of a type, one for each thread."""
        found = self.scratch.get((role, kind))
        if found is None:
            found = self.scratch[role, kind] = self.names.fresh(f"{role}_{kind}")
        return found


def _updates(body: Sequence[Statement]) -> Iterator[Update | ArgUpdate]:
    for statement in body:
        if isinstance(statement, (Update, ArgUpdate)):
            yield statement
        elif isinstance(statement, For):
            yield from _updates(statement.body)


def renamed(statement: Statement, own: Mapping[Register, Register]) -> Statement:
    """A statement that combines into other registers."""
    match statement:
        case Update(register=register, combine=combine, value=value):
            return Update(own.get(register, register), combine, value)
        case ArgUpdate(best=best, place=place, combine=combine, value=value, position=position):
            return ArgUpdate(own.get(best, best), own.get(place, place), combine, value, position)
        case For(index=index, extent=extent, body=body, kind=kind):
            return For(index, extent, tuple(renamed(s, own) for s in body), kind)
    return statement
