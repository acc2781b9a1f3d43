"""Launching a handwritten kernel on arrays."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from tests.cuda.host import HostDevice

NO_FAILURE = 0x7F7F7F7F


def launch(
    device: HostDevice, text: str, arrays: list[np.ndarray[Any, Any]], n: int, grid: int = 1, block: int = 32
) -> tuple[list[np.ndarray[Any, Any]], int]:
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
