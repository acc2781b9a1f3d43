"""Theano's ``tensor.var``: what expressions are instances of."""

from symtensor.graph import Constant as TensorConstant
from symtensor.graph import Tensor as TensorVariable
from symtensor.shared_variables import SharedVariable as TensorSharedVariable

__all__ = ["TensorConstant", "TensorSharedVariable", "TensorVariable"]
