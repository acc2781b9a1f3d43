"""Scalar expressions to SSA values: each is written once, at the outermost open loop that has its operands.

No LLVM pass runs afterwards, so what is hoisted and shared here is all that is ever hoisted and shared.
Every open loop is a ``Level`` with its own list of lines. A line appended to a level while an inner loop is
open lands before that loop: the list of an outer level is the preheader of the loops inside it.
"""

import itertools
from collections.abc import Hashable, Iterable

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.llvm.emission import Functions, Guard, Lanes, Level, Value, of_copy
from symtensor_codegen.llvm.facts import FactFinder, Facts
from symtensor_codegen.llvm.operations import SPELL, Site, is_function
from symtensor_codegen.llvm.random_words import in_order, ordered
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.types import element, iota, literal, splat, suffix, typed
from symtensor_codegen.scalar import (
    Buffer,
    Register,
    Scalar,
    checked_op,
    const_op,
    guarded_op,
    index_op,
    load_op,
    rarely_op,
    reduce_op,
    register_op,
    select,
    select_op,
    symbol_op,
)
from symtensor_codegen.substitution import substitute


class Evaluator:
    """Writes scalar expressions at the right level; the subclass ``Accesses`` adds loads and checks."""

    def __init__(
        self, target: Target, written: Iterable[Buffer] = (), outlined: Functions | None = None
    ) -> None:
        self.target = target
        self.written = frozenset(written)
        self.outlined = outlined
        self.numbers = itertools.count()
        self.levels = [Level(0, "entry", self.numbers)]
        self.memo: dict[Hashable, Value] = {}
        self.lanes: Lanes | None = None
        self.floor = 0  # loads and checks are not hoisted above this level: a loop between may be empty
        self._facts = FactFinder(self.written)
        self._users: dict[int, list[Hashable]] = {}  # memo keys by the changing things they depend on
        self._used = 0  # all things that any of those depend on
        self._guards: dict[tuple[Guard | None, Scalar], Guard] = {}
        self._expansions: dict[Scalar, Scalar] = {}
        self._exact: set[Scalar] = set()  # inside expansions: no contraction
        self._branch: int | None = None  # the level of the open branch for a rare value

    def facts(self, root: Scalar) -> Facts:
        """What an expression depends on."""
        return self._facts.of(root)

    # Levels ----------------------------------------------------------------------------------------------

    @property
    def here(self) -> Level:
        """The innermost open level."""
        return self.levels[-1]

    def open(self, label: str) -> Level:
        """Open a level inside the innermost one."""
        level = Level(len(self.levels), label, self.numbers)
        self.levels.append(level)
        return level

    def close(self) -> Level:
        """Close the innermost level and forget the values written in it."""
        level = self.levels.pop()
        for key in level.keys:
            self.memo.pop(key, None)
        return level

    def remember(self, key: Hashable, value: Value) -> Value:
        """Keep ``value`` under ``key`` until its level closes."""
        self.memo[key] = value
        self.levels[value.depth].keys.append(key)
        return value

    def forget(self, *changed: object) -> None:
        """Registers or buffers changed: values computed from them are no longer right."""
        bits = 0
        for thing in changed:
            bits |= self._facts.bit(thing)
        if not bits & self._used:
            return
        for users in [users for users in self._users if users & bits]:
            for key in self._users.pop(users):
                self.memo.pop(key, None)
        self._used &= ~bits

    def depends(self, key: Hashable, changing: int) -> None:
        """Note that what is kept under ``key`` depends on the changing things of a set of bits."""
        if changing:
            self._users.setdefault(changing, []).append(key)
            self._used |= changing

    def register(self, register: Register, depth: int | None = None) -> Value:
        """The current value of a register, as seen at a level (default: the innermost)."""
        last = len(self.levels) - 1 if depth is None else depth
        for position in range(last, -1, -1):
            found = self.levels[position].registers.get(register)
            if found is not None:
                return found
        raise InternalError(f"register {register.name} is used before it is declared")

    def set_register(self, register: Register, value: Value) -> None:
        """Give a register its next value, at the level of ``value``."""
        self.levels[value.depth].registers[register] = value
        self.forget(register)

    # Expressions -----------------------------------------------------------------------------------------

    def value(self, root: Scalar, guard: Guard | None = None) -> Value:
        """The value of an expression where ``guard`` holds."""
        memo = self.memo
        key = self._key(root, guard)
        found = memo.get(key)
        if found is not None:
            return found
        self.facts(root)
        stack: list[tuple[Scalar, Guard | None]] = [(root, guard)]
        while stack:
            node, at = stack[-1]
            key = self._key(node, at)
            if key in memo:
                stack.pop()
                continue
            parts = self._parts(node, at)
            missing = [part for part in parts if self._key(*part) not in memo]
            if missing:
                stack.extend(missing)
                continue
            if node.op is guarded_op and len(parts) == 1:  # the condition is there; now what it guards
                continue
            stack.pop()
            self._keep(key, node, self._write(node, at, [memo[self._key(*part)] for part in parts]))
        return memo[self._key(root, guard)]

    def _key(self, node: Scalar, guard: Guard | None) -> Hashable:
        return node if guard is None or not self.facts(node).accesses else (node, guard)

    def _keep(self, key: Hashable, node: Scalar, value: Value) -> None:
        self.remember(key, value)
        self.depends(key, self.facts(node).changing)

    def _parts(self, node: Scalar, guard: Guard | None) -> list[tuple[Scalar, Guard | None]]:
        """The values that must exist before ``node`` can be written."""
        op = node.op
        if op is load_op:
            return []  # the access evaluates the parts of the offset itself
        if op is guarded_op:
            condition, value, other = node.args
            if self._key(condition, guard) not in self.memo:
                return [(condition, guard)]
            inner = self.guard(guard, condition)
            return [(condition, guard), (value, inner), (other, guard)]
        if op is rarely_op:
            condition, _, other = node.args
            return [(condition, guard), (other, guard)]
        if in_order(node, self.lanes):
            assert self.lanes is not None
            offset = substitute(node.args[-1], {self.lanes.index: self.lanes.first})
            return [(argument, guard) for argument in (*node.args[:-1], offset)]
        if self.outlined is None and is_function(node):
            return [(self._expanded(node), guard)]
        return [(argument, guard) for argument in node.args]

    def guard(self, outer: Guard | None, condition: Scalar) -> Guard:
        """The guard of ``condition`` inside ``outer``."""
        key = (outer, condition)
        found = self._guards.get(key)
        if found is None:
            found = self._guards[key] = Guard(outer, condition)
        return found

    def guard_value(self, guard: Guard) -> Value:
        """The lanes where a guard holds (the loop's tail not counted)."""
        found = self.memo.get(guard)
        if found is not None:
            return found
        condition = self.value(guard.condition, guard.outer)
        if guard.outer is not None:
            outer = self.guard_value(guard.outer)
            condition = self.combine_values("and", dtypes.bool_, (outer, condition))
        self.remember(guard, condition)
        self.depends(guard, self.facts(guard.condition).changing)
        return condition

    def _expanded(self, node: Scalar) -> Scalar:
        found = self._expansions.get(node)
        if found is None:
            from symtensor_codegen.mathlib import expand

            found = self._expansions[node] = expand(node)
            stop = frozenset(node.args)
            self._exact.update(topological([found], lambda n: () if n in stop else n.args))
            self._exact.difference_update(stop)
            self.facts(found)
        return found

    def _write(self, node: Scalar, guard: Guard | None, values: list[Value]) -> Value:
        op = node.op
        if op is const_op:
            return Value((literal(node.param, node.dtype),), False, 0)
        if op is register_op:
            return self.register(node.param)
        if op is load_op:
            return self.load(node, guard)
        if op is checked_op:
            return self.check_index(node, guard, values)
        if op is symbol_op:
            return self.symbol(node)
        if op is index_op:
            return self._index(node)
        if op is reduce_op:
            raise InternalError("a reduce was not turned into a loop before emission")
        if op is guarded_op:
            return self._operation(select(*node.args), values)
        if op is rarely_op:
            return self._rarely(node, guard, *values)
        if in_order(node, self.lanes):
            return self._words(node, values)
        if is_function(node):
            return values[0] if self.outlined is None else self._call(node, values)
        return self._operation(node, values)

    def load(self, node: Scalar, guard: Guard | None) -> Value:
        """The value of a load."""
        raise InternalError("loads are not possible here")

    def check_index(self, node: Scalar, guard: Guard | None, values: list[Value]) -> Value:
        """The value of a checked index."""
        raise InternalError("checked indices are not possible here")

    def symbol(self, node: Scalar) -> Value:
        """The value of a symbol."""
        raise InternalError(f"no value is known for {node!r}")

    def _index(self, node: Scalar) -> Value:
        lanes = self.lanes
        if lanes is None or node is not lanes.index:
            raise InternalError(f"loop index {node.param.name} is used outside its loop")
        first = self.value(lanes.first)
        level = self.levels[first.depth]
        if lanes.width == 1:
            copies = (
                first.names[0],
                *(level.put(f"add i64 {first.names[0]}, {u}") for u in range(1, lanes.copies)),
            )
            return Value(copies, False, first.depth)
        t = typed(dtypes.int64, lanes.width)
        start = self.vector_names(first, dtypes.int64)[0]
        names = [level.put(f"add {t} {start}, {iota(lanes.width, 64)}")]
        names += [
            level.put(f"add {t} {names[0]}, {splat(str(u * lanes.width), dtypes.int64)}")
            for u in range(1, lanes.copies)
        ]
        return Value(tuple(names), True, first.depth)

    # Operations ------------------------------------------------------------------------------------------

    def vector_names(self, value: Value, dtype: DType) -> tuple[str, ...]:
        """The names of a value as vectors; a scalar is repeated in all lanes, once, where it is defined."""
        if value.vector:
            return value.names
        return tuple(self._splat(name, dtype, value.depth) for name in value.names)

    def _splat(self, name: str, dtype: DType, depth: int) -> str:
        if name[0] != "%":
            return splat(name, dtype)
        assert self.lanes is not None
        key = ("splat", name, self.lanes.width)
        found = self.memo.get(key)
        if found is None:
            level, width = self.levels[depth], self.lanes.width
            t, e = typed(dtype, width), element(dtype)
            one = level.put(f"insertelement {t} poison, {e} {name}, i32 0")
            all_ = level.put(f"shufflevector {t} {one}, {t} poison, <{width} x i32> zeroinitializer")
            found = self.remember(key, Value((all_,), True, depth))
        return found.names[0]

    def _operation(self, node: Scalar, values: list[Value]) -> Value:
        return self.spell(node, values, [argument.dtype for argument in node.args], node not in self._exact)

    def spell(
        self, node: Scalar, values: Iterable[Value], kinds: Iterable[DType], contract: bool = True
    ) -> Value:
        """The operation of ``node`` on ``values`` of the types ``kinds``, at the deepest level of the
        values.
        """
        depth, vector, copies = 0, False, 1
        values = tuple(values)
        for value in values:
            if value.depth > depth:
                depth = value.depth
            if value.vector:
                vector = True
            if len(value.names) > copies:
                copies = len(value.names)
        if self._branch is not None and depth == self._branch - 1:
            depth = self._branch  # in the branch, not before it
        site = self.site(depth, vector)
        site.contract = "contract " if contract else ""
        if vector:
            operands = [self.vector_names(value, kind) for value, kind in zip(values, kinds, strict=True)]
        else:
            operands = [value.names for value in values]
        speller = SPELL[node.op.name if node.op is not guarded_op else "select"]
        if copies == 1:
            names: tuple[str, ...] = (speller(site, node, *(names[0] for names in operands)),)
        else:
            names = tuple(
                speller(site, node, *(of_copy(names, u) for names in operands)) for u in range(copies)
            )
        return Value(names, vector, depth)

    def _rarely(self, node: Scalar, guard: Guard | None, condition: Value, other: Value) -> Value:
        """A value that no lane may need: it is computed in a branch, at the level of its condition."""
        chosen = select(*node.args)
        kinds = [argument.dtype for argument in node.args]
        if self._branch is not None or chosen.op is not select_op or condition.names[0][0] != "%":
            return self.spell(node, (condition, self.value(node.args[1], guard), other), kinds)
        depth = max(condition.depth, other.depth, self._depth_below(node.args[1], guard))
        level, inner = self.levels[depth], self.levels[depth + 1 :]
        del self.levels[depth + 1 :]
        number = next(self.numbers)
        first = f"rare{number}"
        branch = self.open(first)
        self._branch = branch.depth
        value = self.spell(node, (condition, self.value(node.args[1], guard), other), kinds)
        self._branch = None
        self.close()
        needed = self.any_lane(level, condition)
        usual = self.vector_names(other, node.dtype) if value.vector else other.names
        origin, after = level.label, f"usual{number}"
        level.jump(f"br i1 {needed}, label %{first}, label %{after}", first)
        level.lines += branch.lines
        level.label = branch.label
        level.jump(f"br label %{after}", after)
        t = typed(node.dtype, self.lanes.width if value.vector and self.lanes is not None else 1)
        names = tuple(
            level.put(f"phi {t} [ {name}, %{branch.label} ], [ {of_copy(usual, u)}, %{origin} ]")
            for u, name in enumerate(value.names)
        )
        self.levels += inner
        return Value(names, value.vector, depth)

    def _words(self, node: Scalar, values: list[Value]) -> Value:
        """Random words that the lanes read one after the other."""
        assert self.lanes is not None
        depth = max(value.depth for value in values)
        if self._branch is not None and depth == self._branch - 1:
            depth = self._branch
        before = self.levels[max(value.depth for value in values[:4])].put
        level = self.levels[depth]
        return Value(ordered(node, self.lanes, level, before, [v.names[0] for v in values]), True, depth)

    def _depth_below(self, root: Scalar, guard: Guard | None) -> int:
        """The level at which an expression can be written, from those of the parts that are written
        already.
        """
        memo, depth = self.memo, 0
        for node in topological([root], lambda n: () if self._key(n, guard) in memo else n.args):
            found = memo.get(self._key(node, guard))
            if found is not None:
                depth = max(depth, found.depth)
            elif node.op in (load_op, checked_op, register_op, index_op, guarded_op):
                return self.here.depth
        return depth

    def any_lane(self, level: Level, condition: Value) -> str:
        """Whether a bool holds in any lane of any copy."""
        t = typed(dtypes.bool_, self.lanes.width if condition.vector and self.lanes is not None else 1)
        result = condition.names[0]
        for name in condition.names[1:]:
            result = level.put(f"or {t} {result}, {name}")
        if condition.vector:
            result = level.put(f"call i1 @llvm.vector.reduce.or.{suffix(t)}({t} {result})")
        return result

    def site(self, depth: int, vector: bool) -> Site:
        """Where the instructions of a level go, as vectors of the open loop or as scalars."""
        return Site(self.levels[depth].put, self.lanes.width if vector and self.lanes is not None else 1)

    def combine_values(self, instruction: str, dtype: DType, values: tuple[Value, Value]) -> Value:
        """A plain two-operand LLVM instruction on values of one type."""
        depth = max(value.depth for value in values)
        vector = any(value.vector for value in values)
        copies = max(len(value.names) for value in values)
        site = self.site(depth, vector)
        a, b = (self.vector_names(value, dtype) if vector else value.names for value in values)
        t = site.type(dtype)
        return Value(
            tuple(site.put(f"{instruction} {t} {of_copy(a, u)}, {of_copy(b, u)}") for u in range(copies)),
            vector,
            depth,
        )

    def _call(self, node: Scalar, values: list[Value]) -> Value:
        """Call the module's function for a mathematical operation, on vectors or scalars."""
        from symtensor_codegen.llvm.functions import function_symbol

        assert self.outlined is not None
        depth = max(value.depth for value in values)
        vector = any(value.vector for value in values)
        copies = max(len(value.names) for value in values)
        site = self.site(depth, vector)
        kinds = [argument.dtype for argument in node.args]
        symbol = function_symbol(node, site.lanes, self.target, self.outlined)
        operands = [
            self.vector_names(value, kind) if vector else value.names
            for value, kind in zip(values, kinds, strict=True)
        ]
        made = []
        for u in range(copies):
            listed = ", ".join(
                f"{site.type(kind)} {of_copy(names, u)}" for names, kind in zip(operands, kinds, strict=True)
            )
            made.append(site.put(f"call {site.type(node.dtype)} @{symbol}({listed})"))
        return Value(tuple(made), vector, depth)
