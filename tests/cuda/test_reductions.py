"""Many reductions of one matrix: what a thread combines stays in its registers, whatever is asked for at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda.compiling.compile import FULL, resources
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.text.emit import emit_kernel
from symtensor_codegen.loops import ArgUpdate, Declare, For, Kernel, Store, parameter
from symtensor_codegen.scalar import Buffer, Register, Scalar
from tests.cuda.host import HostDevice

Array = np.ndarray[Any, Any]
Compute = Callable[..., Any]


class Kind(NamedTuple):
    """Reduction number ``k`` of a matrix along an axis, and what NumPy gives."""

    build: Callable[[Any, int, int | None], Any]
    numpy: Callable[[Array, int, int | None], Any]


def place(number: int) -> tuple[Compute, Compute]:
    return (T.argmin, np.argmin) if number % 2 else (T.argmax, np.argmax)


MIXED = ((T.sum, np.sum), (T.max, np.max), (T.argmax, np.argmax), (T.min, np.min), (T.argmin, np.argmin))
KINDS = {
    "places": Kind(lambda x, k, a: place(k)[0](x * (k + 1), a), lambda x, k, a: place(k)[1](x * (k + 1), a)),
    "extremes": Kind(lambda x, k, a: T.max(x * (k + 1), a), lambda x, k, a: np.max(x * (k + 1), a)),
    "sums": Kind(lambda x, k, a: ((x + k) * x).sum(a), lambda x, k, a: ((x + k) * x).sum(a)),
    "mixed": Kind(lambda x, k, a: MIXED[k % 5][0](x + k, a), lambda x, k, a: MIXED[k % 5][1](x + k, a)),
}
COUNTS = (3, 6, 9, 12, 16)


def reductions(dtype: str, kind: str, count: int, axis: int | None) -> tuple[Any, list[Any]]:
    x = T.TensorType(dtype, (None, None))("x")
    return x, [KINDS[kind].build(x, k, axis) for k in range(count)]


def kernels_of(inputs: list[Any], outputs: list[Any]) -> list[Kernel]:
    return list(function(inputs, outputs, device="cuda:sm_90").compilation.plan.program.kernels())


def spilled(kernel: Kernel, architecture: str = "sm_90") -> int:
    """The bytes that the launches of a kernel keep in memory instead of registers."""
    used = resources(emit_kernel(kernel, schedule(kernel), "k"), architecture, "k").values()
    return max(max(one.spill_bytes, one.local_bytes) for one in used)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_nothing_spills(dtype: str, kind: str, axis: int) -> None:
    for count in COUNTS:
        x, outputs = reductions(dtype, kind, count, axis)
        (kernel,) = kernels_of([x], outputs)
        assert spilled(kernel) == 0, f"{count} at once"


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80"])
def test_nothing_spills_on_older_devices(architecture: str) -> None:
    """They have fewer registers to spare where the compiler calls functions."""
    for axis in (0, 1):
        x, outputs = reductions("float64", "places", 16, axis)
        (kernel,) = kernels_of([x], outputs)
        assert spilled(kernel, architecture) == 0


def test_a_few_are_one_loop() -> None:
    """The compiler takes care of registers only where there are many, and loops are cut only where it cannot."""

    def told(count: int, kind: str, axis: int) -> tuple[int, bool]:
        x, outputs = reductions("float64", kind, count, axis)
        (kernel,) = kernels_of([x], outputs)
        stages = schedule(kernel).stages
        return len(stages), emit_kernel(kernel, schedule(kernel), "k").startswith(FULL)

    for kind in KINDS:
        for axis in (0, 1):
            assert told(3, kind, axis) == (2, False)
    assert told(10, "places", 1) == (2, True)
    assert told(16, "places", 1) == told(16, "places", 0) == (4, True)  # two loops, each with its second stage
    assert told(16, "sums", 1) == (2, True)


@pytest.mark.cuda_host
@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_values(kind: str, axis: int | None, device: HostDevice) -> None:
    x, outputs = reductions("float64", kind, 18, axis)
    compiled = function([x], outputs, device="cuda")
    for size in ((1, 1), (3, 8), (40, 70), (2, 5000), (6000, 4), (300, 7)):
        values = np.random.default_rng(1).integers(-9, 9, size).astype("f8")
        for number, got in enumerate(compiled(values)):
            np.testing.assert_array_equal(got, KINDS[kind].numpy(values, number, axis), f"{number} of {size}")


@pytest.mark.cuda_host
@pytest.mark.parametrize("axis", [0, 1])
def test_values_that_belong_together(axis: int, device: HostDevice) -> None:
    """Loops whose results meet in one value, and that need the value of an earlier loop, stay in one item."""
    x = T.dmatrix("x")
    centred = x - x.mean(axis, keepdims=True)
    total = sum(place(k)[0](centred * (k + 1), axis) * (k + 1) for k in range(17))
    compiled = function([x], [total, centred.max(axis)], device="cuda")
    for size in ((4, 8), (64, 32), (2, 4096), (4096, 4), (16, 8)):  # powers of two: means of integers are exact
        values = np.random.default_rng(2).integers(-99, 99, size) * 1.0
        apart = values - values.mean(axis, keepdims=True)
        found, largest = compiled(values)
        wanted = sum(place(k)[1](apart * (k + 1), axis) * (k + 1) for k in range(17))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(largest, apart.max(axis))


def test_what_is_read_where_an_update_may_be_written() -> None:
    """An update in place is written where an item reads: then no later launch may read it, so there is one item."""
    n, m = parameter(0), parameter(1)
    i, j = scalar.index("i", n), scalar.index("j", m)
    x, v = Buffer("x", dtypes.float64, (n * m,)), Buffer("v", dtypes.int64, (n,))
    results = [Buffer(f"place_{k}", dtypes.int64, (n,)) for k in range(16)]

    def stages(factor: Scalar, at: Scalar) -> int:
        bests = [Register("best", dtypes.float64) for _ in results]
        places = [Register("place", dtypes.int64) for _ in results]
        first = [Declare(r, scalar.const(-np.inf, dtypes.float64)) for r in bests]
        first += [Declare(r, scalar.const(0, dtypes.int64)) for r in places]
        value = scalar.load(x, (i * m + j,)) * scalar.cast(factor, dtypes.float64)
        pairs = zip(bests, places, strict=True)
        loop = For(j, m, tuple(ArgUpdate(b, p, "argmax", value * (k + 1.0), j) for k, (b, p) in enumerate(pairs)))
        stores = [Store(out, (at,), scalar.read(p)) for out, p in zip(results, places, strict=True)]
        body = (For(i, n, (*first, loop, *stores)),)
        return len(schedule(Kernel("k0", (*results, x, v), (n, m), body, written=frozenset(results))).stages)

    assert stages(scalar.load(v, (i,)), i) == 1
    assert stages(scalar.load(v, (i,)), i + 1) == 4
    assert stages(scalar.load(v, (i * 2,)), i) == 4
    assert stages(scalar.load(results[0], (i * 2,)), i) == 1


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dtype", ["int8", "bool", "uint16", "float16", "complex64"])
def test_packs_of_any_width_are_code(dtype: str, axis: int | None) -> None:
    """Of many arrays of small elements packs are narrow: two bytes, or four."""
    for count in (2, 30 if dtype == "int8" else 8):
        arrays = [T.TensorType(dtype, (64, 96))(f"x{k}") for k in range(count)]
        total = [T.any(x, axis) if dtype == "bool" else T.sum(x * x, axis) for x in arrays]
        if dtype == "int8":
            total += [T.max(x, axis) for x in arrays]
        for kernel in kernels_of(arrays, total):  # compiled here
            assert spilled(kernel) == 0, (count, kernel.name)
