"""A device that is only compiled for: code is generated and compiled for an architecture, and nothing runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .compile import cubin
from .errors import DeviceError

if TYPE_CHECKING:
    from .device import Array

MULTIPROCESSORS: Final = 100  # of no device in particular


@dataclass(frozen=True, slots=True)
class NoMemory:
    """A block that is nowhere."""

    size: int
    address: int = 0

    def share(self) -> None:
        """Nobody can use it."""


class NoModule:
    """Code that is not loaded."""

    def function(self, name: str) -> str:
        """The name of a kernel, for its handle."""
        return name


@dataclass(frozen=True, slots=True)
class OfflineDevice:
    """A device of an architecture, such as "sm_90", that is not there.

    Programs are compiled for it as for any other; what would run on it is an error.
    """

    architecture: str
    host: bool = False
    multiprocessors: int = MULTIPROCESSORS
    ordinal: int = 0
    stream: int = 0
    can_capture: bool = False

    @property
    def name(self) -> str:
        """As in "cuda:sm_90"."""
        return f"cuda:{self.architecture}"

    @property
    def why_no_graphs(self) -> str:
        """Why nothing can be recorded."""
        return f"{self.name} is not a device"

    def allocate(self, nbytes: int) -> NoMemory:
        """No memory."""
        return NoMemory(nbytes)

    def upload(self, address: int, array: Array) -> None:
        """Nothing is copied."""

    def download(self, array: Array, address: int) -> None:
        """An error."""
        raise self._absent()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """An error."""
        raise self._absent()

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        """Nothing is set."""

    def load(self, image: bytes) -> NoModule:
        """The names of the kernels, whatever the code is."""
        return NoModule()

    def code(self, source: str, symbol: str) -> bytes:
        """The machine code for the architecture."""
        return cubin(source, self.architecture, symbol)

    def launch(
        self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: bytes
    ) -> None:
        """An error."""
        raise self._absent()

    def synchronize(self) -> None:
        """There is nothing to wait for."""

    @contextmanager
    def current(self) -> Iterator[None]:
        """No context."""
        yield

    def capture(self) -> Any:
        """An error."""
        raise self._absent()

    def wait_for(self, stream: int) -> None:
        """An error."""
        raise self._absent()

    def signal(self, stream: int) -> None:
        """An error."""
        raise self._absent()

    def retire(self, owner: object) -> None:
        """Nothing runs that could use it."""

    def ordinal_of(self, address: int) -> int | None:
        """Not known."""
        return None

    def memory_info(self) -> tuple[int, int]:
        """No memory."""
        return 0, 0

    def release(self) -> None:
        """There is no memory to give back."""

    def _absent(self) -> DeviceError:
        return DeviceError(
            f"{self.name} names an architecture that code is compiled for, not a device: nothing can run there. Use "
            "device='cuda'."
        )
