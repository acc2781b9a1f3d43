"""What a compiled function takes, holds and returns, and how its frame is laid out.

The ABI that these records describe is in `symtensor_codegen.llvm.calling`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from symtensor_codegen.cells import Cell
from symtensor_codegen.errors import InternalError

RETURN: Final = 0
SWAP: Final = 1
IN_PLACE: Final = 2
OUT_OF_MEMORY = -1
INTERRUPTED = -2
NOT_CONFORMING = -3
_DETAILS = 4

Failure = Callable[[int, tuple[int, int, int, int]], BaseException]
SlowPath = Callable[..., tuple[NDArray[Any], ...]]


class InputSpec(NamedTuple):
    """An explicit argument: element type and sizes (None: any)."""

    dtype: np.dtype[Any]
    dims: tuple[int | None, ...]


class OutputSpec(NamedTuple):
    """A result: `RETURN`ed at position `place`, `SWAP`ped into cell `place`, or written `IN_PLACE` of it."""

    dtype: np.dtype[Any]
    ndim: int
    kind: Literal[0, 1, 2]
    place: int


@dataclass(frozen=True, eq=False)
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


class FrameLayout(NamedTuple):
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


def arrays_of(spec: CallSpec, frame: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """The inputs and cells of a failing call, as arrays in its own memory; only valid inside `spec.fail`."""
    layout = layout_of(spec)
    words = (ctypes.c_int64 * layout.words).from_address(frame)

    def array(dtype: np.dtype[Any], rank: int, at: int) -> NDArray[Any]:
        shape = tuple(words[at + 1 : at + 1 + rank])
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        memory = memoryview((ctypes.c_char * size).from_address(words[at])).cast("B")
        return np.frombuffer(memory, dtype).reshape(shape)

    inputs = [array(i.dtype, len(i.dims), at) for i, at in zip(spec.inputs, layout.inputs, strict=True)]
    cells = [array(c.get().dtype, c.get().ndim, at) for c, at in zip(spec.cells, layout.cells, strict=True)]
    return inputs, cells


def check(spec: CallSpec) -> None:
    """InternalError when `spec` contradicts itself; native code relies on all of this."""
    returned = sorted(each.place for each in spec.outputs if each.kind == RETURN)
    if returned != list(range(len(returned))):
        raise InternalError(f"{spec.name}: returned results have positions {returned}")
    if spec.result == "single" and (len(returned) != 1 or spec.finish is not None):
        raise InternalError(f"{spec.name}: result 'single' with {len(returned)} results or a finisher")
    for output in spec.outputs:
        if output.kind == RETURN:
            continue
        held = spec.cells[output.place].get()
        if held.dtype != output.dtype or held.ndim != output.ndim:
            raise InternalError(f"{spec.name}: update of cell {output.place} changes its dtype or rank")
    updated = [each.place for each in spec.outputs if each.kind != RETURN]
    if len(set(updated)) != len(updated):
        raise InternalError(f"{spec.name}: a cell is updated twice")
    if spec.program == 0:
        raise InternalError(f"{spec.name}: the program has no address")


def failure(spec: CallSpec) -> Callable[..., BaseException]:
    """What native code calls with a status and four detail words to get the exception to raise."""

    def fail(status: int, *details: int) -> BaseException:
        if status == OUT_OF_MEMORY:
            return MemoryError(f"{spec.name}: out of memory: could not allocate {details[0]:,} bytes")
        if status == NOT_CONFORMING:
            return InternalError(f"{spec.name}: converted arguments do not fit the compiled function")
        return spec.fail(status, (details[0], details[1], details[2], details[3]))

    return fail
