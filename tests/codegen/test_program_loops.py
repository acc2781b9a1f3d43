"""Loops and branches of host programs: the same natively and in the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import calling, jit
from symtensor_codegen.llvm import native as native_runtime
from symtensor_codegen.llvm.backend import compile_program
from symtensor_codegen.llvm.calling import Cell
from symtensor_codegen.llvm.emit_program import emit_program
from symtensor_codegen.loops import Check, For, Statement, Store
from symtensor_codegen.program import (
    COUNTERS,
    Allocate,
    AllocateOutput,
    Branch,
    Copy,
    Gemm,
    Guard,
    Loop,
    Matrix,
    Output,
    Place,
    Program,
    Read,
    Reserve,
    Row,
    Step,
    with_counters,
)
from symtensor_codegen.program_text import program_text
from symtensor_codegen.reference.programs import ProgramFailure, run_program
from symtensor_codegen.scalar import Buffer, Dim, Scalar, as_int, load
from tests.codegen.compiled_programs import both, launch, native, program

F64, I64, BOOL = dtypes.float64, dtypes.int64, dtypes.bool_
COUNT = scalar.symbol("count")
N = scalar.symbol("n")
HOW_OFTEN = Buffer("how_often", I64, ())
X = Buffer("x", F64, (N,))
T, U = scalar.symbol("t"), scalar.symbol("u")
READ = Read(COUNT, HOW_OFTEN)


def elementwise(name: str, target: Buffer, value: Scalar, at: Scalar, *before: Statement) -> Step:
    """``target[i] = value`` for every element, with ``value`` over the index ``at``."""
    return launch(name, *before, For(at, target.dims[0], (Store(target, (at,), value),)), cost=target.dims[0])


def one(name: str, target: Buffer, value: Scalar) -> Step:
    """Store one element."""
    return launch(name, Store(target, (), value))


def temporary(name: str, dtype: dtypes.DType = F64, dims: tuple[Dim, ...] = ()) -> Buffer:
    return Buffer(name, dtype, dims)


def placed(*buffers: Buffer) -> list[Step]:
    """Memory for small buffers."""
    return [Reserve(64 * len(buffers)), *(Place(b, 64 * k) for k, b in enumerate(buffers))]


I = scalar.index("i", N)  # noqa: E741


def doubling(**options: object) -> tuple[Program, Buffer, Buffer]:
    """``x = 2 x + 1``, ``count`` times; the two places of x exchange their memory."""
    a, b, ran = temporary("a", F64, (N,)), temporary("b", F64, (N,)), temporary("ran", I64)
    loop = Loop(T, COUNT, (), (elementwise("double", b, load(a, (I,)) * 2 + 1, I),), ((a, b),), executed=ran)
    loop = replace(loop, **options)
    steps = [READ, AllocateOutput(a, 0), Allocate(b), AllocateOutput(ran, 1), Copy(a, X), loop]
    last = temporary("last", F64, (N,))
    steps += [AllocateOutput(last, 2), Copy(last, a)]
    return program((HOW_OFTEN, X), steps, (Output(a), Output(ran), Output(last))), a, b


@pytest.mark.parametrize("count", [-3, 0, 1, 2, 5])
def test_two_places_of_a_state(count: int) -> None:
    made, _, _ = doubling()
    x = np.array([0.0, 1.0, 2.0])
    last = native(made)(np.array(count), x)
    steps = max(count, 0)
    assert last[1] == steps
    np.testing.assert_array_equal(last[2], (x + 1) * 2.0**steps - 1)
    reference = run_program(made, [np.array(count), x.copy()], [])
    np.testing.assert_array_equal(reference[2], last[2])
    assert reference[1] == steps


@pytest.mark.parametrize("count", range(5))
def test_three_places(count: int) -> None:
    """C = a + b, then a, b, c = b, c, a: Fibonacci."""
    a, b, c = (temporary(name) for name in "abc")
    out = temporary("out", F64, (3,))
    loop = Loop(T, COUNT, (), (one("sum", c, load(a, ()) + load(b, ())),), ((a, b, c),))
    ends = [launch(f"end{k}", Store(out, (as_int(k),), load(x, ()))) for k, x in enumerate((a, b))]
    starts = [one(f"start{k}", x, scalar.const(k, F64)) for k, x in enumerate((a, b, c))]
    zero = launch("zero", Store(out, (as_int(2),), scalar.const(0, F64)))
    steps = [READ, *placed(a, b, c), AllocateOutput(out, 0), *starts, loop, *ends, zero]
    found = both(program((HOW_OFTEN,), steps, (Output(out),)), np.array(count))[0]
    fibonacci = [0, 1, 1, 2, 3, 5, 8]
    assert found[:2].tolist() == fibonacci[count : count + 2]


@pytest.mark.parametrize("backwards", [False, True])
def test_rows(backwards: bool) -> None:
    """Cumulative sums of the rows of a matrix, from either end; every sum is kept."""
    rows = scalar.symbol("rows")
    matrix, out = Buffer("matrix", F64, (rows, 3)), Buffer("out", F64, (rows, 3))
    row, target, total = (temporary(name, F64, (3,)) for name in ("row", "target", "total"))
    at = scalar.index("i", 3)
    position: Dim = rows - 1 - T if backwards else T
    loop = Loop(
        T, rows, (Row(row, matrix, position), Row(target, out, T)),
        (elementwise("add", target, load(total, (at,)) + load(row, (at,)), at), Copy(total, target)),
    )  # fmt: skip
    zero = elementwise("zero", total, scalar.const(0, F64), at)
    steps = [*placed(total), AllocateOutput(out, 0), zero, loop]
    made = program((matrix,), steps, (Output(out),))
    values = np.arange(12.0).reshape(4, 3) ** 2
    found = both(made, values)[0]
    np.testing.assert_allclose(found, np.cumsum(values[::-1] if backwards else values, axis=0))
    assert both(made, np.zeros((0, 3)))[0].shape == (0, 3)


@pytest.mark.parametrize(("limit", "ran"), [(0.5, 1), (10.0, 4), (1e9, 7)])
def test_until(limit: float, ran: int) -> None:
    """A number doubles from 1 until it is above a limit, at most 7 times."""
    ceiling, x = Buffer("limit", F64, ()), temporary("x")
    stop, number = temporary("stop", BOOL), temporary("number", I64)
    body = (one("double", x, load(x, ()) * 2), one("compare", stop, scalar.gt(load(x, ()), load(ceiling, ()))))
    loop = Loop(T, 7, (), body, until=stop, executed=number)
    steps = [*placed(stop), AllocateOutput(x, 0), AllocateOutput(number, 1), one("one", x, scalar.const(1, F64)), loop]
    found = both(program((ceiling,), steps, (Output(x), Output(number))), np.array(limit))
    assert found[0] == 2.0**ran
    assert found[1] == ran


def test_the_step_number_is_known_in_kernels_and_guards() -> None:
    out, small = Buffer("out", I64, (5,)), Buffer("small", I64, ())
    body = (
        launch("put", Store(out, (T,), T * T + load(small, ()))),
        Guard(scalar.lt(T * 10, COUNT), "too far", (T, COUNT)),
    )
    read = Read(COUNT, HOW_OFTEN)
    made = program(
        (HOW_OFTEN, small), [read, AllocateOutput(out, 0), Loop(T, 5, (), body)], (Output(out),), messages=("too far",)
    )
    assert both(made, np.array(99), np.array(7))[0].tolist() == [7, 8, 11, 16, 23]
    for run in (native(made), lambda *a: run_program(made, a, [])):
        with pytest.raises(ProgramFailure) as failure:
            run(np.array(30), np.array(7))
        assert failure.value.message == "too far"
        assert failure.value.values_seen[:2] == (3, 30)


def test_nested_loops_exchange_memory_of_the_loop_around() -> None:
    """The state of both loops: the inner one runs t times, the outer one stores what it left."""
    a, b, out = temporary("a"), temporary("b"), Buffer("out", F64, (6,))
    inner = Loop(U, T, (), (one("more", b, load(a, ()) * 2 + 1),), ((a, b),))
    body = (inner, launch("keep", Store(out, (T,), load(a, ()))))
    steps = [*placed(a, b), AllocateOutput(out, 0), one("zero", a, scalar.const(0, F64)), Loop(T, 6, (), body)]
    found = both(program((), steps, (Output(out),)))[0]
    assert found.tolist() == [2.0**k - 1 for k in (0, 1, 3, 6, 10, 15)]


def test_matrix_powers() -> None:
    """Products inside a loop, with two places for the matrix."""
    m, a, b = Buffer("m", F64, (3, 3)), temporary("a", F64, (3, 3)), temporary("b", F64, (3, 3))
    out = Buffer("out", F64, (3, 3))
    gemm = Gemm(Matrix(b, 0, 3, 1), Matrix(a, 0, 3, 1), Matrix(m, 0, 3, 1), 3, 3, 3)
    steps: list[Step] = [READ, Reserve(256), Place(a, 0), Place(b, 128), Copy(a, m)]
    steps += [Loop(T, COUNT, (), (gemm,), ((a, b),)), AllocateOutput(out, 0), Copy(out, a)]
    value = np.array([[0.5, 0.1, 0.2], [0.3, 0.2, 0.1], [0.7, 0.1, 0.1]])
    for count in (0, 1, 4):
        found = both(program((HOW_OFTEN, m), steps, (Output(out),)), np.array(count), value)[0]
        np.testing.assert_allclose(found, np.linalg.matrix_power(value, count + 1))


def allocating(size: Dim) -> Program:
    """Every step takes memory of its own, writes it and adds its last element to a sum."""
    total, scratch = temporary("total"), Buffer("scratch", F64, (size,))
    at = scalar.index("i", size)
    body: tuple[Step, ...] = (
        Allocate(scratch),
        elementwise("fill", scratch, scalar.cast(at + T, F64), at),
        one("last", total, load(total, ()) + load(scratch, (as_int(size) - 1,))),
    )
    steps = [READ, AllocateOutput(total, 0), one("zero", total, scalar.const(0, F64)), Loop(T, COUNT, (), body)]
    return program((HOW_OFTEN,), steps, (Output(total),))


@pytest.mark.parametrize("size", [10, 1000])
def test_memory_of_steps_is_given_back(size: int) -> None:
    found = both(allocating(size), np.array(20))[0]
    assert found == sum(size - 1 + t for t in range(20))


def test_loops_without_the_native_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_runtime, "runtime", lambda: None)
    monkeypatch.setattr(calling, "_bound", {})
    found = native(allocating(1000))(np.array(40))[0]
    assert found == sum(999 + t for t in range(40))


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("size", [100, 20000])
def test_memory_does_not_grow_with_the_number_of_steps(size: int) -> None:
    call = native(allocating(size))
    call(np.array(100))
    before = resident()
    call(np.array(20_000_000 // size))
    assert resident() - before < 4 << 20


def test_sizes_read_in_a_step() -> None:
    """Step t works on as many elements as the t-th number says."""
    wanted, lengths = scalar.symbol("wanted"), Buffer("lengths", I64, (4,))
    length, out, scratch = temporary("length", I64), Buffer("out", F64, (4,)), Buffer("scratch", F64, (wanted,))
    at = scalar.index("i", wanted)
    body: tuple[Step, ...] = (
        Read(wanted, length),
        Allocate(scratch),
        elementwise("fill", scratch, scalar.cast(at * at, F64), at),
        launch("last", Store(out, (T,), load(scratch, (wanted - 1,)))),
    )
    loop = Loop(T, 4, (Row(length, lengths, T),), body)
    made = program((lengths,), [AllocateOutput(out, 0), loop], (Output(out),))
    assert both(made, np.array([3, 1, 900, 2]))[0].tolist() == [4, 0, 899.0**2, 1]


def checked(limit: float) -> Program:
    """A kernel in a loop that fails when its state is too large."""
    x, out = temporary("x"), temporary("out")
    check = Check(scalar.lt(load(x, ()), limit), "too large")
    body = (launch("more", check, Store(x, (), load(x, ()) * 2), failures=("too large",)),)
    steps = [READ, *placed(x), one("one", x, scalar.const(1, F64)), Loop(T, COUNT, (), body)]
    steps += [AllocateOutput(out, 0), Copy(out, x)]
    return program((HOW_OFTEN,), steps, (Output(out),), messages=("other", "too large"))


def test_a_kernel_fails_in_a_step() -> None:
    made = checked(100.0)
    assert both(made, np.array(7))[0] == 128
    for run in (native(made), lambda *a: run_program(made, a, [])):
        with pytest.raises(ProgramFailure) as failure:
            run(np.array(9))
        assert failure.value.message == "too large"


# Branches -----------------------------------------------------------------------------------------------------------


def branching() -> Program:
    """Either x + 1 or x * 3, through memory that only the branch has."""
    choice, out, scratch = Buffer("choice", BOOL, ()), Buffer("out", F64, (N,)), temporary("scratch", F64, (N,))
    then: tuple[Step, ...] = (
        Allocate(scratch),
        elementwise("more", scratch, load(X, (I,)) + 1, I),
        Copy(out, scratch),
    )
    steps = [AllocateOutput(out, 0), Branch(choice, then, (elementwise("times", out, load(X, (I,)) * 3, I),))]
    return program((choice, X), steps, (Output(out),))


def test_branches() -> None:
    made = branching()
    assert both(made, np.array(True), np.array([1.0, 2.0]))[0].tolist() == [2, 3]
    assert both(made, np.array(False), np.array([1.0, 2.0]))[0].tolist() == [3, 6]


def test_a_branch_that_is_not_taken_does_nothing() -> None:
    """Neither its guards nor its memory nor a read of it counts."""
    choice, out, size = Buffer("choice", I64, ()), temporary("out"), scalar.symbol("size")
    huge = Buffer("huge", F64, (size,))
    then: tuple[Step, ...] = (
        Read(size, choice),
        Guard(scalar.gt(size, 5), "small", (size,)),
        Allocate(huge),
        launch("end", Store(huge, (size - 1,), scalar.const(1, F64))),
    )
    steps = [AllocateOutput(out, 0), one("zero", out, scalar.const(4, F64)), Branch(choice, then, ())]
    made = program((choice,), steps, (Output(out),), messages=("small",))
    assert both(made, np.array(0))[0] == 4
    assert both(made, np.array(1000))[0] == 4
    with pytest.raises(ProgramFailure, match="small"):
        native(made)(np.array(3))
    with pytest.raises(MemoryError):
        native(made)(np.array(1 << 58))


def test_a_branch_inside_a_loop_inside_a_branch() -> None:
    """Collatz lengths: at odd numbers the two places of the number exchange in a loop of one step."""
    number, other, odd, go, ran = (
        temporary(name, kind) for name, kind in
        (("number", I64), ("other", I64), ("odd", BOOL), ("stop", BOOL), ("ran", I64))
    )  # fmt: skip
    start, value = Buffer("start", I64, ()), load(number, ())
    once = Loop(U, 1, (), (one("thrice", other, value * 3 + 1),), ((number, other),))
    body: tuple[Step, ...] = (
        one("is_odd", odd, scalar.eq(value & 1, 1)),
        Branch(odd, (once,), (one("half", number, value >> as_int(1)),)),
        one("is_one", go, scalar.eq(value, 1)),
    )
    big = temporary("big", BOOL)
    loop = Loop(T, 1000, (), body, until=go, executed=ran)
    zero = one("none", ran, as_int(0))
    steps = [
        *placed(number, other, odd, go, big), AllocateOutput(ran, 0), Copy(number, start), zero,
        one("is_big", big, scalar.gt(value, 1)), Branch(big, (loop,), ()),
    ]  # fmt: skip
    made = program((start,), steps, (Output(ran),))
    for first, length in ((1, 0), (2, 1), (7, 16), (27, 111)):
        assert both(made, np.array(first))[0] == length


def test_what_needs_the_whole_call_is_refused_inside() -> None:
    buffer, choice = temporary("b"), Buffer("choice", BOOL, ())
    for step in (Reserve(64), Place(buffer, 0), AllocateOutput(buffer, 0)):
        for around in (Loop(T, 2, (), (step,)), Branch(choice, (step,), ())):
            made = program((choice,), [around], ())
            with pytest.raises(InternalError, match="in a loop or branch"):
                emit_program(made, [], jit.host(), "program")
            with pytest.raises(InternalError, match="in a loop or branch"):
                run_program(made, [np.array(True)], [])


# Reports ------------------------------------------------------------------------------------------------------------


def test_text() -> None:
    made, _, _ = doubling()
    lines = [line.strip() for line in program_text(made).splitlines()]
    assert "for step0 < value(how_often), number of steps to ran:" in lines
    assert "swap a, b = b, a" in lines
    text = program_text(branching())
    assert "  if choice:\n    allocate scratch" in text
    assert "  else:\n    launch times" in text
    matrix, row = Buffer("matrix", F64, (4, 3)), temporary("row", F64, (3,))
    stop = temporary("stop", BOOL)
    text = program_text(program((matrix,), [Loop(T, 4, (Row(row, matrix, 3 - T),), (), until=stop)], ()))
    assert "for step0 < 4, until stop:\n    row: float64[3] is matrix, row (3 - step0)" in text


def test_equal_programs_are_equal_code() -> None:
    emitted = [emit_program(made, ["k"], jit.host(), "program")[0] for made in (doubling()[0], doubling()[0])]
    assert emitted[0] == emitted[1]
    jit.verify(emitted[0])


def test_constant_arguments_are_stored_before_the_loop() -> None:
    made, _, _ = doubling()
    text = emit_program(made, ["kernel"], jit.host(), "program")[0]
    body = text[text.index("\nstep") : text.index("\nstepped")]
    assert body.count("store ptr") == 2  # the two places; the size stays
    assert body.count("store i64") == 0


def test_steps_inside_are_counted() -> None:
    made, _, _ = doubling()
    counted = with_counters(made)
    assert counted.counters is not None
    words = np.zeros(COUNTERS * 2, np.int64)
    call = native(counted, [Cell(words)])
    call(np.array(5), np.zeros(3))
    rows = words.reshape(2, COUNTERS)
    assert rows[:, 0].tolist() == [5, 1]
    assert rows[0, 2] == 15


def test_a_warm_start_compiles_nothing() -> None:
    made, _, _ = doubling()
    compile_program(made)
    again = compile_program(doubling()[0])
    assert again.compiled == 0
    assert again.hits == 1


# Long runs ----------------------------------------------------------------------------------------------------------


def endless(count: Dim = 1 << 60) -> tuple[list[Step], Buffer, Buffer]:
    """Add 1 for ever, and an input that stays what it is."""
    x, out = temporary("x"), temporary("out")
    loop = Loop(T, count, (), (one("more", x, load(x, ()) + 1),))
    return [*placed(x), one("zero", x, scalar.const(0, F64)), loop], x, out


INTERRUPTED = """
import _thread, signal, sys, threading, time
import numpy as np
from symtensor_codegen.llvm.calling import Cell
from symtensor_codegen.program import AllocateOutput, Copy, Loop, Output
from tests.codegen.compiled_programs import native, program
from tests.codegen.test_program_loops import T, U, endless

