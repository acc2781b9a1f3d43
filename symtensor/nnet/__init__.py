"""Layers, losses and training for neural networks, as functions over symbolic tensors.

Activations, softmax and cross-entropies are in ``symtensor.tensor.nnet``, as in Theano.
"""

from . import initial, updates
from .ctc import ctc_loss
from .decoding import ctc_beam_search, ctc_greedy_decode, edit_distance, label_error_rate
from .layers import GRU, LSTM, BatchNorm, Bidirectional, Dense, Layer, LayerNorm, SimpleRNN
from .normalisation import batch_norm, dropout, layer_norm
from .recurrent import bidirectional, gru, lstm, simple_rnn

__all__ = [
    "GRU", "LSTM", "BatchNorm", "Bidirectional", "Dense", "Layer", "LayerNorm", "SimpleRNN", "batch_norm",
    "bidirectional", "ctc_beam_search", "ctc_greedy_decode", "ctc_loss", "dropout", "edit_distance", "gru",
    "initial", "label_error_rate", "layer_norm", "lstm", "simple_rnn", "updates",
]  # fmt: skip
