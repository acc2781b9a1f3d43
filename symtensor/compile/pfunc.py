"""Theano's module of ``function`` and its parameters."""

from symtensor.arguments import In
from symtensor.arguments import In as Param
from symtensor.functions import function as pfunc
from symtensor.shared_variables import SharedVariable, shared

__all__ = ["In", "Param", "SharedVariable", "pfunc", "shared"]
