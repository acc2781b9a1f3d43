"""Theano's module of random streams (see ``symtensor.random``)."""

from symtensor.random import RandomStateVariable as RandomStateSharedVariable
from symtensor.random import RandomStreams

__all__ = ["RandomStateSharedVariable", "RandomStreams"]
