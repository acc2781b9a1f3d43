"""Theano's module of the mode that refuses NaN and infinity."""

from symtensor.modes import NanGuardMode

__all__ = ["NanGuardMode"]
