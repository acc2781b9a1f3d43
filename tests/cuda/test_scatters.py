"""Stores to places that are known only when they are reached: an element gets its values in the order of the loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, shared
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda.schedules.scatters import LANES, MARKS, ROUNDS, SCATTER_THREADS, scatter_of, scatter_shape
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.text import scatters
from symtensor_codegen.loops import Check, For, Kernel, Statement, Store, parameter
from symtensor_codegen.scalar import Buffer, Scalar, checked_index
from tests.cuda.host import HostDevice, host_device
from tests.cuda.launches import run_kernel

pytestmark = pytest.mark.cuda_host
Array = np.ndarray[Any, Any]

STEPS, ITEMS, ROWS = parameter(0), parameter(1), parameter(2)
K, J = scalar.index("k", STEPS), scalar.index("j", ITEMS)
Write = Callable[[Scalar, Scalar], Store]  # a store to a place, of the element of `x` at another place
Step = tuple[Array, Array]  # elements, and what a step of the loops brings to them


class Nest(NamedTuple):
    """Loops, the shape of what they write for (steps, items, rows), and their steps in NumPy."""

    loops: Callable[[Callable[[Scalar], Scalar], Write], For]
    shape: Callable[[int, int, int], tuple[int, ...]]
    steps: Callable[[Array, Array, Array], Iterator[Step]]


NESTS = {
    "rows": Nest(
        lambda index, write: For(K, STEPS, (For(J, ITEMS, (write(index(K) * ITEMS + J, K * ITEMS + J),)),)),
        lambda n, m, r: (r, m),
        lambda out, i, x: ((out[i[k]], x[k]) for k in range(len(x))),
    ),
    "columns": Nest(
        lambda index, write: For(J, ITEMS, (For(K, STEPS, (write(J * ROWS + index(K), K * ITEMS + J),)),)),
        lambda n, m, r: (m, r),
        lambda out, i, x: ((out[:, i[k]], x[k]) for k in range(len(x))),
    ),
    "pairs": Nest(  # no loop is independent
        lambda index, write: For(K, STEPS, (For(J, ITEMS, (write(index(K) * ROWS + index(J), K * ITEMS + J),)),)),
        lambda n, m, r: (r, r),
        lambda out, i, x: ((out[i[k], i[j], None], x[k, j, None]) for k in range(len(x)) for j in range(x.shape[1])),
    ),
    "numbers": Nest(
        lambda index, write: For(K, STEPS, (write(index(K), K * ITEMS),)),
        lambda n, m, r: (r,),
        lambda out, i, x: ((out[i[k], None], x[k, :1]) for k in range(len(x) if x.size else 0)),
    ),
}
COMBINES = {
    None: lambda old, new: new, "add": np.add, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


class Case(NamedTuple):
    """A nest with an element type and a combination; ``masked``: only positive elements are stored."""

    nest: str
    dtype: str
    combine: str | None
    masked: bool = False
    aliased: bool = False


CASES = [
    Case("rows", "float32", "add"), Case("rows", "float16", "add"), Case("rows", "float64", "mul"),
    Case("rows", "uint16", None), Case("rows", "float32", "add", masked=True), Case("rows", "int16", None, masked=True),
    Case("rows", "float32", "add", aliased=True), Case("columns", "int8", "add"), Case("columns", "float64", "maximum"),
    Case("columns", "bool", None), Case("pairs", "float32", "add"), Case("pairs", "int32", "minimum"),
    Case("numbers", "float32", "add"), Case("numbers", "int64", "xor"), Case("numbers", "bool", "or"),
    Case("numbers", "uint8", "and"), Case("numbers", "float64", None), Case("numbers", "float16", "add", masked=True),
    Case("numbers", "int8", None, masked=True),
]  # fmt: skip
SIZES = [  # steps, items, rows
    (0, 3, 4), (3, 0, 4), (1, 1, 1), (7, 5, 3), (64, 8, 10), (300, 2, 7), (40, 600, 3), (100, 70, 1000), (4096, 3, 2),
    (4500, 33, 900),
]  # fmt: skip


def kernel_of(case: Case) -> Kernel:
    dtype = dtypes.BY_NAME[case.dtype]
    out, x = Buffer("out", dtype, (ROWS,)), Buffer("x", dtype, (STEPS,))
    indices = Buffer("indices", dtypes.int32, (STEPS,))

    def index(at: Scalar) -> Scalar:
        return checked_index(scalar.cast(scalar.load(indices, (at,)), dtypes.int64), ROWS, "an index")

    def write(place: Scalar, at: Scalar) -> Store:
        value = scalar.load(x, (at,))
        return Store(out, (place,), value, case.combine, scalar.gt(value, 0) if case.masked else None)

    def checking(loop: For) -> For:
        inner = loop.body[0]
        body = (checking(inner),) if isinstance(inner, For) else (Check(scalar.ge(K, 0), "a step"), inner)
        return For(loop.index, loop.extent, body)

    loops = NESTS[case.nest].loops(index, write)
    if case.masked:
        loops = checking(loops)
    failures = ("an index", "a step")
    return Kernel("k0", (out, indices, x), (STEPS, ITEMS, ROWS), (loops,), failures, written=frozenset((out,)))


def expected(case: Case, out: Array, indices: Array, x: Array) -> Array:
    result = out.copy()
    for elements, values in NESTS[case.nest].steps(result, indices, x):
        new = COMBINES[case.combine](elements, values)
        elements[...] = np.where(values > 0, new, elements) if case.masked else new
    return result


def some(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):  # products of thousands stay finite, and so many sums are rounded
        return (rng.choice([-1.0, 1.0], shape) * np.exp2(rng.uniform(-0.1, 0.1, shape))).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_elements_get_their_values_in_order(case: Case, checked: bool) -> None:
    """Bit for bit, whatever the sizes and the number of multiprocessors, as long as no target is frequent."""
    device, kernel, nest = host_device(checked=checked), kernel_of(case), NESTS[case.nest]
    assert [stage.form for stage in schedule(kernel).stages] == ["scatter"]
    rng = np.random.default_rng(len(str(case)))
    for steps, items, rows in SIZES:
        if (case.nest == "pairs" and steps * items > 10000) or (case.nest == "numbers" and items == 0):
            continue
        out, x = some(rng, case.dtype, nest.shape(steps, items, rows)), some(rng, case.dtype, (steps, items))
        indices = rng.integers(-rows, rows, max(steps, items)).astype("int32")
        wanted = expected(case, out, indices, x)
        for multiprocessors in (1, 3, 40):
            arrays, parameters = [out, indices, x], [steps, items, rows]
            got, *_ = run_kernel(device, kernel, arrays, parameters, multiprocessors, case.aliased)
            np.testing.assert_array_equal(got, wanted, f"{steps} x {items}, {rows} rows, {multiprocessors} processors")


FREQUENT: dict[str, Callable[[Array, Array, int], Array]] = {
    "one": lambda targets, chance, rows: np.zeros_like(targets) + 1,
    "half": lambda targets, chance, rows: np.where(chance < 0.5, 1, targets),
    "two": lambda targets, chance, rows: np.where(chance < 0.4, 1, np.where(chance > 0.5, 2, targets)),
    "in turn": lambda targets, chance, rows: np.where(chance < 0.8, np.arange(len(targets)) // 5000 % rows, targets),
    "at first": lambda targets, chance, rows: np.where(np.arange(len(targets)) < 5000, 2, targets),
}
"""Targets some of which are frequent, from targets that none is among and as many numbers between 0 and 1."""
OFTEN = [
    Case("numbers", "int64", "add"), Case("numbers", "float32", "add", aliased=True), Case("numbers", "int8", "mul"),
    Case("numbers", "float64", "add", masked=True), Case("numbers", "bool", "or"), Case("rows", "float32", "add"),
    Case("rows", "float64", "add", masked=True), Case("columns", "int32", "maximum"), Case("numbers", "float64", None),
]  # fmt: skip


@pytest.mark.parametrize("often", FREQUENT)
@pytest.mark.parametrize("case", OFTEN, ids=lambda case: "-".join(map(str, case)))
def test_frequent_targets(case: Case, often: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of a block share their steps: another order, so here of numbers whose sums are not rounded."""
    monkeypatch.setattr(scatters, "PAGES", 1)  # another target may be the frequent one in every page
    device, kernel, nest = host_device(checked=True), kernel_of(case), NESTS[case.nest]
    rng = np.random.default_rng(len(often))
    for steps, items, rows in ((13000, 1, 300), (17000, 1, 5)) if case.nest == "numbers" else ((13000, 40, 9),):
        out, x = (rng.integers(-3, 4, s) for s in (nest.shape(steps, items, rows), (steps, items)))
        out, x = out.astype(case.dtype), x.astype(case.dtype)
        targets = FREQUENT[often](rng.integers(-rows, rows, steps), rng.random(steps), rows)
        arrays, parameters = [out, targets.astype("int32"), x], [steps, items, rows]
        wanted = expected(case, out, arrays[1], x)
        for multiprocessors in (1, 5):
            got, *_ = run_kernel(device, kernel, arrays, parameters, multiprocessors, case.aliased, apart=True)
            np.testing.assert_array_equal(got, wanted, f"{steps} x {items}, {rows} rows, {multiprocessors} processors")


