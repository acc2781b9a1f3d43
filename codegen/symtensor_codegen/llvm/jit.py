"""LLVM IR text to object code, and object code to addresses.

`compile_ir` runs no optimisation passes: the emitter writes explicit vectors and hoists loop-invariant
values itself, so only instruction selection is left (about 1 ms a function, 3 ms for the first one of a
module). llvmlite's binding is loaded by the first call that needs LLVM. Object code is loaded by
`symtensor_codegen.llvm.loader` without LLVM where that knows the format, else by LLVM's own linker.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm import loader
from symtensor_codegen.llvm.target import Target, fingerprint, host

__all__ = [
    "LoadedLibrary",
    "Target",
    "assembly",
    "binding",
    "compile_ir",
    "fingerprint",
    "host",
    "link",
    "load",
    "verify",
    "widest_vector",
]

_library_numbers = itertools.count()


class LoadedLibrary(Protocol):
    """Code in memory; it stays there while this object is referenced."""

    def address(self, name: str) -> int:
        """Address of the exported symbol `name`; KeyError when it was not exported."""
        ...


@functools.cache
def binding() -> Any:
    """`llvmlite.binding`, loaded and set up for this machine (60 ms the first time)."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def _machine(triple: str, cpu: str, features: str, level: int = 2) -> Any:
    """The target machine that writes position-independent small-model code for `cpu`."""
    target = binding().Target.from_triple(triple)
    return target.create_target_machine(
        cpu=cpu, features=features, opt=level, reloc="pic", codemodel="small", jit=True
    )


def _host_machine(level: int = 2) -> Any:
    target = host()
    return _machine(target.triple, target.cpu, target.features, level)


def _parse(text: str) -> Any:
    try:
        return binding().parse_assembly(text)
    except RuntimeError as error:
        raise InternalError(f"generated LLVM IR does not parse: {error}\n{_numbered(text)}") from None


def _numbered(text: str) -> str:
    """`text` with line numbers, as LLVM's messages count them."""
    return "\n".join(f"{number:4} | {line}" for number, line in enumerate(text.splitlines(), 1))


def compile_ir(text: str, *, quick: bool = False) -> bytes:
    """Object code for this machine of the LLVM module `text`; InternalError when it does not parse.

    `quick` is for code that runs seldom or does little: it compiles five to ten times faster, without
    register allocation across blocks.
    """
    module = _parse(text)
    try:
        return bytes(_host_machine(0 if quick else 2).emit_object(module))
    finally:
        module.close()


def assembly(text: str) -> str:
    """Assembly for this machine of the LLVM module `text`, as a person reads it."""
    module = _parse(text)
    try:
        return str(_host_machine().emit_assembly(module))
    finally:
        module.close()


def verify(text: str) -> None:
    """Check the LLVM module `text` with LLVM's verifier; InternalError says what is wrong."""
    module = _parse(text)
    try:
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"generated LLVM IR is not valid: {error}\n{_numbered(text)}") from None
    finally:
        module.close()


def widest_vector(triple: str, cpu: str) -> int:
    """Width in bits of the vectors that LLVM uses on `cpu` when it is offered wide ones: 128, 256 or 512."""
    features = "-prefer-256-bit" if triple.startswith("x86_64") else ""
    text = (
        "define <16 x float> @probe(<16 x float> %a, <16 x float> %b) {\n"
        "  %c = fadd <16 x float> %a, %b\n  ret <16 x float> %c\n}\n"
    )
    module = _parse(text)
    code = str(_machine(triple, cpu, features).emit_assembly(module))
    module.close()
    return 512 if "%zmm" in code else 256 if "%ymm" in code else 128


@functools.cache
def _linker() -> Any:
    target = host()
    machine = (
        binding()
        .Target.from_triple(target.triple)
        .create_target_machine(cpu=target.cpu, features=target.features, opt=2, jit=True)
    )
    return binding().create_lljit_compiler(machine)


class _Linked:
    """A library loaded by LLVM's own linker."""

    def __init__(self, tracker: Any, exports: Sequence[str]) -> None:
        self._tracker = tracker
        self._addresses = {name: int(tracker[name]) for name in exports}

    def address(self, name: str) -> int:
        return self._addresses[name]


def link(object_code: bytes, symbols: Mapping[str, int], exports: Sequence[str]) -> LoadedLibrary:
    """Load `object_code` with LLVM's linker, for the formats that `load` does not know itself."""
    builder = binding().JITLibraryBuilder().add_object_img(object_code)
    for name, address in symbols.items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_linker(), f"symtensor{next(_library_numbers)}")
    except RuntimeError as error:
        raise InternalError(f"object code does not link: {error}") from None
    return _Linked(tracker, exports)


def load(object_code: bytes, symbols: Mapping[str, int], exports: Sequence[str]) -> LoadedLibrary:
    """Load `object_code`; `symbols` are the addresses of the functions it calls, `exports` the names wanted.

    InternalError when a symbol is missing. The code is released when the result is garbage collected.
    """
    if loader.supported():
        return loader.load(object_code, symbols, exports)
    return link(object_code, symbols, exports)
