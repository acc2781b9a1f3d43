"""Theano's namespace of ``function`` and modes: ``symtensor.compile.mode``, ``.nanguardmode``, ``.debugmode``."""

from symtensor.arguments import In, Out
from symtensor.compile.debugmode import DebugMode
from symtensor.compile.mode import Mode, get_default_mode, get_mode
from symtensor.compile.nanguardmode import NanGuardMode
from symtensor.compiled_function import Function
from symtensor.functions import function
from symtensor.shared_variables import SharedVariable, shared

__all__ = [
    "DebugMode", "Function", "In", "Mode", "NanGuardMode", "Out", "SharedVariable", "function", "get_default_mode",
    "get_mode", "shared",
]  # fmt: skip
