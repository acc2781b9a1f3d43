"""A device of NumPy arrays, to test how programs are carried out: kernels run in the reference interpreter.

Its graphs run their work in any order that the recorded dependencies allow, another one at each launch.
"""

from __future__ import annotations

import ctypes
import random
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from symtensor_codegen.cuda.calls.steps import INTACT, Product
from symtensor_codegen.cuda.compiling.kernels import Emitter, Shape
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.loops import Kernel
from symtensor_codegen.reference import run_kernel

Array = np.ndarray[Any, Any]
Call = Callable[[], object]


class Arrived(NamedTuple):
    """Bytes that have arrived."""

    data: bytes

    def ready(self) -> bool:
        return True

    def take(self) -> bytes:
        return self.data


class Block:
    """Bytes of a NumPy array; freed ones of the same size are taken again, the latest first."""

    def __init__(self, device: NumpyDevice, size: int, memory: Array) -> None:
        self.device, self.size, self.memory = ref(device), size, memory  # what is kept with a device keeps it not
        start = memory.ctypes.data
        self.address = (start + 255) // 256 * 256

    def share(self) -> None:
        pass

    def __del__(self) -> None:
        if (device := self.device()) is not None:
            device.give_back(self)


class Recording:
    def __init__(self) -> None:
        self.nodes: list[tuple[list[Call], list[int]]] = []
        self.waits: list[int] | None = None
        self.calls: list[Call] = []

    def after(self, tokens: Sequence[int]) -> None:
        assert not self.calls, "work that was not marked"
        self.waits = list(tokens)

    def mark(self) -> int:
        assert self.calls, "a mark of nothing"
        assert self.waits is not None
        self.nodes.append((self.calls, self.waits))
        self.calls, self.waits = [], None
        return len(self.nodes) - 1

    def instantiate(self) -> Replay:
        return Replay(self.nodes)


class Replay:
    def __init__(self, nodes: list[tuple[list[Call], list[int]]]) -> None:
        self.nodes = nodes
        self.launches = 0

    def launch(self) -> None:
        order = random.Random(self.launches)
        self.launches += 1
        waiting = {position: set(waits) for position, (_, waits) in enumerate(self.nodes)}
        while waiting:
            position = order.choice([position for position, waits in waiting.items() if not waits])
            del waiting[position]
            for waits in waiting.values():
                waits.discard(position)
            for call in self.nodes[position][0]:
                call()


class Loaded(NamedTuple):
    kernel: Kernel

    def function(self, name: str) -> Kernel:
        return self.kernel


class One:
    """A kernel is one launch."""

    told = "all of it"

    def shape(self, parameters: Sequence[int], multiprocessors: int) -> Shape:
        return (1, 1, 1), (1, 1, 1)


class Whole(NamedTuple):
    """The schedule of a kernel that is one launch."""

    stages: tuple[One, ...] = (One(),)
    spreads: bool = False

    def scratch(self, parameters: Sequence[int], multiprocessors: int) -> int:
        return 0

    def is_better_apart(self, parameters: Sequence[int], multiprocessors: int) -> bool:
        return False


