"""The processor's clock that profiled programs read: a few nanoseconds a look, on every platform."""

from __future__ import annotations

import ctypes
import functools
import platform
from time import perf_counter

__all__ = ["COUNTER", "Rate"]

COUNTER = "readcyclecounter" if platform.machine().lower() in ("x86_64", "amd64") else "readsteadycounter"
"""The LLVM intrinsic: x86-64's time stamp counter, which ticks evenly, or the timer of other processors."""

_SHORTEST = 0.02  # seconds: reading both clocks takes less than a hundred thousandth of it


@functools.cache
def _reader() -> tuple[ctypes._CFunctionType, object]:
    from symtensor_codegen.llvm.jit import compile_ir, load

    text = (
        f"declare i64 @llvm.{COUNTER}()\n"
        f"define i64 @ticks() nounwind {{\n  %now = call i64 @llvm.{COUNTER}()\n  ret i64 %now\n}}\n"
    )
    library = load(compile_ir(text, quick=True), {}, ["ticks"])
    return ctypes.CFUNCTYPE(ctypes.c_uint64)(library.address("ticks")), library


class Rate:
    """Ticks per second, from a comparison with Python's clock, better the longer this object lives."""

    def __init__(self) -> None:
        self._ticks, self._seconds = self._read()

    @staticmethod
    def _read() -> tuple[int, float]:
        return _reader()[0](), perf_counter()

    def seconds(self, ticks: int) -> float:
        """A number of ticks as seconds."""
        while True:
            now, seconds = self._read()
            if seconds - self._seconds >= _SHORTEST:
                return ticks * (seconds - self._seconds) / (now - self._ticks)
