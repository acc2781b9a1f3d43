"""Theano's ``tensor.nnet.sigm``: sigmoids."""

from symtensor.ops.elementwise_smooth import sigmoid, softplus
from symtensor.ops.nnet import hard_sigmoid, ultra_fast_sigmoid

__all__ = ["hard_sigmoid", "sigmoid", "softplus", "ultra_fast_sigmoid"]
