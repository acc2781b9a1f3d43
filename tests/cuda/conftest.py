"""Devices of the host, for tests of what the CUDA backend emits and runs."""

from collections.abc import Iterator

import pytest

from symtensor import shared
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.errors import DeviceUnavailableError
from tests.cuda.devices import two_devices as two_devices
from tests.cuda.host import HostDevice, host_device


@pytest.fixture
def host() -> HostDevice:
    """A device that is quick, and reports undefined behaviour only."""
    return host_device()


@pytest.fixture
def checked_host() -> HostDevice:
    """A device that also reports races, accesses out of bounds and unwritten shared memory."""
    return host_device(checked=True)


@pytest.fixture
def device(checked_host: HostDevice) -> Iterator[HostDevice]:
    """The device "cuda:0", which reports all of these."""
    devices.use(checked_host)
    yield checked_host
    devices.forget(checked_host.name)


@pytest.fixture
def gpu() -> str:
    """The name of a real device."""
    try:
        shared(0.0, target="cuda")
    except DeviceUnavailableError as reason:
        pytest.skip(str(reason))
    return "cuda"
