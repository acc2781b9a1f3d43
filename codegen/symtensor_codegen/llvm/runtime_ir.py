"""The native run time, as LLVM IR text: calls, results, memory blocks and the fork-join pool.

Written by hand in SSA form (no optimisation passes run over it), compiled once for a machine and cached.
`$NAME` marks a number or a fragment filled in by `text()` from the layouts below; offsets are in 8-byte words
unless the name ends in `_BYTES`. Everything here is called by generated programs through the symbols that
`symtensor_codegen.llvm.calling.runtime_symbols` lists, or by CPython as the vectorcall of a function.

Layouts (8-byte words)
    descriptor   one per compiled function: counts, tables and Python callables, see `DESCRIPTOR`
    frame        inputs and cells as [data, dims...], outputs as [data, dims...], four detail words
    call         one per call in progress, on the native stack, see `CALL`
"""

from __future__ import annotations

import platform
import sys
from string import Template

from symtensor_codegen.llvm import calling_ir, memory_ir, native_types, program_ir, run_ir, threads_ir

__all__ = ["CALL", "CELL", "DESCRIPTOR", "INPUT", "OUTPUT", "text"]


def _layout(*names: str) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


DESCRIPTOR = _layout(
    "PROGRAM", "N_INPUTS", "N_CELLS", "N_OUTPUTS", "FRAME_WORDS", "DETAIL_SLOT", "FLAGS", "THRESHOLD",
    "RESULT", "N_RETURNED", "SLOW_PATH", "FAIL", "FINISH", "INPUTS", "CELLS", "OUTPUTS",
)  # fmt: skip
"""A compiled function. FLAGS: 1 has updates, 2 always runs without the GIL. RESULT: 0 one array, 1 a list."""

INPUT = _layout(
    "IN_DESCR", "IN_TYPE_NUMBER", "IN_RANK", "IN_DIMS", "IN_SCALAR_TYPE", "IN_PYTHON", "IN_ITEMSIZE"
)
"""An input: IN_DIMS points to the static sizes (-1: any); IN_PYTHON: 1 float or int, 2 int, 0 neither."""
INPUT_WORDS = 8

CELL = _layout("CELL_OBJECT", "CELL_SLOT", "CELL_RANK", "CELL_ITEMSIZE")
"""A shared variable: the Python cell, its slot in the frame, rank and element size."""
CELL_WORDS = 4

OUTPUT = _layout("OUT_KIND", "OUT_INDEX", "OUT_DESCR", "OUT_RANK", "OUT_SLOT", "OUT_ITEMSIZE", "OUT_CELL")
"""A result. OUT_KIND: 0 returned at position OUT_INDEX, 1 swapped into a cell, 2 written in its memory."""
OUTPUT_WORDS = 8

CALL = _layout(
    "CALL_DESCRIPTOR", "CALL_FRAME", "CALL_THREAD", "CALL_REQUESTED", "CALL_BLOCKS", "CALL_SCRATCH",
    "CALL_CLOCK", "CALL_RESULTS", "CALL_RELEASABLE", "CALL_LOCKED",
)  # fmt: skip
"""A call in progress. CALL_THREAD is the saved thread state while the GIL is released, else null."""
CALL_BYTES = 128
"""Room for a call record; scratch memory follows it, aligned to 64 bytes."""
SCRATCH_BYTES = 4096
"""Scratch memory on the native stack: requests that fit cost no allocation."""


def text(cell_array_bytes: int) -> str:
    """The module for this platform; `cell_array_bytes` is the offset of the array in a Python `Cell`."""
    machine = platform.machine().lower()
    values: dict[str, int | str] = {**DESCRIPTOR, **INPUT, **CELL, **OUTPUT, **CALL}
    values |= {
        "INPUT_WORDS": INPUT_WORDS,
        "CELL_WORDS": CELL_WORDS,
        "OUTPUT_WORDS": OUTPUT_WORDS,
        "CALL_BYTES": CALL_BYTES,
        "CALL_TOTAL_BYTES": CALL_BYTES + SCRATCH_BYTES,
        "SCRATCH_BYTES": SCRATCH_BYTES,
        "CELL_ARRAY_BYTES": cell_array_bytes,
        "DESCRIPTOR_BYTES": native_types.DESCRIPTOR_BYTES,
    }
    values |= threads_ir.machine_fragments(machine)
    values |= memory_ir.platform_fragments(sys.platform)
    memory = memory_ir.text(sys.platform)
    parts = (calling_ir.TEXT, run_ir.TEXT, program_ir.TEXT, memory, threads_ir.TEXT)
    return "\n".join(Template(part).substitute(values) for part in parts)
