"""What the kernel emitter promises beyond right results: statuses, safe memory, hoisting, order, compile
size.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import jit
from symtensor_codegen.llvm.emit_kernel import emit_kernel, module
from symtensor_codegen.llvm.run_kernel import NativeKernel, run_kernel
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
from symtensor_codegen.scalar import (
    Buffer,
    Register,
    Scalar,
    as_int,
    checked_index,
    const,
    guarded,
    load,
    read,
)

F64 = dtypes.float64
N, M = parameter(0), parameter(1)


def make(
    buffers: tuple[Buffer, ...],
    body: tuple[Statement, ...],
    failures: tuple[object, ...] = (),
    parameters: int = 1,
) -> Kernel:
    """A kernel that writes its last buffer."""
    sizes = tuple(parameter(k) for k in range(parameters))
    return Kernel("test", buffers, sizes, body, failures, written=frozenset(buffers[-1:]))


def loop(index: Scalar, *body: Statement, width: int = 1, unroll: int = 1, parallel: bool = True) -> For:
    kind = LoopKind.PARALLEL if parallel else LoopKind.SERIAL
    return For(index, index.param.extent, body, kind, width, unroll)


def ir(kernel: Kernel, bits: int = 512) -> str:
    return emit_kernel(kernel, jit.host()._replace(vector_bits=bits), "kernel")


WIDTHS = [(1, 1, 512), (8, 1, 512), (8, 2, 512), (8, 2, 256), (4, 4, 128)]
widths = pytest.mark.parametrize(("width", "unroll", "bits"), WIDTHS)


# Ranges -------------------------------------------------------------------------------------------------


@widths
def test_a_launch_touches_only_its_range(width: int, unroll: int, bits: int) -> None:
    x, out, i = Buffer("x", F64, (N,)), Buffer("out", F64, (N,)), scalar.index("i", N)
    kernel = make((x, out), (loop(i, Store(out, (i,), load(x, (i,)) * 2), width=width, unroll=unroll),))
    native = NativeKernel(kernel, jit.host()._replace(vector_bits=bits))
    array = np.arange(100.0)
    for lo, hi in [(0, 0), (0, 100), (3, 4), (7, 39), (8, 40), (1, 98), (50, 50), (60, 20)]:
        result = np.full(100, -1.0)
        assert native.launch(native.arguments([array, result], [100]), lo, hi) == 0
        expected = np.full(100, -1.0)
        expected[lo:hi] = 2 * array[lo:hi]
        np.testing.assert_array_equal(result, expected)


@pytest.fixture(scope="module")
def fenced() -> Iterator[np.ndarray[Any, Any]]:
    """Memory between two pages that must not be touched."""
    if sys.platform != "linux":
        pytest.skip("mprotect is called through Linux's C library")
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    everything = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    start = everything.ctypes.data
    for fence in (start, start + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
    yield everything[page : 2 * page]
    for fence in (start, start + 2 * page):
        libc.mprotect(ctypes.c_void_p(fence), page, 3)


def shifted(kind: str, x: Buffer, i: Scalar) -> Scalar:
    """A load whose last or first element lies at the edge of ``x``."""
    if kind == "guarded":
        return guarded(scalar.ge(i, const(1, dtypes.int64)), load(x, (i - 1,)), 5.0)
    return load(x, ({"plain": i, "reversed": N - 1 - i, "strided": i * 2}[kind],))


@widths
@pytest.mark.parametrize("kind", ["plain", "reversed", "strided", "guarded"])
def test_no_access_outside_the_arrays(
    fenced: np.ndarray[Any, Any], kind: str, width: int, unroll: int, bits: int
) -> None:
    for count in (1, 7, 8, 9, 31, 33):
        used = 2 * count if kind == "strided" else count - 1 if kind == "guarded" else count
        i = scalar.index("i", N)
        x, out = Buffer("x", F64, (used,)), Buffer("out", F64, (N,))
        value = shifted(kind, x, i)
        kernel = make((x, out), (loop(i, Store(out, (i,), value), width=width, unroll=unroll),))
        for edge in ("low", "high"):
            size = 8 * used
            array = (fenced[:size] if edge == "low" else fenced[fenced.size - size :]).view(np.float64)
            array[:] = np.arange(used)
            result = np.zeros(count)
            assert (
                run_kernel(kernel, [array, result], [count], 0, count, jit.host()._replace(vector_bits=bits))
                == 0
            )
            expected = {
                "plain": array,
                "reversed": array[::-1],
                "strided": array[::2],
                "guarded": np.concatenate([[5.0], array]),
            }[kind]
            np.testing.assert_array_equal(result, expected)


def test_loads_of_a_loop_that_does_not_run_are_not_made(fenced: np.ndarray[Any, Any]) -> None:
    """``x[i]`` does not depend on j and is hoisted out of the inner loop, but not past the test for its
    being empty.
    """
    i, j = scalar.index("i", N), scalar.index("j", M)
    x, out = Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    total = Register("total", F64)
    read(total, frozenset((i,)))
    inner = loop(j, Update(total, "add", load(x, (i,))), parallel=False)
    body = loop(i, Declare(total, const(1, F64)), inner, Store(out, (i,), read(total)))
    kernel = make((x, out), (body,), parameters=2)
    nothing = fenced[fenced.size :].view(np.float64)
    native = NativeKernel(kernel)
    result = np.zeros(3)
    arguments = np.array([nothing.ctypes.data, result.ctypes.data, 3, 0], np.int64)
    assert native.launch(arguments, 0, 3) == 0
    np.testing.assert_array_equal(result, 1.0)


# Failures -----------------------------------------------------------------------------------------------


@widths
def test_checked_indices_report_the_first_message(width: int, unroll: int, bits: int) -> None:
    i = scalar.index("i", N)
    first, second = Buffer("first", dtypes.int64, (N,)), Buffer("second", dtypes.int64, (N,))
    x, out = Buffer("x", F64, (4,)), Buffer("out", F64, (N,))
    value = load(x, (checked_index(load(first, (i,)), 4, "a"),)) + load(
        x, (checked_index(load(second, (i,)), 4, "b"),)
    )
    kernel = make(
        (x, first, second, out), (loop(i, Store(out, (i,), value), width=width, unroll=unroll),), ("a", "b")
    )
    native = NativeKernel(kernel, jit.host()._replace(vector_bits=bits))
    table, good = np.array([10.0, 20.0, 30.0, 40.0]), np.array([0, -1, 3, -4, 2] * 9)

    def status(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], hi: int = 45) -> int:
        result = np.zeros(45)
        code = native.launch(native.arguments([table, a, b, result], [45]), 0, hi)
        if code == 0:
            np.testing.assert_array_equal(result[:hi], table[a[:hi]] + table[b[:hi]])
        return code

    assert status(good, good) == 0
    for place in (0, 8, 17, 44):
        for wrong in (4, -5, 1 << 40, -(1 << 63)):
            bad = good.copy()
            bad[place] = wrong
            assert status(bad, good) == 1
            assert status(good, bad) == 2
            assert status(bad, bad) == 1
            assert status(bad, bad, hi=place) == 0  # not in this launch's range


def test_a_check_guarded_off_does_not_fail() -> None:
    i = scalar.index("i", N)
    x, out = Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    inside = scalar.lt(i, const(4, dtypes.int64))
    value = guarded(inside, load(x, (checked_index(i, 4, "beyond"),)), -1.0)
    for width in (1, 8):
        kernel = make((x, out), (loop(i, Store(out, (i,), value), width=width),), ("beyond",))
        result = np.zeros(9)
        assert run_kernel(kernel, [np.arange(9.0), result], [9], 0, 9) == 0
        np.testing.assert_array_equal(result, [0, 1, 2, 3, -1, -1, -1, -1, -1])


def test_check_statements_fail() -> None:
    i = scalar.index("i", N)
    x, out = Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    positive = Check(scalar.ge(load(x, (i,)), const(0, F64)), "negative")
    for width in (1, 8):
        kernel = make(
            (x, out), (loop(i, positive, Store(out, (i,), load(x, (i,))), width=width),), ("negative",)
        )
        assert run_kernel(kernel, [np.arange(9.0), np.zeros(9)], [9], 0, 9) == 0
        assert run_kernel(kernel, [np.arange(9.0) - 8, np.zeros(9)], [9], 0, 9) == 1
        assert run_kernel(kernel, [8 - np.arange(9.0), np.zeros(9)], [9], 0, 9) == 0


# Reductions ---------------------------------------------------------------------------------------------


@widths
@pytest.mark.parametrize("combine", ["argmax", "argmin"])
def test_argmax_ties_and_nans(combine: str, width: int, unroll: int, bits: int) -> None:
    i, x = scalar.index("i", N), Buffer("x", F64, (N,))
    out = Buffer("out", dtypes.int64, (1,))
    best, place = Register("best", F64), Register("place", dtypes.int64)
    start = -np.inf if combine == "argmax" else np.inf
    update = ArgUpdate(best, place, combine, load(x, (i,)), i)
    body = (
        Declare(best, const(start, F64)),
        Declare(place, as_int(0)),
        loop(i, update, width=width, unroll=unroll, parallel=False),
        Store(out, (as_int(0),), read(place)),
    )
    native = NativeKernel(make((x, out), body), jit.host()._replace(vector_bits=bits))
    random = np.random.default_rng(3)
    reference = np.argmax if combine == "argmax" else np.argmin
    for count in (1, 5, 8, 33, 100):
        for levels in (1, 2, 50):
            array = random.integers(0, levels, count).astype(float)
            for nans in (0, 1, 3):
                array[random.integers(0, count, nans)] = np.nan
                result = np.zeros(1, np.int64)
                native.launch(native.arguments([array, result], [count]), 0, 0)
                assert result[0] == reference(array)
            array[:] = start
            native.launch(native.arguments([array, result], [count]), 0, 0)
            assert result[0] == 0


@widths
@pytest.mark.parametrize("combine", ["maximum", "minimum"])
def test_extremes_propagate_nan(combine: str, width: int, unroll: int, bits: int) -> None:
    i, x, out = scalar.index("i", N), Buffer("x", dtypes.float32, (N,)), Buffer("out", dtypes.float32, (1,))
    best = Register("best", dtypes.float32)
    start = scalar.COMBINES[combine].neutral(dtypes.float32)
    body = (
        Declare(best, const(start, dtypes.float32)),
        loop(i, Update(best, combine, load(x, (i,))), width=width, unroll=unroll, parallel=False),
        Store(out, (as_int(0),), read(best)),
    )
    native = NativeKernel(make((x, out), body), jit.host()._replace(vector_bits=bits))
    for place in range(70):
        array, result = np.arange(70, dtype=np.float32), np.zeros(1, np.float32)
        array[place] = np.nan
        native.launch(native.arguments([array, result], [70]), 0, 0)
        assert np.isnan(result[0])


def test_the_range_of_a_launch_does_not_change_a_row() -> None:
    """Rows are summed the same way whichever thread gets them."""
    i, j = scalar.index("i", N), scalar.index("j", M)
    x, out, total = Buffer("x", F64, (N * M,)), Buffer("out", F64, (N,)), Register("total", F64)
    read(total, frozenset((i,)))
    inner = loop(j, Update(total, "add", load(x, (i * M + j,))), width=8, unroll=4, parallel=False)
    kernel = make(
        (x, out), (loop(i, Declare(total, const(0, F64)), inner, Store(out, (i,), read(total))),), (), 2
    )
    native = NativeKernel(kernel)
    array = np.random.default_rng(0).normal(size=(20, 137))
    whole, parts = np.zeros(20), np.zeros(20)
    native.launch(native.arguments([array, whole], [20, 137]), 0, 20)
    for lo in range(0, 20, 3):
        native.launch(native.arguments([array, parts], [20, 137]), lo, min(20, lo + 3))
    assert whole.tobytes() == parts.tobytes()
    np.testing.assert_allclose(whole, array.sum(1), 1e-12)


# Stores -------------------------------------------------------------------------------------------------


@widths
def test_conditional_and_combining_stores(width: int, unroll: int, bits: int) -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N * 2,))
    value = load(x, (i,))
    body = loop(
        i, Store(out, (i * 2,), value, "add", scalar.gt(value, const(3, F64))), width=width, unroll=unroll
    )
    array, result = np.arange(21.0), np.ones(42)
    run_kernel(make((x, out), (body,)), [array, result], [21], 0, 21, jit.host()._replace(vector_bits=bits))
    expected = np.ones(42)
    expected[::2] += np.where(array > 3, array, 0)
    np.testing.assert_array_equal(result, expected)


def test_in_place_update_reads_before_it_writes() -> None:
    i = scalar.index("i", N)
    g, w = Buffer("g", F64, (N,)), Buffer("w", F64, (N,))
    body = loop(i, Store(w, (i,), load(w, (i,)) - load(g, (i,)) * 0.5), width=8, unroll=2)
    step, weight = np.arange(37.0), np.ones(37)
    run_kernel(make((g, w), (body,)), [step, weight], [37], 0, 37)
    np.testing.assert_array_equal(weight, 1 - 0.5 * np.arange(37.0))


def test_a_stored_value_is_read_again() -> None:
    """A load after a store to the same buffer sees the new value, also where the load was made before."""
    i, out = scalar.index("i", N), Buffer("out", F64, (N,))
    there = load(out, (i,))
    for width in (1, 8):
        body = loop(i, Store(out, (i,), there + 1), Store(out, (i,), there * 10), width=width)
        result = np.arange(11.0)
        run_kernel(make((out,), (body,)), [result], [11], 0, 11)
        np.testing.assert_array_equal(result, 10 * (np.arange(11.0) + 1))


# The text -----------------------------------------------------------------------------------------------


def body_of(text: str, label: str) -> str:
    """The lines of one basic block."""
    found = re.search(rf"^{label}:\n(.*?)^(?:\w+:|\}})", text, re.MULTILINE | re.DOTALL)
    assert found is not None, text
    return found[1]


def test_invariants_are_outside_the_loop() -> None:
    i, j = scalar.index("i", N), scalar.index("j", M)
    x, y, out = Buffer("x", F64, (N,)), Buffer("y", F64, (M,)), Buffer("out", F64, (N * M,))
    value = scalar.sqrt(load(x, (i,))) * load(y, (j,)) + scalar.cast(N, F64)
    inner = loop(j, Store(out, (i * M + j,), value), width=8, parallel=False)
    text = ir(make((x, y, out), (loop(i, inner),), parameters=2))
    loops = sorted(re.findall(r"^(loop\d+):", text, re.MULTILINE), key=lambda name: int(name[4:]))
    innermost = body_of(text, loops[1])
    assert "@llvm.sqrt" in text
    assert "sqrt" not in innermost
    assert "sitofp" not in innermost
    assert "mul i64" not in innermost
    assert innermost.count("load") == 1
    assert innermost.count("store") == 1
    assert "x i64>" not in innermost  # no vector of indices where accesses are contiguous


def test_each_value_is_written_once() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    value = load(x, (i,))
    for _ in range(20):
        value = value * value
    text = ir(make((x, out), (loop(i, Store(out, (i,), value)),)))
    assert text.count("fmul") == 20
    assert text.count("load double") == 1


def test_functions_are_inline_when_few_and_called_when_many() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))

    def chain(length: int) -> Kernel:
        value = load(x, (i,))
        for _ in range(length):
            value = scalar.exp(value) * 0.25
        return make((x, out), (loop(i, Store(out, (i,), value), width=8),))

    assert "call <8 x double> @math" not in ir(chain(2))
    many = ir(chain(40))
    assert len(re.findall(r"^define internal", many, re.MULTILINE)) == 1
    assert "call <8 x double> @math.exp.v8f64" in many
    assert many.count("\n") < 400
    array, few = np.linspace(-1, 1, 19), np.zeros(19)
    run_kernel(chain(40), [array, few], [19], 0, 19)
    expected = array
    for _ in range(40):
        expected = np.exp(expected) * 0.25
    np.testing.assert_allclose(few, expected, 1e-13)


def test_kernels_of_a_module_share_functions() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    value = load(x, (i,))
    for _ in range(20):
        value = scalar.exp(value) * 0.5
    kernel = make((x, out), (loop(i, Store(out, (i,), value), width=8),))
    text = module([(kernel, "one"), (kernel, "two")], jit.host())
    jit.verify(text)
    shared = re.findall(r"^define internal .*?@([\w.]+)\(", text, re.MULTILINE)  # processors may want a scalar one, too
    assert "math.exp.v8f64" in shared
    assert len(shared) == len(set(shared))
    assert text.count("define i64") == 2


def test_a_deep_expression_is_emitted() -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    value = load(x, (i,))
    for k in range(5000):
        value = value + const(k, F64)
    text = ir(make((x, out), (loop(i, Store(out, (i,), value)),)))
    assert text.count("fadd") == 5000


@widths
def test_rare_values_are_computed_in_a_branch(width: int, unroll: int, bits: int) -> None:
    i, x, out = scalar.index("i", N), Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    there = load(x, (i,))
    rare = scalar.rarely(scalar.gt(there, const(50, F64)), scalar.sqrt(there) + 1, there)
    again = scalar.rarely(scalar.lt(there, const(2, F64)), rare * 2, rare)
    kernel = make((x, out), (loop(i, Store(out, (i,), again), width=width, unroll=unroll),))
    text = ir(kernel, bits)
    blocks = re.split(r"^(?=\w+:)", text, flags=re.MULTILINE)
    assert all(block.startswith("rare") for block in blocks if "sqrt" in block)
    array, result = np.arange(1.0, 78.0), np.zeros(77)
    run_kernel(kernel, [array, result], [77], 0, 77, jit.host()._replace(vector_bits=bits))
    expected = np.where(array > 50, np.sqrt(array) + 1, array)
    np.testing.assert_array_equal(result, np.where(array < 2, expected * 2, expected))


def test_a_rare_value_is_hoisted_with_its_branch() -> None:
    i, j = scalar.index("i", N), scalar.index("j", M)
    x, out = Buffer("x", F64, (N,)), Buffer("out", F64, (N * M,))
    there = load(x, (i,))
    rare = scalar.rarely(scalar.gt(there, const(5, F64)), scalar.sqrt(there), there)
    inner = loop(j, Store(out, (i * M + j,), rare * scalar.cast(j, F64)), width=8, parallel=False)
    kernel = make((x, out), (loop(i, inner),), parameters=2)
    text = ir(kernel)
    labels = re.findall(r"^([a-z]+)\d+:", text, re.MULTILINE)
    assert labels[:6] == ["some", "loop", "some", "rare", "usual", "loop"]
    array, result = np.arange(10.0), np.zeros((10, 21))
    run_kernel(kernel, [array, result], [10, 21], 0, 10)
    expected = np.where(array > 5, np.sqrt(array), array)
    np.testing.assert_array_equal(result, expected[:, None] * np.arange(21.0))


# Misuse -------------------------------------------------------------------------------------------------


def test_malformed_kernels_are_internal_errors() -> None:
    i, j = scalar.index("i", N), scalar.index("j", N)
    x, out = Buffer("x", F64, (N,)), Buffer("out", F64, (N,))
    total = Register("total", F64)
    cases = {
        "used outside its loop": loop(i, Store(out, (j,), load(x, (i,)))),
        "vector loop inside a vector loop": loop(
            i, loop(j, Store(out, (j,), load(x, (i,))), width=8, parallel=False), width=8
        ),
        "write different values to one element": loop(i, Store(out, (as_int(0),), load(x, (i,))), width=8),
        "before it is declared": loop(i, Update(total, "add", load(x, (i,)))),
        "not among the kernel.s failures": loop(i, Check(scalar.gt(load(x, (i,)), const(0, F64)), "unknown")),
        "powers of two": loop(i, Store(out, (i,), load(x, (i,))), width=3),
        "only the outermost loop": loop(i, loop(j, Store(out, (j,), load(x, (i,))))),
    }
    for message, body in cases.items():
        with pytest.raises(InternalError, match=message):
            ir(make((x, out), (body,)))
