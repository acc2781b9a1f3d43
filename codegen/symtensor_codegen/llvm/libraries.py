"""BLAS and LAPACK from the `scipy-openblas32` wheel, running on our threads.

The shared library is loaded when the first program needs it (20 ms), without importing its Python package.
All symbols take 32-bit integers; generated code uses OpenBLAS's own names without the wheel's prefix
`scipy_`, for example `cblas_dgemm` and `dpotrf_`.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from symtensor_codegen.errors import BackendError
from symtensor_codegen.llvm import native, threads

__all__ = ["blas_symbols", "core_name"]

_PREFIX = "scipy_"


class _Symbols(Mapping[str, int]):
    """Addresses by name, looked up in the library when they are asked for."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._known: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        address = self._known.get(name)
        if address is None:
            try:
                address = ctypes.cast(self._library[_PREFIX + name], ctypes.c_void_p).value
            except AttributeError:
                raise KeyError(name) from None
            assert address is not None
            self._known[name] = address
        return address

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _path() -> str:
    """Where the wheel has its shared library; BackendError when it is not installed."""
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or not spec.submodule_search_locations:
        raise BackendError("matrix products need BLAS: install the package scipy-openblas32")
    folder = os.path.join(next(iter(spec.submodule_search_locations)), "lib")
    for name in sorted(os.listdir(folder)):
        if "scipy_openblas" in name and name.endswith((".so", ".dylib", ".dll")):
            return os.path.join(folder, name)
    raise BackendError(f"no OpenBLAS library in {folder}: reinstall the package scipy-openblas32")


@functools.cache
def _library() -> Any:
    path = _path()
    if sys.platform == "win32":
        os.add_dll_directory(os.path.dirname(path))
    library = ctypes.CDLL(path)
    runtime = native.runtime()
    count = 1
    if runtime is not None:
        # OpenBLAS's jobs wait for each other: as many threads must exist as it counts on.
        count = runtime.function("st_start_threads", ctypes.c_int64)()
        library.scipy_openblas_set_threads_callback_function(ctypes.c_void_p(runtime.address("st_blas_jobs")))
        threads.on_change(_set_threads)
        limit = library.scipy_openblas_set_num_threads
        runtime.word("st_blas_limit").value = ctypes.cast(limit, ctypes.c_void_p).value or 0
    library.scipy_openblas_set_num_threads(count)
    return library


def _set_threads(count: int) -> None:
    runtime = native.runtime()
    if runtime is not None:
        count = runtime.function("st_start_threads", ctypes.c_int64)()
    _library().scipy_openblas_set_num_threads(count)


@functools.cache
def blas_symbols() -> Mapping[str, int]:
    """Addresses of BLAS and LAPACK functions by name (`cblas_dgemm`, `dpotrf_`); loads the library.

    Looking up a name that the library does not have is a KeyError.
    """
    return _Symbols(_library())


def core_name() -> str:
    """The processor type whose kernels OpenBLAS uses; loads the library."""
    function = _library().scipy_openblas_get_corename
    function.restype = ctypes.c_char_p
    name: bytes = function()
    return name.decode()