steps, x, out = endless()
if {nested}:
    steps[-1] = Loop(U, 1 << 60, (), (Loop(T, 100, (), steps[-1].steps),))
steps += [AllocateOutput(out, 0), Copy(out, x)]
made = program((), steps, (Output(out, 0 if {updates} else None),), [out] if {updates} else [])
cell = Cell(np.array(5.0))
call = native(made, [cell] if {updates} else [])
beats = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may have begun without
def beat():
    for _ in range(5):
        time.sleep(0.02)
        beats.append(1)
    _thread.interrupt_main()
threading.Thread(target=beat, daemon=True).start()
start = time.perf_counter()
try:
    call()
except KeyboardInterrupt:
    assert len(beats) == 5, "other threads run meanwhile"
    assert cell.get() == 5.0
    assert time.perf_counter() - start < 5
    print("stopped")
"""


@pytest.mark.parametrize("updates", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_an_endless_loop_is_stopped(updates: bool, nested: bool) -> None:
    """Ctrl-C ends it, other threads run meanwhile, and a shared variable keeps its value."""
    text = INTERRUPTED.format(updates=updates, nested=nested)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "stopped", done.stderr


def test_updates_of_long_loops_run_one_at_a_time() -> None:
    """Two threads add to a shared variable through a loop that lets other threads run."""
    state, new = Buffer("state", F64, ()), temporary("new")
    loop = Loop(T, 300_000, (), (one("more", new, load(new, ()) + 1),))
    steps: list[Step] = [AllocateOutput(new, 0), Copy(new, state), loop]
    cell = Cell(np.array(0.0))
    call = native(program((), steps, (Output(new, 0),), (state,)), [cell])
    threads = [threading.Thread(target=lambda: [call() for _ in range(4)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cell.get() == 8 * 300_000
    assert call() == []


def test_a_signal_handler_that_returns_does_not_stop_a_loop() -> None:
    if not hasattr(signal, "setitimer"):
        pytest.skip("needs interval timers")
    steps, x, out = endless(30_000_000)
    call = native(program((), [*steps, AllocateOutput(out, 0), Copy(out, x)], (Output(out),)))
    seen = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(time.perf_counter()))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        assert call()[0] == 30_000_000
    finally:
        signal.signal(signal.SIGALRM, old)
    assert len(seen) == 1
