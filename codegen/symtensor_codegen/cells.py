"""The state of a compiled function: one array that calls read and replace, here or on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cell", "RemoteCell"]


class Cell:
    """Holds the current array of a shared variable: C-contiguous, aligned, writeable, fixed dtype and rank.

    Native code reads and replaces the array in the slot `_array`, so nothing else may be put there. While the
    variable is on a device, `remote` holds its value, and `_array` an array of this type without elements (or,
    without axes, of no meaning). `users` are the functions that were compiled over the cell where it is now.
    """

    __slots__ = ("__weakref__", "_array", "remote", "users")

    _array: NDArray[Any]
    remote: RemoteCell | None
    users: WeakSet[Any] | None

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = conforming(array)
        self.remote = None
        self.users = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The current sizes; nothing is copied from a device."""
        found: tuple[int, ...] = self._array.shape if self.remote is None else self.remote.array.shape
        return found

    def get(self) -> NDArray[Any]:
        """The current array itself, which a later call may write into; of a cell on a device, a copy."""
        if self.remote is None:
            return self._array
        copied: NDArray[Any] = self.remote.array.numpy()
        return copied

    def set(self, array: NDArray[Any]) -> None:
        """Replace the array, by itself when it has the right layout, else by a copy; on a device by a copy there.

        ValueError when dtype or rank differ from the array it replaces.
        """
        if array.dtype != self._array.dtype or array.ndim != self._array.ndim:
            raise ValueError(
                f"a cell of {self._array.dtype} with {self._array.ndim} axes cannot hold "
                f"{array.dtype} with {array.ndim} axes"
            )
        if self.remote is None:
            self._array = conforming(array)
        else:
            self.remote.array = self.remote.upload(conforming(array))

    def copy(self) -> Cell:
        """A cell of its own, in the same place, with a copy of the array."""
        remote = self.remote
        if remote is None:
            return Cell(self._array.copy())
        made = Cell(self._array)
        made.remote = RemoteCell(remote.array.copy(), remote.upload)
        return made

    def move(self, remote: RemoteCell | None) -> None:
        """Let the value be on a device from now on, or (None) here again; the caller has copied it there."""
        self._array = self.get() if remote is None else np.zeros((0,) * self.ndim, self.dtype)
        self.remote = remote

    def __reduce__(self) -> tuple[type[Cell], tuple[NDArray[Any]]]:
        return Cell, (self.get(),)


class RemoteCell:
    """The current array of a shared variable on a device.

    `array` is a device array (`device`, `shape`, `dtype`, `numpy()`), which programs on the device read and
    replace; `upload` copies an array of this machine to the device.
    """

    __slots__ = ("array", "upload")

    def __init__(self, array: Any, upload: Callable[[NDArray[Any]], Any]) -> None:
        self.array, self.upload = array, upload


def conforming(array: NDArray[Any]) -> NDArray[Any]:
    """`array` when native code can use it as it is, else a copy that it can use."""
    flags = array.flags
    if type(array) is np.ndarray and flags.carray and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)
