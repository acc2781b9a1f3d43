"""Layers, losses and training for neural networks, as functions over symbolic tensors."""

from . import updates
from .recurrent import bidirectional, gru, lstm, simple_rnn

__all__ = ["bidirectional", "gru", "lstm", "simple_rnn", "updates"]
