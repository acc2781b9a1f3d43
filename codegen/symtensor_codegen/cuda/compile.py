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
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from symtensor_codegen import cache
from symtensor_codegen.cuda import nvrtc
from symtensor_codegen.errors import InternalError, UserError

__all__ = ["ARCHITECTURES", "FULL", "CompilerMissingError", "Resources", "cubin", "cubins", "ptx", "resources"]

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Architectures that kernels are written for; the compiler knows others between them."""

FULL = "// compiled with every optimisation\n"

_VERSION = "1"
"""Part of every key: raised when options or the form of entries change."""


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
    """`cubin` for many pairs of text and symbol, side by side on this machine's processors."""
    if len(sources) < 2:
        return [cubin(source, architecture, symbol) for source, symbol in sources]
    missing = [pair for pair in dict.fromkeys(sources) if cache.get(_key(pair[0], architecture)) is None]
    if len(missing) > 1:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(missing), len(os.sched_getaffinity(0)))) as threads:
            list(threads.map(lambda pair: _entry(pair[0], architecture, pair[1]), missing))
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
    if stored is None:
        code, log = _compile(source, architecture, symbol, "CUBIN")
        described = json.dumps({name: asdict(used) for name, used in _used(log).items()}).encode()
        cache.put(key, len(described).to_bytes(4, "little") + described + code)
        return described, code
    end = 4 + int.from_bytes(stored[:4], "little")
    return stored[4:end], stored[end:]


# Compilers -----------------------------------------------------------------------------------------------------------


@functools.cache
def _compiler() -> str:
    """What compiles here, by name and build: part of every key."""
    library = nvrtc.find()
    if library is not None:
        return f"NVRTC {library.release} {library.size}"
    from symtensor_codegen.cuda import nvcc

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
        from symtensor_codegen.cuda import nvcc

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
    if int(re.sub(r"\D", "", architecture)) not in known:
        raise CompilerMissingError(
            f"the CUDA compiler here (NVRTC {library.release}) does not know {architecture}; it knows "
            f"{', '.join(f'sm_{number}' for number in known)}. For a newer device: "
            "`pip install -U nvidia-cuda-nvrtc`"
        )


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
