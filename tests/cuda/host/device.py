"""A `Device` in the memory of the host: the emitted text of kernels, compiled by g++ and run on the CPU.

Everything happens at once, so nothing has to wait. What goes wrong in a kernel is a DeviceFault that names it, at the
launch, or (`late_faults`) where a real device would tell: at the next synchronisation or download.
"""

from __future__ import annotations

import ctypes
import functools
import random
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from symtensor_codegen.cuda.errors import DeviceError, DeviceFault, out_of_memory
from tests.cuda.host import compiler
from tests.cuda.host.text import host_text, kernel_names

__all__ = ["ORDERS", "HostBlock", "HostDevice", "HostFunction", "HostModule"]

Array = np.ndarray[Any, Any]
Triple = tuple[int, int, int]

ORDERS = ("forward", "reverse", "random")
"""How blocks, and threads of a block, may follow each other."""
_TRIPLE = ctypes.c_uint * 3
_running = threading.Lock()  # the run time has one launch at a time


@functools.cache
def _runtime() -> ctypes.CDLL:
    """The run time; global, since kernels' objects find its functions by name."""
    library = ctypes.CDLL(str(compiler.runtime_library()), mode=ctypes.RTLD_GLOBAL)
    address, size = ctypes.c_size_t, ctypes.c_size_t
    library.shim_allocate.argtypes, library.shim_allocate.restype = [size], ctypes.c_void_p
    library.shim_free.argtypes, library.shim_free.restype = [address], None
    library.shim_holds.argtypes, library.shim_holds.restype = [address, size], ctypes.c_int
    library.shim_launch.restype = ctypes.c_char_p
    library.shim_launch.argtypes = [
        *(address, _TRIPLE, _TRIPLE, ctypes.c_char_p, size),
        *(ctypes.c_int, ctypes.c_uint64, ctypes.c_int),
    ]
    return library


