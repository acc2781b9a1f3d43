"""symtensor: a symbolic tensor compiler with automatic differentiation, in Theano's user model."""

from . import compile, gof, gradient, nnet, printing, scalar, scan_module, tensor
from . import ops as _ops
from .apply import Apply
from .arguments import In, MissingInputError, Out, UnusedInputError, UpdateError
from .cloning import clone
from .compiled_function import Function
from .differentiation import Lop, Rop, grad
from .failures import NotFiniteError
from .functions import function
from .graph import Constant
from .graph import Tensor as Variable
from .ifelse import case, cond
from .loops import associative_scan, checkpoint, foldl, foldr, fori_loop, scan, scan_checkpoints, while_loop
from .loops import map as map  # a star import keeps the built-in map
from .loops import reduce as reduce
from .misc.safe_asarray import _asarray
from .modes import Mode
from .printing import pp
from .settings import config
from .shared_variables import SharedVariable, shared
from .tensor import dot

del _ops

__version__ = "0.1.0"

__all__ = [
    "compile", "gof", "gradient", "nnet", "printing", "scalar", "scan_module", "tensor", "_asarray", "Apply",
    "Constant",
    "Function", "In", "Lop", "MissingInputError", "Mode", "NotFiniteError", "Out", "Rop", "SharedVariable",
    "UnusedInputError", "UpdateError", "Variable", "associative_scan", "case", "checkpoint", "clone", "cond",
    "config", "dot", "foldl", "foldr", "fori_loop", "function", "grad", "pp", "scan", "scan_checkpoints", "shared",
    "while_loop",
]  # fmt: skip
