"""Theano's module of helpers for loops, as far as programs import from it."""

from symtensor.cloning import clone
from symtensor.loops.steps import until

__all__ = ["clone", "until"]
