"""Modes: how a function is compiled, and what is checked when it runs.

A mode is a record; ``function(mode=...)`` and ``config.mode`` take its name, in Theano's spelling too
(``"FAST_RUN"``, ``"DebugMode"``), or the record itself.
"""

from dataclasses import dataclass
from typing import Any, Literal

from symtensor_codegen.errors import UserError

from .settings import MODE_NAMES, MODES


class ModeError(UserError, ValueError):
    """There is no such mode."""


@dataclass(frozen=True, slots=True)
class ModeRecord:
    """How a function is compiled and run.

    ``runs``: ``"native"`` code; native code whose every value is compared with the ``"reference"``
    (``"debug"``) or looked through for NaN and infinity (``"nan_guard"``); or the reference alone. ``quick``
    leaves out the passes that only make code faster. ``nan``, ``inf`` and ``big`` (beyond 1e10) are what ``nan_guard``
    refuses.
    """

    name: str
    why: str
    runs: Literal["native", "debug", "nan_guard", "reference"] = "native"
    quick: bool = False
    nan: bool = True
    inf: bool = True
    big: bool = False


RECORDS = {
    record.name: record
    for record in (
        ModeRecord("fast_run", "every pass, native code"),
        ModeRecord(
            "fast_compile",
            "only the passes canonical and stability, native code: for large graphs that run a few times",
            quick=True,
        ),
        ModeRecord(
            "debug", "native code; every value of every stage is compared with the reference", "debug"
        ),
        ModeRecord(
            "nan_guard",
            "native code; the first expression that gives NaN or infinity is an error",
            "nan_guard",
        ),
        ModeRecord("reference", "nothing is compiled: NumPy, operation by operation", "reference"),
    )
}
assert tuple(RECORDS) == MODES


def mode_of(given: Any) -> ModeRecord:
    """The record of a mode given as a name or record.

    Raises:
        ModeError: there is none of this name.
    """
    if isinstance(given, ModeRecord):
        return given
    name = MODE_NAMES.get(given.lower()) if isinstance(given, str) else None
    if name is None:
        names = ", ".join(map(repr, RECORDS))
        raise ModeError(f"function: there is no mode {given!r}; the modes are {names}")
    return RECORDS[name]


# Theano's objects --------------------------------------------------------------------------------------


def Mode(linker: str | None = None, optimizer: str | None = "fast_run") -> ModeRecord:
    """Theano's pair of a linker and an optimizer; linker ``"py"`` is the reference mode, others are native.

    >>> Mode(linker="cvm", optimizer="fast_compile").name
    'fast_compile'
    """
    linkers = ("py", "c", "c|py", "c&py", "vm", "cvm", "vm_nogc", "cvm_nogc", "c|py_nogc")
    if linker is not None and linker not in linkers:
        raise ModeError(f"Mode: there is no linker {linker!r}; Theano's are {', '.join(map(repr, linkers))}")
    if optimizer not in (None, "None", "fast_compile", "fast_run", "merge"):
        raise ModeError(f"Mode: there is no optimizer {optimizer!r}; there are 'fast_run' and 'fast_compile'")
    if linker == "py":
        return RECORDS["reference"]
    return RECORDS["fast_run" if optimizer == "fast_run" else "fast_compile"]


def DebugMode(**options: Any) -> ModeRecord:
    """The mode ``debug``; Theano's options about its own checks are accepted and make no difference."""
    known = {
        "optimizer", "stability_patience", "check_c_code", "check_py_code", "check_isfinite",
        "check_preallocated_output", "require_matching_strides", "linker",
    }  # fmt: skip
    for option in options:
        if option not in known:
            raise TypeError(f"DebugMode has no option {option!r}; Theano's are {', '.join(sorted(known))}")
    return RECORDS["debug"]


def NanGuardMode(
    nan_is_error: bool = True, inf_is_error: bool = True, big_is_error: bool = True
) -> ModeRecord:
    """The mode ``nan_guard`` with a choice of what is refused; ``big_is_error``: beyond 1e10 in magnitude."""
    why = RECORDS["nan_guard"].why
    return ModeRecord("nan_guard", why, "nan_guard", nan=nan_is_error, inf=inf_is_error, big=big_is_error)
