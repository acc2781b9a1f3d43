"""Theano's module of fast random streams (see ``symtensor.random``)."""

from symtensor.random import MRG_RandomStreams

MRG_RandomStream = MRG_RandomStreams

__all__ = ["MRG_RandomStream", "MRG_RandomStreams"]
