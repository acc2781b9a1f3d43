"""Tools of the people who work on ``symtensor_codegen.mathlib``: coefficients and measured accuracy."""
