"""The textual form of host programs, for people."""

from collections.abc import Iterator

from .errors import InternalError
from .program import (
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
from .scalar import Dim, Scalar
from .text import Names, scalar_text


def program_names(program: Program) -> Names:
    """Names for the sizes of a program's arguments: ``x.shape[0]``."""
    names = Names()
    for buffer in (*program.inputs, *program.cells):
        for axis, size in enumerate(buffer.dims):
            if isinstance(size, Scalar):
                names.give(size, f"{buffer.name}.shape[{axis}]")
    for step in walk(program.steps):
        if isinstance(step, Read):
            names.give(step.symbol, f"value({step.buffer.name})")
        elif isinstance(step, Loop):
            names.of(step.index, "step")
    return names


def program_text(program: Program) -> str:
    """A program as lines of text: its arguments, its steps in order, and its results."""
    return "\n".join(_Writer(program).lines())


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.names = program_names(program)

    def lines(self) -> list[str]:
        program = self.program
        lines = [f"program {program.name}:"]
        for title, buffers in (("input", program.inputs), ("cell", program.cells)):
            for buffer in buffers:
                lines.append(f"  {title} {buffer.name}: {buffer.dtype}[{self.list(buffer.dims)}]")
        lines += self.block(program.steps, "  ")
        for output in program.outputs:
            where = "return" if output.cell is None else f"cell {output.cell}"
            lines.append(f"  {where} <- {output.buffer.name}" + (" (in place)" if output.in_place else ""))
        return lines

    def size(self, value: Dim) -> str:
        return scalar_text(value, self.names)

    def list(self, dims: tuple[Dim, ...]) -> str:
        return ", ".join(self.size(d) for d in dims)

    def matrix(self, matrix: Matrix) -> str:
        strides = f"{self.size(matrix.row_stride)}, {self.size(matrix.column_stride)}"
        return f"{matrix.buffer.name}[{self.size(matrix.offset)}; {strides}]"

    def block(self, steps: tuple[Step, ...], margin: str) -> Iterator[str]:
        inside = margin + "  "
        for step in steps:
            match step:
                case Loop():
                    until = "" if step.until is None else f", until {step.until.name}"
                    executed = "" if step.executed is None else f", number of steps to {step.executed.name}"
                    yield f"{margin}for {self.size(step.index)} < {self.size(step.count)}{until}{executed}:"
                    yield from (inside + self.step(row) for row in step.rows)
                    yield from self.block(step.steps, inside)
                    for buffers in step.swaps:
                        names = [b.name for b in buffers]
                        yield f"{inside}swap {', '.join(names)} = {', '.join([*names[1:], names[0]])}"
                case Branch(condition=condition, then=then, otherwise=otherwise):
                    holds = self.size(condition) if isinstance(condition, Scalar) else condition.name
                    yield f"{margin}if {holds}:"
                    yield from self.block(then, inside)
                    yield f"{margin}else:"
                    yield from self.block(otherwise, inside)
                case _:
                    yield margin + self.step(step)

    def step(self, step: Step) -> str:
        """A step that has no steps in it."""
        match step:
            case Guard(condition=condition):
                return f"guard {self.size(condition)}"
            case Reserve(size=size):
                return f"reserve {self.size(size)} bytes"
            case Place(buffer=buffer):
                return f"place {buffer.name}: {buffer.dtype}[{self.list(buffer.dims)}]"
            case Allocate(buffer=buffer):
                return f"allocate {buffer.name}: {buffer.dtype}[{self.list(buffer.dims)}]"
            case AllocateOutput(buffer=buffer, position=position):
                return f"output {position} = {buffer.name}: {buffer.dtype}[{self.list(buffer.dims)}]"
            case Read(symbol=symbol, buffer=buffer):
                return f"read {self.size(symbol)} from {buffer.name}"
            case Launch(kernel=kernel, buffers=buffers, parameters=parameters, extent=extent, grain=grain):
                given = ", ".join([*(b.name for b in buffers), *(self.size(p) for p in parameters)])
                return f"launch {kernel.name}({given}) over {self.size(extent)}, grain {self.size(grain)}"
            case Gemm(out=out, a=a, b=b, m=m, n=n, k=k, batch=batch):
                sizes = ", ".join(self.size(s) for s in (m, n, k))
                times = "" if batch == 1 else f" x {self.size(batch)}"
                return f"{self.matrix(out)} = {self.matrix(a)} @ {self.matrix(b)}  # {sizes}{times}"
            case Row(buffer=buffer, source=source, position=position):
                where = f"{source.name}, row {self.size(position)}"
                return f"{buffer.name}: {buffer.dtype}[{self.list(buffer.dims)}] is {where}"
            case Copy(target=target, source=source):
                return f"copy {source.name} to {target.name}"
            case _:
                raise InternalError(f"{step!r} has no text")
