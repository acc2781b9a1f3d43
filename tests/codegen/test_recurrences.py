"""Recurrences in registers and loops that end early: the same in the interpreter and as native code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.complexes import split_complex
from symtensor_codegen.errors import InternalError
from symtensor_codegen.finish import finish
from symtensor_codegen.llvm import jit
from symtensor_codegen.llvm.emit_kernel import emit_kernel
from symtensor_codegen.llvm.run_kernel import run_kernel as run_native
from symtensor_codegen.llvm.schedule import vectorise
from symtensor_codegen.loops import (
    ArgUpdate,
    Assign,
    Check,
    Declare,
    For,
    Kernel,
    Leave,
    LoopKind,
    Statement,
    Store,
    Update,
    parameter,
    statements,
)
from symtensor_codegen.reference import run_kernel as run_reference
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
    select,
    sqrt,
)
from symtensor_codegen.text import kernel_text

F64, I64, BOOL = dtypes.float64, dtypes.int64, dtypes.bool_
N, M = parameter(0), parameter(1)
X, Y = Buffer("x", F64, (N,)), Buffer("y", F64, (N,))
OUT, LAST = Buffer("out", F64, (N,)), Buffer("last", F64, (1,))


def make(
    *body: Statement, buffers: Sequence[Buffer] = (X, OUT, LAST), failures: tuple[object, ...] = (), sizes: int = 1
) -> Kernel:
    """A kernel; it writes what its statements store to."""
    written = frozenset(s.buffer for s in statements(body) if isinstance(s, Store))
    return Kernel("test", tuple(buffers), tuple(parameter(k) for k in range(sizes)), body, failures, written=written)


def both(kernel: Kernel, *arrays: np.ndarray[Any, Any], sizes: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """The arrays after a run, checked to be the same from the interpreter and from native code of every width."""
    expected = [a.copy() for a in arrays]
    status = run_reference(kernel, expected, sizes, 0, sizes[0])
    for bits in (512, 128):
        target = jit.host()._replace(vector_bits=bits)
        found = [a.copy() for a in arrays]
        assert run_native(vectorise(kernel, target), found, sizes, 0, sizes[0], target) == status
        if status == 0:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-13)
    return expected


R, S = Register("r", F64), Register("s", F64)
AT = scalar.index("t", N)


def test_all_registers_change_at_once() -> None:
    """Fibonacci: a, b = b, a + b with the old a."""
    kernel = make(
        Declare(R, const(0, F64)),
        Declare(S, const(1, F64)),
        For(AT, N, (Store(OUT, (AT,), read(R)), Assign((R, S), (read(S), read(R) + read(S))))),
        Store(LAST, (as_int(0),), read(R)),
    )
    out = both(kernel, np.zeros(10), np.zeros(10), np.zeros(1), sizes=[10])
    assert out[1].tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]
    assert out[2].tolist() == [55]


def test_values_are_those_of_before_and_after_an_assignment() -> None:
    double = read(R) * 2
    kernel = make(
        Declare(R, const(1, F64)),
        For(
            AT,
            N,
            (Store(OUT, (AT,), double + 0.25), Assign((R,), (double,)), Store(X, (AT,), double + 0.25)),
        ),
        Store(LAST, (as_int(0),), double),
    )
    x, out, last = both(kernel, np.zeros(3), np.zeros(3), np.zeros(1), sizes=[3])
    assert out.tolist() == [2.25, 4.25, 8.25]
    assert x.tolist() == [4.25, 8.25, 16.25]
    assert last.tolist() == [16.0]


def test_no_iterations_leave_the_first_values() -> None:
    kernel = make(
        Declare(R, const(7, F64)),
        For(AT, N, (Assign((R,), (read(R) * load(X, (AT,)),)), Leave(scalar.gt(read(R), 1e9)))),
        Store(LAST, (as_int(0),), read(R)),
    )
    assert both(kernel, np.zeros(0), np.zeros(0), np.zeros(1), sizes=[0])[2].tolist() == [7]


def leaving(limit: float, before: bool) -> Kernel:
    count = Register("count", I64)
    leave = Leave(scalar.gt(load(X, (AT,)), limit))
    work = (Store(OUT, (AT,), read(R)), Assign((R, count), (read(R) + load(X, (AT,)), read(count) + 1)))
    number = Buffer("number", I64, (1,))
    return make(
        Declare(R, const(0, F64)),
        Declare(count, as_int(0)),
        For(AT, N, (leave, *work) if before else (*work, leave)),
        Store(LAST, (as_int(0),), read(R)),
        Store(number, (as_int(0),), read(count)),
        buffers=(X, OUT, LAST, number),
    )


@pytest.mark.parametrize(("limit", "first"), [(-1.0, 0), (2.5, 3), (4.5, 5), (99.0, None)])
@pytest.mark.parametrize("before", [False, True])
def test_a_loop_ends_early(limit: float, first: int | None, before: bool) -> None:
    x = np.arange(6.0)
    _, out, last, number = both(
        leaving(limit, before), x, np.full(6, -1.0), np.zeros(1), np.zeros(1, np.int64), sizes=[6]
    )
    ran = 6 if first is None else first + (not before)
    assert number.tolist() == [ran]
    assert last.tolist() == [x[:ran].sum()]
    assert out.tolist() == [*np.cumsum(np.r_[0, x])[:ran], *[-1.0] * (6 - ran)]


def test_two_ways_out_of_a_loop() -> None:
    kernel = make(
        Declare(R, const(0, F64)),
        For(
            AT,
            N,
            (
                Leave(scalar.lt(load(X, (AT,)), 0)),
                Assign((R,), (read(R) + load(X, (AT,)),)),
                Leave(scalar.gt(read(R), 10)),
                Assign((R,), (read(R) * 2,)),
            ),
        ),
        Store(LAST, (as_int(0),), read(R)),
    )
    for x, last in (([1.0, 2.0, -1.0], 8.0), ([1.0, 9.0, 1.0], 11.0), ([1.0, 1.0, 1.0], 14.0), ([-1.0, 1, 1], 0.0)):
        assert both(kernel, np.array(x), np.zeros(3), np.zeros(1), sizes=[3])[2].tolist() == [last]


def test_only_the_innermost_loop_ends() -> None:
    i, j = scalar.index("i", N), scalar.index("j", N)
    total = Register("total", F64)
    kernel = make(
        For(
            i,
            N,
            (
                Declare(total, const(0, F64)),
                For(j, N, (Leave(scalar.gt(j, i)), Update(total, "add", load(X, (j,))))),
                Store(OUT, (i,), read(total)),
            ),
            LoopKind.PARALLEL,
        ),
        buffers=(X, OUT),
    )
    x = np.arange(1.0, 6.0)
    assert both(kernel, x, np.zeros(5), sizes=[5])[1].tolist() == np.cumsum(x).tolist()


def test_what_follows_a_way_out_is_not_done_before_it() -> None:
    """The check of an index and the load of an array that may be empty belong to iterations that run."""
    at = Buffer("at", I64, (1,))
    kernel = make(
        For(
            AT,
            N,
            (
                Leave(scalar.ge(load(X, (AT,)), 0)),
                Store(OUT, (AT,), load(Y, (checked_index(load(at, (as_int(0),)), M, "index"),))),
            ),
        ),
        buffers=(X, at, Y, OUT),
        failures=("index",),
        sizes=2,
    )
    y, out = np.array([5.0, 6.0]), np.zeros(2)
    assert both(kernel, np.array([0.0, 0.0]), np.array([9]), y, out, sizes=[2, 2])[3].tolist() == [0, 0]
    assert both(kernel, np.array([-1.0, -1.0]), np.array([1]), y, out, sizes=[2, 2])[3].tolist() == [6, 6]
    assert run_native(kernel, [np.array([-1.0, 0.0]), np.array([9]), y, out], [2, 2]) == 1
    assert run_reference(kernel, [np.array([-1.0, 0.0]), np.array([9]), y, out], [2, 2]) == 1


def test_checks_of_a_recurrence() -> None:
    kernel = make(
        Declare(R, const(1, F64)),
        For(
            AT,
            N,
            (
                Check(scalar.lt(read(R), 100), "large"),
                Assign((R,), (read(R) * load(X, (AT,)),)),
                Leave(scalar.lt(read(R), 0)),
            ),
        ),
        Store(LAST, (as_int(0),), read(R)),
        failures=("large",),
    )
    for x, status in (([2.0] * 7, 0), ([2.0] * 8, 1), ([2.0, -1.0, *[2.0] * 20], 0), ([200.0, 1.0, -1.0], 1)):
        arrays = [np.array(x), np.zeros(len(x)), np.zeros(1)]
        assert run_native(kernel, arrays, [len(x)]) == status
        assert run_reference(kernel, arrays, [len(x)]) == status


def test_a_reduction_inside_a_recurrence_runs_in_lanes() -> None:
    """R = sum(x) * r: the loop inside is vectorised, the recurrence is not."""
    i, total = scalar.index("i", N), Register("total", F64)
    kernel = make(
        Declare(R, const(1, F64)),
        For(
            AT,
            N,
            (
                Declare(total, const(0, F64)),
                For(i, N, (Update(total, "add", load(X, (i,)) * read(R)),)),
                Store(OUT, (AT,), read(total)),
                Assign((R,), (read(total) * 0.5,)),
            ),
        ),
        Store(LAST, (as_int(0),), read(R)),
    )
    wide = vectorise(kernel, jit.host())
    widths = {s.index.param.name: s.width for s in statements(wide.body) if isinstance(s, For)}
    assert widths["t"] == 1
    assert widths["i"] > 1
    x = np.linspace(0.01, 0.2, 21)
    both(kernel, x, np.zeros(21), np.zeros(1), sizes=[21])


def test_recurrences_side_by_side_run_in_lanes() -> None:
    """A recurrence for each element of an array: the elements are the lanes."""
    i = scalar.index("i", N)
    now = read(R, frozenset((i,)))
    body = (
        Declare(R, load(X, (i,))),
        For(AT, M, (Assign((R,), (now * (1 - now) * 3.5,)),)),
        Store(OUT, (i,), now),
    )
    kernel = make(For(i, N, body, LoopKind.PARALLEL), buffers=(X, OUT), sizes=2)
    wide = vectorise(kernel, jit.host())
    assert isinstance(wide.body[0], For)
    assert wide.body[0].width > 1
    x = np.linspace(0.1, 0.9, 45)
    found = both(kernel, x, np.zeros(45), sizes=[45, 5])[1]
    for _ in range(5):
        x = 3.5 * x * (1 - x)
    np.testing.assert_allclose(found, x, rtol=1e-12)


def test_a_loop_that_ends_early_is_not_run_in_lanes() -> None:
    kernel = leaving(2.5, before=True)
    assert all(s.width == 1 for s in statements(vectorise(kernel, jit.host()).body) if isinstance(s, For))
    i = scalar.index("i", N)
    wrong = make(For(i, N, (Leave(scalar.gt(load(X, (i,)), 0)), Store(OUT, (i,), load(X, (i,)))), width=8))
    with pytest.raises(InternalError, match="serial"):
        emit_kernel(wrong, jit.host(), "kernel")
    assign = make(Declare(R, const(0, F64)), For(i, N, (Assign((R,), (load(X, (i,)),)),), width=8))
    with pytest.raises(InternalError, match="several ways"):
        emit_kernel(assign, jit.host(), "kernel")


def test_a_way_out_needs_a_loop() -> None:
    with pytest.raises(InternalError, match="serial loop"):
        emit_kernel(make(Leave(scalar.gt(load(X, (as_int(0),)), 0))), jit.host(), "kernel")


def test_nested_recurrences() -> None:
    """Collatz lengths: the inner loop carries a number and leaves at 1; the outer keeps the longest."""
    number, length, best = Register("number", I64), Register("length", I64), Register("best", I64)
    i, j = scalar.index("i", N), scalar.index("j", 200)
    counts = Buffer("counts", I64, (N,))
    n, even = read(number), scalar.eq(read(number) & 1, 0)
    kernel = make(
        Declare(best, as_int(0)),
        For(
            i,
            N,
            (
                Declare(number, i + 1),
                Declare(length, as_int(0)),
                For(
                    j,
                    200,
                    (
                        Leave(scalar.eq(n, 1)),
                        Assign((number, length), (select(even, n >> as_int(1), n * 3 + 1), read(length) + 1)),
                    ),
                ),
                Assign((best,), (scalar.maximum(read(best), read(length)),)),
                Store(counts, (i,), read(length)),
            ),
        ),
        Store(counts, (as_int(0),), read(best)),
        buffers=(counts,),
    )
    (found,) = both(kernel, np.zeros(12, np.int64), sizes=[12])
    assert found.tolist() == [19, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14, 9]


def test_complex_recurrence() -> None:
    """Z = z * z + c, until abs(z) > 2."""
    z = Register("z", dtypes.complex128)
    c, last = Buffer("c", dtypes.complex128, (1,)), Buffer("last", dtypes.complex128, (1,))
    number = Buffer("number", I64, (1,))
    count = Register("count", I64)
    point = load(c, (as_int(0),))
    kernel = split_complex(
        make(
            Declare(z, const(0, dtypes.complex128)),
            Declare(count, as_int(0)),
            For(
                AT,
                N,
                (
                    Assign((z, count), (read(z) * read(z) + point, read(count) + 1)),
                    Leave(scalar.gt(scalar.hypot(scalar.real(read(z)), scalar.imag(read(z))), const(2, F64))),
                ),
            ),
            Store(last, (as_int(0),), read(z)),
            Store(number, (as_int(0),), read(count)),
            buffers=(c, last, number),
        )
    )
    value, escaped = 0j, 0
    while abs(value) <= 2:
        value, escaped = value * value + (0.4 + 0.3j), escaped + 1
    _, found, steps_ = both(
        kernel, np.array([0.4 + 0.3j]).view(float), np.zeros(2), np.zeros(1, np.int64), sizes=[100]
    )
    assert steps_.tolist() == [escaped]
    np.testing.assert_allclose(found.view(complex), [value], rtol=1e-12)


def test_finished_recurrence_reads_and_writes_rows() -> None:
    """Through ``finish``: offsets are flat, sizes and constants are parameters."""
    rows, columns = scalar.symbol("rows"), scalar.symbol("columns")
    x, out = Buffer("x", F64, (rows, columns)), Buffer("out", F64, (rows, columns))
    t = scalar.index("t", rows)
    body = (
        Declare(R, const(0.1, F64)),
        For(
            t,
            rows,
            (
                Assign((R,), (read(R) * 0.7 + load(x, (t, as_int(1))),)),
                Store(out, (t, as_int(0)), read(R)),
                Leave(scalar.gt(read(R), 3.0)),
            ),
        ),
    )
    done = finish("test", body, (), "", {})
    known = {rows: as_int(4), columns: as_int(2)}
    from symtensor_codegen.substitution import substitute

    sizes = [p if isinstance(p, int) else int(substitute(p, known).param) for p in done.parameters]
    data = {x: np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]]).reshape(-1), out: np.zeros(8)}
    found = both(done.kernel, *(data[b] for b in done.buffers), sizes=sizes)
    value, expected = 0.1, []
    for step in (1.0, 2.0, 3.0):
        value = value * 0.7 + step
        expected.append(value)
    result = found[list(done.buffers).index(out)].reshape(4, 2)
    np.testing.assert_allclose(result[:, 0], [*expected, 0], rtol=1e-14)


def test_loops_around_a_way_out_are_not_merged() -> None:
    i, j = scalar.index("i", N), scalar.index("j", M)
    x, out = Buffer("x", F64, (N, M)), Buffer("out", F64, (N, M))
    body = (For(i, N, (For(j, M, (Leave(scalar.lt(load(x, (i, j)), 0)), Store(out, (i, j), load(x, (i, j))))),)),)
    kernel = finish("test", body, (), "", {}).kernel
    assert sum(isinstance(s, For) for s in statements(kernel.body)) == 2


def test_equal_recurrences_have_equal_texts() -> None:
    def recurrence(factor: float, order: bool) -> Kernel:
        a, b, t = Register("a", F64), Register("b", F64), scalar.index("t", N)
        values = (read(b) * factor, read(a)) if order else (read(a), read(b) * factor)
        return make(
            Declare(a, const(1, F64)),
            Declare(b, const(1, F64)),
            For(t, N, (Assign((a, b), values), Leave(scalar.gt(read(a), 5)))),
            Store(LAST, (as_int(0),), read(a)),
        )

    texts = [kernel_text(recurrence(2, True)), kernel_text(recurrence(2, True)), kernel_text(recurrence(2, False))]
    assert texts[0] == texts[1] != texts[2]
    assert kernel_text(recurrence(3, True)) != texts[0]
    assert "r0, r1 = " in texts[0]
    assert "leave where (r0 > 5.0:float64)" in texts[0]


def test_guarded_loads_and_extremes_after_assignments() -> None:
    best, place = Register("best", F64), Register("place", I64)
    kernel = make(
        Declare(R, const(0, F64)),
        Declare(best, const(-np.inf, F64)),
        Declare(place, as_int(0)),
        For(
            AT,
            N,
            (
                Assign((R,), (sqrt(read(R) + guarded(scalar.lt(AT, 3), load(X, (AT,)), 0.5)),)),
                ArgUpdate(best, place, "argmax", read(R), AT),
                Leave(scalar.gt(read(best), 2.5)),
            ),
        ),
        Store(OUT, (read(place),), read(best)),
        Store(LAST, (as_int(0),), read(R)),
    )
    for x in ([1.0, 9.0, 1.0, 0.0, 0.0], [1.0, 2.0, 3.0, 0.0, 0.0]):
        both(kernel, np.array(x), np.zeros(5), np.zeros(1), sizes=[5])


def mixing(size: int, rounds: int) -> Kernel:
    """``size`` registers, each mixed with all others ``rounds`` times a step: size * size * rounds * 2 operations."""
    registers = tuple(Register(f"r{k}", F64) for k in range(size))
    values: list[Scalar] = [read(r) for r in registers]
    for _ in range(rounds):
        mixed = []
        for k in range(size):
            total = values[k] * load(X, (AT,))
            for j, other in enumerate(values):
                total = total + other * (0.25 / (1 + j + k))
            mixed.append(total)
        values = mixed
    declared = [Declare(r, const(0.5, F64)) for r in registers]
    step = (Store(OUT, (AT,), read(registers[0])), Assign(registers, tuple(values)))
    return make(*declared, For(AT, N, step), Store(LAST, (as_int(0),), read(registers[-1])))


def test_a_large_step() -> None:
    """Deep expressions, all registers in each: interpreted without recursion, written once."""
    kernel = mixing(6, 30)
    both(kernel, np.linspace(0.1, 0.5, 4), np.zeros(4), np.zeros(1), sizes=[4])
    text = emit_kernel(kernel, jit.host(), "kernel")
    assert text.count("fmul") + text.count("fadd") < 6 * 6 * 30 * 2 + 6 * 30 + 20


def test_code_grows_as_the_step_does() -> None:
    """Four times the registers' pairs are four times the lines, and not more than eight times the time."""

    def seconds(kernel: Kernel) -> float:
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            emit_kernel(kernel, jit.host(), "kernel")
            best = min(best, time.process_time() - start)
        return float(best)

    small, large = mixing(12, 2), mixing(24, 2)
    lines = [emit_kernel(k, jit.host(), "kernel").count("\n") for k in (small, large)]
    assert lines[1] < 4.5 * lines[0]
    assert seconds(large) < 8 * seconds(small)


