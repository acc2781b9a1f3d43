"""Loops under the names of Theano's programs: ``from symtensor.scan_module import until``."""

from symtensor.loops import foldl, foldr, map, reduce, scan, scan_checkpoints, until

__all__ = ["foldl", "foldr", "map", "reduce", "scan", "scan_checkpoints", "until"]
