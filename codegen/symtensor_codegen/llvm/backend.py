"""Programs to native code: every kernel once, from the cache where it has been compiled before.

A kernel is looked up by its text before any LLVM IR is written, so a warm start writes and compiles nothing but the
host program's text. Kernels that the cache does not have are compiled one by one, each cached by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

from symtensor_codegen import cache
from symtensor_codegen.errors import UserError
from symtensor_codegen.llvm import panels
from symtensor_codegen.llvm.calling import runtime_symbols
from symtensor_codegen.llvm.emit_program import emit_program
from symtensor_codegen.llvm.target import fingerprint, host
from symtensor_codegen.loops import Kernel
from symtensor_codegen.program import Gemm, Launch, Loop, Program, walk
from symtensor_codegen.program_text import program_names, program_text
from symtensor_codegen.text import kernel_text

EMITTER_VERSION = "7"  # part of every key: change it when the same kernel text is to become other code


@dataclass(slots=True)
class NativeKernel:
    """A kernel in memory: where it is, and its cache key."""

    key: str
    symbol: str
    library: Any
    __weakref__: Any = field(init=False, repr=False)

    @property
    def address(self) -> int:
        """Address of ``i64 kernel(i64 lo, i64 hi, ptr args)``."""
        return int(self.library.address(self.symbol))


_loaded: WeakValueDictionary[str, NativeKernel] = WeakValueDictionary()


@dataclass(slots=True)
class CompiledProgram:
    """A program in memory. ``address`` is its native function (see ``calling``); the rest is for reports."""

    program: Program
    kernels: tuple[NativeKernel, ...]
    library: Any
    address: int
    milliseconds: dict[str, float]
    hits: int  # kernels found in the cache or in memory
    compiled: int  # kernels compiled now

    def source(self, language: str) -> str:
        """The generated code in a form: ``loops``, ``program``, ``llvm`` or ``asm``."""
        return source(self.program, language)


def compile_program(program: Program) -> CompiledProgram:
    """Native code for a program."""
    start = perf_counter()
    kernels: list[NativeKernel] = []
    hits = compiled = 0
    for kernel in program.kernels():
        native, was_known = _kernel(kernel)
        hits, compiled = hits + was_known, compiled + (not was_known)
        kernels.append(native)
    middle = perf_counter()
    symbols = {k.symbol: k.address for k in kernels}
    text, externals = emit_program(program, [k.symbol for k in kernels], host(), "program")
    key = cache.key(text, fingerprint(), EMITTER_VERSION)
    code = cache.get(key)
    if code is None:
        from symtensor_codegen.llvm.jit import compile_ir

        code = compile_ir(text, quick=not _has_light_steps(program))
        cache.put(key, code)
    library = _load(code, _addresses(externals, symbols), "program")
    times = {"kernels": (middle - start) * 1e3, "program": (perf_counter() - middle) * 1e3}
    return CompiledProgram(program, tuple(kernels), library, library.address("program"), times, hits, compiled)


def _has_light_steps(program: Program) -> bool:
    """Whether a loop's steps are so little work that the code around them counts."""
    loops = [step for step in walk(program.steps) if isinstance(step, Loop)]
    return any(not any(isinstance(step, Gemm) for step in walk(loop.steps)) for loop in loops)


def _kernel(kernel: Kernel) -> tuple[NativeKernel, bool]:
    """The native code of a kernel, and whether it was known already."""
    key = cache.key(kernel_text(kernel), fingerprint(), EMITTER_VERSION)
    found = _loaded.get(key)
    if found is not None:
        return found, True
    symbol = f"k_{key[:16]}"
    code = cache.get(key)
    known = code is not None
    if code is None:
        from symtensor_codegen.llvm.emit_kernel import emit_kernel
        from symtensor_codegen.llvm.jit import compile_ir
        from symtensor_codegen.llvm.schedule import vectorise

        code = compile_ir(emit_kernel(vectorise(kernel, host()), host(), symbol))
        cache.put(key, code)
    native = NativeKernel(key, symbol, _load(code, _Outside(), symbol))
    _loaded[key] = native
    return native, known


class _Outside(dict[str, int]):
    """Symbols that kernels may need from outside: the C library's memory functions, which LLVM calls by itself."""

    def __missing__(self, name: str) -> int:
        from symtensor_codegen.llvm.loader import c_function

        address = c_function(name)
        if address is None:
            raise KeyError(name)
        return address


def _addresses(externals: list[str], kernels: Mapping[str, int]) -> Mapping[str, int]:
    """The addresses of what a program calls."""
    found: dict[str, int] = dict(kernels)
    runtime = runtime_symbols()
    for name in externals:
        if name in found or name.startswith("llvm."):
            continue
        if name.startswith("cblas_"):
            from symtensor_codegen.llvm.libraries import blas_symbols

            found[name] = blas_symbols()[name]
        elif name.startswith(panels.FUNCTIONS):
            found[name] = panels.address(name)
        else:
            found[name] = runtime[name]
    return found


def _load(code: bytes, symbols: Mapping[str, int], export: str) -> Any:
    from symtensor_codegen.llvm.jit import load

    return load(code, symbols, [export])


def source(program: Program, language: str) -> str:
    """The code of a program as text.

    ``loops``: the loop nests; ``program``: the steps of the host; ``llvm``: LLVM IR of kernels and program; ``asm``:
    assembly of the kernels.
    """
    if language == "loops":
        names = program_names(program)
        return "\n\n".join(kernel_text(k, names) for k in dict.fromkeys(program.kernels()))
    if language == "program":
        return program_text(program)
    if language not in ("llvm", "asm"):
        raise UserError(f"source() takes 'loops', 'program', 'llvm' or 'asm', not {language!r}")
    from symtensor_codegen.llvm.emit_kernel import emit_kernel
    from symtensor_codegen.llvm.jit import assembly
    from symtensor_codegen.llvm.schedule import vectorise

    symbols = {step.kernel: step.kernel.name for step in walk(program.steps) if isinstance(step, Launch)}
    texts = [emit_kernel(vectorise(kernel, host()), host(), symbol) for kernel, symbol in symbols.items()]
    if language == "asm":
        return "\n\n".join(assembly(text) for text in texts)
    texts.append(emit_program(program, [k.name for k in program.kernels()], host(), program.name)[0])
    return "\n\n".join(texts)
