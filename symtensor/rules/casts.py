"""Changes of element type."""

from symtensor.graph import Tensor
from symtensor.rewrite.conditions import when
from symtensor.rewrite.pattern import Hole, Param
from symtensor.rewrite.rules import Rows, ruleset
from symtensor.rewrite.words import cast
from symtensor_codegen.dtypes import DType

_MANTISSA = {"float16": 11, "float32": 24, "float64": 53, "complex64": 24, "complex128": 53}


def _same(x: Tensor, element: DType) -> bool:
    return x.element is element


def _holds(x: Tensor, middle: DType) -> bool:
    """Whether every value of the type of ``x`` is a value of ``middle``."""
    element = x.element
    if element is middle or element.kind == "b":
        return True
    if middle.kind == "b" or (element.is_inexact and not middle.is_inexact):
        return False
    if element.is_complex and not middle.is_complex:
        return False
    if element.is_inexact:
        return _MANTISSA[element.name] <= _MANTISSA[middle.name]
    bits = element.bits - (element.kind == "i")
    if middle.is_inexact:
        return bits <= _MANTISSA[middle.name]
    if element.kind == "i" and middle.kind == "u":
        return False
    return bits <= middle.bits - (middle.kind == "i")


@ruleset
def casts(x: Hole, a: Param, b: Param) -> Rows:
    """Remove casts that change nothing, and those whose result is cast again without loss."""
    yield "cast_to_same", cast(x, dtype=a), x, when("x has type a", _same, x, a)
    yield (
        "cast_of_cast",
        cast(cast(x, dtype=a), dtype=b),
        cast(x, dtype=b),
        when("a holds every value of x", _holds, x, a),
    )
