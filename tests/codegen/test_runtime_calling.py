"""Native calls: arguments, results, updates, errors, references."""

import gc
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import calling, calling_portable, native
from symtensor_codegen.llvm.calling import (
    IN_PLACE,
    RETURN,
    SWAP,
    Cell,
    InputSpec,
    OutputSpec,
    attach,
    bind_call,
    frame_layout,
    make_callable,
)
from tests.codegen.runtime_programs import (
    FLOAT,
    INT,
    ProgramFailed,
    accumulate_spec,
    add_spec,
    spec,
)

COPY_SCALAR = """
define i64 @program(ptr %f, ptr %call) nounwind {
  %x = load ptr, ptr %f
  %v = load i64, ptr %x
  %o = call ptr @st_output(ptr %call, i64 0)
  store i64 %v, ptr %o
  ret i64 0
}
"""
HUGE = """
define i64 @program(ptr %f, ptr %call) nounwind {
  %dim = getelementptr i64, ptr %f, i64 1
  store i64 SIZE, ptr %dim
  %o = call ptr @st_output(ptr %call, i64 0)
  %none = icmp eq ptr %o, null
  %status = select i1 %none, i64 -1, i64 0
  ret i64 %status
}
"""
SCRATCH = """
; Writes its number to both ends of 8 scratch blocks and checks them: 0, or 9 when they overlap.
define i64 @program(ptr %f, ptr %call) nounwind {
entry:
  %blocks = alloca [8 x ptr]
  br label %make
make:
  %k = phi i64 [ 0, %entry ], [ %k.next, %made ]
  %p = call ptr @st_alloc(ptr %call, i64 SIZE)
  %bits = ptrtoint ptr %p to i64
  %low = and i64 %bits, 63
  %good = icmp eq i64 %low, 0
  br i1 %good, label %made, label %bad
made:
  %at = getelementptr ptr, ptr %blocks, i64 %k
  store ptr %p, ptr %at
  %byte = trunc i64 %k to i8
  store i8 %byte, ptr %p
  %last = getelementptr i8, ptr %p, i64 LAST
  store i8 %byte, ptr %last
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, 8
  br i1 %more, label %make, label %check
check:
  %c = phi i64 [ 0, %made ], [ %c.next, %next ]
  %c.at = getelementptr ptr, ptr %blocks, i64 %c
  %c.p = load ptr, ptr %c.at
  %c.first = load i8, ptr %c.p
  %c.last.at = getelementptr i8, ptr %c.p, i64 LAST
  %c.last = load i8, ptr %c.last.at
  %c.byte = trunc i64 %c to i8
  %same.first = icmp eq i8 %c.first, %c.byte
  %same.last = icmp eq i8 %c.last, %c.byte
  %same = and i1 %same.first, %same.last
  br i1 %same, label %next, label %bad
next:
  %c.next = add i64 %c, 1
  %c.more = icmp slt i64 %c.next, 8
  br i1 %c.more, label %check, label %done
bad:
  ret i64 9
done:
  ret i64 0
}
"""


