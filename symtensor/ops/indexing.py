"""Indexing: reading and replacing parts of tensors."""

from .creation_diagonal import alloc_diag, diag, diagonal, extract_diag
from .indexing_keys import getitem, inc_subtensor, set_subtensor
from .indexing_nonzero import argwhere, count_nonzero, flatnonzero, nonzero, nonzero_values
from .indexing_select import (
    choose,
    compress,
    extract,
    inverse_permutation,
    ix_,
    put,
    ravel_multi_index,
    take,
    take_along_axis,
    unravel_index,
)

__all__ = [
    "alloc_diag",
    "argwhere",
    "choose",
    "compress",
    "count_nonzero",
    "diag",
    "diagonal",
    "extract",
    "extract_diag",
    "flatnonzero",
    "getitem",
    "inc_subtensor",
    "inverse_permutation",
    "ix_",
    "nonzero",
    "nonzero_values",
    "put",
    "ravel_multi_index",
    "set_subtensor",
    "take",
    "take_along_axis",
    "unravel_index",
]
