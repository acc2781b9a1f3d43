"""Matrix products: the generated kernels on the CPU, their code for GPUs, and what is asked of cuBLAS."""

import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product as pairs
from typing import Any

import numpy as np
import pytest

from symtensor_codegen import dtypes
from symtensor_codegen.cuda.compiling import compile as compiler
from symtensor_codegen.cuda.compiling.compile import FULL
from symtensor_codegen.cuda.matmul import choice as matmul_choice
from symtensor_codegen.cuda.matmul import products as matrix_products
from symtensor_codegen.cuda.matmul.choice import Choice, has_room, tiles
from symtensor_codegen.cuda.matmul.kernels import combine_text, matmul_text
from symtensor_codegen.cuda.matmul.products import Generated, LibraryProduct, MatrixProducts
from symtensor_codegen.cuda.matmul.variants import ELEMENTS, PRECISIONS, Epilogue, Tile, Variant
from symtensor_codegen.cuda.schedules.launch_numbers import SHARED_LIMIT
from symtensor_codegen.errors import BackendError
from tests.cuda.host import HostDevice
from tests.cuda.pretended_blas import Blas, install
from tests.cuda.product_cases import Case

Array = np.ndarray[Any, Any]

SMALL = Tile(16, 16, 4, 4, 2, 32, 3)  # two slices, one warp: quick on the CPU


def generated(case: Case, tile: Tile = SMALL, splits: int = 1, clusters: bool = False) -> Generated:
    """The product with a tile of the test's choice; ``clusters``: split among the blocks of a cluster."""
    p = case.product
    scratch = splits * p.m * p.n * p.batch * p.dtype.itemsize if splits > 1 and not clusters else 0
    return Generated(MatrixProducts(case.device).means, p, "float32", Choice(tile, splits, 0.0, scratch))


ORIENTATIONS = list(pairs((False, True), repeat=2))


@pytest.mark.parametrize("turned", ORIENTATIONS)
@pytest.mark.parametrize(("gap", "shift"), [(0, 0), (3, 1), (2, 2)])
def test_orientations_and_alignments(checked_host: HostDevice, turned: tuple[bool, bool], gap: int, shift: int) -> None:
    """Copies of 16, 8 and 4 bytes, each operand either way round, in every order of threads, races looked for."""
    for m, n, k in ((16, 32, 96), (19, 37, 70)):
        case = Case(checked_host, "float32", m, n, k, turned, gap=gap, shift=shift)
        case.check(generated(case))


TILES = [(dtype, number) for dtype in ELEMENTS for number in range(len(tiles(ELEMENTS[dtype], "float32")))]


@pytest.mark.parametrize(("dtype", "number"), TILES)
def test_every_tile(host: HostDevice, dtype: str, number: int) -> None:
    tile = tiles(ELEMENTS[dtype], "float32")[number]
    for turned in ((False, False), (True, True)):
        case = Case(host, dtype, tile.rows + 5, tile.columns - 3, tile.depth * 2 + 5, turned)
        case.check(generated(case, tile))


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("splits", [1, 3])
def test_factors_batches_and_splits(checked_host: HostDevice, dtype: str, splits: int) -> None:
    tile = SMALL if dtype == "float32" else replace(SMALL, depth=8)
    for alpha, beta, batch in ((1.0, 0.0, 2), (-0.5, 2.0, 1), (1.0, 1.0, 3)):
        case = Case(checked_host, dtype, 17, 21, 300, batch=batch, alpha=alpha, beta=beta, gap=1)
        case.check(generated(case, tile, splits))


@pytest.mark.parametrize("blocks", [2, 4, 8])
@pytest.mark.parametrize("turned", ORIENTATIONS)
def test_clusters(checked_host: HostDevice, blocks: int, turned: tuple[bool, bool]) -> None:
    """Blocks that share the terms, some of them without any, and give each other their sums."""
    for m, n, k, beta in ((16, 32, 32 * blocks, 0.0), (19, 37, 70, 0.5), (3, 2, 9, 0.0)):
        case = Case(checked_host, "float32", m, n, k, turned, beta=beta, gap=1)
        multiply = generated(case, Tile(16, 16, 4, 4, 2, 8, 2), blocks, clusters=True)
        assert not multiply.uses_scratch
        assert f"_by{blocks}_folded" in multiply.description
        case.check(multiply)


