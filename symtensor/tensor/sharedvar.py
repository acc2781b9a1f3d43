"""Theano's ``tensor.sharedvar``: shared variables."""

from symtensor.shared_variables import SharedVariable, shared
from symtensor.shared_variables import SharedVariable as TensorSharedVariable

__all__ = ["SharedVariable", "TensorSharedVariable", "shared"]
