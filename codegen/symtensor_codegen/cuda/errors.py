"""Errors of devices: each says what happened and what to install, change or do."""

from __future__ import annotations

from collections.abc import Sequence

from symtensor_codegen.errors import MixedDevicesError as MixedDevicesError
from symtensor_codegen.errors import UserError

OLDEST = (7, 5)
"""The oldest compute capability that is supported (Turing)."""


class DeviceError(UserError, RuntimeError):
    """A device cannot be used, or not in this way."""


class DeviceUnavailableError(DeviceError):
    """There is no such device here: a library, a driver or the device itself is missing, or too old."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The memory of a device does not suffice."""


class DeviceFault(DeviceError):
    """A kernel failed on the device, and the CUDA context of this process with it."""


CPU_GOES_ON = "Functions for device='cpu' go on working."


def pycuda_missing(cause: ImportError) -> DeviceUnavailableError:
    """PyCUDA is not installed, or one of the packages it needs."""
    return DeviceUnavailableError(
        f"CUDA devices need PyCUDA, which could not be imported ({cause}). "
        f"Install it with: pip install 'symtensor[cuda]'. {CPU_GOES_ON}"
    )


def driver_missing(cause: OSError) -> DeviceUnavailableError:
    """PyCUDA is there, but the library of NVIDIA's driver is not."""
    return DeviceUnavailableError(
        f"NVIDIA's driver was not found ({cause}). Its library, libcuda.so.1, comes with the driver of the GPU, not "
        "with CUDA or a Python package: install the driver (nvidia-smi must list the GPU), and start a container "
        f"with its GPUs (docker run --gpus all). {CPU_GOES_ON}"
    )


def driver_too_old(cause: ImportError) -> DeviceUnavailableError:
    """The library of the driver lacks functions that PyCUDA was built for."""
    return DeviceUnavailableError(
        f"NVIDIA's driver is older than the CUDA version which PyCUDA was built for ({cause}). Update the driver, or "
        f"install a PyCUDA that was built for an older CUDA. {CPU_GOES_ON}"
    )


def no_device(cause: Exception | None) -> DeviceUnavailableError:
    """The driver is there, but sees no device."""
    reason = "" if cause is None else f" ({cause})"
    return DeviceUnavailableError(
        f"NVIDIA's driver is installed, but finds no CUDA device{reason}. See whether nvidia-smi lists a GPU, and "
        f"whether the environment variable CUDA_VISIBLE_DEVICES hides it. {CPU_GOES_ON}"
    )


def bad_name(name: object) -> DeviceUnavailableError:
    """What was given is not the name of a device."""
    return DeviceUnavailableError(f"{name!r} is not the name of a CUDA device: it is 'cuda', or 'cuda:1' and so on.")


def bad_ordinal(name: str, present: Sequence[str]) -> DeviceUnavailableError:
    """There is no device of this number; `present` describes those which there are."""
    return DeviceUnavailableError(f"There is no device {name!r} here. There are: {', '.join(present)}.")


def too_old(name: str, description: str, capability: tuple[int, int]) -> DeviceUnavailableError:
    """The device is of an architecture that is not supported."""
    return DeviceUnavailableError(
        f"{name} ({description}) has compute capability {capability[0]}.{capability[1]}; symtensor needs at least "
        f"{OLDEST[0]}.{OLDEST[1]} (Turing, 2018). Use another device, or device='cpu'."
    )


def forked(name: str) -> DeviceError:
    """The process is the child of one which had used CUDA."""
    return DeviceError(
        f"{name} was used before this process was forked, and CUDA does not survive a fork. Start worker processes "
        "with multiprocessing.get_context('spawn') (or 'forkserver'), or use the device only after the fork."
    )


def closing(name: str) -> DeviceError:
    """The interpreter is shutting down."""
    return DeviceError(f"{name} cannot be used any more: the interpreter is shutting down.")


def megabytes(size: int) -> str:
    """A size in bytes as a person reads it."""
    if size < 1 << 20:
        return f"{size:,} bytes"
    return f"{size / (1 << 20):,.1f} MiB" if size < 1 << 30 else f"{size / (1 << 30):,.2f} GiB"


def out_of_memory(name: str, asked: int, free: int, total: int, used: int) -> DeviceMemoryError:
    """An allocation failed, also after cached memory had been given back. Sizes are in bytes."""
    wanted = f"{megabytes(asked)} asked, " if asked else ""
    return DeviceMemoryError(
        f"{name} is out of memory: {wanted}{megabytes(free)} of {megabytes(total)} free; arrays and "
        f"functions of symtensor hold {megabytes(used)}. Use smaller batches or float32, delete results that are no "
        "longer needed, keep fewer of them on the device, or end other processes that use it (nvidia-smi lists them). "
        "f.memory shows what a function needs."
    )


def fault(name: str, cause: object, launched: Sequence[str]) -> DeviceFault:
    """Earlier work of the device failed for good; `launched` is what was begun since it was last known to be well."""
    if len(launched) == 1:
        suspects = f"in {launched[0]}"
    elif launched:
        suspects = f"in one of those launched since it was last waited for, latest first: {', '.join(launched)}"
    else:
        suspects = "in work that was not launched by symtensor, or long ago"
    return DeviceFault(
        f"{name} failed ({cause}) {suspects}. The CUDA context of this process is lost, and with it everything it kept "
        "on the device: restart the process. To find the kernel, run it with SYMTENSOR_CUDA_SYNC=1, which waits for "
        "each kernel and names the one that fails."
    )


def lost(name: str) -> DeviceFault:
    """The device is used again after a fault."""
    return DeviceFault(
        f"{name} cannot be used any more in this process: an earlier failure lost its CUDA context. Restart it."
    )


def mixed(array: str, where: str, device: str) -> MixedDevicesError:
    """An array of another device was given."""
    return MixedDevicesError(
        f"{array} is on {where}, but {device} is used here. Nothing is moved between devices silently: copy it first "
        f"(to the host with numpy.asarray, or to {device} with the methods of its library)."
    )
