"""Loops over steps: ``scan`` and what is made of it."""

from .checkpoints import checkpoint, scan_checkpoints
from .forms import associative_scan, foldl, foldr, fori_loop, map, reduce, while_loop
from .scan import scan
from .steps import ScanError, until

__all__ = [
    "ScanError", "associative_scan", "checkpoint", "foldl", "foldr", "fori_loop", "map", "reduce", "scan",
    "scan_checkpoints", "until", "while_loop",
]  # fmt: skip
