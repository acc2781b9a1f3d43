"""symtensor: a symbolic tensor compiler with automatic differentiation, in Theano's user model."""

from . import ops as _ops
from .arguments import In, MissingInputError, Out, UnusedInputError, UpdateError
from .cloning import clone
from .compiled_function import Function
from .differentiation import Lop, Rop, grad
from .failures import NotFiniteError
from .functions import function
from .modes import Mode
from .settings import config
from .shared_variables import SharedVariable, shared

del _ops

__version__ = "0.1.0"

__all__ = [
    "Function", "In", "Lop", "MissingInputError", "Mode", "NotFiniteError", "Out", "Rop", "SharedVariable",
    "UnusedInputError", "UpdateError", "clone", "config", "function", "grad", "shared",
]  # fmt: skip
