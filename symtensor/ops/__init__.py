"""The operations. Importing this package fills the table of records, ``symtensor.opdef.OPS``."""

from . import (
    casting,
    complex_numbers,
    elementwise,
    elementwise_bits,
    elementwise_floats,
    elementwise_math,
    elementwise_smooth,
    nnet,
    nnet_losses,
)

__all__ = [
    "casting", "complex_numbers", "elementwise", "elementwise_bits", "elementwise_floats", "elementwise_math",
    "elementwise_smooth", "nnet", "nnet_losses",
]  # fmt: skip
