"""g++ for kernels' texts and for the run time that they call, with a folder of what was compiled."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

__all__ = ["BUILDS", "HostCompileError", "compile_text", "compiler", "kept", "runtime_library", "sanitizer_library"]

HERE = Path(__file__).parent
HEADER = HERE / "shim.h"
RUNTIME = ("blocks.cpp", "fibers.cpp", "half.cpp", "memory.cpp", "tracking.cpp", "undefined.cpp")

# -Og compiles in three quarters of the time of -O1, and there are thousands of kernels, each run on few numbers.
_FLAGS = (
    *("-std=c++17", "-Og", "-fPIC", "-w", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing"),
    *("-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-fno-stack-protector"),
)
# Addresses are watched by the run time; the compiler's own checks of them would double its work.
_UNDEFINED = (
    *("-fsanitize=undefined,float-cast-overflow", "-fno-sanitize=vptr,pointer-overflow,null,object-size"),
    "-fno-sanitize-recover=all",
)
BUILDS = {
    "plain": _UNDEFINED,
    "checked": (*_UNDEFINED, "-fsanitize=thread"),  # the run time has the functions that this calls
    "address": (*_UNDEFINED, "-fsanitize=address"),  # in a process that has libasan loaded first
}
"""Flags by kind of build. All report undefined behaviour; "checked" also races, bounds and unwritten memory."""


class HostCompileError(Exception):
    """g++ refuses a text."""


@functools.cache
def compiler() -> str | None:
    """The path of g++, or None."""
    return shutil.which("g++")


@functools.cache
def _identity() -> bytes:
    """What the results depend on besides the text: the compiler and the header."""
    path = _path()
    version = subprocess.run([path, "-dumpfullversion", "-dumpmachine"], capture_output=True, check=True).stdout
    return version + HEADER.read_bytes()


def _path() -> str:
    path = compiler()
    if path is None:
        raise HostCompileError("no g++ in PATH: install it (Debian: apt-get install g++)")
    return path


@functools.cache
def _own_folder() -> Path:
    made = tempfile.mkdtemp(prefix="symtensor-host-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def folder() -> Path:
    """Where compiled texts are kept: in the run's cache folder, else in a temporary one of the process."""
    cache = os.environ.get("SYMTENSOR_CACHE_DIR", "")
    kept = _own_folder() if cache in ("", "off") else Path(cache) / "cuda-host"
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def digest(*parts: bytes) -> str:
    """A name for the content of these bytes."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.hexdigest()


def compile_text(text: str, build: str) -> Path:
    """The shared object of a translation unit (`text.host_text`); nothing is compiled twice."""
    flags = (*_FLAGS, *BUILDS[build])
    target = folder() / (digest(_identity(), " ".join(flags).encode(), text.encode()) + ".so")
    if not target.exists():
        command = [*flags, "-shared", "-nostdlib", "-Wl,-z,noseparate-code", "-include", str(HEADER), "-x", "c++", "-"]
        _produce(target, command, text)
    return target


def kept(image: bytes) -> Path:
    """A file with the bytes of a shared object that came from elsewhere."""
    target = folder() / f"image-{digest(image)}.so"
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as made:
            made.write(image)
        os.replace(made.name, target)
    return target


def runtime_library() -> Path:
    """The run time, compiled once for all processes of a run."""
    sources = [HERE / name for name in RUNTIME]
    name = digest(_identity(), (HERE / "runtime.h").read_bytes(), *[s.read_bytes() for s in sources])
    target = folder() / f"run-time-{name}.so"
    if not target.exists():
        _build_runtime(sources, target)
    return target


def _build_runtime(sources: Sequence[Path], target: Path) -> None:
    flags = ("-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        objects = [Path(scratch) / f"{source.stem}.o" for source in sources]
        commands = [[_path(), *flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
        running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        failures = [process.communicate()[1] for process in running]
        if any(process.returncode for process in running):
            raise HostCompileError("the host run time: " + "".join(failures))
        _produce(target, ["-shared", *map(str, objects), "-ldl", "-lm"], "")


def _produce(target: Path, arguments: Sequence[str], text: str) -> None:
    """Run g++ to make `target`: beside its place, then moved there, so other processes see all of it or nothing."""
    handle, made = tempfile.mkstemp(dir=target.parent, suffix=".so")
    os.close(handle)
    try:
        command = [_path(), *arguments, "-o", made]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostCompileError(f"g++ refuses a kernel's text:\n{done.stderr.strip()}")
        os.replace(made, target)
    finally:
        Path(made).unlink(missing_ok=True)


@functools.cache
def sanitizer_library() -> str | None:
    """The path of libasan, which must be loaded before all else where the "address" build runs; None without it."""
    found = subprocess.run([_path(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    return os.path.realpath(path) if os.path.isabs(path) else None
