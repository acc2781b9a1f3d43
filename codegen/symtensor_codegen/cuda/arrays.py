"""Arrays that live on a device, and arrays of other libraries taken over without a copy."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from symtensor_codegen import dtypes
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda import errors
from symtensor_codegen.cuda.calls import late
from symtensor_codegen.cuda.hardware import dlpack
from symtensor_codegen.errors import DTypeError

if TYPE_CHECKING:
    from symtensor_codegen.cuda.device import Array, Block, Device

LEGACY, PER_THREAD = 1, 2
"""Streams with numbers of their own in both protocols."""


class DeviceArray:
    """A C-contiguous array in the memory of a device.

    `numpy.asarray` and `numpy()` copy it to the host, after all earlier work. CuPy, torch, JAX and others take it
    without a copy, through `__cuda_array_interface__` or DLPack.
    """

    __slots__ = ("__weakref__", "address", "block", "device", "dtype", "fate", "read_only", "shape")

    def __init__(
        self,
        device: Device,
        block: Block,
        shape: tuple[int, ...],
        dtype: numpy.dtype[Any],
        address: int | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.device = device
        self.block = block
        self.shape = shape
        self.dtype = dtype
        self.address = block.address if address is None else address
        self.read_only = read_only
        self.fate: late.Fate | None = None  # of the call that made it, if nobody waited for that

    @classmethod
    def upload(cls, device: Device, array: Array) -> DeviceArray:
        """A copy of a host array on a device, in native byte order and C order."""
        values = numpy.asarray(array, array.dtype.newbyteorder("="), order="C")
        if values.dtype.kind not in "biufc" or values.dtype.itemsize > 16:
            raise DTypeError(f"arrays of {values.dtype} cannot be on {device.name}")
        out = empty(device, values.shape, values.dtype)
        device.upload(out.address, values)
        return out

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def numpy(self) -> Array:
        """A copy on the host."""
        out = numpy.empty(self.shape, self.dtype)
        self.device.download(out, self.address)
        late.settle(self.device)
        self.check()
        return out

    def settle(self) -> None:
        """Wait until it is known that the call which made it did not fail; raises what it raised."""
        if self.fate is not None:
            late.settle(self.device)
            self.check()

    def check(self) -> None:
        """Raise what the call that made it raised, if that is known to have failed: what it holds means nothing."""
        if self.fate is not None:
            problem = self.fate.problem
            if problem is not None:
                raise problem()
            if self.fate.is_well:
                self.fate = None

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.numpy().item()

    def copy(self) -> DeviceArray:
        """A copy in fresh memory of the same device."""
        self.check()
        out = empty(self.device, self.shape, self.dtype)
        out.fate = self.fate
        if self.nbytes:
            self.device.copy(out.address, self.address, self.nbytes)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"an array on {self.device.name} cannot become a NumPy array without a copy")
        out = self.numpy()
        return out if dtype is None else out.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __format__(self, form: str) -> str:
        return str(self) if self.shape and not form else format(self.item() if not self.shape else self.numpy(), form)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return (self.shape != () and self is other) or self._compared(operator.eq, other)

    def __lt__(self, other: object) -> Any:
        return self._compared(operator.lt, other)

    def __le__(self, other: object) -> Any:
        return self._compared(operator.le, other)

    def __gt__(self, other: object) -> Any:
        return self._compared(operator.gt, other)

    def __ge__(self, other: object) -> Any:
        return self._compared(operator.ge, other)

    def _compared(self, how: Callable[[Any, Any], Any], other: object) -> Any:
        """Compare a number; arrays of the host would be compared element by element, which nothing here does."""
        if self.shape:
            raise TypeError(
                f"arrays on {self.device.name} are not compared element by element: copy them first, with numpy()"
            )
        return how(self.item(), other.item() if isinstance(other, DeviceArray) and not other.shape else other)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceArray:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.device.name, self.numpy())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.device.host:
            raise AttributeError(f"{self.device.name} is a device of the host")
        self.check()
        self.block.share()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, self.read_only),
            "strides": None,
            "version": 3,
            "stream": self.device.stream,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CPU, 0) if self.device.host else (dlpack.CUDA, self.device.ordinal)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        self.check()
        here = self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != here:
            if dl_device[0] != dlpack.CPU or copy is False:
                raise BufferError(f"an array on {self.device.name} cannot be exported to DLPack device {dl_device}")
            return self.numpy().__dlpack__(max_version=max_version)
        lent = self.copy() if copy else self
        versioned = max_version is not None and max_version[0] >= 1
        if lent.read_only and not versioned:
            raise BufferError("a read-only array needs the versioned form of DLPack (max_version)")
        if not self.device.host:
            _make_follow(lent, stream)
        return dlpack.lend(
            lent, lent.address, lent.shape, lent.dtype, here, versioned=versioned, read_only=lent.read_only
        )


def _make_follow(array: DeviceArray, stream: int | None) -> None:
    """Let a borrower's stream wait for the array to be ready."""
    if stream == 0:
        raise BufferError("DLPack has no stream 0: the default streams are 1 (legacy) and 2 (per thread)")
    if stream is None or stream == LEGACY:
        return  # our stream and the legacy default stream wait for each other
    array.block.share()
    if stream != -1:
        array.device.signal(stream)


