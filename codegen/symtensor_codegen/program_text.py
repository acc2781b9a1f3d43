"""The textual form of host programs, for people."""

from .program import Allocate, AllocateOutput, Copy, Gemm, Guard, Launch, Matrix, Place, Program, Read, Reserve, Step
from .scalar import Dim
from .text import scalar_text


def program_text(program: Program) -> str:
    """A program as lines of text: its arguments, its steps in order, and its results."""
    lines = [f"program {program.name}:"]
    for title, buffers in (("input", program.inputs), ("cell", program.cells)):
        for buffer in buffers:
            lines.append(f"  {title} {buffer.name}: {buffer.dtype}[{_list(buffer.dims)}]")
    lines += [f"  {_step(step)}" for step in program.steps]
    for output in program.outputs:
        where = "return" if output.cell is None else f"cell {output.cell}"
        lines.append(f"  {where} <- {output.buffer.name}" + (" (in place)" if output.in_place else ""))
    return "\n".join(lines)


def _list(dims: tuple[Dim, ...]) -> str:
    return ", ".join(scalar_text(d) for d in dims)


def _matrix(matrix: Matrix) -> str:
    strides = f"{scalar_text(matrix.row_stride)}, {scalar_text(matrix.column_stride)}"
    return f"{matrix.buffer.name}[{scalar_text(matrix.offset)}; {strides}]"


def _step(step: Step) -> str:
    match step:
        case Guard(condition=condition):
            return f"guard {scalar_text(condition)}"
        case Reserve(size=size):
            return f"reserve {scalar_text(size)} bytes"
        case Place(buffer=buffer, offset=offset):
            return f"place {buffer.name}: {buffer.dtype}[{_list(buffer.dims)}] at {scalar_text(offset)}"
        case Allocate(buffer=buffer):
            return f"allocate {buffer.name}: {buffer.dtype}[{_list(buffer.dims)}]"
        case AllocateOutput(buffer=buffer, position=position):
            return f"output {position} = {buffer.name}: {buffer.dtype}[{_list(buffer.dims)}]"
        case Read(symbol=symbol, buffer=buffer):
            return f"read {scalar_text(symbol)} from {buffer.name}"
        case Launch(kernel=kernel, buffers=buffers, parameters=parameters, extent=extent, grain=grain):
            given = ", ".join([*(b.name for b in buffers), *(scalar_text(p) for p in parameters)])
            return f"launch {kernel.name}({given}) over {scalar_text(extent)}, grain {scalar_text(grain)}"
        case Gemm(out=out, a=a, b=b, m=m, n=n, k=k, batch=batch):
            sizes = ", ".join(scalar_text(s) for s in (m, n, k))
            times = "" if batch == 1 else f" x {scalar_text(batch)}"
            return f"{_matrix(out)} = {_matrix(a)} @ {_matrix(b)}  # {sizes}{times}"
        case Copy(target=target, source=source):
            return f"copy {source.name} to {target.name}"
