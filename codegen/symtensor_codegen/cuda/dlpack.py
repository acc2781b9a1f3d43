"""Arrays in and out of other libraries by DLPack (https://dmlc.github.io/dlpack), the versioned form and the older one.

A capsule carries a C structure that describes the array, and a function that ends the loan. Both are made and read
with ctypes.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy

from ..errors import DTypeError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices."""

_READ_ONLY = 1
_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_CODES = {code: kind for kind, code in _KINDS.items()}
_OTHER_CODES = {3: "opaque handles", 4: "bfloat16"}


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_NAME, _USED = b"dltensor", b"used_dltensor"
_NAME_VERSIONED, _USED_VERSIONED = b"dltensor_versioned", b"used_dltensor_versioned"

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)

# A capsule that is being destroyed has no references left: these two take its bare address, so that none is made.
_bare = ctypes.PyDLL(None)
_bare.PyCapsule_IsValid.restype, _bare.PyCapsule_IsValid.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)
_bare.PyCapsule_GetPointer.restype = ctypes.c_void_p
_bare.PyCapsule_GetPointer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

_lent: dict[int, tuple[object, ...]] = {}
"""What other libraries borrow: by the address of its structure, all that must stay alive."""


def _give_back(address: int) -> None:
    _lent.pop(address, None)


def _capsule_dropped(capsule: int) -> None:
    for name in (_NAME, _NAME_VERSIONED):
        if _bare.PyCapsule_IsValid(capsule, name):  # nobody took it: the name would be another one
            _lent.pop(_bare.PyCapsule_GetPointer(capsule, name), None)


_give_back_in_c = _Deleter(_give_back)
_capsule_dropped_in_c = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_capsule_dropped)


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
    lengths = (ctypes.c_int64 * len(shape))(*shape)
    steps = (ctypes.c_int64 * len(shape))(*contiguous_steps(shape))
    tensor = _Tensor(
        address,
        _Device(*device),
        len(shape),
        _DataType(_KINDS[dtype.kind], dtype.itemsize * 8, 1),
        ctypes.cast(lengths, ctypes.POINTER(ctypes.c_int64)),
        ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64)),
        0,
    )
    managed: _Managed | _ManagedVersioned
    if versioned:
        managed = _ManagedVersioned(1, 0, None, _give_back_in_c, _READ_ONLY if read_only else 0, tensor)
    else:
        managed = _Managed(tensor, None, _give_back_in_c)
    location = ctypes.addressof(managed)
    _lent[location] = (owner, managed, lengths, steps)
    return _new(location, _NAME_VERSIONED if versioned else _NAME, ctypes.cast(_capsule_dropped_in_c, ctypes.c_void_p))


class Loan:
    """Memory borrowed from another library; it ends when the object is dropped."""

    __slots__ = ("address", "device", "dtype", "read_only", "shape", "steps", "_deleter", "_location")

    def __init__(self, capsule: Any) -> None:
        versioned = bool(_is_valid(capsule, _NAME_VERSIONED))
        if not versioned and not _is_valid(capsule, _NAME):
            raise ValueError("__dlpack__ did not return a capsule that may be used (each is for one use)")
        location = _pointer(capsule, _NAME_VERSIONED if versioned else _NAME)
        managed = (_ManagedVersioned if versioned else _Managed).from_address(location)
        if versioned and managed.major != 1:
            raise ValueError(f"__dlpack__ returned version {managed.major}.{managed.minor}; 1.x is understood")
        tensor = managed.tensor
        self.dtype = _dtype(tensor.dtype)
        self.shape = tuple(tensor.shape[: tensor.ndim])
        self.steps = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else contiguous_steps(self.shape)
        self.address = (tensor.data or 0) + tensor.byte_offset
        self.device = (tensor.device.kind, tensor.device.ordinal)
        self.read_only = versioned and bool(managed.flags & _READ_ONLY)
        # Only now is the loan ours: after an error above the capsule itself ends it.
        _rename(capsule, _USED_VERSIONED if versioned else _USED)
        self._location, self._deleter = location, managed.deleter

    def __del__(self) -> None:
        deleter = getattr(self, "_deleter", None)
        if deleter and not sys.is_finalizing():
            deleter(self._location)


def contiguous_steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a C-contiguous array, in elements.

    >>> contiguous_steps((2, 3, 4))
    (12, 4, 1)
    """
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    return tuple(steps)


def _dtype(described: Any) -> numpy.dtype[Any]:
    kind, size = _CODES.get(described.code), described.bits // 8
    try:
        if kind is None or described.lanes != 1 or described.bits % 8:
            raise TypeError
        return numpy.dtype(f"{kind}{size}")
    except TypeError:
        name = _OTHER_CODES.get(described.code, f"DLPack type code {described.code}")
        raise DTypeError(f"arrays of {name}, {described.bits} bits x {described.lanes}, are not supported") from None
