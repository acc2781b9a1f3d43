"""PyCUDA, NVIDIA's driver and a device, looked for; what is missing is an error that says what to install or do."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

from symtensor_codegen.cuda import errors


def find_driver(name: str) -> Any:
    """The module pycuda.driver, initialised.

    Raises: DeviceUnavailableError.
    """
    try:
        import pycuda  # noqa: F401
    except ImportError as cause:
        raise errors.pycuda_missing(cause) from cause
    try:
        # PyCUDA built on a machine without a driver may not name the library: its symbols are made global first.
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as cause:
        raise errors.driver_missing(cause) from cause
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyCUDA warns of what the error below says
            import pycuda.driver as cuda
    except ImportError as cause:
        if "undefined symbol: cu" in str(cause):
            raise errors.driver_too_old(cause) from cause
        raise errors.pycuda_missing(cause) from cause
    try:
        cuda.init()
    except cuda.Error as cause:
        if "initialization error" in str(cause):  # what the driver says in a child of a process which had used it
            raise errors.forked(name) from cause
        raise errors.no_device(cause) from cause
    return cuda


def find_device(cuda: Any, ordinal: int) -> Any:
    """A device of PyCUDA that is there, and new enough.

    Raises: DeviceUnavailableError.
    """
    present = [cuda.Device(number) for number in range(cuda.Device.count())]
    if not present:
        raise errors.no_device(None)
    if ordinal >= len(present):
        described = [f"cuda:{number} ({device.name()})" for number, device in enumerate(present)]
        raise errors.bad_ordinal(f"cuda:{ordinal}", described)
    capability = present[ordinal].compute_capability()
    if capability < errors.OLDEST:
        raise errors.too_old(f"cuda:{ordinal}", present[ordinal].name(), capability)
    return present[ordinal]
