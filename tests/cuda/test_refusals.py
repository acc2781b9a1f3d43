"""What is refused where devices are concerned, and exactly what is said."""

import builtins
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, shared
from symtensor.devices import UnknownDeviceError
from symtensor.settings import ConfigError
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.errors import DeviceMemoryError, DeviceUnavailableError
from symtensor_codegen.errors import MixedDevicesError
from tests.cuda.host import HostDevice

Devices = tuple[HostDevice, HostDevice]
VECTOR = "TensorType(float64, vector)"
ONE_PLACE = (
    ". A shared variable lives in one place: build all functions that use it with the same device=, or set "
    "config.device before the first"
)


def refused(error: type[Exception], message: str, program: Callable[[], Any]) -> None:
    """The program fails with this error and message, in which HERE is a line of this file."""
    with pytest.raises(error) as caught:
        program()
    assert re.sub(r"test_refusals\.py:\d+", "HERE", str(caught.value)) == message


# Names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "sm_90", "cuda:sm_", 0, ""])
def test_unknown_devices(name: Any) -> None:
    said = (
        f"there is no device {name!r}; devices are 'cpu', 'cuda', 'cuda:N' and, to compile without running, "
        "'cuda:sm_NN'"
    )
    refused(UnknownDeviceError, f"function: {said}", lambda: function([], T.ones(2), device=name))
    refused(UnknownDeviceError, f"shared: {said}", lambda: shared(1.0, target=name))
    refused(UnknownDeviceError, f"w.to: {said}", lambda: shared(1.0, "w").to(name))


def test_unknown_settings() -> None:
    with pytest.raises(ConfigError, match=r"config.device takes 'cpu' or 'cuda' or 'cuda:N' or 'cuda:sm_NN', not 'x'"):
        config.device = "x"
    with pytest.raises(ConfigError, match=r"config.matmul_precision takes .*, not 'float8'"):
        config.matmul_precision = "float8"
    with pytest.raises(ValueError, match="results takes 'host' or 'device', not 'gpu'"):
        function([], T.ones(2), results="gpu")


def test_nothing_lives_on_an_architecture() -> None:
    said = "w.to: 'cuda:sm_90' names an architecture, not a device; a device is 'cuda'"
    refused(UnknownDeviceError, said, lambda: shared(1.0, "w").to("cuda:sm_90"))


# No device -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyCUDA is not installed."""
    real = builtins.__import__

    def missing(name: str, *rest: Any, **others: Any) -> Any:
        if name.partition(".")[0] == "pycuda":
            raise ImportError("No module named 'pycuda'")
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(devices, "_devices", {})


@pytest.mark.usefixtures("no_pycuda")
def test_without_pycuda_the_cpu_goes_on() -> None:
    x, w = T.dvector("x"), shared(np.ones(2), "w")
    for program in (
        lambda: function([x], x * w, device="cuda"),
        lambda: shared(1.0, target="cuda"),
        lambda: w.to("cuda"),
    ):
        with pytest.raises(DeviceUnavailableError, match=r"(?s)PyCUDA.*pip install.*device='cpu' go on working"):
            program()
    with config.change(device="cuda"), pytest.raises(DeviceUnavailableError, match="PyCUDA"):
        (x * 2).eval({x: [1.0]})
    assert w.device == "cpu"
    assert function([x], x * w)([1.0, 2.0]).tolist() == [1.0, 2.0]


# Several devices -----------------------------------------------------------------------------------------------


