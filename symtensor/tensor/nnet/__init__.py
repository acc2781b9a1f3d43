"""Theano's ``tensor.nnet``: activations, softmax and cross-entropies, gathered from ``symtensor.ops``."""

from symtensor.ops.elementwise_smooth import sigmoid, softplus
from symtensor.ops.nnet import (
    elu,
    gelu,
    hard_sigmoid,
    log_softmax,
    logsoftmax,
    relu,
    selu,
    silu,
    softmax,
    softmax_with_bias,
    softsign,
    ultra_fast_sigmoid,
)
from symtensor.ops.nnet_losses import (
    binary_crossentropy,
    categorical_crossentropy,
    crossentropy_categorical_1hot,
    crossentropy_softmax_1hot,
    crossentropy_softmax_1hot_with_bias,
    crossentropy_softmax_argmax_1hot_with_bias,
    crossentropy_softmax_max_and_argmax_1hot,
    crossentropy_softmax_max_and_argmax_1hot_with_bias,
    h_softmax,
    prepend_0_to_each_row,
    prepend_1_to_each_row,
    prepend_scalar_to_each_row,
    sigmoid_binary_crossentropy,
)

from . import bn

__all__ = [
    "binary_crossentropy", "bn", "categorical_crossentropy", "crossentropy_categorical_1hot",
    "crossentropy_softmax_1hot", "crossentropy_softmax_1hot_with_bias",
    "crossentropy_softmax_argmax_1hot_with_bias", "crossentropy_softmax_max_and_argmax_1hot",
    "crossentropy_softmax_max_and_argmax_1hot_with_bias", "elu", "gelu", "h_softmax", "hard_sigmoid",
    "log_softmax", "logsoftmax", "prepend_0_to_each_row", "prepend_1_to_each_row",
    "prepend_scalar_to_each_row", "relu", "selu", "sigmoid", "sigmoid_binary_crossentropy", "silu",
    "softmax", "softmax_with_bias", "softplus", "softsign", "ultra_fast_sigmoid",
]  # fmt: skip

from . import nnet, sigm

__all__ += ["nnet", "sigm"]