@pytest.fixture(params=["native", "portable"])
def portable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a test twice: with the native run time, and with the path for interpreters that lack it."""
    if request.param == "portable":
        monkeypatch.setattr(native, "runtime", lambda: None)
        monkeypatch.setattr(calling, "_bound", {})
    return bool(request.param == "portable")


def test_native_run_time_is_used_here() -> None:
    assert native.runtime() is not None
    assert calling.runtime_symbols() != calling_portable.symbols()


def test_frame_layout() -> None:
    layout = frame_layout([1, 0], [2], [3])
    assert layout == ((0, 2), (3,), (6,), 10, 14)


def test_result(portable: bool) -> None:
    add = make_callable(add_spec())
    x, y = np.arange(5.0), np.ones(5)
    result = add(x, y)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, x + y)
    assert result.flags.carray
    assert result.flags.owndata
    assert add(np.zeros(0), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("size", [10, 511, 513, 100_000, 200_000])
@pytest.mark.parametrize("gil_bytes", [0, 1 << 40])
def test_every_way_to_allocate_a_result(size: int, gil_bytes: int) -> None:
    # Below 4 KB with the GIL NumPy allocates, else we do; from 1 MB on in mapped blocks.
    add = make_callable(add_spec(gil_bytes=gil_bytes))
    x = np.arange(float(size))
    for _ in range(3):
        result = add(x, x)
        np.testing.assert_array_equal(result, 2 * x)
        assert result.flags.owndata
        assert result.flags.writeable
        result.resize(2 * size, refcheck=False)
        np.testing.assert_array_equal(result[:size], 2 * x)


def test_unusual_arguments_take_the_slow_path(portable: bool) -> None:
    seen: list[tuple[Any, Any]] = []

    def convert(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        seen.append((args, kwargs))
        values = (*args, *kwargs.values())
        return tuple(np.array(value, np.float64) for value in values)

    class Special(np.ndarray):
        pass

    add = make_callable(add_spec(slow_path=convert))
    x = np.arange(3.0)
    unusual = [
        [0, 1, 2],
        np.arange(6.0)[::2],
        np.arange(3),
        np.arange(3, dtype=np.float32),
        np.arange(3, dtype=">f8"),
        x.view(Special),
        np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float64),
    ]
    for number, value in enumerate(unusual, 1):
        expected = np.array(value, np.float64) + x
        np.testing.assert_array_equal(add(value, x), expected)
        assert len(seen) == number, f"{value!r} did not take the slow path"
    np.testing.assert_array_equal(add(x, y=[1, 1, 1]), x + 1)
    assert seen[-1][1] == {"y": [1, 1, 1]}
    add(x, x)
    assert len(seen) == len(unusual) + 1, "a plain array took the slow path"


def test_equal_but_distinct_dtype_objects_are_fast() -> None:
    add = make_callable(add_spec())
    x = np.arange(3.0).view(np.dtype(np.float64, metadata={"a": 1}))
    assert x.dtype is not FLOAT
    np.testing.assert_array_equal(add(x, x), [0, 2, 4])


def test_slow_path_errors_and_lies(portable: bool) -> None:
    add = make_callable(add_spec())
    with pytest.raises(TypeError, match="slow path was taken"):
        add([1.0], [2.0])
    with pytest.raises(TypeError, match="slow path was taken"):
        add(np.zeros(3))
    liar = make_callable(add_spec(slow_path=lambda *args: (np.zeros((2, 2)), np.zeros(2))))
    with pytest.raises(InternalError, match="converted arguments do not fit"):
        liar([1.0], [2.0])


def test_static_sizes_are_checked(portable: bool) -> None:
    from dataclasses import replace

    given = add_spec()
    fixed = replace(given, inputs=(InputSpec(FLOAT, (3,)), InputSpec(FLOAT, (None,))))
    add = make_callable(fixed)
    np.testing.assert_array_equal(add(np.ones(3), np.ones(3)), [2, 2, 2])
    with pytest.raises(TypeError, match="slow path"):
        add(np.ones(4), np.ones(4))


def test_scalars_without_conversion() -> None:
    take = make_callable(spec(COPY_SCALAR, [InputSpec(FLOAT, ())], (), [OutputSpec(FLOAT, 0, RETURN, 0)]))
    for value in (2.5, np.float64(-1.25), np.array(3.5), 7, -(2**53), 2**53):
        result = take(value)
        assert type(result) is np.ndarray
        assert result.shape == ()
        assert result == float(value)
    for value in (2**53 + 1, 2**70, True, np.float32(1), np.int64(3), "1", np.array([1.0])):
        with pytest.raises(TypeError, match="slow path"):
            take(value)
    whole = make_callable(spec(COPY_SCALAR, [InputSpec(INT, ())], (), [OutputSpec(INT, 0, RETURN, 0)]))
    for number in (5, -1, 2**63 - 1, -(2**63), np.int64(9), np.array(4)):
        assert whole(number) == number
    for value in (2**63, -(2**63) - 1, 1.0, np.int32(1)):
        with pytest.raises(TypeError, match="slow path"):
            whole(value)


def test_many_results_in_order(portable: bool) -> None:
    text = """
    define i64 @program(ptr %f, ptr %call) nounwind {
      %a = call ptr @st_output(ptr %call, i64 0)
      store double 1.0, ptr %a
      %b = call ptr @st_output(ptr %call, i64 1)
      store double 2.0, ptr %b
      ret i64 0
    }
    """
    outputs = [OutputSpec(FLOAT, 0, RETURN, 1), OutputSpec(FLOAT, 0, RETURN, 0)]
    pair = make_callable(spec(text, (), (), outputs, result="list"))
    assert pair() == [2.0, 1.0]
    named = make_callable(
        spec(text, (), (), outputs, result="list", finish=lambda values: dict(zip("pq", values, strict=True)))
    )
    assert named() == {"p": 2.0, "q": 1.0}

    def broken(values: list[Any]) -> Any:
        raise ZeroDivisionError(len(values))

    with pytest.raises(ZeroDivisionError, match="2"):
        make_callable(spec(text, (), (), outputs, result="list", finish=broken))()


@pytest.mark.parametrize("kind", [SWAP, IN_PLACE])
@pytest.mark.parametrize("gil_bytes", [0, 1 << 40])
def test_updates(kind: int, gil_bytes: int, portable: bool) -> None:
    start = np.zeros(4)
    cell = Cell(start)
    step = make_callable(accumulate_spec(cell, kind, gil_bytes=gil_bytes))
    for _ in range(3):
        assert step(np.arange(4.0)) == []
    np.testing.assert_array_equal(cell.get(), 3 * np.arange(4.0))
    assert (cell.get() is start) == (kind == IN_PLACE)
    cell.set(np.ones(4))
    step(np.ones(4))
    np.testing.assert_array_equal(cell.get(), [2, 2, 2, 2])


def test_an_error_commits_nothing(portable: bool) -> None:
    start = np.arange(3.0)
    cell = Cell(start)
    for gil_bytes in (0, 1 << 40):
        step = make_callable(accumulate_spec(cell, SWAP, gil_bytes=gil_bytes))
        with pytest.raises(ProgramFailed) as caught:
            step(np.array([-1.0, 0.0, 0.0]))
        assert caught.value.args == (7, (11, 22, 33, 44))
        assert cell.get() is start
        np.testing.assert_array_equal(start, [0, 1, 2])


def test_failure_that_cannot_be_described(portable: bool) -> None:
    def broken(status: int, details: Any) -> Exception:
        raise LookupError(status)

    add = make_callable(add_spec(fail=broken))
    with pytest.raises(LookupError, match="7"):
        add(-np.ones(2), np.ones(2))


@pytest.mark.parametrize("size", [2**45, 2**62, -1])
@pytest.mark.parametrize("gil_bytes", [-1, 1 << 40])
def test_out_of_memory(size: int, gil_bytes: int, portable: bool) -> None:
    text = HUGE.replace("SIZE", str(size))
    make = make_callable(spec(text, (), (), [OutputSpec(FLOAT, 1, RETURN, 0)], gil_bytes=gil_bytes))
    with pytest.raises(MemoryError, match=r"example: out of memory: could not allocate"):
        make()


def test_out_of_memory_says_how_much() -> None:
    text = HUGE.replace("SIZE", str(2**45))
    make = make_callable(spec(text, (), (), [OutputSpec(FLOAT, 1, RETURN, 0)]))
    with pytest.raises(MemoryError, match=f"{2**48:,} bytes"):
        make()


@pytest.mark.parametrize("size", [1, 100, 1000, 5000, 100_000, 3_000_000])
def test_scratch_memory(size: int, portable: bool) -> None:
    text = SCRATCH.replace("SIZE", str(size)).replace("LAST", str(size - 1))
    run = make_callable(spec(text, result="none"))
    for _ in range(3):
        assert run() == []


def test_references_are_balanced() -> None:
    x, y = np.arange(5.0), np.ones(5)
    cell = Cell(np.zeros(5))
    add = make_callable(add_spec())
    long_add = make_callable(add_spec(gil_bytes=0))
    step = make_callable(accumulate_spec(cell, SWAP))
    converting = make_callable(add_spec(slow_path=lambda a, b: (np.array(a, float), y)))
    watched = (x, y, FLOAT, cell, add, step)

    def exercise() -> None:
        add(x, y)
        long_add(x, y)
        step(x)
        converting([1, 2, 3, 4, 5], y)
        for function in (add, step):
            with pytest.raises((ProgramFailed, TypeError)):
                function(-x - 1)
        with pytest.raises(ProgramFailed):
            add(-y, y)
        with pytest.raises(TypeError, match="slow"):
            add(x)

    exercise()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(100):
        exercise()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in watched]
    assert before == after
    # The same as for arrays that NumPy alone has made.
    plain, result = x + y, add(x, y)
    assert sys.getrefcount(result) == sys.getrefcount(plain)
    held, expected = cell.get(), Cell(np.zeros(5)).get()
    assert sys.getrefcount(held) == sys.getrefcount(expected) + 1, "the cell and this name hold it"


def test_calls_do_not_leak() -> None:
    import resource

    add = make_callable(add_spec(gil_bytes=0))
    x = np.zeros(50_000)

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for _ in range(50):
        add(x, x)
    before = peak()
    for _ in range(2000):
        add(x, x)
    assert peak() - before < 20_000, "kilobytes; 2000 leaked results would be 800,000"


def test_functions_are_collected(portable: bool) -> None:
    class Holder:
        def convert(self, *args: Any) -> Any:
            raise TypeError

    function: Any = bind_call(Holder)()
    attach(function, add_spec(slow_path=function.convert))
    gone = weakref.ref(function)
    assert function(np.ones(1), np.ones(1)) == 2
    del function
    gc.collect()
    assert gone() is None


def test_bound_classes(portable: bool) -> None:
    class Base:
        """A function with attributes."""

        kind = "example"

        def __init__(self, label: str) -> None:
            self.label = label

        def described(self) -> str:
            return f"{self.kind} {self.label}"

    bound = bind_call(Base)
    assert bind_call(Base) is bound
    function: Any = bound("one")
    with pytest.raises(TypeError):
        function(1)
    attach(function, add_spec())
    assert isinstance(function, Base)
    assert callable(function)
    assert function.described() == "example one"
    assert type(function).__name__ == "Base"
    assert type(function).__doc__ == "A function with attributes."
    np.testing.assert_array_equal(function(np.ones(2), np.ones(2)), [2, 2])

    class Slotted:
        __slots__ = tuple(f"s{number}" for number in range(20))

    if not portable:
        with pytest.raises(InternalError, match="too many slots"):
            bind_call(Slotted)


def test_specifications_are_checked() -> None:
    from dataclasses import replace

    given = add_spec()
    cell = Cell(np.zeros(3, np.float32))
    wrong = [
        (replace(given, program=0), "no address"),
        (replace(given, outputs=(OutputSpec(FLOAT, 1, RETURN, 1),)), "positions"),
        (replace(given, outputs=()), "single"),
        (replace(given, outputs=(*given.outputs, OutputSpec(FLOAT, 1, SWAP, 0)), cells=(cell,)), "dtype"),
    ]
    for bad, message in wrong:
        with pytest.raises(InternalError, match=message):
            make_callable(bad)


def test_cells() -> None:
    with_order = Cell(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    assert with_order.get().flags.carray
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    assert Cell(frozen).get().flags.writeable
    plain = np.zeros(3)
    assert Cell(plain).get() is plain
    with pytest.raises(ValueError, match="cannot hold int64 with 1 axes"):
        Cell(plain).set(np.zeros(3, int))
    with pytest.raises(ValueError, match="cannot hold float64 with 2 axes"):
        Cell(plain).set(np.zeros((3, 3)))


@pytest.mark.parametrize("gil_bytes", [0, 1 << 40])
@pytest.mark.parametrize("kind", [SWAP, IN_PLACE])
def test_updates_from_many_threads_are_atomic(kind: int, gil_bytes: int) -> None:
    cell = Cell(np.zeros(100))
    step = make_callable(accumulate_spec(cell, kind, gil_bytes=gil_bytes))
    short = make_callable(accumulate_spec(cell, kind))
    errors: list[BaseException] = []
    one = np.ones(100)

    def work() -> None:
        try:
            for _ in range(200):
                step(one)
                short(one)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    np.testing.assert_array_equal(cell.get(), np.full(100, 8 * 200 * 2.0))