@pytest.mark.cuda_host
def test_a_variable_that_functions_use_elsewhere(two_devices: Devices) -> None:
    w = shared(np.ones(3), "w")
    predict = function([], w * 2, name="predict")
    refused(
        MixedDevicesError,
        f"step, which is built for cuda:0, needs the shared variable w: {VECTOR} (HERE), which is used by predict "
        f"(built for cpu){ONE_PLACE}",
        lambda: function([], [], updates={w: w + 1}, name="step", device="cuda"),
    )
    assert w.device == "cpu"
    assert predict().tolist() == [2.0, 2.0, 2.0]
    v = shared(np.ones(3), "v", target="cuda")
    there = function([], v * 2, name="there")
    refused(
        MixedDevicesError,
        f"here: the shared variable v: {VECTOR} (HERE) is on cuda:0, and here is built for cpu; build it with "
        "device='cuda:0', or move the variable: variable.to('cpu')",
        lambda: function([], v * 2, name="here", device="cpu"),
    )
    refused(
        MixedDevicesError,
        f"v.to('cpu') moves the shared variable v: {VECTOR} (HERE), which is used by there (built for "
        f"cuda:0){ONE_PLACE}",
        lambda: v.to("cpu"),
    )
    assert there().tolist() == [2.0, 2.0, 2.0]


@pytest.mark.cuda_host
def test_variables_on_several_devices(two_devices: Devices) -> None:
    a, b = shared(np.ones(3), "a", target="cuda"), shared(np.ones(3), target="cuda:1")
    refused(
        MixedDevicesError,
        f"function: shared variables are on several devices: a: {VECTOR} (HERE) on cuda:0, of {VECTOR} (HERE) on "
        "cuda:1; move them to one: variable.to('cuda')",
        lambda: function([], a + b),
    )
    with pytest.raises(MixedDevicesError, match=r"is on cuda:1, and function is built for cuda:0"):
        function([], a + b, device="cuda")
    assert function([], a + b.to("cuda"))().tolist() == [2.0, 2.0, 2.0]


@pytest.mark.cuda_host
def test_arguments_of_other_devices(two_devices: Devices) -> None:
    x = T.dvector("x")
    first, second = (DeviceArray.upload(device, np.ones(2)) for device in two_devices)
    here, there = function([x], x * 2, name="here"), function([x], x * 2, name="there", device="cuda:1")
    refused(
        MixedDevicesError,
        "here: input x (HERE) got an array on cuda:0, and here runs on cpu: copy it to this machine first, or build "
        "the function with device='cuda:0'",
        lambda: here(first),
    )
    refused(
        MixedDevicesError,
        "there: input x (HERE) got an array on cuda:0, and there runs on cuda:1: copy it there first, or build the "
        "function with device='cuda:0'",
        lambda: there(first),
    )
    assert there(second).tolist() == [2.0, 2.0]
    assert here(np.asarray(first)).tolist() == [2.0, 2.0]
    for mode in ("debug", "nan_guard"):
        with pytest.raises(MixedDevicesError):
            function([x], x * 2, mode=mode)(first)
        assert function([x], x * 2, mode=mode, device="cuda:1")(second).tolist() == [2.0, 2.0]
    assert function([x], x * 2, mode="reference")(first).tolist() == [2.0, 2.0]


# Failures ------------------------------------------------------------------------------------------------------


@pytest.mark.cuda_host
def test_out_of_memory_leaves_everything_as_it_was(two_devices: Devices) -> None:
    device, _ = two_devices
    x, w = T.dvector("x"), shared(np.zeros(4), "w", target="cuda")
    f = function([x], T.outer(x, x), updates={w: w + x.sum()}, name="f")
    device.memory_limit = 1 << 16
    with pytest.raises(DeviceMemoryError, match=r"(?s)f: cuda:0 is out of memory.*The memory of f:.*result"):
        f(np.ones(200))
    v = shared(np.zeros(10), "v")
    with pytest.raises(DeviceMemoryError, match="cuda:0 is out of memory"):
        shared(np.zeros(10_000), target="cuda")
    big = shared(np.zeros(10_000), "big")
    with pytest.raises(DeviceMemoryError):
        function([], [v.sum(), big.sum()], device="cuda")
    assert (v.device, big.device) == ("cpu", "cpu")
    device.memory_limit = 1 << 32
    np.testing.assert_array_equal(w.get_value(), np.zeros(4))
    f(np.ones(4))
    np.testing.assert_array_equal(w.get_value(), np.full(4, 4.0))
