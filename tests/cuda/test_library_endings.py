"""Large products that end with a bias or a relu: what is asked of cuBLASLt, and where it is not used."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import config, function, scan
from symtensor.graph import Tensor
from symtensor_codegen.cuda.arrays import DeviceArray
from symtensor_codegen.cuda.calls.actions import FusedAction, KernelAction, Operand, Place, ProductAction, dependencies
from symtensor_codegen.cuda.errors import DeviceMemoryError
from symtensor_codegen.cuda.matmul import choice, fusion, library
from symtensor_codegen.cuda.matmul.endings import DISPUTED, Relu, ending_of
from symtensor_codegen.cuda.matmul.library import Unable
from symtensor_codegen.cuda.matmul.products import MatrixProducts
from symtensor_codegen.cuda.matmul.variants import PRECISIONS
from tests.cuda.ending_cases import BIAS, ENDINGS, RELU, RELU_BIAS, b, case, finish_of, numbers, p, w, x, z
from tests.cuda.host import HostDevice
from tests.cuda.host import compiler as host_compiler
from tests.cuda.numpy_device import NumpyDevice
from tests.cuda.pretended_blas import COMPUTE, Blas, BlasLt, install
from tests.cuda.product_cases import Case as Operands
from tests.cuda.program_cases import Case, OnDevice

Array = np.ndarray[Any, Any]


# What is asked of the library -----------------------------------------------------------------------------------------


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Blas, BlasLt]]:
    """Both, for products of any size."""
    monkeypatch.setattr(choice, "library_cycles", lambda *sizes: 0.0)
    found = install(monkeypatch)
    yield found
    found[0].queue = lambda work: work()  # not a device's, which would be kept with all of its memory


@pytest.fixture
def lt(libraries: tuple[Blas, BlasLt]) -> BlasLt:
    return libraries[1]


def with_libraries(device: Any, precision: str = "float32") -> MatrixProducts:
    """Products on a device of the host that has the libraries."""
    products = MatrixProducts(device, precision)
    products.means.library_missing = ""
    return products


class Run:
    """A case on a device of NumPy arrays whose products are those of the libraries."""

    def __init__(self, made: Case, libraries: tuple[Blas, BlasLt], precision: str = "float32", graphs: bool = True):
        self.case, self.blas, self.lt = made, *libraries
        self.device: Any = NumpyDevice(can_capture=graphs)
        self.blas.queue = self.device.queue
        self.products = self.device.products = with_libraries(self.device, precision)
        self.run = OnDevice(made.program, made.cells, self.device)

    def check(self, calls: int = 4) -> Array:
        """Calls with host arrays, then with device arrays: results and variables are the interpreter's, bit for bit."""
        cells = self.case.cells
        held = self.run.uploaded(*self.case.inputs)
        found: list[Array] = []
        for given in [self.case.inputs] * calls + [held] * calls:
            with np.errstate(all="ignore"):
                wanted, cells = self.case.expected(cells)
            found = self.run(*given)
            for one, other in zip((*found, *self.run.values), (*wanted, *cells), strict=True):
                np.testing.assert_array_equal(one, other)
        return found[0] if found else np.empty(0)

    @property
    def why(self) -> list[str]:
        return [refused.reason for refused in self.products.refused]


RELUS: dict[Any, Callable[[Array], Array]] = {
    Relu(False, False): lambda v: np.fmax(v, np.float32(0)),
    Relu(True, True): lambda v: np.where(v < 0, np.float32(0), v),
    Relu(False, True): lambda v: np.where(v >= 0, v, np.float32(0)),
    Relu(True, False): lambda v: np.where(v <= 0, np.float32(0), v),
}


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", ENDINGS)
def test_values(libraries: tuple[Blas, BlasLt], lt: BlasLt, name: str, graphs: bool) -> None:
    result, ending = ENDINGS[name]
    lt.relu = RELUS.get(ending.relu, lt.relu)
    turned = ((3, 3, 3), (1, 1, 1), (8, 8, 8))
    for sizes in turned if name == "other way round" else ((3, 5, 7), (1, 9, 2), (8, 1, 3), (6, 4, 4)):
        made = case(result, sizes)
        run = Run(made, libraries, graphs=graphs)
        lt.ended.clear()
        run.check()
        code = 4 * ending.bias + 2 * (ending.relu is not None)
        assert {kind for kind, _ in lt.ended} == {code}
        assert not run.why
        assert [chosen.description for chosen in run.products.chosen] == [f"cuBLASLt float32 with {ending.told}"]
        assert run.device.launches == 0  # no kernel of ours


