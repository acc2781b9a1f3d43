"""Indexing: reading and replacing parts of tensors."""

from .indexing_keys import getitem, inc_subtensor, set_subtensor
from .indexing_nonzero import argwhere, count_nonzero, flatnonzero, nonzero, nonzero_values

__all__ = [
    "argwhere",
    "count_nonzero",
    "flatnonzero",
    "getitem",
    "inc_subtensor",
    "nonzero",
    "nonzero_values",
    "set_subtensor",
]
