"""Which loops the LLVM schedule vectorises, and which it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.dtypes import DType
from symtensor_codegen.llvm import jit
from symtensor_codegen.llvm.run_kernel import run_kernel
from symtensor_codegen.llvm.schedule import vectorise
from symtensor_codegen.loops import (
    ArgUpdate,
    Declare,
    For,
    Kernel,
    LoopKind,
    Statement,
    Store,
    Update,
    parameter,
    statements,
)
from symtensor_codegen.scalar import Buffer, Dim, Register, Scalar, as_int, const, load, read

F32, F64 = dtypes.float32, dtypes.float64
N, M = parameter(0), parameter(1)
WIDE = jit.host()._replace(vector_bits=512)
NARROW = jit.host()._replace(vector_bits=256)


def kernel(out: Buffer, *body: Statement) -> Kernel:
    return Kernel("test", (out,), (N, M), body, written=frozenset((out,)))


def parallel(index: Scalar, extent: Dim, *body: Statement) -> For:
    return For(index, extent, body, LoopKind.PARALLEL)


def shape(made: Kernel, target: jit.Target = WIDE) -> list[tuple[int, int]]:
    """Width and unrolling of every loop, outermost first."""
    return [(s.width, s.unroll) for s in statements(vectorise(made, target).body) if isinstance(s, For)]


@pytest.mark.parametrize(
    ("dtype", "wide", "narrow"),
    [(F32, 16, 8), (F64, 8, 4), (dtypes.int32, 16, 8), (dtypes.uint8, 32, 32), (dtypes.float16, 16, 8)],
    ids=str,
)
def test_maps_fill_a_register(dtype: DType, wide: int, narrow: int) -> None:
    i, x, out = scalar.index("i", N), Buffer("x", dtype, (N,)), Buffer("out", dtype, (N,))
    made = kernel(out, parallel(i, N, Store(out, (i,), load(x, (i,)) + load(x, (i,)))))
    assert shape(made, WIDE)[0][0] == wide
    assert shape(made, NARROW)[0][0] == narrow


def sums(by_row: bool, dtype: DType = F64, rows: Dim = N, columns: Dim = M) -> Kernel:
    """Sums of a matrix over its columns (one for each row) or over its rows."""
    i, j = scalar.index("i", rows), scalar.index("j", columns)
    x, total = Buffer("x", dtype, (substitution.product((rows, columns)),)), Register("total", dtype)
    outer, inner = (i, j) if by_row else (j, i)
    out = Buffer("out", dtype, (outer.param.extent,))
    read(total, frozenset((outer,)))
    body = (
        Declare(total, const(0, dtype)),
        For(inner, inner.param.extent, (Update(total, "add", load(x, (i * as_int(columns) + j,))),)),
        Store(out, (outer,), read(total)),
    )
    return kernel(out, parallel(outer, outer.param.extent, *body))


def test_rows_are_summed_along_and_columns_side_by_side() -> None:
    assert shape(sums(by_row=True)) == [(1, 1), (8, 4)]
    assert shape(sums(by_row=False)) == [(8, 4), (1, 1)]
    assert shape(sums(by_row=False, dtype=F32), NARROW) == [(8, 4), (1, 1)]


def test_a_loop_over_three_channels_is_not_vectorised() -> None:
    widths = shape(sums(by_row=True, columns=3), NARROW)
    assert widths[1] == (1, 1)


def test_known_extents_bound_widths() -> None:
    i, x, out = scalar.index("i", 6), Buffer("x", F32, (6,)), Buffer("out", F32, (6,))
    made = kernel(out, parallel(i, 6, Store(out, (i,), scalar.exp(load(x, (i,))))))
    assert shape(made, WIDE) == [(8, 1)]  # one group with two idle lanes
    assert shape(made, NARROW) == [(4, 1)]  # one group, and two scalars


def test_big_bodies_are_not_unrolled() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    light = kernel(out, parallel(i, N, Store(out, (i,), load(x, (i,)) * 2)))
    heavy = kernel(out, parallel(i, N, Store(out, (i,), scalar.tanh(load(x, (i,))))))
    assert shape(light) == [(8, 2)]
    assert shape(heavy) == [(8, 1)]


def serial(*body: Statement, index: Scalar, out: Buffer, before: tuple[Statement, ...] = ()) -> Kernel:
    return kernel(out, *before, For(index, N, body))


def test_dependent_iterations_stay_serial() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N + 1,))
    indices, total = Buffer("indices", dtypes.int64, (N,)), Register("total", F64)
    running = (Update(total, "add", load(x, (i,))), Store(out, (i,), read(total)))
    cases = {
        "cumulative sum": serial(*running, index=i, out=out, before=(Declare(total, const(0, F64)),)),
        "recurrence": serial(Store(out, (i + 1,), load(out, (i,)) * 2), index=i, out=out),
        "scatter": serial(Store(out, (load(indices, (i,)),), load(x, (i,)), "add"), index=i, out=out),
        "one element": serial(Store(out, (as_int(0),), load(x, (i,)), "add"), index=i, out=out),
        "two ways": serial(
            Update(total, "add", load(x, (i,))),
            Update(total, "mul", load(x, (i,))),
            index=i,
            out=out,
            before=(Declare(total, const(0, F64)),),
        ),
    }
    for name, made in cases.items():
        assert shape(made) == [(1, 1)], name


def test_ragged_inner_loops_are_not_lanes() -> None:
    i = scalar.index("i", N)
    j = scalar.index("j", i + 1)
    x, out, total = Buffer("x", F64, (N * N,)), Buffer("out", F64, (N,)), Register("total", F64)
    read(total, frozenset((i,)))
    inner = For(j, i + 1, (Update(total, "add", load(x, (j * N + i,))),))
    made = kernel(out, parallel(i, N, Declare(total, const(0, F64)), inner, Store(out, (i,), read(total))))
    assert shape(made)[0] == (1, 1)


def test_argmax_is_vectorised() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", dtypes.int64, (1,))
    best, place = Register("best", F64), Register("place", dtypes.int64)
    made = kernel(
        out,
        Declare(best, const(-np.inf, F64)),
        Declare(place, as_int(0)),
        For(i, N, (ArgUpdate(best, place, "argmax", load(x, (i,)), i),)),
        Store(out, (as_int(0),), read(place)),
    )
    assert shape(made)[0][0] == 8


def test_a_schedule_is_kept() -> None:
    i, out = scalar.index("i", N), Buffer("out", F64, (N,))
    made = kernel(out, For(i, N, (Store(out, (i,), const(1, F64)),), LoopKind.PARALLEL, 4, 1))
    assert vectorise(made, WIDE) is made


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("shape_", [(0, 5), (5, 0), (1, 1), (3, 100), (100, 3), (37, 53), (64, 64)], ids=str)
def test_scheduled_sums_are_right(by_row: bool, shape_: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(size=shape_)
    made = sums(by_row)
    loaded = next(s for s in statements(made.body) if isinstance(s, Update)).value.param
    made = Kernel("sums", (loaded, *made.buffers), made.parameters, made.body, written=made.written)
    for target in (WIDE, NARROW):
        out = np.full(shape_[0 if by_row else 1], np.nan)
        assert run_kernel(vectorise(made, target), [array, out], shape_, 0, len(out), target) == 0
        np.testing.assert_allclose(out, array.sum(1 if by_row else 0), 1e-12, 1e-12)