def test_a_device_is_not_kept(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    """Nor is the scratch memory of its products, which is large."""
    run = Run(case(*next(iter(ENDINGS.values()))[:1], (3, 5, 7)), libraries)
    run.check()
    with_libraries(run.device)  # plain products, too
    assert run.products.means.library() is not None
    device, scratch = weakref.ref(run.device), weakref.ref(run.products.means.scratch(1))
    run.blas.queue = lambda call: call()
    del run
    gc.collect()
    assert device() is None
    gc.collect()  # what was kept with it
    assert scratch() is None


ORIENTATIONS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("turned", ORIENTATIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_layouts(lt: BlasLt, turned: tuple[bool, bool], precision: str) -> None:
    """Operands either way round, with gaps between their lines, of random sizes."""
    device: Any = NumpyDevice()
    products = with_libraries(device, precision)
    random = np.random.default_rng(7)
    for ending in (BIAS, RELU, RELU_BIAS):
        for gap in (0, 3):
            m, n, k = (int(size) for size in random.integers(1, 20, 3))
            made = Operands(device, "float32", m, n, k, turned, alpha=-0.5, gap=gap)
            _, a, right = made.addresses()
            bias = DeviceArray.upload(device, np.float32(random.normal(size=n)))
            result = device.allocate(4 * m * n)
            products.means.ended(made.product, precision, ending)(result.address, a, right, bias.address)
            found = np.empty((m, n), np.float32)
            device.download(found, result.address)
            wanted = made.expected[0] + (bias.numpy() if ending.bias else 0)
            wanted = np.maximum(wanted, 0) if ending.relu else wanted
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    modes = dict(zip(PRECISIONS, ("32F", "32F_FAST_TF32", "32F_FAST_16BF", "32F_FAST_16F"), strict=True))
    assert {mode for mode, _ in lt.asked} == {getattr(COMPUTE, f"COMPUTE_{modes[precision]}")}


def test_an_algorithm_is_chosen_once(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    """For sizes and ending, whatever the number of calls; those of another function on the device have it already."""
    run = Run(case(T.nnet.relu(z)), libraries)
    run.check()
    assert len(lt.asked) == 1
    first = len(lt.ended)
    OnDevice(run.case.program, run.case.cells, run.device)(*run.case.inputs)
    assert len(lt.asked) == 1
    assert len(lt.ended) == first + 1
    product, means = Operands(run.device, "float32", 2, 3, 4).product, run.products.means
    for precision in ("float32", "tf32"):
        for ending in (BIAS, RELU, RELU_BIAS):
            assert means.ended(product, precision, ending) is means.ended(product, precision, ending)
    assert lt.asked[1:] == [(mode, ending) for mode in (68, 77) for ending in (4, 2, 6)]


def test_descriptions_are_given_back(lt: BlasLt) -> None:
    device: Any = NumpyDevice()
    means = with_libraries(device).means
    product = Operands(device, "float32", 2, 3, 4).product
    means.ended(product, "float32", RELU)
    assert len(lt.living) == 5
    assert means._endings is not None
    means._endings._ready.clear()
    gc.collect()
    assert not lt.living


def test_many_sizes_are_not_kept(lt: BlasLt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_MOST_READY", 3)
    device: Any = NumpyDevice()
    means = with_libraries(device).means
    for n in range(1, 9):
        means.ended(Operands(device, "float32", 2, n, 4).product, "float32", BIAS)
        assert len(lt.living) <= 3 * 5


# NaN ------------------------------------------------------------------------------------------------------------------

KEEPS: Any = lambda v: np.maximum(v, np.float32(0))  # noqa: E731
DROPS: Any = lambda v: np.fmax(v, np.float32(0))  # noqa: E731


def disputed(seed: int, *shape: int) -> Array:
    """Numbers, and what is disputed among them."""
    values = numbers(seed, *shape)
    some = values.reshape(-1)[:: max(values.size // 5, 2)]
    some[:] = np.resize(np.float32(DISPUTED), len(some))
    return values


@pytest.mark.parametrize("relu", [KEEPS, DROPS])
@pytest.mark.parametrize("result", [T.maximum(z, 0), T.switch(z > 0, z, 0), T.nnet.relu(p), z])
@pytest.mark.parametrize("m", [1, 2, 4, 5, 6, 9])
def test_nan(libraries: tuple[Blas, BlasLt], lt: BlasLt, relu: Any, result: Tensor, m: int) -> None:
    """The library's relu is used where it does with NaN what the program asks for; the values are right either way."""
    lt.relu = relu
    run = Run(case(result, (m, 4, 3), disputed), libraries, "tf32")
    run.check()
    found = ending_of(finish_of(result))
    assert found is not None
    wanted = found.ending.relu
    fits = wanted is None or wanted.keeps_nan is (relu is KEEPS)
    used = "cuBLASLt tf32 with" in next(iter(run.products.chosen)).description
    assert used is fits
    reason = "keeps NaN, where 0 is wanted" if relu is KEEPS else "makes 0 of NaN, which is to be kept"
    assert run.why == ([] if fits else [f"cuBLASLt's relu {reason}"])


def test_nan_in_some_kernels(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    """One algorithm may keep NaN where another does not: each is tried."""
    lt.relu = lambda v: KEEPS(v) if v.shape[0] == 4 else DROPS(v)
    for n, why in ((4, 0), (5, 1)):
        run = Run(case(T.nnet.relu(z), (3, n, 4), disputed), libraries)
        run.check()
        assert len(run.why) == why


def test_the_zero_of_the_sign_that_was_asked_for(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    lt.relu = lambda v: np.where(v < 0, np.float32(0), v)
    for result, why in (
        (T.switch(z < 0, 0, z), []),
        (T.nnet.relu(z), []),
        (T.switch(z <= 0, 0, z), ["cuBLASLt's relu keeps -0.0, where 0.0 is wanted"]),
    ):
        run = Run(case(result), libraries)
        run.check()
        assert run.why == why


def test_a_library_without_a_relu(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    lt.relu = lambda v: v
    run = Run(case(T.nnet.relu(z)), libraries)
    run.check()
    assert run.why == ["cuBLASLt's relu is not the same everywhere, or none"]


# Where the library cannot ---------------------------------------------------------------------------------------------


def apart(run: Run) -> str:
    """The results are right, of two launches; the reason."""
    run.check()
    assert [chosen.description for chosen in run.products.chosen] == ["cuBLAS float32"]
    assert run.device.launches > 0
    (reason,) = run.why
    return reason


def test_no_algorithm(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    lt.algorithms = False
    assert apart(Run(case(z), libraries)) == "cuBLASLt has no algorithm for it"
    assert len(lt.asked) == 1


def test_a_refusal(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    lt.status = "CUBLAS_STATUS_NOT_SUPPORTED"
    assert apart(Run(case(z), libraries)) == "cuBLASLt refuses it: an error (CUBLAS_STATUS_NOT_SUPPORTED)"


def test_library_missing(libraries: tuple[Blas, BlasLt]) -> None:
    bindings: Any = sys.modules["nvmath.bindings"]
    del bindings.cublasLt
    run = Run(case(z), libraries)
    reason = apart(run)
    assert reason.startswith("cuBLASLt cannot be used: ImportError: cannot import name")
    bindings.cublasLt = libraries[1]  # it is looked for once
    with pytest.raises(Unable, match="cuBLASLt cannot be used"):
        run.products.means.ended(Operands(run.device, "float32", 2, 3, 4).product, "float32", BIAS)


def test_no_memory_to_try_it(libraries: tuple[Blas, BlasLt], lt: BlasLt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias needs no trial; a product is multiplied without, too."""

    def full(*_: object) -> Any:
        raise DeviceMemoryError("full")

    monkeypatch.setattr(library, "_memory", full)
    assert apart(Run(case(T.nnet.relu(z)), libraries)) == "there was no memory to try cuBLASLt's relu in"
    run = Run(case(z), libraries)
    run.check()
    assert not run.why
    assert lt.ended


@pytest.mark.parametrize("odd", [None, "x", "w", "b"])
@pytest.mark.parametrize("graphs", [True, False])
def test_memory_that_begins_anywhere(libraries: tuple[Blas, BlasLt], lt: BlasLt, odd: str | None, graphs: bool) -> None:
    """Arguments that others lend: then both are done one after the other, and the next call may be as before."""
    made = Case([x, w, b], [T.nnet.relu(z)], [numbers(0, 3, 4), numbers(1, 4, 5), numbers(2, 5)])
    run = Run(made, libraries, graphs=graphs)
    wanted = run.case.expected([])[0][0]
    even = run.run.uploaded(*run.case.inputs)
    lent = []
    for array, name in zip(run.case.inputs, "xwb", strict=True):
        moved = DeviceArray.upload(run.device, np.concatenate([np.float32([0]), array.ravel()]))
        at = moved.address + 4 if name == odd else moved.address
        if name != odd:
            moved = DeviceArray.upload(run.device, array)
            at = moved.address
        lent.append(DeviceArray(run.device, moved.block, array.shape, array.dtype, at))
    for given, together in ((even, True), (lent, odd is None), (even, True)):
        for _ in range(3):
            run.blas.calls.clear()
            lt.ended.clear()
            np.testing.assert_array_equal(run.run(*given)[0], wanted)
        if not graphs:
            assert bool(lt.ended) is together
            assert ("gemm" in run.blas.calls) is not together
    assert run.why == ([] if odd is None else ["some of its memory does not begin at a multiple of 16 bytes"])


def test_small_products_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is not even loaded."""
    monkeypatch.setattr(choice, "library_cycles", lambda *sizes: float("inf"))
    products = with_libraries(NumpyDevice())
    found = ending_of(finish_of(T.nnet.relu(z)))
    assert found is not None
    assert products.ended(Operands(products.device, "float32", 3, 4, 5).product, found, (), print) is None  # type: ignore[arg-type]
    assert not products.refused
    assert not products.means.library_missing


# Among other work -----------------------------------------------------------------------------------------------------


def network() -> tuple[Case, Tensor, list[Tensor], list[Array]]:
    """Two layers: the case, the output, the variables and their values."""
    u, c = T.fmatrix("u"), T.fvector("c")
    out = T.dot(T.nnet.relu(z), u) + c
    held = [numbers(1, 4, 6), numbers(2, 6), numbers(3, 6, 4), numbers(4, 4)]
    return Case([x], [out], [numbers(0, 5, 4)], [w, b, u, c], held=held), out, [w, b, u, c], held


def test_a_network(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    run = Run(network()[0], libraries)
    run.check()
    assert {ending for ending, _ in lt.ended} == {4, 6}
    assert run.device.launches == 0


def test_a_step_of_training(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    """Gradients look at what the relu got: so the product is needed as it is, and nothing ends so."""
    _, out, cells, held = network()
    changes = T.grad((out**2).sum(), cells)
    updates = {k: v * 0.5 - T.sgn(g) for k, (v, g) in enumerate(zip(cells, changes, strict=True))}
    Run(Case([x], [out.sum()], [numbers(0, 5, 4)], cells, updates, held), libraries).check()
    assert not lt.asked


def test_in_a_loop(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    """What a step of a loop computes is in memory that other steps use, and is stored."""
    s, v = T.fmatrix("s"), T.fmatrix("v")
    states, _ = scan(lambda s, v, b: T.nnet.relu(T.dot(s, v) + b), outputs_info=s, non_sequences=[v, b], n_steps=5)
    values = [numbers(0, 3, 4), np.eye(4, dtype=np.float32)[[1, 2, 3, 0]], numbers(2, 4)]
    Run(Case([s, v, b], [states], values), libraries).check()
    assert not lt.asked


def test_an_update_with_what_may_fail(libraries: tuple[Blas, BlasLt], lt: BlasLt) -> None:
    at, state = T.lvector("at"), T.fmatrix("state")
    made = Case([x, w, b, at], [b[at]], [numbers(0, 3, 4), numbers(1, 4, 4), numbers(2, 4), [0, 2]], [state],
                {0: T.nnet.relu(z)}, [numbers(3, 3, 4)])  # fmt: skip
    run = Run(made, libraries)
    run.check()
    assert lt.ended  # into memory that becomes the variable's when all is well
    before = run.run.values[0]
    with pytest.raises(Exception, match="index"):
        run.run(*made.inputs[:3], np.array([0, 4]))
    np.testing.assert_array_equal(run.run.values[0], before)


def actions_of(run: Run) -> Iterator[Any]:
    run.check()
    for recording in run.run.compiled.runner.recordings.values():
        assert recording is not None
        yield from recording.actions


def test_what_is_written(libraries: tuple[Blas, BlasLt]) -> None:
    """The result, and the product's memory, where both may yet be done one after the other."""
    for action in actions_of(Run(case(T.nnet.relu(z)), libraries)):
        assert isinstance(action, FusedAction)
        assert action.multiply.uses_scratch  # type: ignore[attr-defined]
        assert set(action.writes) == {action.out.place, action.kernel.places[0]}
        assert {action.a.place, action.b.place} < set(action.reads)
        assert action.out.place not in action.reads
        assert len(action.reads) == 3


def test_what_a_library_must_not_do(libraries: tuple[Blas, BlasLt], monkeypatch: pytest.MonkeyPatch) -> None:
    """Store where blocks may yet read (a single row in the place of the bias); go on after a failure."""
    one, seen = fusion._one, []

    def changed(prepared: Any, finish: Any, product: Any, between: Any, kernel: KernelAction) -> Any:
        bias = next(place for place in kernel.reads if place != product.out.place)
        seen.append(one(prepared, finish, product, between, replace(kernel, writes=(bias,))))
        seen.append(one(prepared, finish, product, between, replace(kernel, gated=True)))
        found = one(prepared, finish, product, between, kernel)
        assert found is not None
        return found

    monkeypatch.setattr(fusion, "_one", changed)
    Run(case(z), libraries).check()
    assert seen
    assert not any(seen)


def test_scratch_memory_is_used_in_turn() -> None:
    """By products that end so, as by others."""
    places = [Place(0, 64 * k, 64) for k in range(8)]
    operands = [Operand(place, 4, 1, 0) for place in places]
    kernel = KernelAction((), (places[6],), b"", (), (places[6],))

    class Multiply:
        def __init__(self, uses_scratch: bool) -> None:
            self.uses_scratch = uses_scratch

        def __call__(self, *_: object) -> None: ...

    def ended(uses_scratch: bool, out: int) -> FusedAction:
        reads, writes = (places[0], places[1]), (places[out],)
        return FusedAction(Multiply(uses_scratch), *operands[:3], kernel, reads, writes)

    plain = ProductAction(operands[4], operands[0], operands[1], Multiply(True))
    actions = [ended(True, 2), ended(False, 3), plain, ended(True, 5)]
    assert dependencies(actions, [0]) == [[], [], [0], [2]]


# What users see -------------------------------------------------------------------------------------------------------


@pytest.mark.cuda_host
@pytest.mark.parametrize(("relu", "told"), [(KEEPS, "tf32 with bias and relu"), (DROPS, "tf32")])
def test_explained(
    libraries: tuple[Blas, BlasLt], lt: BlasLt, two_devices: tuple[HostDevice, HostDevice], relu: Any, told: str
) -> None:
    lt.relu = relu
    for device in two_devices:
        with_libraries(device)
    with config.change(matmul_precision="tf32"):
        layer = function([x, w, b], T.nnet.relu(z), device="cuda")
    given = [numbers(0, 3, 8), numbers(1, 8, 4), numbers(2, 4)]
    np.testing.assert_array_equal(layer(*given), np.maximum(given[0] @ given[1] + given[2], 0))
    lines = [line.rstrip() for line in layer.explain().splitlines()]
    library_name = "cuBLASLt" if relu is KEEPS else "cuBLAS"
    assert any(line.startswith("3 x 8 by 8 x 4 ") and line.endswith(f" {library_name} {told}") for line in lines)
    reason = "3 x 8 by 8 x 4  bias and relu      cuBLASLt's relu makes 0 of NaN, which is to be kept"
    assert (reason in lines) is (relu is DROPS)
    assert any(line.startswith("large product ") for line in lines) is (relu is DROPS)


# The real ones --------------------------------------------------------------------------------------------------------


def test_described_to_the_real_library(tmp_path: Path) -> None:
    """NVIDIA's bindings and library understand the descriptions. No device is needed for that, only a driver."""
    if importlib.util.find_spec("nvmath") is None:
        pytest.skip("nvmath-python is not installed")
    driver = tmp_path / "libcuda.so.1"
    if (compiler := host_compiler.compiler()) is not None:
        source = tmp_path / "driver.c"
        source.write_text("int cuDriverGetVersion(int* version) { *version = 13000; return 0; }")
        subprocess.run(
            [compiler, "-x", "c", "-shared", "-fPIC", f"-Wl,-soname,{driver.name}", "-o", driver, source], check=True
        )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'codegen'}"}
    subprocess.run([sys.executable, Path(__file__).with_name("real_blas.py"), driver], check=True, env=environment)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_a_gpu(gpu: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values are NumPy's, NaN and all, the same in each call, and a bias is added by the library."""
    monkeypatch.setattr(choice, "library_cycles", lambda *sizes: 0.0)
    rounding = {"float32": 2e-6, "tf32": 1e-3, "bfloat16": 8e-3, "float16": 1e-3}[precision]
    random = np.random.default_rng(3)
    programs = {"bias": z, "relu": T.nnet.relu(p), "bias and relu": T.nnet.relu(z), ">": T.switch(z > 0, z, 0)}
    meanings = {
        "bias": lambda q, v: q + v, "relu": lambda q, v: np.maximum(q, 0),
        "bias and relu": lambda q, v: np.maximum(q + v, 0), ">": lambda q, v: np.where(q + v > 0, q + v, 0),
    }  # fmt: skip
    for name, result in programs.items():
        with config.change(matmul_precision=precision):
            layer = function([x, w, b], result, device=gpu, on_unused_input="ignore")
        for m, n, k in ((256, 512, 128), (1, 128, 64), (300, 100, 36), (65, 33, 17)):
            given = [random.normal(size=size).astype(np.float32) for size in ((m, k), (k, n), (n,))]
            given[0][0, 0], given[0][m // 2, 0], given[2][1] = np.nan, np.inf, -np.inf
            with np.errstate(all="ignore"):
                wanted = meanings[name](given[0].astype(float) @ given[1].astype(float), given[2])
            found = [layer(*given) for _ in range(4)]
            np.testing.assert_allclose(found[0], wanted, atol=5 * rounding * k**0.5)
            for again in found[1:]:
                np.testing.assert_array_equal(found[0], again)
        told = layer.explain()
        ending = name.replace(">", "bias and relu")
        assert f"cuBLASLt {precision} with {ending}\n" in told or (name != "bias" and "cuBLASLt's relu" in told), told
