"""Aesara's ``tensor.nnet.basic``: every name of ``symtensor.tensor.nnet``."""

from symtensor.tensor import nnet as gathered
from symtensor.tensor.nnet import *  # noqa: F403

__all__ = list(gathered.__all__)
