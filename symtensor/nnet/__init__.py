"""Layers, losses and training for neural networks, as functions over symbolic tensors."""

from . import updates
from .ctc import ctc_loss
from .recurrent import bidirectional, gru, lstm, simple_rnn

__all__ = ["bidirectional", "ctc_loss", "gru", "lstm", "simple_rnn", "updates"]
