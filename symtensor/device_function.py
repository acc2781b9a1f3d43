"""Functions on devices: calls run in Python, which starts the work and waits only for what it needs."""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
import numpy.typing as npt

from symtensor_codegen.cuda.arrays import DeviceArray, of_torch
from symtensor_codegen.cuda.calls.reporting import ProgramFailure
from symtensor_codegen.cuda.errors import DeviceError
from symtensor_codegen.errors import DTypeError, MixedDevicesError

from .arguments import In
from .compiled_function import Function
from .devices import architecture_of, only_compiles, opened, place_name, received, remote_cell
from .failures import failure
from .first_call import may_specialise
from .lower.plan import Result
from .pipeline import Compilation, specialised
from .shared_variables import ArgumentShapeError, check_sizes

Array = npt.NDArray[Any]


class DeviceProgram:
    """A program on a device with the shared variables and constants that it is compiled over; call it with arrays.

    Arguments are arrays that fit, of this machine or the device; results stay on the device.
    """

    def __init__(self, function: Function, done: Compilation, waits: bool = True) -> None:
        """``waits``: a call that may fail ends when it is known to be well."""
        self._waits = waits
        self._owner = ref(function)  # weak, so that memory on the device goes with the function at once
        self._cells = tuple(variable.cell for variable in function.get_shared())
        self._call: Callable[..., list[Any]] = self._refuse
        self._remote: list[Any] | None = None  # found by the first call: the shared variables are on the device then
        self._constants: list[Any] = []
        if not only_compiles(function.device):
            self._constants = [remote_cell(constant.data, function.device) for constant in done.plan.constants]
            self._call = done.native.call

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """The results that are returned.

        Raises:
            Exception: the call failed; the error says why in the user's words.
        """
        explain = None if self._waits else partial(self._explained, self.function, arrays)
        try:
            return self._call(arrays, self._bound() if self._remote is None else self._remote, explain)
        except ProgramFailure as failed:
            error = self._explained(self.function, arrays, failed)
        raise error

    def _explained(self, function: Function, arrays: Sequence[Any], failed: ProgramFailure) -> BaseException:
        """A failure in the user's words."""
        details = (*failed.values_seen, 0, 0, 0, 0)
        return failure(function, failed.message, details, lambda: self._met(arrays))

    @property
    def function(self) -> Function:
        """The function that calls the program."""
        found = self._owner()
        assert found is not None
        return found

    def values(self, *arrays: Any) -> list[Array]:
        """The results, copied to this machine."""
        return [value.numpy() for value in self(arrays)]

    def _bound(self) -> list[Any]:
        self._remote = [*[cell.remote for cell in self._cells], *self._constants]
        return self._remote

    def _refuse(self, arrays: Sequence[Any], cells: Sequence[Any], explain: Any = None) -> list[Any]:
        name, device = self.function.name, self.function.device
        raise DeviceError(
            f"{name} was compiled for {architecture_of(device)} to be read, not run: device={device!r} names an "
            "architecture, not a device; build the function with device='cuda' to call it"
        )

    def _met(self, arrays: Sequence[Any]) -> tuple[list[Array], list[Array]]:
        given = [array if isinstance(array, np.ndarray) else array.numpy() for array in arrays]
        return given, [cell.get() for cell in self._cells]


class DeviceFunction(Function):
    """A function whose program runs on a device.

    Calls are asynchronous unless a result is copied to this machine, or a failure could not be undone later.
    """

    def _prepare(self) -> None:
        made = self.definition
        outputs = made.computed[: len(made.outputs) + len(made.prints)]
        self._results = [Result(o) for o in outputs]
        self._results += [Result(value, self._cells.index(key)) for key, value in made.updates]
        done = self._compiled_to(self._results, made.passes, made.profile, self._hints())
        self._waits = may_specialise(made) and done.plan.special
        self._lock = Lock()
        self._device = None if only_compiles(self.device) else opened(self.device)
        self._checks = [
            (
                i.variable.element.numpy,
                i.variable.ndim,
                [(axis, size) for axis, size in enumerate(i.variable.type.shape) if size is not None],
            )
            for i in self.inputs
        ]
        stays = made.stays or (False,) * len(made.outputs)
        self._home = [k for k in range(len(outputs)) if k >= len(stays) or not stays[k]]
        self._single = made.kind == "single" and not made.prints
        self._plain = self._single or (made.kind in ("list", "none") and not made.prints)
        self._start(done)

    def _start(self, done: Compilation) -> None:
        """Make calls run this compilation."""
        self._compilation = done
        self._run = DeviceProgram(self, done, waits=bool(self._home))
        if self.definition.profile and not only_compiles(self.device):
            from .profiling import Profile

            self.profile = Profile(self.name, done, done.native.counters)

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Results for these arguments; updates are applied."""
        fitting = None if named or len(args) != len(self._checks) else self._fitting(args)
        args = self._arguments(*args, **named) if fitting is None else fitting
        if self._waits:
            self._specialise(args)
        values = self._run(args)
        for position in self._home:
            values[position] = values[position].numpy()
        if self._single:
            return values[0]
        return values if self._plain else self._finished(values)

    def _fitting(self, args: tuple[Any, ...]) -> Any:
        """The arguments where all can be used as they are; None where one needs a closer look."""
        device = self._device
        if device is None:
            return None
        found: list[Any] = []
        for value, (dtype, rank, sizes) in zip(args, self._checks, strict=True):
            if value.__class__ is np.ndarray:
                if not value.flags.c_contiguous:
                    return None
            elif value.__class__ is not DeviceArray:
                value = of_torch(device, value)
            if value is None or value.dtype is not dtype or value.ndim != rank:
                return None
            if value.__class__ is DeviceArray and value.device is not device:
                return None
            for axis, size in sizes:
                if value.shape[axis] != size:
                    return None
            found.append(value)
        return found

    def _received(self, value: Any, given: In, what: str) -> Any:
        kind, place = given.variable.type, place_name(value)
        if place not in ("", self.device):
            raise MixedDevicesError(
                f"{what} got an array on {place}, and {self.name} runs on {self.device}: copy it there first, or build "
                f"the function with device={place!r}"
            )
        array = received(value, self._device)
        if array.dtype != kind.element.numpy:
            raise DTypeError(
                f"{what}: arrays on a device are not converted, and {array.dtype} is not {kind.dtype}; convert it there"
            )
        if len(array.shape) != kind.ndim:
            raise ArgumentShapeError(f"{what}: expected {kind}, got an array of shape {array.shape}")
        check_sizes(array.shape, kind, what)
        return array

    def _specialise(self, arrays: Sequence[Any]) -> None:
        """Compile again where the sizes of the first call make loops faster."""
        with self._lock:
            if not self._waits:
                return
            inputs = [i.variable for i in self.inputs]
            hints = self._hints(arrays)
            better = specialised(self.compilation, self.name, inputs, self._cells, self._results, hints, self.device)
            if better is not None:
                self._start(better)
            self._waits = False

    def free(self) -> None:
        """Give memory that is kept for the next call, and what the device keeps of freed memory, back to the device."""
        if self._device is not None and self._compilation is not None:
            self._compilation.native.free()
