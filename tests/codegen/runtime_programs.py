"""Small native programs, written by hand, for the tests of the run time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor_codegen.llvm import calling, jit
from symtensor_codegen.llvm.calling import RETURN, CallSpec, Cell, InputSpec, OutputSpec

FLOAT = np.dtype(np.float64)
INT = np.dtype(np.int64)

DECLARATIONS = """
declare ptr @st_output(ptr, i64)
declare ptr @st_alloc(ptr, i64)
declare i64 @st_parallel_for(ptr, ptr, i64, i64)
declare i1 @st_interrupted(ptr)
declare void @st_release_gil(ptr)
"""

# out = a + b for two vectors at words A and B of the frame, output number K at word O; then `tail`.
# A negative a[0] fails with status 7 and the details 11, 22, 33, 44 after the output has been made.
ADD = """
define i64 @program(ptr %f, ptr %call) nounwind {{
entry:
  %a.at = getelementptr i64, ptr %f, i64 {a}
  %a = load ptr, ptr %a.at
  %n.at = getelementptr i64, ptr %a.at, i64 1
  %n = load i64, ptr %n.at
  %b.at = getelementptr i64, ptr %f, i64 {b}
  %b = load ptr, ptr %b.at
  %o.at = getelementptr i64, ptr %f, i64 {o}
  {make}
  %none = icmp eq ptr %o, null
  br i1 %none, label %memory, label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %check
one:
  %x.at = getelementptr double, ptr %a, i64 %i
  %y.at = getelementptr double, ptr %b, i64 %i
  %z.at = getelementptr double, ptr %o, i64 %i
  %x = load double, ptr %x.at
  %y = load double, ptr %y.at
  %z = fadd double %x, %y
  store double %z, ptr %z.at
  %i.next = add i64 %i, 1
  br label %head
check:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %first, label %done
first:
  %first.value = load double, ptr %a
  %bad = fcmp olt double %first.value, 0.0
  br i1 %bad, label %failed, label %done
failed:
  %d0 = getelementptr i64, ptr %f, i64 {d}
  store i64 11, ptr %d0
  %d1 = getelementptr i64, ptr %d0, i64 1
  store i64 22, ptr %d1
  %d2 = getelementptr i64, ptr %d0, i64 2
  store i64 33, ptr %d2
  %d3 = getelementptr i64, ptr %d0, i64 3
  store i64 44, ptr %d3
  ret i64 7
memory:
  ret i64 -1
done:
  ret i64 0
}}
"""
_MAKE_NEW = """
  %o.dim = getelementptr i64, ptr %o.at, i64 1
  store i64 %n, ptr %o.dim
  %o = call ptr @st_output(ptr %call, i64 0)
"""
_MAKE_IN_PLACE = "%o = load ptr, ptr %o.at"


class ProgramFailed(Exception):
    """What the programs of these tests fail with."""


def fail(status: int, details: tuple[int, int, int, int]) -> Exception:
    return ProgramFailed(status, details)


def refuse(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    raise TypeError(f"the slow path was taken with {args} {kwargs}")


def library(text: str) -> Any:
    """The loaded module `text`, which may call the run time."""
    code = jit.compile_ir(DECLARATIONS + text, quick=True)
    names = [name for name in ("program", "kernel") if f"@{name}(" in text.replace("call i64 ", "")]
    return jit.load(code, calling.runtime_symbols(), names)


def spec(
    text: str,
    inputs: Sequence[InputSpec] = (),
    cells: Sequence[Cell] = (),
    outputs: Sequence[OutputSpec] = (),
    **options: Any,
) -> CallSpec:
    """A call specification for the module `text`."""
    loaded = library(text)
    options = {"slow_path": refuse, "fail": fail, **options}
    return CallSpec(
        name="example",
        inputs=tuple(inputs),
        cells=tuple(cells),
        outputs=tuple(outputs),
        program=loaded.address("program"),
        keep=(loaded,),
        **options,
    )


def add_spec(**options: Any) -> CallSpec:
    """Out = x + y for two vectors."""
    text = ADD.format(a=0, b=2, o=4, d=6, make=_MAKE_NEW)
    vector = InputSpec(FLOAT, (None,))
    return spec(text, (vector, vector), (), (OutputSpec(FLOAT, 1, RETURN, 0),), **options)


def accumulate_spec(cell: Cell, kind: Any, **options: Any) -> CallSpec:
    """Cell += x; returns nothing. `kind` is SWAP or IN_PLACE."""
    make = _MAKE_NEW if kind == calling.SWAP else _MAKE_IN_PLACE
    text = ADD.format(a=0, b=2, o=4, d=6, make=make)
    options = {"result": "none", **options}
    return spec(text, (InputSpec(FLOAT, (None,)),), (cell,), (OutputSpec(FLOAT, 1, kind, 0),), **options)
