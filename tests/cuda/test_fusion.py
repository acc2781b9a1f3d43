"""Products that go on with the kernel after them: one launch, with the results that two have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, scan
from symtensor.graph import Tensor
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.backend import CompiledProgram, compile_program
from symtensor_codegen.cuda.calls.actions import FusedAction, KernelAction, Operand, Place, dependencies
from symtensor_codegen.cuda.calls.reporting import ProgramFailure
from symtensor_codegen.cuda.compiling.compile import FULL, cubin
from symtensor_codegen.cuda.compiling.kernels import default_emitter, variants
from symtensor_codegen.cuda.matmul import fusion
from symtensor_codegen.cuda.matmul import products as matrix_products
from symtensor_codegen.cuda.matmul.choice import Choice
from symtensor_codegen.cuda.matmul.kernels import matmul_text
from symtensor_codegen.cuda.matmul.variants import ELEMENTS, Tile, Variant
from symtensor_codegen.cuda.printing import source
from symtensor_codegen.program import Gemm, Launch, walk
from tests.cuda.host import HostDevice
from tests.cuda.program_cases import Case

pytestmark = pytest.mark.cuda_host
Array = np.ndarray[Any, Any]
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Cell:
    def __init__(self, device: HostDevice, value: Array) -> None:
        self.array = DeviceArray.upload(device, value)


class Run:
    """A case on a device, called a few times: each time its results are those of the interpreter."""

    def __init__(self, case: Case, device: HostDevice, calls: int = 2) -> None:
        self.device, self.cells = device, [Cell(device, value) for value in case.cells]
        self.compiled: CompiledProgram = compile_program(case.program, device)
        values = case.cells
        for _ in range(calls):
            device.launches.clear()
            wanted, values = case.expected(values)
            found = [result.numpy() for result in self.compiled.call(case.inputs, self.cells)]
            for one, other in zip((*found, *self.values), (*wanted, *values), strict=True):
                assert one.dtype == other.dtype
                tight = 1e-4 if one.dtype.itemsize == 4 else 1e-11
                np.testing.assert_allclose(one, other, rtol=tight, atol=tight)
        self.found = found

    @property
    def values(self) -> list[Array]:
        return [cell.array.numpy() for cell in self.cells]

    @property
    def fused(self) -> int:
        """The launches that were two, in the last call."""
        return sum(name.startswith("matmul") and len(name.rsplit("_", 1)[1]) == 12 for name in self.device.launches)


def check(make: Callable[[], Case], device: HostDevice, fused: int, launches: int) -> Run:
    """So many fused launches, among so many; without fusion there is one more for each, and the same result."""
    run = Run(make(), device)
    assert (run.fused, len(device.launches)) == (fused, launches), device.launches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion, "finishes_of", lambda _: {})
        plain = Run(make(), device)
    assert (plain.fused, len(device.launches)) == (0, launches + fused)
    for one, other in zip((*run.found, *run.values), (*plain.found, *plain.values), strict=True):
        tight = 1e-5 if one.dtype.itemsize == 4 else 1e-13
        np.testing.assert_allclose(one, other, rtol=tight, atol=tight)
    return run


def values(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def matrix(name: str, dtype: str) -> Tensor:
    return T.matrix(name, dtype=dtype)


def layer(m: int, n: int, k: int, dtype: str, turned: tuple[bool, bool] = (False, False)) -> Case:
    """``relu(x @ w + b)``."""
    x, w, b = matrix("x", dtype), matrix("w", dtype), T.vector("b", dtype=dtype)
    left, right = (t.T if turn else t for t, turn in zip((x, w), turned, strict=True))
    given = [values(0, m, k), values(1, k, n)]
    given = [v.T if turn else v for v, turn in zip(given, turned, strict=True)]
    return Case([x, w, b], [T.nnet.relu(T.dot(left, right) + b)], [*given, values(2, n)])


# What is fused --------------------------------------------------------------------------------------------------


@FLOATS
@pytest.mark.parametrize("sizes", [(16, 32, 64), (1, 1, 1), (13, 21, 37), (1, 40, 9), (33, 1, 5), (35, 70, 3)])
def test_bias_and_relu(checked_host: HostDevice, dtype: str, sizes: tuple[int, int, int]) -> None:
    check(lambda: layer(*sizes, dtype), checked_host, 1, 1)


@pytest.mark.parametrize("turned", [(False, True), (True, False), (True, True)])
def test_transposed_operands(checked_host: HostDevice, turned: tuple[bool, bool]) -> None:
    check(lambda: layer(10, 18, 12, "float32", turned), checked_host, 1, 1)


def test_nothing_to_do(host: HostDevice) -> None:
    for sizes in ((0, 3, 4), (3, 0, 4), (3, 4, 0)):
        Run(layer(*sizes, "float32"), host)


@FLOATS
def test_relu_mask(checked_host: HostDevice, dtype: str) -> None:
    """What goes back through a layer: the product is finished with what the kernel reads besides."""

    def make() -> Case:
        g, w, h = (matrix(name, dtype) for name in "gwh")
        return Case([g, w, h], [T.dot(g, w.T) * (h > 0)], [values(0, 9, 5), values(1, 20, 5), values(2, 9, 20)])

    check(make, checked_host, 1, 1)


@FLOATS
def test_update_in_place(checked_host: HostDevice, dtype: str) -> None:
    """Momentum: two shared variables are read and written, each element by the thread that has its gradient."""

    def make() -> Case:
        x, g, w, s = (matrix(name, dtype) for name in "xgws")
        faster = T.cast(0.9, dtype) * s - T.cast(0.1, dtype) * T.dot(x.T, g)
        given, held = [values(0, 30, 19), values(1, 30, 35)], [values(2, 19, 35), values(3, 19, 35)]
        return Case([x, g], [], given, [w, s], {0: w + faster, 1: faster}, held)

    run = check(make, checked_host, 1, 1)
    assert all(output.in_place for output in run.compiled.program.outputs)


def test_a_product_that_is_read_again_is_stored_too(checked_host: HostDevice) -> None:
    def make() -> Case:
        x, w = matrix("x", "float64"), matrix("w", "float64")
        product = T.dot(x, w)
        hidden = T.tanh(product)
        return Case([x, w], [T.dot(hidden, w) * product], [values(0, 9, 7), values(1, 7, 7)])

    check(make, checked_host, 2, 2)


def test_a_product_that_is_a_result(checked_host: HostDevice) -> None:
    def make() -> Case:
        x, w = matrix("x", "float64"), matrix("w", "float64")
        product = T.dot(x, w)
        return Case([x, w], [product, T.tanh(product)], [values(0, 9, 7), values(1, 7, 7)])

    check(make, checked_host, 1, 1)


@FLOATS
def test_a_step_of_training(host: HostDevice, dtype: str) -> None:
    """All of a network: layers forward and backward, and updates in place."""

    def make() -> Case:
        x, y = matrix("x", dtype), matrix("y", dtype)
        parameters = [matrix("w1", dtype), T.vector("b1", dtype=dtype), matrix("w2", dtype)]
        w1, b1, w2 = parameters
        cost = ((T.dot(T.nnet.relu(T.dot(x, w1) + b1), w2) - y) ** 2).sum()
        changes = T.grad(cost, parameters)
        updates = {k: p - T.cast(0.01, dtype) * g for k, (p, g) in enumerate(zip(parameters, changes, strict=True))}
        held = [values(2, 11, 20), values(3, 20), values(4, 20, 6)]
        return Case([x, y], [cost], [values(0, 14, 11), values(1, 14, 6)], parameters, updates, held)

    run = Run(make(), host)
    products = sum(isinstance(step, Gemm) for step in walk(run.compiled.program.steps))
    assert products == 5
    assert run.fused >= 4


def test_in_the_steps_of_a_loop(checked_host: HostDevice) -> None:
    def make() -> Case:
        x, w, h = T.tensor3("x", dtype="float64"), matrix("w", "float64"), matrix("h", "float64")
        states, _ = scan(lambda row, s, w: T.tanh(T.dot(s, w) + row), x, h, w)
        return Case([x, w, h], [states], [values(0, 5, 3, 4), values(1, 4, 4), values(2, 3, 4)])

    run = Run(make(), checked_host)
    assert run.fused == 5, checked_host.launches


# What is not ----------------------------------------------------------------------------------------------------


def test_a_kernel_that_may_fail_is_on_its_own(host: HostDevice) -> None:
    def make() -> Case:
        x, w, at = matrix("x", "float64"), matrix("w", "float64"), T.lvector("at")
        given = [values(0, 6, 5), values(1, 5, 4), [0, 3, 2, 2, 1, 0]]
        return Case([x, w, at], [T.dot(x, w) + w[:, 0][at][:, None]], given)

    check(make, host, 0, 2)


def test_a_sum_comes_after_the_product(host: HostDevice) -> None:
    def make() -> Case:
        x, w = matrix("x", "float64"), matrix("w", "float64")
        return Case([x, w], [T.tanh(T.dot(x, w)).sum(axis=1)], [values(0, 6, 5), values(1, 5, 4)])

    check(make, host, 0, 2)


def test_other_elements_of_the_product(host: HostDevice) -> None:
    def make() -> Case:
        x, w = matrix("x", "float64"), matrix("w", "float64")
        product = T.dot(x, w)
        return Case([x, w], [product + product[::-1], product.T * 2], [values(0, 6, 5), values(1, 5, 6)])

    check(make, host, 0, 3)


def test_large_products_are_on_their_own(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_products, "_LONG", 0)
    check(lambda: layer(9, 10, 11, "float32"), host, 0, 2)


def test_memory_that_an_operand_has_is_not_written(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks may read operands while others store results."""
    case = layer(9, 11, 11, "float64")
    one, seen = fusion._one, []

    def reused(prepared: Any, finish: Any, product: Any, between: Any, kernel: KernelAction) -> Any:
        for place in product.reads:
            changed = replace(kernel, writes=(place._replace(offset=place.offset + 8, size=8),))
            seen.append(one(prepared, finish, product, between, changed))
            seen.append(one(prepared, finish, product, [changed], kernel))
        seen.append(one(prepared, finish, product, [replace(kernel, writes=(), reads=(product.out.place,))], kernel))
        assert one(prepared, finish, product, [], kernel) is not None
        return None

    monkeypatch.setattr(fusion, "_one", reused)
    run = Run(case, host)
    assert run.fused == 0
    assert seen == [None] * 5


