"""Every way in which a device cannot be had or fails, and what the user is told.

PyCUDA and the driver are really missing on machines without a GPU; where they are there, they are hidden. The rest
needs a device that fails: a pretended one (see pretended_cuda).
"""

import ctypes
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.errors import DeviceError, DeviceFault, DeviceMemoryError, DeviceUnavailableError
from symtensor_codegen.cuda.hardware.driver import CudaDevice
from symtensor_codegen.errors import InternalError, UserError
from tests.cuda.pretended_cuda import ILLEGAL, Error, LogicError, Machine, RuntimeFailure, install, new_device

ONE = (1, 1, 1)
CPU = "Functions for device='cpu' go on working."


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.kernels = {"good": lambda arguments: None, "bad": lambda arguments: setattr(machine, "faulty", True)}
    return machine


@pytest.fixture(autouse=True)
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_devices", {})


def refused(name: str = "cuda") -> str:
    with pytest.raises(DeviceUnavailableError) as info:
        devices.get(name)
    assert isinstance(info.value, (UserError, RuntimeError))
    return str(info.value)


class TestNotThere:
    def test_no_pycuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if importlib.util.find_spec("pycuda") is not None:
            monkeypatch.setitem(sys.modules, "pycuda", None)
        message = refused()
        assert message.startswith("CUDA devices need PyCUDA, which could not be imported (")
        assert "pip install 'symtensor[cuda]'" in message
        assert message.endswith(CPU)

    def test_no_driver(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "pycuda").mkdir()
        (tmp_path / "pycuda" / "__init__.py").touch()
        if importlib.util.find_spec("pycuda") is None:
            monkeypatch.syspath_prepend(tmp_path)
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            pass
        else:  # a machine with a GPU
            monkeypatch.setattr(ctypes, "CDLL", lambda *a, **k: ctypes.PyDLL("libnotcuda.so.1"))
        message = refused()
        assert message.startswith("NVIDIA's driver was not found (lib")
        assert "install the driver (nvidia-smi must list the GPU)" in message
        monkeypatch.delitem(sys.modules, "pycuda", raising=False)

    def test_old_driver(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        install(monkeypatch, machine)
        (tmp_path / "pycuda").mkdir()
        (tmp_path / "pycuda" / "__init__.py").touch()
        text = """
            import warnings
            warnings.warn("the version of your CUDA header does not match")
            raise ImportError("_driver.so: undefined symbol: cuCtxCreate_v4")
        """
        (tmp_path / "pycuda" / "driver.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, "pycuda.driver")
        monkeypatch.delitem(sys.modules, "pycuda")
        monkeypatch.syspath_prepend(tmp_path)
        message = refused()
        assert "older than the CUDA version which PyCUDA was built for (_driver.so: undefined symbol" in message
        assert "Update the driver" in message
        monkeypatch.delitem(sys.modules, "pycuda", raising=False)

    @pytest.mark.parametrize("listed", [True, False])
    def test_no_device(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
        install(monkeypatch, machine)
        if listed:
            machine.initialisation = RuntimeFailure("cuInit failed: no CUDA-capable device is detected")
        else:
            machine.devices.clear()
        message = refused()
        assert message.startswith("NVIDIA's driver is installed, but finds no CUDA device")
        assert ("no CUDA-capable device is detected" in message) == listed
        assert "CUDA_VISIBLE_DEVICES" in message

    def test_no_such_number(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, machine)
        message = refused("cuda:5")
        assert message == "There is no device 'cuda:5' here. There are: cuda:0 (Pretended GPU), cuda:1 (Another)."

    @pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu", "", "cuda:1:2", "cuda:²"])
    def test_no_such_name(self, name: str) -> None:
        assert refused(name) == f"{name!r} is not the name of a CUDA device: it is 'cuda', or 'cuda:1' and so on."

    def test_too_old(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.devices = [("Old", (7, 0))]
        install(monkeypatch, machine)
        assert refused().startswith("cuda:0 (Old) has compute capability 7.0; symtensor needs at least 7.5")

    def test_a_failure_is_not_remembered(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, machine)
        machine.initialisation = RuntimeFailure("cuInit failed: no CUDA-capable device is detected")
        refused()
        machine.initialisation = None
        found = devices.get("cuda")
        assert (found.name, found.architecture, found.multiprocessors, found.host) == ("cuda:0", "sm_90", 132, False)
        assert devices.get("cuda:0") is devices.get("cuda:00") is found
        assert devices.get("cuda:1").architecture == "sm_86"

    def test_a_registered_device(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, machine)
        real, registered = devices.get("cuda"), CudaDevice(0)
        devices.use(registered)
        assert devices.get("cuda") is devices.get("cuda:0") is registered
        devices.forget("cuda")
        assert devices.get("cuda:0") is devices.get("cuda") is not registered
        assert devices.get("cuda") is not real


class TestFaults:
    def test_a_failing_kernel_is_among_those_named(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        array = DeviceArray.upload(device, np.zeros(3))
        module = device.load(b"image")
        good, bad = module.function("good"), module.function("bad")
        device.launch(good, ONE, ONE, b"")
        device.synchronize()
        for function in (good, bad, good, good):
            device.launch(function, ONE, ONE, b"")
        with pytest.raises(DeviceFault) as info:
            array.numpy()
        message = str(info.value)
        assert f"cuda:0 failed (cuEventSynchronize failed: {ILLEGAL})" in message
        assert (
            "in one of those launched since it was last waited for, latest first: kernel good, kernel bad." in message
        )
        assert "context of this process is lost" in message
        assert "SYMTENSOR_CUDA_SYNC=1" in message
        for use in (array.numpy, device.synchronize, lambda: device.launch(good, ONE, ONE, b"")):
            with pytest.raises(DeviceFault, match=r"cuda:0 cannot be used any more in this process: .* Restart it"):
                use()
        machine.faulty = False
        assert not any(machine.stacks.values())

    def test_careful_devices_name_the_kernel(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYMTENSOR_CUDA_SYNC", "1")
        device = new_device(monkeypatch, machine)
        module = device.load(b"image")
        device.launch(module.function("good"), ONE, ONE, b"")
        with pytest.raises(DeviceFault, match=r"failed \(cuStreamSynchronize failed: .*\) in kernel bad\. The CUDA"):
            device.launch(module.function("bad"), ONE, ONE, b"")

    def test_work_of_others(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        machine.faulty = True
        with pytest.raises(DeviceFault, match="in work that was not launched by symtensor, or long ago"):
            device.synchronize()

    @pytest.mark.parametrize("work", ["upload", "fill", "copy", "load", "launch", "allocate"])
    def test_found_at_later_work(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
        device = new_device(monkeypatch, machine)
        address = device.allocate(100).address
        kernel = device.load(b"image").function("bad")
        device.launch(kernel, ONE, ONE, b"")
        machine.faulty = True
        begin = {
            "upload": lambda: device.upload(address, np.zeros(3)),
            "fill": lambda: device.fill(address, 8, 0),
            "copy": lambda: device.copy(address, address + 8, 8),
            "load": lambda: device.load(b"image 2"),
            "launch": lambda: device.launch(kernel, ONE, ONE, b""),
            "allocate": lambda: device.allocate(5 << 20),
        }
        with pytest.raises(DeviceFault, match="in kernel bad"):
            begin[work]()

    def test_mistakes_of_ours_lose_nothing(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        module = device.load(b"image")
        with pytest.raises(InternalError, match="cuda:0: kernel good: cuLaunchKernel failed: invalid argument"):
            device.launch(module.function("good"), ONE, (2048, 1, 1), b"")
        with pytest.raises(InternalError, match="kernel absent: cuModuleGetFunction failed: named symbol not found"):
            module.function("absent")
        with pytest.raises(InternalError, match="device kernel image is invalid"):
            device.load(b"other")
        device.synchronize()

    def test_memory_that_the_driver_itself_lacks(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)

        def out_of_memory(image: bytes) -> None:
            raise device.cuda.MemoryError("cuModuleLoadDataEx failed: out of memory")

        monkeypatch.setattr(device.cuda, "module_from_buffer", out_of_memory)
        with pytest.raises(DeviceMemoryError, match=r"cuda:0 is out of memory: 1\.00 GiB of 1\.00 GiB free"):
            device.load(b"image")


class TestProcesses:
    def test_children_of_a_fork(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        array = DeviceArray.upload(device, np.zeros(3))
        holding = threading.Event()
        done = threading.Event()

        def hold() -> None:  # another thread is at work on the device during the fork
            with device.current():
                holding.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait(60)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            machine.stacks.clear()
            from symtensor_codegen.cuda.hardware import driver

            driver._after_fork()  # what is registered with Python forgets devices that tests pretend
            try:
                array.numpy()
            except DeviceError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        done.set()
        thread.join()
        os.close(writer)
        message = os.read(reader, 10_000).decode()
        os.close(reader)
        assert os.waitpid(child, 0)[1] == 0
        assert message.startswith("cuda:0 was used before this process was forked")
        assert "multiprocessing.get_context('spawn')" in message
        assert not array.numpy().any()  # the parent goes on

    def test_a_fork_after_somebody_elses_use(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch, machine)
        machine.initialisation = LogicError("cuInit failed: initialization error")
        with pytest.raises(DeviceError, match="cuda:1 was used before this process was forked"):
            devices.get("cuda:1")

    def test_the_end_of_the_interpreter(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        device.close()
        with pytest.raises(DeviceError, match="cuda:0 cannot be used any more: the interpreter is shutting down"):
            device.synchronize()
        device.close()

    def test_finalizers_at_the_end(self) -> None:
        """Arrays, kernels and graphs that are alive when the interpreter ends call nothing and print nothing."""
        script = """
            import gc, sys
            import numpy as np, pytest
            from symtensor_codegen.cuda.arrays import DeviceArray
            from tests.cuda.pretended_cuda import Machine, new_device
            machine = Machine()
            machine.kernels["k"] = lambda arguments: None
            device = new_device(pytest.MonkeyPatch(), machine)
            array = DeviceArray.upload(device, np.zeros(3))
            kernel = device.load(b"image").function("k")
            with device.capture() as recording:
                device.launch(kernel, (1, 1, 1), (1, 1, 1), b"")
            replay = recording.instantiate()
            device.take_in(24, [(0, np.zeros(3))])
            device.take_in(24, [(0, np.zeros(3))])
            assert device._intake.ahead is not None
            cycle = [array, kernel, replay]
            cycle.append(cycle)
            print("done")
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


class TestThreads:
    def test_contexts_of_two_devices_nest(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        first = new_device(monkeypatch, machine)
        second = CudaDevice(1)
        with first.current():
            with first.current(), second.current():
                assert machine.stack() == [0, 1]
                with first.current():
                    assert machine.stack() == [0, 1, 0]
                    first.synchronize()
                assert machine.stack() == [0, 1]
            assert machine.stack() == [0]
        assert machine.stack() == []

    def test_errors_leave_no_context(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        with pytest.raises(ZeroDivisionError), device.current(), device.current():
            1 / 0
        assert machine.stack() == []

    def test_a_context_that_cannot_be_made_current(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)

        def fail() -> None:
            raise Error("cuCtxPushCurrent failed")

        push, device.push = device.push, fail
        for _ in range(2):
            with pytest.raises(Error, match="cuCtxPushCurrent"), device.current():
                raise AssertionError
        device.push = push
        device.synchronize()

    def test_threads_take_turns(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        device = new_device(monkeypatch, machine)
        found: list[bool] = []

        def work(number: int) -> None:
            for _ in range(50):
                array = DeviceArray.upload(device, np.full(200, number))
                found.append(bool((array.copy().numpy() == number).all()))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 200
        assert not any(machine.stacks.values())
