"""Theano's module of the settings."""

from symtensor.settings import config

__all__ = ["config"]
