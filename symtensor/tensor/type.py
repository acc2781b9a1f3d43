"""Theano's ``tensor.type``: types of tensors."""

from symtensor.types import TensorType

__all__ = ["TensorType"]
