"""The fork-join pool, BLAS on it, large results, forks, signals."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symtensor_codegen.errors import UserError
from symtensor_codegen.llvm import libraries, memory, native, threads
from symtensor_codegen.llvm.calling import RETURN, SWAP, Cell, InputSpec, OutputSpec, make_callable
from tests.codegen.runtime_programs import FLOAT, INT, accumulate_spec, add_spec, spec

# kernel: out[i] += i; fails with status 1000 + i at every i whose in[i] is not 0.
# program(in): out = zeros like in; parallel_for(kernel, [in, out], n, GRAIN).
PARALLEL = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define i64 @kernel(i64 %lo, i64 %hi, ptr %args) nounwind {
entry:
  %in = load ptr, ptr %args
  %out.at = getelementptr ptr, ptr %args, i64 1
  %out = load ptr, ptr %out.at
  br label %head
head:
  %i = phi i64 [ %lo, %entry ], [ %i.next, %good ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %one, label %done
one:
  %in.at = getelementptr i64, ptr %in, i64 %i
  %flag = load i64, ptr %in.at
  %ok = icmp eq i64 %flag, 0
  br i1 %ok, label %good, label %bad
good:
  %at = getelementptr i64, ptr %out, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, %i
  store i64 %new, ptr %at
  %i.next = add i64 %i, 1
  br label %head
bad:
  %status = add i64 %i, 1000
  ret i64 %status
done:
  ret i64 0
}
define i64 @program(ptr %f, ptr %call) nounwind {
  %args = alloca [2 x ptr], align 16
  %in = load ptr, ptr %f
  store ptr %in, ptr %args
  %n.at = getelementptr i64, ptr %f, i64 1
  %n = load i64, ptr %n.at
  %dim = getelementptr i64, ptr %f, i64 3
  store i64 %n, ptr %dim
  %out = call ptr @st_output(ptr %call, i64 0)
  %bytes = mul i64 %n, 8
  call void @llvm.memset.p0.i64(ptr %out, i8 0, i64 %bytes, i1 false)
  %out.at = getelementptr ptr, ptr %args, i64 1
  store ptr %out, ptr %out.at
  %status = call i64 @st_parallel_for(ptr @kernel, ptr %args, i64 %n, i64 GRAIN)
  ret i64 %status
}
"""
# Waits for Ctrl-C for ever.
ENDLESS = """
define i64 @program(ptr %f, ptr %call) nounwind {
entry:
  br label %again
again:
  %stop = call i1 @st_interrupted(ptr %call)
  br i1 %stop, label %out, label %again
out:
  ret i64 -2
}
"""


def fail(status: int, details: Any) -> Exception:
    return ArithmeticError(status)


def parallel(grain: int) -> Any:
    given = spec(
        PARALLEL.replace("GRAIN", str(grain)),
        [InputSpec(INT, (None,))], (), [OutputSpec(INT, 1, RETURN, 0)], fail=fail, gil_bytes=0,
    )  # fmt: skip
    return make_callable(given)


@pytest.fixture(params=[1, 2, 3, 8])
def count(request: pytest.FixtureRequest) -> Any:
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.mark.parametrize("grain", [1, 7, 1000])
def test_every_index_is_done_once(count: int, grain: int) -> None:
    run = parallel(grain)
    for size in (0, 1, 2, 13, 14, 100, 1999, 2000, 12_345):
        for _ in range(3):
            np.testing.assert_array_equal(run(np.zeros(size, np.int64)), np.arange(size))


def test_the_lowest_failure_is_reported(count: int) -> None:
    run = parallel(10)
    for bad in ([500], [3, 900], [999, 0], [250, 750], list(range(1000))):
        flags = np.zeros(1000, np.int64)
        flags[bad] = 1
        for _ in range(5):
            with pytest.raises(ArithmeticError, match=f"^{1000 + min(bad)}$"):
                run(flags)
    np.testing.assert_array_equal(run(np.zeros(1000, np.int64)), np.arange(1000))


def test_workers_wake_from_sleep() -> None:
    threads.set_num_threads(2)
    run = parallel(1)
    for _ in range(5):
        np.testing.assert_array_equal(run(np.zeros(1000, np.int64)), np.arange(1000))
        time.sleep(0.01)


