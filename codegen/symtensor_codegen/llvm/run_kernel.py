"""Compile one kernel and run it: for tests, for looking at code, and for measuring a kernel alone."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm.emit_kernel import emit_kernel
from symtensor_codegen.llvm.jit import LoadedLibrary, compile_ir, host, load
from symtensor_codegen.llvm.target import Target
from symtensor_codegen.loops import Kernel

_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class NativeKernel:
    """A loaded kernel; calling it runs it once and returns its status."""

    def __init__(self, kernel: Kernel, target: Target | None = None) -> None:
        self.kernel = kernel
        self.source = emit_kernel(kernel, host() if target is None else target, "kernel")
        self._library: LoadedLibrary = load(compile_ir(self.source), {}, ["kernel"])
        self._function: Callable[..., int] = _SIGNATURE(self._library.address("kernel"))

    def arguments(
        self, arrays: Sequence[np.ndarray[Any, Any]], parameters: Sequence[int] = ()
    ) -> np.ndarray[Any, Any]:
        """The argument block for these arrays (C-contiguous, of the buffers' types) and parameters."""
        if len(arrays) != len(self.kernel.buffers) or len(parameters) != len(self.kernel.parameters):
            raise InternalError(
                f"{self.kernel.name}: arguments do not match the kernel's buffers and parameters"
            )
        for buffer, array in zip(self.kernel.buffers, arrays, strict=True):
            if array.dtype != buffer.dtype.numpy or not array.flags.c_contiguous:
                raise InternalError(
                    f"{self.kernel.name}: the array of {buffer.name} is not C-contiguous {buffer.dtype}"
                )
        return np.array([*(array.ctypes.data for array in arrays), *parameters], np.int64)

    def launch(self, arguments: np.ndarray[Any, Any], lo: int, hi: int) -> int:
        """Run the parallel loop over ``lo`` to ``hi - 1`` (both ignored when there is none)."""
        return self._function(lo, hi, arguments.ctypes.data)


def run_kernel(
    kernel: Kernel,
    arrays: Sequence[np.ndarray[Any, Any]],
    parameters: Sequence[int] = (),
    lo: int = 0,
    hi: int = 0,
    target: Target | None = None,
) -> int:
    """Compile and run ``kernel`` on ``arrays`` (changed in place); returns its status."""
    native = NativeKernel(kernel, target)
    return native.launch(native.arguments(arrays, parameters), lo, hi)
