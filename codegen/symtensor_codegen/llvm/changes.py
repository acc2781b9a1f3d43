"""What is known of loops before they are written: the registers that need a phi, the buffers whose loads
are not to be kept, and whether a body is worth writing only once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm.operations import is_function
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
    Statement,
    Store,
    Update,
    scalars,
    values_of,
)
from symtensor_codegen.scalar import Buffer, Register, Scalar, checked_op, guarded_op, load_op
from symtensor_codegen.substitution import stride

_BIG_BODY = 40  # nodes from which a vector body is not written a second time for the rest of a loop


@dataclass(slots=True, eq=False)
class Changes:
    """What a body changes, besides registers declared in it.

    ``registers`` maps each to how it is combined (a key of COMBINES, argmax, argmin, or "mixed"); the
    registers that hold the positions of argmax and argmin are the values of ``places``, by the register of
    the best value.
    """

    registers: dict[Register, str] = field(default_factory=dict)
    places: dict[Register, Register] = field(default_factory=dict)
    buffers: set[Buffer] = field(default_factory=set)

    def carried(self) -> list[Register]:
        """All registers that a loop with this body has phis for."""
        return [*self.registers, *self.places.values()]

    def add(self, register: Register, combine: str) -> None:
        """Note an update."""
        if self.registers.setdefault(register, combine) != combine:
            self.registers[register] = "mixed"

    def include(self, inner: "Changes") -> None:
        """Note what a loop inside changes."""
        for register, combine in inner.registers.items():
            self.add(register, combine)
        self.places.update(inner.places)
        self.buffers |= inner.buffers


class ChangeFinder:
    """Finds the changes of loops; each loop is looked at once.

    ``failed`` gives the register that notes the failure of each message, ``messages`` those of the checked
    indices of an expression.
    """

    def __init__(
        self, failed: Mapping[object, Register], messages: Callable[[Scalar], tuple[object, ...]]
    ) -> None:
        self._failed = failed
        self._messages = messages
        self._found: dict[For, Changes] = {}

    def of(self, loop: For) -> Changes:
        """What the body of a loop changes."""
        found = self._found.get(loop)
        if found is None:
            found = self._found[loop] = self._scan(loop.body)
        return found

    def _register(self, message: object) -> Register:
        register = self._failed.get(message)
        if register is None:
            raise InternalError(f"the message {message!r} of a check is not among the kernel's failures")
        return register

    def _scan(self, body: Sequence[Statement]) -> Changes:
        found = Changes()
        declared = []
        for statement in body:
            for value in values_of(statement):
                for message in self._messages(value):
                    found.add(self._register(message), "or")
            match statement:
                case For():
                    found.include(self.of(statement))
                case Declare(register=register):
                    declared.append(register)
                case Update(register=register, combine=combine):
                    found.add(register, combine)
                case ArgUpdate(best=best, place=place, combine=combine):
                    found.add(best, combine)
                    found.places[best] = place
                case Assign(registers=registers):
                    for register in registers:
                        found.add(register, "mixed")
                case Store(buffer=buffer):
                    found.buffers.add(buffer)
                case Check(message=message):
                    found.add(self._register(message), "or")
        for register in declared:
            found.registers.pop(register, None)
            found.places.pop(register, None)
        return found


def splittable(loop: For, written: frozenset[Buffer]) -> bool:
    """Whether a body is big, and all that it loads along the loop are neighbours in arrays that are only
    read.

    Such a body is written once, with a start for whole groups of lanes and one for the last: half of the
    code to compile.
    """
    if not all(isinstance(statement, (Store, Update, Declare)) for statement in loop.body):
        return False
    nodes = scalars(loop.body)
    if not any(is_function(node) for node in nodes) and len(nodes) < _BIG_BODY:
        return False
    for node in nodes:
        if node.op is guarded_op or node.op is checked_op:
            return False
        if node.op is load_op and (node.param in written or stride(node.args[0], loop.index) not in (0, 1)):
            return False
    return True
