"""Devices: where functions run and shared variables live.

A device has a name: ``"cpu"``, ``"cuda"`` (short for ``"cuda:0"``), ``"cuda:1"``. The name of an architecture,
``"cuda:sm_90"``, stands for no device: code is only generated and compiled for it, which needs no GPU.

A shared variable lives in one place. Functions are compiled over its memory, so it moves only while no function that
was built for the old place is alive.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from symtensor_codegen.cells import Cell, RemoteCell
from symtensor_codegen.errors import MixedDevicesError, UserError

from .opdef import describe, where
from .settings import DEVICE_PATTERN, DEVICES, config, device_name

if TYPE_CHECKING:
    from .shared_variables import SharedVariable

Array = npt.NDArray[Any]
CPU = "cpu"
DLPACK_DEVICES = (2, 13)  # CUDA memory, and memory that CUDA moves by itself


class UnknownDeviceError(UserError, ValueError):
    """There is no device of this name."""


# Names -----------------------------------------------------------------------------------------------------------


def named(device: Any, what: str) -> str:
    """The full name of a device given as users write it, in Theano's way (``gpu0``) too.

    Raises:
        UnknownDeviceError: it is no name of a device.
    """
    if device == CPU:
        return CPU
    name = device_name(device) if isinstance(device, str) else ""
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise UnknownDeviceError(
            f"{what}: there is no device {device!r}; devices are {', '.join(map(repr, DEVICES[:3]))} and, to compile "
            f"without running, {DEVICES[3]!r}"
        )
    if name == "cuda":
        return "cuda:0"
    kind, _, number = name.partition(":")
    return f"{kind}:{int(number)}" if number.isdigit() else name


def only_compiles(device: str) -> bool:
    """Whether this is the name of an architecture, for which code is compiled but cannot run."""
    return device.startswith("cuda:sm_")


def architecture_of(device: str) -> str:
    """The architecture in such a name, as in ``sm_90``."""
    return device.partition(":")[2]


def opened(device: str) -> Any:
    """The device of a name, ready for work.

    Raises:
        UserError: it cannot be had; the message says what to install or do.
    """
    from symtensor_codegen.cuda import device as devices

    return devices.get(device)


def chosen(device: Any, variables: Iterable["SharedVariable"], what: str) -> str:
    """Where a function runs: on the device asked for, else on that of its shared variables, else ``config.device``."""
    if device is not None:
        return named(device, what)
    found: dict[str, SharedVariable] = {}
    for variable in variables:
        if variable.cell.remote is not None:
            found.setdefault(place_of(variable), variable)
    if len(found) > 1:
        places = ", ".join(f"{_called(variable)} on {place}" for place, variable in sorted(found.items()))
        raise MixedDevicesError(
            f"{what}: shared variables are on several devices: {places}; move them to one: variable.to('cuda')"
        )
    return next(iter(found), None) or named(config.device, "config.device")


# Places of shared variables ----------------------------------------------------------------------------------------


class User(Protocol):
    """What is compiled over the memory of shared variables."""

    name: str

    @property
    def device(self) -> str:
        """The device it runs on."""


def place_of(variable: "SharedVariable") -> str:
    """The device that a shared variable is on."""
    remote = variable.cell.remote
    if remote is None:
        return CPU
    name: str = remote.array.device.name
    return name


def check_places(user: User, variables: Sequence["SharedVariable"]) -> None:
    """Refuse a function over shared variables that are elsewhere and cannot move.

    Raises:
        MixedDevicesError: a variable is on a device, which is not the function's; or is used by another function
            that runs elsewhere.
    """
    for variable in variables if not only_compiles(user.device) else ():
        place = place_of(variable)
        if place == user.device:
            continue
        if place != CPU:
            raise MixedDevicesError(
                f"{user.name}: the shared variable {_called(variable)} is on {place}, and {user.name} is built for "
                f"{user.device}; build it with device={place!r}, or move the variable: variable.to({user.device!r})"
            )
        _refuse_users(variable, user.device, f"{user.name}, which is built for {user.device}, needs")


def settle(user: User, variables: Sequence["SharedVariable"]) -> None:
    """Bring the shared variables of a new function to its device, and remember that it uses them."""
    if only_compiles(user.device):
        return
    moved = []
    try:
        for variable in variables:
            if place_of(variable) != user.device:
                move(variable.cell, user.device)
                moved.append(variable)
    except BaseException:
        for variable in moved:
            move(variable.cell, CPU)
        raise
    for variable in variables:
        remember(variable.cell, user)


def remember(cell: Cell, user: User) -> None:
    """Note that a function is compiled over a cell where it is."""
    if cell.users is None:
        from weakref import WeakSet

        cell.users = WeakSet()
    cell.users.add(user)


def transferred(variable: "SharedVariable", device: Any) -> None:
    """Move a shared variable to a device.

    Raises:
        MixedDevicesError: a function that runs elsewhere uses it.
    """
    what = f"{variable.name or 'a shared variable'}.to"
    name = named(device, what)
    if only_compiles(name):
        raise UnknownDeviceError(f"{what}: {name!r} names an architecture, not a device; a device is 'cuda'")
    if place_of(variable) != name:
        _refuse_users(variable, name, f"{what}({name!r}) moves")
        move(variable.cell, name)


def move(cell: Cell, device: str) -> None:
    """Copy the value of a cell to a device, where it is from now on."""
    cell.move(None if device == CPU else remote_cell(cell.get(), device))


def remote_cell(value: Array, device: str) -> RemoteCell:
    """A copy of an array on a device, as what functions there read and replace."""
    upload = partial(uploaded, opened(device))
    return RemoteCell(upload(value), upload)


def _refuse_users(variable: "SharedVariable", device: str, what: str) -> None:
    """Raise where functions that run elsewhere than on ``device`` use a variable."""

    def elsewhere() -> list[User]:
        return [user for user in variable.cell.users or () if user.device != device]

    if not elsewhere():
        return
    import gc

    from .functions import forget_evaluations

    forget_evaluations(variable)
    gc.collect()  # functions that nobody can reach any more do not count
    others = elsewhere()
    if others:
        users = ", ".join(dict.fromkeys(f"{user.name} (built for {user.device})" for user in others))
        raise MixedDevicesError(
            f"{what} the shared variable {_called(variable)}, which is used by {users}. A shared variable lives in "
            "one place: build all functions that use it with the same device=, or set config.device before the first"
        )


def _called(variable: "SharedVariable") -> str:
    return describe(variable) if variable.name else f"of {variable.type}{where(variable)}"


# Values ----------------------------------------------------------------------------------------------------------


def uploaded(device: Any, array: Array) -> Any:
    """A copy of an array on a device."""
    from symtensor_codegen.cuda.arrays import DeviceArray

    return DeviceArray.upload(device, array)


def is_device_array(value: Any) -> bool:
    """Whether a value is an array in the memory of a device: of this package, CuPy, torch, JAX and others."""
    if isinstance(value, (np.ndarray, np.generic, list, tuple, int, float, complex)):
        return False
    arrays = sys.modules.get("symtensor_codegen.cuda.arrays")
    if arrays is not None and isinstance(value, arrays.DeviceArray):
        return True
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in DLPACK_DEVICES


def place_name(value: Any) -> str:
    """The device that a device array is on; empty where it does not say."""
    own = getattr(getattr(value, "device", None), "name", None)
    if isinstance(own, str) and own.startswith("cuda:"):
        return own
    return f"cuda:{value.__dlpack_device__()[1]}" if hasattr(value, "__dlpack_device__") else ""


def received(value: Any, device: Any = None) -> Any:
    """A device array as one of this package's, without a copy; ``device`` is the one that it is on, where known."""
    from symtensor_codegen.cuda import arrays

    return arrays.from_other(value, device)


def copied_home(value: Any) -> Array:
    """A device array, of whatever library, as an array of this machine."""
    found: Array = received(value).numpy()
    return found
