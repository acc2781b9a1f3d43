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

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import native, native_types, runtime_ir
from symtensor_codegen.llvm.cells import Cell

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
    "attach",
    "bind_call",
    "frame_layout",
    "make_callable",
    "runtime_symbols",
]

RETURN, SWAP, IN_PLACE = 0, 1, 2
OUT_OF_MEMORY = -1
INTERRUPTED = -2
_NOT_CONFORMING = -3
_DETAILS = 4

T = TypeVar("T")
Failure = Callable[[int, tuple[int, int, int, int]], BaseException]
SlowPath = Callable[..., tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class InputSpec:
    """An explicit argument: element type and sizes (None: any)."""

    dtype: np.dtype[Any]
    dims: tuple[int | None, ...]


@dataclass(frozen=True)
class OutputSpec:
    """A result: `RETURN` at position `index`, `SWAP` into cell `index`, or written `IN_PLACE` of cell `index`."""

    dtype: np.dtype[Any]
    ndim: int
    kind: Literal[0, 1, 2]
    index: int


@dataclass(frozen=True)
class CallSpec:
    """A native program and what surrounds it.

    `slow_path(*args, **kwargs)` converts unusual arguments to a tuple of arrays that fit `inputs` exactly, or
    raises. `fail(status, details)` makes the exception for a positive status. `result` says what a call
    returns: "single" the one returned array, "list" the list of them, "none" an empty list; `finish`, when
    given, gets that list and makes the final result. `keep` is whatever must live as long as the callable,
    first of all the loaded code. Calls whose arrays are larger than `gil_bytes` together, and all calls of a
    `long_running` program, run without the GIL.
    """

    name: str
    inputs: tuple[InputSpec, ...]
    cells: tuple[Cell, ...]
    outputs: tuple[OutputSpec, ...]
    program: int
    slow_path: SlowPath
    fail: Failure
    result: Literal["single", "list", "none"] = "single"
    finish: Callable[[list[NDArray[Any]]], Any] | None = None
    long_running: bool = False
    gil_bytes: int = 1 << 18
    keep: tuple[Any, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class FrameLayout:
    """Word numbers in the frame: where each input, cell and output starts, and the details; total words."""

    inputs: tuple[int, ...]
    cells: tuple[int, ...]
    outputs: tuple[int, ...]
    details: int
    words: int


def frame_layout(inputs: Sequence[int], cells: Sequence[int], outputs: Sequence[int]) -> FrameLayout:
    """The frame for arguments, cells and results of the given ranks."""
    at = 0
    starts: list[tuple[int, ...]] = []
    for ranks in (inputs, cells, outputs):
        group = []
        for rank in ranks:
            group.append(at)
            at += 1 + rank
        starts.append(tuple(group))
    return FrameLayout(starts[0], starts[1], starts[2], at, at + _DETAILS)


def layout_of(spec: CallSpec) -> FrameLayout:
    """The frame of `spec`."""
    return frame_layout(
        [len(each.dims) for each in spec.inputs],
        [each.get().ndim for each in spec.cells],
        [each.ndim for each in spec.outputs],
    )


def check(spec: CallSpec) -> None:
    """InternalError when `spec` contradicts itself; native code relies on all of this."""
    returned = sorted(each.index for each in spec.outputs if each.kind == RETURN)
    if returned != list(range(len(returned))):
        raise InternalError(f"{spec.name}: returned results have positions {returned}")
    if spec.result == "single" and (len(returned) != 1 or spec.finish is not None):
        raise InternalError(f"{spec.name}: result 'single' with {len(returned)} results or a finisher")
    for output in spec.outputs:
        if output.kind == RETURN:
            continue
        held = spec.cells[output.index].get()
        if held.dtype != output.dtype or held.ndim != output.ndim:
            raise InternalError(f"{spec.name}: update of cell {output.index} changes its dtype or rank")
    updated = [each.index for each in spec.outputs if each.kind != RETURN]
    if len(set(updated)) != len(updated):
        raise InternalError(f"{spec.name}: a cell is updated twice")
    if spec.program == 0:
        raise InternalError(f"{spec.name}: the program has no address")


def failure(spec: CallSpec) -> Callable[..., BaseException]:
    """What native code calls with a status and four detail words to get the exception to raise."""

    def fail(status: int, *details: int) -> BaseException:
        if status == OUT_OF_MEMORY:
            return MemoryError(f"{spec.name}: out of memory: could not allocate {details[0]:,} bytes")
        if status == _NOT_CONFORMING:
            return InternalError(f"{spec.name}: converted arguments do not fit the compiled function")
        return spec.fail(status, (details[0], details[1], details[2], details[3]))

    return fail


def runtime_symbols() -> dict[str, int]:
    """Addresses of the functions that programs may call, by name.

    `ptr st_output(ptr call, i64 k)`, `ptr st_alloc(ptr call, i64 bytes)`, `i1 st_interrupted(ptr call)`,
    `void st_release_gil(ptr call)`, `i64 st_parallel_for(ptr kernel, ptr args, i64 extent, i64 grain)`.
    """
    runtime = native.runtime()
    if runtime is None:
        from symtensor_codegen.llvm import calling_portable

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
        (each.kind, each.index, id(each.dtype), each.ndim, at, each.dtype.itemsize)
        + ((id(spec.cells[each.index]),) if each.kind != RETURN else ())
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


@functools.cache
def bind_call(cls: type[T]) -> type[T]:
    """A subclass of `cls` whose instances are called natively, once `attach` has given them a program.

    The subclass has the name of `cls`; a `__call__` that `cls` defines is not used. Calling an instance that
    has no program is a TypeError.
    """
    if native.runtime() is None:
        from symtensor_codegen.llvm import calling_portable

        return calling_portable.bind_call(cls)
    return native_types.derive(cls)


def attach(function: object, spec: CallSpec) -> None:
    """Make calls of `function`, an instance of a `bind_call` class, run `spec`."""
    check(spec)
    layout = layout_of(spec)
    fail = failure(spec)
    runtime = native.runtime()
    if runtime is None:
        from symtensor_codegen.llvm import calling_portable

        calling_portable.attach(function, spec, layout, fail)
        return
    descriptor, tables = pack(spec, layout, fail)
    native_types.install(
        function, runtime.address("st_entry"), int(descriptor.ctypes.data), (spec, fail, descriptor, tables)
    )
