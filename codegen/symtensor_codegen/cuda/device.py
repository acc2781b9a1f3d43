"""Devices by name, and what the rest of the backend asks of one.

`Device` is the whole of what compiled programs know about the hardware. `driver.CudaDevice` has it through PyCUDA; a
test may register a device of its own with `use`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy

from symtensor_codegen.cuda import errors

if TYPE_CHECKING:
    from symtensor_codegen.cuda.calls.late import Arrival
    Array = numpy.ndarray[Any, Any]


class Block(Protocol):
    """A piece of device memory; it goes back to its pool when the object is dropped, in whichever thread."""

    @property
    def address(self) -> int:
        """Where it begins, on the device."""

    @property
    def size(self) -> int:
        """Bytes that may be used."""

    def share(self) -> None:
        """Other libraries use it on streams of their own: reuse it only when all work of the device is done."""


class Module(Protocol):
    """Loaded code. Its functions stay valid as long as they, or it, are referenced."""

    def function(self, name: str) -> Any:
        """A handle for `Device.launch`."""


Token = tuple[Any, ...]
"""Recorded actions on which others may depend: the nodes of a graph that are done last."""


class Replay(Protocol):
    """Recorded work, ready to be launched as a whole any number of times, at the same addresses."""

    def launch(self) -> None:
        """Queue the work on the device's stream."""


class Recording(Protocol):
    """Work that is being recorded instead of run. Without `after`, each action depends on the one before it."""

    def after(self, tokens: Sequence[Token]) -> None:
        """What is launched next depends on these actions alone (on none: it may begin at once)."""

    def mark(self) -> Token:
        """Everything launched since the last `after` or `mark`."""

    def instantiate(self) -> Replay:
        """The finished recording, once its `with` block has ended."""


class Device(Protocol):
    """A device: memory, code, and one stream in which everything happens in the order in which it was asked for.

    Only the transfers of `take_in` may overtake other work.

    The stream is an ordinary one: the legacy default stream of other libraries waits for it, and it for them.
    Addresses are integers, sizes are bytes. Every method may be called in any thread; `with device.current():` around
    several calls saves work, and keeps other threads out.
    """

    @property
    def name(self) -> str:
        """As in "cuda:0"."""

    @property
    def architecture(self) -> str:
        """As in "sm_90"."""

    @property
    def multiprocessors(self) -> int:
        """How many streaming multiprocessors it has."""

    @property
    def host(self) -> bool:
        """Its memory is memory of the host (a device for tests)."""

    @property
    def ordinal(self) -> int:
        """Its number among the CUDA devices of the process."""

    @property
    def stream(self) -> int:
        """The handle (`CUstream`) of the stream where work goes now. It is another one during a capture."""

    def allocate(self, nbytes: int) -> Block:
        """Fresh memory, aligned to 256 bytes, not initialised.

        Raises: DeviceMemoryError.
        """

    def upload(self, address: int, array: Array) -> None:
        """Copy a C-contiguous host array to the device; the array may be changed as soon as this returns."""

    def take_in(self, nbytes: int, arrays: Sequence[tuple[int, Array]]) -> int:
        """The address of ``nbytes`` with C-contiguous host arrays at offsets, all of which may be changed afterwards.

        They travel beside earlier work, and come before what is queued after this. The memory is the device's own; what
        is queued before the next call of this, or of `release`, may use it.

        Raises: DeviceMemoryError.
        """

    def download(self, array: Array, address: int) -> None:
        """Fill a C-contiguous host array from the device, after all earlier work."""

    def send_home(self, address: int, nbytes: int) -> Arrival:
        """Begin to copy a few bytes to the host, after all earlier work."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device, asynchronously."""

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        """Set every byte, asynchronously."""

    def load(self, image: bytes) -> Module:
        """Load code that `code` made."""

    def code(self, source: str, symbol: str) -> bytes:
        """Compile CUDA source text to an image for `load`."""

    def launch(self, function: Any, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: bytes) -> None:
        """Queue a kernel. `arguments` are packed by natural alignment."""

    def synchronize(self) -> None:
        """Wait until all work is done.

        Raises: DeviceFault when a kernel failed.
        """

    def current(self) -> AbstractContextManager[Any]:
        """Make the device's context current for this thread while the block runs; may be nested."""

    @property
    def can_capture(self) -> bool:
        """Whether `capture` is possible."""

    @property
    def why_no_graphs(self) -> str:
        """Why `capture` is not possible; empty if it is."""

    def capture(self) -> AbstractContextManager[Recording, None]:
        """Record the launches, fills and copies of a `with` block, and what libraries do on `stream`, unrun."""

    def wait_for(self, stream: int) -> None:
        """What is queued here after this waits for what is now on another stream."""

    def signal(self, stream: int) -> None:
        """What is queued on the other stream after this waits for what is queued here now."""

    def retire(self, owner: object) -> None:
        """Keep an object alive until the work that is queued now is done."""

    def ordinal_of(self, address: int) -> int | None:
        """The number of the device where an address lies, where this can be found out."""

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the device."""

    def release(self) -> None:
        """Give cached memory back to the device, and what `take_in` gave."""


_devices: dict[str, Device] = {}
_lock = threading.Lock()


def ordinal(name: str) -> int:
    """The number in the name of a device: "cuda" and "cuda:0" are 0."""
    kind, separator, number = name.partition(":")
    if kind != "cuda" or (separator and not (number.isascii() and number.isdigit())):
        raise errors.bad_name(name)
    return int(number) if separator else 0


def get(name: str) -> Device:
    """The device of a name; the driver is loaded, and the device looked at, when it is first asked for.

    Raises: DeviceUnavailableError when PyCUDA, the driver or the device is missing, or the device too old.
    """
    found = _devices.get(name)
    if found is not None:
        return found
    canonical = f"cuda:{ordinal(name)}"
    with _lock:
        if canonical not in _devices:
            from symtensor_codegen.cuda.hardware.driver import CudaDevice

            _devices[canonical] = CudaDevice(ordinal(name))
        _devices[name] = _devices[canonical]
    return _devices[name]


def use(device: Device) -> None:
    """Register a device under its name, in place of the real one."""
    with _lock:
        _devices[f"cuda:{ordinal(device.name)}"] = device
        _devices.pop("cuda", None)
        if ordinal(device.name) == 0:
            _devices["cuda"] = device


def forget(name: str) -> None:
    """Undo `use`: the device is looked for again when it is next asked for."""
    with _lock:
        for known in [known for known in _devices if ordinal(known) == ordinal(name)]:
            del _devices[known]
