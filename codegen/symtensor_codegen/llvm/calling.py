"""Compiled functions as Python callables.

A `CallSpec` describes a native program and its arguments; `make_callable` turns it into an object whose call
costs about as much as a built-in function's. One native entry point, the vectorcall of every compiled
function, is driven by a per-function table (the descriptor), so a new function compiles nothing here.

Program ABI: `i64 program(i64* frame, ptr call)`. The frame holds, in 8-byte words, [data pointer, dims...] of
each input, then of each cell, then of each output, then four detail words. A program writes an output's dims,
calls `st_output(call, k)` and gets its data pointer (also in the frame); it returns 0, a positive status of
its own (details say more), `OUT_OF_MEMORY` or `INTERRUPTED`. See `runtime_symbols` for what it may call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from symtensor_codegen.cells import Cell
from symtensor_codegen.llvm import calling_portable, native, native_types, runtime_ir
from symtensor_codegen.llvm.call_spec import (
    IN_PLACE,
    INTERRUPTED,
    OUT_OF_MEMORY,
    RETURN,
    SWAP,
    CallSpec,
    FrameLayout,
    InputSpec,
    OutputSpec,
    arrays_of,
    check,
    failure,
    frame_layout,
    layout_of,
)

__all__ = [
    "INTERRUPTED",
    "IN_PLACE",
    "OUT_OF_MEMORY",
    "RETURN",
    "SWAP",
    "CallSpec",
    "Cell",
    "Compiled",
    "FrameLayout",
    "InputSpec",
    "OutputSpec",
    "arrays_of",
    "attach",
    "bind_call",
    "frame_layout",
    "make_callable",
    "runtime_symbols",
]

T = TypeVar("T")
_bound: dict[type, Any] = {}
"""The native subclass of each class that was given to `bind_call`."""


def runtime_symbols() -> dict[str, int]:
    """Addresses of the functions that programs may call, by name.

    `ptr st_output(ptr call, i64 k)`, `ptr st_alloc(ptr call, i64 bytes)`, `i1 st_interrupted(ptr call)`,
    `void st_release_gil(ptr call)`, `void st_mark(ptr call, ptr mark)`, `void st_give_back(ptr call, ptr mark)` (what
    was allocated after a mark of two words), `i64 st_parallel_for(ptr kernel, ptr args, i64 extent, i64 grain)`.
    """
    runtime = native.runtime()
    if runtime is None:
        return calling_portable.symbols()
    return runtime.program_symbols


def pack(spec: CallSpec, layout: FrameLayout, fail: Callable[..., BaseException]) -> tuple[Any, ...]:
    """The descriptor of `spec` as native tables: (descriptor, everything it points to)."""
    tables: list[Any] = []

    def table(rows: Sequence[Sequence[int]], width: int) -> int:
        array = np.zeros((max(len(rows), 1), width), np.int64)
        for row, values in zip(array, rows, strict=False):
            row[: len(values)] = values
        tables.append(array)
        return int(array.ctypes.data)

    inputs = []
    for given in spec.inputs:
        sizes = table([[-1 if size is None else size for size in given.dims]], max(len(given.dims), 1))
        python = {np.dtype(np.float64): 1, np.dtype(np.int64): 2}.get(given.dtype, 0)
        # Complex and long double scalars do not keep their value at a fixed, aligned place.
        scalar = id(given.dtype.type) if given.dtype.kind in "biuf" and given.dtype.itemsize <= 8 else 0
        inputs.append(
            (id(given.dtype), given.dtype.num, len(given.dims), sizes, scalar, python, given.dtype.itemsize)
        )
    cells = [
        (id(cell), at, cell.get().ndim, cell.get().dtype.itemsize)
        for cell, at in zip(spec.cells, layout.cells, strict=True)
    ]
    outputs = [
        (each.kind, each.place, id(each.dtype), each.ndim, at, each.dtype.itemsize)
        + ((id(spec.cells[each.place]),) if each.kind != RETURN else ())
        for each, at in zip(spec.outputs, layout.outputs, strict=True)
    ]
    updates = any(each.kind != RETURN for each in spec.outputs)
    descriptor = np.array(
        (
            spec.program,
            len(spec.inputs),
            len(spec.cells),
            len(spec.outputs),
            layout.words + len(spec.inputs),  # one spare word an input, for Python ints
            layout.details,
            (1 if updates else 0) | (2 if spec.long_running else 0),
            spec.gil_bytes,
            0 if spec.result == "single" else 1,
            sum(each.kind == RETURN for each in spec.outputs),
            id(spec.slow_path),
            id(fail),
            id(spec.finish) if spec.finish is not None else 0,
            table(inputs, runtime_ir.INPUT_WORDS),
            table(cells, runtime_ir.CELL_WORDS),
            table(outputs, runtime_ir.OUTPUT_WORDS),
        ),
        np.int64,
    )
    return descriptor, tuple(tables)


class Compiled:
    """A compiled function without attributes of its own; call it."""


def make_callable(spec: CallSpec) -> Callable[..., Any]:
    """A callable for `spec`: checks its arguments, runs the program, commits updates, returns results."""
    function = bind_call(Compiled)()
    attach(function, spec)
    return cast("Callable[..., Any]", function)


def bind_call(cls: type[T]) -> type[T]:
    """A subclass of `cls` whose instances are called natively, once `attach` has given them a program.

    The same one for the same `cls`, with its name; a `__call__` that `cls` defines is not used. Calling an
    instance that has no program is a TypeError.
    """
    bound = _bound.get(cls)
    if bound is None:
        derive = calling_portable.derive if native.runtime() is None else native_types.derive
        bound = _bound[cls] = derive(cls)
    return bound


def attach(function: object, spec: CallSpec) -> None:
    """Make calls of `function`, an instance of a `bind_call` class, run `spec`."""
    check(spec)
    layout = layout_of(spec)
    fail = failure(spec)
    runtime = native.runtime()
    if runtime is None:
        calling_portable.attach(function, spec, layout, fail)
        return
    descriptor, tables = pack(spec, layout, fail)
    native_types.install(
        function, runtime.address("st_entry"), int(descriptor.ctypes.data), (spec, fail, descriptor, tables)
    )
