"""Loads, stores and checked indices: how an offset that grows with the lanes becomes a memory instruction.

Along the loop that runs in vector lanes an offset is the same for all lanes (one scalar load), neighbouring
(contiguous, possibly masked), neighbouring backwards (contiguous and reversed) or anything else (gather,
scatter).
"""

from enum import Enum
from typing import NamedTuple

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import accumulate
from symtensor_codegen.llvm.emission import Functions, Guard, Lanes, Level, Split, Value, of_copy
from symtensor_codegen.llvm.operations import Site, compare_as
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import memory, shuffle_indices, stored, suffix, typed
from symtensor_codegen.llvm.values import Evaluator
from symtensor_codegen.loops import Kernel
from symtensor_codegen.scalar import Buffer, Register, Scalar, add, as_int, neg, sub, symbol_op
from symtensor_codegen.substitution import stride, substitute


class Mode(Enum):
    """How the lanes of an access lie in memory."""

    SCALAR = "one element (for each unrolled copy)"
    CONTIGUOUS = "rising neighbours"
    REVERSED = "falling neighbours"
    SCATTERED = "one address a lane"


class Place(NamedTuple):
    """Where an access goes: pointers (vectors of pointers when scattered) of each unrolled copy."""

    mode: Mode
    pointers: Value


def terms(offset: Scalar) -> list[Scalar]:
    """The summands of an offset."""
    found: list[Scalar] = []
    pending = [offset]
    while pending:
        node = pending.pop()
        if node.op is add:
            pending += node.args
        elif node.op is sub:
            pending += (node.args[0], neg(node.args[1]))
        else:
            found.append(node)
    return found


