"""The operations. Importing this package fills the table of records, ``symtensor.opdef.OPS``."""

from . import casting, elementwise, elementwise_bits, elementwise_math

__all__ = ["casting", "elementwise", "elementwise_bits", "elementwise_math"]