# Failures -------------------------------------------------------------------------------------------------------


def test_nothing_is_updated_when_something_failed(host: HostDevice) -> None:
    """An update in place that is one with its product waits for what may fail, as it does alone."""
    x, w, at = matrix("x", "float64"), matrix("w", "float64"), T.lvector("at")
    given = [values(0, 7, 7), [0, 2, 6]]
    case = Case([x, at], [T.exp(x[at, 0])], given, [w], {0: w * 0.5 + T.dot(x, x)}, [values(1, 7, 7)])
    run = Run(case, host)
    assert run.fused == 1
    before = run.values[0]
    with pytest.raises(ProgramFailure):
        run.compiled.call([case.inputs[0], np.array([0, 2, 7])], run.cells)
    np.testing.assert_array_equal(run.values[0], before)


def test_order() -> None:
    """In a graph it waits for who writes what it reads and, where it must not run after a failure, for who may fail."""
    a, b, out, w = (Place(0, 64 * k, 64) for k in range(4))
    product, left, right = (Operand(place, 4, 1, 0) for place in (out, a, b))
    writes_a = KernelAction((), (a,), b"", (), (a,))
    may_fail = KernelAction((), (), b"", (), (), fails=True)
    for gated in (False, True):
        update = KernelAction((), (w, out, w), b"", (out, w), (w,), gated=gated)
        both = FusedAction(print, product, left, right, update, (a, b, w), (w,))
        reads_w = KernelAction((), (w,), b"", (w,), ())
        assert dependencies([writes_a, may_fail, both, reads_w], [0]) == [[], [], [0, 1] if gated else [0], [2]]


