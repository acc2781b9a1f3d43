"""A kernel's CUDA text made ready for g++: shared arrays get their memory from the run time, kernels an entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

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
    """What the run time must know of a kernel, and how to call it with arguments in a row."""
    name = found["name"]
    parameters = [_Parameter.of(p) for p in found["parameters"].split(",") if p.strip()]
    places, end = [], "0"
    for k, parameter in enumerate(parameters):
        places.append(f"shim_{name}_at{k} = SHIM_PLACE({end}, {parameter.type})")
        end = f"shim_{name}_at{k} + sizeof({parameter.type})"
    kinds = ", ".join(p.kind for p in parameters)
    names = ",".join(p.name for p in parameters)
    arguments = ", ".join(f"*({p.type}*)(from + shim_{name}_at{k})" for k, p in enumerate(parameters))
    restricted = sum(1 << k for k, p in enumerate(parameters) if p.restricted)
    return (
        f"enum {{ {', '.join(places)} }};\n"
        f"static const shim_parameter shim_{name}_kinds[] = {{{kinds}}};\n"
        f"SHIM_UNTRACKED static void shim_{name}_run(const char* from) {{ {name}({arguments}); }}\n"
        f'extern "C" const shim_kernel shim_kernel_{name};\n'
        f'const shim_kernel shim_kernel_{name} = {{"{name}", "{names}", shim_{name}_kinds, {len(parameters)}, '
        f"{found['threads'] or 0}, {restricted:#x}ull, shim_{name}_run}};\n"
    )


class _Parameter(NamedTuple):
    type: str
    name: str
    restricted: bool

    @classmethod
    def of(cls, text: str) -> _Parameter:
        restricted = "__restrict__" in text
        words = re.fullmatch(r"(.*?)(\w+)", text.replace("__restrict__", " ").strip(), re.DOTALL)
        assert words is not None, text
        return cls(" ".join(words[1].split()), words[2], restricted)

    @property
    def kind(self) -> str:
        """Its `shim_parameter`."""
        if not self.type.endswith("*"):
            return f"{{sizeof({self.type}), 0, 0, 0}}"
        pointee = self.type.removesuffix("*")
        return f"{{8, 1, {int('const' in pointee.split())}, sizeof({pointee})}}"
