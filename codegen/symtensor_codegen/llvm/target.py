"""The processor that code is generated for.

`host()` finds its answer in the cache after the first time, and `fingerprint()` reads only the kernel's
description of the processor, so a process whose object code is all cached never pays for loading LLVM.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from typing import NamedTuple

from symtensor_codegen import cache

__all__ = ["RUNTIME_ABI", "Target", "describe", "fingerprint", "host"]

RUNTIME_ABI = 1
"""Version of the native conventions (frame layout, exported run-time symbols); part of every cache key."""

_AVX512 = frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq"})


class Target(NamedTuple):
    """A processor: what LLVM is told, and what the emitter may count on.

    `triple`, `cpu` and `features` are LLVM's spellings. `vector_bits` is the widest vector that is fast;
    `masked_loads` says that predicated vector loads and stores are single instructions.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    masked_loads: bool


@functools.cache
def host() -> Target:
    """The target of this process: the machine's own processor, or the one named by `SYMTENSOR_CPU`."""
    key = cache.key("target", fingerprint())
    known = cache.get(key)
    if known is not None:
        triple, cpu, features, bits, masked = known.decode().split("\n")
        return Target(triple, cpu, features, int(bits), masked == "True")
    target = describe(os.environ.get("SYMTENSOR_CPU", "native"))
    cache.put(key, "\n".join(map(str, target)).encode())
    return target


def describe(cpu: str) -> Target:
    """The target for LLVM's processor name `cpu`; "native" is the machine itself. Loads LLVM."""
    from symtensor_codegen.llvm import jit

    llvm = jit.binding()
    triple = llvm.get_default_triple()
    if cpu != "native":
        return _observed(triple, cpu)
    cpu = llvm.get_host_cpu_name()
    try:
        features = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot read the features of some processors: their name must do
        return _observed(triple, cpu)
    present = frozenset(name for name, on in features.items() if on)
    spelled = ",".join(("+" if features[name] else "-") + name for name in sorted(features))
    if present >= _AVX512:
        # Some processors are tuned for 256-bit vectors; the emitter writes 512-bit ones on purpose.
        return Target(triple, cpu, spelled + ",-prefer-256-bit", 512, True)
    if "avx2" in present:
        return Target(triple, cpu, spelled, 256, True)
    return Target(triple, cpu, spelled, 128, False)


def _observed(triple: str, cpu: str) -> Target:
    """A target known by name only: its vector width is seen in the code LLVM writes for it."""
    from symtensor_codegen.llvm import jit

    bits = jit.widest_vector(triple, cpu)
    return Target(triple, cpu, "-prefer-256-bit" if bits == 512 else "", bits, masked_loads=bits >= 256)


@functools.cache
def fingerprint() -> str:
    """Digest of what object code depends on besides its source: LLVM, processor, run-time ABI."""
    import llvmlite  # only the version: LLVM itself is loaded by llvmlite.binding

    parts = [llvmlite.__version__, str(RUNTIME_ABI), sys.platform, platform.machine()]
    parts += [os.environ.get("SYMTENSOR_CPU", "native"), _processor_identity()]
    return cache.key(*parts)


def _processor_identity() -> str:
    """Text that differs between processors that need different code, read without loading LLVM on Linux."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as stream:
            first = stream.read(4096).split(b"\n\n")[0]
    except OSError:
        target = describe("native")
        return f"{target.triple} {target.cpu} {target.features}"
    wanted = (b"vendor_id", b"cpu family", b"model", b"stepping", b"flags", b"Features", b"CPU ")
    lines = [line for line in first.split(b"\n") if line.startswith(wanted)]
    return b"\n".join(lines).decode("ascii", "replace")
