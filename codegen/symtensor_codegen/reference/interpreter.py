"""Run a kernel one iteration and one operation at a time with NumPy scalars.

Loop kinds, widths and unrolling do not change what a kernel means, so they are ignored here: every loop
counts up from 0. Each operation is the one NumPy does on a single element of the type.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.errors import InternalError
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
)
from symtensor_codegen.scalar import (
    COMBINES,
    Buffer,
    Register,
    Scalar,
    as_int,
    bitcast_op,
    cast_op,
    checked_op,
    const_op,
    guarded_op,
    index_op,
    load_op,
    register_op,
    select_op,
    symbol,
    symbol_op,
)


def run_kernel(
    kernel: Kernel,
    arrays: Sequence[np.ndarray[Any, Any]],
    parameters: Sequence[int] = (),
    lo: int | None = None,
    hi: int | None = None,
) -> int:
    """Run ``kernel`` on ``arrays`` (one for each buffer, C-contiguous, changed in place); returns its status.

    The status is 0, or 1 + the position in ``kernel.failures`` of the first message (in that order) that a
    check failed with. ``lo`` and ``hi`` bound the parallel loop; by default it runs in full.
    """
    machine = _Machine(kernel, arrays, parameters, lo, hi)
    with np.errstate(all="ignore"):
        machine.block(kernel.body)
    return min(machine.failed, default=-1) + 1


class _Machine:
    """The state of a run: arrays, registers and loop indices."""

    def __init__(
        self,
        kernel: Kernel,
        arrays: Sequence[np.ndarray[Any, Any]],
        parameters: Sequence[int],
        lo: int | None,
        hi: int | None,
    ) -> None:
        if len(arrays) != len(kernel.buffers) or len(parameters) != len(kernel.parameters):
            raise InternalError(f"{kernel.name}: arguments do not match the kernel's buffers and parameters")
        self.kernel = kernel
        self.arrays: dict[Buffer, np.ndarray[Any, Any]] = {}
        for buffer, array in zip(kernel.buffers, arrays, strict=True):
            if array.dtype != buffer.dtype.numpy or not array.flags.c_contiguous:
                raise InternalError(
                    f"{kernel.name}: the array of {buffer.name} is not C-contiguous {buffer.dtype}"
                )
            self.arrays[buffer] = array.reshape(-1)
        for buffer in kernel.local:
            self.arrays[buffer] = np.empty(buffer.dims, buffer.dtype.numpy)
        self.known: dict[Scalar, Any] = {
            symbol(("parameter", k)): np.int64(value) for k, value in enumerate(parameters)
        }
        self.registers: dict[Register, Any] = {}
        self.range = (lo, hi)
        self.failed: set[int] = set()

    # Statements ------------------------------------------------------------------------------------------

    def block(self, body: Sequence[Statement]) -> bool:
        """Run statements; whether one of them leaves the loop around them."""
        for statement in body:
            if isinstance(statement, Leave):
                if self.value(statement.condition):
                    return True
            else:
                self.statement(statement)
        return False

    def statement(self, statement: Statement) -> None:
        match statement:
            case For():
                self.loop(statement)
            case Declare(register=register, value=value):
                self.registers[register] = self.value(value)
            case Update(register=register, combine=combine, value=value):
                self.registers[register] = self.combine(combine, register, self.value(value))
            case ArgUpdate():
                self.arg_update(statement)
            case Assign(registers=registers, values=values):
                memo: dict[Scalar, Any] = {}
                self.registers.update(zip(registers, [self.evaluate(v, memo) for v in values], strict=True))
            case Store():
                self.store(statement)
            case Check(condition=condition, message=message):
                if not self.value(condition):
                    self.fail(message)

    def loop(self, loop: For) -> None:
        start, end = 0, int(self.value(as_int(loop.extent)))
        if loop.kind is not LoopKind.SERIAL:
            start = start if self.range[0] is None else self.range[0]
            end = end if self.range[1] is None else self.range[1]
        for position in range(start, end):
            self.known[loop.index] = np.int64(position)
            if self.block(loop.body):
                break
        self.known.pop(loop.index, None)

    def combine(self, combine: str, register: Register, value: Any) -> Any:
        return _pair(combine, register.dtype, self.registers[register], value)

    def arg_update(self, statement: ArgUpdate) -> None:
        value, best = self.value(statement.value), self.registers[statement.best]
        better = value > best if statement.combine == "argmax" else value < best
        if statement.best.dtype.is_float and np.isnan(value):
            better = not np.isnan(best)
        if better:
            self.registers[statement.best] = value
            self.registers[statement.place] = self.value(statement.position)

    def store(self, statement: Store) -> None:
        value, array = self.value(statement.value), self.arrays[statement.buffer]
        (at,) = (int(self.value(position)) for position in statement.index)
        if statement.where is not None and not self.value(statement.where):
            return
        if not 0 <= at < len(array):
            raise InternalError(f"{self.kernel.name}: store to {statement.buffer.name}[{at}] of {len(array)}")
        if statement.combine is not None:
            value = _pair(statement.combine, statement.buffer.dtype, array[at], value)
        array[at] = value

    def fail(self, message: object) -> None:
        self.failed.add(self.kernel.failures.index(message))

    # Values ----------------------------------------------------------------------------------------------

    def value(self, root: Scalar) -> Any:
        """The value of an expression now."""
        return self.evaluate(root, {})

    def evaluate(self, root: Scalar, memo: dict[Scalar, Any]) -> Any:
        """The value of an expression; ``memo`` has the parts that are known. Iterative: expressions may be deep."""
        stack = [root]
        while stack:
            node = stack[-1]
            if node in memo:
                stack.pop()
                continue
            needed = node.args
            if node.op is guarded_op:
                condition, value, other = node.args
                needed = (other, condition)
                if memo.get(condition):
                    needed = (other, condition, value)
            missing = [argument for argument in needed if argument not in memo]
            if missing:
                stack += missing
                continue
            stack.pop()
            memo[node] = self.compute(node, memo)
        return memo[root]

    def compute(self, node: Scalar, memo: dict[Scalar, Any]) -> Any:
        """The value of a node whose arguments are known (of ``guarded``, those that are needed)."""
        op, dtype = node.op, node.dtype
        if op is const_op:
            return dtype.numpy.type(node.param)
        if op is symbol_op or op is index_op:
            return self.known[node]
        if op is register_op:
            return self.registers[node.param]
        if op is guarded_op:
            condition, value, other = node.args
            return memo[value] if memo[condition] else memo[other]
        arguments = [memo[argument] for argument in node.args]
        if op is load_op:
            return self.load(node.param, int(arguments[0]))
        if op is checked_op:
            return self.checked(int(arguments[0]), int(arguments[1]), node.param)
        if op is select_op:
            return arguments[1] if arguments[0] else arguments[2]
        if op is cast_op:
            return np.asarray(arguments[0]).astype(dtype.numpy)[()]
        if op is bitcast_op:
            return arguments[0].view(dtype.numpy)
        if op.numpy is None:
            raise InternalError(f"{op.name} has no meaning for one element")
        return np.asarray(op.numpy(*arguments)).astype(dtype.numpy)[()]

    def load(self, buffer: Buffer, at: int) -> Any:
        array = self.arrays[buffer]
        if not 0 <= at < len(array):
            if self.failed:  # after a failed check any element will do
                return array.dtype.type(0)
            raise InternalError(f"{self.kernel.name}: load of {buffer.name}[{at}] of {len(array)}")
        return array[at]

    def checked(self, position: int, extent: int, message: object) -> Any:
        wrapped = position + extent if position < 0 else position
        if 0 <= wrapped < extent:
            return np.int64(wrapped)
        self.fail(message)
        return np.int64(0)


def _pair(combine: str, dtype: dtypes.DType, old: Any, new: Any) -> Any:
    both = np.array([old, new], dtype.numpy)
    return np.asarray(COMBINES[combine].numpy(both)).astype(dtype.numpy)[()]
