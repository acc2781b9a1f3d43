"""How many threads compiled loops and BLAS use.

There is one pool (`symtensor_codegen.llvm.threads_ir`). Its threads start with the first loop that is worth
sharing; they look for work for about 50 us after a loop and then sleep. They never hold Python's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from symtensor_codegen.errors import UserError
from symtensor_codegen.llvm.threads_ir import MAX_THREADS

__all__ = ["default_count", "get_num_threads", "on_change", "set_num_threads"]

_listeners: list[Callable[[int], None]] = []


def default_count() -> int:
    """`SYMTENSOR_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors this process may run on.

    UserError when `SYMTENSOR_NUM_THREADS` is not a positive number.
    """
    asked = os.environ.get("SYMTENSOR_NUM_THREADS")
    if asked is not None:
        if not asked.strip().isdigit() or int(asked) < 1:
            raise UserError(f"SYMTENSOR_NUM_THREADS must be a positive number, not {asked!r}")
        return min(int(asked), MAX_THREADS)
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if shared.isdigit() and int(shared) > 0:
        return min(int(shared), MAX_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def get_num_threads() -> int:
    """The number of threads that a loop may run on, the calling one included."""
    from symtensor_codegen.llvm import native

    runtime = native.runtime()
    return 1 if runtime is None else runtime.word("st_threads").value


def set_num_threads(count: int) -> None:
    """Let loops and BLAS run on `count` threads; UserError unless 1 <= count <= 256.

    On interpreters without native calls (see `calling_portable`) loops run on one thread whatever is set.
    """
    from symtensor_codegen.llvm import native

    if not 1 <= count <= MAX_THREADS:
        raise UserError(f"the number of threads must be from 1 to {MAX_THREADS}, not {count}")
    runtime = native.runtime()
    if runtime is not None:
        runtime.word("st_threads").value = count
        for listener in _listeners:
            listener(count)


def on_change(listener: Callable[[int], None]) -> None:
    """Call `listener` with the new number whenever `set_num_threads` changes it."""
    _listeners.append(listener)
