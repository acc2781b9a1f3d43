"""Common element types of operands: NumPy 2's rule with weak Python numbers, or Theano's."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError

from .graph import Tensor
from .settings import config


def common_type(
    values: Sequence[Any],
    *,
    integer: str = "keep",
    arithmetic: bool = False,
    counting: bool = False,
    name: str = "",
) -> DType:
    """The element type in which an operation on ``values`` (tensors, arrays, Python numbers) is computed.

    ``integer="float"``: integers and bools count as floating point (NumPy's rule: int8 and bool as float16,
    int16 as float32, wider ones as float64; Theano's: their common type, int8 as float32, others float64).
    ``"quotient"``: as float64; as floatX under Theano's policy. ``arithmetic``: under Theano's policy bools
    count as int8; ``counting``: under both.

    Raises:
        DTypeError: a value is not numeric, or a Python integer does not fit the type of the tensors it meets.
    """
    theano = config.cast_policy == "theano"
    common: DType | None = None
    weak: type[Any] | None = None
    elements: list[DType] = []
    for value in values:
        if isinstance(value, Tensor):
            element = value.element
        elif type(value) in _WEAK and not theano:
            if weak is None or _WEAK[type(value)] > _WEAK[weak]:
                weak = type(value)
            continue
        else:
            element = literal_type(value) if theano else dtypes.of(np.asarray(value).dtype)
        elements.append(element)
        common = element if common is None else dtypes.promote(common, element)
    if common is None:
        common = {bool: dtypes.bool_, int: dtypes.int64, float: _floatx(), complex: dtypes.complex128}[
            weak or float
        ]
    elif weak is not None:
        common = _weakly(common, weak, values, name)
    if (counting or (arithmetic and theano)) and common is dtypes.bool_:
        common = dtypes.int8
    if integer != "keep" and not common.is_inexact:
        if integer == "quotient":
            return _floatx() if theano else dtypes.float64
        if theano or weak is not None or not elements:
            return float_of(common)
        return reduce(dtypes.promote, [float_of(element) for element in elements])
    return common


_WEAK = {bool: 0, int: 1, float: 2, complex: 3}


def _floatx() -> DType:
    return dtypes.of(config.floatX)


def float_of(element: DType) -> DType:
    """The floating-point type in which functions of integers are computed."""
    if config.cast_policy == "theano":
        return dtypes.float32 if element.itemsize == 1 else dtypes.float64
    if element.itemsize == 1:
        return dtypes.float16
    return dtypes.float32 if element.itemsize == 2 else dtypes.float64


def _weakly(common: DType, weak: type, values: Sequence[Any], name: str) -> DType:
    if weak is float and not common.is_inexact:
        return dtypes.float64
    if weak is complex and not common.is_complex:
        return dtypes.complex128 if common.itemsize > 4 or not common.is_inexact else dtypes.complex64
    if weak is int and common is dtypes.bool_:
        return dtypes.int64
    if common.is_integer:
        limits = np.iinfo(common.numpy)
        for value in values:
            if type(value) is int and not limits.min <= value <= limits.max:
                raise DTypeError(f"{name}: Python integer {value} is out of bounds for {common}")
    return common


def literal_type(value: Any) -> DType:
    """Theano's element type of a literal.

    Integers take the smallest signed type that holds them, bools int8; floats take floatX where that is
    float32 or float16, else float32 where that holds them exactly. NumPy's scalars, arrays and lists keep
    their own type.
    """
    if type(value) is bool:
        return dtypes.int8
    if type(value) is int:
        for element in (dtypes.int8, dtypes.int16, dtypes.int32):
            limits = np.iinfo(element.numpy)
            if limits.min <= value <= limits.max:
                return element
        return dtypes.int64
    if type(value) is float:
        if config.floatX == "float64" and float(np.float32(value)) == value:
            return dtypes.float32
        return _floatx()
    return dtypes.of(np.asarray(value).dtype)
