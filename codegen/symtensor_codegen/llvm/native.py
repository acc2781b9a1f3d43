"""The native run time in memory: compiled once, linked to CPython, NumPy and the C library, never unloaded.

What the IR takes for granted about object layouts (offsets in arrays, tuples, floats and cells) is checked
here against real objects before anything uses it. When a check fails, or the interpreter has no GIL,
`runtime()` is None and callers use `symtensor_codegen.llvm.calling_portable`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from _thread import allocate_lock
from typing import Any

import numpy as np

from symtensor_codegen import cache
from symtensor_codegen.cells import Cell
from symtensor_codegen.llvm import jit, runtime_ir, threads
from symtensor_codegen.llvm.target import fingerprint

__all__ = ["Runtime", "runtime"]

_PYTHON_SYMBOLS = (
    "Py_IncRef", "Py_DecRef", "PyLong_AsLongLongAndOverflow", "PyLong_FromLongLong", "PyObject_Vectorcall",
    "PyList_New", "PyList_SetItem", "PyErr_SetObject", "PyErr_Clear", "PyErr_CheckSignals",
    "PyEval_SaveThread", "PyEval_RestoreThread", "PyThread_get_thread_ident", "PyThread_acquire_lock",
    "PyThread_release_lock", "PyThread_allocate_lock", "PyThread_start_new_thread",
)  # fmt: skip
_C_SYMBOLS = ("malloc", "free", "memset", "memcpy")
_POSIX_SYMBOLS = ("mmap", "munmap", "sched_yield")
_WINDOWS_SYMBOLS = ("VirtualAlloc", "VirtualFree", "SwitchToThread")
_PROGRAM_SYMBOLS = (
    "st_output", "st_alloc", "st_parallel_for", "st_interrupted", "st_release_gil", "st_mark", "st_give_back",
    "st_blas_threads",
)  # fmt: skip
_INTERNAL_SYMBOLS = (
    "st_entry", "st_handler", "st_update_owner", "st_update_lock", "st_block",
    "st_block_free", "st_memory_cached", "st_memory_limit", "st_memory_release", "st_memory_forked",
    "st_handler_malloc", "st_handler_calloc", "st_handler_realloc", "st_handler_free", "st_threads",
    "st_start_threads", "st_threads_forked", "st_blas_jobs", "st_blas_limit",
)  # fmt: skip
_HANDLER_FUNCTIONS = ("malloc", "calloc", "realloc", "free")
_ARRAY_NEW_FROM_DESCR = 94
_DATAMEM_GET_HANDLER = 305


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class _Handler(ctypes.Structure):
    """NumPy's `PyDataMem_Handler` (NEP 49)."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator))


class Runtime:
    """Addresses of the loaded run time."""

    def __init__(self) -> None:
        code = _object_code(array_offset())
        self._library = jit.load(code, _imports(), (*_PROGRAM_SYMBOLS, *_INTERNAL_SYMBOLS))
        self.program_symbols = {name: self._library.address(name) for name in _PROGRAM_SYMBOLS}
        self._handler = _Handler(
            b"symtensor",
            1,
            _Allocator(None, *(self._library.address(f"st_handler_{name}") for name in _HANDLER_FUNCTIONS)),
        )
        self._capsule = _new_capsule(ctypes.addressof(self._handler), b"mem_handler", None)
        self.word("st_handler").value = id(self._capsule)
        # Worker threads, and arrays freed while the interpreter shuts down, use these to the very end.
        for lasting in (self._library, self._handler, self._capsule):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(lasting))
        self._renew_update_lock()
        self.word("st_memory_limit").value = _memory_limit()
        self.word("st_threads").value = threads.default_count()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def address(self, name: str) -> int:
        """Address of a symbol of the run time."""
        return self._library.address(name)

    def word(self, name: str) -> ctypes.c_int64:
        """The 64-bit global variable `name`, as it is now."""
        return ctypes.c_int64.from_address(self._library.address(name))

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """`name` as a ctypes function that is called without the GIL."""
        return ctypes.CFUNCTYPE(result, *arguments)(self._library.address(name))

    def _renew_update_lock(self) -> None:
        allocate = ctypes.pythonapi.PyThread_allocate_lock
        allocate.restype = ctypes.c_void_p
        self.word("st_update_lock").value = allocate()
        self.word("st_update_owner").value = 0

    def _forked(self) -> None:
        """The child has one thread: no workers, and nobody holds a lock."""
        self._renew_update_lock()
        self.function("st_memory_forked", None)()
        self.function("st_threads_forked", None)()


