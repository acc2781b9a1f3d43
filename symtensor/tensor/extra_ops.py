"""Theano's ``tensor.extra_ops``, gathered from ``symtensor.ops``."""

from symtensor.ops.creation import fill_diagonal, fill_diagonal_offset, to_one_hot
from symtensor.ops.cumulative import bincount, cumprod, cumsum, diff
from symtensor.ops.indexing import compress, ravel_multi_index, unravel_index
from symtensor.ops.joining import repeat
from symtensor.ops.shaping import broadcast_to, squeeze

__all__ = [
    "bincount", "broadcast_to", "compress", "cumprod", "cumsum", "diff", "fill_diagonal",
    "fill_diagonal_offset", "ravel_multi_index", "repeat", "squeeze", "to_one_hot", "unravel_index",
]  # fmt: skip
