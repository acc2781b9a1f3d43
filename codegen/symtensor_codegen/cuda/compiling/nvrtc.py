"""NVIDIA's run-time compiler, called through its C interface: CUDA C++ text to a cubin or PTX.

`libnvrtc` comes in a wheel (`nvidia-cuda-nvrtc`) or with a CUDA toolkit. It is called with ctypes: eight functions
of plain arguments, loaded in 7 ms where NVIDIA's Python bindings take 80.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Library", "Outcome", "compile_text", "find", "supported", "toolkit_folders", "wheel_folders"]

_MAJORS = (13, 12)
"""Releases of the compiler that are looked for, the newest first."""


class Library(NamedTuple):
    """Where the compiler lies. `release` and `size` tell builds apart without loading 100 MB of library."""

    path: str
    builtins: str | None
    release: str
    size: int


class Outcome(NamedTuple):
    """What one compilation gave: the code, or None where the text is wrong, and the compiler's messages."""

    code: bytes | None
    log: str


def wheel_folders() -> list[Path]:
    """The folders of NVIDIA's wheels: `nvidia/cu13`, `nvidia/cuda_nvrtc` and the like, on the module path."""
    specification = importlib.util.find_spec("nvidia")
    roots = [] if specification is None else list(specification.submodule_search_locations or [])
    return [Path(root) / name for root in roots for name in ("cu13", "cuda_nvrtc")]


def toolkit_folders() -> list[Path]:
    """The folders of CUDA toolkits: what the environment names, then the usual place."""
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return [Path(name) for name in (*named, "/usr/local/cuda")]


@functools.cache
def find() -> Library | None:
    """The newest compiler among wheels and toolkits; None where there is none."""
    for major in _MAJORS:
        for folder in (*wheel_folders(), *toolkit_folders()):
            for place in ("lib", "lib64"):
                path = folder / place / f"libnvrtc.so.{major}"
                if path.is_file():
                    return _library(path)
    return None


def _library(path: Path) -> Library:
    # The release is in the name of the second library, whose file has its minor number.
    found = sorted(path.parent.glob("libnvrtc-builtins.so.*.*"))
    builtins = found[0] if found else None
    release = (builtins or path).name.partition(".so.")[2]
    return Library(str(path), str(builtins) if builtins else None, release, path.stat().st_size)


@functools.cache
def _load(library: Library) -> Any:
    if library.builtins is not None:
        ctypes.CDLL(library.builtins)  # found by name once it is loaded: a wheel is in no search path
    loaded = ctypes.CDLL(library.path)
    loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
    return loaded


@functools.cache
def supported(library: Library) -> tuple[int, ...]:
    """The architectures which the compiler knows: 75 for sm_75 and so on."""
    loaded = _load(library)
    count = ctypes.c_int()
    loaded.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    loaded.nvrtcGetSupportedArchs(numbers)
    return tuple(numbers)


def compile_text(library: Library, source: str, name: str, options: tuple[str, ...], form: str) -> Outcome:
    """Compile `source`, called `name` in messages, to `form`: "CUBIN" or "PTX". Safe from any thread."""
    loaded = _load(library)
    program = ctypes.c_void_p()
    created = loaded.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    if created:
        return Outcome(None, loaded.nvrtcGetErrorString(created).decode())
    try:
        words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = loaded.nvrtcCompileProgram(program, len(options), words)
        log = _bytes(loaded, program, "ProgramLog").rstrip(b"\0").decode(errors="replace").strip()
        if failed:
            return Outcome(None, log or loaded.nvrtcGetErrorString(failed).decode())
        return Outcome(_bytes(loaded, program, form), log)
    finally:
        loaded.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(loaded: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(loaded, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    getattr(loaded, f"nvrtcGet{what}")(program, content)
    return content.raw[: size.value]
