"""Theano's namespace of element types: what their common type is."""

from typing import Any

from symtensor_codegen import dtypes


def upcast(*names: Any) -> str:
    """The name of the type that elements of all these types fit into, as in a sum of tensors.

    >>> upcast("int8", "float32")
    'float32'
    """
    if not names:
        raise TypeError("upcast takes at least one element type")
    common = dtypes.of(names[0])
    for name in names[1:]:
        common = dtypes.promote(common, dtypes.of(name))
    return common.name


__all__ = ["upcast"]