@pytest.mark.parametrize("nest", ["numbers", "rows"])
def test_frequent_sums_are_the_same_in_every_call(nest: str) -> None:
    """The order is another one than that of indices, but always the same; threads run in different orders here."""
    case = Case(nest, "float32", "add")
    device, kernel = host_device(), kernel_of(case)
    rng = np.random.default_rng(4)
    steps, items, rows = 40000, 1 if nest == "numbers" else 3, 30
    out, x = np.zeros(NESTS[nest].shape(steps, items, rows), "f4"), rng.normal(size=(steps, items)).astype("f4")
    targets = FREQUENT["half"](rng.integers(0, rows, steps), rng.random(steps), rows).astype("int32")
    wanted = expected(Case(nest, "float64", "add"), out.astype("f8"), targets, x.astype("f8"))
    found = [run_kernel(device, kernel, [out, targets, x], [steps, items, rows], 6)[0] for _ in range(4)]
    for again in found:
        np.testing.assert_array_equal(again.view("u4"), found[0].view("u4"))
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("nest", ["numbers", "rows"])
def test_a_frequent_target_is_no_chain(nest: str) -> None:
    """In order, a float16 would stay at 2048, to which adding 1 changes nothing; sums of parts go on."""
    device, kernel = host_device(), kernel_of(Case(nest, "float16", "add"))
    steps, items = 13000, 1 if nest == "numbers" else 3
    out, x = np.zeros(NESTS[nest].shape(steps, items, 2), "f2"), np.ones((steps, items), "f2")
    got, *_ = run_kernel(device, kernel, [out, np.ones(steps, "int32"), x], [steps, items, 2], 4, apart=True)
    assert np.all(got[0] == 0)
    assert np.all(got[1] > 10000)


