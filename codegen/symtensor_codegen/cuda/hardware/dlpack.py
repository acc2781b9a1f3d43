"""Arrays in and out of other libraries by DLPack (https://dmlc.github.io/dlpack), the versioned form and the older one.

A capsule carries a C structure that describes the array, with a function that ends the loan. A capsule that is dropped
before anybody takes the array would end it by a destructor. Ours have none: it would be called while the exception is
set for which a library dropped the capsule, when no Python code may run. They are kept here instead, and looked through
whenever something is lent or memory is short.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from array import array
from struct import Struct, unpack
from threading import Lock
from typing import Any

import numpy

from symtensor_codegen.errors import DTypeError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices."""

_READ_ONLY = 1
_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_CODES = {code: kind for kind, code in _KINDS.items()}
_OTHER_CODES = {3: "opaque handles", 4: "bfloat16"}

_TENSOR = "PiiiBBHPPQ"
"""Data, kind and number of the device, dimensions, type code, bits, lanes, shape, strides, offset in bytes."""
_MANAGED = Struct(_TENSOR + "PP")
"""The tensor, a context of the lender, the function which ends the loan."""
_VERSIONED = Struct("IIPPQ" + _TENSOR)
"""Version (two numbers), context, the function, flags, the tensor."""
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_NAME, _USED = b"dltensor", b"used_dltensor"
_NAME_VERSIONED, _USED_VERSIONED = b"dltensor_versioned", b"used_dltensor_versioned"


def _python(name: str, result: Any, *arguments: Any) -> Any:
    """A function of Python's C interface; an object of its own, since other libraries declare the shared one."""
    function = ctypes.pythonapi[name]
    function.restype, function.argtypes = result, arguments
    return function


_new = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_rename = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)

_lent: dict[int, tuple[object, ...]] = {}
"""What other libraries borrow: by the address of its structure, all that must stay alive."""
_offered: list[tuple[Any, int]] = []
"""Capsules that may still be taken, with the addresses of their structures."""
_OURS = 3  # references to a capsule that nobody else has: in the list, of a variable, of the count itself
_lock = Lock()


def _give_back(address: int) -> None:
    _lent.pop(address, None)


def collect() -> None:
    """End the loans of capsules that were dropped before anybody took them."""
    if not _offered:
        return
    ended = []  # owners; they go when the lock is free
    with _lock:
        for offer in list(_offered):
            capsule, location = offer
            if not _is_valid(capsule, _NAME) and not _is_valid(capsule, _NAME_VERSIONED):
                _offered.remove(offer)  # somebody took it: the name is another one
            elif sys.getrefcount(capsule) <= _OURS:
                _offered.remove(offer)
                ended.append(_lent.pop(location, None))


_give_back_in_c = _Deleter(_give_back)
_GIVE_BACK = ctypes.cast(_give_back_in_c, ctypes.c_void_p).value


def lend(
    owner: object,
    address: int,
    shape: tuple[int, ...],
    dtype: numpy.dtype[Any],
    device: tuple[int, int],
    *,
    versioned: bool,
    read_only: bool = False,
) -> Any:
    """A capsule for C-contiguous memory of `owner`, which is kept alive until the borrower gives it back."""
    collect()
    numbers = array("q", shape + contiguous_steps(shape))
    lengths = numbers.buffer_info()[0]
    kind = (_KINDS[dtype.kind], dtype.itemsize * 8, 1)
    tensor = (address, *device, len(shape), *kind, lengths, lengths + 8 * len(shape), 0)
    if versioned:
        packed = _VERSIONED.pack(1, 0, 0, _GIVE_BACK, _READ_ONLY if read_only else 0, *tensor)
    else:
        packed = _MANAGED.pack(*tensor, 0, _GIVE_BACK)
    managed = ctypes.create_string_buffer(packed, len(packed))
    location = ctypes.addressof(managed)
    _lent[location] = (owner, managed, numbers)
    capsule = _new(location, _NAME_VERSIONED if versioned else _NAME, None)
    _offered.append((capsule, location))
    return capsule


class Loan:
    """Memory borrowed from another library; it ends when the object is dropped."""

    __slots__ = ("address", "device", "dtype", "read_only", "shape", "steps", "_deleter", "_location")

    def __init__(self, capsule: Any) -> None:
        versioned = bool(_is_valid(capsule, _NAME_VERSIONED))
        if not versioned and not _is_valid(capsule, _NAME):
            raise ValueError("__dlpack__ did not return a capsule that may be used (each is for one use)")
        flags = 0
        if versioned:
            location = _pointer(capsule, _NAME_VERSIONED)
            content = _VERSIONED.unpack(ctypes.string_at(location, _VERSIONED.size))
            major, minor, _, deleter, flags, *tensor = content
            if major != 1:
                raise ValueError(f"__dlpack__ returned version {major}.{minor}; 1.x is understood")
        else:
            location = _pointer(capsule, _NAME)
            *tensor, _, deleter = _MANAGED.unpack(ctypes.string_at(location, _MANAGED.size))
        data, kind, ordinal, ndim, code, bits, lanes, shape, steps, offset = tensor
        self.dtype = _dtype(code, bits, lanes)
        self.shape = _numbers(shape, ndim)
        self.steps = _numbers(steps, ndim) if steps else contiguous_steps(self.shape)
        self.address: int = data + offset
        self.device = (kind, ordinal)
        self.read_only = bool(flags & _READ_ONLY)
        # Only now is the loan ours: after an error above the capsule itself ends it.
        _rename(capsule, _USED_VERSIONED if versioned else _USED)
        self._location, self._deleter = location, deleter

    def __del__(self) -> None:
        deleter = getattr(self, "_deleter", 0)
        if deleter and not sys.is_finalizing():
            _Deleter(deleter)(self._location)


def contiguous_steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a C-contiguous array, in elements.

    >>> contiguous_steps((2, 3, 4))
    (12, 4, 1)
    """
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    return tuple(steps)


def _numbers(address: int, count: int) -> tuple[int, ...]:
    return unpack(f"{count}q", ctypes.string_at(address, 8 * count))


@functools.cache
def _dtype(code: int, bits: int, lanes: int) -> numpy.dtype[Any]:
    kind = _CODES.get(code)
    try:
        if kind is None or lanes != 1 or bits % 8:
            raise TypeError
        return numpy.dtype(f"{kind}{bits // 8}")
    except TypeError:
        name = _OTHER_CODES.get(code, f"DLPack type code {code}")
        raise DTypeError(f"arrays of {name}, {bits} bits x {lanes}, are not supported") from None