@pytest.mark.parametrize("dtype", ["float64", "complex64", "complex128"])
def test_clusters_of_other_types(checked_host: HostDevice, dtype: str) -> None:
    tile = Tile(16, 16, 4, 4, 2, 8 * 4 // ELEMENTS[dtype].size, 2)
    case = Case(checked_host, dtype, 17, 20, 50, batch=2, alpha=-0.5, beta=1.0)
    case.check(generated(case, tile, 2, clusters=True))


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (1, 1, 5000), (3, 1, 9), (1, 7, 2), (100, 1, 100), (1, 100, 100), (5, 4, 0)]
)
@pytest.mark.parametrize("turned", ORIENTATIONS)
def test_vectors_and_no_terms(host: HostDevice, m: int, n: int, k: int, turned: tuple[bool, bool]) -> None:
    case = Case(host, "float32", m, n, k, turned)
    case.check(MatrixProducts(host)(case.product))


def test_no_terms_with_beta(host: HostDevice) -> None:
    case = Case(host, "float64", 3, 4, 0, beta=2.0)
    case.check(MatrixProducts(host)(case.product))


def test_batches_beyond_a_grid(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_products, "_MOST_BLOCKS_ACROSS", 2)
    for splits in (1, 2):
        case = Case(host, "float32", 3, 5, 70, batch=5, gap=1)
        case.check(generated(case, splits=splits))


def test_one_matrix_for_a_batch(host: HostDevice) -> None:
    """An operand with batch stride 0 is used by the whole batch."""
    case = Case(host, "float32", 4, 5, 6, batch=3)
    one = replace(case.product, b=(*case.product.b[:2], 0))
    case.expected = case.a.reshape(3, 4, 6).astype(np.float64) @ case.b.reshape(3, 6, 5)[0]
    case.check(MatrixProducts(host)(one))


def test_same_sums_in_any_order_of_threads() -> None:
    found = []
    for order in ("forward", "reverse", "random"):
        case = Case(HostDevice(order=order), "float32", 9, 11, 500)
        generated(case, splits=3)(*case.addresses())
        out = case.out.copy()
        case.device.download(out, case.blocks[0].address)
        found.append(out)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_epilogue(host: HostDevice) -> None:
    """What is done to each result before it is stored, in both kernels that store."""
    epilogue = Epilogue("value = value + bias[column] * (f32)(row + 1); if (value < 0) value = 0;", ("bias",))
    element = ELEMENTS["float32"]
    variant = Variant(element, SMALL, True, False, 1, 1, epilogue=epilogue)
    case = Case(host, "float32", 5, 7, 11)
    bias = np.arange(-3, 4, dtype=np.float32)
    block = host.allocate(bias.nbytes)
    host.upload(block.address, bias)
    out, a, b = case.addresses()
    kernel = host.load(host.code(matmul_text(variant), variant.symbol)).function(variant.symbol)
    arguments = struct.pack("3Q10q2dQ", a, b, out, 5, 7, 11, 11, 7, 7, 0, 0, 0, 32, 1.0, 0.0, block.address)
    host.launch(kernel, (1, 1, 1), (variant.threads, 1, 1), arguments)
    found = case.out.copy()
    host.download(found, out)
    expected = np.maximum(case.expected[0] + bias * np.arange(1, 6)[:, None], 0)
    np.testing.assert_allclose(found.reshape(5, 7), expected, atol=1e-5)
    text = combine_text(element, "combine", epilogue)
    assert epilogue.text in text
    assert "const f32* __restrict__ bias" in text


def test_what_is_not_a_product(host: HostDevice) -> None:
    p = Case(host, "float32", 2, 2, 2).product
    with pytest.raises(BackendError, match="the cuda backend has no matrix product of int32"):
        MatrixProducts(host)(replace(p, dtype=dtypes.int32))
    with pytest.raises(BackendError, match="one of float32, tf32, bfloat16, float16, not 'half'"):
        MatrixProducts(host, "half")


def test_less_precision_is_a_permission(host: HostDevice) -> None:
    """Where there are no tensor cores float32 stays float32; other types never change."""
    for dtype in ("float32", "float64"):
        case = Case(host, dtype, 20, 20, 20)
        case.check(MatrixProducts(host, "tf32")(case.product))


def test_one_set_of_kernels_for_a_device(host: HostDevice) -> None:
    assert MatrixProducts(host).means is MatrixProducts(host, "tf32").means


