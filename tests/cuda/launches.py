"""Launching a kernel on arrays: one written by hand, or one that the emitter writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.text.emit import emit_kernel
from symtensor_codegen.loops import Kernel
from tests.cuda.host import HostDevice

NO_FAILURE = 0x7F7F7F7F
Array = np.ndarray[Any, Any]


def launch(
    device: HostDevice, text: str, arrays: list[Array], n: int, grid: int = 1, block: int = 32
) -> tuple[list[Array], int]:
    """Run `k_0` on copies of these arrays: what they hold then, and the status word (first check: number 1)."""
    function = device.load(device.code(text, "k")).function("k_0")
    blocks = [device.allocate(array.nbytes) for array in arrays]
    status = device.allocate(4)
    device.fill(status.address, 4, 0x7F)
    for memory, array in zip(blocks, arrays, strict=True):
        device.upload(memory.address, array)
    pointers = [memory.address for memory in blocks]
    packed = struct.pack(f"{len(blocks)}QqQi", *pointers, n, status.address, 1)
    device.launch(function, (grid, 1, 1), (block, 1, 1), packed)
    results = [np.empty_like(array) for array in arrays]
    for memory, result in zip(blocks, results, strict=True):
        device.download(result, memory.address)
    word = np.empty(1, np.int32)
    device.download(word, status.address)
    return results, int(word[0])


def run_kernel(
    device: HostDevice,
    kernel: Kernel,
    arrays: Sequence[Array],
    parameters: Sequence[int],
    multiprocessors: int,
    aliased: bool = False,
    apart: bool = False,
) -> list[Array]:
    """Run a kernel on copies of these arrays, as a device of so many multiprocessors would: what they hold then.

    ``apart``: with its schedule for few and long items, which it also has where that is better.
    """
    scheduled = schedule(kernel)
    if apart or scheduled.is_better_apart(parameters, multiprocessors):
        scheduled = schedule(kernel, apart=True)
    module = device.load(device.code(emit_kernel(kernel, scheduled, kernel.name, aliased), kernel.name))
    blocks = [device.allocate(array.nbytes) for array in arrays]
    for memory, array in zip(blocks, arrays, strict=True):
        device.upload(memory.address, np.ascontiguousarray(array))
    if scheduled.spreads:
        blocks.append(device.allocate(scheduled.scratch(parameters, multiprocessors)))
    status = device.allocate(4)
    device.fill(status.address, 4, 0x7F)
    pointers = [memory.address for memory in blocks]
    packed = struct.pack(f"{len(pointers)}Q{len(parameters)}qQi", *pointers, *parameters, status.address, 0)
    for position, stage in enumerate(scheduled.stages):
        shape = stage.shape(parameters, multiprocessors)
        if shape is not None:
            device.launch(module.function(f"{kernel.name}_{position}"), *shape, packed)
    results = [np.empty_like(array) for array in arrays]
    for memory, result in zip(blocks, results, strict=False):
        device.download(result, memory.address)
    word = np.empty(1, np.int32)
    device.download(word, status.address)
    assert int(word[0]) == NO_FAILURE
    return results
