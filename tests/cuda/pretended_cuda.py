"""PyCUDA and NVIDIA's bindings as far as the backend uses them, over memory of the host.

Used where the real ones cannot be had: they need a driver. What is checked with it is the backend's own part: which
calls it makes, with which context current, in which order, and what it does when they fail. That the real libraries
behave like this is checked on GPUs (tests/gpu).

Work is done as late as the rules allow: when somebody waits for it. What is used again too early then shows. With
several streams there is another rule for each of `ORDERS`, so that a wait which was forgotten between two shows, too.
"""

from __future__ import annotations

import ctypes
import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from symtensor_codegen.cuda.hardware import driver as cuda_driver
from symtensor_codegen.cuda.hardware.driver import CudaDevice

ILLEGAL = "an illegal memory access was encountered"
ORDERS = ("late", "ordinary first", "others first", "random")
"""What runs before somebody waits for it: nothing; the streams that wait for the legacy default stream; those that do
not; what chance says."""


class Error(Exception):
    pass


class OutOfMemoryError(Error):
    pass


class LogicError(Error):
    pass


class RuntimeFailure(Error):
    pass


class Machine:
    """The hardware and its driver."""

    def __init__(self, order: str = "late", seed: int = 0) -> None:
        self.order, self.choices = order, random.Random(seed)
        self.streams: list[Stream] = []
        self.hook: Callable[[str], None] = lambda call: None  # what a test wants to happen before a call
        self.devices = [("Pretended GPU", (9, 0)), ("Another", (8, 6))]
        self.memory = 1 << 30
        self.used = 0
        self.faulty = False
        self.initialisation: Exception | None = None
        self.log: list[tuple[Any, ...]] = []
        self.kernels: dict[str, Callable[..., None]] = {}
        self.stacks: dict[int, list[int]] = {}
        self.recording: Graph | None = None
        self.places: list[tuple[range, int]] = []  # addresses, and the device where they are

    def stack(self) -> list[int]:
        return self.stacks.setdefault(threading.get_ident(), [])

    def check(self, call: str) -> None:
        """Every call into the driver."""
        if not self.stack():
            raise LogicError(f"{call} failed: invalid device context")
        if self.faulty:
            raise LogicError(f"{call} failed: {ILLEGAL}")
        self.hook(call)

    def go_on(self) -> None:
        """Something was queued: do what is not left for later."""
        early = [s for s in self.streams if self.order == ("others first" if s.flags else "ordinary first")]
        while any(stream.step() for stream in early):
            pass
        if self.order == "random":
            for _ in range(self.choices.randrange(4)):
                self.choices.choice(self.streams).step()


class Graph:
    """What is recorded: nodes with the positions of those that they depend on."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.nodes: list[tuple[Callable[[], None], tuple[int, ...]]] = []
        self.latest: tuple[int, ...] = ()


class Stream:
    def __init__(self, machine: Machine, flags: int = 0) -> None:
        machine.check("cuStreamCreate")
        self.machine, self.flags = machine, flags
        self.handle = id(self)
        self.queue: list[Callable[[], None] | Moment] = []
        self.done = 0
        machine.streams.append(self)

    def put(self, work: Callable[[], None]) -> None:
        graph = self.machine.recording
        if graph is not None and graph.stream is self:
            graph.nodes.append((work, graph.latest))
            graph.latest = (len(graph.nodes) - 1,)
        else:
            self.queue.append(work)
            self.machine.go_on()

    def wait_for_event(self, event: Event) -> None:
        """For what the event stands for now: it may be recorded again."""
        self.machine.check("cuStreamWaitEvent")
        if event.moment is not None:
            self.queue.append(event.moment)
            self.machine.go_on()

    def is_done(self) -> bool:
        self.machine.check("cuStreamQuery")
        return self.done == len(self.queue)

    def step(self) -> bool:
        """Do the next thing in the queue if it need not wait for another stream; whether there was one."""
        if self.done == len(self.queue):
            return False
        work = self.queue[self.done]
        if isinstance(work, Moment):
            if not work.passed:
                return False
        else:
            work()
        self.done += 1
        return True

    def run_until(self, position: int) -> None:
        while self.done < position:
            work = self.queue[self.done]
            if isinstance(work, Moment):
                work.stream.run_until(work.position)
            self.step()

    def synchronize(self) -> None:
        self.machine.check("cuStreamSynchronize")
        self.run_until(len(self.queue))
        self.machine.check("cuStreamSynchronize")


class Moment:
    """When all is done that a stream had been given when this was made."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.position = stream, len(stream.queue)

    @property
    def passed(self) -> bool:
        return self.stream.done >= self.position


