"""``SYMTENSOR_DUMP``: stages of the compiler, written out for every function that is compiled.

``SYMTENSOR_DUMP=stability,llvm`` prints these stages to standard error; with ``SYMTENSOR_DUMP_DIR`` each goes
to a file of its own in that folder, ``<number>-<function>.<stage>``.
"""

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .devices import CPU
from .pipeline import FAST_MATH, GRAPH_PASSES
from .settings import ConfigError

if TYPE_CHECKING:
    from .compiled_function import Function

VARIABLE, FOLDER_VARIABLE = "SYMTENSOR_DUMP", "SYMTENSOR_DUMP_DIR"
SOURCES = ("loops", "program", "llvm", "asm", "cuda", "ptx", "sass")
REPORTS: dict[str, Callable[["Function"], str]] = {
    "explain": lambda f: f.explain(),
    "memory": lambda f: f.memory,
}
STAGES = ("graph", *(step.name for step in (*GRAPH_PASSES, FAST_MATH)))

_numbers = itertools.count(1)


def dump(function: "Function") -> None:
    """Write the stages that the environment asks for.

    Raises:
        ConfigError: it asks for a stage that does not exist.
    """
    asked = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if not asked or function.definition.mode.runs == "reference":
        return
    for name in asked:
        if name not in (*STAGES, *SOURCES, *REPORTS):
            raise ConfigError(
                f"{VARIABLE}: there is no {name!r}; there are {', '.join((*STAGES, *SOURCES, *REPORTS))}"
            )
    number = next(_numbers)
    folder = os.environ.get(FOLDER_VARIABLE)
    for name in asked:
        text = _text(function, name)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, f"{number}-{function.name}.{name}").write_text(text + "\n")
        else:
            sys.stderr.write(f"=== {function.name}: {name}\n{text}\n\n")


def _text(function: "Function", name: str) -> str:
    if name in SOURCES:
        if name in SOURCES[2:] and (name in SOURCES[4:]) is (function.device == CPU):
            return f"(no {name} of a function on {function.device})"
        return function.source(name)
    if name in REPORTS:
        return REPORTS[name](function)
    return function.stages.get(name, f"(mode {function.mode} leaves this pass out)")
