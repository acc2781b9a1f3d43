"""The host as a CUDA device: it runs what a device would run, and does not let pass what a device might get wrong."""

from __future__ import annotations

import re
import struct
from contextlib import nullcontext

import numpy as np
import pytest

from symtensor_codegen.cuda.errors import DeviceError, DeviceFault, DeviceMemoryError
from tests.cuda import kernels
from tests.cuda.host import HostDevice, compiler, host_device, require_compiler
from tests.cuda.host.device import ORDERS
from tests.cuda.kernels import kernel
from tests.cuda.launches import NO_FAILURE, launch

RNG = np.random.default_rng(4)
F32, I32 = np.float32, np.int32


def numbers(*shape: int) -> np.ndarray:
    return RNG.integers(-8, 8, shape).astype(F32)  # sums are exact in any order


@pytest.fixture(params=["plain", "checked"])
def device(request: pytest.FixtureRequest) -> HostDevice:
    return host_device(checked=request.param == "checked")


def fault(device: HostDevice, text: str, arrays: list[np.ndarray], n: int, grid: int = 1, block: int = 64) -> str:
    with pytest.raises(DeviceFault) as caught:
        launch(device, text, arrays, n, grid, block)
    assert "kernel k_0" in str(caught.value)
    return str(caught.value)


# ---- kernels that are right -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("checked", [False, True])
def test_right_kernels(order: str, checked: bool) -> None:
    device = host_device(checked, order)
    x = numbers(1000)
    (_, y), status = launch(device, kernels.ELEMENTWISE, [x, np.zeros(1000, F32)], 1000, 3, 64)
    np.testing.assert_array_equal(y, x * 2 + 1)
    assert status == NO_FAILURE
    rows = x.reshape(4, 250)
    for text, block in ((kernels.WARP_SUM, 32), (kernels.BLOCK_SUM, 256)):
        (_, y), _ = launch(device, text, [rows, np.zeros(4, F32)], 250, 4, block)
        np.testing.assert_array_equal(y, rows.sum(1))
    arrays = [x, np.zeros(5, F32), np.zeros(1, np.uint32), np.zeros(1, F32)]
    (_, _, counter, y), _ = launch(device, kernels.LAST_BLOCK, arrays, 1000, 5, 32)
    assert (y[0], counter[0]) == (x.sum(), 0)
    kinds = RNG.integers(0, 7, 1000)
    (_, counts), status = launch(device, kernels.HISTOGRAM, [kinds.astype(F32), np.zeros(7, I32)], 1000, 2, 64)
    np.testing.assert_array_equal(counts, np.bincount(kinds, minlength=7))
    assert status == NO_FAILURE
    assert launch(device, kernels.HISTOGRAM, [-x * x - 1, np.zeros(7, I32)], 1000, 2, 64)[1] == 2


def test_orders_differ() -> None:
    """Who comes first: asked by one atomic counter in every thread."""
    text = kernel("y[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(&x[0], 1);", "int* x, int* y")
    places = {}
    for order in (*ORDERS, "mixed"):
        device = host_device(order=order, seed=1)
        runs = [launch(device, text, [np.zeros(1, I32), np.zeros(96, I32)], 0, 3, 32)[0][1] for _ in range(3)]
        assert all(sorted(run) == list(range(96)) for run in runs)
        places[order] = [tuple(run) for run in runs]
    assert places["forward"] == [tuple(range(96))] * 3
    assert places["reverse"] == [tuple(range(95, -1, -1))] * 3
    assert len({*places["random"], *places["forward"], *places["reverse"]}) == 5
    assert len(set(places["mixed"])) > 1
    again = host_device(order="random", seed=1)
    assert tuple(launch(again, text, [np.zeros(1, I32), np.zeros(96, I32)], 0, 3, 32)[0][1]) == places["random"][0]


