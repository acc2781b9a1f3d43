"""Recorded work: what depends on what, and launching it again. The device is a pretended one (see pretended_cuda)."""

import gc
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symtensor_codegen.cuda.arrays import DeviceArray, empty
from symtensor_codegen.cuda.errors import DeviceError, DeviceFault
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from symtensor_codegen.errors import InternalError
from tests.cuda.pretended_cuda import Machine, install, new_device

ONE = (1, 1, 1)


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.kernels = dict.fromkeys("abcd", lambda arguments: None)
    return machine


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[CudaDevice]:
    yield new_device(monkeypatch, machine)
    assert not any(machine.stacks.values())


def kernels(device: CudaDevice) -> list[Any]:
    module = device.load(b"image")
    return [module.function(name) for name in "abcd"]


def waits(recording: Any) -> list[tuple[int, ...]]:
    return [dependencies for _, dependencies in recording.graph.nodes]


def test_without_words_work_follows_work(device: CudaDevice) -> None:
    with device.capture() as recording:
        for kernel in kernels(device):
            device.launch(kernel, ONE, ONE, b"")
    assert waits(recording) == [(), (0,), (1,), (2,)]


def test_branches(device: CudaDevice) -> None:
    a, b, c, d = kernels(device)
    with device.capture() as recording:
        device.launch(a, ONE, ONE, b"")
        first = recording.mark()
        recording.after([])
        device.launch(b, ONE, ONE, b"")
        device.launch(c, ONE, ONE, b"")  # two launches of one action
        second = recording.mark()
        recording.after([first])
        device.fill(0, 8, 0)
        third = recording.mark()
        recording.after([first, second, third, first])
        device.launch(d, ONE, ONE, b"")
    assert waits(recording) == [(), (), (1,), (0,), (0, 2, 3)]


def test_actions_without_work(device: CudaDevice) -> None:
    a, b, *_ = kernels(device)
    with device.capture() as recording:
        device.launch(a, ONE, ONE, b"")
        first = recording.mark()
        recording.after([first])
        nothing = recording.mark()
        recording.after([nothing])
        device.launch(b, ONE, ONE, b"")
    assert waits(recording) == [(), (0,)]


def test_replaying(device: CudaDevice, machine: Machine) -> None:
    def add_one(arguments: bytes) -> None:
        (address,) = struct.unpack("P", arguments)
        np.ctypeslib.as_array((np.ctypeslib.ctypes.c_double * 4).from_address(address))[:] += 1

    machine.kernels["a"] = add_one
    array, other = DeviceArray.upload(device, np.arange(4.0)), empty(device, (4,), np.dtype("f8"))
    kernel = device.load(b"image").function("a")
    with device.capture() as recording:
        assert device.stream != device._stream.handle
        device.launch(kernel, ONE, ONE, struct.pack("P", array.address))
        device.copy(other.address, array.address, array.nbytes)
    np.testing.assert_array_equal(array.numpy(), np.arange(4.0))  # nothing has run
    replay = recording.instantiate()
    for _ in range(3):
        replay.launch()
    np.testing.assert_array_equal(array.numpy(), np.arange(4.0) + 3)
    np.testing.assert_array_equal(other.numpy(), np.arange(4.0) + 3)
    device.fill(array.address, 8, 0)
    assert array.numpy()[0] == 0  # the own stream again


def test_graphs_are_destroyed(device: CudaDevice, machine: Machine) -> None:
    with device.capture() as recording:
        pass
    replay = recording.instantiate()
    graph = replay._executable
    machine.log.clear()
    del replay
    gc.collect()
    assert ("cuGraphExecDestroy", graph) not in machine.log  # by no finalizer
    with device.capture():
        pass
    assert ("cuGraphExecDestroy", graph) in machine.log


def test_kernels_live_as_long_as_their_graph(device: CudaDevice, machine: Machine) -> None:
    with device.capture() as recording:
        device.launch(kernels(device)[0], ONE, ONE, b"")
    replay = recording.instantiate()
    del recording
    gc.collect()
    device.synchronize()
    assert not any(entry[0] == "unload" for entry in machine.log)
    del replay
    gc.collect()
    device.synchronize()
    assert any(entry[0] == "unload" for entry in machine.log)


def test_waiting_is_refused_while_recording(device: CudaDevice) -> None:
    array = DeviceArray.upload(device, np.zeros(3))
    for wait, what in (
        (device.synchronize, "waiting for the device"),
        (array.numpy, "a download"),
        (lambda: device.upload(array.address, np.zeros(3)), "an upload"),
    ):
        with pytest.raises(InternalError, match=f"{what} while a graph is recorded on cuda:0"), device.capture():
            wait()
        assert device.recording is None
    assert not array.numpy().any()


def test_failed_recordings_end(device: CudaDevice, machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), device.capture() as recording:
        1 / 0
    assert machine.recording is None
    assert device.recording is None
    with pytest.raises(InternalError, match="before it is finished, or twice"):
        recording.instantiate()


def test_faults_in_graphs_name_their_kernels(device: CudaDevice, machine: Machine) -> None:
    a, b, *_ = kernels(device)
    with device.capture() as recording:
        for kernel in (a, b, a):
            device.launch(kernel, ONE, ONE, b"")
    replay = recording.instantiate()
    machine.faulty = True
    with pytest.raises(DeviceFault, match=r"cuGraphLaunch failed: an illegal .* in a graph of the kernels a, b\."):
        replay.launch()


def test_without_the_bindings(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    install(monkeypatch, machine, bindings=False)
    device = CudaDevice(0)
    assert not device.can_capture
    assert "need NVIDIA's Python bindings" in device.why_no_graphs
    assert "pip install 'symtensor[cuda]'" in device.why_no_graphs
    with pytest.raises(DeviceError, match="pip install"):
        device.capture()


def test_a_driver_that_cannot_record(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    import sys

    def missing(*arguments: object) -> None:
        raise RuntimeError("Function cuStreamUpdateCaptureDependencies not found")

    install(monkeypatch, machine)
    monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuStreamUpdateCaptureDependencies", missing)
    device = CudaDevice(0)
    assert not device.can_capture
    assert device.why_no_graphs.startswith("the driver cannot record graphs: Function cuStreamUpdateCapture")
    assert machine.recording is None


def test_careful_devices_do_not_record(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setenv("SYMTENSOR_CUDA_SYNC", "1")
    device = new_device(monkeypatch, machine)
    assert not device.can_capture
    assert device.why_no_graphs == "SYMTENSOR_CUDA_SYNC is set: each kernel is waited for"
