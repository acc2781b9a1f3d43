"""CUDA text to machine code, without a GPU and without a toolkit: NVRTC from a wheel, nvcc where that is missing.

The compiler runs at its level "min": it keeps everything but the expensive optimisations, above all the unrolling
of loops that did not ask for it, and takes half the time. Kernels ask with `#pragma unroll`. A text whose first line
is `FULL` is compiled with every optimisation.

Code is kept in the content-addressed store, with the registers and memory each kernel uses; what is found there
loads no compiler.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from symtensor_codegen import cache
from symtensor_codegen.cuda.compiling import nvrtc
from symtensor_codegen.errors import InternalError, UserError

__all__ = ["ARCHITECTURES", "FULL", "CompilerMissingError", "Resources", "cubin", "cubins", "ptx", "resources"]

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Architectures that kernels are written for; the compiler knows others between them."""

FULL = "// compiled with every optimisation\n"

_VERSION = "1"
"""Part of every key: raised when options or the form of entries change."""

_TOGETHER = 8
"""Texts that are compiled as one."""

_SHARED = b"in:"
"""What stands in a text's entry before the key of the cubin where its kernels are."""


class CompilerMissingError(UserError):
    """There is no CUDA compiler here, or none that knows the device; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a kernel takes of a multiprocessor: registers and local bytes a thread, shared bytes a block.

    Spill bytes are what did not fit into registers, stores and loads counted once each.
    """

    registers: int
    spill_bytes: int
    local_bytes: int
    shared_bytes: int


def cubin(source: str, architecture: str, symbol: str = "kernel") -> bytes:
    """The machine code of `source` for an architecture such as "sm_90"; `symbol` names it in messages.

    Raises CompilerMissingError where nothing can compile, and InternalError, with the compiler's messages and the
    lines they are about, where the text is wrong.
    """
    return _entry(source, architecture, symbol)[1]


def cubins(sources: Sequence[tuple[str, str]], architecture: str) -> list[bytes]:
    """`cubin` for many pairs of text and symbol; up to eight new texts share one cubin, with the kernels of all.

    Compiling eight small kernels together takes little more than twice the time of one. Threads would not help: the
    compiler lets one work at a time.
    """
    new: dict[tuple[bool, int], list[tuple[str, str]]] = {}
    for pair in dict.fromkeys(sources):
        if cache.get(_key(pair[0], architecture)) is None:
            # Kernels of one name cannot be together, nor texts with other options.
            number = 0
            while len(group := new.setdefault((pair[0].startswith(FULL), number), [])) == _TOGETHER or any(
                _names(pair[0]) & _names(other) for other, _ in group
            ):
                number += 1
            group.append(pair)
    if nvrtc.find() is not None:
        for group in new.values():
            if len(group) > 1:
                _compile_together(group, architecture)
    return [cubin(source, architecture, symbol) for source, symbol in sources]


def resources(source: str, architecture: str, symbol: str = "kernel") -> dict[str, Resources]:
    """What each kernel of `source` uses, by its name; compiles it where it is not in the store."""
    described = json.loads(_entry(source, architecture, symbol)[0])
    return {name: Resources(**numbers) for name, numbers in described.items()}


def ptx(source: str, architecture: str, symbol: str = "kernel") -> str:
    """The text of `source` in NVIDIA's portable assembly, for reading."""
    virtual = architecture.replace("sm_", "compute_")
    return _compile(source, virtual, symbol, "PTX")[0].rstrip(b"\0").decode()


def _key(source: str, architecture: str) -> str:
    return cache.key("cuda", source, architecture, _compiler(), _VERSION)


def _entry(source: str, architecture: str, symbol: str) -> tuple[bytes, bytes]:
    """The description (JSON) and the code, from the store or compiled now."""
    key = _key(source, architecture)
    stored = cache.get(key)
    if stored is not None:
        end = 4 + int.from_bytes(stored[:4], "little")
        described, code = stored[4:end], stored[end:]
        if not code.startswith(_SHARED):
            return described, code
        together = cache.get(code.removeprefix(_SHARED).decode())
        if together is not None:
            return described, together
    code, log = _compile(source, architecture, symbol, "CUBIN")
    return _put(key, _used(log), code), code


def _compile_together(group: Sequence[tuple[str, str]], architecture: str) -> None:
    """Compile texts as one, each in a name space of its own, and store what `_entry` finds for each."""
    text = "".join(
        f'namespace st_text_{position} {{\n#line 1 "{symbol}.cu"\n{source}\n}}\n'
        for position, (source, symbol) in enumerate(group)
    )
    text = FULL + text if group[0][0].startswith(FULL) else text
    try:
        code, log = _compile(text, architecture, "kernels", "CUBIN")
    except InternalError:
        return  # one of them is wrong: alone, it will be told which
    key = _key(text, architecture)
    cache.put(key, code)
    used = _used(log)
    for source, _ in group:
        own = {name: used[name] for name in _names(source) if name in used}
        _put(_key(source, architecture), own, _SHARED + key.encode())