def test_lanes_exchange(device: HostDevice) -> None:
    text = kernel(
        """\
    const int lane = threadIdx.x, v = 100 + lane;
    y[lane] = __shfl_sync(0xffffffffu, v, 5, 8);
    y[32 + lane] = __shfl_up_sync(0xffffffffu, v, 3, 16);
    y[64 + lane] = __shfl_down_sync(0xffffffffu, v, 3, 16);
    y[96 + lane] = __shfl_xor_sync(0xffffffffu, v, 9, 8);
    y[128 + lane] = (int)(__shfl_sync(0xffffffffu, (double)v * 0.5, lane + 1) * 2.0);
    y[160 + lane] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
    if (lane < 16) y[192 + lane] = __shfl_xor_sync(0x0000ffffu, v, 1);
    else y[192 + lane] = __shfl_up_sync(0xffff0000u, v, 1, 16);
    y[224 + lane] = (int)__match_any_sync(0xffffffffu, (long long)(lane % 3) << 40);""",
        "int* __restrict__ y",
        32,
    )
    y = launch(device, text, [np.zeros(256, I32)], 0)[0][0].reshape(8, 32) - 100
    lane = np.arange(32)
    half, eighth = lane // 16 * 16, lane // 8 * 8
    np.testing.assert_array_equal(y[0], eighth + 5)
    np.testing.assert_array_equal(y[1], np.where(lane - 3 >= half, lane - 3, lane))
    np.testing.assert_array_equal(y[2], np.where(lane + 3 < half + 16, lane + 3, lane))
    np.testing.assert_array_equal(y[3], np.where((lane ^ 9) < eighth + 8, lane ^ 9, lane))
    np.testing.assert_array_equal(y[4], (lane + 1) % 32)
    np.testing.assert_array_equal(y[5] + 100, sum(1 << k for k in range(0, 32, 3)))
    np.testing.assert_array_equal(y[6], np.where(lane < 16, lane ^ 1, np.where(lane > 16, lane - 1, lane)))
    alike = [sum(1 << k for k in range(m, 32, 3)) for m in range(3)]
    np.testing.assert_array_equal((y[7] + 100).view(np.uint32), np.take(alike, lane % 3))


def test_grids_of_three_axes(device: HostDevice) -> None:
    text = kernel(
        """\
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    const int page = blockIdx.z * blockDim.z + threadIdx.z;
    const int width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
    y[(page * height + row) * width + column] = (page * 10 + row) * 10 + column;""",
        "int* y",
    )
    function = device.load(device.code(text, "k")).function("k_0")
    y, out = device.allocate(4 * 192), np.empty((4, 6, 8), I32)
    packed = y.address.to_bytes(8, "little") + bytes(8) + bytes(8) + bytes(4)
    device.launch(function, (4, 3, 2), (2, 2, 2), packed)
    device.download(out, y.address)
    page, row, column = np.indices(out.shape)
    np.testing.assert_array_equal(out, (page * 10 + row) * 10 + column)


def test_warp_order_suffices_within_a_warp(checked_host: HostDevice) -> None:
    body = """\
    __shared__ f32 tile[32];
    tile[threadIdx.x] = x[threadIdx.x];
    SYNC
    y[threadIdx.x] = tile[31 - threadIdx.x];"""
    x = numbers(32)
    y = launch(checked_host, kernel(body.replace("SYNC", "__syncwarp();")), [x, x], 0)[0][1]
    np.testing.assert_array_equal(y, x[::-1])
    message = fault(checked_host, kernel(body.replace("SYNC", "")), [x, x], 0, block=32)
    assert "tile[" in message


def test_vector_accesses(device: HostDevice) -> None:
    text = kernels.HEAD + (
        "struct __align__(16) f32x4 { f32 v[4]; };\n"
        'extern "C" __global__ void k_0(const f32* x, f32* y, const i64 n, int* status, int first) {\n'
        "    f32x4 pack = *reinterpret_cast<const f32x4*>(x + n);\n"
        "    for (int k = 0; k < 4; ++k) pack.v[k] += 1.0f;\n"
        "    *reinterpret_cast<f32x4*>(y) = pack;\n}\n"
    )
    x = numbers(8)
    np.testing.assert_array_equal(launch(device, text, [x, np.zeros(4, F32)], 4, block=1)[0][1], x[4:] + 1)
    assert "not aligned" in fault(device, text, [x, np.zeros(4, F32)], 3, block=1)