def empty(device: Device, shape: tuple[int, ...], dtype: numpy.dtype[Any]) -> DeviceArray:
    """An array in fresh memory, not initialised."""
    return DeviceArray(device, device.allocate(math.prod(shape) * dtype.itemsize), shape, dtype)


def _restored(name: str, array: Array) -> DeviceArray:
    return DeviceArray.upload(devices.get(name), array)


class BorrowedBlock:
    """Memory of another library, whose object stays alive until work queued here is done."""

    __slots__ = ("address", "size", "_device", "_owner")

    def __init__(self, device: Device, address: int, size: int, owner: object) -> None:
        self.address, self.size, self._device, self._owner = address, size, device, owner

    def share(self) -> None:
        """Its owner decides when it is used again."""

    def __del__(self) -> None:
        self._device.retire(self._owner)


def from_other(value: Any, device: Device | None = None) -> DeviceArray:
    """An array of another library as a DeviceArray, without a copy where it is C-contiguous and aligned.

    The other library's work on it is waited for (on the device, not here), and its object kept alive. Otherwise the
    library is asked for a contiguous copy. Without `device` it stays on the device where it is.

    Raises: MixedDevicesError when it is on another device; DTypeError for other elements than numbers.
    """
    if isinstance(value, DeviceArray):
        if device is not None and value.device is not device:
            raise errors.mixed(_described(value), value.device.name, device.name)
        return value
    if device is None:
        device = devices.get(f"cuda:{value.__dlpack_device__()[1]}" if hasattr(value, "__dlpack_device__") else "cuda")
    taken = _taken(device, value)
    if taken is None:
        taken = _taken(device, _contiguous(device, value))
    if taken is None:
        raise errors.DeviceError(
            f"{_described(value)} is not C-contiguous and its library made no contiguous copy; make one before the call"
        )
    return taken


def _taken(device: Device, value: Any) -> DeviceArray | None:
    """The array itself; None if it is strided or not aligned."""
    found = of_torch(device, value)
    if found is not None:
        return found
    _check_place(device, value)
    if hasattr(value, "__dlpack__"):  # it says in which stream the array is ready, which the other need not
        return _by_dlpack(device, value)
    interface = getattr(value, "__cuda_array_interface__", None)
    if interface is None:
        raise errors.DeviceError(
            f"{_described(value)} has neither __cuda_array_interface__ nor __dlpack__: it is not an array on a device"
        )
    return _by_interface(device, value, interface)


def _check_place(device: Device, value: Any) -> None:
    if not hasattr(value, "__dlpack_device__"):
        return
    kind, ordinal = (int(part) for part in value.__dlpack_device__())
    if kind in (dlpack.CUDA, dlpack.CUDA_MANAGED) and not device.host:
        if ordinal != device.ordinal:
            raise errors.mixed(_described(value), f"cuda:{ordinal}", device.name)
    elif not (device.host and kind in (dlpack.CPU, dlpack.CUDA)):
        where = "the host" if kind in (dlpack.CPU, dlpack.CUDA_HOST) else f"a device of DLPack kind {kind}"
        raise errors.mixed(_described(value), where, device.name)


