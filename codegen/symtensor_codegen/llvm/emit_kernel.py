"""Kernels to LLVM IR text: loops, registers and vector lanes.

A loop is a test that skips it when it is empty, a region for what is hoisted out of it, and a body that
ends in the jump back. Registers are SSA values: a loop that updates one has a phi for it. A loop with
``width`` lanes and ``unroll`` copies becomes a main loop over whole groups and a rest: one group under a
mask where masked memory access is cheap (AVX-512), else a scalar loop. A register that is declared outside
such a loop gets an accumulator of its own in each lane and copy; they are combined in a fixed order
afterwards, so results do not depend on timing.
"""

from collections.abc import Iterable, Sequence

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import accumulate
from symtensor_codegen.llvm.accesses import Accesses, flat_index
from symtensor_codegen.llvm.changes import ChangeFinder, Changes, splittable
from symtensor_codegen.llvm.emission import Exits, Functions, Lanes, Level, Split, Value, of_copy
from symtensor_codegen.llvm.half import HALF_CONVERSIONS
from symtensor_codegen.llvm.operations import Site, is_function
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import iota, splat, typed
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
    Kernel,
    Leave,
    LoopKind,
    Statement,
    Store,
    Update,
    scalars,
)
from symtensor_codegen.scalar import Register, as_int, index

_INLINE_FUNCTIONS = 8  # in a kernel; more are called


