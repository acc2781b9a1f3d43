"""CUDA text on the CPU: blocks of threads as fibers, in orders chosen against the kernel, with checks.

`host_device` makes a device for `symtensor_codegen.cuda.device.use`, and skips the test where there is no g++.
"""

from __future__ import annotations

import os

import pytest

from tests.cuda.host import compiler
from tests.cuda.host.device import HostDevice

__all__ = ["BUILD_VARIABLE", "HostDevice", "host_device", "require_compiler"]

ORDER_VARIABLE = "SYMTENSOR_HOST_ORDER"
BUILD_VARIABLE = "SYMTENSOR_HOST_BUILD"


def host_device(checked: bool = False, order: str | None = None, seed: int = 0, name: str = "cuda:0") -> HostDevice:
    """A device of the host; `checked` makes races, accesses out of bounds and unwritten shared memory errors.

    The order of threads is, where it is not given, that of SYMTENSOR_HOST_ORDER (forward, reverse, random, or mixed:
    another one with each launch). SYMTENSOR_HOST_BUILD replaces the build (plain, checked, address) of all devices.
    """
    require_compiler()
    build = os.environ.get(BUILD_VARIABLE) or ("checked" if checked else "plain")
    return HostDevice(build, order or os.environ.get(ORDER_VARIABLE) or "mixed", seed, name)


def require_compiler() -> None:
    """Skip the test where there is no g++; fail on a CI machine, where there must be one."""
    if compiler.compiler() is None:
        reason = "no g++ in PATH, which runs CUDA text on the CPU: install it (Debian, Ubuntu: apt-get install g++)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
