"""A CUDA device through PyCUDA: its primary context, a stream for its work, pooled memory, launches.

PyCUDA keeps a stack of contexts per thread and ends the process when a thread ends with a context on it, so the context
is pushed for each use and popped after it (`CudaDevice.current`). The primary context is the one that torch, CuPy and
other users of CUDA's run time share.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from symtensor_codegen import cache
from symtensor_codegen.cuda import errors
from symtensor_codegen.cuda.hardware import dlpack
from symtensor_codegen.cuda.hardware.finding import find_device, find_driver
from symtensor_codegen.cuda.hardware.graphs import Capture, Graphs, Recording, Replay
from symtensor_codegen.cuda.hardware.intake import Intake
from symtensor_codegen.cuda.hardware.memory import Pool, PooledBlock
from symtensor_codegen.cuda.hardware.transfers import Arrival, Transfers
from symtensor_codegen.errors import InternalError

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Array

CAREFUL = "SYMTENSOR_CUDA_SYNC"
"""With this variable set, each kernel is waited for, so that a failing one is known."""
REMEMBERED = 32
"""How many of the latest launches are named when one of them has failed."""
MOST_RETIRED = 16
"""From so many objects on that wait for work to end, the device is asked how far it is."""


class _Thread(threading.local):
    top: Current | None = None  # which device's context is current in this thread


_thread = _Thread()
_open: list[CudaDevice] = []


class Current:
    """The context of a device is current, and the device this thread's, while a `with` block runs."""

    __slots__ = ("depth", "device", "lock", "outer")

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.lock = threading.RLock()
        self.depth = 0  # entries since the context was made current; this and `outer` are the lock holder's
        self.outer: list[tuple[Current | None, int]] = []  # what was current before, and the depth here

    def __enter__(self) -> None:
        if _thread.top is self:
            self.depth += 1
            return
        self.lock.acquire()
        try:
            device = self.device
            if device.dead is not None:
                raise device.dead(device.name)
            device.push()
        except BaseException:
            self.lock.release()
            raise
        self.outer.append((_thread.top, self.depth))
        self.depth, _thread.top = 0, self
        if device.dropped or len(device.retired) > MOST_RETIRED:
            device.tidy()

    def __exit__(self, kind: object = None, failure: object = None, trace: object = None) -> None:
        if self.depth:
            self.depth -= 1
            return
        _thread.top, self.depth = self.outer.pop()
        try:
            self.device.pop()
        finally:
            self.lock.release()


class CudaFunction:
    """A kernel that can be launched."""

    __slots__ = ("module", "name", "run")

    def __init__(self, name: str, module: CudaModule, run: Callable[..., None]) -> None:
        self.name, self.module, self.run = name, module, run

    def __str__(self) -> str:
        return f"kernel {self.name}"


class CudaModule:
    """Loaded code. It is unloaded when neither it nor its functions are referenced."""

    def __init__(self, device: CudaDevice, module: Any) -> None:
        self.device = device
        self.held = [module]

    def function(self, name: str) -> CudaFunction:
        """A kernel, loaded now: while a graph is recorded it would be too late."""
        with self.device.current():
            try:
                function = self.held[0].get_function(name)
                function.get_attribute(self.device.cuda.function_attribute.NUM_REGS)
            except self.device.cuda.Error as cause:
                raise self.device.failure(cause, f"kernel {name}") from None
        self.held.append(function)
        return CudaFunction(name, self, function._launch_kernel)

    def __del__(self) -> None:
        # PyCUDA unloads it only where the context is current, which this thread need not have.
        if self.device.dead is None:
            self.device.dropped.append(self.held)


