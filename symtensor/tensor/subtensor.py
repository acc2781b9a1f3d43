"""Theano's ``tensor.subtensor``: parts of tensors."""

from symtensor.ops.indexing import inc_subtensor, set_subtensor, take

__all__ = ["inc_subtensor", "set_subtensor", "take"]