@pytest.mark.parametrize("seed", range(3))
def test_random_recurrences(seed: int) -> None:
    """Registers that are mixed with each other in every way, stored and left at random."""
    random = np.random.default_rng(seed)
    registers = [Register(f"r{k}", F64) for k in range(5)]
    values: list[Scalar] = [*(read(r) for r in registers), load(X, (AT,))]
    for _ in range(40):
        a, b = (values[k] for k in random.integers(0, len(values), 2))
        values.append([a * 0.5 + b * 0.25, scalar.sin(a), a - b * 0.1, scalar.maximum(a, b)][random.integers(4)])
    body: list[Statement] = []
    for _ in range(6):
        picks = random.integers(0, len(values), 3)
        chosen = random.permutation(5)[:3]
        body.append(Assign(tuple(registers[k] for k in chosen), tuple(values[k] for k in picks)))
        body.append(Store(OUT, (AT,), values[random.integers(len(values))], None if random.integers(2) else "add"))
    body.insert(7, Leave(scalar.gt(values[-1], 5.0)))
    declared = [Declare(r, const(0.1 * k, F64)) for k, r in enumerate(registers)]
    kernel = make(*declared, For(AT, N, tuple(body)), Store(LAST, (as_int(0),), read(registers[2])))
    both(kernel, np.linspace(-1, 1, 9), np.zeros(9), np.zeros(1), sizes=[9])