class KernelEmitter(Accesses):
    """Writes one kernel."""

    def __init__(self, kernel: Kernel, target: Target, outlined: Functions | None = None) -> None:
        super().__init__(kernel, target, outlined)
        self.finder = ChangeFinder(self.failed, lambda value: self.facts(value).messages)
        self._regions: list[tuple[int, str, str, str, str]] = []  # floor, range and labels
        self._exits: list[Exits] = []  # of the open loops

    def text(self, name: str) -> str:
        """The function ``i64 name(i64 lo, i64 hi, ptr args)``."""
        for statement in self.kernel.body:
            self.statement(statement)
        entry = self.levels[0]
        status = "0"
        for position, register in reversed(list(enumerate(self.failed.values()))):
            failed = self.register(register).names[0]
            if failed != "false":
                status = entry.put(f"select i1 {failed}, i64 {position + 1}, i64 {status}")
        lines = "\n".join(entry.lines)
        head = f"define i64 @{name}(i64 %lo, i64 %hi, ptr %args) nounwind {{\nentry:\n"
        return f"{head}{lines}\n  ret i64 {status}\n}}\n"

    # Statements ------------------------------------------------------------------------------------------

    def statement(self, statement: Statement) -> None:
        """Write one statement at the innermost level."""
        match statement:
            case For():
                self._for(statement)
            case Declare():
                self._declare(statement)
            case Update():
                self._update(statement)
            case ArgUpdate():
                self._arg_update(statement)
            case Assign():
                self._assign_all(statement)
            case Leave():
                self._leave(statement)
            case Store(buffer=buffer, index=at, value=value, combine=combine, where=where):
                self.store(buffer, flat_index(buffer, at), value, combine, where)
            case Check(condition=condition, message=message):
                good = self.value(condition)
                self.fail_unless(good._replace(depth=self.here.depth), message, None)

    def _declare(self, statement: Declare) -> None:
        value = self._in_all_lanes(self.value(statement.value), statement.register.dtype)
        self._assign(statement.register, value)

    def _in_all_lanes(self, value: Value, dtype: DType) -> Value:
        """A value in the form that registers of the open vector loop have."""
        lanes = self.lanes
        if lanes is None:
            return value
        names = value.names if lanes.width == 1 else self.vector_names(value, dtype)
        return Value(names * lanes.copies if len(names) == 1 else names, lanes.width > 1, value.depth)

    def _assign_all(self, statement: Assign) -> None:
        registers, lanes, depth = statement.registers, self.lanes, self.here.depth
        if lanes is not None and any(r in level.registers for level in self.levels[: lanes.depth] for r in registers):
            raise InternalError(f"{self.kernel.name}: a vector loop assigns a register from outside")
        values = [self.value(value) for value in statement.values]
        for register, value in zip(registers, values, strict=True):
            self.here.registers[register] = self._in_all_lanes(value, register.dtype)._replace(depth=depth)
        self.forget(*registers)

    def _leave(self, statement: Leave) -> None:
        """End the open loop on a condition; loads and checks that follow are not hoisted out of it."""
        level = self.here
        exits = self._exits[-1] if self._exits else None
        if self.lanes is not None or exits is None or exits.depth != level.depth:
            raise InternalError(f"{self.kernel.name}: only a serial loop can be left, from the statements of its body")
        condition = self.value(statement.condition).names[0]
        exits.early.append((level.label, {r: self.register(r).names for r in exits.registers}))
        stay = f"stay{next(self.numbers)}"
        level.jump(f"br i1 {condition}, label %{exits.label}, label %{stay}", stay)
        self.floor = level.depth

    def _update(self, statement: Update) -> None:
        register = statement.register
        value = self.value(statement.value)
        old = self.register(register)
        node = accumulate.step_node(statement.combine, register.dtype)
        new = self.spell(node, (old, value), (register.dtype, register.dtype))
        self._assign(register, self._kept(register, new, old))

    def _arg_update(self, statement: ArgUpdate) -> None:
        best, place = statement.best, statement.place
        value, position = self.value(statement.value), self.value(statement.position)
        old, at = self.register(best), self.register(place)
        depth = self.here.depth
        vector = old.vector
        site = self.site(depth, vector)
        dtype = best.dtype
        copies = len(old.names)
        values = self.vector_names(value, dtype) if vector else value.names
        positions = self.vector_names(position, dtypes.int64) if vector else position.names
        mask = self._mask_of(best)
        bests, places = [], []
        for u in range(copies):
            new = of_copy(values, u)
            wins = accumulate.beats(site, statement.combine, dtype, new, old.names[u])
            if mask is not None:
                wins = site.put(f"and {site.type(dtypes.bool_)} {wins}, {of_copy(mask, u)}")
            bests.append(site.choose(wins, dtype, new, old.names[u]))
            here = of_copy(positions, u)
            places.append(site.choose(wins, dtypes.int64, here, at.names[u]))
        self._assign(best, Value(tuple(bests), vector, depth))
        self._assign(place, Value(tuple(places), vector, depth))

    def _assign(self, register: Register, value: Value) -> None:
        self.here.registers[register] = value._replace(depth=self.here.depth)
        self.forget(register)

    def _mask_of(self, register: Register) -> tuple[str, ...] | None:
        """The lanes in which a register may change; it matters where it outlives the loop."""
        lanes = self.lanes
        if lanes is None or lanes.tail is None:
            return None
        if any(register in level.registers for level in self.levels[: lanes.depth]):
            return self.vector_names(lanes.tail, dtypes.bool_)
        return None

    def _kept(self, register: Register, new: Value, old: Value) -> Value:
        mask = self._mask_of(register)
        if mask is None:
            return new
        site = self.site(self.here.depth, True)
        names = tuple(
            site.choose(of_copy(mask, u), register.dtype, name, old.names[u])
            for u, name in enumerate(new.names)
        )
        return new._replace(names=names)

    def _forget_all(self, changes: Changes) -> None:
        self.forget(*changes.carried(), *changes.buffers)

    # Loops -----------------------------------------------------------------------------------------------

    def _for(self, loop: For) -> None:
        extent = self.value(as_int(loop.extent))
        if extent.vector or len(extent.names) > 1:
            raise InternalError(
                f"{self.kernel.name}: a loop inside vector lanes has an extent that differs by lane"
            )
        start, end = "0", extent.names[0]
        if loop.kind is LoopKind.PARALLEL:
            if len(self.levels) > 1:
                raise InternalError(f"{self.kernel.name}: only the outermost loop can be parallel")
            start, end = "%lo", "%hi"
        if self.lanes is not None and loop.width > 1:
            raise InternalError(f"{self.kernel.name}: a vector loop inside a vector loop")
        empty = not (end.isdigit() and start == "0")
        if end == "0":
            return
        self._forget_all(self.finder.of(loop))
        if empty:
            self._open_region(start, end)
        if (loop.width > 1 or loop.unroll > 1) and self.lanes is None:
            self._lanes_loop(loop, start, end)
        else:
            self._serial_loop(loop, start, end, skip=False)
        if empty:
            self._close_region()
        self._forget_all(self.finder.of(loop))

    def _open_region(self, start: str, end: str) -> None:
        number = next(self.numbers)
        region = self.open(f"some{number}")
        self._regions.append((self.floor, start, end, region.label, f"none{number}"))
        self.floor = region.depth

    def _close_region(self) -> None:
        """End the region that is skipped for an empty range; registers changed in it get a phi."""
        region = self.close()
        self.floor, start, end, begin, after = self._regions.pop()
        outer = self.here
        origin = outer.label
        some = outer.put(f"icmp slt i64 {start}, {end}")
        outer.jump(f"br i1 {some}, label %{begin}, label %{after}", begin)
        outer.lines += region.lines
        outer.jump(f"br label %{after}", after)
        for register, value in region.registers.items():
            before = self.register(register)
            self._assign(register, self._merge(register.dtype, before, origin, value, region.label))

    def _merge(self, dtype: DType, a: Value, from_a: str, b: Value, from_b: str) -> Value:
        """The phi of two values of one shape."""
        t = typed(dtype, self.lanes.width if a.vector and self.lanes is not None else 1)
        put = self.here.put
        names = tuple(
            put(f"phi {t} [ {x}, %{from_a} ], [ {y}, %{from_b} ]") if x != y else x
            for x, y in zip(a.names, b.names, strict=True)
        )
        return Value(names, a.vector, self.here.depth)

    def _serial_loop(self, loop: For, start: str, end: str, *, skip: bool) -> None:
        carried = {register: self.register(register) for register in self.finder.of(loop).carried()}
        final = self._machine_loop(loop, start, end, 1, carried, None, skip=skip)
        for register, value in final.items():
            self._assign(register, value)

    def _machine_loop(
        self,
        loop: For,
        start: str,
        end: str,
        step: int,
        carried: dict[Register, Value],
        lanes: Lanes | None,
        *,
        skip: bool,
        once: bool = False,
        masked: bool = False,
    ) -> dict[Register, Value]:
        """Write a loop from ``start`` while below ``end``; returns the registers' values after it.

        ``carried`` are the registers that the body changes, with their values before (for a loop without
        lanes of its own these are read again at the end: a check hoisted out of the loop may have changed
        them). ``skip`` tests for an empty range first; ``once`` is for a range of at most one step.
        """
        number = next(self.numbers)
        outer, begin, after = self.here, f"loop{number}", f"done{number}"
        level = self.open(begin)
        floor, exits = self.floor, Exits(after, level.depth, tuple(carried))
        self._exits.append(exits)
        counter = start if once else f"%i{number}"
        phis: dict[Register, Value] = {}
        for register, value in carried.items():
            names = value.names
            if not once:
                names = tuple(f"%r{next(self.numbers)}" for _ in names)
            phis[register] = level.registers[register] = Value(names, value.vector, level.depth)
        counted = Value((counter,), False, level.depth)
        if lanes is None:
            self.remember(loop.index, counted)
        else:
            lanes.depth = level.depth
            self.lanes = lanes
            self.remember(lanes.first, counted)
            if masked and lanes.split is not None:
                self._begin_split(counter, end, lanes, lanes.split)
            elif masked:
                lanes.tail = self._tail(counter, end, lanes)
        for statement in loop.body:
            self.statement(statement)
        self.close()
        self._exits.pop()
        self.floor = floor
        if lanes is not None:
            self.lanes = None
        origin = outer.label
        if skip:
            some = outer.put(f"icmp slt i64 {start}, {end}")
            origin = outer.label
            outer.jump(f"br i1 {some}, label %{begin}, label %{after}", begin)
        else:
            outer.jump(f"br label %{begin}", begin)
        width = lanes.width if lanes is not None else self.lanes.width if self.lanes is not None else 1
        initial = {
            register: value if lanes is not None else self.register(register)
            for register, value in carried.items()
        }
        if not once:
            outer.do(f"{counter} = phi i64 [ {start}, %{origin} ], [ {counter}.next, %{level.label} ]")
            for register, phi in phis.items():
                t = typed(register.dtype, width if phi.vector else 1)
                before, next_ = initial[register].names, level.registers[register].names
                for name, x, y in zip(phi.names, before, next_, strict=True):
                    outer.do(f"{name} = phi {t} [ {x}, %{origin} ], [ {y}, %{level.label} ]")
        if lanes is not None and lanes.split is not None:
            self._end_split(counter, end, lanes, lanes.split)
        outer.lines += level.lines
        outer.label = level.label
        if once:
            if skip:
                outer.jump(f"br label %{after}", after)
        else:
            # The step is hidden from LLVM: its loop strength reduction would take longer than all other
            # passes together, and the addresses are written the way the processor takes them already.
            hidden = outer.put(f'call i64 asm "", "=r,0"(i64 {counter})')
            outer.do(f"{counter}.next = add nuw nsw i64 {hidden}, {step}")
            more = outer.put(f"icmp slt i64 {counter}.next, {end}")
            outer.jump(f"br i1 {more}, label %{begin}, label %{after}", after)
        final: dict[Register, Value] = {}
        for register in carried:
            value = level.registers[register]
            ways = [(value.names, level.label), *((names[register], label) for label, names in exits.early)]
            if skip:
                ways.insert(0, (initial[register].names, origin))
            t = typed(register.dtype, width if value.vector else 1)
            final[register] = Value(_joined(outer, t, ways), value.vector, outer.depth)
        self.forget(*carried)
        return final

    def _tail(self, counter: str, end: str, lanes: Lanes) -> Value:
        """The lanes, in each copy, of the group at ``counter`` that are below ``end``."""
        level, width = self.here, lanes.width
        left = level.put(f"sub i64 {end}, {counter}")
        left = level.put(f"call i64 @llvm.smin.i64(i64 {left}, i64 {width * lanes.copies})")
        short = level.put(f"trunc i64 {left} to i32")
        t = f"<{width} x i32>"
        one = level.put(f"insertelement {t} poison, i32 {short}, i32 0")
        limit = level.put(f"shufflevector {t} {one}, {t} poison, <{width} x i32> zeroinitializer")
        names = (
            level.put(f"icmp ult {t} {iota(width, 32, u * width)}, {limit}") for u in range(lanes.copies)
        )
        return Value(tuple(names), True, level.depth)

    def _begin_split(self, counter: str, end: str, lanes: Lanes, split: Split) -> None:
        """Start a body that loads whole groups and the last, partial one in two ways."""
        number = next(self.numbers)
        level, lines = self.here, self.here.lines
        split.labels, split.fits = (f"whole{number}", f"partial{number}"), f"%fits{number}"
        level.lines = split.partial
        split.masks = self._tail(counter, end, lanes).names
        level.lines = lines
        t = typed(dtypes.bool_, lanes.width)
        tails = []
        for mask in split.masks:
            name = f"%v{next(self.numbers)}"
            whole, partial = split.labels
            split.joined.append(f"  {name} = phi {t} [ splat (i1 true), %{whole} ], [ {mask}, %{partial} ]")
            tails.append(name)
        lanes.tail = Value(tuple(tails), True, level.depth)
        level.label = f"both{number}"

    def _end_split(self, counter: str, end: str, lanes: Lanes, split: Split) -> None:
        """Write the start of such a body, now that all its loads are known."""
        outer, (whole, partial) = self.here, split.labels
        both = whole.replace("whole", "both")
        outer.lines += split.head
        group_end = outer.put(f"add i64 {counter}, {lanes.width * lanes.copies}")
        outer.do(f"{split.fits} = icmp sle i64 {group_end}, {end}")
        outer.jump(f"br i1 {split.fits}, label %{whole}, label %{partial}", whole)
        outer.lines += split.whole
        outer.jump(f"br label %{both}", partial)
        outer.lines += split.partial
        outer.jump(f"br label %{both}", both)
        outer.lines += split.joined

    # Lanes -----------------------------------------------------------------------------------------------

    def _lanes_loop(self, loop: For, start: str, end: str) -> None:
        width, copies = loop.width, loop.unroll
        if width & (width - 1) or copies & (copies - 1):
            raise InternalError(f"{self.kernel.name}: width and unroll must be powers of two")
        changes = self.finder.of(loop)
        masked = width > 1 and self.target.vector_bits >= 512  # others take the rest one by one
        whole, rest_empty, main_empty = self._whole_groups(start, end, width * copies)
        accumulators = self._neutral(changes, width, copies)
        if masked and rest_empty is not True and main_empty is not True and splittable(loop, self.written):
            lanes = Lanes(loop.index, index("lane", loop.extent), width, copies, split=Split())
            accumulators = self._machine_loop(
                loop, start, end, width * copies, accumulators, lanes, skip=False, masked=True
            )
            self._fold_copies(changes, accumulators, width)
            self._finish(changes, accumulators, width)
            return
        if main_empty is not True:
            lanes = Lanes(loop.index, index("lane", loop.extent), width, copies)
            accumulators = self._machine_loop(
                loop, start, whole, width * copies, accumulators, lanes, skip=main_empty is None
            )
            self._fold_copies(changes, accumulators, width)
        if masked and rest_empty is not True:
            # With a loop inside, a pass over the rest costs as much as one over a whole group: take fewer
            # passes.
            nested = any(isinstance(statement, For) for statement in loop.body)
            rest_copies = max(1, copies // 2) if nested else 1
            first, accumulators = accumulators, self._neutral(changes, width, rest_copies)
            for register, value in first.items():
                others = accumulators[register].names[1:]
                accumulators[register] = value._replace(names=(value.names[0], *others))
            once = copies == 1 or (rest_empty is False and int(end) - int(whole) <= width * rest_copies)
            lanes = Lanes(loop.index, index("lane", loop.extent), width, rest_copies)
            accumulators = self._machine_loop(
                loop,
                whole,
                end,
                width * rest_copies,
                accumulators,
                lanes,
                skip=rest_empty is None,
                once=once,
                masked=True,
            )
            self._fold_copies(changes, accumulators, width)
        self._finish(changes, accumulators, width)
        if not masked and rest_empty is not True:
            self._serial_loop(loop, whole, end, skip=rest_empty is None)

    def _whole_groups(self, start: str, end: str, group: int) -> tuple[str, bool | None, bool | None]:
        """The end of the whole groups; whether there is no rest, and no whole group (None: known at run
        time).
        """
        if end.isdigit() and start == "0":
            count = int(end)
            whole = count // group * group
            return str(whole), whole == count, whole == 0
        put = self.here.put
        count_name = end if start == "0" else put(f"sub i64 {end}, {start}")
        whole_name = put(f"and i64 {count_name}, {-group}")
        if start != "0":
            whole_name = put(f"add i64 {whole_name}, {start}")
        return whole_name, None, None

    def _neutral(self, changes: Changes, width: int, copies: int) -> dict[Register, Value]:
        """Accumulators that nothing was combined into yet."""
        made: dict[Register, Value] = {}
        for register, combine in changes.registers.items():
            parts = [(register, accumulate.neutral(combine, register.dtype))]
            if register in changes.places:
                parts.append((changes.places[register], "0"))
            for part, text in parts:
                made[part] = Value(((splat(text, part.dtype) if width > 1 else text),) * copies, width > 1, 0)
        return made

    def _fold_copies(self, changes: Changes, values: dict[Register, Value], width: int) -> None:
        """Make one accumulator of each register from those of the copies."""
        site = Site(self.here.put, width)
        for register, combine in changes.registers.items():
            parts = _parts(changes, register)
            copies = list(zip(*(values[part].names for part in parts), strict=True))
            folded = accumulate.fold(site, combine, register.dtype, copies)
            for part, name in zip(parts, folded, strict=True):
                values[part] = values[part]._replace(names=(name,))

    def _finish(self, changes: Changes, values: dict[Register, Value], width: int) -> None:
        """Combine the lanes of each accumulator with the register's value before the loop."""
        put = self.here.put
        for register, combine in changes.registers.items():
            parts = _parts(changes, register)
            value = tuple(values[part].names[0] for part in parts)
            value = accumulate.across(put, combine, register.dtype, width, value)
            first = tuple(self.register(part).names[0] for part in parts)
            value = accumulate.with_first(put, combine, register.dtype, first, value)
            for part, name in zip(parts, value, strict=True):
                self._assign(part, Value((name,), False, 0))


def _joined(level: Level, kind: str, ways: Sequence[tuple[tuple[str, ...], str]]) -> tuple[str, ...]:
    """The phis of a block with several ways in, each with its values and its label; none for values that agree."""
    joined = []
    for names in zip(*(names for names, _ in ways), strict=True):
        if len(set(names)) == 1:
            joined.append(names[0])
        else:
            listed = ", ".join(f"[ {name}, %{label} ]" for name, (_, label) in zip(names, ways, strict=True))
            joined.append(level.put(f"phi {kind} {listed}"))
    return tuple(joined)


def _parts(changes: Changes, register: Register) -> tuple[Register, ...]:
    """The registers of one accumulator."""
    place = changes.places.get(register)
    return (register,) if place is None else (register, place)


def emit_kernel(kernel: Kernel, target: Target, symbol_name: str) -> str:
    """LLVM IR of one kernel: the function ``i64 symbol_name(i64 lo, i64 hi, ptr args)`` and what it calls.

    ``args`` holds the buffers' pointers in the kernel's order, then its parameters. The outermost parallel
    loop runs over ``lo`` to ``hi - 1``. The result is 0, or 1 + the position of the first failure that
    occurred.
    """
    return module([(kernel, symbol_name)], target)


def module(kernels: Iterable[tuple[Kernel, str]], target: Target) -> str:
    """LLVM IR of several kernels with their names; mathematical functions that they call are shared."""
    outlined = Functions()
    texts = []
    for kernel, name in kernels:
        texts.append(KernelEmitter(kernel, target, outlined if _calls_functions(kernel) else None).text(name))
    if (
        target.triple.startswith("x86_64")
        and target.vector_bits < 256
        and any("half" in text for text in texts)
    ):
        texts.append(HALF_CONVERSIONS)
    return "\n".join([*outlined.texts.values(), *texts])


def _calls_functions(kernel: Kernel) -> bool:
    """Whether a kernel has so many mathematical functions that inline expansions would make it slow to
    compile.
    """
    return sum(is_function(node) for node in scalars(kernel.body)) > _INLINE_FUNCTIONS
