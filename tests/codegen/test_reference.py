"""The interpreter of kernels, on kernels small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.loops import (
    ArgUpdate,
    Check,
    Declare,
    For,
    Kernel,
    LoopKind,
    Statement,
    Store,
    Update,
    parameter,
)
from symtensor_codegen.reference import run_kernel
from symtensor_codegen.scalar import Buffer, Register, as_int, checked_index, const, guarded, load, read

F64, I64 = dtypes.float64, dtypes.int64
N = parameter(0)
X, OUT, AT = Buffer("x", F64, (N,)), Buffer("out", F64, (N,)), scalar.index("i", N)


def kernel(
    *body: Statement, buffers: tuple[Buffer, ...] = (X, OUT), failures: tuple[object, ...] = ()
) -> Kernel:
    return Kernel("test", buffers, (N,), body, failures, written=frozenset(buffers[-1:]))


def test_map() -> None:
    made = kernel(For(AT, N, (Store(OUT, (AT,), load(X, (AT,)) * 2 + 1),)))
    out = np.zeros(3)
    assert run_kernel(made, [np.array([1.0, 2.0, 4.0]), out], [3]) == 0
    assert out.tolist() == [3.0, 5.0, 9.0]


def test_parallel_range() -> None:
    made = kernel(For(AT, N, (Store(OUT, (AT,), load(X, (AT,))),), LoopKind.PARALLEL))
    out = np.zeros(4)
    run_kernel(made, [np.arange(4.0), out], [4], 1, 3)
    assert out.tolist() == [0.0, 1.0, 2.0, 0.0]


def test_reduction_and_argmax() -> None:
    total, best, place = Register("total", F64), Register("best", F64), Register("place", I64)
    made = kernel(
        Declare(total, const(100, F64)),
        Declare(best, const(-np.inf, F64)),
        Declare(place, as_int(0)),
        For(
            AT,
            N,
            (Update(total, "add", load(X, (AT,))), ArgUpdate(best, place, "argmax", load(X, (AT,)), AT)),
        ),
        Store(OUT, (as_int(0),), read(total)),
        Store(OUT, (as_int(1),), scalar.cast(read(place), F64)),
    )
    for values, expected in (
        ([1.0, 5.0, 5.0], [111.0, 1.0]),
        ([1.0, np.nan, np.nan], [np.nan, 1.0]),
        ([-np.inf, -np.inf, -np.inf], [-np.inf, 0.0]),
    ):
        out = np.zeros(3)
        run_kernel(made, [np.array(values), out], [3])
        np.testing.assert_array_equal(out[:2], expected)


def test_conditional_and_combining_stores() -> None:
    value = load(X, (AT,))
    made = kernel(For(AT, N, (Store(OUT, (AT,), value, "maximum", scalar.ge(value, const(2, F64))),)))
    out = np.array([9.0, 9.0, 1.0])
    run_kernel(made, [np.array([1.0, 2.0, 3.0]), out], [3])
    assert out.tolist() == [9.0, 9.0, 3.0]


def test_guards_and_checks() -> None:
    inside = scalar.lt(AT, const(2, I64))
    made = kernel(For(AT, N, (Store(OUT, (AT,), guarded(inside, load(X, (AT + 1,)), -1.0)),)))
    out = np.zeros(3)
    assert run_kernel(made, [np.arange(3.0), out], [3]) == 0
    assert out.tolist() == [1.0, 2.0, -1.0]

    indices = Buffer("indices", I64, (N,))
    at = checked_index(load(indices, (AT,)), 2, "index")
    positive = Check(scalar.ge(load(indices, (AT,)), const(-2, I64)), "sign")
    made = kernel(
        For(AT, N, (positive, Store(OUT, (AT,), load(X, (at,))))),
        buffers=(X, indices, OUT),
        failures=("sign", "index"),
    )
    table = np.array([10.0, 20.0])
    for listed, status in (([0, 1, -1], 0), ([0, 2, 0], 2), ([0, -3, 0], 1), ([5, -3, 0], 1)):
        out = np.zeros(3)
        assert run_kernel(made, [table, np.array(listed), out], [3]) == status
        if not status:
            assert out.tolist() == [10.0, 20.0, 20.0]


def test_bits_and_types() -> None:
    out = Buffer("bits", I64, (N,))
    made = kernel(For(AT, N, (Store(out, (AT,), scalar.bitcast(load(X, (AT,)), I64)),)), buffers=(X, out))
    bits = np.zeros(2, np.int64)
    run_kernel(made, [np.array([1.0, -0.0]), bits], [2])
    assert bits.tolist() == [0x3FF << 52, -(1 << 63)]


def test_accesses_outside_are_our_own_fault() -> None:
    for body in (Store(OUT, (AT + 1,), load(X, (AT,))), Store(OUT, (AT,), load(X, (AT - 1,)))):
        with pytest.raises(InternalError, match=r"(store to out\[2\]|load of x\[-1\]) of 2"):
            run_kernel(kernel(For(AT, N, (body,))), [np.zeros(2), np.zeros(2)], [2])
    with pytest.raises(InternalError, match="not C-contiguous float64"):
        run_kernel(kernel(), [np.zeros(2, np.float32), np.zeros(2)], [2])
    with pytest.raises(InternalError, match="do not match"):
        run_kernel(kernel(), [np.zeros(2)], [2])
