"""What a stage reads and writes: buffers, registers, and checks that may fail."""

from collections.abc import Sequence

from symtensor_codegen.cuda.schedules.launch_numbers import size_of
from symtensor_codegen.cuda.schedules.sharing import BLOCK, PARTS, SCRATCH
from symtensor_codegen.cuda.schedules.stages import Schedule, Stage
from symtensor_codegen.cuda.text.operations import MEMORY, REGISTER
from symtensor_codegen.cuda.text.values import Identifiers, Values, bare
from symtensor_codegen.dtypes import float16
from symtensor_codegen.loops import (
    Kernel,
    Store,
)
from symtensor_codegen.scalar import (
    COMBINES,
    Buffer,
    Register,
    Scalar,
    read,
)


class Accesses(Values):
    """Values over the memory of one stage."""

    def __init__(
        self, kernel: Kernel, schedule: Schedule, stage: Stage, names: Identifiers, aliased: bool
    ) -> None:
        super().__init__()
        self.kernel, self.scheduled, self.stage, self.names, self.aliased = kernel, schedule, stage, names, aliased
        names.give(SCRATCH, "scratch")
        self.written = {b for b in (*kernel.buffers, *kernel.local) if b in kernel.written}
        self.together = stage.form == "team"  # whether the threads of a team take the same steps here
        self.all_active = False  # whether threads beyond the last item do not come here
        self.elements: dict[tuple[Buffer, Scalar], str] = {}  # variables that stand for the elements at places
        self.scratch: dict[tuple[str, str], str] = {}  # shared arrays by role and type
        self.tiles: dict[str, str] = {}  # types of the tiles in shared memory, by name
        self.definitions: dict[str, str] = {}  # of types and of other shared arrays, by name
        for buffer in kernel.local:
            name = names.of(buffer, buffer.name)
            self.definitions[name] = f"__shared__ {MEMORY[buffer.dtype]} {name}[{max(size_of(buffer.dims[0], ()), 1)}];"
        self.dirty: set[object] = set()  # memory that threads of the team wrote since they last waited for each other
        self.touched: set[object] = set()  # memory that they read since then

    def _pointer(self, buffer: Buffer) -> str:
        constant = "" if buffer in self.written else "const "
        restrict = "" if self.aliased else " __restrict__"
        return f"{constant}{MEMORY[buffer.dtype]}*{restrict} {self.names.of(buffer, buffer.name)}"

    def register(self, register: Register) -> str:
        """The variable of a register."""
        return self.names.of(register, register.name)

    def identity(self, thing: Register | Buffer) -> object:
        """What stands for a register or for the memory of a buffer."""
        if self.aliased and isinstance(thing, Buffer):
            return thing.dtype  # any two of a type may be the same memory
        return thing

    def load(self, buffer: Buffer, place: Scalar, at: str) -> str:
        """An element of a buffer."""
        pointer = self.names.of(buffer, buffer.name)
        element = self.elements.get((buffer, place))
        return from_memory(buffer, f"{pointer}[{bare(at)}]" if element is None else element)

    def leaf(self, node: Scalar) -> str:
        """A constant, index, parameter or register; or a number of blocks."""
        if node is PARTS:
            return "(i64)gridDim.y"
        return "(i64)blockIdx.y" if node is BLOCK else super().leaf(node)

    def checked(self, node: Scalar, operands: Sequence[str]) -> str:
        """An index from data: negative ones count from the end, others out of range fail."""
        return f"st_checked({bare(operands[0])}, {bare(operands[1])}, status, {self._failure(node.param)})"

    # Stores ------------------------------------------------------------------------------------------------------

    def _store(self, store: Store) -> None:
        buffer = store.buffer
        element = self.elements.get((buffer, store.index[0]))
        if element is not None:
            self.line(f"{element} = {to_memory(buffer, bare(self.value(store.value)))};")
            return
        pointer = self.names.of(buffer, buffer.name)
        conditions = []
        if self.together:
            conditions.append("rank == 0")
        if self.stage.column and not self.all_active:
            conditions.append("active")
        if store.where is not None:
            conditions.append(self.value(store.where))
        if self.stage.owners:
            conditions.append(f"((u64)({self.held(store.index[0])}) % owners == me)")
        if conditions:
            with self.block(f"if ({bare(' && '.join(conditions))})"):
                self._store_here(store, pointer)
        else:
            self._store_here(store, pointer)
        self.forget([buffer])

    def _store_here(self, store: Store, pointer: str) -> None:
        at = bare(self.value(store.index[0]))
        if store.combine is None:
            self.line(f"{pointer}[{at}] = {to_memory(store.buffer, bare(self.value(store.value)))};")
            return
        old = Register("old", store.buffer.dtype)
        name = self.register(old)
        place = self.names.fresh("at")
        self.line(f"const i64 {place} = {at};")
        self.line(f"const {REGISTER[store.buffer.dtype]} {name} = {from_memory(store.buffer, f'{pointer}[{place}]')};")
        new = self.value(COMBINES[store.combine].step(read(old), store.value))
        self.line(f"{pointer}[{place}] = {to_memory(store.buffer, bare(new))};")

    def _failure(self, message: object) -> str:
        position = next(k for k, known in enumerate(self.kernel.failures) if known is message or known == message)
        return f"first + {position}" if position else "first"


def from_memory(buffer: Buffer, text: str) -> str:
    """An element of a buffer as a value."""
    if buffer.dtype.kind == "b":
        return f"({text} != 0)"
    return f"st_half_to_float({text})" if buffer.dtype is float16 else text


def to_memory(buffer: Buffer, text: str) -> str:
    """A value as an element of a buffer."""
    if buffer.dtype.kind == "b":
        return f"(u8)({text})"
    return f"st_float_to_half({text})" if buffer.dtype is float16 else text
