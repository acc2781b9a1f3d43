"""The states of random streams: shared variables that move on by what is drawn."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from symtensor.devices import is_device_array
from symtensor.graph import Tensor, _leaf, replace
from symtensor.opdef import SHARED
from symtensor.shared_variables import SharedVariable
from symtensor.types import TensorType, tensor_type
from symtensor_codegen import dtypes
from symtensor_codegen.cells import Cell

Seed = Any  # what numpy.random.SeedSequence takes: an int, a sequence of ints, or None
Words = npt.NDArray[np.uint64]

STATE_TYPE: Final[TensorType] = tensor_type(dtypes.uint64, (4,))


def words_of(seed: Seed, stream: int = 0) -> Words:
    """The first state of a stream: the key that ``numpy.random.Philox(seed)`` has, and the stream's number."""
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    key = sequence.generate_state(2, np.uint64)
    return np.array([*key, stream, 0], np.uint64)


def words_of_generator(generator: Any) -> Words:
    """The state that a NumPy ``Generator(Philox)`` or ``Philox`` has come to.

    Raises:
        ValueError: its counter is beyond the streams here (it was advanced by 2^66 words or more).
    """
    bits = getattr(generator, "bit_generator", generator)
    if not isinstance(bits, np.random.Philox):
        raise TypeError(f"a random state is made from a Generator(Philox) or Philox, not from {generator!r}")
    state = bits.state
    counter, key = state["state"]["counter"], state["state"]["key"]
    if counter[1] or counter[3] or int(counter[0]) >= 2**62:
        raise ValueError(f"the counter {counter.tolist()} of this Philox is beyond the streams here")
    position = 4 * int(counter[0]) - 4 + int(state["buffer_pos"])
    return np.array([*key, counter[2], position], np.uint64)


def generator_of(words: Any) -> np.random.Generator:
    """A NumPy generator that goes on where a stream is."""
    key, stream, position = np.asarray(words[:2], np.uint64), int(words[2]), int(words[3])
    bits = np.random.Philox(key=key)
    state: Any = bits.state
    state["state"]["counter"] = np.array([position // 4, 0, stream, 0], np.uint64)
    bits.state = state
    if position % 4:
        bits.random_raw(position % 4)
    return np.random.Generator(bits)


class StreamState(np.ndarray[Any, Any]):
    """The four words of a stream's state, as ``get_value()`` of its variable returns them."""

    def seed(self, seed: Seed = None) -> None:
        """Begin again with another seed, in the same stream; the position is set to 0."""
        self[:] = words_of(seed, int(self[2]))

    def generator(self) -> np.random.Generator:
        """A NumPy generator that goes on where the stream is: its ``random`` gives what ``uniform`` draws next."""
        return generator_of(self)


class RandomStateVariable(SharedVariable):
    """The state of one stream: a uint64 vector (key, key, stream, position).

    Functions that draw from it set it to the state after the draw, unless they are compiled with
    ``no_default_updates``. The position counts words of 64 bits.
    """

    def get_value(self, borrow: bool = False, return_internal_type: bool = False) -> Any:
        """The state, with ``seed()`` and ``generator()``: a copy, or with ``borrow`` the variable's own memory."""
        value = super().get_value(borrow, return_internal_type)
        return value.view(StreamState) if isinstance(value, np.ndarray) else value

    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Set the state: four words, or a NumPy ``Generator(Philox)`` or ``Philox`` to go on from."""
        if isinstance(value, (np.random.Generator, np.random.BitGenerator)):
            value = words_of_generator(value)
        super().set_value(value if is_device_array(value) else np.asarray(value), borrow)

    def seed(self, seed: Seed = None) -> None:
        """Begin again with another seed, in the same stream."""
        self.set_value(words_of(seed, int(self.cell.get()[2])))

    def __copy__(self) -> "RandomStateVariable":
        return self._as(self.cell)

    def __deepcopy__(self, memo: dict[int, Any]) -> "RandomStateVariable":
        found: RandomStateVariable | None = memo.get(id(self))
        if found is None:
            memo[id(self)] = found = self._as(self.cell.copy())
        return found

    def _as(self, cell: Cell) -> "RandomStateVariable":
        """This variable with another cell, and a default update from itself."""
        made = _variable(cell, self.name)
        if self.default_update is not None:
            (made.default_update,) = replace([self.default_update], {self: made})
        return made

    def __reduce__(self) -> Any:
        return _loaded, (self.cell.get(), self.name), self.default_update

    def __setstate__(self, default_update: Tensor) -> None:
        """The second part of unpickling: the default update is computed from the variable itself."""
        self.default_update = default_update


def _variable(cell: Cell, name: str | None) -> RandomStateVariable:
    made: RandomStateVariable = _leaf(RandomStateVariable, SHARED, STATE_TYPE, name)
    made.cell, made.default_update = cell, None
    return made


def _loaded(words: Words, name: str | None) -> RandomStateVariable:
    return _variable(Cell(np.array(words, np.uint64)), name)


def random_state(seed: Seed = None, stream: int = 0, name: str | None = None) -> RandomStateVariable:
    """A new state variable: stream number ``stream`` of what ``numpy.random.Philox(seed)`` has."""
    return _variable(Cell(words_of(seed, stream)), name)
