"""Theano's ``sandbox``: old places of modules that programs import from."""

from . import rng_mrg

__all__ = ["rng_mrg"]