class CudaDevice:
    """See `device.Device`.

    Raises: DeviceUnavailableError when it cannot be had.
    """

    host = False

    def __init__(self, ordinal: int) -> None:
        self.cuda = cuda = find_driver(f"cuda:{ordinal}")
        handle = find_device(cuda, ordinal)
        self.ordinal = ordinal
        self.name = f"cuda:{ordinal}"
        self.architecture = "sm_{}{}".format(*handle.compute_capability())
        self.multiprocessors: int = handle.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)
        self.dead: Callable[[str], errors.DeviceError] | None = None
        """Why it cannot be used any more."""
        self.retired: list[object] = []
        self.dropped: list[list[Any]] = []
        """Objects of PyCUDA to be destroyed when the context is next current."""
        self.doomed: list[Any] = []
        """Executable graphs that nobody needs any more."""
        self.recording: Recording | None = None
        self._careful = os.environ.get(CAREFUL, "") not in ("", "0")
        self._launched: deque[CudaFunction | Replay] = deque(maxlen=REMEMBERED)
        self._modules: WeakValueDictionary[str, CudaModule] = WeakValueDictionary()  # by digests of their code
        self._leaving: list[object] | None = None
        self._context = handle.retain_primary_context()
        self.push: Callable[[], None] = self._context.push
        self.pop: Callable[[], None] = cuda.Context.pop
        self._current = Current(self)
        with self._current:
            self._stream = cuda.Stream()
            self._event = cuda.Event(cuda.event_flags.DISABLE_TIMING)
        self._target = self._stream
        self._transfers = Transfers(cuda, self._stream)
        self._intake = Intake(cuda, self._transfers, self.allocate)
        self._pool = Pool(cuda.mem_alloc, self._settle, self._out_of_memory, cuda.MemoryError)
        self._graphs: Graphs | None = None
        if not _open:
            atexit.register(_close)
            os.register_at_fork(after_in_child=_after_fork)
        _open.append(self)

    def __repr__(self) -> str:
        return f"CudaDevice({self.ordinal})"

    def current(self) -> Current:
        """Make the context current for this thread, and the device this thread's, while the block runs."""
        return self._current

    @property
    def stream(self) -> int:
        """The handle of the stream where work goes now."""
        handle: int = self._target.handle
        return handle

    # Memory

    def allocate(self, nbytes: int) -> PooledBlock:
        """Fresh memory.

        Raises: DeviceMemoryError.
        """
        found = self._pool.allocate(nbytes)
        if found is None:
            dlpack.collect()
            with self._current:
                try:
                    found = self._pool.obtain(nbytes)
                except self.cuda.Error as cause:
                    raise self.failure(cause) from None
        return found

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        with self._current:
            try:
                free, total = self.cuda.mem_get_info()
            except self.cuda.Error as cause:
                raise self.failure(cause) from None
        return free, total

    def release(self) -> None:
        """Give cached memory, of the device and page-locked, back, and what `take_in` gave."""
        with self._current:
            try:
                self._intake.drop()
            except self.cuda.Error as cause:
                raise self.failure(cause) from None
            self.synchronize()
            self._pool.release()
            self._transfers.release()
            self._intake.release()
            if self._graphs is not None:
                self._graphs.bury(self.doomed)

    def upload(self, address: int, array: Array) -> None:
        """Copy a C-contiguous host array to the device; the array may be changed as soon as this returns."""
        with self._current:
            self._check_not_recording("an upload")
            try:
                self._transfers.upload(address, array)
            except self.cuda.Error as cause:
                raise self.failure(cause) from None

    def take_in(self, nbytes: int, arrays: Sequence[tuple[int, Array]]) -> int:
        """The address of memory with host arrays at offsets, until the next call of this; see `device.Device`.

        Raises: DeviceMemoryError.
        """
        with self._current:
            self._check_not_recording("an upload")
            try:
                return self._intake.take(nbytes, arrays)
            except self.cuda.Error as cause:
                raise self.failure(cause) from None

    def download(self, array: Array, address: int) -> None:
        """Fill a C-contiguous host array from the device, after all earlier work."""
        if not array.flags.c_contiguous:
            raise InternalError("download into an array that is not C-contiguous")
        if not array.nbytes:
            return
        with self._current:
            self._check_not_recording("a download")
            try:
                self._transfers.download(array, address)
            except self.cuda.Error as cause:
                raise self.failure(cause) from None
            self._well()

    def send_home(self, address: int, nbytes: int) -> Arrival:
        """Begin to copy a few bytes to the host, after all earlier work."""
        with self._current:
            self._check_not_recording("a download")
            try:
                return self._transfers.send_home(address, nbytes)
            except self.cuda.Error as cause:
                raise self.failure(cause) from None

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device, asynchronously."""
        if nbytes:
            with self._current:
                try:
                    self.cuda.memcpy_dtod_async(target, source, nbytes, self._target)
                except self.cuda.Error as cause:
                    raise self.failure(cause) from None

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        """Set every byte, asynchronously."""
        if nbytes:
            with self._current:
                try:
                    self.cuda.memset_d8_async(address, byte, nbytes, self._target)
                except self.cuda.Error as cause:
                    raise self.failure(cause) from None

    # Code

    def code(self, source: str, symbol: str) -> bytes:
        """Compile CUDA source text to a cubin for this architecture."""
        from symtensor_codegen.cuda.compiling.compile import cubin

        return cubin(source, self.architecture, symbol)

    def load(self, image: bytes) -> CudaModule:
        """Load a cubin, or find it loaded: several kernels may share one."""
        digest = cache.key("module", image)
        with self._current:
            loaded = self._modules.get(digest)
            if loaded is None:
                try:
                    loaded = self._modules[digest] = CudaModule(self, self.cuda.module_from_buffer(image))
                except self.cuda.Error as cause:
                    raise self.failure(cause) from None
        return loaded

    def launch(
        self, function: CudaFunction, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: bytes
    ) -> None:
        """Queue a kernel."""
        if _thread.top is not self._current:
            with self._current:
                return self.launch(function, grid, block, arguments)
        self._launched.append(function)
        try:
            function.run(grid, block, arguments, 0, self._target)
        except self.cuda.Error as cause:
            raise self.failure(cause, str(function)) from None
        if self._careful:
            self.synchronize()
        return None

    def launched(self, replay: Replay) -> None:
        """Note that a graph was launched."""
        self._launched.append(replay)

    def synchronize(self) -> None:
        """Wait until all work is done.

        Raises: DeviceFault when a kernel failed.
        """
        with self._current:
            self._check_not_recording("waiting for the device")
            try:
                self._stream.synchronize()
            except self.cuda.Error as cause:
                raise self.failure(cause) from None
            self._well()

    # Graphs

    @property
    def recordings(self) -> Graphs:
        """Recording of graphs, looked for when it is first asked for."""
        if self._graphs is None:
            self._graphs = Graphs(self)
        return self._graphs

    @property
    def can_capture(self) -> bool:
        """Whether `capture` is possible."""
        return not self.why_no_graphs

    @property
    def why_no_graphs(self) -> str:
        """Why it is not; empty if it is."""
        if self._careful:
            return f"{CAREFUL} is set: each kernel is waited for"
        return self.recordings.why_not

    def capture(self) -> Capture:
        """Record the launches, fills and copies of a `with` block, and what libraries do on `stream`, unrun."""
        return Capture(self, self.recordings)

    def redirect(self, recording: Recording | None, stream: Any) -> deque[Any]:
        """Send work to the stream of a recording, or (None) to the own one again; what was launched there till now."""
        launched = self._launched
        self.recording = recording
        self._target = self._stream if recording is None else stream
        self._launched = deque(maxlen=REMEMBERED if recording is None else None)
        return launched

    def _check_not_recording(self, what: str) -> None:
        if self.recording is not None:
            raise InternalError(f"{what} while a graph is recorded on {self.name}")

    # Other libraries

    def wait_for(self, stream: int) -> None:
        """What is queued here after this waits for what is now on another stream."""
        if stream == self.stream:
            return
        with self._current:
            if not self.recordings.order(stream, self.stream):
                self._settle()

    def signal(self, stream: int) -> None:
        """What is queued on the other stream after this waits for what is queued here now."""
        if stream == self.stream:
            return
        with self._current:
            if not self.recordings.order(self.stream, stream):
                self.synchronize()

    def retire(self, owner: object) -> None:
        """Keep an object alive until the work that is queued now is done. May be called by finalizers."""
        if self.dead is None:
            self.retired.append(owner)

    def tidy(self) -> None:
        """Let go what is not needed any more, without waiting; the context is current."""
        self.dropped.clear()
        if self._leaving is not None:
            if self._event.query():
                self._leaving = None
        elif self.retired:
            self._leaving, self.retired = self.retired, []
            self._event.record(self._stream)

    def ordinal_of(self, address: int) -> int | None:
        """The number of the device where an address lies, where this can be found out."""
        if self.cuda.Device.count() == 1:
            return self.ordinal
        with self._current:
            return self.recordings.ordinal_of(address)

    # Failures

    def failure(self, cause: Exception, work: str = "") -> Exception:
        """What to raise for an error of PyCUDA in some work."""
        where = f"{self.name}: {work}: {cause}" if work else f"{self.name}: {cause}"
        if self.recording is not None:
            return InternalError(f"{where}, while a graph was recorded")
        if isinstance(cause, self.cuda.MemoryError):
            return self._out_of_memory(0, self._pool.reserved - self._pool.cached)
        try:
            self.cuda.Context.synchronize()
        except self.cuda.Error:  # errors of the device stay, those of a call do not
            names = list(dict.fromkeys(map(str, reversed(self._launched))))
            self._abandon(errors.lost)
            return errors.fault(self.name, cause, names)
        return InternalError(where)

    def _well(self) -> None:
        """All work is done, without an error."""
        self._launched.clear()
        if self.retired or self._leaving:
            self._leaving, self.retired = None, []

    def _settle(self) -> None:
        try:
            self.cuda.Context.synchronize()
        except self.cuda.Error as cause:
            raise self.failure(cause) from None

    def _out_of_memory(self, nbytes: int, used: int) -> errors.DeviceMemoryError:
        free, total = self.cuda.mem_get_info()
        return errors.out_of_memory(self.name, nbytes, free, total, used)

    def _abandon(self, why: Callable[[str], errors.DeviceError]) -> None:
        """Never call the driver for this device again.

        PyCUDA's destructors would, and end the process where that fails, so they never run. What the process has of
        the device ends with it.
        """
        self.dead = why
        held = [self._context, self._stream, self._event, *self._pool.reservations]
        held += [*self._transfers.held(), *self._intake.held()]
        for loaded in [*(module.held for module in self._modules.values()), *self.dropped]:
            held += loaded
        if self._graphs is not None:
            held += self._graphs.held()
        for item in held:
            _increase(item)

    def after_fork(self) -> None:
        """In the child of a fork: nothing of the device can be used there."""
        self._current = Current(self)  # another thread may have had the lock
        self._abandon(errors.forked)

    def close(self) -> None:
        """The interpreter ends: let threads finish what they do with the device, and let nobody begin."""
        if self._current.lock.acquire(timeout=10):
            if self.dead is None:
                self._abandon(errors.closing)
            self._current.lock.release()


_increase = ctypes.pythonapi["Py_IncRef"]
_increase.restype, _increase.argtypes = None, (ctypes.py_object,)


def _after_fork() -> None:
    _thread.top = None
    for device in _open:
        device.after_fork()


def _close() -> None:
    for device in _open:
        device.close()
