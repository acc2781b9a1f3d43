"""Devices of the host, for tests of what the CUDA backend emits and runs."""

import pytest

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
