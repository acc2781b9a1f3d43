"""Theano's ``tensor.basic``: every name of ``symtensor.tensor``."""

from symtensor import tensor as gathered
from symtensor.tensor import *  # noqa: F403

__all__ = list(gathered.__all__)