def test_halves(host: HostDevice) -> None:
    """Every float16, what lies between two of them, and values where rounding twice would be wrong."""
    text = kernel(
        """\
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
        widened[i] = st_half_to_float(x[i]);
        narrowed[i] = st_float_to_half(f[i]);
        direct[i] = st_double_to_half(d[i]);
    }""",
        "const unsigned short* x, const float* f, const double* d,"
        " float* widened, unsigned short* narrowed, unsigned short* direct",
    )
    every = np.arange(1 << 16, dtype=np.uint16)
    exact = every.view(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        between = (exact + np.roll(exact, -1)) / 2
        shifts = RNG.choice([0, 1e-12, -1e-12, 1e-4, -1e-4], exact.size)
        doubles = np.where(np.isfinite(between), between, exact) * (1 + shifts)
        doubles[:6] = 65504, 65519.999, 65520, 1e300, 2.0**-25, -(2.0**-25) * 1.000001
        floats = doubles.astype(F32)
        wanted = [exact.astype(F32), floats.astype(np.float16), doubles.astype(np.float16)]
    zeros = np.zeros(1 << 16, np.uint16)
    arrays = [every, floats, doubles, np.zeros(1 << 16, F32), zeros, zeros]
    got = launch(host, text, arrays, 1 << 16, block=256)[0][3:]
    for have, want in zip([got[0], got[1].view(np.float16), got[2].view(np.float16)], wanted, strict=True):
        np.testing.assert_array_equal(have, want)
        np.testing.assert_array_equal(np.signbit(have), np.signbit(want))


# ---- kernels that are wrong -------------------------------------------------------------------------------------


def test_missing_barrier(checked_host: HostDevice) -> None:
    first, second = kernels.BLOCK_SUM_BODY.split("    __syncthreads();\n    for")
    message = fault(checked_host, kernel(first + "    for" + second), [numbers(250), numbers(1)], 250, block=256)
    assert re.search(r"shared-memory race on tile\[\d+\]: it (reads|writes) what thread .* (wrote|read)", message)
    inside = kernels.BLOCK_SUM_BODY.replace("half];\n        __syncthreads();", "half];")
    assert "no barrier is between" in fault(checked_host, kernel(inside), [numbers(250), numbers(1)], 250, block=256)


def test_write_after_read_without_barrier(checked_host: HostDevice) -> None:
    text = kernel(
        """\
    __shared__ f32 one[1];
    for (int k = 0; k < 2; ++k) {
        if (threadIdx.x == 0) one[0] = x[k];
        __syncthreads();
        y[2 * threadIdx.x + k] = one[0];
    }"""
    )
    assert "race on one[0]" in fault(checked_host, text, [numbers(2), numbers(128)], 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y[threadIdx.x + 1] = x[threadIdx.x];", r"it writes y\[64\], which is outside"),
        ("y[threadIdx.x] = x[(i64)threadIdx.x - 1];", r"it reads x\[-1\], which is outside"),
        ("const_cast<f32*>(x)[threadIdx.x] = 1.0f;", r"it writes x\[\d+\], a constant parameter"),
        ("struct two { f32 v[2]; };\n *(two*)(y + 63) = *(two*)x;", r"it writes 8 bytes at y\[63\], past the end"),
        ("__shared__ f32 t[64];\n y[threadIdx.x] = t[threadIdx.x];", r"it reads t\[\d+\], which nothing has written"),
        ("y[threadIdx.x / 2] = 1.0f;", r"global-memory race on y\[\d+\]: it writes what thread \(\d+, 0, 0\) wrote"),
        ("y[threadIdx.x] = threadIdx.x ? y[threadIdx.x - 1] : 0.0f;", r"global-memory race on y"),
        ("atomicAdd(y, 1.0f);\n if (threadIdx.x == 3) y[0] = 0.0f;", r"global-memory race on y\[0\]"),
    ],
)
def test_wrong_accesses(checked_host: HostDevice, body: str, message: str) -> None:
    assert re.search(message, fault(checked_host, kernel(body), [numbers(64), numbers(64)], 0))


