"""Normalising what users pass: axes, sizes, element types."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from symtensor.graph import Tensor, as_tensor, constant
from symtensor.opdef import CONSTANT, OPS, Guard, describe, dim_of
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.scalar import Dim, Scalar

Sizes = tuple[int | None, ...]  # as a parameter of an op: None stands for the next size among its inputs


def as_element(value: Tensor, element: DType) -> Tensor:
    """The tensor converted to an element type; itself where it has that type."""
    return value if value.element is element else OPS["cast"].make(value, dtype=element)


def known_int(value: Any) -> int | None:
    """A Python or NumPy integer or a 0-d integer constant as an int; None for anything else."""
    if isinstance(value, Tensor):
        if value.op is CONSTANT and value.ndim == 0 and value.element.kind in "iu":
            return int(value.data)  # type: ignore[attr-defined]
        return None
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def normal_axis(name: str, axis: Any, ndim: int, *about: Tensor) -> int:
    """The axis, counted from the front.

    Raises:
        ShapeError: it is outside [-ndim, ndim).
        TypeError: it is not an integer known when the expression is built.
    """
    number = known_int(axis)
    if number is None:
        raise TypeError(
            f"{name}: the axis must be an integer known when the expression is built, not {axis!r}"
        )
    if not -ndim <= number < ndim:
        what = "; ".join(describe(x) for x in about)
        raise ShapeError(
            f"{name}: axis {number} is out of range for {ndim} axes" + (f": {what}" if what else "")
        )
    return number % ndim


def normal_axes(name: str, axis: Any, ndim: int, *about: Tensor) -> tuple[int, ...]:
    """Axes as a sorted tuple counted from the front; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    given: Iterable[Any]
    if isinstance(axis, (tuple, list)):
        given = axis
    elif isinstance(axis, np.ndarray) and axis.ndim == 1:
        given = axis.tolist()
    else:
        given = (axis,)
    axes = [normal_axis(name, a, ndim, *about) for a in given]
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: an axis is given twice in {axis!r}")
    return tuple(sorted(axes))


def sizes_of(name: str, shape: Any) -> list[int | Tensor]:
    """A shape argument as a list of ints and 0-d int64 expressions.

    Accepts a size, a sequence of sizes, an integer vector, or a vector expression of statically known length.
    """
    if isinstance(shape, Tensor):
        if shape.ndim == 0:
            return [_size(name, shape)]
        if shape.ndim != 1 or shape.type.shape[0] is None:
            raise ShapeError(
                f"{name}: a shape must have a statically known length, got {describe(shape)}; "
                "pass a tuple of sizes, or give ndim="
            )
        from .indexing import getitem

        return [_size(name, getitem(shape, k)) for k in range(shape.type.shape[0])]
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    if isinstance(shape, (tuple, list)):
        return [_size(name, size) for size in shape]
    return [_size(name, shape)]


def _size(name: str, size: Any) -> int | Tensor:
    number = known_int(size)
    if number is not None:
        return number
    if not isinstance(size, Tensor) or size.ndim != 0 or size.element.kind not in "iu":
        shown = describe(size) if isinstance(size, Tensor) else repr(size)
        raise DTypeError(f"{name}: a size must be an integer or an integer scalar expression, got {shown}")
    known = dim_of(size)
    return known if isinstance(known, int) else as_element(size, dtypes.int64)


def as_params(sizes: Sequence[int | Tensor]) -> tuple[Sizes, tuple[Tensor, ...]]:
    """Sizes as a parameter (ints, and None for an expression) and the expressions."""
    shape = tuple([None if isinstance(size, Tensor) else size for size in sizes])
    return shape, tuple([size for size in sizes if isinstance(size, Tensor)])


def param_dims(shape: Sizes, inputs: Sequence[Tensor]) -> list[Dim]:
    """The sizes that a parameter of ``as_params`` and its expressions stand for."""
    rest = iter(inputs)
    return [dim_of(next(rest)) if size is None else size for size in shape]


def param_values(shape: Sizes, values: Sequence[Any]) -> tuple[int, ...]:
    """As ``param_dims``, for NumPy references."""
    rest = iter(values)
    return tuple([int(next(rest)) if size is None else size for size in shape])


def same(a: Dim, b: Dim) -> bool:
    """Whether two sizes are known to be equal."""
    return a is b or (isinstance(a, int) and isinstance(b, int) and a == b)


def nonnegative(size: Dim) -> bool:
    """Whether a size or an offset is known not to be negative."""
    if isinstance(size, int):
        return size >= 0
    stack = [size]
    while stack:
        node = stack.pop()
        op = node.op
        if op is scalar.const_op:
            if node.param < 0:
                return False
        elif op is scalar.symbol_op:
            if not (isinstance(node.param, tuple) and node.param[0] == "dim"):
                return False
        elif op is scalar.maximum:
            if not any(a.op is scalar.const_op and a.param >= 0 for a in node.args):
                stack.extend(node.args)
        elif op in (scalar.add, scalar.mul, scalar.minimum, scalar.floordiv, scalar.mod):
            stack.extend(node.args)
        else:
            return False
    return True


def size_guards(name: str, node: Tensor, sizes: Iterable[Dim]) -> list[Guard]:
    """Guards that sizes given by values are not negative."""
    return [
        Guard(scalar.ge(size, 0), f"{name}: a size is negative: {{0}}", (size,))
        for size in sizes
        if isinstance(size, Scalar) and not nonnegative(size)
    ]


def equal_guard(message: str, a: Dim, b: Dim) -> list[Guard]:
    """A guard that two sizes are equal; none where that is known."""
    if same(a, b):
        return []
    return [Guard(scalar.eq(scalar.as_int(a), scalar.as_int(b)), message, (a, b))]


def int64(value: int) -> Tensor:
    """An int64 constant."""
    return constant(np.asarray(value, np.int64))


def as_size_tensor(size: int | Tensor) -> Tensor:
    """A size as a 0-d int64 expression."""
    return int64(size) if isinstance(size, int) else as_element(as_tensor(size), dtypes.int64)
