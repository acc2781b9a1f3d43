"""Loops over steps: ``scan`` and what is made of it."""

from .scan import scan
from .steps import ScanError, until

__all__ = ["ScanError", "scan", "until"]