def _memory_limit() -> int:
    """Bytes of unused blocks to keep: an eighth of the machine's memory, at most 2 GB."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        total = 8 << 30
    return min(2 << 30, total // 8)


def _object_code(array_bytes: int) -> bytes:
    source = runtime_ir.text(array_bytes)
    key = cache.key("runtime, quick", fingerprint(), source)
    code = cache.get(key)
    if code is None:
        code = jit.compile_ir(source, quick=True)
        cache.put(key, code)
    return code


def _imports() -> dict[str, int]:
    """Addresses of everything the run time calls."""
    python = {name: _address(ctypes.pythonapi, name) for name in _PYTHON_SYMBOLS}
    types = {"PyArray_Type": id(np.ndarray), "PyFloat_Type": id(float), "PyLong_Type": id(int)}
    if sys.platform == "win32":
        library = ctypes.cdll.msvcrt
        system = {name: _address(ctypes.windll.kernel32, name) for name in _WINDOWS_SYMBOLS}
    else:
        library = ctypes.CDLL(None)
        names = (*_POSIX_SYMBOLS, "madvise") if sys.platform == "linux" else _POSIX_SYMBOLS
        system = {name: _address(library, name) for name in names}
    c_library = {name: _address(library, name) for name in _C_SYMBOLS}
    numpy_api = {"PyArray_NewFromDescr": _numpy_table()[_ARRAY_NEW_FROM_DESCR]}
    return python | types | system | c_library | numpy_api


def _address(library: Any, name: str) -> int:
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address is not None
    return address


def _numpy_table() -> Any:
    """NumPy's table of C-API functions, as an array of addresses."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    table = pointer(_multiarray_umath._ARRAY_API, None)
    return (ctypes.c_size_t * (_DATAMEM_GET_HANDLER + 1)).from_address(table)


def _new_capsule(address: int, name: bytes, destructor: None) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return new(address, name, destructor)


def _word_at(thing: object, offset: int) -> int:
    return ctypes.c_int64.from_address(id(thing) + offset).value


@functools.cache
def array_offset() -> int:
    """Where a `Cell` holds its array: bytes from the start of the object; -1 when it cannot be found."""
    array = np.zeros(3)
    cell = Cell(array)
    size = type(cell).__basicsize__
    places = [at for at in range(16, size, 8) if _word_at(cell, at) == id(array)]
    return places[0] if len(places) == 1 else -1


def _int_at(thing: object, offset: int) -> int:
    return ctypes.c_int32.from_address(id(thing) + offset).value


def layouts_hold() -> bool:
    """True when objects of this interpreter and this NumPy look as the IR expects."""
    array = np.arange(6.0).reshape(2, 3)
    shape = (ctypes.c_int64 * 2).from_address(_word_at(array, 32))
    dtype = array.dtype
    get_handler = ctypes.PYFUNCTYPE(ctypes.c_void_p)(_numpy_table()[_DATAMEM_GET_HANDLER])
    handler = get_handler()
    ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(handler))
    single = (array,)
    number = 2.5
    return (
        _word_at(array, 8) == id(np.ndarray)
        and _word_at(array, 16) == array.ctypes.data
        and _int_at(array, 24) == 2
        and tuple(shape) == (2, 3)
        and _word_at(array, 56) == id(dtype)
        and _int_at(array, 64) & 0x505 == 0x505 - (0 if array.base is None else 4)
        and _word_at(np.empty(4), 88) == handler
        and _int_at(dtype, 28) == dtype.num
        and ctypes.c_char.from_address(id(dtype) + 26).value == b"="
        and _word_at(single, 24) == id(array)
        and ctypes.c_double.from_address(id(number) + 16).value == number
        and ctypes.c_double.from_address(id(np.float64(2.5)) + 16).value == 2.5
        and array_offset() > 0
    )


def runtime() -> Runtime | None:
    """The loaded run time, or None when this interpreter needs the portable path."""
    if not _found:
        with _finding:  # one run time: it has the pool and the locks
            if not _found:
                _found.append(_load())
    return _found[0]


_found: list[Runtime | None] = []
_finding = allocate_lock()


def _load() -> Runtime | None:
    gil = getattr(sys, "_is_gil_enabled", None)
    if sys.implementation.name != "cpython" or sys.maxsize < 2**62 or (gil is not None and not gil()):
        return None
    return Runtime() if layouts_hold() else None