def of_torch(device: Device, value: Any) -> DeviceArray | None:
    """A tensor of torch that can be used as it is; None for others, which the protocols take or refuse.

    torch's own protocols are written in Python and take twenty times as long.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    if not value.is_cuda or value.requires_grad or value.is_conj() or value.is_neg() or not value.is_contiguous():
        return None
    ordinal, dtype = value.get_device(), _torch_types.get(value.dtype)
    if dtype is None:
        name = str(value.dtype).removeprefix("torch.")
        if name not in dtypes.BY_NAME:
            return None
        dtype = _torch_types[value.dtype] = dtypes.BY_NAME[name].numpy
    if ordinal != device.ordinal:
        return None
    stream = torch.cuda.current_stream(ordinal).cuda_stream
    if stream != 0:  # not the legacy stream, for which ours waits by itself
        device.wait_for(stream)
    return _borrowed(device, value.data_ptr(), tuple(value.shape), dtype, value, False)


_torch_types: dict[Any, numpy.dtype[Any]] = {}


def _by_interface(device: Device, value: Any, interface: dict[str, Any]) -> DeviceArray | None:
    address, read_only = interface["data"]
    shape = tuple(interface["shape"])
    if interface.get("mask") is not None:
        raise errors.DeviceError(f"{_described(value)} has a mask; masked arrays are not supported")
    dtype = _plain(numpy.dtype(interface["typestr"]), value)
    steps = interface.get("strides")
    if steps is not None and not _in_order(shape, [step / dtype.itemsize for step in steps]):
        return None
    if math.prod(shape) and not hasattr(value, "__dlpack_device__"):
        ordinal = device.ordinal_of(address)
        if ordinal is not None and ordinal != device.ordinal:
            raise errors.mixed(_described(value), f"cuda:{ordinal}", device.name)
    stream = interface.get("stream")
    if stream is not None and stream != LEGACY:
        device.wait_for(stream)
    return _borrowed(device, address or 0, shape, dtype, value, bool(read_only))


def _by_dlpack(device: Device, value: Any) -> DeviceArray | None:
    stream = None if device.host else LEGACY  # our stream waits for it by itself, and so most often does the other
    try:
        capsule = value.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # from before 2024, without max_version
        capsule = value.__dlpack__(stream=stream)
    loan = dlpack.Loan(capsule)
    dtype = _plain(loan.dtype, value)
    if not _in_order(loan.shape, loan.steps):
        return None
    return _borrowed(device, loan.address, loan.shape, dtype, loan, loan.read_only)


def _borrowed(
    device: Device, address: int, shape: tuple[int, ...], dtype: numpy.dtype[Any], owner: object, read_only: bool
) -> DeviceArray | None:
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return empty(device, shape, dtype)
    if address % dtype.itemsize:
        return None
    block = BorrowedBlock(device, address, size, owner)
    return DeviceArray(device, block, shape, dtype, read_only=read_only)


def _plain(dtype: numpy.dtype[Any], value: Any) -> numpy.dtype[Any]:
    if dtype.kind not in "biufc" or not dtype.isnative or dtype.itemsize > 16:
        raise DTypeError(f"{_described(value)} has elements of {dtype}, which are not supported on devices")
    return dtype


def _in_order(shape: tuple[int, ...], steps: Any) -> bool:
    """Whether steps (in elements) are those of a C-contiguous array, where they matter."""
    expected = dlpack.contiguous_steps(shape)
    return 0 in shape or all(
        length == 1 or step == wanted for length, step, wanted in zip(shape, steps, expected, strict=True)
    )


def _contiguous(device: Device, value: Any) -> Any:
    """A C-contiguous copy made by the library of the array: torch says `contiguous`, CuPy and NumPy say `copy`."""
    for method in ("contiguous", "copy"):
        make = getattr(value, method, None)
        if callable(make):
            return make()
    raise errors.DeviceError(
        f"{_described(value)} is not C-contiguous, or not aligned to its elements: {device.name} needs a contiguous "
        "array. Make a contiguous copy of it before the call."
    )


def _described(value: Any) -> str:
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    shape = getattr(value, "shape", None)
    name = kind.__name__ if library in ("builtins", "symtensor_codegen") else f"{library}.{kind.__name__}"
    return f"the array ({name}{'' if shape is None else f' of shape {tuple(shape)}'})"
