"""Comparisons, exact for every pair of types as in NumPy 2."""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import Domain, Gradients, OpDef, elementwise, promoted
from symtensor.settings import config
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.scalar import Scalar

from .casting import cast
from .gradient_parts import zeros


def _bool(common: DType) -> DType:
    return dtypes.bool_


def _no_slope(g: Tensor, *inputs_and_out: Tensor) -> Gradients:
    return (zeros(g),) * (len(inputs_and_out) - 1)


def _exact(compare: Callable[..., Scalar]) -> Callable[[Scalar, Scalar], Scalar]:
    """A comparison that also takes a signed and an unsigned integer, which have no common integer type."""

    def meaning(a: Scalar, b: Scalar) -> Scalar:
        if a.dtype is b.dtype:
            return compare(a, b)
        smaller, larger = scalar.const(0, dtypes.int8), scalar.const(1, dtypes.int8)
        if a.dtype.kind == "i":
            return scalar.select(scalar.lt(a, 0), compare(smaller, larger), compare(scalar.cast(a, b.dtype), b))
        return scalar.select(scalar.lt(b, 0), compare(larger, smaller), compare(a, scalar.cast(b, a.dtype)))

    return meaning


def _compared(op: OpDef, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
    """Operands in a type in which the answer is exact, as in NumPy 2.

    A Python integer outside of the range of the tensor it is compared with is 1 above zeros or below them;
    a signed and an unsigned tensor keep their signs, in 64 bits.
    """
    beyond = _out_of_range(values)
    if beyond is not None:
        return beyond
    kinds = [_strong_kind(value) for value in values]
    if sorted(kinds) == ["i", "u"]:
        wide = {"i": dtypes.int64, "u": dtypes.uint64}
        one, two = [as_tensor(value) for value in values]
        if not dtypes.promote(one.element, two.element).is_integer:
            return cast(one, wide[one.element.kind]), cast(two, wide[two.element.kind])
    return promoted(values, name=op.name)


def _strong_kind(value: TensorLike) -> str:
    if isinstance(value, Tensor):
        return value.element.kind
    return value.dtype.kind if isinstance(value, (np.ndarray, np.generic)) else ""


def _out_of_range(values: tuple[TensorLike, ...]) -> tuple[Tensor, ...] | None:
    number = next((value for value in values if type(value) is int), None)
    other = next((value for value in values if isinstance(value, Tensor)), None)
    if number is None or other is None or other.element.is_inexact or config.cast_policy == "theano":
        return None
    limits = np.iinfo(np.int64 if other.element is dtypes.bool_ else other.element.numpy)
    if limits.min <= number <= limits.max:
        return None
    from .creation import zeros_like

    side = constant(1 if number > 0 else -1, dtypes.int8)
    level = zeros_like(other, "int8")
    return (side, level) if values[0] is number else (level, side)


def _comparison(name: str, doc: str, compare: Any, numpy: Any, accepts: str) -> OpDef:
    return elementwise(
        name,
        doc=doc,
        arity=2,
        scalar=_exact(compare),
        numpy=numpy,
        convert=_compared,
        result=_bool,
        accepts=accepts,
        gradient=_no_slope,
        domains=(Domain(-2, 2), Domain(-2, 2)),
    )


eq: OpDef = _comparison("eq", "Whether two values are equal (bool).", scalar.eq, np.equal, "biufc")
neq = _comparison("neq", "Whether two values differ (bool).", scalar.ne, np.not_equal, "biufc")
lt = _comparison("lt", "Whether a is less than b (bool).", scalar.lt, np.less, "biuf")
le: OpDef = _comparison("le", "Whether a is at most b (bool).", scalar.le, np.less_equal, "biuf")
gt = _comparison("gt", "Whether a is greater than b (bool).", scalar.gt, np.greater, "biuf")
ge: OpDef = _comparison("ge", "Whether a is at least b (bool).", scalar.ge, np.greater_equal, "biuf")
