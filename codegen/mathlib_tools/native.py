"""Run one elementwise operation on arrays through the LLVM backend, to test and to time its decomposition."""

import time
from typing import Any

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.llvm.jit import host
from symtensor_codegen.llvm.run_kernel import NativeKernel
from symtensor_codegen.llvm.schedule import vectorise
from symtensor_codegen.loops import For, Kernel, LoopKind, Store, parameter
from symtensor_codegen.scalar import OPS, Buffer, apply, index, load

Array = np.ndarray[Any, Any]


class NativeFunction:
    """An operation compiled for arrays of the given element types, in vectors where the machine has them."""

    def __init__(self, name: str, *kinds: str, vectors: bool = True) -> None:
        size = parameter(0)
        inputs = [Buffer(f"x{k}", dtypes.of(kind), (size,)) for k, kind in enumerate(kinds)]
        i = index("i", size)
        value = apply(OPS[name], *(load(buffer, (i,)) for buffer in inputs))
        out = Buffer("out", value.dtype, (size,))
        loop = For(i, size, (Store(out, (i,), value),), LoopKind.PARALLEL)
        kernel = Kernel(name, (*inputs, out), (size,), (loop,), written=frozenset((out,)))
        self.result = value.dtype.numpy
        self.native = NativeKernel(vectorise(kernel, host()) if vectors else kernel)

    def __call__(self, *arrays: Array) -> Array:
        """The operation on one-dimensional arrays of one length."""
        count = len(arrays[0])
        out = np.empty(count, self.result)
        inputs = [np.ascontiguousarray(array) for array in arrays]
        status = self.native.launch(self.native.arguments([*inputs, out], [count]), 0, count)
        assert status == 0
        return out

    def nanoseconds(self, *arrays: Array, repeats: int = 200) -> float:
        """The least time of one element, on arrays that should fit the first cache."""
        count = len(arrays[0])
        out = np.empty(count, self.result)
        arguments = self.native.arguments([*arrays, out], [count])
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.native.launch(arguments, 0, count)
            times.append(time.perf_counter() - start)
        return min(times) / count * 1e9
