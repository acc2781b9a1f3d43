"""Kernels as CUDA text: every form of stage, on a device that notices races, bounds and memory nobody wrote."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda.schedules.dependence import independent, scan_of
from symtensor_codegen.cuda.schedules.nested_sums import merged
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.schedules.stages import Stage
from symtensor_codegen.cuda.text.emit import emit_kernel
from symtensor_codegen.loops import Declare, For, Kernel, LoopKind, Statement, Store, Update, parameter
from symtensor_codegen.scalar import Buffer, Register
from tests.cuda.host import HostDevice
from tests.cuda.launches import run_kernel

pytestmark = [pytest.mark.cuda_host, pytest.mark.usefixtures("device")]
Array = np.ndarray[Any, Any]
Compute = Callable[..., Any]


class Example(NamedTuple):
    """An expression of a matrix, what NumPy gives, and the stages that compute it."""

    build: Compute
    numpy: Compute
    stages: tuple[str, ...]


def told(stage: Stage) -> str:
    """A stage in a few words."""
    words = [stage.form]
    words += ["column"] if stage.column else []
    for name in ("pairs", "scans", "packs", "tiles", "fans", "spread", "source", "owners"):
        if getattr(stage, name):
            words.append(name)
    return " ".join(words)


def in_order(x: Array) -> Array:
    """Elements added at places that repeat, one after the other."""
    result = np.zeros(5)
    np.add.at(result, np.arange(x.shape[1]) % 5, x[0])
    return result


EXAMPLES = {
    "elementwise": Example(lambda x: T.exp(x) * 2 + 1, lambda x: np.exp(x) * 2 + 1, ("map packs",)),
    "one value": Example(lambda x: x[0, 0] * 2, lambda x: x[0, 0] * 2, ("owned",)),
    "transposed": Example(lambda x: x.T + 1, lambda x: x.T + 1, ("nest tiles",)),
    "broadcast": Example(lambda x: x + x[0], lambda x: x + x[0], ("nest packs",)),
    "rows": Example(lambda x: (x * x).sum(1), lambda x: (x * x).sum(1), ("team packs spread", "team column source")),
    "columns": Example(lambda x: x.max(0), lambda x: x.max(0), ("team column packs spread", "team column source")),
    "places": Example(lambda x: x.argmin(1), lambda x: x.argmin(1), ("team packs spread", "team column source")),
    "everything": Example(lambda x: x.sum(), lambda x: x.sum(), ("team packs", "team packs")),
    "sum of sums": Example(lambda x: (x + x[0]).sum(), lambda x: (x + x[0]).sum(), ("team pairs packs", "team packs")),
    "softmax": Example(
        T.nnet.softmax, lambda x: np.exp(x - x.max(1)[:, None]) / np.exp(x - x.max(1)[:, None]).sum(1)[:, None],
        ("team packs",),
    ),
    "running sums": Example(
        lambda x: T.cumsum(x, 1), lambda x: np.cumsum(x, 1), ("team packs spread", "team scans packs source")
    ),
    "running sums down": Example(
        lambda x: T.cumsum(x, 0), lambda x: np.cumsum(x, 0), ("team column spread", "team column scans source")
    ),
    "one running sum": Example(
        lambda x: T.cumsum(x[0]), lambda x: np.cumsum(x[0]), ("team packs spread", "team scans packs source")
    ),
    "side by side": Example(
        lambda x: T.concatenate([x, 2 * x], 1), lambda x: np.concatenate([x, 2 * x], 1), ("nest packs", "nest packs")
    ),
    "in order": Example(
        lambda x: T.inc_subtensor(T.zeros(5)[T.arange(x.shape[1]) % 5], x[0]), in_order, ("map packs", "scatter")
    ),
    "one after the other": Example(
        lambda x: T.abs(T.prod(T.exp(1j * x[0]))), lambda x: np.abs(np.prod(np.exp(1j * x[0]))),
        ("owned owners", "owned"),
    ),
}  # fmt: skip
SIZES = ((1, 1), (3, 5), (4, 8), (33, 7), (2, 300), (260, 3), (5, 1000), (600, 129))


@pytest.mark.parametrize("name", EXAMPLES)
def test_forms(name: str) -> None:
    example = EXAMPLES[name]
    x = T.dmatrix("x")
    compiled = function([x], example.build(x), device="cuda")
    kernels = compiled.compilation.plan.program.kernels()
    assert tuple(told(stage) for kernel in kernels for stage in schedule(kernel).stages) == example.stages
    rng = np.random.default_rng(len(name))
    for size in SIZES:
        values = rng.normal(size=size)
        np.testing.assert_allclose(compiled(values), example.numpy(values), rtol=1e-11, atol=1e-12, err_msg=f"{size}")


def test_memory_that_is_walked_through_decides_who_is_beside_whom() -> None:
    """Sums over images and places, for each channel: its own numbers are neighbours, but read once."""
    x, mean, scale = T.ftensor3("x"), T.fvector("mean"), T.fvector("scale")
    value = ((x - mean[:, None]) * scale[:, None] * mean[:, None]).sum((0, 2))
    compiled = function([x, mean, scale], value, device="cuda")
    (kernel,) = compiled.compilation.plan.program.kernels()
    assert next(told(stage) for stage in schedule(kernel).stages) == "team pairs packs spread"
    rng = np.random.default_rng(0)
    u, v, w = (rng.integers(-2, 3, size=s).astype("f4") for s in ((5, 6, 70), 6, 6))
    np.testing.assert_array_equal(compiled(u, v, w), ((u - v[:, None]) * (w * v)[:, None]).sum((0, 2)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "bool", "uint8", "int64", "complex128"])
def test_element_types(dtype: str) -> None:
    x = T.TensorType(dtype, (None, None))("x")
    wide = T.cast(x, "float64") if dtype in ("float16", "bool") else x
    outputs = [x, T.concatenate([x, x], 1), wide.sum(1), x.T]
    compiled = function([x], outputs, device="cuda")
    values = (np.arange(33 * 13).reshape(33, 13) % 7).astype(dtype)
    wanted = [values, np.concatenate([values, values], 1), values.sum(1, dtype=wide.dtype), values.T]
    for got, want in zip(compiled(values), wanted, strict=True):
        np.testing.assert_array_equal(got.astype(want.dtype), want)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "float16", "int64"])
def test_axes_in_another_order(dtype: str) -> None:
    """Tiles of every shape, alone and with arrays that are read as they lie."""
    x, y = (T.TensorType(dtype, (None,) * 3)(name) for name in "xy")
    number = "float64" if dtype == "bool" else dtype
    a, b = T.cast(x, number), T.cast(y, number)
    orders = list(itertools.permutations(range(3)))
    outputs = [(a + a)[::2].dimshuffle(order) for order in orders]
    outputs += [b + a.dimshuffle(2, 0, 1), a.dimshuffle(2, 1, 0) * a.dimshuffle(2, 1, 0)[:, ::-1] + b[:, :1]]
    compiled = function([x, y], outputs, device="cuda")
    for size in ((1, 1, 1), (2, 3, 4), (33, 2, 70), (1, 300, 5), (40, 1, 31), (3, 2, 1030), (0, 4, 3), (130, 3, 129)):
        u = (np.arange(np.prod(size)).reshape(size) % 7).astype(dtype)
        v = (np.arange(np.prod(size)).reshape(size[2], *size[:2]) % 5).astype(dtype)
        p, q = u.astype(number), v.astype(number)
        wanted = [(p + p)[::2].transpose(order) for order in orders] + [q + p.transpose(2, 0, 1)]
        if size[0] == size[1]:
            turned = p.transpose(2, 1, 0)
            wanted.append(turned * turned[:, ::-1] + q[:, :1])
            found = compiled(u, v)
        else:
            found = function([x, y], outputs[:-1], device="cuda")(u, v)
        for position, (got, want) in enumerate(zip(found, wanted, strict=True)):
            np.testing.assert_array_equal(got, want, err_msg=f"{position} of {size}")


def _cut(number: float, target: str) -> int:
    """What a number becomes as an integer: by way of 32 bits, or 64; beyond those the least integer."""
    bits = 64 if target in ("int64", "uint64", "uint32") else 32
    least, beyond = -(1 << bits - 1), target == "uint64" and number >= 2.0**63
    number = number - 2.0**63 if beyond else number
    whole = int(number) if least <= number < -least else least
    return (whole ^ (1 << 63) if beyond else whole) % (1 << np.dtype(target).itemsize * 8)


@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_numbers_that_integers_cannot_hold(target: str) -> None:
    numbers = [0, -0.9, 1.5, 127.5, 128, 255.9, 256, -129, 32768, -32769, 65536, 2.0**31 - 1, 2.0**31, -(2.0**31)]
    numbers += [-(2.0**31) - 1, 2.0**32, 2.0**32 + 5, 2.0**53, 2.0**63, -(2.0**63), 2.0**64, 1e30, -1e30]
    for source in ("float64", "float32", "float16"):
        with np.errstate(over="ignore"):
            values = np.array([*numbers, np.inf, -np.inf, np.nan]).astype(source)
        x = T.TensorType(source, (None,))("x")
        found = function([x], T.cast(x, target), device="cuda")(values)
        wanted = [_cut(float(value), target) for value in values]
        np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), np.array(wanted, f"u{found.itemsize}"))


def test_rows_that_begin_anywhere() -> None:
    """Packs are for rows that begin at multiples of them; others are read one by one."""
    x = T.fmatrix("x")
    compiled = function([x], [T.exp(x[:, 1:]).sum(1), x[1:] * 2, x[:, ::-1]], device="cuda")
    for columns in (8, 9, 10, 11, 130):
        values = np.random.default_rng(columns).normal(size=(6, columns)).astype("float32")
        sums, rest, turned = compiled(values)
        np.testing.assert_allclose(sums, np.exp(values[:, 1:]).sum(1), rtol=1e-5)
        np.testing.assert_array_equal(rest, values[1:] * 2)
        np.testing.assert_array_equal(turned, values[:, ::-1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_neighbouring_columns(dtype: str) -> None:
    """A thread has several columns where every row begins at a multiple of a pack, and has whole packs; else one."""
    x, y, scale = (T.TensorType(dtype, (None,) * n)(name) for n, name in ((2, "x"), (2, "y"), (1, "scale")))
    number = "float64" if dtype == "bool" else dtype
    a, b, c = (T.cast(v, number) for v in (x, y, scale))
    outputs = [a.sum(0), a.max(0), a[1:].min(0), a[:, 1:].sum(0), (a * b).sum(0), (a * c).sum(0), a.T.sum(1)]
    outputs += [T.cast(a, "float64").mean(0), a.reshape((2, -1, x.shape[1])).sum(1)]
    compiled = function([x, y, scale], outputs, device="cuda")
    rng = np.random.default_rng(5)
    for rows, columns in ((2, 4), (300, 8), (4, 12), (6, 10), (2, 7), (3000, 64), (40, 132), (34, 4100), (6, 1)):
        most = 2 if dtype == "float16" else 3  # float16 has no odd numbers above 2048
        u, v, w = (rng.integers(0, most, size=s).astype(dtype) for s in ((rows, columns), (rows, columns), columns))
        p, q, r = u.astype(number), v.astype(number), w.astype(number)
        wanted = [p.sum(0), p.max(0), p[1:].min(0), p[:, 1:].sum(0), (p * q).sum(0), (p * r).sum(0), p.sum(0)]
        wanted += [p.mean(0, dtype="float64"), p.reshape(2, -1, columns).sum(1)]
        for position, (got, want) in enumerate(zip(compiled(u, v, w), wanted, strict=True)):
            note = f"{position} of {rows} x {columns}"
            np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), 1e-12, err_msg=note)


def test_loops_that_follow_each_other_are_launches(device: HostDevice) -> None:
    """What a loop over columns, or over images, needs of earlier ones is in scratch memory; blocks share each loop."""
    x = T.dmatrix("x")
    mean = x.mean(0)
    spread = T.sqrt(((x - mean) ** 2).mean(0) + 0.5)
    skew = (((x - mean) / spread) ** 3).sum(0)
    compiled = function([x], [mean, skew, spread, T.exp(x - x.max(0)).sum(0)], device="cuda")
    told_of = [told(s) for k in compiled.compilation.plan.program.kernels() for s in schedule(k).stages]
    assert set(told_of) == {"team column packs spread", "team column source"}
    assert len(told_of) >= 8
    for size in ((2, 4), (9000, 12), (3, 500), (50, 7), (1, 1), (900, 2), (0, 3)):
        u = np.random.default_rng(7).normal(size=size)
        with np.errstate(all="ignore"):
            centred = u - (u.mean(0) if size[0] else np.nan)
            wide = np.sqrt((centred**2).mean(0) + 0.5) if size[0] else np.full(size[1], np.nan)
        wanted = [u.mean(0) if size[0] else wide, ((centred / wide) ** 3).sum(0), wide]
        if size[0]:
            wanted.append(np.exp(u - u.max(0)).sum(0))
            for got, want in zip(compiled(u), wanted, strict=True):
                np.testing.assert_allclose(got, want, 1e-9, 1e-9, err_msg=f"{size}")
    image = T.dtensor4("image")
    channel = image.mean((0, 2, 3), keepdims=True)
    deviation = ((image - channel) ** 2).mean((0, 2, 3))
    compiled = function([image], [channel, deviation], device="cuda")
    (kernel,) = compiled.compilation.plan.program.kernels()
    assert [told(s) for s in schedule(kernel).stages] == ["team pairs packs spread", "team column source"] * 2
    for shape in ((2, 3, 4, 5), (5, 2, 60, 70), (40, 70, 1, 3)):
        v = np.random.default_rng(8).normal(size=shape)
        for got, want in zip(compiled(v), (v.mean((0, 2, 3), keepdims=True), v.var((0, 2, 3))), strict=True):
            np.testing.assert_allclose(got, want, 1e-9, 1e-12)


def test_several_sums_of_neighbouring_columns(device: HostDevice) -> None:
    """One loop with several combinations, of several arrays and of one that is the same in every row."""
    n, m = parameter(0), parameter(1)
    x, y, z = (Buffer(name, dtypes.float32, size) for name, size in (("x", (n * m,)), ("y", (n * m,)), ("z", (m,))))
    sums, most = Buffer("sums", dtypes.float64, (m,)), Buffer("most", dtypes.float32, (m,))
    i, j = scalar.index("i", n), scalar.index("j", m)
    total, largest = Register("total", dtypes.float64), Register("largest", dtypes.float32)
    product = scalar.load(x, (i * m + j,)) * scalar.load(y, (i * m + j,))
    body = (
        Declare(total, scalar.const(1, dtypes.float64)),
        Declare(largest, scalar.const(-np.inf, dtypes.float32)),
        For(i, n, (Update(total, "add", scalar.cast(product + scalar.load(z, (j,)), dtypes.float64)),
                   Update(largest, "maximum", scalar.load(y, (i * m + j,))))),
        Store(sums, (j,), scalar.read(total)),
        Store(most, (j,), scalar.read(largest) - scalar.load(z, (j,))),
    )  # fmt: skip
    kernel = Kernel("k0", (sums, most, x, y, z), (n, m), (For(j, m, body),), written=frozenset((sums, most)))
    stages = schedule(kernel).stages
    assert [told(stage) for stage in stages] == ["team column packs spread", "team column source"]
    rng = np.random.default_rng(1)
    for rows, columns, multiprocessors in (
        (3, 4, 1), (200, 40, 1), (2000, 40, 1), (2000, 40, 60), (9000, 8, 1), (0, 8, 4), (500, 41, 60)
    ):
        u, v, w = (rng.integers(-3, 4, size=s).astype("f4") for s in ((rows, columns), (rows, columns), columns))
        arrays = [np.zeros(columns), np.zeros(columns, "f4"), u, v, w]
        got = run_kernel(device, kernel, arrays, (rows, columns), multiprocessors)
        np.testing.assert_array_equal(got[0], 1 + (u * v + w).sum(0, dtype="f8"))
        np.testing.assert_array_equal(got[1], v.max(0, initial=-np.inf) - w)


@pytest.mark.parametrize("shape", [(40, 70), (3, 20_000), (20_000, 3)])
def test_extremes_of_equal_and_missing_values(shape: tuple[int, int]) -> None:
    """Of equal ones the first, also where several blocks share a row or column; missing values before all others."""
    x = T.dmatrix("x")
    compiled = function([x], [x.argmax(1), x.argmin(0), x.max(1), x.argmax(), x.argmax(0), x.argmin(1)], device="cuda")
    ties = np.random.default_rng(3).integers(0, 4, size=shape).astype("f8")
    rows, columns = ties.copy(), ties.copy()
    rows[0, 1::7], rows[1], rows[2] = np.nan, -np.inf, np.inf
    columns[1::7, 0], columns[:, 1], columns[:, 2] = np.nan, -np.inf, np.inf
    for values in (ties, rows, columns, np.zeros(shape), np.full(shape, -np.inf), np.full(shape, np.inf)):
        wanted = [values.argmax(1), values.argmin(0), values.max(1), values.argmax()]
        wanted += [values.argmax(0), values.argmin(1)]
        for got, want in zip(compiled(values), wanted, strict=True):
            np.testing.assert_array_equal(got, want)


# What is independent ----------------------------------------------------------------------------------------------


def test_loops_that_keep_their_order() -> None:
    """A loop whose iterations store to places of their own may run in any order; others may not."""
    n = parameter(0)
    x, out = Buffer("x", dtypes.float64, (n,)), Buffer("out", dtypes.float64, (n,))
    i = scalar.index("i", n)
    element = scalar.load(x, (i,))
    assert independent(For(i, n, (Store(out, (i,), element),)))
    assert not independent(For(i, n, (Store(out, (scalar.as_int(0),), element),)))
    assert not independent(For(i, n, (Store(out, (i,), scalar.load(out, (i + 1,))),)))
    total = Register("total", dtypes.float64)
    assert independent(For(i, n, (Update(total, "add", element),)))
    running = For(i, n, (Update(total, "add", element), Store(out, (i,), scalar.read(total))))
    assert not independent(running)
    assert scan_of(running) is not None


def test_sums_of_sums_are_merged() -> None:
    n, m = parameter(0), parameter(1)
    x = Buffer("x", dtypes.float64, (n * m,))
    i, j = scalar.index("i", n), scalar.index("j", m)
    total, row = Register("total", dtypes.float64), Register("row", dtypes.float64)
    zero = scalar.const(0, dtypes.float64)
    inner = For(j, m, (Update(row, "add", scalar.load(x, (i * m + j,))),))
    (loop,) = merged((For(i, n, (Declare(row, zero), inner, Update(total, "add", scalar.read(row)))),))
    assert isinstance(loop, For)
    (nested,) = loop.body
    assert isinstance(nested, For)
    assert isinstance(nested.body[0], Update)
    assert nested.body[0].register is total
    (loop,) = merged((For(i, n, (Declare(row, zero), inner, Update(total, "maximum", scalar.read(row)))),))
    assert isinstance(loop, For)
    assert [type(s) for s in loop.body] == [Declare, For, Update]  # the largest sum is no sum


def test_several_sums_of_sums_are_merged() -> None:
    n, m = parameter(0), parameter(1)
    x = Buffer("x", dtypes.float64, (n * m,))
    i, j = scalar.index("i", n), scalar.index("j", m)
    totals, rows = ([Register(f"{name}{k}", dtypes.float64) for k in range(2)] for name in ("total", "row"))
    zero, element = scalar.const(0, dtypes.float64), scalar.load(x, (i * m + j,))

    def merging(*inner: Update) -> tuple[Statement, ...]:
        ends = [Update(t, "add", scalar.read(r)) for t, r in zip(totals, rows, strict=True)]
        (loop,) = merged((For(i, n, (*[Declare(r, zero) for r in rows], For(j, m, inner), *ends)),))
        assert isinstance(loop, For)
        return loop.body

    (nested,) = merging(Update(rows[1], "add", element), Update(rows[0], "add", element * element))
    assert isinstance(nested, For)
    assert [s.register for s in nested.body if isinstance(s, Update)] == [totals[1], totals[0]]
    running = Update(rows[1], "add", scalar.read(rows[0]))  # a sum of what the other was so far
    assert len(merging(Update(rows[0], "add", element), running)) == 5
    assert len(merging(Update(rows[0], "maximum", element))) == 5


def test_names_that_texts_have_for_themselves() -> None:
    u, scratch = T.fmatrix("u"), T.fmatrix("scratch")
    compiled = function([u, scratch], [u.sum(0), T.cumsum(scratch, 1), scratch.sum(1)], device="cuda")
    values = np.ones((3, 4), np.float32)
    sums, running, rows = compiled(values, values)
    np.testing.assert_array_equal(sums, [3, 3, 3, 3])
    np.testing.assert_array_equal(running, [[1, 2, 3, 4]] * 3)
    np.testing.assert_array_equal(rows, [4, 4, 4])


def test_text_is_for_people() -> None:
    """The user's names stand in the text; keywords and functions of C are not taken for names."""
    n = parameter(0)
    x, out = Buffer("exp", dtypes.float32, (n,)), Buffer("my result!", dtypes.float32, (n,))
    i = scalar.index("i", n)
    value = scalar.exp(scalar.load(x, (i,)))
    body = For(i, n, (Store(out, (i,), value),), LoopKind.PARALLEL)
    kernel = Kernel("k0", (out, x), (n,), (body,), note="my result", written=frozenset((out,)))
    text = emit_kernel(kernel, schedule(kernel), "k0")
    assert text.startswith("// my result\n")
    assert re.search(r"my_result_out\.v\[k\] = expf\(exp_pack\.v\[k\]\);", text)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_what_is_read_in_packs_is_used(rank: int) -> None:
    """Elements that a pack holds are not read again one by one, whatever is hoisted out of the loop that reads it."""
    x = T.TensorType("float32", (None,) * rank)("x")
    y = T.TensorType("float32", (None,) * rank)("y")
    axes = [a for n in range(1, rank + 1) for a in itertools.combinations(range(rank), n)]
    for axis in axes:
        for made in ((x * y).sum(axis), T.exp(x).max(axis), x.var(axis), x - x.mean(axis, keepdims=True)):
            compilation = function([x, y], made, device="cuda:sm_90", on_unused_input="ignore").compilation
            for kernel, apart in itertools.product(compilation.plan.program.kernels(), (False, True)):
                text = emit_kernel(kernel, schedule(kernel, apart), "k")
                for name in set(re.findall(r"\b\w+_pack(?:_\d+)?(?=\[\d+\];| = )", text)) - {"st_load_pack"}:
                    assert re.search(rf"\b{name}(\[\w+\])?\.v\[", text), (kernel.name, axis, name)