def test_a_masked_frequent_target_keeps_its_zero() -> None:
    """Where nothing is added, nothing changes: not even the sign of a zero."""
    device, kernel = host_device(), kernel_of(Case("numbers", "float32", "add", masked=True))
    out, targets, x = np.float32([-0.0, -0.0]), np.zeros(13000, "int32"), np.float32([-1] * 13000)
    got, *_ = run_kernel(device, kernel, [out, targets, x], [13000, 1, 2], 4, apart=True)
    np.testing.assert_array_equal(np.signbit(got), [True, True])


@pytest.mark.parametrize("items", [1, 2, 31, 32, 33, 512, 5000, 1 << 20, 1 << 30])
@pytest.mark.parametrize("steps", [1, 2, 3, 64, 4096, 1 << 30])
@pytest.mark.parametrize("multiprocessors", [1, 2, 46, 132])
def test_shapes(items: int, steps: int, multiprocessors: int) -> None:
    """Blocks have room for their marks; no more parts than steps; every item has a thread."""
    (across, parts, depth), (width, down, _) = scatter_shape(items, steps, multiprocessors)
    threads = width * down
    assert depth == 1
    assert width % LANES == 0
    assert threads <= SCATTER_THREADS
    assert parts * down <= steps
    assert parts <= 65535
    assert across * width >= items
    assert (down + 1) * (ROUNDS * threads // LANES + 1) <= MARKS


def test_only_long_scatters_look_out_for_frequent_targets() -> None:
    """It takes twice the text, and a little of each step; a store that combines nothing has no chain."""
    for combine, steps, frequent in (("add", 1 << 14, True), ("add", 4096, False), (None, 1 << 20, False)):
        kernel = kernel_of(Case("rows", "float32", combine))
        assert schedule(kernel).is_better_apart((steps, 8, 100), 132) is frequent
        assert not schedule(kernel, apart=True).is_better_apart((steps, 8, 100), 132)


def forms(compiled: Any) -> list[str]:
    kernels = compiled.compilation.plan.program.kernels()
    return [stage.form for kernel in kernels for stage in schedule(kernel).stages]


def test_gradient_of_an_embedding(device: HostDevice) -> None:
    """Words as a matrix, several of them the same; the update is one more launch."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(50, 40)).astype("float32")
    table, words, weights = shared(first, "table", target="cuda"), T.imatrix("words"), T.ftensor3("weights")
    cost = (table[words] * weights).sum()
    step = function([words, weights], updates={table: table - grad(cost, table)}, device="cuda")
    assert forms(step) == ["map", "scatter", "map"]
    given, factors = rng.integers(-50, 50, (12, 30)).astype("int32"), rng.normal(size=(12, 30, 40)).astype("float32")
    step(given, factors)
    change = np.zeros_like(first)
    np.add.at(change, given, factors)
    np.testing.assert_array_equal(table.get_value(), first - change)


def test_complex_numbers(device: HostDevice) -> None:
    z, y, i = T.cmatrix("z"), T.cmatrix("y"), T.ivector("i")
    compiled = function([z, y, i], [T.inc_subtensor(z[i], y), T.set_subtensor(z[:, i], y.T)], device="cuda")
    assert forms(compiled).count("scatter") == 2
    rng = np.random.default_rng(0)
    for rows, steps in ((5, 5), (3, 3), (40, 40)):
        a, b = (rng.normal(size=(rows, rows)) + 1j * rng.normal(size=(rows, rows)) for _ in range(2))
        a, b, picked = a.astype("complex64"), b.astype("complex64"), rng.integers(-rows, rows, steps).astype("int32")
        added, put = a.copy(), a.copy()
        np.add.at(added, picked, b)
        put[:, picked] = b.T
        for got, want in zip(compiled(a, b, picked), (added, put), strict=True):
            np.testing.assert_array_equal(got, want)


def test_frequent_complex_numbers(device: HostDevice) -> None:
    z, y, i = T.zmatrix("z"), T.zmatrix("y"), T.ivector("i")
    compiled = function([z, y, i], T.inc_subtensor(z[i], y), device="cuda")
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, (n, 2)) + 1j * rng.integers(-9, 9, (n, 2)) for n in (5, 17000))
    for picked in (np.zeros(17000, "int32"), rng.integers(0, 2, 17000).astype("int32")):
        added = a.copy()
        np.add.at(added, picked, b)
        np.testing.assert_array_equal(compiled(a, b, picked), added)
    assert "scatter, frequent targets" in compiled.explain()


def test_bincount(device: HostDevice) -> None:
    i, w = T.ivector("i"), T.fvector("w")
    compiled = function([i, w], [T.extra_ops.bincount(i), T.extra_ops.bincount(i, w)], device="cuda")
    assert forms(compiled).count("scatter") == 2
    rng = np.random.default_rng(0)
    for steps, most in ((1, 1), (5000, 3), (6000, 2000)):
        values, weights = rng.integers(0, most, steps).astype("int32"), rng.integers(-9, 9, steps).astype("float32")
        sums = np.zeros(values.max() + 1, "float32")
        np.add.at(sums, values, weights)
        for got, want in zip(compiled(values, weights), (np.bincount(values), sums), strict=True):
            np.testing.assert_array_equal(got, want)


def test_indices_out_of_range(device: HostDevice) -> None:
    """The first index array of the expression that fails is named, with the line; nothing is written beyond."""
    x, i, j, y = T.fmatrix("x"), T.ivector("i"), T.ivector("j"), T.fvector("y")
    compiled = function([x, i, j, y], T.inc_subtensor(x[i, j], y), device="cuda")
    values, ones = np.zeros((7, 9), "float32"), np.ones(5000, "float32")
    good = np.zeros(5000, "int32")
    for place, bad in ((0, 9), (4999, 9), (4200, -10), (17, 2**31 - 1)):
        wrong = good.copy()
        wrong[place] = bad
        with pytest.raises(IndexError, match=r"test_scatters.py.*out of range on axis 1, of size 9|j .*axis 1"):
            compiled(values, good, wrong, ones)
        with pytest.raises(IndexError, match="axis 0"):
            compiled(values, wrong, wrong, ones)
    assert compiled(values, good - 1, good - 1, ones)[-1, -1] == 5000


def test_which_nests_are_scatters() -> None:
    """Not those whose places are even, whose steps read what others have written, or that do other things besides."""
    n, m = parameter(0), parameter(1)
    out, x = Buffer("out", dtypes.float32, (n,)), Buffer("x", dtypes.float32, (n,))
    indices = Buffer("indices", dtypes.int64, (n,))
    k, j = scalar.index("k", n), scalar.index("j", m)
    picked, value = scalar.load(indices, (k,)), scalar.load(x, (k,))

    def found(*body: Statement) -> tuple[list[Scalar], list[Scalar]] | None:
        scatter = scatter_of((For(k, n, (For(j, m, body),)),))
        if scatter is None:
            return None
        return [loop.index for loop in scatter.items], [loop.index for loop in scatter.loops]

    assert found(Store(out, (picked * m + j,), value, "add")) == ([j], [k])
    assert found(Store(out, (picked + k * m + j * n,), value)) == ([j], [k])
    assert found(Store(out, (picked,), value, "add")) == ([], [k, j])
    assert found(Store(out, (picked * j,), value, "add")) == ([], [k, j])  # how far items are apart depends on the step
    assert found(Store(out, (k * m + j,), value, "add")) is None
    assert found(Store(out, (j,), value, "add")) is None
    assert found(Store(out, (picked * m + j,), value + scalar.load(out, (k,)))) is None
    assert found(Store(out, (picked * m + j,), value), Store(out, (picked * m + j + n,), value)) is None
    assert found(Store(out, (picked * m + j,), value), Store(x, (picked * m + j,), value)) is None
    pair = picked * m + j
    assert found(Store(out, (pair * 2,), value, "add"), Store(out, (pair * 2 + 1,), value, "add")) == ([j], [k])
    assert found(Store(out, (pair * 2,), value, "add"), Store(out, (pair * 2 + 2,), value, "add")) is None
