"""Python types whose instances are called through a native vectorcall pointer.

Made with `PyType_FromSpecWithBases`, so nothing is assumed about the layout of type objects: a subclass of
any Python class, with three words behind its fields: the vectorcall function, the descriptor of the
compiled function, and a reference to what both need to stay alive.
"""

from __future__ import annotations

import ctypes
from typing import Any, TypeVar

from symtensor_codegen.errors import InternalError

__all__ = ["DESCRIPTOR_BYTES", "derive", "install"]

T = TypeVar("T")

# The same place in every such type, so the entry point knows where to look; the fields of `cls` come before.
_VECTORCALL_BYTES = 128
DESCRIPTOR_BYTES = _VECTORCALL_BYTES + 8
"""Where an instance has the pointer to its descriptor."""
_KEEP_BYTES = _VECTORCALL_BYTES + 16
_TOTAL_BYTES = _VECTORCALL_BYTES + 24

_TPFLAGS_DEFAULT = 1 << 18
_TPFLAGS_HAVE_VECTORCALL = 1 << 11
_SLOT_TP_CALL, _SLOT_TP_MEMBERS = 50, 72
_T_OBJECT_EX, _T_PYSSIZET, _READONLY = 16, 19, 1


class _Member(ctypes.Structure):
    """CPython's `PyMemberDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Slot(ctypes.Structure):
    """CPython's `PyType_Slot`."""

    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _TypeSpec(ctypes.Structure):
    """CPython's `PyType_Spec`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


_alive: list[Any] = []
"""Structures that CPython keeps pointers to."""


def derive(cls: type[T]) -> type[T]:
    """A subclass of `cls` with room for a native call; InternalError when `cls` has too many slots."""
    if cls.__basicsize__ > _VECTORCALL_BYTES:
        raise InternalError(f"{cls.__name__} has too many slots to be called natively")
    members = (_Member * 3)(
        _Member(b"__vectorcalloffset__", _T_PYSSIZET, _VECTORCALL_BYTES, _READONLY, None),
        _Member(b"_native_keep", _T_OBJECT_EX, _KEEP_BYTES, 0, None),
    )
    slots = (_Slot * 3)(
        _Slot(_SLOT_TP_MEMBERS, ctypes.addressof(members)),
        _Slot(_SLOT_TP_CALL, ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p).value),
    )
    name = f"{cls.__module__}.{cls.__name__}".encode()
    flags = _TPFLAGS_DEFAULT | _TPFLAGS_HAVE_VECTORCALL
    spec = _TypeSpec(name, _TOTAL_BYTES, 0, flags, slots)
    _alive.append((members, slots, name, spec))
    make = ctypes.pythonapi.PyType_FromSpecWithBases
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.POINTER(_TypeSpec), ctypes.py_object)
    made: type[T] = make(ctypes.byref(spec), (cls,))
    made.__doc__ = cls.__doc__
    return made


def install(function: object, entry: int, descriptor: int, keep: tuple[Any, ...]) -> None:
    """Give `function`, an instance of a derived type, its native call; `keep` lives as long as it does."""
    function._native_keep = keep  # type: ignore[attr-defined]
    ctypes.c_size_t.from_address(id(function) + DESCRIPTOR_BYTES).value = descriptor
    ctypes.c_size_t.from_address(id(function) + _VECTORCALL_BYTES).value = entry