def test_many_callers_at_once(count: int) -> None:
    run = parallel(1)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for size in range(100, 300):
                np.testing.assert_array_equal(run(np.zeros(size, np.int64)), np.arange(size))
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not errors


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    monkeypatch.delenv("SYMTENSOR_NUM_THREADS", raising=False)
    assert threads.default_count() == 3
    monkeypatch.setenv("SYMTENSOR_NUM_THREADS", "5")
    assert threads.default_count() == 5
    for wrong in ("0", "many", "-1", ""):
        monkeypatch.setenv("SYMTENSOR_NUM_THREADS", wrong)
        with pytest.raises(UserError, match="SYMTENSOR_NUM_THREADS must be a positive number"):
            threads.default_count()
    monkeypatch.delenv("SYMTENSOR_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.default_count() >= 1
    for wrong_count in (0, -1, 257):
        with pytest.raises(UserError, match="from 1 to 256"):
            threads.set_num_threads(wrong_count)


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A @ b by the BLAS that programs use."""
    integer, double, pointer = ctypes.c_int, ctypes.c_double, ctypes.c_void_p
    kinds = [integer] * 6 + [double, pointer, integer, pointer, integer, double, pointer, integer]
    gemm = ctypes.CFUNCTYPE(None, *kinds)(libraries.blas_symbols()["cblas_dgemm"])
    m, k = a.shape
    n = b.shape[1]
    c = np.empty((m, n))
    gemm(101, 111, 111, m, n, k, 1.0, a.ctypes.data, k, b.ctypes.data, n, 0.0, c.ctypes.data, n)
    return c


def test_blas_on_the_pool(count: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 200)), rng.normal(size=(200, 250))
    for _ in range(5):
        np.testing.assert_allclose(multiply(a, b), a @ b, rtol=1e-12, atol=1e-12)
    with pytest.raises(KeyError):
        libraries.blas_symbols()["cblas_nonsense"]
    assert libraries.core_name()


def test_blas_from_many_threads() -> None:
    threads.set_num_threads(2)
    rng = np.random.default_rng(1)
    a = rng.normal(size=(200, 200))
    expected = a @ a
    wrong: list[float] = []

    def work() -> None:
        for _ in range(20):
            wrong.append(float(np.abs(multiply(a, a) - expected).max()))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(wrong) == 80
    assert max(wrong) < 1e-10


def test_large_blocks_are_reused() -> None:
    memory.release()
    assert memory.info().cached == 0
    add = make_callable(add_spec())
    x = np.ones(500_000)
    first = add(x, x)
    address = first.ctypes.data
    assert address % 64 == 0
    del first
    assert memory.info().cached >= x.nbytes
    second = add(x, x)
    assert second.ctypes.data == address
    np.testing.assert_array_equal(second, 2 * x)
    del second
    memory.release()
    assert memory.info().cached == 0


def test_kept_memory_is_bounded() -> None:
    before = memory.info().limit
    try:
        memory.set_limit(10 << 20)
        add = make_callable(add_spec())
        x = np.ones(500_000)
        results = [add(x, x) for _ in range(6)]
        del results
        assert 0 < memory.info().cached <= 10 << 20
        memory.set_limit(0)
        assert memory.info().cached == 0
        add(x, x)
        assert memory.info().cached == 0
        with pytest.raises(UserError, match="must not be negative"):
            memory.set_limit(-1)
    finally:
        memory.set_limit(before)


def test_block_functions_of_the_handler() -> None:
    """What NumPy calls when an array of ours is resized: contents survive, zeroed memory is zero."""
    runtime = native.runtime()
    assert runtime is not None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    calloc = runtime.function("st_handler_calloc", pointer, pointer, size, size)
    realloc = runtime.function("st_handler_realloc", pointer, pointer, pointer, size)
    free = runtime.function("st_handler_free", None, pointer, pointer, size)
    block = calloc(None, 1000, 8)
    assert ctypes.string_at(block, 8000) == bytes(8000)
    ctypes.memset(block, 7, 8000)
    block = realloc(None, block, 3 << 20)
    assert ctypes.string_at(block, 8000) == b"\7" * 8000
    block = realloc(None, block, 100)
    assert ctypes.string_at(block, 100) == b"\7" * 100
    free(None, block, 100)
    free(None, None, 0)
    assert calloc(None, 2**40, 2**40) is None
    assert realloc(None, None, 2**61) is None


def fork_and_check(check: Any) -> None:
    """Run `check` in a forked child; it must succeed within 20 seconds."""
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join(20)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "the child hangs"
    assert child.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork_after_use() -> None:
    threads.set_num_threads(2)
    run = parallel(1)
    cell = Cell(np.zeros(10))
    step = make_callable(accumulate_spec(cell, SWAP, gil_bytes=0))
    a = np.random.default_rng(1).normal(size=(200, 200))

    def check() -> None:
        for size in (100, 1000, 200_000):
            assert (run(np.zeros(size, np.int64)) == np.arange(size)).all()
        step(np.ones(10))
        assert (cell.get() == 2).all()
        assert np.allclose(multiply(a, a), a @ a)

    multiply(a, a)
    run(np.zeros(200_000, np.int64))
    step(np.ones(10))
    fork_and_check(check)
    # While another thread is in the middle of calls.
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            run(np.zeros(2000, np.int64))

    busy = threading.Thread(target=keep_calling)
    busy.start()
    try:
        for _ in range(3):
            fork_and_check(check)
    finally:
        stop.set()
        busy.join()
    np.testing.assert_array_equal(cell.get(), np.ones(10))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
@pytest.mark.parametrize("long_running", [False, True])
def test_interrupt(long_running: bool) -> None:
    endless = make_callable(spec(ENDLESS, result="none", long_running=long_running))
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            endless()
        assert time.perf_counter() - start < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_other_threads_run_during_long_calls() -> None:
    endless = make_callable(spec(ENDLESS, result="none", long_running=True))
    progress = []

    def count_up() -> None:
        for number in range(100):
            progress.append(number)
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGALRM)

    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        helper = threading.Thread(target=count_up)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            endless()
        helper.join()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert progress == list(range(100))


EXIT = """
import sys, threading, time
import numpy as np
from symtensor_codegen.llvm import threads
from tests.codegen.test_runtime_threads import parallel, multiply
threads.set_num_threads(4)
run = parallel(1)
run(np.zeros(100_000, np.int64))
multiply(np.ones((200, 200)), np.ones((200, 200)))
result = run(np.zeros(500_000, np.int64))
when = sys.argv[1]
if when == "sleeping":
    time.sleep(0.05)
if when == "daemon":
    def work():
        while True:
            run(np.zeros(100_000, np.int64))
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)
print(time.time())
"""


@pytest.mark.parametrize("when", ["spinning", "sleeping", "daemon"])
def test_interpreter_exit_is_clean_and_quick(when: str) -> None:
    root = Path(__file__).parents[2]
    path = os.pathsep.join((str(root), str(root / "codegen")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXIT, when],
        env=dict(os.environ) | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert time.time() - float(done.stdout) < 2


def test_arguments_of_mixed_types() -> None:
    with pytest.raises(TypeError, match="slow path"):
        make_callable(add_spec())(np.zeros(3, np.int64), np.zeros(3, FLOAT))
