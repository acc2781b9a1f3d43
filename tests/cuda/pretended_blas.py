"""cuBLAS and cuBLASLt as far as they are used, in NumPy, by the interface of NVIDIA's bindings.

Matrices are stored by columns, as there. What the real libraries refuse, or would compute something else for, fails.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
SCRATCH = 32 << 20
COMPUTE = SimpleNamespace(
    COMPUTE_32F=68, COMPUTE_32F_FAST_16F=74, COMPUTE_32F_FAST_16BF=75, COMPUTE_32F_FAST_TF32=77, COMPUTE_64F=70
)
TYPES: dict[str, dict[int, Any]] = {  # of attributes, as in cublasLt.h
    "matmul_desc": {3: np.int32, 4: np.int32, 7: np.uint32, 8: np.int64},
    "matmul_preference": {1: np.uint64, 3: np.uint32, 5: np.uint32, 6: np.uint32, 7: np.uint32, 8: np.uint32},
}


def array(address: int, size: int, kind: Any) -> Array:
    dtype = np.dtype(kind)
    return np.frombuffer((ctypes.c_char * (size * dtype.itemsize)).from_address(address), dtype)


def matrix(address: int, leading: int, turned: int, rows: int, columns: int, kind: Any = np.float32) -> Array:
    """``rows x columns`` of what is stored by columns, or by rows if it is ``turned``."""
    if turned:
        return matrix(address, leading, 0, columns, rows, kind).T
    flat = array(address, leading * (columns - 1) + rows if columns else 0, kind)
    size = flat.dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, leading * size))


class Blas:
    """cuBLAS. ``queue`` gets the work; by default it is done at once."""

    Operation = SimpleNamespace(N=0, T=1)
    GemmAlgo = SimpleNamespace(DFALT=-1)
    ComputeType = COMPUTE
    types = ("float32", "float64", None, None, "complex64", "complex128")

    def __init__(self) -> None:
        self.modes: list[int] = []
        self.calls: list[str] = []
        self.queue: Callable[[Callable[[], None]], None] = lambda work: work()

    def create(self) -> int:
        return 77

    def set_stream(self, handle: int, stream: int) -> None:
        self.calls.append("stream")

    def set_workspace(self, handle: int, address: int, size: int) -> None:
        assert address > 0
        assert size == SCRATCH
        self.calls.append("workspace")

    def gemm_strided_batched_ex_64(
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, at: int, lda: int, sa: int,
        b: int, bt: int, ldb: int, sb: int, beta: int, c: int, ct: int, ldc: int, sc: int, batch: int, mode: int,
        algorithm: int,
    ) -> None:  # fmt: skip
        assert handle == 77
        assert algorithm == -1
        assert lda >= max(1, k if ta else m)
        assert ldb >= max(1, n if tb else k)
        assert ldc >= max(1, m)
        self.modes.append(mode)
        self.calls.append("gemm")
        kind = np.dtype(self.types[at])
        factors = array(alpha, 1, kind)[0], array(beta, 1, kind)[0]

        def work() -> None:
            for number in range(batch):
                left = matrix(a + number * sa * kind.itemsize, lda, ta, m, k, kind)
                right = matrix(b + number * sb * kind.itemsize, ldb, tb, k, n, kind)
                out = matrix(c + number * sc * kind.itemsize, ldc, 0, m, n, kind)
                with np.errstate(all="ignore"):
                    out[...] = factors[0] * (left @ right) + (factors[1] * out if factors[1] else 0)

        self.queue(work)


class BlasLtError(Exception):
    """As the bindings raise it, with advice."""

    def __init__(self, status: str) -> None:
        super().__init__(f"an error ({status}). You can set CUBLASLT_LOG_LEVEL=5 to learn more.")


class Thing(dict[str, int]):
    """A description: what kind it is of, and its attributes by name."""

    def __init__(self, kind: str, **attributes: int) -> None:
        super().__init__(attributes)
        self.kind = kind


class BlasLt:
    """cuBLASLt. ``relu`` is what its relu does; ``algorithms`` whether it knows any; ``status`` raises that error."""

    Epilogue = SimpleNamespace(DEFAULT=1, RELU=2, BIAS=4, RELU_BIAS=6, GELU=32)
    ReductionScheme = SimpleNamespace(NONE=0, INPLACE=1, COMPUTE_TYPE=2, OUTPUT_TYPE=4, MASK=7)
    MatmulDescAttribute = SimpleNamespace(TRANSA=3, TRANSB=4, EPILOGUE=7, BIAS_POINTER=8)
    MatmulPreferenceAttribute = SimpleNamespace(
        MAX_WORKSPACE_BYTES=1, REDUCTION_SCHEME_MASK=3, MIN_ALIGNMENT_A_BYTES=5, MIN_ALIGNMENT_B_BYTES=6,
        MIN_ALIGNMENT_C_BYTES=7, MIN_ALIGNMENT_D_BYTES=8,
    )  # fmt: skip
    cuBLASLtError = BlasLtError

    def __init__(self, blas: Blas) -> None:
        self.blas = blas
        self.relu: Callable[[Array], Array] = lambda x: np.maximum(x, np.float32(0))
        self.algorithms, self.status = True, ""
        self.asked: list[tuple[int, int]] = []  # kind of arithmetic and ending of each choice of an algorithm
        self.ended: list[tuple[int, int]] = []  # ending and stream of each product
        self.living: dict[int, Thing] = {}
        self._made = 1000

    def create(self) -> int:
        return 78

    def _make(self, thing: Thing) -> int:
        self._made += 1
        self.living[self._made] = thing
        return self._made

    def matmul_desc_create(self, mode: int, scale: int) -> int:
        assert mode in vars(COMPUTE).values()
        assert scale == 0  # float32
        return self._make(Thing("matmul_desc", mode=mode))

    def matmul_preference_create(self) -> int:
        return self._make(Thing("matmul_preference"))

    def matrix_layout_create(self, kind: int, rows: int, columns: int, leading: int) -> int:
        assert kind == 0
        assert leading >= rows > 0
        assert columns > 0
        return self._make(Thing("matrix_layout", rows=rows, columns=columns, leading=leading))

    def _destroy(self, kind: str, thing: int) -> None:
        assert self.living.pop(thing).kind == kind

    def matmul_desc_destroy(self, thing: int) -> None:
        self._destroy("matmul_desc", thing)

    def matmul_preference_destroy(self, thing: int) -> None:
        self._destroy("matmul_preference", thing)

    def matrix_layout_destroy(self, thing: int) -> None:
        self._destroy("matrix_layout", thing)

    def get_matmul_desc_attribute_dtype(self, attribute: int) -> Any:
        return TYPES["matmul_desc"][attribute]

    def get_matmul_preference_attribute_dtype(self, attribute: int) -> Any:
        return TYPES["matmul_preference"][attribute]

    def _set(self, kind: str, thing: int, attributes: Any, attribute: int, address: int, size: int) -> None:
        dtype = np.dtype(TYPES[kind][attribute])
        assert size == dtype.itemsize  # else CUBLAS_STATUS_INVALID_VALUE
        name = next(name for name, number in vars(attributes).items() if number == attribute)
        described = self.living[thing]
        assert described.kind == kind
        described[name] = int(array(address, 1, dtype)[0])

    def matmul_desc_set_attribute(self, thing: int, attribute: int, address: int, size: int) -> None:
        self._set("matmul_desc", thing, self.MatmulDescAttribute, attribute, address, size)

    def matmul_preference_set_attribute(self, thing: int, attribute: int, address: int, size: int) -> None:
        self._set("matmul_preference", thing, self.MatmulPreferenceAttribute, attribute, address, size)

    def _sizes(self, operation: int, a: int, b: int, c: int, d: int) -> tuple[int, int, int]:
        """Rows, columns and terms, if what is described agrees."""
        about, first, second, third, out = (self.living[thing] for thing in (operation, a, b, c, d))
        assert about.kind == "matmul_desc"
        assert {thing.kind for thing in (first, second, third, out)} == {"matrix_layout"}
        assert third == out  # in place
        left, right = (
            (of["columns"], of["rows"]) if about[flag] else (of["rows"], of["columns"])
            for of, flag in ((first, "TRANSA"), (second, "TRANSB"))
        )
        assert left[1] == right[0]
        assert (out["rows"], out["columns"]) == (left[0], right[1])
        return left[0], right[1], left[1]

    def matmul_algo_get_heuristic(
        self, handle: int, operation: int, a: int, b: int, c: int, d: int, preference: int, most: int, results: int,
        count: int,
    ) -> None:  # fmt: skip
        assert handle == 78
        if self.status:
            raise BlasLtError(self.status)
        self._sizes(operation, a, b, c, d)
        about, wishes = self.living[operation], self.living[preference]
        assert wishes == {
            "MAX_WORKSPACE_BYTES": SCRATCH, "REDUCTION_SCHEME_MASK": 2, "MIN_ALIGNMENT_A_BYTES": 16,
            "MIN_ALIGNMENT_B_BYTES": 16, "MIN_ALIGNMENT_C_BYTES": 16, "MIN_ALIGNMENT_D_BYTES": 16,
        }  # fmt: skip
        if about["EPILOGUE"] & self.Epilogue.BIAS:
            assert about["BIAS_POINTER"] == 16  # no more is known of it
        else:
            assert "BIAS_POINTER" not in about
        self.asked.append((about["mode"], about["EPILOGUE"]))
        assert most == 1
        array(count, 1, np.int32)[0] = self.algorithms
        array(results, 12, np.uint64)[:] = [*range(operation, operation + 8), SCRATCH, 0, 0, 0]  # 96 bytes each

    def matmul(
        self, handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int, beta: int, c: int,
        c_layout: int, d: int, d_layout: int, algorithm: int, workspace: int, workspace_size: int, stream: int,
    ) -> None:  # fmt: skip
        assert handle == 78
        m, n, k = self._sizes(operation, a_layout, b_layout, c_layout, d_layout)
        about, first, second, out = (dict(self.living[t]) for t in (operation, a_layout, b_layout, d_layout))
        assert array(algorithm, 8, np.uint64).tolist() == [*range(operation, operation + 8)]  # found for this product
        factor, ending = array(alpha, 1, np.float32)[0], about["EPILOGUE"]
        assert array(beta, 1, np.float32)[0] == 0
        assert c == d
        assert workspace > 0
        assert workspace % 256 == 0
        assert workspace_size == SCRATCH
        assert not (a | b | d) % 16
        bias = about.get("BIAS_POINTER", 0)
        assert (bias > 16 and not bias % 16) if ending & self.Epilogue.BIAS else not bias
        self.ended.append((ending, stream))

        def work() -> None:
            left = matrix(a, first["leading"], about["TRANSA"], m, k)
            right = matrix(b, second["leading"], about["TRANSB"], k, n)
            with np.errstate(all="ignore"):
                made = factor * (left @ right)
                if bias:
                    made += array(bias, m, np.float32)[:, None]
                if ending & self.Epilogue.RELU:
                    made = self.relu(made)
            matrix(d, out["leading"], 0, m, n)[...] = made

        self.blas.queue(work)


def install(monkeypatch: pytest.MonkeyPatch) -> tuple[Blas, BlasLt]:
    """Let the backend find the libraries."""
    bindings: Any = ModuleType("nvmath.bindings")
    bindings.cublas = blas = Blas()
    bindings.cublasLt = lt = BlasLt(blas)
    monkeypatch.setitem(sys.modules, "nvmath", ModuleType("nvmath"))
    monkeypatch.setitem(sys.modules, "nvmath.bindings", bindings)
    return blas, lt
