"""PyTensor's namespace of random variables (see ``symtensor.random``)."""

from .utils import RandomStream

__all__ = ["RandomStream"]
