"""Random kernels: LLVM and the plain interpreter must agree, whatever the vector width and unrolling."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symtensor_codegen import dtypes, reference, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.llvm import changes, jit
from symtensor_codegen.llvm.run_kernel import NativeKernel
from symtensor_codegen.llvm.schedule import vectorise
from symtensor_codegen.loops import (
    ArgUpdate,
    Declare,
    For,
    Kernel,
    LoopKind,
    Statement,
    Store,
    Update,
    parameter,
)
from symtensor_codegen.scalar import Buffer, Register, Scalar, as_int, cast, const

UNARY = {
    "f": ("neg", "abs", "sign", "sqrt", "floor", "ceil", "trunc", "rint", "tanh"),
    "i": ("neg", "abs", "sign", "bit_not"),
    "u": ("bit_not", "sign"),
    "b": ("bit_not",),
}
BINARY = {
    "f": ("add", "sub", "mul", "div", "minimum", "maximum", "fmin", "fmax", "copysign"),
    "i": ("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum", "bit_and", "bit_or", "shl", "shr"),
    "b": ("bit_and", "bit_or", "bit_xor"),
}
BINARY["u"] = BINARY["i"]
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
COMBINE = {"f": ("add", "maximum", "minimum"), "i": ("add", "mul", "maximum", "minimum", "and", "or", "xor")}
COMBINE["u"] = COMBINE["i"]
TYPES = (
    dtypes.float32, dtypes.float64, dtypes.float64, dtypes.int64, dtypes.int32, dtypes.uint8, dtypes.int16,
    dtypes.float16, dtypes.uint32,
)  # fmt: skip
SIZES = (0, 1, 2, 3, 5, 8, 15, 16, 17, 33, 40)
TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-9}

Loop = tuple[Scalar, "int | Scalar", int]  # index, extent, its value


class RandomKernel:
    """A kernel with its arrays. Loads stay in range except through checked indices, which may fail."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.dtype = self.random.choice(TYPES)
        self.sizes = [self.random.choice(SIZES) for _ in range(3)]
        self.dims = [
            parameter(k) if self.chance(0.7) else size for k, size in enumerate(self.sizes)
        ]  # sizes are parameters or known
        self.buffers: list[Buffer] = []
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.written: list[Buffer] = []
        self.messages: list[object] = []
        self.registers: list[Register] = []
        body = (self.loop([], 0, True, LoopKind.PARALLEL),) if self.chance(0.6) else self.nest([], 0, True)
        self.kernel = Kernel(
            "random",
            tuple(self.buffers),
            (parameter(0), parameter(1), parameter(2)),
            body,
            tuple(self.messages),
            written=frozenset(self.written),
        )

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def buffer(self, dtype: DType, size: int, written: bool = False) -> Buffer:
        made = Buffer(f"b{len(self.buffers)}", dtype, (size,))
        self.buffers.append(made)
        self.arrays.append(self.array(dtype, size))
        if written:
            self.written.append(made)
        return made

    def array(self, dtype: DType, size: int) -> np.ndarray[Any, Any]:
        if dtype.kind == "b":
            return self.numbers.random(size) < 0.5
        if dtype.is_float:
            values = self.numbers.normal(size=size) * 3
            if self.chance(0.3):
                special = self.numbers.choice([np.nan, np.inf, -np.inf, 0.0, -0.0])
                values[self.numbers.random(size) < 0.1] = special
            return values.astype(dtype.numpy)
        limits = np.iinfo(dtype.numpy)
        if self.chance(0.5):
            return self.numbers.integers(0 if limits.min == 0 else -9, 9, size).astype(dtype.numpy)
        return self.numbers.integers(limits.min, limits.max, size, dtype=dtype.numpy, endpoint=True)

    # Expressions

    def offset(self, loops: list[Loop]) -> tuple[Scalar, int]:
        """A flat offset from some of the indices, forwards or backwards, and a size that holds it."""
        used = [loop for loop in loops if self.chance(0.75)]
        if self.chance(0.3):
            self.random.shuffle(used)
        offset, stride, size = as_int(0), as_int(1), 1
        for index, extent, count in reversed(used):
            step = as_int(extent) - 1 - index if self.chance(0.15) else index
            offset, stride, size = offset + step * stride, stride * as_int(extent), size * max(count, 1)
        return (offset + 2, size + 5) if self.chance(0.2) else (offset, size + 3)

    def load(self, loops: list[Loop], dtype: DType) -> Scalar:
        offset, size = self.offset(loops)
        if self.chance(0.12):
            indices = self.buffer(dtypes.int64, size)
            count = 6
            self.arrays[-1][:] = self.numbers.integers(-count, count + 2 * self.chance(0.3), size)
            message = f"index {len(self.messages)}"
            self.messages.append(message)
            at = scalar.checked_index(scalar.load(indices, (offset,)), count, message)
            return scalar.load(self.buffer(dtype, count), (at,))
        value = scalar.load(self.buffer(dtype, size), (offset,))
        if loops and self.chance(0.2):
            index = self.random.choice(loops)[0]
            condition = scalar.le(index, as_int(self.random.randrange(8)))
            if self.chance(0.5):
                condition = condition & self.condition(loops, 0)
            short = scalar.load(self.buffer(dtype, 9), (index,))
            value = scalar.guarded(condition, short, self.expression(loops, dtype, 0))
        return value

    def condition(self, loops: list[Loop], depth: int) -> Scalar:
        dtype = self.random.choice([self.dtype, dtypes.int64])
        compare = scalar.OPS[self.random.choice(COMPARE)]
        return compare(self.expression(loops, dtype, depth), self.expression(loops, dtype, depth))

    def expression(self, loops: list[Loop], dtype: DType, depth: int) -> Scalar:
        draw = self.random.random()
        if depth <= 0:
            if draw < 0.6:
                return self.load(loops, dtype)
            if draw < 0.75 and loops and dtype.kind != "b":
                return cast(self.random.choice(loops)[0], dtype)
            if draw < 0.85 and self.registers:
                return cast(scalar.read(self.random.choice(self.registers)), dtype)
            return const(self.random.randrange(2 if dtype.kind == "b" else 4), dtype)
        if draw < 0.15:
            return scalar.OPS[self.random.choice(UNARY[dtype.kind])](self.expression(loops, dtype, depth - 1))
        if draw < 0.6:
            op = scalar.OPS[self.random.choice(BINARY[dtype.kind])]
            return op(self.expression(loops, dtype, depth - 1), self.expression(loops, dtype, depth - 1))
        if draw < 0.75:
            yes, no = self.expression(loops, dtype, depth - 1), self.expression(loops, dtype, depth - 1)
            return scalar.select(self.condition(loops, depth - 2), yes, no)
        if draw < 0.85:
            other = self.random.choice((dtypes.int32, dtypes.int64, dtypes.bool_, dtypes.uint8))
            return cast(self.expression(loops, other, depth - 1), dtype)
        return self.expression(loops, dtype, 0)

    # Statements

    def lanes(self, allowed: bool) -> tuple[int, int]:
        return (self.random.choice((1, 2, 4, 8, 16)), self.random.choice((1, 1, 2, 4))) if allowed else (1, 1)

    def store(self, loops: list[Loop]) -> Statement:
        offset, stride, size = as_int(0), as_int(1), 1
        for index, extent, count in reversed(loops):
            offset, stride, size = offset + index * stride, stride * as_int(extent), size * max(count, 1)
        dtype = self.random.choice((self.dtype, self.dtype, dtypes.bool_))
        target = self.buffer(dtype, size, written=True)
        combine = self.random.choice((None, None, "add", "maximum"))
        where = self.condition(loops, 1) if self.chance(0.3) else None
        return Store(
            target, (offset,), self.expression(loops, dtype, self.random.randrange(4)), combine, where
        )

    def reduction(self, loops: list[Loop], level: int, lanes: bool) -> tuple[Statement, ...]:
        dtype, free = self.dtype, frozenset(loop[0] for loop in loops)
        extent, index = self.dims[level], scalar.index("j", self.dims[level])
        inner = [*loops, (index, extent, self.sizes[level])]
        width, unroll = self.lanes(lanes)
        before: tuple[Statement, ...]
        update: Statement
        if self.chance(0.25):
            combine = self.random.choice(("argmax", "argmin"))
            best, result = Register("best", dtype), Register("place", dtypes.int64)
            start = scalar.COMBINES[{"argmax": "maximum", "argmin": "minimum"}[combine]].neutral(dtype)
            before = (Declare(best, const(start, dtype)), Declare(result, as_int(0)))
            update = ArgUpdate(best, result, combine, self.expression(inner, dtype, 1), index)
        else:
            result = Register("total", dtype)
            before = (Declare(result, self.expression(loops, dtype, 1)),)
            combine = self.random.choice(COMBINE[dtype.kind])
            update = Update(result, combine, self.expression(inner, dtype, 2))
        scalar.read(result, free)
        self.registers.append(result)
        after = self.store(loops)
        self.registers.pop()
        return (*before, For(index, extent, (update,), LoopKind.SERIAL, width, unroll), after)

    def nest(self, loops: list[Loop], level: int, lanes: bool) -> tuple[Statement, ...]:
        body: tuple[Statement, ...] = ()
        for _ in range(self.random.randrange(1, 3)):
            draw = self.random.random()
            if level == 3 or draw < 0.35:
                body += (self.store(loops),)
            elif draw < 0.7:
                body += self.reduction(loops, level, lanes)
            else:
                body += (self.loop(loops, level, lanes, LoopKind.SERIAL),)
        return body

    def loop(self, loops: list[Loop], level: int, lanes: bool, kind: LoopKind) -> For:
        extent, index = self.dims[level], scalar.index("i", self.dims[level])
        width, unroll = self.lanes(lanes and self.chance(0.5))
        inner_lanes = lanes and width == unroll == 1
        body = self.nest([*loops, (index, extent, self.sizes[level])], level + 1, inner_lanes)
        return For(index, extent, body, kind, width, unroll)


