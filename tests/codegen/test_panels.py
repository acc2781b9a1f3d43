"""Products with a matrix laid out in panels: every shape of the edges, both ways of storing the right operand."""

import ctypes

import numpy as np
import pytest

from symtensor_codegen import dtypes
from symtensor_codegen.llvm import panels
from symtensor_codegen.llvm.target import host

P, L = ctypes.c_void_p, ctypes.c_int64
PACK = ctypes.CFUNCTYPE(None, P, P, L, L, L, L)
RUN = ctypes.CFUNCTYPE(L, L, L, P)

pytestmark = pytest.mark.skipif(panels.tile(host(), dtypes.float32) is None, reason="products are left to BLAS here")


def product(a, b, turned, accumulate):
    """``a @ b`` with the right operand stored by columns where ``turned``; added to threes where ``accumulate``."""
    letter, block = panels.LETTERS[a.dtype.name], panels.tile(host(), dtypes.of(a.dtype))
    (m, k), n = a.shape, b.shape[1]
    count = -(-n // block.columns)
    columns, rows = np.empty(count * block.columns * k, a.dtype), np.empty(m * k, a.dtype)
    stored = np.ascontiguousarray(b.T) if turned else b
    out = np.full((m, n + 3), 3, a.dtype)  # what lies behind a row is not written
    down, right = (1, k) if turned else (n, 1)
    pack_columns = PACK(panels.address(f"st_pack_columns_{letter}"))
    pack_columns(columns.ctypes.data, stored.ctypes.data, down, right, k, n)
    PACK(panels.address(f"st_pack_rows_{letter}"))(rows.ctypes.data, a.ctypes.data, k, 1, m, k)
    words = [out.ctypes.data, n + 3, rows.ctypes.data, columns.ctypes.data, m, n, k, int(accumulate)]
    args = np.array(words, np.int64)
    assert RUN(panels.address(f"st_panels_{letter}"))(0, count, args.ctypes.data) == 0
    assert (out[:, n:] == 3).all()
    return out[:, :n]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (15, 33, 7), (12, 32, 0), (29, 70, 5), (3, 100, 64), (33, 17, 40)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
def test_products(dtype, sizes, turned, accumulate) -> None:
    m, n, k = sizes
    rng = np.random.default_rng(m)
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64) + (3 if accumulate else 0)
    np.testing.assert_allclose(product(a, b, turned, accumulate), expected, atol=1e-4 if dtype == "float32" else 1e-12)
