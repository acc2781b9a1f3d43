"""Theano's module of shared variables."""

from symtensor.shared_variables import SharedVariable, shared

__all__ = ["SharedVariable", "shared"]