def test_races_between_blocks(checked_host: HostDevice) -> None:
    text = kernel("if (threadIdx.x == 0) y[0] = (f32)blockIdx.x;")
    message = fault(checked_host, text, [numbers(1), numbers(1)], 0, grid=2)
    assert re.search(r"race on y\[0\]: it writes what .* of block [01] wrote; nothing orders blocks", message)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("        parts[blockIdx.x] = sum;\n        __threadfence();\n", "        parts[blockIdx.x] = sum;\n"),
        ("- 1;\n        __threadfence();\n", "- 1;\n"),
        ("    }\n    __syncthreads();\n", "    }\n"),
    ],
    ids=["fence before", "fence after", "barrier"],
)
def test_unfinished_last_block(checked_host: HostDevice, right: str, wrong: str) -> None:
    assert right in kernels.LAST_BLOCK_BODY
    text = kernel(kernels.LAST_BLOCK_BODY.replace(right, wrong), kernels.LAST_BLOCK_PARAMETERS)
    arrays = [numbers(100), numbers(5), np.zeros(1, np.uint32), numbers(1)]
    assert re.search("race on|nothing has written", fault(checked_host, text, arrays, 100, grid=5, block=32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x < 8) return;\n __syncthreads();", r"waits at __syncthreads in line 4, .* has returned"),
        ("if (threadIdx.x < 8) __syncthreads();", r"waits at __syncthreads in line 3, .* has returned"),
        ("if (threadIdx.x < 8)\n __syncthreads();\n else\n __syncthreads();", "different barriers: .* line 4, .* 6"),
        ("if (threadIdx.x == 1) __syncwarp(); else __syncthreads();", "not all threads reach.*__syncwarp"),
        ("if (threadIdx.x < 8) return;\n y[0] = __shfl_sync(0xffffffffu, 1.0f, 3);", "lane 3, which takes no part"),
        ("y[0] = __shfl_sync(0x1u, 1.0f, 0);", "mask 0x1 lacks the calling lane"),
        ("y[0] = __shfl_sync(0xffffffffu, 1.0f, 0, 12);", "a width of 12"),
        ("if (threadIdx.x % 2)\n __syncwarp();\n else\n __syncwarp();", "disagree: .* line 4"),
    ],
)
def test_threads_that_do_not_meet(device: HostDevice, body: str, message: str) -> None:
    assert re.search(message, fault(device, kernel(body), [numbers(64), numbers(64)], 0))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("status[0] = (int)n * 65536 * 65536;", "a signed product overflows"),
        ("status[0] = 1 << (int)n;", "a shift by more bits"),
        ("status[0] = 3 / (int)(n - 40);", "division by zero"),
        ("__shared__ f32 t[64];\n t[threadIdx.x + n] = 1.0f;", "an index outside of its array"),
        ("reinterpret_cast<f32*>(n * 8)[0] = 1.0f;", "memory that is not there|outside of the memory"),
        ("status[0] = (int)((f32)n * 1e9f);", "a number too large for the integer type"),
        ("__trap();", "__trap in line 3"),
    ],
)
def test_undefined_behaviour(device: HostDevice, body: str, message: str) -> None:
    assert re.search(message, fault(device, kernel(body), [numbers(64), numbers(64)], 40))
    y = launch(device, kernels.ELEMENTWISE, [numbers(64), numbers(64)], 64, 1, 64)  # and it goes on working
    assert y[1] == NO_FAILURE


def test_broken_restrict(checked_host: HostDevice) -> None:
    function = checked_host.load(checked_host.code(kernels.ELEMENTWISE, "k")).function("k_0")
    x = checked_host.allocate(64)
    for size in (0, 16):  # without elements nothing is shared
        packed = struct.pack("QQqQi", x.address, x.address, size, 0, 0)
        with pytest.raises(DeviceFault, match="x and y are __restrict__, and the same") if size else nullcontext():
            checked_host.launch(function, (1, 1, 1), (32, 1, 1), packed)


