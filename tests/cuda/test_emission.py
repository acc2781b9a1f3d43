"""Kernels as CUDA text: every form of stage, on a device that notices races, bounds and memory nobody wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda import device as devices
from symtensor_codegen.cuda.dependence import independent, scan_of
from symtensor_codegen.cuda.emit import emit_kernel
from symtensor_codegen.cuda.nested_sums import merged
from symtensor_codegen.cuda.schedule import Stage, schedule
from symtensor_codegen.loops import Declare, For, Kernel, LoopKind, Store, Update, parameter
from symtensor_codegen.scalar import Buffer, Register
from tests.cuda.host import HostDevice

pytestmark = pytest.mark.cuda_host
Array = np.ndarray[Any, Any]
Compute = Callable[..., Any]


@pytest.fixture(autouse=True)
def device(checked_host: HostDevice) -> Iterator[HostDevice]:
    devices.use(checked_host)
    yield checked_host
    devices.forget(checked_host.name)


class Example(NamedTuple):
    """An expression of a matrix, what NumPy gives, and the stages that compute it."""

    build: Compute
    numpy: Compute
    stages: tuple[str, ...]


def told(stage: Stage) -> str:
    """A stage in a few words."""
    words = [stage.form]
    words += ["column"] if stage.column else []
    for name in ("pairs", "scans", "packs", "fans", "spread", "source", "owners"):
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
    "transposed": Example(lambda x: x.T + 1, lambda x: x.T + 1, ("nest",)),
    "broadcast": Example(lambda x: x + x[0], lambda x: x + x[0], ("nest packs",)),
    "rows": Example(lambda x: (x * x).sum(1), lambda x: (x * x).sum(1), ("team packs spread", "team column source")),
    "columns": Example(lambda x: x.max(0), lambda x: x.max(0), ("team column spread", "team column source")),
    "places": Example(lambda x: x.argmin(1), lambda x: x.argmin(1), ("team packs",)),
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
        lambda x: T.inc_subtensor(T.zeros(5)[T.arange(x.shape[1]) % 5], x[0]), in_order, ("map packs", "owned owners")
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


def test_extremes_of_equal_and_missing_values() -> None:
    x = T.dmatrix("x")
    compiled = function([x], [x.argmax(1), x.argmin(0), x.max(1), x.argmax()], device="cuda")
    values = np.zeros((40, 70))
    values[3, 5] = values[7, 60] = values[7, 2] = np.nan
    values[9] = -np.inf
    wanted = (values.argmax(1), values.argmin(0), values.max(1), values.argmax())
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
