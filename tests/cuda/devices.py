"""Suites that run on every device, one after another.

A folder's tests do when its conftest has ``from tests.cuda.devices import device``. Each then runs with
`config.device` set to the CPU, and to a CUDA device whose kernels run on the CPU (`tests.cuda.host`; marked
``cuda_host``). SYMTENSOR_TEST_DEVICES chooses others, separated by commas: cpu, host, and cuda, a GPU. Tests that are
about the CPU backend itself are marked ``cpu_only`` with the reason; those that would take minutes of CUDA text on the
CPU are marked ``many_launches``, and run on the CPU and a GPU.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

import symtensor
from symtensor.shared_variables import SharedVariable
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.compiling import compile
from tests.cuda.host import HostDevice, host_device

VARIABLE = "SYMTENSOR_TEST_DEVICES"
MARKS = {"cpu": (), "host": (pytest.mark.cuda_host,), "cuda": (pytest.mark.gpu,)}


def chosen() -> list[object]:
    """The parameters of the fixture.

    Raises: ValueError when the variable names something else.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "cpu,host").split(",")]
    if not set(names) <= set(MARKS):
        raise ValueError(f"{VARIABLE} takes {', '.join(MARKS)}, not {','.join(names)!r}")
    return [pytest.param(name, marks=MARKS[name]) for name in names]


@functools.cache
def _host() -> HostDevice:
    return host_device()


@pytest.fixture(params=chosen(), autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that functions are built for."""
    name: str = request.param
    if name == "host":
        devices.use(_host())
    try:
        with symtensor.config.change(device="cpu" if name == "cpu" else "cuda"):
            yield name
        if name == "host":
            _compile_for_gpu(_host())
    finally:
        for variable in vars(request.module).values():
            if isinstance(variable, SharedVariable):
                variable.to("cpu")  # the next test is on another device
        if name == "host":
            devices.forget("cuda:0")


_compiled: set[tuple[str, str]] = set()


def _compile_for_gpu(host: HostDevice) -> None:
    """What ran on the CPU must be machine code for a GPU, too: every text is compiled for one architecture."""
    new = [source for source in host.texts if source not in _compiled]
    _compiled.update(new)
    compile.cubins(new, "sm_90")


@pytest.fixture
def two_devices() -> Iterator[tuple[HostDevice, HostDevice]]:
    """The devices "cuda:0" and "cuda:1", both of the host."""
    found = host_device(), host_device(name="cuda:1")
    for one in found:
        devices.use(one)
    yield found
    for one in found:
        devices.forget(one.name)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests about the CPU on other devices, and long ones where CUDA text runs on the CPU."""

    def elsewhere(item: pytest.Item) -> bool:
        call = getattr(item, "callspec", None)
        on = call.params.get("device", "cpu") if call is not None else "cpu"
        marks = {mark.name for mark in item.iter_markers()}
        return (on in ("host", "cuda") and "cpu_only" in marks) or (on == "host" and "many_launches" in marks)

    left_out = [item for item in items if elsewhere(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
