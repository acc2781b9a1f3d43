"""IR to code in memory: the loader against LLVM's own linker, errors, targets, start without LLVM."""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import jit, loader

# Every kind of reference that generated code makes: constants, globals, calls near and far, jump tables.
TEXT = """
@counter = global i64 5
@table = internal constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
@zeros = internal global [1000 x i64] zeroinitializer
@pointer = internal global ptr @counter
declare i64 @outside(i64)
declare double @fmod(double, double)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal i64 @near(i64 %x) noinline nounwind {
  %y = mul i64 %x, 3
  ret i64 %y
}
define i64 @call_near(i64 %x) nounwind {
  %y = call i64 @near(i64 %x)
  ret i64 %y
}
define i64 @call_outside(i64 %x) nounwind {
  %y = call i64 @outside(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
define i64 @count(i64 %x) nounwind {
  %p = load ptr, ptr @pointer
  %old = load i64, ptr %p
  %new = add i64 %old, %x
  store i64 %new, ptr @counter
  ret i64 %new
}
define i64 @look(i64 %k) nounwind {
  %at = getelementptr [4 x i64], ptr @table, i64 0, i64 %k
  %v = load i64, ptr %at
  ret i64 %v
}
define i64 @remember(i64 %x) nounwind {
  %at = getelementptr [1000 x i64], ptr @zeros, i64 0, i64 999
  %old = load i64, ptr %at
  store i64 %x, ptr %at
  ret i64 %old
}
define i64 @remainder(i64 %x) nounwind {
  %f = sitofp i64 %x to double
  %r = call double @fmod(double %f, double 7.0)
  %scaled = fmul double %r, 0x3FF8000000000000
  %i = fptosi double %scaled to i64
  ret i64 %i
}
define i64 @copy(i64 %n) nounwind {
  %bytes = mul i64 %n, 8
  call void @llvm.memcpy.p0.p0.i64(ptr @zeros, ptr @table, i64 %bytes, i1 false)
  %at = getelementptr [1000 x i64], ptr @zeros, i64 0, i64 3
  %v = load i64, ptr %at
  ret i64 %v
}
define i64 @choose(i64 %k) nounwind {
entry:
  switch i64 %k, label %other [ i64 0, label %a i64 1, label %b i64 2, label %c
                                i64 3, label %d i64 4, label %e ]
a:
  ret i64 100
b:
  ret i64 -7
c:
  %x = call i64 @near(i64 5)
  ret i64 %x
d:
  %y = call i64 @count(i64 0)
  ret i64 %y
e:
  ret i64 12345
other:
  ret i64 0
}
"""
NAMES = ["call_near", "call_outside", "count", "look", "remember", "remainder", "copy", "choose"]
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@FUNCTION
def outside(x: int) -> int:
    return x * x


def outside_address() -> int:
    address = ctypes.cast(outside, ctypes.c_void_p).value
    assert address is not None
    return address


def link_completely(code: bytes, symbols: dict[str, int], exports: list[str]) -> Any:
    """LLVM's linker, given the C functions that the loader finds by itself."""
    library = {name: loader.c_function(name) or 0 for name in ("fmod", "memcpy")}
    return jit.link(code, symbols | library, exports)


@pytest.mark.parametrize("load", [jit.load, link_completely])
@pytest.mark.parametrize("quick", [False, True])
def test_loaded_code_runs(load: Any, quick: bool) -> None:
    loaded = load(jit.compile_ir(TEXT, quick=quick), {"outside": outside_address()}, NAMES)
    run = {name: FUNCTION(loaded.address(name)) for name in NAMES}
    assert run["call_near"](14) == 42
    assert run["call_outside"](6) == 37
    assert [run["count"](2), run["count"](3)] == [7, 10]
    assert [run["look"](k) for k in range(4)] == [10, 20, 30, 40]
    assert [run["remember"](8), run["remember"](9)] == [0, 8]
    assert run["remainder"](20) == 9
    assert run["copy"](4) == 40
    assert [run["choose"](k) for k in range(6)] == [100, -7, 15, 10, 12345, 0]


@pytest.mark.skipif(not loader.supported(), reason="the loader is for x86-64 Linux")
def test_code_is_unmapped_when_it_is_no_longer_used() -> None:
    code = jit.compile_ir("define i64 @f() nounwind {\n ret i64 1\n}")
    loaded = jit.load(code, {}, ["f"])
    address = loaded.address("f")

    def mapped() -> bool:
        with open("/proc/self/maps") as maps:
            ranges = [line.split()[:2] for line in maps]
        return any(
            int(start, 16) <= address < int(end, 16) and "x" in rights
            for (start, end), rights in ((span.split("-"), rights) for span, rights in ranges)
        )

    assert mapped()
    del loaded
    gc.collect()
    assert not mapped()


def test_errors() -> None:
    with pytest.raises(InternalError, match="does not parse"):
        jit.compile_ir("define i64 @f( {")
    with pytest.raises(InternalError, match="is not valid"):
        jit.verify(
            "define i64 @f(i1 %c) {\nentry:\n br i1 %c, label %a, label %b\na:\n %x = add i64 1, 1\n"
            " br label %b\nb:\n ret i64 %x\n}"
        )
    jit.verify(TEXT)
    needy = "declare i64 @nowhere()\ndefine i64 @f() {\n %x = call i64 @nowhere()\n ret i64 %x\n}"
    code = jit.compile_ir(needy)
    with pytest.raises(InternalError, match="nowhere"):
        jit.load(code, {}, ["f"])
    with pytest.raises(InternalError, match=r"does not (define|link)"):
        jit.load(jit.compile_ir("define i64 @f() {\n ret i64 1\n}"), {}, ["g"])
    if loader.supported():
        with pytest.raises(InternalError, match="not an x86-64 ELF file"):
            loader.load(b"\x7fELF\x01", {}, ["f"])


def test_assembly_is_readable() -> None:
    assert "call_near:" in jit.assembly(TEXT)


def python(code: str, **variables: str) -> str:
    """What a new process prints."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join((str(root), str(root / "codegen")))
    environment = dict(os.environ) | {"PYTHONPATH": path} | variables
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(jit.host().triple.split("-")[0] != "x86_64", reason="names of x86-64 processors")
@pytest.mark.parametrize(("cpu", "bits"), [("x86-64", 128), ("haswell", 256), ("skylake-avx512", 512)])
def test_target_by_name(cpu: str, bits: int, tmp_path: Path) -> None:
    code = (
        "from symtensor_codegen.llvm import jit; h = jit.host();"
        "print(h.cpu, h.vector_bits, h.masked_loads, jit.fingerprint())"
    )
    seen = python(code, SYMTENSOR_CPU=cpu, SYMTENSOR_CACHE_DIR=str(tmp_path)).split()
    assert seen[:3] == [cpu, str(bits), str(bits > 128)]
    assert python(code, SYMTENSOR_CPU=cpu, SYMTENSOR_CACHE_DIR=str(tmp_path)).split() == seen
    assert seen[3] != jit.fingerprint()


@pytest.mark.skipif(not loader.supported(), reason="elsewhere LLVM's linker is used")
def test_a_warm_start_does_not_load_llvm(tmp_path: Path) -> None:
    code = (
        "import sys; from symtensor_codegen.llvm import calling, jit; calling.runtime_symbols(); jit.host();"
        "print('llvmlite.binding' in sys.modules)"
    )
    assert python(code, SYMTENSOR_CACHE_DIR=str(tmp_path)) == "True"
    assert python(code, SYMTENSOR_CACHE_DIR=str(tmp_path)) == "False"
