"""symtensor: a symbolic tensor compiler with automatic differentiation, in Theano's user model."""

from . import ops as _ops
from .arguments import In, MissingInputError, Out, UnusedInputError
from .clone import clone
from .config import config
from .function import Function, function
from .grad import Lop, Rop, grad
from .shared import SharedVariable, shared

del _ops

__version__ = "0.1.0"

__all__ = [
    "Function", "In", "Lop", "MissingInputError", "Out", "Rop", "SharedVariable", "UnusedInputError", "clone", "config",
    "function", "grad", "shared",
]  # fmt: skip
