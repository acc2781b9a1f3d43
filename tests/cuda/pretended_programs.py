"""Programs on pretended hardware: PyCUDA's calls as in earnest, kernels in the reference interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.calls import recording
from symtensor_codegen.cuda.compiling.kernels import Emitter
from symtensor_codegen.cuda.hardware import transfers
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from symtensor_codegen.loops import Kernel
from tests.cuda.numpy_device import Array, Call, NumpyDevice, Whole
from tests.cuda.pretended_cuda import ORDERS, Machine, install
from tests.cuda.program_cases import Case, OnDevice

STREAMS = [*((order, 0) for order in ORDERS if order != "random"), *(("random", seed) for seed in range(6))]


class Interpreted(CudaDevice):
    """A device of the machine. What a stream has to do is work for the host, which does it when the machine says."""

    host = True

    def __init__(self, machine: Machine, ordinal: int = 0) -> None:
        super().__init__(ordinal)
        self.machine = machine

    def bytes_at(self, address: int, nbytes: int | None = None) -> Array:
        """The memory from an address on, to the end of its block or so many bytes."""
        end = next(block.stop for block, _ in self.machine.places if address in block)
        size = end - address if nbytes is None else nbytes
        return np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)

    def queue(self, call: Call) -> None:
        """As a launch."""
        self._target.put(call)

    def code(self, source: str, symbol: str) -> bytes:
        """Kernels are known to the machine by their names."""
        return b"image"

    def emitter(self) -> Emitter:
        """Kernels are their symbols."""

        def emit(kernel: Kernel, schedule: object, symbol: str, aliased: bool) -> str:
            self.machine.kernels[f"{symbol}_0"] = partial(NumpyDevice.run, self, kernel)  # type: ignore[arg-type]
            return symbol

        return Emitter(lambda kernel, apart: Whole(), emit)

    products = NumpyDevice.products


def batch(rows: int, number: int) -> Array:
    """Other values for each number, whose sums are exact."""
    return np.random.default_rng(number).integers(-9, 9, (rows, 4)).astype(np.float64)


def training() -> Case:
    """A step whose result depends on all steps before it."""
    x, scale, w = T.dmatrix("x"), T.dvector("scale"), T.dvector("w")
    cost = (T.dot(x, w) * 2).sum() + x.sum()
    return Case([x, scale], [cost], [batch(5, 0), np.ones(4)], [w], {0: (x * scale).sum(axis=0) - w}, [np.zeros(4)])


def centred() -> Case:
    """A function without variables."""
    x = T.dmatrix("x")
    return Case([x], [x - x.mean(axis=0), x.max()], [batch(5, 0)])


class Ahead:
    """Calls of a case that nobody waits for; what they give is compared with the interpreter's at the end."""

    def __init__(self, case: Case, device: Interpreted, keep: bool = True) -> None:
        self.case, self.device, self.keep = case, device, keep
        self.run = OnDevice(case.program, case.cells, device)
        self.values: Sequence[Array] = case.cells
        self.kept: list[tuple[list[DeviceArray], list[Array]]] = []

    def __call__(self, *inputs: Array, on_device: Sequence[int] = ()) -> None:
        """Pass fresh copies, which are spoiled afterwards."""
        given = [np.array(array) for array in inputs]
        passed = [DeviceArray.upload(self.device, a) if k in on_device else a for k, a in enumerate(given)]
        found = self.run.compiled.call(passed, self.run.cells, explain=lambda failure: failure)
        for array in given:
            array.fill(77)
        self.case.inputs = [np.array(array) for array in inputs]
        wanted, self.values = self.case.expected(self.values)
        self.kept = [*self.kept, (found, wanted)] if self.keep else [(found, wanted)]

    def check(self) -> None:
        for found, wanted in self.kept:
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one.numpy(), other)
        for one, other in zip(self.run.values, self.values, strict=True):
            np.testing.assert_array_equal(one, other)


def take(device: CudaDevice, nbytes: int) -> int:
    return device.take_in(nbytes, [(0, np.zeros(nbytes, np.uint8))])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, and how many pieces of page-locked memory it takes, so that arrays of a few rows will do."""
    monkeypatch.setattr(recording, "LARGE", 64)
    monkeypatch.setattr(recording, "SMALL", 64)
    monkeypatch.setattr(transfers, "SMALL_PIECE", 64)
    monkeypatch.setattr(transfers, "PIECE", 128)
    monkeypatch.setattr(transfers, "MOST", 3)


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch, small_pieces: None) -> Iterator[Callable[..., Interpreted]]:
    """Makes devices, each on a machine of its own."""
    machines = []

    def make(order: str = "late", seed: int = 0, graphs: bool = True) -> Interpreted:
        machines.append(Machine(order, seed))
        install(monkeypatch, machines[-1], bindings=graphs)
        return Interpreted(machines[-1])

    yield make
    assert not any(stack for machine in machines for stack in machine.stacks.values())
