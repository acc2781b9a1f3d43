"""Indexing: reading and replacing parts of tensors."""

from .creation_diagonal import alloc_diag, diag, diagonal, extract_diag
from .indexing_keys import getitem, inc_subtensor, set_subtensor
from .indexing_nonzero import argwhere, count_nonzero, flatnonzero, nonzero, nonzero_values

__all__ = [
    "alloc_diag",
    "argwhere",
    "count_nonzero",
    "diag",
    "diagonal",
    "extract_diag",
    "flatnonzero",
    "getitem",
    "inc_subtensor",
    "nonzero",
    "nonzero_values",
    "set_subtensor",
]
