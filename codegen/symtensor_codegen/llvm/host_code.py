"""What the native code of every host step is made of: the frame, host values, memory, failures."""

from collections.abc import Sequence

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.finish import storage
from symtensor_codegen.llvm.calling import INTERRUPTED, OUT_OF_MEMORY, frame_layout
from symtensor_codegen.llvm.emission import Value
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.llvm.values import Evaluator
from symtensor_codegen.program import Program
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int


class HostCode(Evaluator):
    """The function of a program while it is written.

    Code in a loop or branch has a level of its own, so values and addresses that are known before go before it.
    """

    def __init__(self, program: Program, target: Target) -> None:
        super().__init__(target)
        self.program = program
        self.layout = frame_layout(
            [len(b.dims) for b in program.inputs],
            [len(b.dims) for b in program.cells],
            [len(o.buffer.dims) for o in program.outputs],
        )
        self.status = {message: 1 + k for k, message in enumerate(program.messages)}
        self.pointers: dict[Buffer, Value] = {}
        self.known: dict[Scalar, Value] = {}
        self.stack: list[str] = []
        self.declared: dict[str, str] = {}
        self.may_stop = True  # Ctrl-C may end the call here
        self._blocks = 0
        for buffers, starts in ((program.inputs, self.layout.inputs), (program.cells, self.layout.cells)):
            for buffer, start in zip(buffers, starts, strict=True):
                self._bind(buffer, start)

    def _bind(self, buffer: Buffer, start: int) -> None:
        self.place(buffer, self._frame_load("ptr", start))
        for axis, size in enumerate(buffer.dims):
            if isinstance(size, Scalar):
                self.known[size] = Value((self._frame_load("i64", start + 1 + axis),), False, 0)

    def slot(self, word: int) -> str:
        """The address of a word of the frame."""
        return self.here.put(f"getelementptr inbounds i64, ptr %frame, i64 {word}")

    def _frame_load(self, kind: str, word: int) -> str:
        return self.here.put(f"load {kind}, ptr {self.slot(word)}, align 8")

    def number(self) -> int:
        """A number for labels and variables that has not been used."""
        self._blocks += 1
        return self._blocks

    def declare(self, name: str, signature: str) -> str:
        """Declare an external function; returns its name."""
        self.declared[name] = signature
        return name

    # Values -----------------------------------------------------------------------------------------------------

    def symbol(self, node: Scalar) -> Value:
        """The value of a symbol that the program has met."""
        found = self.known.get(node)
        if found is None:
            raise InternalError(f"program {self.program.name}: {node!r} is used before it is known")
        return found

    def size_value(self, value: Dim) -> Value:
        """A host value, and the level at which it is known."""
        return Value((str(value),), False, 0) if isinstance(value, int) else self.value(value)

    def size(self, value: Dim) -> str:
        """A host value as an LLVM operand."""
        return self.size_value(value).names[0]

    def address(self, buffer: Buffer) -> Value:
        """The address of a buffer's first element, and the level at which it is known."""
        found = self.pointers.get(storage(buffer))
        if found is None:
            raise InternalError(f"program {self.program.name}: {buffer.name} has no memory here")
        return found

    def pointer(self, buffer: Buffer) -> str:
        """The address of a buffer's first element."""
        return self.address(buffer).names[0]

    def place(self, buffer: Buffer, pointer: str) -> None:
        """The memory of a buffer, known from here on."""
        self.pointers[storage(buffer)] = Value((pointer,), False, self.here.depth)

    def is_known(self, size: Dim) -> bool:
        """Whether a host value is known by now."""
        raise NotImplementedError

    # Memory and failures ----------------------------------------------------------------------------------------

    def allocate(self, size: Dim) -> str:
        """Scratch memory."""
        self.declare("st_alloc", "ptr @st_alloc(ptr, i64)")
        found = self.here.put(f"call ptr @st_alloc(ptr %call, i64 {self.size(size)})")
        self.fail_where_not(self.here.put(f"icmp ne ptr {found}, null"), str(OUT_OF_MEMORY), (size,))
        return found

    def fail_where_not(self, holds: str, status: str, values: Sequence[Dim] = (), frame: bool = False) -> None:
        """Return ``status`` unless ``holds``; the details are ``values``, or the address of the frame."""
        if holds == "true":
            return
        shown = [self.here.put("ptrtoint ptr %frame to i64")] if frame else [self.size(v) for v in values[:4]]
        number = self.number()
        bad, good = f"fail{number}", f"go{number}"
        self.here.jump(f"br i1 {holds}, label %{good}, label %{bad}", bad)
        for word, value in enumerate(shown):
            self.here.do(f"store i64 {value}, ptr {self.slot(self.layout.details + word)}, align 8")
        self.here.jump(f"ret i64 {status}", good)

    def stop_if_interrupted(self, following: str) -> None:
        """End the call where a signal handler has raised (Ctrl-C), else go on at the label ``following``."""
        self.declare("st_interrupted", "i1 @st_interrupted(ptr)")
        stop = f"stop{self.number()}"
        raised = self.here.put("call i1 @st_interrupted(ptr %call)")
        self.here.jump(f"br i1 {raised}, label %{stop}, label %{following}", stop)
        self.here.jump(f"ret i64 {INTERRUPTED}", following)


def real_product(sizes: Sequence[Dim]) -> Scalar:
    """The product of sizes in floating point, where it cannot overflow."""
    result = scalar.const(1.0, dtypes.float64)
    for size in sizes:
        result = result * _as_real(as_int(size))
    return result


def _as_real(size: Scalar) -> Scalar:
    if size.op is scalar.mul:
        return _as_real(size.args[0]) * _as_real(size.args[1])
    return scalar.cast(size, dtypes.float64)
