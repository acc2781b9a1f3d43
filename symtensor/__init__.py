"""symtensor: a symbolic tensor compiler with automatic differentiation, in Theano's user model."""

from . import ops as _ops
from .arguments import In, MissingInputError, Out, UnusedInputError
from .cloning import clone
from .settings import config
from .functions import Function, function
from .differentiation import Lop, Rop, grad
from .shared_variables import SharedVariable, shared

del _ops

__version__ = "0.1.0"

__all__ = [
    "Function", "In", "Lop", "MissingInputError", "Out", "Rop", "SharedVariable", "UnusedInputError", "clone", "config",
    "function", "grad", "shared",
]  # fmt: skip
