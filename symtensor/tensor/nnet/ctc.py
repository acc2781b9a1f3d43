"""Theano's ``tensor.nnet.ctc``: connectionist temporal classification under the name and rules of its wrapper."""

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.nnet import ctc_loss


def ctc(activations: TensorLike, labels: TensorLike, input_lengths: TensorLike) -> Tensor:
    """The losses (B,) of activations (T, B, C) before the softmax; class 0 is the blank.

    ``labels`` (B, L) are padded with negative numbers; ``input_lengths`` are (B,). (``symtensor.nnet.ctc_loss`` has
    the options.)
    """
    rows = as_tensor(labels)
    return ctc_loss(activations, rows, input_lengths, T.sum(T.cast(T.ge(rows, 0), "int64"), axis=1))


__all__ = ["ctc"]