class NumpyDevice:
    architecture, multiprocessors, host, ordinal, stream = "numpy", 4, True, 0, 0
    why_no_graphs = ""

    def __init__(self, name: str = "cuda:7", can_capture: bool = True, memory: int = 1 << 30) -> None:
        self.name, self.can_capture, self.left = name, can_capture, memory
        self.lock = threading.RLock()
        self.free: dict[int, list[Array]] = {}
        self.live: list[tuple[int, int]] = []
        self.kernels: dict[str, Kernel] = {}
        self.recording: Recording | None = None
        self.taken_in: Block | None = None
        self.launches = self.uploads = self.downloads = self.captures = self.compiled = 0

    # Memory

    def allocate(self, nbytes: int) -> Block:
        size = max(nbytes, 16)
        free = self.free.setdefault(size, [])
        if not free and size > self.left:
            raise DeviceMemoryError(f"{self.name} is out of memory: {nbytes} bytes asked")
        self.left -= size
        block = Block(self, size, free.pop() if free else np.empty(size + 256, np.uint8))
        block.memory.fill(0xA5)  # whatever is read before it is written shows
        entry = block.address, block.address + size
        self.live.insert(bisect_right(self.live, entry), entry)
        return block

    def give_back(self, block: Block) -> None:
        self.live.remove((block.address, block.address + block.size))
        self.left += block.size
        self.free.setdefault(block.size, []).append(block.memory)

    def release(self) -> None:
        self.taken_in = None
        self.free.clear()

    def bytes_at(self, address: int, nbytes: int | None = None) -> Array:
        """The memory from an address on, to the end of its block or so many bytes."""
        position = bisect_right(self.live, (address, 1 << 64)) - 1
        start, end = self.live[position]
        assert start <= address < end or (address == end and not nbytes), "no memory here"
        nbytes = end - address if nbytes is None else nbytes
        assert address + nbytes <= end, "out of the block"
        if not nbytes:
            return np.empty(0, np.uint8)
        return np.frombuffer((ctypes.c_char * nbytes).from_address(address), np.uint8)

    # Work

    def queue(self, call: Call) -> None:
        if self.recording is not None:
            self.recording.calls.append(call)
        else:
            call()

    def upload(self, address: int, array: Array) -> None:
        assert self.recording is None, "an upload is no part of a graph"
        self.uploads += 1
        self.bytes_at(address, array.nbytes)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def take_in(self, nbytes: int, arrays: Sequence[tuple[int, Array]]) -> int:
        """Into another block than the last one, which is gone now: who uses it still finds no memory there."""
        self.taken_in = block = self.allocate(nbytes)
        for offset, array in arrays:
            self.upload(block.address + offset, array)
        return block.address

    def download(self, array: Array, address: int) -> None:
        assert self.recording is None, "a download is no part of a graph"
        self.downloads += 1
        array.reshape(-1).view(np.uint8)[:] = self.bytes_at(address, array.nbytes)

    def send_home(self, address: int, nbytes: int) -> Arrived:
        """The bytes, at once."""
        return Arrived(self.bytes_at(address, nbytes).tobytes())

    def copy(self, target: int, source: int, nbytes: int) -> None:
        def run() -> None:
            self.bytes_at(target, nbytes)[:] = self.bytes_at(source, nbytes).copy()

        self.queue(run)

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        self.queue(lambda: self.bytes_at(address, nbytes).fill(byte))

    def code(self, source: str, symbol: str) -> bytes:
        self.compiled += 1
        return source.encode()

    def load(self, image: bytes) -> Loaded:
        return Loaded(self.kernels[image.decode()])

    def launch(self, function: Kernel, grid: Any, block: Any, arguments: bytes) -> None:
        self.launches += 1
        self.queue(lambda: self.run(function, arguments))

    def run(self, kernel: Kernel, arguments: bytes) -> None:
        buffers, parameters = len(kernel.buffers), len(kernel.parameters)
        words = struct.unpack(f"{buffers}Q{parameters}qQi", arguments)
        status, first = self.bytes_at(words[-2], 4).view(np.int32), words[-1]
        if first < 0:
            if status[0] != INTACT:
                return
            first = -1 - first
        arrays = []
        for buffer, address in zip(kernel.buffers, words[:buffers], strict=True):
            assert address % buffer.dtype.itemsize == 0
            memory = self.bytes_at(address)
            size = len(memory) // buffer.dtype.itemsize * buffer.dtype.itemsize
            arrays.append(memory[:size].view(buffer.dtype.numpy))
        failed = run_kernel(kernel, arrays, words[buffers : buffers + parameters])
        if failed:
            status[0] = min(status[0], first + failed - 1)

    def synchronize(self) -> None:
        assert self.recording is None

    @contextmanager
    def current(self) -> Iterator[None]:
        with self.lock:
            yield

    @contextmanager
    def capture(self) -> Iterator[Recording]:
        assert self.can_capture
        assert self.recording is None
        self.captures += 1
        self.recording = Recording()
        try:
            yield self.recording
        finally:
            assert not self.recording.calls, "work that was not marked"
            self.recording = None

    # What it is asked for in the place of a real one

    def emitter(self) -> Emitter:
        """Kernels are their symbols."""

        def emit(kernel: Kernel, schedule: object, symbol: str, aliased: bool) -> str:
            self.kernels[symbol] = kernel
            return symbol

        return Emitter(lambda kernel, apart: Whole(), emit)

    def products(self, product: Product) -> Callable[[int, int, int], None]:
        """Matrix products by NumPy."""

        def matrix(address: int, rows: int, columns: int, strides: tuple[int, int, int]) -> Array:
            dtype = product.dtype.numpy
            counts = (product.batch, rows, columns)
            last = sum(s * (n - 1) for s, n in zip((strides[2], *strides[:2]), counts, strict=True))
            size = (last + 1) * dtype.itemsize if min(counts) > 0 else 0
            flat = self.bytes_at(address, size).view(dtype)
            steps = [s * dtype.itemsize for s in (strides[2], *strides[:2])]
            return np.lib.stride_tricks.as_strided(flat, counts, steps)

        def run(out: int, a: int, b: int) -> None:
            target = matrix(out, product.m, product.n, product.out)
            left = matrix(a, product.m, product.k, product.a)
            right = matrix(b, product.k, product.n, product.b)
            kept = product.beta * target if product.beta else 0
            target[...] = product.alpha * (left @ right) + kept

        return lambda out, a, b: self.queue(lambda: run(out, a, b))