def _put(key: str, used: dict[str, Resources], code: bytes) -> bytes:
    described = json.dumps({name: asdict(numbers) for name, numbers in sorted(used.items())}).encode()
    cache.put(key, len(described).to_bytes(4, "little") + described + code)
    return described


_KERNEL = re.compile(r"__global__\s+(?:(?:void|__launch_bounds__\s*\([^)]*\))\s+)*(\w+)\s*\(")


@functools.lru_cache(64)
def _names(source: str) -> frozenset[str]:
    """The kernels that a text defines."""
    return frozenset(_KERNEL.findall(source))


# Compilers -----------------------------------------------------------------------------------------------------------


@functools.cache
def _compiler() -> str:
    """What compiles here, by name and build: part of every key."""
    library = nvrtc.find()
    if library is not None:
        return f"NVRTC {library.release} {library.size}"
    from symtensor_codegen.cuda.compiling import nvcc

    program = nvcc.find()
    if program is not None:
        return nvcc.release(program)
    raise CompilerMissingError(
        "no CUDA compiler was found: neither NVRTC nor nvcc. Install NVRTC with `pip install nvidia-cuda-nvrtc` "
        "(or `pip install 'symtensor[cuda]'`), or name a CUDA toolkit in the environment variable CUDA_HOME"
    )


def _compile(source: str, architecture: str, symbol: str, form: str) -> tuple[bytes, str]:
    """The code, in the form "CUBIN" or "PTX", and the compiler's log."""
    compiler = _compiler()
    library = nvrtc.find()
    if library is not None:
        compiler = f"NVRTC {library.release}"
        code, log = nvrtc.compile_text(library, source, f"{symbol}.cu", _options(source, architecture, library), form)
        if code is None:
            _refuse_unknown(architecture, library)
    else:
        from symtensor_codegen.cuda.compiling import nvcc

        program = nvcc.find()
        assert program is not None
        code, log = nvcc.compile_text(program, source, f"{symbol}.cu", architecture, form)
    if code is None:
        raise InternalError(
            f"the CUDA compiler ({compiler}) refuses the text of {symbol} for {architecture}:\n{log}\n\n"
            f"{_numbered(source, log)}"
        )
    return code, log


def _options(source: str, architecture: str, library: nvrtc.Library) -> tuple[str, ...]:
    options = [f"-arch={architecture}", "-std=c++17", "-default-device", "--fmad=true", "-w", "-Xptxas=-v"]
    if library.release.startswith("13"):
        options.append("--minimal")  # declares nothing of textures and device-side launches
        if not source.startswith(FULL):
            options.append("-Ofc=min")
    return tuple(options)


def _refuse_unknown(architecture: str, library: nvrtc.Library) -> None:
    known = nvrtc.supported(library)
    number = int(re.sub(r"\D", "", architecture))
    if number in known:
        return
    names = ", ".join(f"sm_{one}" for one in known)
    what = f"the CUDA compiler here (NVRTC {library.release}) does not know {architecture}; it knows {names}."
    if number < min(known):
        raise CompilerMissingError(f"{what} GPUs as old as that need an NVRTC of theirs, and are not supported")
    raise CompilerMissingError(f"{what} For a newer device: `pip install -U nvidia-cuda-nvrtc`")


# Messages ------------------------------------------------------------------------------------------------------------

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_COUNTS = {
    "registers": re.compile(r"Used (\d+) registers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
    "local_bytes": re.compile(r"(\d+) bytes stack frame"),
}
_SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")


def _used(log: str) -> dict[str, Resources]:
    """The assembler's account of each kernel, read from its messages (``-v``)."""
    used = {}
    pieces = _ENTRY.split(log)
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        numbers = {key: max(map(int, pattern.findall(text)), default=0) for key, pattern in _COUNTS.items()}
        used[name] = Resources(spill_bytes=sum(map(int, _SPILLS.findall(text))), **numbers)
    return used


def _numbered(source: str, log: str) -> str:
    """The lines that `log` speaks of and their neighbours, with their numbers; the beginning where it names none."""
    lines = source.splitlines()
    wrong = [int(number) for number in re.findall(r"\.cu\((\d+)\)", log)] or list(range(1, 41, 7))
    shown = sorted({line for number in wrong for line in range(number - 4, number + 4) if 1 <= line <= len(lines)})
    return "\n".join(f"{number:5} | {lines[number - 1]}" for number in shown[:80])