class HostBlock:
    """Memory between margins; it is filled with 0xA5 when it is made, and again when it is dropped."""

    __slots__ = ("_free", "address", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size, self._free = address, size, _runtime().shim_free

    def share(self) -> None:
        """Nothing to do: there are no streams."""

    def __del__(self) -> None:
        self._free(self.address)


class HostFunction:
    """A kernel that can be launched."""

    def __init__(self, name: str, entry: int, module: HostModule) -> None:
        self.name, self.entry, self.module = name, entry, module

    def __repr__(self) -> str:
        return f"HostFunction({self.name!r})"


class HostModule:
    """A loaded shared object."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def function(self, name: str) -> HostFunction:
        """The kernel of this name.

        Raises: DeviceError when there is none.
        """
        try:
            entry = ctypes.c_char.in_dll(self._library, f"shim_kernel_{name}")
        except ValueError:
            raise DeviceError(f"the image has no kernel {name}") from None
        return HostFunction(name, ctypes.addressof(entry), self)


class HostArrival:
    """Bytes that seem to be on their way."""

    def __init__(self, device: HostDevice, data: bytes) -> None:
        self.device, self.data = device, data

    def ready(self) -> bool:
        """Whether they are here."""
        return not self.device.slow_arrivals

    def take(self) -> bytes:
        """The bytes."""
        return self.data


class HostDevice:
    """The host as a CUDA device.

    `build` is one of `compiler.BUILDS`; in the "checked" one races, bounds and unwritten shared memory are errors.
    `order` is one of `ORDERS`, or "mixed" for another one with each launch; with `seed` all choices repeat.
    `memory_limit` bounds the bytes that can be allocated, for tests of what happens then.
    """

    host = True
    stream = 0
    can_capture = False
    why_no_graphs = "the host has no graphs"

    def __init__(
        self,
        build: str = "plain",
        order: str = "mixed",
        seed: int = 0,
        name: str = "cuda:0",
        memory_limit: int = 1 << 32,
        late_faults: bool = False,
    ) -> None:
        if build not in compiler.BUILDS or order not in (*ORDERS, "mixed"):
            raise ValueError(f"no build {build!r} or no order {order!r}")
        self.build, self.order, self.name = build, order, name
        self.memory_limit, self.late_faults = memory_limit, late_faults
        self.architecture, self.multiprocessors = "sm_90", 4
        self.slow_arrivals = False
        """Whether bytes that are sent home are not there before somebody waits for them."""
        self.launches: list[str] = []
        """The names of the kernels that were launched; a test may clear it."""
        self._taken_in: HostBlock | None = None
        self._choices = random.Random(seed)
        self._fault: str | None = None
        self._images: dict[tuple[str, str], bytes] = {}
        self._modules: dict[bytes, HostModule] = {}
        self._paths: dict[bytes, Path] = {}

    @property
    def ordinal(self) -> int:
        """The number in its name."""
        return int(self.name.partition(":")[2])

    # Memory -----------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> HostBlock:
        """Fresh memory, exactly as large as asked (at least 16 bytes), so that what is beyond is known to be wrong."""
        size = max(nbytes, 16)
        address = _runtime().shim_allocate(size) if size <= self.memory_limit else None
        if address is None:
            raise out_of_memory(self.name, nbytes, self.memory_limit, self.memory_limit, 0)
        return HostBlock(address, size)

    def upload(self, address: int, array: Array) -> None:
        """Copy a C-contiguous array to the "device"."""
        self._must_hold(address, array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def take_in(self, nbytes: int, arrays: Sequence[tuple[int, Array]]) -> int:
        """Into fresh memory; that of the call before is gone, and using it an error."""
        self._taken_in = block = self.allocate(nbytes)
        for offset, array in arrays:
            self.upload(block.address + offset, array)
        return block.address

    def download(self, array: Array, address: int) -> None:
        """Fill a C-contiguous array from the "device"."""
        self.synchronize()
        self._must_hold(address, array.nbytes)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def send_home(self, address: int, nbytes: int) -> HostArrival:
        """The bytes that are there now; when they seem to arrive, `slow_arrivals` says."""
        self._must_hold(address, nbytes)
        return HostArrival(self, ctypes.string_at(address, nbytes))

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the "device"."""
        self._must_hold(target, nbytes)
        self._must_hold(source, nbytes)
        ctypes.memmove(target, source, nbytes)

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        """Set every byte."""
        self._must_hold(address, nbytes)
        ctypes.memset(address, byte, nbytes)

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes: the limit, since what is used is not counted."""
        return self.memory_limit, self.memory_limit

    def release(self) -> None:
        """Only what was taken in is kept."""
        self._taken_in = None

    def ordinal_of(self, address: int) -> int | None:
        """Which device an address is of: this one, if it lies in a block."""
        return self.ordinal if _runtime().shim_holds(address, 1) else None

    def _must_hold(self, address: int, nbytes: int) -> None:
        if not _runtime().shim_holds(address, nbytes):
            raise DeviceError(f"{self.name}: a copy of {nbytes} bytes at {address:#x} is not within one block")

    # Code -------------------------------------------------------------------------------------------------------

    def code(self, source: str, symbol: str) -> bytes:
        """The shared object of a text."""
        image = self._images.get((source, symbol))
        return self.code_many([(source, symbol)]) if image is None else image

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Every text compiled so far, with its symbol."""
        return list(self._images)

    def code_many(self, sources: Sequence[tuple[str, str]]) -> bytes:
        """One shared object of many texts with their symbols; `code` then knows each of them.

        Compiling many at once is quicker than one by one. The kernels' names must differ.
        """
        names = [name for source, _ in sources for name in kernel_names(source)]
        if len(names) != len(set(names)):
            raise ValueError("two kernels of one name cannot be compiled together")
        path = compiler.compile_text(host_text(sources), self.build)
        image = path.read_bytes()
        self._paths[image] = path
        for source, symbol in sources:
            self._images[source, symbol] = image
        return image

    def load(self, image: bytes) -> HostModule:
        """Load what `code` returned, in this process or another."""
        module = self._modules.get(image)
        if module is None:
            path = self._paths.get(image)
            if path is None or not path.exists():
                path = compiler.kept(image)
            _runtime()
            module = self._modules[image] = HostModule(path)
        return module

    def launch(self, function: HostFunction, grid: Triple, block: Triple, arguments: bytes) -> None:
        """Run a grid.

        Raises: DeviceFault when the kernel does what it must not.
        """
        self.launches.append(function.name)
        with _running:
            order = self._choices.choice(ORDERS) if self.order == "mixed" else self.order
            message = _runtime().shim_launch(
                *(function.entry, _TRIPLE(*grid), _TRIPLE(*block), arguments, len(arguments)),
                *(ORDERS.index(order), self._choices.getrandbits(64), self.build == "checked"),
            )
        if message is None:
            return
        self._fault = self._fault or f"{self.name} failed: {message.decode()} (order of threads: {order})"
        if not self.late_faults:
            self.synchronize()

    # Order ------------------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Tell of a fault that was kept."""
        fault, self._fault = self._fault, None
        if fault is not None:
            raise DeviceFault(fault)

    def current(self) -> AbstractContextManager[Any]:
        """There is no context to make current."""
        return nullcontext()

    def capture(self) -> AbstractContextManager[Any]:
        """Not possible here."""
        raise DeviceError(f"{self.name}: {self.why_no_graphs}")

    def wait_for(self, stream: int) -> None:
        """All is done already."""

    def signal(self, stream: int) -> None:
        """All is done already."""

    def retire(self, owner: object) -> None:
        """All is done already: the object may go."""
