"""A kernel's CUDA text made ready for g++: shared arrays get their memory from the run time, kernels an entry."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["host_text", "kernel_names"]

_SHARED = re.compile(
    r"__shared__\s+(?P<type>[^;\[\]\n]*?[\w>)])\s+(?P<name>\w+)\s*(?P<sizes>(?:\[[^\]\n]*\]\s*)*);"
)
_KERNEL = re.compile(
    r"__global__\s+(?:(?:void|__launch_bounds__\s*\(\s*(?P<threads>\d+)[^)]*\))\s+)*"
    r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)\s*\{"
)


def kernel_names(source: str) -> list[str]:
    """The names of the kernels which this text defines."""
    return [found["name"] for found in _KERNEL.finditer(source)]


def host_text(sources: Sequence[tuple[str, str]]) -> str:
    """One translation unit of these texts, given with their symbols; each has a name space of its own.

    Lines keep their numbers within each text, so that reports name them.
    """
    parts = []
    for position, (source, symbol) in enumerate(sources):
        body = _SHARED.sub(_shared_array, source)
        if "__shared__" in re.sub(r"//[^\n]*|/\*.*?\*/", "", body, flags=re.DOTALL):
            raise ValueError(f"{symbol}: a declaration of a shared array that the host does not understand")
        entries = "".join(_entry(found) for found in _KERNEL.finditer(source))
        parts.append(f'namespace shim_text_{position} {{\n#line 1 "{symbol}"\n{body}\n{entries}}}\n')
    return "".join(parts)


def _shared_array(found: re.Match[str]) -> str:
    return f"SHIM_SHARED({found['type']}, {found['name']}, {found['sizes'].strip()});"


def _entry(found: re.Match[str]) -> str:
    """What `shim_launch` must know of a kernel: its parameters' names and promises; their types g++ finds itself."""
    parameters = [p.strip() for p in found["parameters"].split(",") if p.strip()]
    names = [re.findall(r"\w+", p)[-1] for p in parameters]
    restricted = sum(1 << k for k, p in enumerate(parameters) if "__restrict__" in p)
    threads = found["threads"] or "0"
    return f'SHIM_KERNEL({found["name"]}, "{",".join(names)}", {restricted:#x}ull, {threads});\n'
