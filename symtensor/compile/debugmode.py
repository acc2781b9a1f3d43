"""Theano's module of the mode that checks compiled code."""

from symtensor.modes import DebugMode

__all__ = ["DebugMode"]
