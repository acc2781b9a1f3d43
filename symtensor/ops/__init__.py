"""The operations. Importing this package fills the table of records, ``symtensor.opdef.OPS``."""

from . import (
    barriers,
    branch_records,
    casting,
    complex_numbers,
    creation,
    ctc_states,
    cumulative,
    elementwise,
    elementwise_bits,
    elementwise_compare,
    elementwise_floats,
    elementwise_math,
    elementwise_pieces,
    elementwise_smooth,
    indexing,
    joining,
    joining_gaps,
    linalg,
    loop_records,
    nnet,
    nnet_losses,
    printed,
    random_counts,
    random_draws,
    reduction,
    shaping,
)

__all__ = [
    "barriers", "branch_records", "casting", "complex_numbers", "creation", "ctc_states", "cumulative",
    "elementwise", "elementwise_bits", "elementwise_compare", "elementwise_floats", "elementwise_math",
    "elementwise_pieces", "elementwise_smooth", "indexing", "joining", "joining_gaps", "linalg", "loop_records",
    "nnet", "nnet_losses", "printed", "random_counts", "random_draws", "reduction", "shaping",
]  # fmt: skip
