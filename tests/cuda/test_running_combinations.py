"""Running combinations on the device of the host: every way to combine, in every form, cut in any way, exactly.

Values are such that every order of combining them gives the same number, so results are those of the interpreter to
the last bit. A kernel takes any team and any number of parts; here they are chosen at random.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.cuda.compiling.compile import resources
from symtensor_codegen.cuda.compiling.kernels import Shape
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.schedules.stages import Schedule, Stage
from symtensor_codegen.cuda.text.emit import emit_kernel
from symtensor_codegen.dtypes import DType
from symtensor_codegen.loops import Declare, For, Kernel, Statement, Store, Update, parameter
from symtensor_codegen.reference import run_kernel
from symtensor_codegen.scalar import COMBINES, Buffer, Register, Scalar
from symtensor_codegen.substitution import substitute
from tests.cuda.host import HostDevice

pytestmark = pytest.mark.cuda_host
Array = np.ndarray[Any, Any]

FORMS = ("vector", "rows", "columns", "cube")
LENGTHS = (0, 1, 2, 7, 8, 31, 32, 33, 64, 100, 127, 128, 255, 511, 513, 1024, 1030)
ROW_TEAMS = ((1, 4), (2, 1), (8, 4), (32, 1), (32, 4), (64, 1), (256, 1), (512, 1))
COLUMN_TEAMS = ((1, 1), (1, 32), (2, 4), (4, 1), (32, 1), (32, 2), (32, 16), (64, 2))


class Example(NamedTuple):
    """A kernel with one running combination; its parameters are the length, then the extents of the other loops."""

    kernel: Kernel
    others: int
    inputs: Callable[[random.Random, int], list[Array]]


# Kernels ----------------------------------------------------------------------------------------------------------


def nest(form: str) -> tuple[list[tuple[Scalar, Scalar]], Scalar, Scalar, Scalar, Scalar]:
    """The outer loops of a form, the index and extent of the running one, where its element is, and how many items."""
    n, m, k = parameter(0), parameter(1), parameter(2)
    i, j, h = scalar.index("i", n), scalar.index("j", m), scalar.index("h", k)
    match form:
        case "vector":
            return [], i, n, i, scalar.as_int(1)
        case "rows":
            return [(j, m)], i, n, j * n + i, m
        case "columns":
            return [(j, m)], i, n, i * m + j, m
    return [(h, k), (j, m)], i, n, (h * n + i) * m + j, k * m


def wrapped(outer: Sequence[tuple[Scalar, Scalar]], body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    for index, extent in reversed(outer):
        body = (For(index, extent, body),)
    return body


def item_of(outer: Sequence[tuple[Scalar, Scalar]]) -> Scalar:
    number = scalar.as_int(0)
    for index, extent in outer:
        number = number * extent + index
    return number


def plain(combine: str, dtype: DType, form: str, exclusive: bool) -> Example:
    """One array combined from a first value on; what it comes to in all is stored behind the loop."""
    outer, i, n, place, size = nest(form)
    x, out = Buffer("x", dtype, (size * n,)), Buffer("out", dtype, (size * n,))
    last = Buffer("last", dtype, (size,))
    total = Register("total", dtype)
    update = Update(total, combine, scalar.load(x, (place,)))
    store = Store(out, (place,), scalar.read(total))
    loop = For(i, n, (store, update) if exclusive else (update, store))
    first = scalar.const(1, dtype)
    body = (Declare(total, first), loop, Store(last, (item_of(outer),), scalar.read(total)))
    kernel = Kernel(
        "k", (out, last, x), tuple(parameter(k) for k in range(1 + len(outer))), wrapped(outer, body),
        note="", written=frozenset((out, last)),
    )  # fmt: skip
    return Example(kernel, len(outer), lambda rng, count: [values(combine, dtype, rng, count)])


def values(combine: str, dtype: DType, rng: random.Random, count: int) -> Array:
    """Numbers that may be combined in any order."""
    if dtype.kind == "b":
        return np.array([rng.random() < 0.5 for _ in range(count)], np.bool_)
    if dtype.is_float and combine == "mul":
        found = [rng.choice((1, 1, -1)) for _ in range(count)]
    elif dtype.is_float and combine == "add":
        found = [rng.choice((1, 0, -1)) for _ in range(count)]
    else:
        found = [rng.randrange(128) for _ in range(count)]
    array = np.array(found, dtype.numpy)
    if dtype.is_float and combine in ("maximum", "minimum") and count > 5:
        array[rng.randrange(count)] = np.nan
    return array


def several(form: str) -> Example:
    """A sum and a maximum of products, of two types; stores read both, before and after, and other arrays."""
    outer, i, n, place, size = nest(form)
    x, y = Buffer("u", dtypes.float32, (size * n,)), Buffer("scratch", dtypes.int8, (size * n,))
    out, counts = Buffer("out", dtypes.float32, (size * n,)), Buffer("k", dtypes.int64, (size * n,))
    total, most = Register("total", dtypes.float32), Register("most", dtypes.int64)
    wide = scalar.cast(scalar.load(y, (place,)), dtypes.int64)
    loop = For(
        i,
        n,
        (
            Store(counts, (place,), scalar.read(most) + i),
            Update(total, "add", scalar.load(x, (place,)) * scalar.cast(wide, dtypes.float32)),
            Update(most, "maximum", wide * i),
            Store(out, (place,), scalar.read(total) * scalar.load(x, (place,)) + scalar.cast(wide, dtypes.float32)),
        ),
    )
    zero = scalar.const(0, dtypes.float32)
    body = (Declare(total, zero), Declare(most, scalar.as_int(-5)), loop)
    kernel = Kernel(
        "k", (out, counts, x, y), tuple(parameter(k) for k in range(1 + len(outer))), wrapped(outer, body),
        note="", written=frozenset((out, counts)),
    )  # fmt: skip

    def inputs(rng: random.Random, count: int) -> list[Array]:
        numbers = [rng.choice((-1, 0, 1)) for _ in range(count)]
        return [np.array(numbers, np.float32), np.array([rng.randrange(-3, 4) for _ in range(count)], np.int8)]

    return Example(kernel, len(outer), inputs)


def chosen_elements() -> Example:
    """The places where a condition holds, side by side, and backwards."""
    n = parameter(0)
    i = scalar.index("i", n)
    x, out = Buffer("x", dtypes.bool_, (n,)), Buffer("out", dtypes.int64, (n,))
    count = Register("count", dtypes.int64)
    here = scalar.load(x, (n - 1 - i,))
    store = Store(out, (scalar.read(count),), i, where=here)
    loop = For(i, n, (store, Update(count, "add", scalar.cast(here, dtypes.int64))))
    kernel = Kernel(
        "k", (out, x), (n,), (Declare(count, scalar.as_int(0)), loop), note="", written=frozenset((out,))
    )  # fmt: skip
    return Example(kernel, 0, lambda rng, size: [values("or", dtypes.bool_, rng, size)])


def from_a_sum(form: str) -> Example:
    """What is combined begins with the sum of all, so that blocks cannot share it."""
    outer, i, n, place, size = nest(form)
    x, out = Buffer("x", dtypes.float64, (size * n,)), Buffer("out", dtypes.float64, (size * n,))
    total = Register("total", dtypes.float64)
    add = Update(total, "add", scalar.load(x, (place,)))
    other = scalar.index("other", n)
    whole = Update(total, "add", scalar.load(x, (substitute(place, {i: other}),)))
    loop = For(i, n, (add, Store(out, (place,), scalar.read(total))))
    body = (Declare(total, scalar.const(0, dtypes.float64)), For(other, n, (whole,)), loop)
    kernel = Kernel(
        "k", (out, x), tuple(parameter(k) for k in range(1 + len(outer))), wrapped(outer, body),
        note="", written=frozenset((out,)),
    )  # fmt: skip
    return Example(kernel, len(outer), lambda rng, count: [values("add", dtypes.float64, rng, count)])


def every_way() -> Iterator[tuple[str, Example]]:
    """Each combination of each type once, forms in turn; two of them in every form."""
    turn = 0
    for combine in COMBINES:
        for dtype in dtypes.BY_NAME.values():
            if dtype.is_complex or (dtype.kind == "b" and combine in ("add", "mul")):
                continue
            if dtype.is_float and combine in ("and", "or", "xor"):
                continue
            full = (combine, dtype) in (("add", dtypes.float32), ("add", dtypes.int64))
            for number in range(2 * len(FORMS)) if full else (turn,):
                form, exclusive = FORMS[number % len(FORMS)], number // len(FORMS) % 2 == 1
                name = f"{combine} {dtype.name} {form}{' exclusive' if exclusive else ''}"
                yield name, plain(combine, dtype, form, exclusive)
            turn = (turn + 3) % (2 * len(FORMS))
    for form in FORMS:
        yield f"several {form}", several(form)
        yield f"from a sum, {form}", from_a_sum(form)
    yield "chosen elements", chosen_elements()


EXAMPLES = dict(every_way())


# Launching --------------------------------------------------------------------------------------------------------


class Compiled(NamedTuple):
    """A kernel on the device of the host."""

    example: Example
    schedule: Schedule
    functions: list[Any]


@pytest.fixture(scope="module")
def compiled() -> dict[str, Compiled]:
    from tests.cuda.host import host_device

    device = host_device(checked=True)
    scheduled = {name: schedule(example.kernel) for name, example in EXAMPLES.items()}
    symbols = {name: f"running{number}" for number, name in enumerate(EXAMPLES)}
    texts = [(emit_kernel(EXAMPLES[n].kernel, s, symbols[n]), symbols[n]) for n, s in scheduled.items()]
    for first in range(0, len(texts), 40):
        device.code_many(texts[first : first + 40])
    found = {}
    for (text, symbol), (name, stages) in zip(texts, scheduled.items(), strict=True):
        module = device.load(device.code(text, symbol))
        functions = [module.function(f"{symbol}_{k}") for k in range(len(stages.stages))]
        found[name] = Compiled(EXAMPLES[name], stages, functions)
    return found


def run(
    device: HostDevice,
    made: Compiled,
    arrays: Sequence[Array],
    parameters: Sequence[int],
    shapes: Sequence[Shape | None],
) -> list[Array]:
    """The arrays after a launch of the stages with these shapes."""
    blocks = [device.allocate(array.nbytes) for array in arrays]
    for memory, array in zip(blocks, arrays, strict=True):
        device.upload(memory.address, array)
    status = device.allocate(4)
    device.fill(status.address, 4, 0x7F)
    stage = made.schedule.stages[0]
    parts = max([shape[0][1] for shape in shapes if shape is not None], default=1)
    items = int(np.prod(parameters[1:]))
    pointers = [memory.address for memory in blocks]
    if made.schedule.spreads:
        assert stage.spread is not None
        scratch = device.allocate(8 * parts * items * len(stage.spread.combined))
        pointers.append(scratch.address)
    packed = struct.pack(f"{len(pointers)}Q{len(parameters)}qQi", *pointers, *parameters, status.address, 0)
    for function_, shape in zip(made.functions, shapes, strict=True):
        if shape is not None:
            device.launch(function_, *shape, packed)
    results = [np.empty_like(array) for array in arrays]
    for memory, result in zip(blocks, results, strict=True):
        device.download(result, memory.address)
    return results


def shapes_at_random(rng: random.Random, stages: Sequence[Stage], items: int) -> list[Shape | None]:
    """A team and a number of parts, for all stages."""
    across, down = rng.choice(COLUMN_TEAMS if stages[-1].column else ROW_TEAMS)
    beside = across if stages[-1].column else down
    if not stages[-1].chain:
        down = beside = 1
    grid = rng.choice((1, max(-(-items // beside), 1)))
    parts = rng.choice((1, 2, 3, 7)) if len(stages) > 1 else 1
    shape = (grid, parts, 1), (across, down, 1)
    return [shape if parts > 1 or stage.scans else None for stage in stages]


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_team_and_any_number_of_parts(name: str, compiled: dict[str, Compiled], checked_host: HostDevice) -> None:
    made = compiled[name]
    assert made.schedule.stages[-1].scans
    assert made.schedule.spreads is ("from a sum" not in name)
    assert made.schedule.stages[-1].column is ("columns" in name or "cube" in name)
    rng = random.Random(name)
    for _ in range(4):
        parameters = [rng.choice(LENGTHS), *[rng.choice((1, 2, 5, 33)) for _ in range(made.example.others)]]
        if int(np.prod(parameters)) > 4000:
            parameters[1:] = [min(extent, 2) for extent in parameters[1:]]
        items = int(np.prod(parameters[1:], dtype=int))
        given = made.example.inputs(rng, items * parameters[0])
        kernel = made.example.kernel
        outputs = [
            np.full(int(np.prod([_number(d, parameters) for d in buffer.dims])), 3, buffer.dtype.numpy)
            for buffer in kernel.buffers
            if buffer in kernel.written
        ]
        expected = [array.copy() for array in (*outputs, *given)]
        assert run_kernel(kernel, expected, parameters) == 0
        shapes = shapes_at_random(rng, made.schedule.stages, items)
        found = run(checked_host, made, [*outputs, *given], parameters, shapes)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"{name}, {parameters}, {shapes}")


@pytest.mark.parametrize("form", FORMS)
def test_in_place(form: str, checked_host: HostDevice) -> None:
    """What is combined may be the memory of the result."""
    example = EXAMPLES[f"add int64 {form}"]
    stages = schedule(example.kernel)
    device, symbol = checked_host, f"in_place_{form}"
    module = device.load(device.code(emit_kernel(example.kernel, stages, symbol, aliased=True), symbol))
    functions = [module.function(f"{symbol}_{k}") for k in range(len(stages.stages))]
    rng = random.Random(form)
    for _ in range(6):
        parameters = [rng.choice(LENGTHS), *[rng.choice((1, 2, 5)) for _ in range(example.others)]]
        items = int(np.prod(parameters[1:]))
        (x,) = example.inputs(rng, items * parameters[0])
        expected = [np.zeros_like(x), np.zeros(items, np.int64), x.copy()]
        assert run_kernel(example.kernel, expected, parameters) == 0
        memory, last = device.allocate(x.nbytes), device.allocate(8 * items)
        scratch, status = device.allocate(8 * 7 * items), device.allocate(4)
        device.upload(memory.address, x)
        device.fill(status.address, 4, 0x7F)
        pointers = memory.address, last.address, memory.address, scratch.address
        packed = struct.pack(f"4Q{len(parameters)}qQi", *pointers, *parameters, status.address, 0)
        for function_, shape in zip(functions, shapes_at_random(rng, stages.stages, items), strict=True):
            if shape is not None:
                device.launch(function_, *shape, packed)
        device.download(x, memory.address)
        np.testing.assert_array_equal(x, expected[0])


def _number(size: Any, parameters: Sequence[int]) -> int:
    from symtensor_codegen.cuda.schedules.launch_numbers import number

    found = number(size, parameters)
    assert found is not None
    return found


# What is launched -------------------------------------------------------------------------------------------------


SHARED = {(3, 40000, 1): {4: 2, 132: 2}, (40000, 3, 0): {1: 2, 4: 2, 132: 2}, (2100, 40, 0): {4: 2, 132: 2}}
"""The launches for a shape and axis, on devices of so many multiprocessors, where there are two."""


@pytest.mark.parametrize("multiprocessors", [1, 4, 132])
def test_sizes_and_devices(multiprocessors: int, device: HostDevice) -> None:
    """One launch where items or iterations are few, two where blocks share them; the same values, and the same bits."""
    device.multiprocessors = multiprocessors
    v, g = T.vector("v", dtype="int32"), T.fmatrix("g")
    of_vector = function([v], T.cumsum(v), device="cuda")
    of_rows, of_columns = (function([g], T.cumsum(g, axis), device="cuda") for axis in (1, 0))
    rng = np.random.default_rng(multiprocessors)
    for n in (0, 1, 31, 32, 33, 511, 513, 4097, 100003):
        values = rng.integers(-1000, 1000, n).astype("int32")
        device.launches.clear()
        np.testing.assert_array_equal(of_vector(values), np.cumsum(values))
        assert len(device.launches) == (2 if n > 100000 else 1)
    for shape in ((3, 40000), (40000, 3), (0, 5), (5, 0), (32, 50), (300, 130), (2100, 40)):
        numbers = rng.normal(size=shape).astype("float32")
        for axis, compiled in ((1, of_rows), (0, of_columns)):
            device.launches.clear()
            first, again = compiled(numbers), compiled(numbers)
            wide = np.cumsum(numbers.astype("float64"), axis)
            np.testing.assert_allclose(first, wide, rtol=1e-4, atol=1e-3)
            np.testing.assert_array_equal(first, again)
            launches = SHARED.get((*shape, axis), {}).get(multiprocessors, 1) if shape[1 - axis] else 0
            assert len(device.launches) == 2 * launches, (shape, axis)


def test_registers() -> None:
    """Half of the threads that a multiprocessor may hold fit, and none keeps values in memory."""
    for dtype in ("float32", "float64", "int8", "complex128"):
        v, g = T.TensorType(dtype, (None,))("v"), T.TensorType(dtype, (None, None))("g")
        made = function([v, g], [T.cumsum(v), T.cumsum(g, 0), T.cumsum(g, 1)], device="cuda:sm_90")
        for number, kernel in enumerate(made.compilation.plan.program.kernels()):
            text = emit_kernel(kernel, schedule(kernel), f"k{number}")
            for architecture in ("sm_75", "sm_90"):
                for used in resources(text, architecture).values():
                    assert used.spill_bytes == 0
                    assert used.registers <= 64


# What is not cut --------------------------------------------------------------------------------------------------


def stages_of(body: tuple[Statement, ...], buffers: tuple[Buffer, ...], written: set[Buffer]) -> tuple[Stage, ...]:
    n = parameter(0)
    return schedule(Kernel("k", buffers, (n,), body, note="", written=frozenset(written))).stages


def test_blocks_share_a_loop_that_nothing_else_meets() -> None:
    n = parameter(0)
    i = scalar.index("i", n)
    x, out, other = (Buffer(name, dtypes.float32, (n,)) for name in ("x", "out", "other"))
    total, zero = Register("total", dtypes.float32), scalar.const(0, dtypes.float32)
    sums = scalar.read(total)
    loop = For(i, n, (Update(total, "add", scalar.load(x, (i,))), Store(out, (i,), sums)))
    start, nil = Declare(total, zero), (scalar.as_int(0),)
    behind = {
        "apart": (Store(other, nil, sums), 2),
        "reads what others store": (Store(other, nil, sums + scalar.load(out, nil)), 1),
        "stores among what others store": (Store(out, nil, sums), 1),
        "stores what others read": (Store(x, nil, sums), 1),
    }
    for why, (statement, count) in behind.items():
        stages = stages_of((start, loop, statement), (x, out, other), {x, out, other})
        assert len(stages) == count, why
        assert all(stage.running for stage in stages), why
    j = scalar.index("j", n)
    first = For(j, n, (Update(total, "add", scalar.load(x, (j,))),))
    assert len(stages_of((start, first, loop), (x, out), {out})) == 1  # its sum is that of all blocks
    reading = Declare(total, scalar.load(out, nil))
    assert len(stages_of((reading, loop), (x, out), {out})) == 1
    depends = For(i, scalar.cast(scalar.load(other, nil), dtypes.int64), loop.body)
    assert len(stages_of((start, depends), (x, out, other), {out})) == 1  # how many blocks?
