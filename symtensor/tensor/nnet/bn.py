"""Theano's ``tensor.nnet.bn``: batch normalisation."""

from symtensor.ops.batch_normalization import (
    batch_normalization,
    batch_normalization_test,
    batch_normalization_train,
)

__all__ = ["batch_normalization", "batch_normalization_test", "batch_normalization_train"]
