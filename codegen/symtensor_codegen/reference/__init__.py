"""The meaning of kernels, spelled out in plain Python: slow, obvious, and what the emitters are tested against."""

from symtensor_codegen.reference.interpreter import run_kernel

__all__ = ["run_kernel"]
