"""Calls without the native run time: for interpreters whose objects do not look as `calling_ir` expects.

Free-threaded CPython and other implementations take this path. It does what `calling_ir` does, in Python
through ctypes: the same program ABI and the same order of steps, about 10 us a call, loops on one thread.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from symtensor_codegen.llvm.call_spec import (
    IN_PLACE,
    INTERRUPTED,
    NOT_CONFORMING,
    OUT_OF_MEMORY,
    RETURN,
    SWAP,
    CallSpec,
    FrameLayout,
)

__all__ = ["attach", "derive", "symbols"]

T = TypeVar("T")

_updates = threading.RLock()
"""Calls that change shared variables run one at a time."""
_numbers = itertools.count(1)
_calls: dict[int, _Call] = {}
_PROGRAM = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_size_t)
_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_size_t)


class _Call:
    """A call in progress; programs know it by its number."""

    def __init__(self, spec: CallSpec, layout: FrameLayout) -> None:
        self.spec = spec
        self.layout = layout
        self.frame = np.zeros(layout.words, np.int64)
        self.results: list[NDArray[Any] | None] = [None] * len(spec.outputs)
        self.scratch: list[NDArray[Any]] = []
        self.requested = 0
        self.interrupt: BaseException | None = None


def _output(number: int, index: int) -> int | None:
    call = _calls[number]
    output, at = call.spec.outputs[index], call.layout.outputs[index]
    shape = [int(size) for size in call.frame[at + 1 : at + 1 + output.ndim]]
    try:
        result = np.empty(shape, output.dtype)
    except (MemoryError, ValueError):
        call.requested = functools.reduce(lambda a, b: a * b, shape, output.dtype.itemsize)
        return None
    call.results[index] = result
    call.frame[at] = result.ctypes.data
    return int(result.ctypes.data)


def _alloc(number: int, size: int) -> int | None:
    call = _calls[number]
    try:
        block = np.empty(size + 64, np.uint8)
    except (MemoryError, ValueError):
        call.requested = size
        return None
    call.scratch.append(block)
    return -(-int(block.ctypes.data) // 64) * 64


def _parallel_for(kernel: int, args: int, extent: int, grain: int) -> int:
    return int(_KERNEL(kernel)(0, extent, args)) if extent > 0 else 0


def _interrupted(number: int) -> bool:
    # Python runs pending signal handlers by itself while this function does.
    return _calls[number].interrupt is not None


def _release_gil(number: int) -> None:
    """Nothing to do: ctypes calls programs without the GIL."""


def _mark(number: int, mark: int) -> None:
    ctypes.c_int64.from_address(mark).value = len(_calls[number].scratch)


def _give_back(number: int, mark: int) -> None:
    del _calls[number].scratch[ctypes.c_int64.from_address(mark).value :]


def _guarded(function: Callable[..., Any], result: Any) -> Callable[..., Any]:
    """`function` as a callback: what a signal handler raises in it is kept for the call to raise."""

    def callback(*arguments: int) -> Any:
        try:
            return function(*arguments)
        except KeyboardInterrupt as interrupt:
            call = _calls.get(arguments[0])
            if call is None:
                raise
            call.interrupt = interrupt
            return result

    return callback


@functools.cache
def _callbacks() -> dict[str, Any]:
    size, word = ctypes.c_size_t, ctypes.c_int64
    pointer = ctypes.c_void_p
    return {
        "st_output": ctypes.CFUNCTYPE(pointer, size, word)(_guarded(_output, None)),
        "st_alloc": ctypes.CFUNCTYPE(pointer, size, word)(_guarded(_alloc, None)),
        "st_parallel_for": ctypes.CFUNCTYPE(word, size, size, word, word)(_parallel_for),
        "st_interrupted": ctypes.CFUNCTYPE(ctypes.c_bool, size)(_guarded(_interrupted, True)),
        "st_mark": ctypes.CFUNCTYPE(None, size, size)(_guarded(_mark, None)),
        "st_give_back": ctypes.CFUNCTYPE(None, size, size)(_guarded(_give_back, None)),
        "st_blas_threads": ctypes.CFUNCTYPE(None, ctypes.c_bool)(lambda small: None),  # BLAS has one thread here
        "st_release_gil": ctypes.CFUNCTYPE(None, size)(_release_gil),
    }


def symbols() -> dict[str, int]:
    """Addresses of the functions that programs may call, by name."""
    addresses = {}
    for name, callback in _callbacks().items():
        address = ctypes.cast(callback, ctypes.c_void_p).value
        assert address is not None
        addresses[name] = address
    return addresses


def derive(cls: type[T]) -> type[T]:
    """A subclass of `cls` whose instances call what `attach` has given them."""

    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        target = self.__dict__.get("_native_keep")
        if target is None:
            raise TypeError(f"'{cls.__name__}' object has no program to call")
        return target(*args, **kwargs)

    return type(
        cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__, "__doc__": cls.__doc__}
    )


def attach(function: object, spec: CallSpec, layout: FrameLayout, fail: Callable[..., BaseException]) -> None:
    """Make calls of `function`, an instance of a `bind_call` class, run `spec`."""
    program = _PROGRAM(spec.program)

    def call(*args: Any, **kwargs: Any) -> Any:
        arrays = args
        if kwargs or not _conform(spec, args):
            arrays = spec.slow_path(*args, **kwargs)
            if not _conform(spec, arrays):
                raise fail(NOT_CONFORMING, 0, 0, 0, 0)
        if any(output.kind != RETURN for output in spec.outputs):
            with _updates:
                return _finish(spec, _run(spec, layout, program, fail, arrays))
        return _finish(spec, _run(spec, layout, program, fail, arrays))

    function._native_keep = call  # type: ignore[attr-defined]


def _conform(spec: CallSpec, arrays: tuple[Any, ...]) -> bool:
    """True when every argument is an array that native code can use as it is."""
    return len(arrays) == len(spec.inputs) and all(
        type(array) is np.ndarray
        and array.dtype == given.dtype
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
        and array.ndim == len(given.dims)
        and all(want is None or want == size for want, size in zip(given.dims, array.shape, strict=True))
        for array, given in zip(arrays, spec.inputs, strict=True)
    )


def _run(
    spec: CallSpec,
    layout: FrameLayout,
    program: Callable[[int, int], int],
    fail: Callable[..., BaseException],
    arrays: tuple[NDArray[Any], ...],
) -> list[NDArray[Any]]:
    """One call: fill the frame, run, commit the updates; the returned results by position."""
    held = tuple(cell.get() for cell in spec.cells)
    written = [held[output.place] for output in spec.outputs if output.kind == IN_PLACE]
    arrays = tuple(
        array.copy() if any(np.may_share_memory(array, other) for other in written) else array for array in arrays
    )
    call = _Call(spec, layout)
    places = (*layout.inputs, *layout.cells)
    for array, at in zip((*arrays, *held), places, strict=True):
        call.frame[at] = array.ctypes.data
        call.frame[at + 1 : at + 1 + array.ndim] = array.shape
    for output, at in zip(spec.outputs, layout.outputs, strict=True):
        if output.kind == IN_PLACE:
            call.frame[at] = held[output.place].ctypes.data
    number = next(_numbers)
    _calls[number] = call
    try:
        status = int(program(int(call.frame.ctypes.data), number))
    finally:
        del _calls[number]
    if status == INTERRUPTED or (status and call.interrupt is not None):
        raise call.interrupt or KeyboardInterrupt
    if status:
        details = [int(word) for word in call.frame[layout.details :]]
        if status == OUT_OF_MEMORY:
            details[0] = call.requested
        raise fail(status, *details)
    returned: dict[int, NDArray[Any]] = {}
    for output, result in zip(spec.outputs, call.results, strict=True):
        if output.kind == RETURN:
            assert result is not None
            returned[output.place] = result
        elif output.kind == SWAP:
            assert result is not None
            spec.cells[output.place].set(result)
    return [returned[position] for position in sorted(returned)]


def _finish(spec: CallSpec, results: list[NDArray[Any]]) -> Any:
    if spec.finish is not None:
        return spec.finish(results)
    return results[0] if spec.result == "single" else results
