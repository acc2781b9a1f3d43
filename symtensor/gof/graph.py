"""Theano's functions that walk graphs."""

from symtensor.apply import (
    Apply,
    ancestors,
    equal_computations,
    explicit_inputs,
    inputs,
    io_toposort,
    is_same_graph,
    owner,
)
from symtensor.cloning import clone
from symtensor.graph import Constant
from symtensor.graph import Tensor as Variable

__all__ = [
    "Apply", "Constant", "Variable", "ancestors", "clone", "equal_computations", "explicit_inputs", "inputs",
    "io_toposort", "is_same_graph", "owner",
]  # fmt: skip