# Code for GPUs --------------------------------------------------------------------------------------------------------


def texts(dtype: str, precision: str) -> Iterator[tuple[str, str]]:
    element = ELEMENTS[dtype]
    for number, tile in enumerate(tiles(element, precision)):
        a, b = ORIENTATIONS[number % 4]
        variant = Variant(element, tile, not a, b, element.lanes, 1, precision, number % 2 == 1)
        clustered = replace(variant, cluster=4, split=False)
        for each in (variant, clustered) if has_room(element, precision, tile) else (variant,):
            yield FULL + matmul_text(each), each.symbol


@pytest.mark.parametrize(
    ("dtype", "precision"), [*((dtype, "float32") for dtype in ELEMENTS), *(("float32", p) for p in PRECISIONS[1:])]
)
def test_compiles_for_gpus(dtype: str, precision: str) -> None:
    """Each tile's kernel, and nothing of it is spilled to memory."""
    sources = list(texts(dtype, precision))
    compiler.cubins(sources, "sm_90")
    for text, symbol in sources:
        used = compiler.resources(text, "sm_90", symbol)[symbol]
        assert used.spill_bytes == 0
        assert used.local_bytes == 0
        assert 0 < used.shared_bytes <= SHARED_LIMIT


def test_compiles_for_other_gpus() -> None:
    text, symbol = next(texts("float32", "float32"))
    for architecture in ("sm_75", "sm_80", "sm_120"):
        assert compiler.resources(text, architecture)[symbol].spill_bytes == 0
    assert compiler.cubin(combine_text(ELEMENTS["complex64"], "combine"), "sm_90")
    assert "cp.async" not in compiler.ptx(text, "sm_75")
    assert "cp.async" in compiler.ptx(text, "sm_80")


def test_clusters_for_gpus() -> None:
    """Known when the kernel is compiled, for devices from sm_90 on."""
    text, symbol = next(pair for pair in texts("float32", "float32") if "_by4" in pair[1])
    assert ".reqnctapercluster 1, 4, 1" in compiler.ptx(text, "sm_90", symbol)
    compiler.cubins([(text, symbol)], "sm_120")


@pytest.mark.parametrize(("precision", "name"), [("tf32", "tf32"), ("bfloat16", "bf16"), ("float16", "f16")])
def test_tensor_cores_are_used(precision: str, name: str) -> None:
    text, symbol = next(texts("float32", precision))
    assert f"row.col.f32.{name}.{name}.f32" in compiler.ptx(text, "sm_80", symbol)


# The instruction of tensor cores, by exchanges between lanes: who holds what is from NVIDIA's PTX manual.
EMULATED = """\
typedef unsigned int u32; typedef float f32;
static u32 st_bits(f32 x) { u32 bits; __builtin_memcpy(&bits, &x, 4); return bits; }
static f32 st_value(u32 bits) { f32 x; __builtin_memcpy(&x, &bits, 4); return x; }
ROUND
static void st_mma(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    f32 sums[4];
    for (int q = 0; q < 4; ++q) {
        sums[q] = d[q];
        for (int k = 0; k < TERMS; ++k) {
            const int lane = k % (TERMS / 2) / WIDTH, half = k / (TERMS / 2);
            const u32 u = __shfl_sync(0xffffffffu, a[q / 2 + 2 * half], row * 4 + lane);
            const u32 v = __shfl_sync(0xffffffffu, b[half], (column + q % 2) * 4 + lane);
            sums[q] += st_term(u, k % WIDTH) * st_term(v, k % WIDTH);
        }
    }
    for (int q = 0; q < 4; ++q) d[q] = sums[q];
}
"""

ROUND = {
    "tf32": """\
static u32 st_operand(const f32* from) { return (st_bits(*from) + 0x1000) & ~0x1fffu; }
static f32 st_term(u32 word, int) { return st_value(word); }
""",
    "bfloat16": """\
static u32 st_short(f32 x) { const u32 bits = st_bits(x); return (bits + 0x7fff + (bits >> 16 & 1)) >> 16; }
static u32 st_operand(const f32* from, int step) { return st_short(from[step]) << 16 | st_short(from[0]); }
static f32 st_term(u32 word, int half) { return st_value(word >> 16 * half << 16); }
""",
    "float16": """\
static u32 st_operand(const f32* from, int step) {
    return (u32)st_float_to_half(from[step]) << 16 | st_float_to_half(from[0]);
}
static f32 st_term(u32 word, int half) { return st_half_to_float((unsigned short)(word >> 16 * half)); }
""",
}


