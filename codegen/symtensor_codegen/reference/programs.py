"""The meaning of host programs: steps run one by one on NumPy arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import scalar, substitution
from symtensor_codegen.errors import InternalError
from symtensor_codegen.finish import storage
from symtensor_codegen.loops import Kernel
from symtensor_codegen.program import (
    Allocate,
    AllocateOutput,
    Branch,
    Copy,
    Gemm,
    Guard,
    Launch,
    Loop,
    Matrix,
    Place,
    Program,
    Read,
    Reserve,
    Row,
    Step,
    walk,
)
from symtensor_codegen.scalar import Buffer, Dim, Scalar
from symtensor_codegen.substitution import product

from .interpreter import run_kernel

Array = npt.NDArray[Any]
RunKernel = Callable[[Kernel, Sequence[Array], Sequence[int]], int]


class ProgramFailure(Exception):
    """A guard or kernel failed; holds its message."""

    def __init__(self, message: object, values: tuple[int, ...] = ()) -> None:
        super().__init__(message, values)
        self.message = message
        self.values_seen = values


def run_program(
    program: Program, inputs: Sequence[Array], cells: Sequence[Array], run: RunKernel = run_kernel
) -> list[Array]:
    """The results of one call, in the order of ``program.outputs``; in-place outputs are written into ``cells``.

    Raises:
        ProgramFailure: a guard did not hold or a kernel failed.
    """
    return _Run(program, inputs, cells, run).results()


class _Run:
    def __init__(self, program: Program, inputs: Sequence[Array], cells: Sequence[Array], run: RunKernel) -> None:
        self.program, self.run = program, run
        self.known: dict[Scalar, Scalar] = {}
        self.memory: dict[Buffer, Array] = {}
        given = zip((*program.inputs, *program.cells), (*inputs, *cells), strict=True)
        for buffer, array in given:
            self.memory[buffer] = array.reshape(-1)
            for size, actual in zip(buffer.dims, array.shape, strict=True):
                if isinstance(size, Scalar):
                    self.known[size] = scalar.as_int(actual)

    def size(self, value: Dim) -> int:
        """A host value as a number."""
        if isinstance(value, int):
            return value
        found = substitution.substitute(value, self.known)
        if found.op is not scalar.const_op:
            raise InternalError(f"{self.program.name}: {value} is not known here, but needed")
        return int(found.param)

    def results(self) -> list[Array]:
        self.block(self.program.steps)
        found = []
        for output in self.program.outputs:
            shape = tuple(self.size(d) for d in output.buffer.dims)
            found.append(self.memory[storage(output.buffer)].reshape(shape))
        return found

    def block(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.step(step)

    def nested(self, steps: tuple[Step, ...]) -> None:
        """Steps in a loop or branch: what they allocate and read is gone afterwards."""
        for step in walk(steps):
            if isinstance(step, (Reserve, Place, AllocateOutput)):
                raise InternalError(f"{self.program.name}: {type(step).__name__} in a loop or branch")
        known = dict(self.known)
        self.block(steps)
        self.known = known
        for step in steps:
            if isinstance(step, Allocate):
                del self.memory[storage(step.buffer)]

    def loop(self, loop: Loop) -> None:
        number, known, count = 0, self.known, self.size(loop.count)
        while number < count:
            self.known = {**known, loop.index: scalar.as_int(number)}
            for row in loop.rows:
                self.memory[storage(row.buffer)] = self.row(row)
            self.nested(loop.steps)
            number += 1
            ended = loop.until is not None and bool(self.memory[storage(loop.until)][0])
            for buffers in loop.swaps:
                memory = [self.memory[storage(b)] for b in buffers]
                self.memory.update(zip(map(storage, buffers), [*memory[1:], memory[0]], strict=True))
            if ended:
                break
        self.known = known
        for row in loop.rows:
            self.memory.pop(storage(row.buffer), None)
        if loop.executed is not None:
            self.memory[storage(loop.executed)][0] = number

    def row(self, row: Row) -> Array:
        """The memory of a row."""
        size = self.size(product((*row.buffer.dims, row.buffer.dtype.itemsize)))
        whole, position = self.memory[storage(row.source)].view(np.uint8), self.size(row.position)
        if not 0 <= position * size <= len(whole) - size:
            raise InternalError(f"{self.program.name}: {row.source.name} has no row number {position}")
        return whole[position * size : (position + 1) * size].view(row.buffer.dtype.numpy)

    def step(self, step: Step) -> None:
        match step:
            case Guard(condition=condition, message=message, values=values):
                if not self.size(condition):
                    raise ProgramFailure(message, tuple(self.size(v) for v in values))
            case Reserve():
                pass
            case Place(buffer=buffer) | Allocate(buffer=buffer) | AllocateOutput(buffer=buffer):
                count = self.size(product(buffer.dims))
                array = np.empty(count, buffer.dtype.numpy)
                array.view(np.uint8).fill(0xA5)  # whatever is read before it is written shows
                self.memory[storage(buffer)] = array
            case Read(symbol=symbol, buffer=buffer):
                self.known[symbol] = scalar.as_int(int(self.memory[storage(buffer)][0]))
            case Copy(target=target, source=source):
                self.memory[storage(target)][:] = self.memory[storage(source)]
            case Launch(kernel=kernel, buffers=buffers, parameters=parameters, messages=messages):
                status = self.run(kernel, [self.arrays(b, f) for b, f in zip(buffers, kernel.buffers, strict=True)],
                                  [self.size(p) for p in parameters])  # fmt: skip
                if status:
                    raise ProgramFailure(messages[status - 1])
            case Gemm():
                self.gemm(step)
            case Row(buffer=buffer):
                self.memory[storage(buffer)] = self.row(step)
            case Loop():
                self.loop(step)
            case Branch(condition=condition, then=then, otherwise=otherwise):
                held = self.size(condition) if isinstance(condition, Scalar) else self.memory[storage(condition)][0]
                self.nested(then if held else otherwise)

    def arrays(self, actual: Buffer, formal: Buffer) -> Array:
        array = self.memory[storage(actual)]
        return array if formal.dtype is actual.dtype else array.view(formal.dtype.numpy)

    def gemm(self, step: Gemm) -> None:
        m, n, k, batch = (self.size(s) for s in (step.m, step.n, step.k, step.batch))
        for position in range(batch):
            a, b = self.matrix(step.a, m, k, position), self.matrix(step.b, k, n, position)
            out = self.matrix(step.out, m, n, position)
            kept = step.beta * out if step.beta else 0
            out[...] = step.alpha * (a @ b) + kept

    def matrix(self, matrix: Matrix, rows: int, columns: int, position: int) -> Array:
        flat = self.memory[storage(matrix.buffer)]
        start = self.size(matrix.offset) + position * self.size(matrix.batch_stride)
        strides = (self.size(matrix.row_stride), self.size(matrix.column_stride))
        return np.lib.stride_tricks.as_strided(
            flat[start:], (rows, columns), tuple(s * flat.itemsize for s in strides)
        )
