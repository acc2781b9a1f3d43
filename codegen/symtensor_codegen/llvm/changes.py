"""What loops change: the registers that need a phi, and the buffers whose loads are not to be kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from symtensor_codegen.errors import InternalError
from symtensor_codegen.loops import ArgUpdate, Check, Declare, For, Statement, Store, Update, values_of
from symtensor_codegen.scalar import Buffer, Register, Scalar


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
        self, failed: Mapping[object, Register], messages: Callable[[Scalar], frozenset[object]]
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
                case Store(buffer=buffer):
                    found.buffers.add(buffer)
                case Check(message=message):
                    found.add(self._register(message), "or")
        for register in declared:
            found.registers.pop(register, None)
            found.places.pop(register, None)
        return found
