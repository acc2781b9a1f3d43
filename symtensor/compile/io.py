"""Theano's module of the inputs and outputs of functions."""

from symtensor.arguments import In, Out

SymbolicInput, SymbolicOutput = In, Out


__all__ = ["In", "Out", "SymbolicInput", "SymbolicOutput"]
