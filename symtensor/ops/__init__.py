"""The operations. Importing this package fills the table of records, ``symtensor.opdef.OPS``."""

from . import (
    casting,
    complex_numbers,
    elementwise,
    elementwise_bits,
    elementwise_floats,
    elementwise_math,
    elementwise_smooth,
    indexing,
    linalg,
    nnet,
    nnet_losses,
    reduction,
    shaping,
)

__all__ = [
    "casting", "complex_numbers", "elementwise", "elementwise_bits", "elementwise_floats", "elementwise_math",
    "elementwise_smooth", "indexing", "linalg", "nnet", "nnet_losses", "reduction", "shaping",
]  # fmt: skip
