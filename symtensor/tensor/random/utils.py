"""PyTensor's module of random streams (see ``symtensor.random``)."""

from symtensor.random import RandomStream

__all__ = ["RandomStream"]
