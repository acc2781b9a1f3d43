"""What a program on a device tells: why a call failed, what its memory is for, and what its kernels take."""

from collections.abc import Iterator, Mapping, Sequence

from symtensor_codegen.cuda.errors import megabytes
from symtensor_codegen.cuda.hardware.intake import LARGE
from symtensor_codegen.program import Allocate, AllocateOutput, Place, Program, Reserve, walk
from symtensor_codegen.program_text import program_names
from symtensor_codegen.scalar import Buffer, Dim, Scalar
from symtensor_codegen.substitution import substitute
from symtensor_codegen.text import Names, scalar_text


class ProgramFailure(Exception):
    """A guard or kernel failed; holds its message, and of a guard the values that belong to it."""

    def __init__(self, message: object, values: tuple[int, ...] = ()) -> None:
        super().__init__(message, values)
        self.message = message
        self.values_seen = values


def known_sizes(program: Program, shapes: Sequence[tuple[int, ...]]) -> dict[Scalar, Scalar]:
    """The symbols of the arguments' sizes, given the shapes of inputs and cells."""
    from symtensor_codegen.scalar import as_int

    known: dict[Scalar, Scalar] = {}
    for buffer, shape in zip((*program.inputs, *program.cells), shapes, strict=True):
        known |= {d: as_int(n) for d, n in zip(buffer.dims, shape, strict=True) if isinstance(d, Scalar)}
    return known


def memory_plan(program: Program, shapes: Sequence[tuple[int, ...]] | None = None) -> str:
    """What a call takes memory for: arguments, one block for what lives inside the call, and results.

    ``shapes``: those of inputs and cells; without, sizes are expressions.
    """
    return "\n".join(_Plan(program, {} if shapes is None else known_sizes(program, shapes)).lines())


class _Plan:
    def __init__(self, program: Program, known: Mapping[Scalar, Scalar]) -> None:
        self.program, self.known = program, known
        self.names: Names = program_names(program)

    def size(self, size: Dim) -> Dim:
        if isinstance(size, int) or not self.known:
            return size
        found = substitute(size, self.known)
        return found.param if not found.args and isinstance(found.param, int) else found

    def bytes_text(self, size: Dim) -> str:
        size = self.size(size)
        return megabytes(size) if isinstance(size, int) else f"{scalar_text(size, self.names)} bytes"

    def buffer(self, buffer: Buffer) -> str:
        dims = [self.size(d) for d in buffer.dims]
        shape = ", ".join(scalar_text(d, self.names) for d in dims)
        text = f"{buffer.name}: {buffer.dtype}[{shape}]"
        total = self.bytes_of(buffer)
        return text if total is None else f"{text}, {megabytes(total)}"

    def bytes_of(self, buffer: Buffer) -> int | None:
        """The size of a buffer in bytes, where it is known."""
        total = buffer.dtype.itemsize
        for size in map(self.size, buffer.dims):
            if not isinstance(size, int):
                return None
            total *= size
        return total

    def areas(self) -> Iterator[str]:
        """Where inputs go that come from the host; small ones into the block of the call."""
        total = 0
        for buffer in self.program.inputs:
            size = self.bytes_of(buffer)
            if size is None:
                yield f"up to two areas for inputs that come from the host, where these have over {megabytes(LARGE)}"
                return
            total += size
        if total > LARGE:
            yield f"up to two areas of {megabytes(total)} for inputs that come from the host"

    def lines(self) -> Iterator[str]:
        program = self.program
        for title, buffers in (("input", program.inputs), ("shared variable or constant", program.cells)):
            for buffer in buffers:
                yield f"{title} {self.buffer(buffer)}"
        yield from self.areas()
        places: dict[object, list[Buffer]] = {}
        for step in walk(program.steps):
            if isinstance(step, Place):
                offset = self.size(step.offset)
                places.setdefault(offset, []).append(step.buffer)
        for step in walk(program.steps):
            match step:
                case Reserve(size=size):
                    yield f"one block of {self.bytes_text(size)} for"
                    for placed in places.values():
                        yield "  " + ", then ".join(self.buffer(b) for b in placed)
                case Allocate(buffer=buffer):
                    yield f"while it is needed {self.buffer(buffer)}"
                case AllocateOutput(buffer=buffer, position=position):
                    cell = program.outputs[position].cell
                    what = "result" if cell is None else f"next value of {program.cells[cell].name}"
                    yield f"{what} {self.buffer(buffer)}"
                case _:
                    pass
