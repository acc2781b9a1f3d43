"""Programs whose launches depend on sizes: as large as only a GPU can run them, and small on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.tensor import nnet
from symtensor_codegen.cuda import device as devices
from tests.cuda.host import host_device

Array = np.ndarray[Any, Any]
Compute = Callable[..., Any]

x, places = T.fmatrix("x"), T.lvector("places")
PROGRAMS: dict[str, tuple[Compute, tuple[int, int]]] = {
    "softmax of few long rows": (lambda: nnet.softmax(x), (8, -1)),
    "softmax of few long columns": (lambda: nnet.softmax(x, axis=0), (-1, 8)),
    "normalised long rows": (lambda: (x - x.mean(1, keepdims=True)) / T.sqrt(x.var(1, keepdims=True) + 1e-5), (3, -1)),
    "softmax of many rows": (lambda: nnet.softmax(x), (-1, 100)),
    "variance of long rows": (lambda: x.var(axis=1), (2, -1)),
    "variance of columns": (lambda: x.var(axis=0), (-1, 40)),
    "places of extremes": (lambda: [x.argmax(axis=1), x.argmin(axis=0)], (20, -1)),
    "running sums": (lambda: [T.cumsum(x, axis=1) * 1e-3, T.cumsum(x, axis=0) * 1e-3], (30, -1)),
    "sixteen reductions": (lambda: [(x + k).max(axis=1) + (x * k).argmax(axis=1) for k in range(8)], (50, -1)),
    "turned": (lambda: x.T + 1, (-1, 33)),
    "points of three": (lambda: x.reshape((-1, 3, 4)).dimshuffle(2, 0, 1) * 2, (-1, 12)),
    "few places": (lambda: T.inc_subtensor(T.zeros((50,))[places % 2], x[:, 0]), (-1, 1)),
    "a frequent place": (lambda: T.inc_subtensor(T.zeros((50, 8))[T.maximum(places - 300, 0) % 50], x), (-1, 8)),
    "many places": (lambda: T.inc_subtensor(T.zeros((700, 8))[places], x), (-1, 8)),
}


def check(device: str, name: str, size: int) -> None:
    """The values of the CPU, in every call the same bits."""
    build, (rows, columns) = PROGRAMS[name]
    rows, columns = (size // columns if rows < 0 else rows), (size // rows if columns < 0 else columns)
    rng = np.random.default_rng(7)
    value = rng.integers(-8, 9, (rows, columns)).astype("float32") / 8  # sums of these are exact, for a while
    chosen = rng.integers(0, 700, rows)
    made = build()
    made = made if isinstance(made, list) else [made]
    f, reference = (
        function([x, places], made, device=where, on_unused_input="ignore") for where in (device, "cpu")
    )  # fmt: skip
    found, wanted = f(value, chosen), reference(value, chosen)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for _ in range(3):
        for one, again in zip(found, f(value, chosen), strict=True):
            np.testing.assert_array_equal(one, again)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(1 << 16) + 24, 6_000_000])
@pytest.mark.parametrize("name", PROGRAMS)
def test_on_a_gpu(gpu: str, name: str, size: int) -> None:
    check(gpu, name, size)


@pytest.mark.cuda_host
@pytest.mark.parametrize("name", PROGRAMS)
def test_on_the_host(name: str) -> None:
    devices.use(host_device())
    try:
        check("cuda", name, 24_000)
    finally:
        devices.forget("cuda:0")
