"""Shared variables: state that lives between calls of compiled functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes
from symtensor_codegen.cells import Cell
from symtensor_codegen.errors import DTypeError, ShapeError

from .devices import (
    CPU,
    copied_home,
    is_device_array,
    move,
    named,
    only_compiles,
    place_name,
    place_of,
    received,
    transferred,
)
from .graph import Tensor, _leaf
from .opdef import SHARED
from .settings import config
from .types import TensorType, tensor_type


class ArgumentShapeError(ShapeError, TypeError):
    """A value has not the rank or a fixed size of its variable; to Theano that is a TypeError."""


class SharedVariable(Tensor):
    """A variable with a value that functions read, and change by ``updates``.

    The value may change its sizes (not its rank or element type), so a shared array has no static sizes
    unless it is given some (``broadcastable`` or ``shape``). It lives on one device, its ``device``; functions that
    are compiled for a device bring their variables there, and ``to`` moves it.
    """

    cell: Cell
    default_update: Tensor | None

    def get_value(self, borrow: bool = False, return_internal_type: bool = False) -> Any:
        """The current value: a copy, or with ``borrow`` the array itself, which later calls may change.

        Of a variable on a device it is a copy on this machine; with ``return_internal_type`` the device array, or a
        copy of it on the device.
        """
        remote = self.cell.remote
        if remote is not None:
            if not return_internal_type:
                return self.cell.get()
            return remote.array if borrow else remote.array.copy()
        array = self.cell.get()
        return array if borrow else array.copy()

    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Replace the value.

        It is converted to the variable's element type if nothing is lost by that; with ``borrow`` an array
        that fits as it is becomes the variable's own memory. The variable stays on its device; an array on that
        device (a ``get_value(..., return_internal_type=True)``, or of CuPy, torch, JAX) is copied there.

        Raises:
            DTypeError: the value cannot be converted without loss.
            ShapeError: another rank, or another size on an axis whose size is fixed.
        """
        if self.cell.remote is not None and is_device_array(value) and self._set_there(value, borrow):
            return
        self.cell.set(accepted(value, self.type, f"set_value of {self.name or 'a shared variable'}", borrow))

    def _set_there(self, value: Any, borrow: bool) -> bool:
        """Take an array on the device of this variable; False where it is elsewhere or must be converted."""
        remote = self.cell.remote
        assert remote is not None
        device = remote.array.device
        if place_name(value) not in ("", device.name):
            return False
        array = received(value, device)
        fits: bool = array.dtype == self.cell.dtype and len(array.shape) == self.ndim
        if fits:
            check_sizes(array.shape, self.type, f"set_value of {self.name or 'a shared variable'}")
            array.settle()
            remote.array = array if borrow and not array.read_only else array.copy()
        return fits

    def zero(self, borrow: bool = False) -> None:
        """Fill the value with zeros, keeping its shape."""
        self.set_value(np.zeros(self.cell.shape, self.cell.dtype), borrow=True)

    @property
    def device(self) -> str:
        """The device that the value is on."""
        return place_of(self)

    def to(self, device: str) -> "SharedVariable":
        """Move the value to a device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; the variable itself is returned.

        Raises:
            MixedDevicesError: a function that runs elsewhere uses the variable.
        """
        transferred(self, device)
        return self

    @property
    def container(self) -> Cell:
        """What holds the value; copies made with ``copy.copy`` share it."""
        return self.cell

    @property
    def value(self) -> Any:
        """Refused, as in Theano: it is not clear whether it would copy."""
        raise AttributeError("use get_value() and set_value() instead of .value")

    def __copy__(self) -> "SharedVariable":
        return _shared(self.type, self.cell, self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedVariable":
        found: SharedVariable | None = memo.get(id(self))
        if found is None:
            found = memo[id(self)] = _shared(self.type, self.cell.copy(), self.name)
        return found


def _shared(kind: TensorType, cell: Cell, name: str | None) -> SharedVariable:
    made: SharedVariable = _leaf(SharedVariable, SHARED, kind, name)
    made.cell = cell
    made.default_update = None
    return made


def shared(
    value: Any,
    name: str | None = None,
    strict: bool = False,
    allow_downcast: bool | None = None,
    borrow: bool = False,
    broadcastable: Sequence[bool] | None = None,
    shape: Sequence[int | None] | None = None,
    target: str | None = None,
) -> SharedVariable:
    """A shared variable with this first value.

    Args:
        value: an array or number; its element type and rank are the variable's for good.
        name: for messages and printing.
        strict: refuse values that are not NumPy arrays or scalars.
        borrow: use the array itself as the variable's memory instead of a copy.
        broadcastable: the axes of size 1 that broadcast (Theano's pattern); by default none.
        shape: sizes that are fixed (None: may change); an alternative to ``broadcastable``.
        target: the device that the value is put on, by default that of an array on a device, else ``config.device``.
    """
    if isinstance(value, Tensor):
        raise TypeError(f"shared: the value must be an array or number, not the expression {value!r}")
    if strict and not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"shared(strict=True): the value must be a NumPy array, not {type(value).__name__}")
    array = _numeric(value, "shared")
    element = dtypes.of(array.dtype)
    sizes: tuple[int | None, ...] = tuple(None for _ in array.shape)
    if shape is not None:
        sizes = tuple(shape)
    elif broadcastable is not None:
        sizes = tuple(1 if flag else None for flag in broadcastable)
    kind = tensor_type(element, sizes)
    home = place_name(value) if target is None and is_device_array(value) else ""
    device = named(home or config.device if target is None else target, "shared")
    made = _shared(kind, Cell(accepted(array, kind, "shared", borrow)), name)
    if device != CPU and not only_compiles(device):
        move(made.cell, device)
    return made