class Event:
    def __init__(self, machine: Machine, flags: int) -> None:
        machine.check("cuEventCreate")
        self.machine = machine
        self.moment: Moment | None = None

    def record(self, stream: Stream) -> None:
        self.machine.check("cuEventRecord")
        self.moment = Moment(stream)

    def query(self) -> bool:
        return self.moment is None or self.moment.passed

    def synchronize(self) -> None:
        self.machine.check("cuEventSynchronize")
        if self.moment is not None:
            self.moment.stream.run_until(self.moment.position)
        self.machine.check("cuEventSynchronize")


class Context:
    def __init__(self, machine: Machine, ordinal: int) -> None:
        self.machine, self.ordinal = machine, ordinal

    def push(self) -> None:
        self.machine.stack().append(self.ordinal)


class Allocation:
    def __init__(self, machine: Machine, size: int) -> None:
        machine.check("cuMemAlloc")
        if machine.used + size > machine.memory:
            machine.log.append(("refuse", size))
            raise OutOfMemoryError("cuMemAlloc failed: out of memory")
        machine.used += size
        machine.log.append(("reserve", size))
        self.machine, self.size = machine, size
        self.memory = np.full(size + 256, 0xCD, np.uint8)
        self.address = -(-self.memory.ctypes.data // 256) * 256
        machine.places.insert(0, (range(self.address, self.address + size), machine.stack()[-1]))

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.machine.check("cuMemFree")
        self.machine.used -= self.size
        self.machine.log.append(("free", self.size))


class Function:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name

    def get_attribute(self, attribute: object) -> int:
        return 32

    def _launch_kernel(self, grid: Any, block: Any, arguments: bytes, shared: int, stream: Stream) -> None:
        self.machine.check("cuLaunchKernel")
        if block[0] > 1024:
            raise LogicError("cuLaunchKernel failed: invalid argument")
        kernel = self.machine.kernels[self.name]
        stream.put(lambda: kernel(arguments))


class Module:
    def __init__(self, machine: Machine, image: bytes) -> None:
        self.machine = machine
        machine.check("cuModuleLoadDataEx")
        if image != b"image":
            raise LogicError("cuModuleLoadDataEx failed: device kernel image is invalid")

    def get_function(self, name: str) -> Function:
        if name not in self.machine.kernels:
            raise LogicError("cuModuleGetFunction failed: named symbol not found")
        return Function(self.machine, name)

    def __del__(self) -> None:
        self.machine.log.append(("unload", bool(self.machine.stack())))


def pycuda_driver(machine: Machine) -> ModuleType:
    """The module pycuda.driver of a machine."""
    module: Any = ModuleType("pycuda.driver")

    class Device:
        def __init__(self, ordinal: int) -> None:
            self.ordinal = ordinal

        @staticmethod
        def count() -> int:
            return len(machine.devices)

        def name(self) -> str:
            return machine.devices[self.ordinal][0]

        def compute_capability(self) -> tuple[int, int]:
            return machine.devices[self.ordinal][1]

        def get_attribute(self, attribute: str) -> int:
            return {"multiprocessors": 132}[attribute]

        def retain_primary_context(self) -> Context:
            return Context(machine, self.ordinal)

    def init() -> None:
        if machine.initialisation is not None:
            raise machine.initialisation

    def pop() -> None:
        machine.stack().pop()

    def synchronize() -> None:
        machine.check("cuCtxSynchronize")
        machine.log.append(("settle",))
        for stream in machine.streams:
            stream.run_until(len(stream.queue))
        machine.check("cuCtxSynchronize")

    def move(target: int, source: int, size: int, stream: Stream) -> None:
        machine.check("cuMemcpyAsync")
        stream.put(lambda: ctypes.memmove(target, source, size) and None)

    def fill(address: int, byte: int, size: int, stream: Stream) -> None:
        machine.check("cuMemsetD8Async")
        stream.put(lambda: ctypes.memset(address, byte, size) and None)

    module.init, module.Device = init, Device
    module.Error, module.MemoryError = Error, OutOfMemoryError
    module.Context = type("Context", (), {"pop": staticmethod(pop), "synchronize": staticmethod(synchronize)})
    module.Stream = lambda flags=0: Stream(machine, flags)
    module.Event = lambda flags: Event(machine, flags)
    module.event_flags = type("event_flags", (), {"DISABLE_TIMING": 2})
    module.device_attribute = type("device_attribute", (), {"MULTIPROCESSOR_COUNT": "multiprocessors"})
    module.function_attribute = type("function_attribute", (), {"NUM_REGS": "registers"})
    module.mem_alloc = lambda size: Allocation(machine, size)
    module.mem_get_info = lambda: (machine.memory - machine.used, machine.memory)
    module.pagelocked_empty = lambda size, dtype: np.empty(size, dtype)
    module.memcpy_htod_async = lambda to, array, stream: move(to, array.ctypes.data, array.nbytes, stream)
    module.memcpy_dtoh_async = lambda array, source, stream: move(array.ctypes.data, source, array.nbytes, stream)
    module.memcpy_dtod_async = move
    module.memset_d8_async = fill
    module.module_from_buffer = lambda image: Module(machine, image)
    return module


def bindings_driver(machine: Machine) -> ModuleType:
    """The module cuda.bindings.driver of a machine, in the form of version 13."""
    module: Any = ModuleType("cuda.bindings.driver")

    def by_handle(handle: int) -> Stream:
        return next(stream for stream in machine.streams if stream.handle == handle)

    def begin(handle: int, mode: str) -> tuple[int]:
        machine.recording = Graph(by_handle(handle))
        return (0,)

    def end(handle: int) -> tuple[int, Graph | None]:
        graph, machine.recording = machine.recording, None
        return 0, graph

    def info(handle: int) -> tuple[Any, ...]:
        assert machine.recording is not None
        latest = list(machine.recording.latest)
        return 0, "active", 1, machine.recording, latest, [None] * len(latest), len(latest)

    def depend(handle: int, nodes: list[int], data: None, count: int, how: str) -> tuple[int]:
        assert machine.recording is not None
        assert (len(nodes), how) == (count, "set")
        machine.recording.latest = tuple(nodes)
        return (0,)

    def launch(graph: Graph, handle: int) -> tuple[int]:
        if machine.faulty:
            return (700,)
        for work, _ in graph.nodes:
            by_handle(handle).put(work)
        return (0,)

    def place(attribute: str, address: int) -> tuple[int, int | None]:
        found = next((ordinal for addresses, ordinal in machine.places if address in addresses), None)
        return (1 if found is None else 0), found

    def logged(name: str) -> Callable[..., tuple[int]]:
        def call(*arguments: object) -> tuple[int]:
            machine.log.append((name, *arguments))
            return (0,)

        call.__name__ = name
        return call

    module.CUstream = int
    module.CUevent_flags = type("flags", (), {"CU_EVENT_DISABLE_TIMING": 2})
    module.CUstreamCaptureMode = type("mode", (), {"CU_STREAM_CAPTURE_MODE_RELAXED": "relaxed"})
    how = {"CU_STREAM_SET_CAPTURE_DEPENDENCIES": "set"}
    module.CUstreamUpdateCaptureDependencies_flags = type("how", (), how)
    module.CUpointer_attribute = type("attribute", (), {"CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL": "ordinal"})
    module.cuEventCreate = lambda flags: (0, "event")
    module.cuStreamBeginCapture, module.cuStreamEndCapture = begin, end
    module.cuStreamGetCaptureInfo, module.cuStreamUpdateCaptureDependencies = info, depend
    module.cuGraphInstantiate = lambda graph, flags: (0, graph)
    module.cuGraphLaunch = launch
    module.cuGetErrorString = lambda error: (0, ILLEGAL.encode())
    module.cuPointerGetAttribute = place
    for name in ("cuGraphDestroy", "cuGraphExecDestroy", "cuEventRecord", "cuStreamWaitEvent"):
        setattr(module, name, logged(name))
    return module


def install(monkeypatch: pytest.MonkeyPatch, machine: Machine, bindings: bool = True) -> None:
    """Let the backend find the machine."""
    package: Any = ModuleType("pycuda")
    package.driver = pycuda_driver(machine)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    cuda: Any = ModuleType("cuda")
    cuda.bindings = ModuleType("cuda.bindings")
    cuda.bindings.__version__ = "13.0.1"
    cuda.bindings.driver = bindings_driver(machine)
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings", cuda.bindings if bindings else None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", cuda.bindings.driver if bindings else None)
    load = ctypes.CDLL

    def loaded(name: str | None, *arguments: Any, **options: Any) -> Any:
        return None if name == "libcuda.so.1" else load(name, *arguments, **options)

    monkeypatch.setattr(ctypes, "CDLL", loaded)
    monkeypatch.setattr(cuda_driver, "_open", [])


def new_device(monkeypatch: pytest.MonkeyPatch, machine: Machine, ordinal: int = 0) -> CudaDevice:
    """A device of the machine."""
    install(monkeypatch, machine)
    return CudaDevice(ordinal)
