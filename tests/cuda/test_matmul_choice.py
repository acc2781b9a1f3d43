"""Which kernel is chosen for a product: as measured, and so that devices are filled."""

import pytest

from symtensor_codegen.cuda.matmul.choice import Choice, choose, has_room, library_cycles, tiles
from symtensor_codegen.cuda.matmul.kernels import memory_of
from symtensor_codegen.cuda.matmul.variants import ELEMENTS, PRECISIONS, Variant
from symtensor_codegen.cuda.schedules.launch_numbers import SHARED_LIMIT

FLOAT32 = ELEMENTS["float32"]

# Microseconds in a graph on an H100, by tile, without clusters.
MEASURED: dict[str, dict[tuple[int, int, int], dict[str, float]]] = {
    "float32": {
        (128, 512, 784): {"cuBLAS": 9.8, "16x16": 7.75, "16x32": 6.8, "32x32": 10.29, "64x32": 16.46, "64x64": 28.73},
        (128, 512, 512): {"cuBLAS": 7.46, "16x16": 5.37, "16x32": 4.96, "32x32": 7.02, "64x32": 10.68, "64x64": 19.12},
        (128, 10, 512): {"cuBLAS": 6.34, "16x16": 3.41, "16x32": 4.77, "32x32": 6.97, "64x32": 10.76, "64x64": 19.91},
        (784, 512, 128): {"cuBLAS": 6.64, "16x16": 10.37, "16x32": 7.8, "32x32": 7.08, "64x32": 6.44, "64x64": 6.98},
        (512, 512, 128): {"cuBLAS": 4.77, "16x16": 7.26, "16x32": 5.55, "32x32": 4.27, "64x32": 4.32, "64x64": 6.95},
        (512, 10, 128): {"cuBLAS": 4.2, "16x16": 2.2, "16x32": 2.6, "32x32": 3.1, "64x32": 4.25, "64x64": 7.31},
        (128, 512, 10): {"cuBLAS": 2.39, "16x16": 2.77, "16x32": 2.61, "32x32": 2.49, "64x32": 3.28, "64x64": 3.97},
        (32, 1024, 256): {"cuBLAS": 6.03, "16x16": 2.76, "16x32": 3.33, "32x32": 4.43, "64x32": 8.76, "64x64": 11.48},
        (32, 256, 1024): {"cuBLAS": 6.83, "16x16": 5.5, "16x32": 7.94, "32x32": 12.54, "64x32": 20.87, "64x64": 36.59},
        (1024, 1024, 1024): {
            "cuBLAS": 54.73,
            "16x16": 94.66,
            "16x32": 78.93,
            "32x32": 70.98,
            "64x32": 63.23,
            "64x64": 61.69,
        },
    },
    "tf32": {
        (128, 512, 784): {"cuBLAS": 6.03, "32x32": 7.83, "64x64": 14.5, "128x128": 36.93},
        (128, 512, 512): {"cuBLAS": 5.46, "32x32": 5.64, "64x64": 9.82, "128x128": 26.17},
        (128, 10, 512): {"cuBLAS": 7.78, "32x32": 5.68, "64x64": 9.83, "128x128": 25.69},
        (784, 512, 128): {"cuBLAS": 3.92, "32x32": 5.93, "64x64": 5.34, "128x128": 11.5},
        (512, 512, 128): {"cuBLAS": 3.75, "32x32": 4.01, "64x64": 4.91, "128x128": 10.75},
        (512, 10, 128): {"cuBLAS": 3.87, "32x32": 3.16, "64x64": 4.3, "128x128": 9.08},
        (128, 512, 10): {"cuBLAS": 3.24, "32x32": 2.62, "64x64": 3.37, "128x128": 6.44},
        (32, 1024, 256): {"cuBLAS": 4.8, "32x32": 3.97, "64x64": 7.75, "128x128": 17.22},
        (32, 256, 1024): {"cuBLAS": 5.05, "32x32": 9.04, "64x64": 17.12, "128x128": 48.2},
        (1024, 1024, 1024): {"cuBLAS": 15.99, "32x32": 54.46, "64x64": 30.2, "128x128": 51.66},
    },
}


@pytest.mark.parametrize(("precision", "sizes"), [(p, sizes) for p, table in MEASURED.items() for sizes in table])
def test_as_measured(precision: str, sizes: tuple[int, int, int]) -> None:
    """What is chosen takes at most a tenth longer than what was fastest."""
    choice = choose(FLOAT32, precision, *sizes, 1, 132)
    table = MEASURED[precision][sizes]
    exact = {tile: time for tile, time in MEASURED["float32"][sizes].items() if tile != "cuBLAS"}
    own = exact if choice.exact else table
    tile = f"{choice.tile.rows}x{choice.tile.columns}"
    by_library = library_cycles(FLOAT32, precision, *sizes, 1, 132) < 0.95 * choice.cycles
    if choice.splits > 1 and not by_library:
        pytest.fail(f"split among {choice.splits} blocks")
    taken = table["cuBLAS"] if by_library else own[tile]
    assert taken <= 1.1 * min(*table.values(), *exact.values())


def test_large_products_are_for_the_library() -> None:
    for precision in ("float32", "tf32"):
        own = choose(FLOAT32, precision, 4096, 4096, 4096, 1, 132).cycles
        assert library_cycles(FLOAT32, precision, 4096, 4096, 4096, 1, 132) < 0.95 * own
    for dtype in ("float64", "complex64", "complex128"):
        assert library_cycles(ELEMENTS[dtype], "float32", 2048, 2048, 2048, 1, 132) == 0
        assert library_cycles(ELEMENTS[dtype], "float32", 64, 64, 64, 1, 132) == float("inf")


def test_few_results_of_many_terms() -> None:
    """A cluster where devices have it, else two kernels if the sums are long enough."""
    choice = choose(FLOAT32, "float32", 32, 256, 1024, 1, 132, True)
    assert choice.cluster == choice.splits == 4
    assert choice.scratch == 0
    assert choose(FLOAT32, "float32", 32, 256, 1024, 1, 132).splits == 1
    choice = choose(FLOAT32, "float32", 16, 16, 1 << 20, 1, 132)
    assert choice.splits >= 132
    assert choice.scratch == choice.splits * 16 * 16 * 4
    assert choice.cluster == 1
    assert choose(FLOAT32, "float32", 4096, 4096, 3 << 30, 1, 4).splits >= 3  # terms fit in 32 bits


def test_more_exact_where_that_is_faster() -> None:
    choice: Choice = choose(FLOAT32, "tf32", 128, 10, 512, 1, 132)
    assert choice.exact
    assert choice.tile in tiles(FLOAT32, "float32")
    assert not choose(FLOAT32, "tf32", 1024, 1024, 1024, 1, 132).exact


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_tiles_fit(dtype: str) -> None:
    element = ELEMENTS[dtype]
    for tile in tiles(element, "float32"):
        assert tile.depth % (tile.slices * element.lanes) == 0
        assert tile.group * tile.slices in (64, 128, 256)
        assert tile.slices == 1 or tile.slices * tile.rows * tile.columns * element.size <= SHARED_LIMIT


@pytest.mark.parametrize("precision", PRECISIONS)
def test_clusters_fit(precision: str) -> None:
    found = [tile for tile in tiles(FLOAT32, precision) if has_room(FLOAT32, precision, tile)]
    assert found
    for tile in found:
        variant = Variant(FLOAT32, tile, True, True, 4, 4, precision, cluster=8)
        assert memory_of(variant)[0] * 4 <= SHARED_LIMIT
