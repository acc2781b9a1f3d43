"""The state of a compiled function: one array that calls read and replace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cell"]


class Cell:
    """Holds the current array of a shared variable: C-contiguous, aligned, writeable, fixed dtype and rank.

    Native code reads and replaces the array in the slot `_array`, so nothing else may be put there.
    """

    __slots__ = ("__weakref__", "_array")

    _array: NDArray[Any]

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = conforming(array)

    def get(self) -> NDArray[Any]:
        """The current array itself; a later call may write into it."""
        return self._array

    def set(self, array: NDArray[Any]) -> None:
        """Replace the array, by itself when it has the right layout, else by a copy.

        ValueError when dtype or rank differ from the array it replaces.
        """
        if array.dtype != self._array.dtype or array.ndim != self._array.ndim:
            raise ValueError(
                f"a cell of {self._array.dtype} with {self._array.ndim} axes cannot hold "
                f"{array.dtype} with {array.ndim} axes"
            )
        self._array = conforming(array)

    def __reduce__(self) -> tuple[type[Cell], tuple[NDArray[Any]]]:
        return Cell, (self._array,)


def conforming(array: NDArray[Any]) -> NDArray[Any]:
    """`array` when native code can use it as it is, else a copy that it can use."""
    flags = array.flags
    if type(array) is np.ndarray and flags.carray and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)