def accepted(value: Any, kind: TensorType, what: str, borrow: bool = False) -> npt.NDArray[Any]:
    """``value`` as an array that fits a type: C order, native byte order, own memory unless ``borrow``.

    Raises:
        DTypeError: converting would lose something.
        ShapeError: the rank or a fixed size differs.
    """
    array = converted(value, kind, what, advice=f"convert it: value.astype({kind.dtype!r})")
    check_sizes(array.shape, kind, what)
    if np.shares_memory(array, np.asarray(value)) and not (borrow and value is array):
        return array.copy()
    return array


def check_sizes(shape: tuple[int, ...], kind: TensorType, what: str) -> None:
    """Refuse other sizes than those that a type fixes."""
    for axis, size in enumerate(kind.shape):
        if size is not None and shape[axis] != size:
            raise ArgumentShapeError(f"{what}: axis {axis} must have size {size}, got shape {shape}")


def converted(
    value: Any,
    kind: TensorType,
    what: str,
    downcast: bool | None = False,
    advice: str = "convert it",
    strict: bool = False,
) -> npt.NDArray[Any]:
    """``value`` as an exact, C-contiguous ndarray of a type's element type and rank.

    Arrays are converted only where every value of their type fits (``downcast=True`` allows any conversion
    between numbers); lists and Python numbers where this value fits, and Python floats also into floatX.
    ``strict``: nothing is converted, and only NumPy's arrays and scalars are taken.
    """
    wanted = kind.element.numpy
    if strict and not (isinstance(value, (np.ndarray, np.generic)) and value.dtype == wanted):
        got = getattr(value, "dtype", None) or type(value).__name__
        raise DTypeError(f"{what}: a strict input takes NumPy arrays of {kind.dtype} only, not {got}; convert it first")
    if isinstance(value, Tensor):
        raise TypeError(f"{what}: expected an array, got the expression {value!r}; compile it or use .eval()")
    array = _numeric(value, what)
    if array.ndim != kind.ndim:
        wanted_rank = "1 dimension" if kind.ndim == 1 else f"{kind.ndim} dimensions"
        raise ArgumentShapeError(f"{what}: expected {wanted_rank} ({kind}), got {array.ndim} (shape {array.shape})")
    if array.dtype != wanted:
        if not _may_convert(value, array, wanted, downcast):
            got = str(array.dtype)
            if array.size <= 4 and not isinstance(value, (np.ndarray, np.generic)):
                got = f"{value!r} ({got})"
            raise DTypeError(f"{what}: {got} does not convert to {kind.dtype} without loss; {advice}")
        array = array.astype(wanted)
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy(order="C")


def _numeric(value: Any, what: str) -> npt.NDArray[Any]:
    """``value`` as an array of numbers of its own type."""
    if is_device_array(value):
        value = copied_home(value)
    try:
        array: npt.NDArray[Any] = np.asarray(value)
    except ValueError:
        if not isinstance(value, (list, tuple)):
            raise
        raise ShapeError(f"{what}: the rows of a nested list must have equal lengths") from None
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{what}: {value!r} is not numeric (NumPy gives it dtype {array.dtype})")
    return array


def _may_convert(value: Any, array: npt.NDArray[Any], wanted: np.dtype[Any], downcast: bool | None) -> bool:
    if downcast:
        return wanted.kind == "c" or array.dtype.kind != "c"
    if np.can_cast(array.dtype, wanted, "safe"):
        return True
    if isinstance(value, (np.ndarray, np.generic)):
        return False
    if isinstance(value, float) and wanted == np.dtype(config.floatX):
        return True
    if array.dtype.kind == "c" != wanted.kind or (wanted.kind == "u" and bool((array < 0).any())):
        return False
    with np.errstate(all="ignore"):
        return bool(
            np.array_equal(
                array.astype(wanted).astype(array.dtype), array, equal_nan=array.dtype.kind in "fc"
            )
        )
