"""Products of vectors, matrices and higher arrays, and sums of products in Einstein's notation."""

from .einsum import einsum
from .linalg_products import (
    BATCHED_DOT,
    DOT,
    batched_dot,
    batched_tensordot,
    dot,
    inner,
    kron,
    matmul,
    matvec,
    outer,
    tensordot,
    trace,
    vdot,
    vecdot,
    vecmat,
)

__all__ = [
    "BATCHED_DOT",
    "DOT",
    "batched_dot",
    "batched_tensordot",
    "dot",
    "einsum",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]