# Text -----------------------------------------------------------------------------------------------------------


@FLOATS
def test_what_is_compiled_for_a_device(dtype: str) -> None:
    case = layer(16, 16, 16, dtype)
    (finish,) = set(fusion.finishes_of(case.program).values())
    element = ELEMENTS[dtype]
    tile = Tile(16, 32, 4, 4, 8, 64 * 4 // element.size, 3)
    variant = Variant(element, tile, True, False, 1, 1, epilogue=fusion.epilogue_of(finish))
    assert cubin(FULL + matmul_text(variant), "sm_90", variant.symbol).startswith(b"\x7fELF")


def test_kernels_that_differ_in_names_only_are_one(host: HostDevice) -> None:
    x, u, v = (matrix(name, "float64") for name in "xuv")
    hidden = T.nnet.relu(T.dot(x, u))
    case = Case([x, u, v], [T.nnet.relu(T.dot(hidden, v))], [values(0, 16, 16), values(1, 16, 16), values(2, 16, 16)])
    run = Run(case, host)
    assert run.fused == 2
    assert len(set(host.launches)) == 1
    epilogues = {fusion.epilogue_of(finish) for finish in fusion.finishes_of(case.program).values()}
    assert len(epilogues) == 1


def test_elements_are_read_before_any_is_stored() -> None:
    """But for what a kernel stored itself."""
    x, w, s = (matrix(name, "float64") for name in "xws")
    faster = s - T.dot(x, x)
    given, held = [np.zeros((4, 4))], [np.zeros((4, 4)), np.zeros((4, 4))]
    (finish,) = set(fusion.finishes_of(Case([x], [], given, [w, s], {0: w + faster, 1: faster}, held).program).values())
    text = fusion.epilogue_of(finish).functions
    assert text.count("s[i]") == text.count("w[i]") == 1
    first, second = finish.stage.body
    assert len(fusion._early(finish, (first, second))) == 2
    assert len(fusion._early(finish, (second, first))) == 1  # first stores what second reads


@pytest.mark.parametrize(
    ("tile", "cluster"),
    [
        (Tile(16, 16, 4, 4, 16, 64, 4), 1), (Tile(32, 64, 8, 8, 4, 32, 3), 1), (Tile(64, 64, 8, 8, 2, 16, 4), 1),
        (Tile(32, 64, 8, 8, 1, 8, 2), 1), (Tile(16, 16, 4, 4, 4, 16, 3), 2), (Tile(32, 32, 4, 4, 2, 8, 2), 4),
    ],
)  # fmt: skip
def test_other_kernels(checked_host: HostDevice, monkeypatch: pytest.MonkeyPatch, tile: Tile, cluster: int) -> None:
    """Those that have many results in a thread, no slices, or several blocks for a tile."""
    choice = Choice(tile, cluster, 0.0, 0)
    monkeypatch.setattr(matrix_products, "_chosen", lambda *_: choice)
    x, g, w, s = (matrix(name, "float32") for name in "xgws")
    faster = T.cast(0.9, "float32") * s - T.cast(0.1, "float32") * T.dot(x.T, g)
    given, held = [values(0, 70, 37), values(1, 70, 69)], [values(2, 37, 69), values(3, 37, 69)]
    run = Run(Case([x, g], [], given, [w, s], {0: w + faster, 1: faster}, held), checked_host)
    assert run.fused == 1


def test_it_can_be_seen(host: HostDevice) -> None:
    case = layer(4, 4, 4, "float32")
    (launch,) = (step for step in walk(case.program.steps) if isinstance(step, Launch))
    text = source(case.program, "cuda", "sm_90", default_emitter(), variants(case.program), {})
    name = f"finish_{launch.kernel.name}"
    assert f"void {name}(f32 value, const {name}_reads& early, i64 row, i64 column, i64 columns, f32* " in text


def test_it_is_explained(two_devices: tuple[HostDevice, HostDevice]) -> None:
    x, w, b = matrix("x", "float32"), matrix("w", "float32"), T.vector("b", dtype="float32")
    text = function([x, w, b], T.nnet.relu(T.dot(x, w) + b), device="cuda").explain()
    assert "small products that are one launch with" in text
    assert "not stored" in text
    assert "one launch" not in function([x, w], T.dot(x, w), device="cuda").explain()


def test_kernels_of_products_can_be_seen(
    two_devices: tuple[HostDevice, HostDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a call has chosen them: their text, what they are for, and in `explain` a row for each."""
    monkeypatch.setattr(fusion, "_epilogues", {})  # shared by kernels that differ in names only: the first one's stay
    x, w, b = matrix("x", "float32"), matrix("w", "float32"), T.vector("b", dtype="float32")
    layer = function([x, w, b], T.nnet.relu(T.dot(x, w) + b), device="cuda")
    assert "matmul_" not in layer.source("cuda")
    assert "chosen on a device" in layer.explain()
    for rows in (3, 3, 5):
        layer(*[values(seed, *size).astype("float32") for seed, size in enumerate(((rows, 7), (7, 4), (4,)))])
    text, told = layer.source("cuda"), layer.explain()
    assert text.count("// matrix product: 3 x 7 by 7 x 4; 5 x 7 by 7 x 4\n") == 1  # one kernel for both
    assert re.search(r"__global__ .*matmul_f32_\w+\(", text)
    (kernel,) = layer.compilation.plan.program.kernels()
    assert text.count(f"// {kernel.name}, at the end of a product") == 1
    rows = re.findall(r"^(\d) x 7 by 7 x 4 +matmul_f32_\w+ +\d+", told, re.MULTILINE)
    assert rows == ["3", "5"]
    assert "chosen on a device" not in told
