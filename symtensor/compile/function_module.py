"""Theano's module of compiled functions."""

from symtensor.arguments import UnusedInputError
from symtensor.compiled_function import Function

__all__ = ["Function", "UnusedInputError"]