def rounded(values: Array, precision: str) -> Array:
    """What tensor cores multiply."""
    bits = values.view(np.uint32)
    if precision == "tf32":
        return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
    if precision == "bfloat16":
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(np.float16).astype(np.float32)


class EmulatingDevice(HostDevice):
    """A host that has the instruction."""

    precision = ""

    def code(self, source: str, symbol: str) -> bytes:
        terms = 8 if self.precision == "tf32" else 16
        functions = EMULATED.replace("ROUND\n", ROUND[self.precision]).replace("TERMS", str(terms))
        return super().code(functions.replace("WIDTH", str(terms // 8)) + source, symbol)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("turned", ORIENTATIONS)
def test_tensor_cores(precision: str, turned: tuple[bool, bool]) -> None:
    """The kernels' own arithmetic: which element each lane reads and stores, and how it is rounded."""
    device = EmulatingDevice()
    device.precision = precision
    for tile in tiles(ELEMENTS["float32"], precision)[:2]:
        case = Case(device, "float32", tile.rows + 3, tile.columns - 5, tile.depth + 9, turned)
        m, n, k = case.product.m, case.product.n, case.product.k
        a = rounded(case.a, precision).reshape((k, m) if turned[0] else (m, k)).astype(np.float64)
        b = rounded(case.b, precision).reshape((n, k) if turned[1] else (k, n)).astype(np.float64)
        case.expected = ((a.T if turned[0] else a) @ (b.T if turned[1] else b))[None]
        case.check(Generated(MatrixProducts(device).means, case.product, precision, Choice(tile, 1, 0.0, 0)))


# cuBLAS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def blas(monkeypatch: pytest.MonkeyPatch) -> Blas:
    """NVIDIA's bindings, as far as they are used."""
    return install(monkeypatch)[0]


@pytest.fixture
def with_library(blas: Blas, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A device that has cuBLAS, for products of any size."""
    device = HostDevice()
    monkeypatch.setattr(MatrixProducts(device).means, "library_missing", "")
    monkeypatch.setattr(matmul_choice, "library_cycles", lambda *sizes: 0.0)
    return device


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("turned", ORIENTATIONS)
def test_library(with_library: HostDevice, blas: Blas, dtype: str, turned: tuple[bool, bool]) -> None:
    for kinds in ({}, {"alpha": -0.5, "beta": 2.0, "batch": 3, "gap": 2, "shift": 1}):
        for sizes in ((5, 7, 3), (1, 4, 6), (4, 1, 6), (4, 6, 1)):
            case = Case(with_library, dtype, *sizes, turned, **kinds)
            multiply = MatrixProducts(with_library)(case.product)
            assert isinstance(multiply, LibraryProduct)
            assert multiply.uses_scratch
            case.check(multiply)
    assert blas.calls[:3] == ["stream", "workspace", "gemm"]  # in this order: a new stream takes the workspace away


@pytest.mark.parametrize(("precision", "mode"), [("float32", 68), ("tf32", 77), ("bfloat16", 75), ("float16", 74)])
def test_precision_of_the_library(with_library: HostDevice, blas: Blas, precision: str, mode: int) -> None:
    products = MatrixProducts(with_library, precision)
    products(Case(with_library, "float32", 2, 2, 2).product)
    products(Case(with_library, "complex64", 2, 2, 2).product)
    products(Case(with_library, "float64", 2, 2, 2).product)
    assert blas.modes == [mode, 68, 70]


def test_no_terms_never_go_to_the_library(host: HostDevice) -> None:
    case = Case(host, "float32", 3, 3, 0)
    multiply = MatrixProducts(host)(case.product)
    assert isinstance(multiply, Generated)
    case.check(multiply)


def test_library_missing(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is generated, and the reason is kept."""
    device = HostDevice()
    products = MatrixProducts(device)
    monkeypatch.setattr(products.means, "library_missing", "")
    monkeypatch.setattr(matmul_choice, "library_cycles", lambda *sizes: 0.0)
    monkeypatch.setitem(sys.modules, "nvmath", None)
    case = Case(device, "float32", 3, 4, 5)
    case.check(products(case.product))
    assert products.means.library_missing.startswith("ModuleNotFoundError")
