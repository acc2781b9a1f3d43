"""Tell NVIDIA's library of products with endings, and ask what it has understood: a script, for a process of its own.

It needs the bindings, the library and a driver, no device; the argument is a library to load where there is no driver.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
from typing import Any

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.cuda.calls.steps import Product
from symtensor_codegen.cuda.matmul import library
from symtensor_codegen.cuda.matmul.endings import Ending, Relu
from symtensor_codegen.cuda.matmul.variants import PRECISIONS


def read(lt: Any, kind: str, thing: int, attribute: int) -> int:
    word = np.zeros(1, getattr(lt, f"get_{kind}_attribute_dtype")(attribute))
    written = np.zeros(1, np.uint64)
    getattr(lt, f"{kind}_get_attribute")(thing, attribute, word.ctypes.data, word.nbytes, written.ctypes.data)
    assert written[0] == word.nbytes
    return int(word[0])


def check(cublas: Any, lt: Any, product: Product, precision: str, ending: Ending) -> None:
    described = library.Described(cublas, lt, product, precision, ending)
    about, layout, preferred = lt.MatmulDescAttribute, lt.MatrixLayoutAttribute, lt.MatmulPreferenceAttribute
    m, n, k = product.m, product.n, product.k
    sizes = []
    for thing in (described.b, described.a, described.out):
        assert read(lt, "matrix_layout", thing, layout.TYPE) == 0
        sizes.append([read(lt, "matrix_layout", thing, x) for x in (layout.ROWS, layout.COLS, layout.LD)])
    straight = product.b[1] == 1, product.a[1] == 1
    assert sizes == [
        [n, k, product.b[0]] if straight[0] else [k, n, product.b[1]],
        [k, m, product.a[0]] if straight[1] else [m, k, product.a[1]],
        [n, m, n],
    ]
    operation = described.operation
    flags = [read(lt, "matmul_desc", operation, attribute) for attribute in (about.TRANSA, about.TRANSB)]
    assert flags == [int(not plain) for plain in straight]
    wanted = {"float32": 68, "tf32": 77, "bfloat16": 75, "float16": 74}[precision]
    assert read(lt, "matmul_desc", operation, about.COMPUTE_TYPE) == wanted
    assert read(lt, "matmul_desc", operation, about.SCALE_TYPE) == 0
    assert read(lt, "matmul_desc", operation, about.POINTER_MODE) == 0
    kind = 4 * ending.bias + 2 * (ending.relu is not None)
    assert read(lt, "matmul_desc", operation, about.EPILOGUE) == kind
    assert read(lt, "matmul_desc", operation, about.BIAS_POINTER) == 16 * ending.bias
    described.set_bias(0x7F1234567890)
    assert read(lt, "matmul_desc", operation, about.BIAS_POINTER) == 0x7F1234567890
    wishes = {"MAX_WORKSPACE_BYTES": 32 << 20, "REDUCTION_SCHEME_MASK": 2} | {
        f"MIN_ALIGNMENT_{operand}_BYTES": 16 for operand in "ABCD"
    }
    for name, value in wishes.items():
        assert read(lt, "matmul_preference", described.preference, getattr(preferred, name)) == value
    del described
    gc.collect()  # gives all of it back to the library


def main() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
    from nvmath.bindings import cublas, cublasLt

    if hasattr(cublasLt, "matmul_heuristic_result_dtype"):
        theirs, ours = cublasLt.matmul_heuristic_result_dtype, library._HEURISTIC
        places = [[kind.fields[name][1] for name in kind.names] for kind in (theirs, ours)]
        assert places[0] == places[1]
        assert theirs.itemsize == ours.itemsize
    relu = Relu(keeps_nan=True, keeps_sign=None)
    endings = Ending(True, None), Ending(False, relu), Ending(True, relu)
    m, n, k = 5, 7, 11
    for a, b in itertools.product(((13, 1, 0), (1, 13, 0)), repeat=2):
        product = Product(dtypes.float32, m, n, k, 1, (n, 1, 0), a, b, 1.0, 0.0)
        for precision, ending in itertools.product(PRECISIONS, endings):
            check(cublas, cublasLt, product, precision, ending)


main()
