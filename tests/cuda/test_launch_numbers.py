"""Grids and blocks of nests: all of the device has something to do, and few threads of it are idle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.schedules.launch_numbers import DEEPEST, LARGEST_GRID, MAP_THREADS, WIDEST, nest_shape
from tests.cuda.host import host_device

RESIDENT = 132 * 2048
LENGTHS = (1, 2, 3, 5, 16, 33, 100, 300, 1000, 70_000)
pytestmark = pytest.mark.cuda_host


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_nests_fill_the_device(axes: int) -> None:
    for sizes in itertools.product(LENGTHS, repeat=axes):
        grid, block = nest_shape(sizes, RESIDENT)
        assert math.prod(block) <= MAP_THREADS, (sizes, block)
        assert block[2] <= DEEPEST
        assert grid[0] <= LARGEST_GRID, (sizes, grid)
        assert max(grid[1:]) <= WIDEST
        items, threads = math.prod(sizes), math.prod(grid) * math.prod(block)
        assert threads >= min(items, RESIDENT), (sizes, grid, block)
        axis_lengths = sizes[-1], sizes[-2], math.prod(sizes[:-2])
        covered = [min(n, g * b) for n, g, b in zip(axis_lengths, grid, block, strict=True)]
        assert math.prod(covered) / threads > 0.6, (sizes, grid, block)
        full = min(MAP_THREADS, DEEPEST * sizes[-1] * sizes[-2])
        assert items < full or math.prod(block) >= full // 2, (sizes, block)


@pytest.mark.parametrize(
    ("sizes", "axes", "tiles"),
    [((3000, 2, 2), (0, 2, 1), False), ((300, 5, 3, 2), (0, 3, 2, 1), False), ((9, 2, 30, 40), (1, 0, 3, 2), True),
     ((6, 28, 4, 64), (0, 2, 1, 3), False), ((40, 3, 100), (2, 1, 0), True)],
)  # fmt: skip
def test_only_matrices_of_a_tile_are_turned_in_tiles(
    sizes: tuple[int, ...], axes: tuple[int, ...], tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_device()
    launched: list[tuple[int, int, int]] = []
    launch = host.launch

    def noted(f: Any, grid: Any, block: Any, arguments: bytes) -> None:
        launched.append(block)
        launch(f, grid, block, arguments)

    monkeypatch.setattr(host, "launch", noted)
    devices.use(host)
    try:
        x = T.TensorType("float32", (None,) * len(sizes))("x")
        f, value = function([x], x.dimshuffle(*axes) * 2, device="cuda"), np.random.default_rng(2).normal(size=sizes)
        np.testing.assert_array_equal(f(value.astype(np.float32)), value.astype(np.float32).transpose(axes) * 2)
    finally:
        devices.forget("cuda:0")
    ((across, down, deep),) = launched
    assert ((across * down, deep) == (256, 1)) is tiles
    assert tiles or across * down * deep > 200
