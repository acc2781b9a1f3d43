"""Theano's namespace of graphs."""

from symtensor.apply import Apply
from symtensor.arguments import MissingInputError
from symtensor.graph import Constant
from symtensor.graph import Tensor as Variable

from . import graph

__all__ = ["Apply", "Constant", "MissingInputError", "Variable", "graph"]