@pytest.mark.parametrize(
    ("grid", "block", "size", "message"),
    [
        ((1, 1, 1), (512, 1, 1), 36, "512 threads in a block; at most 256"),
        ((0, 1, 1), (32, 1, 1), 36, "an empty launch"),
        ((1, 70000, 1), (32, 1, 1), 36, "too large"),
        ((1, 1, 1), (32, 1, 1), 40, "40 bytes of arguments for parameters of 36"),
    ],
)
def test_wrong_launches(
    host: HostDevice, grid: tuple[int, int, int], block: tuple[int, int, int], size: int, message: str
) -> None:
    function = host.load(host.code(kernels.ELEMENTWISE, "k")).function("k_0")
    with pytest.raises(DeviceFault, match=message):
        host.launch(function, grid, block, bytes(size))


# ---- memory, code, order ----------------------------------------------------------------------------------------


def test_memory_shows_what_was_not_written(host: HostDevice) -> None:
    block = host.allocate(100)
    assert block.address % 256 == 0
    out = np.zeros(100, np.uint8)
    host.download(out, block.address)
    assert (out == 0xA5).all()
    host.fill(block.address, 100, 7)
    host.copy(block.address + 50, block.address, 50)
    host.download(out, block.address)
    assert (out == 7).all()
    assert host.ordinal_of(block.address) == 0
    for nbytes in (101, 1 << 20):
        with pytest.raises(DeviceError, match="not within one block"):
            host.fill(block.address, nbytes, 0)
    address = block.address
    del block
    assert host.ordinal_of(address) is None
    assert host.allocate(0).size == 16


def test_memory_has_a_limit() -> None:
    require_compiler()
    with pytest.raises(DeviceMemoryError, match="cuda:1 is out of memory"):
        HostDevice(name="cuda:1", memory_limit=1 << 20).allocate((1 << 20) + 1)


def test_stores_beyond_a_block_are_seen_without_checks(host: HostDevice) -> None:
    x, y = numbers(64), numbers(64)
    text = kernel("y[threadIdx.x + 64] = 1.0f;")
    assert "wrote outside of its memory" in fault(host, text, [x, y], 0)


def test_many_texts_at_once(host: HostDevice) -> None:
    texts = [(kernels.BLOCK_SUM.replace("k_0", f"many{k}_0"), f"many{k}") for k in range(5)]
    image = host.code_many(texts)
    assert all(host.code(*text) is image for text in texts)
    module = host.load(image)
    assert {module.function(f"{symbol}_0").name for _, symbol in texts} == {f"many{k}_0" for k in range(5)}
    other = host_device()
    assert other.code(*texts[0]) != image
    assert other.load(image).function("many3_0").name == "many3_0"
    with pytest.raises(DeviceError, match="no kernel k_0"):
        module.function("k_0")
    with pytest.raises(ValueError, match="one name"):
        host.code_many([texts[0], texts[0]])


def test_texts_that_cannot_be_compiled(host: HostDevice) -> None:
    with pytest.raises(compiler.HostCompileError, match=r"k:3:\d+: error: .*undeclared_name"):
        host.code(kernel("y[0] = undeclared_name;"), "k")
    with pytest.raises(ValueError, match="shared array that the host does not understand"):
        host.code(kernel("extern __shared__ f32 tile[], other;"), "k")


def test_late_faults() -> None:
    """As on a device: the launch returns, the next synchronisation tells."""
    require_compiler()
    device = HostDevice(late_faults=True)
    function = device.load(device.code(kernel("__trap();"), "k")).function("k_0")
    device.launch(function, (1, 1, 1), (32, 1, 1), bytes(36))
    with pytest.raises(DeviceFault, match="__trap in line 3"):
        device.synchronize()
    device.synchronize()
    assert device.launches == ["k_0"]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compiler", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"install it .*g\+\+"):
        host_device()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"install it .*g\+\+"):
        host_device()