class Accesses(Evaluator):
    """An evaluator with the buffers, parameters and failure messages of one kernel."""

    def __init__(self, kernel: Kernel, target: Target, outlined: Functions | None) -> None:
        super().__init__(target, kernel.written, outlined)
        self.kernel = kernel
        self._positions = {buffer: position for position, buffer in enumerate(kernel.buffers)}
        self.failed = {
            message: Register(f"failed{k}", dtypes.bool_) for k, message in enumerate(kernel.failures)
        }
        for register in self.failed.values():
            self.levels[0].registers[register] = Value(("false",), False, 0)
        self._safe: str | None = None

    # Arguments -------------------------------------------------------------------------------------------

    def symbol(self, node: Scalar) -> Value:
        """A parameter of the kernel, loaded once at the entry."""
        token = node.param
        if node.op is not symbol_op or not isinstance(token, tuple) or token[0] != "parameter":
            raise InternalError(f"kernel {self.kernel.name}: no value is known for {node!r}")
        entry = self.levels[0]
        pointer = entry.put(
            f"getelementptr inbounds i64, ptr %args, i64 {len(self.kernel.buffers) + token[1]}"
        )
        return Value((entry.put(f"load i64, ptr {pointer}, align 8"),), False, 0)

    def _base(self, buffer: Buffer) -> Value:
        found = self.memo.get(buffer)
        if found is None:
            entry = self.levels[0]
            pointer = entry.put(f"getelementptr inbounds ptr, ptr %args, i64 {self._positions[buffer]}")
            found = self.remember(buffer, Value((entry.put(f"load ptr, ptr {pointer}, align 8"),), False, 0))
        return found

    def _safe_pointer(self) -> str:
        """Memory that a suppressed scalar load may read."""
        if self._safe is None:
            self._safe = "%safe"
            self.levels[0].lines.insert(0, "  %safe = alloca [16 x i8], align 16")
        return self._safe

    # Addresses -------------------------------------------------------------------------------------------

    def _step(self, pointer: Value, offset: Value, element: str) -> Value:
        """``pointer + offset`` elements, for each unrolled copy and lane."""
        depth = max(pointer.depth, offset.depth)
        level = self.levels[depth]
        a, b = pointer.names, offset.names
        index = typed(dtypes.int64, self.lanes.width if offset.vector and self.lanes is not None else 1)
        names = tuple(
            level.put(f"getelementptr inbounds {element}, ptr {of_copy(a, u)}, {index} {of_copy(b, u)}")
            for u in range(max(len(a), len(b)))
        )
        return Value(names, offset.vector, depth)

    def _pointer(self, buffer: Buffer, parts: list[Scalar], guard: Guard | None) -> Value:
        """``buffer`` plus the sum of ``parts``, adding at each level what is known there; constants last."""
        constant = 0
        by_depth: dict[int, list[tuple[Scalar, Value]]] = {}
        for part in parts:
            value = self.value(part, guard)
            if value.names[0][0] != "%":
                constant += int(value.names[0])
            else:
                by_depth.setdefault(value.depth, []).append((part, value))
        pointer = self._base(buffer)
        key: tuple[object, ...] = ("pointer", buffer, guard)
        changing = 0
        for depth in sorted(by_depth):
            group = by_depth[depth]
            key = (*key, frozenset(part for part, _ in group))
            for part, _ in group:
                changing |= self.facts(part).changing
            found = self.memo.get(key)
            if found is None:
                total = group[0][1]
                for _, value in group[1:]:
                    total = self.combine_values("add", dtypes.int64, (total, value))
                found = self.remember(key, self._step(pointer, total, memory(buffer.dtype)))
                self.depends(key, changing)
            pointer = found
        return self._shifted(pointer, (constant,), buffer) if constant else pointer

    def _shifted(self, pointer: Value, offsets: tuple[int, ...], buffer: Buffer) -> Value:
        """``pointer`` (of one copy) plus constants, one for each copy."""
        level, e = self.levels[pointer.depth], memory(buffer.dtype)
        copies = max(len(offsets), len(pointer.names))
        names = []
        for u in range(copies):
            name, by = of_copy(pointer.names, u), offsets[u if len(offsets) > 1 else 0]
            names.append(level.put(f"getelementptr inbounds {e}, ptr {name}, i64 {by}") if by else name)
        return Value(tuple(names), pointer.vector, pointer.depth)

    def place(self, buffer: Buffer, offset: Scalar, guard: Guard | None = None) -> Place:
        """Where the element at ``offset`` lies, for all lanes and copies."""
        lanes = self.lanes
        if lanes is None or lanes.split is None:
            return self._place(buffer, offset, guard)
        level = self.levels[lanes.depth]
        lines, level.lines = level.lines, lanes.split.head
        place = self._place(buffer, offset, guard)
        level.lines = lines
        return place

    def _place(self, buffer: Buffer, offset: Scalar, guard: Guard | None) -> Place:
        parts = terms(offset)
        lanes = self.lanes
        if lanes is None or lanes.index not in offset.free:
            return Place(Mode.SCALAR, self._pointer(buffer, parts, guard))
        along = [part for part in parts if lanes.index in part.free]
        uniform = [part for part in parts if lanes.index not in part.free]
        grows = stride(offset, lanes.index)
        if isinstance(grows, int) and (lanes.width == 1 or grows in (1, -1)):
            return self._regular(buffer, uniform, along, grows, lanes, guard)
        moving = along[0]
        for part in along[1:]:
            moving = add(moving, part)
        pointer = self._step(
            self._pointer(buffer, uniform, guard), self.value(moving, guard), memory(buffer.dtype)
        )
        return Place(Mode.SCATTERED if pointer.vector else Mode.SCALAR, pointer)

    def _regular(
        self,
        buffer: Buffer,
        uniform: list[Scalar],
        along: list[Scalar],
        grows: int,
        lanes: Lanes,
        guard: Guard | None,
    ) -> Place:
        start = {lanes.index: lanes.first}
        pointer = self._pointer(buffer, uniform + [substitute(part, start) for part in along], guard)
        step = grows * lanes.width
        if lanes.width == 1:
            return Place(
                Mode.SCALAR, self._shifted(pointer, tuple(u * step for u in range(lanes.copies)), buffer)
            )
        if grows == 1:
            return Place(
                Mode.CONTIGUOUS, self._shifted(pointer, tuple(u * step for u in range(lanes.copies)), buffer)
            )
        back = tuple(u * step - (lanes.width - 1) for u in range(lanes.copies))
        return Place(Mode.REVERSED, self._shifted(pointer, back, buffer))

    # Masks -----------------------------------------------------------------------------------------------

    def mask(self, guard: Guard | None) -> Value | None:
        """The lanes that are active under a guard and inside the loop's range, as vectors; None: all."""
        lanes = self.lanes
        assert lanes is not None
        if guard is None:
            return lanes.tail
        held = self.guard_value(guard)
        if lanes.tail is not None:
            key = ("mask", guard)
            found = self.memo.get(key)
            if found is None:
                found = self.remember(key, self.combine_values("and", dtypes.bool_, (lanes.tail, held)))
                self.depends(key, self.facts(guard.condition).changing)
            return found
        return held

    def _any(self, guard: Guard) -> Value:
        """One bool: whether a guard holds in any lane of any copy."""
        held = self.guard_value(guard)
        if not held.vector and len(held.names) == 1:
            return held
        mask = self.mask(guard)
        assert mask is not None
        return Value((self.any_lane(self.levels[mask.depth], mask),), False, mask.depth)

    # Loads -----------------------------------------------------------------------------------------------

    def _access_depth(self, buffer: Buffer, *values: Value | None) -> int:
        if buffer in self.written:
            return self.here.depth
        return max(self.floor, *(value.depth for value in values if value is not None))

    def load(self, node: Scalar, guard: Guard | None) -> Value:
        """The value of a load; where ``guard`` does not hold the memory is not read."""
        buffer = node.param
        if len(node.args) != 1:
            count = len(node.args)
            raise InternalError(f"{self.kernel.name}: {buffer.name} is loaded with {count} indices, not 1")
        place = self.place(buffer, node.args[0], guard)
        if place.mode is Mode.SCALAR:
            held = self._scalar_guard(guard, place.pointers)
            level = self.levels[self._access_depth(buffer, place.pointers, held)]
            names = []
            count = (
                len(place.pointers.names) if held is None else max(len(place.pointers.names), len(held.names))
            )
            for u in range(count):
                pointer = of_copy(place.pointers.names, u)
                if held is not None:
                    condition = of_copy(held.names, u)
                    pointer = level.put(f"select i1 {condition}, ptr {pointer}, ptr {self._safe_pointer()}")
                names.append(self._read(level, buffer.dtype, pointer))
            return Value(tuple(names), False, level.depth)
        assert self.lanes is not None
        if self.lanes.split is not None:
            return Value(self._split_read(self.lanes.split, buffer.dtype, place), True, self.lanes.depth)
        mask = self.mask(guard)
        level = self.levels[self._access_depth(buffer, place.pointers, mask)]
        return Value(self._vector_read(level, buffer.dtype, place, mask), True, level.depth)

    def _scalar_guard(self, guard: Guard | None, pointers: Value) -> Value | None:
        if guard is None:
            return None
        if len(pointers.names) > 1:
            held = self.guard_value(guard)
            return held if not held.vector else self._any(guard)
        return self._any(guard)

    def _read(self, level: Level, dtype: DType, pointer: str) -> str:
        loaded = level.put(f"load {memory(dtype)}, ptr {pointer}, align {dtype.itemsize}")
        return level.put(f"icmp ne i8 {loaded}, 0") if dtype.kind == "b" else loaded

    def _vector_read(self, level: Level, dtype: DType, place: Place, mask: Value | None) -> tuple[str, ...]:
        assert self.lanes is not None
        width = self.lanes.width
        t, m = stored(dtype, width), typed(dtypes.bool_, width)
        masks = None if mask is None else self.vector_names(mask, dtypes.bool_)
        names = []
        for u, pointer in enumerate(place.pointers.names):
            active = None if masks is None else of_copy(masks, u)
            align = f"align {dtype.itemsize}"
            if place.mode is Mode.SCATTERED:
                every = active if active is not None else "splat (i1 true)"
                pointers = f"<{width} x ptr>"
                name = level.put(
                    f"call {t} @llvm.masked.gather.{suffix(t)}.{suffix(pointers)}"
                    f"({pointers} {align} {pointer}, {m} {every}, {t} zeroinitializer)"
                )
            elif active is None:
                name = level.put(f"load {t}, ptr {pointer}, {align}")
            else:
                if place.mode is Mode.REVERSED:
                    active = self._reversed(level, m, active)
                where = f"ptr {align} {pointer}, {m} {active}, {t} zeroinitializer"
                name = level.put(f"call {t} @llvm.masked.load.{suffix(t)}.p0({where})")
            if place.mode is Mode.REVERSED:
                name = self._reversed(level, t, name)
            if dtype.kind == "b":
                name = level.put(f"icmp ne {t} {name}, zeroinitializer")
            names.append(name)
        return tuple(names)

    def _split_read(self, split: Split, dtype: DType, place: Place) -> tuple[str, ...]:
        """Contiguous loads of a body that starts in two ways."""
        assert self.lanes is not None
        width = self.lanes.width
        t, m, align = stored(dtype, width), typed(dtypes.bool_, width), f"align {dtype.itemsize}"
        names = []
        for pointer, mask in zip(place.pointers.names, split.masks, strict=True):
            name = f"%v{next(self.numbers)}"
            where = f"ptr {align} {pointer}, {m} {mask}, {t} zeroinitializer"
            split.whole.append(f"  {name}.w = load {t}, ptr {pointer}, {align}")
            split.partial.append(f"  {name}.p = call {t} @llvm.masked.load.{suffix(t)}.p0({where})")
            whole, partial = split.labels
            split.joined.append(f"  {name} = phi {t} [ {name}.w, %{whole} ], [ {name}.p, %{partial} ]")
            names.append(name)
        if dtype.kind == "b":
            level = self.levels[self.lanes.depth]
            return tuple(level.put(f"icmp ne {t} {name}, zeroinitializer") for name in names)
        return tuple(names)

    def _reversed(self, level: Level, t: str, name: str) -> str:
        assert self.lanes is not None
        order = shuffle_indices(range(self.lanes.width - 1, -1, -1))
        return level.put(f"shufflevector {t} {name}, {t} poison, {order}")

    # Stores ----------------------------------------------------------------------------------------------

    def store(
        self, buffer: Buffer, offset: Scalar, value: Scalar, combine: str | None, where: Scalar | None
    ) -> None:
        """Write an element, or combine it with what is there, at the innermost level."""
        stored_value = self.value(value)
        held = None if where is None else self.value(where)
        place = self.place(buffer, offset)
        if place.mode is Mode.SCALAR:
            if stored_value.vector or (held is not None and held.vector):
                raise InternalError(
                    f"{self.kernel.name}: lanes of a vector loop write different values to one element"
                )
            self._scalar_store(buffer, place.pointers, stored_value, combine, held)
        else:
            self._vector_store(buffer, place, stored_value, combine, held)
        self.forget(buffer)

    def _scalar_store(
        self, buffer: Buffer, pointers: Value, value: Value, combine: str | None, held: Value | None
    ) -> None:
        dtype = buffer.dtype
        held_names = ("",) if held is None else held.names
        for u in range(max(len(pointers.names), len(value.names), len(held_names))):
            level = self.here
            pointer = of_copy(pointers.names, u)
            name = of_copy(value.names, u)
            after = ""
            if held is not None:
                number = next(self.numbers)
                after = f"after{number}"
                condition = of_copy(held_names, u)
                level.jump(f"br i1 {condition}, label %store{number}, label %{after}", f"store{number}")
            if combine is not None:
                old = self._read(level, dtype, pointer)
                name = accumulate.step(Site(level.put, 1), combine, dtype, old, name)
            if dtype.kind == "b":
                name = level.put(f"zext i1 {name} to i8")
            level.do(f"store {memory(dtype)} {name}, ptr {pointer}, align {dtype.itemsize}")
            if held is not None:
                level.jump(f"br label %{after}", after)

    def _vector_store(
        self, buffer: Buffer, place: Place, value: Value, combine: str | None, held: Value | None
    ) -> None:
        assert self.lanes is not None
        lanes, level, dtype = self.lanes, self.here, buffer.dtype
        width = lanes.width
        t, m = stored(dtype, width), typed(dtypes.bool_, width)
        mask = lanes.tail
        if held is not None:
            mask = held if mask is None else self.combine_values("and", dtypes.bool_, (mask, held))
        names = self.vector_names(value, dtype)
        masks = None if mask is None else self.vector_names(mask, dtypes.bool_)
        old = self._vector_read(level, dtype, place, mask) if combine is not None else None
        for u, pointer in enumerate(place.pointers.names):
            name = of_copy(names, u)
            active = None if masks is None else of_copy(masks, u)
            if combine is not None and old is not None:
                name = accumulate.step(Site(level.put, width), combine, dtype, old[u], name)
            if dtype.kind == "b":
                name = level.put(f"zext {m} {name} to {t}")
            align = f"align {dtype.itemsize}"
            if place.mode is Mode.SCATTERED:
                pointers = f"<{width} x ptr>"
                every = active if active is not None else "splat (i1 true)"
                level.do(
                    f"call void @llvm.masked.scatter.{suffix(t)}.{suffix(pointers)}"
                    f"({t} {name}, {pointers} {align} {pointer}, {m} {every})"
                )
                continue
            if place.mode is Mode.REVERSED:
                name = self._reversed(level, t, name)
                active = None if active is None else self._reversed(level, m, active)
            if active is None:
                level.do(f"store {t} {name}, ptr {pointer}, {align}")
                continue
            where = f"{t} {name}, ptr {align} {pointer}, {m} {active}"
            masked = f"call void @llvm.masked.store.{suffix(t)}.p0({where})"
            if lanes.split is None or held is not None:
                level.do(masked)
                continue
            number = next(self.numbers)  # whole groups are stored without a mask: that is faster
            level.jump(f"br i1 {lanes.split.fits}, label %all{number}, label %some{number}", f"all{number}")
            level.do(f"store {t} {name}, ptr {pointer}, {align}")
            level.jump(f"br label %stored{number}", f"some{number}")
            level.do(masked)
            level.jump(f"br label %stored{number}", f"stored{number}")

    # Checks ----------------------------------------------------------------------------------------------

    def check_index(self, node: Scalar, guard: Guard | None, values: list[Value]) -> Value:
        """An index from data, wrapped when negative; outside its range the kernel fails and the index
        becomes 0.
        """
        position, extent = values
        depth = max(position.depth, extent.depth, self.floor)
        values = [value._replace(depth=depth) for value in values]
        vector = position.vector or extent.vector
        site = self.site(depth, vector)
        t = site.type(dtypes.int64)
        zero = site.constant(0, dtypes.int64)
        limits = self.vector_names(extent, dtypes.int64) if vector else extent.names
        indices = self.vector_names(position, dtypes.int64) if vector else position.names
        good, clamped = [], []
        for u in range(max(len(indices), len(limits))):
            i, n = of_copy(indices, u), of_copy(limits, u)
            negative = compare_as(site, "lt", dtypes.int64, i, zero)
            wrapped = site.choose(negative, dtypes.int64, site.put(f"add {t} {i}, {n}"), i)
            inside = site.put(f"icmp ult {t} {wrapped}, {n}")
            good.append(inside)
            clamped.append(site.choose(inside, dtypes.int64, wrapped, zero))
        self.fail_unless(Value(tuple(good), vector, depth), node.param, guard)
        return Value(tuple(clamped), vector, depth)

    def fail_unless(self, good: Value, message: object, guard: Guard | None) -> None:
        """Record a failure in the active lanes where ``good`` does not hold."""
        register = self.failed.get(message)
        if register is None:
            raise InternalError(
                f"{self.kernel.name}: the message of a check is not among the kernel's failures"
            )
        bad = self.combine_values("xor", dtypes.bool_, (good, Value(("true",), False, 0)))
        if good.vector or (self.lanes is not None and good.depth >= self.lanes.depth):
            active = self.mask(guard)
        else:
            active = None if guard is None else self.guard_value(guard)
        if active is not None:
            bad = self.combine_values("and", dtypes.bool_, (bad, active))
        depth = max(bad.depth, self.lanes.depth) if bad.vector and self.lanes is not None else bad.depth
        new = self.combine_values(
            "or", dtypes.bool_, (self.register(register, depth), bad._replace(depth=depth))
        )
        self.levels[depth].registers[register] = new._replace(depth=depth)


def flat_index(buffer: Buffer, index: tuple[Scalar, ...]) -> Scalar:
    """The flat offset of a store in a finished kernel."""
    if len(index) != 1:
        raise InternalError(f"{buffer.name} is stored with {len(index)} indices, not a flat one")
    return as_int(index[0])
