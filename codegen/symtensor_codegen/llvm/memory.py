"""The memory behind large results and scratch space: what is kept for reuse, and how to give it back.

Results of 1 MB and more live in blocks of our own (`symtensor_codegen.llvm.memory_ir`), attached to their
arrays through NumPy's memory handlers (NEP 49): such an array owns its data and frees it like any other.
"""

from __future__ import annotations

from typing import NamedTuple

from symtensor_codegen.errors import UserError
from symtensor_codegen.llvm import native

__all__ = ["MemoryInfo", "info", "release", "set_limit"]


class MemoryInfo(NamedTuple):
    """Bytes of free blocks kept for reuse, and the most that may be kept."""

    cached: int
    limit: int


def info() -> MemoryInfo:
    """The state of the block pool; zeros on interpreters without native calls."""
    runtime = native.runtime()
    if runtime is None:
        return MemoryInfo(0, 0)
    return MemoryInfo(runtime.word("st_memory_cached").value, runtime.word("st_memory_limit").value)


def set_limit(limit: int) -> None:
    """Keep at most `limit` bytes of free blocks (default: an eighth of the memory, at most 2 GB)."""
    if limit < 0:
        raise UserError(f"the memory limit must not be negative, got {limit}")
    runtime = native.runtime()
    if runtime is not None:
        runtime.word("st_memory_limit").value = limit
        if info().cached > limit:
            release()


def release() -> None:
    """Give all free blocks back to the operating system."""
    runtime = native.runtime()
    if runtime is not None:
        runtime.function("st_memory_release", None)()