def plain(statement: Statement) -> Statement:
    """The statement without widths."""
    if not isinstance(statement, For):
        return statement
    return replace(statement, width=1, unroll=1, body=tuple(plain(s) for s in statement.body))


def compare(made: RandomKernel, kernel: Kernel, bits: int) -> None:
    """Run ``kernel`` for vectors of ``bits`` bits and by the interpreter, on copies of the same arrays."""
    expected = [array.copy() for array in made.arrays]
    got = [array.copy() for array in made.arrays]
    status = reference.run_kernel(made.kernel, expected, made.sizes, 0, made.sizes[0])
    native = NativeKernel(kernel, jit.host()._replace(vector_bits=bits))
    jit.verify(native.source)
    assert native.launch(native.arguments(got, made.sizes), 0, made.sizes[0]) == status
    if status:
        return
    for buffer, want, have in zip(made.buffers, expected, got, strict=True):
        if buffer.dtype.is_float:
            tolerance = TOLERANCE[buffer.dtype.itemsize]
            np.testing.assert_allclose(have.astype(float), want.astype(float), tolerance, tolerance)
        else:
            np.testing.assert_array_equal(have, want)


def check(seed: int) -> None:
    """Compare a random kernel as it is, and as the schedule makes it."""
    with np.errstate(all="ignore"):
        made = RandomKernel(seed)
    compare(made, made.kernel, (512, 256)[seed % 2])
    unscheduled = replace(made.kernel, body=tuple(plain(s) for s in made.kernel.body))
    bits = (128, 512, 256)[seed % 3]
    compare(made, vectorise(unscheduled, jit.host()._replace(vector_bits=bits)), bits)


@pytest.fixture(params=[40, 4], ids=lambda size: f"big={size}")
def _big_body(request: pytest.FixtureRequest) -> Iterator[None]:
    """From how many nodes a body is written once, with two starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_BIG_BODY", request.param)
        yield


@pytest.mark.usefixtures("_big_body")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 40))
def test_random_kernels_mean_what_the_interpreter_says(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.usefixtures("_big_body")
@pytest.mark.parametrize("block", range(10))
def test_many_random_kernels(block: int) -> None:
    for seed in range(50 * block, 50 * (block + 1)):
        check(seed)
