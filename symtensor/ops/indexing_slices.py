"""Slices of symbolic sizes: where one begins and how long it is, in forms that make equal lengths one object.

``x[1:]`` and ``x[:-1]`` both have ``max(n - 1, 0)`` elements, so their sum needs no check when it runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from symtensor.graph import Tensor
from symtensor.opdef import dim_of
from symtensor_codegen import scalar
from symtensor_codegen.scalar import Dim, Scalar

from .arguments import nonnegative, same

# In parameters: an int, None (left out), or ("in", k): the value of integer input number k.
Bound = int | tuple[str, int] | None
# ("slice", start, stop, step), ("index", position), ("array", k) or ("newaxis",)
Item = tuple[Any, ...]


class Stretch(NamedTuple):
    """Elements ``first + step * i`` for ``length`` values of i; ``to_end``: the last is that of the axis."""

    first: Dim
    length: Dim
    step: Dim
    to_end: bool = False


def bound(value: object, integers: Sequence[Tensor]) -> Dim | None:
    """A bound from an op's parameters as a size."""
    if isinstance(value, tuple):
        return dim_of(integers[value[1]])
    assert value is None or isinstance(value, int)
    return value


def stretch(item: Item, extent: Dim, integers: Sequence[Tensor]) -> Stretch:
    """What a slice of an axis of size ``extent`` covers, by Python's rules (bounds are clipped)."""
    start, stop, step = (bound(b, integers) for b in item[1:])
    step = 1 if step is None else step
    known = all(b is None or isinstance(b, int) for b in (start, stop, step, extent))
    if known:
        first, last, stride = slice(start, stop, step).indices(extent)  # type: ignore[arg-type]
        length = len(range(first, last, stride))
        return Stretch(first, length, stride, stride == 1 and last == extent)
    if isinstance(step, int):
        return _forward(extent, start, stop, step) if step > 0 else _backward(extent, start, stop, step)
    up, down = _forward(extent, start, stop, 1), _backward(extent, start, stop, -1)
    rising = scalar.gt(step, 0)
    magnitude = scalar.maximum(scalar.abs_(step), 1)
    span = scalar.select(rising, scalar.as_int(up.length), scalar.as_int(down.length))
    first_ = scalar.select(rising, scalar.as_int(up.first), scalar.as_int(down.first))
    return Stretch(first_, (span + (magnitude - 1)) // magnitude, step)


def _forward(n: Dim, start: Dim | None, stop: Dim | None, step: int) -> Stretch:
    first, length, to_end = _span(n, 0 if start is None else start, stop)
    if step > 1:
        length = step_count(length, step)
    return Stretch(first, length, step, to_end and step == 1)


def step_count(length: Dim, step: int) -> Dim:
    """How many steps begin within ``length`` elements."""
    return scalar.as_dim((scalar.as_int(length) + (step - 1)) // step)


def _span(n: Dim, start: Dim, stop: Dim | None) -> tuple[Dim, Dim, bool]:
    """First element, length and whether it goes to the end, of the slice ``start:stop``."""
    back = _from_end(stop)
    if nonnegative(start):  # need not be clipped: beyond the end the length is 0
        if stop is None:
            return start, dropped(n, start), True
        if back is not None:
            return start, dropped(n, scalar.as_dim(scalar.as_int(start) + back)), False
        end = _clipped(n, stop)
        return start, end if same(start, 0) else dropped(end, start), False
    from_end = _from_end(start)
    if from_end is not None and stop is None:
        return dropped(n, from_end), _least(from_end, n), True
    first = dropped(n, from_end) if from_end is not None else _clipped(n, start)
    end = n if stop is None else dropped(n, back) if back is not None else _clipped(n, stop)
    return first, dropped(end, first), stop is None


def _from_end(value: Dim | None) -> int | None:
    return -value if isinstance(value, int) and value < 0 else None


def _least(a: Dim, b: Dim) -> Dim:
    (base, more), (other, further) = _parts(a), _parts(b)
    if base is other:  # so it is for windows x[k : k + n] of an array padded to n + c
        return a if more <= further else b
    return scalar.as_dim(scalar.minimum(scalar.as_int(a), scalar.as_int(b)))


def _parts(size: Dim) -> tuple[Scalar | None, int]:
    """What a size is the sum of: an expression, and a number."""
    if isinstance(size, int):
        return None, size
    if size.op is scalar.add:
        left, right = size.args
        if right.op is scalar.const_op:
            return left, right.param
    return size, 0


def _clipped(n: Dim, position: Dim) -> Dim:
    """A slice bound counted from the front, in [0, n]."""
    if nonnegative(position):
        return _least(position, n)
    p, size = scalar.as_int(position), scalar.as_int(n)
    wrapped = scalar.select(scalar.lt(p, 0), p + size, p)
    return scalar.as_dim(scalar.minimum(scalar.maximum(wrapped, 0), size))


def dropped(n: Dim, count: Dim) -> Dim:
    """``max(n - count, 0)``: what remains of ``n`` elements without the first ``count``."""
    if same(count, 0):
        return n
    if same(n, count):
        return 0
    if isinstance(count, int) and isinstance(n, Scalar) and n.op is scalar.maximum:
        inner, floor = n.args  # max(max(m - c, 0) - count, 0) = max(m - (c + count), 0)
        if floor.op is scalar.const_op and floor.param == 0 and inner.op is scalar.add:
            taken = inner.args[1]
            if count >= 0 and taken.op is scalar.const_op and taken.param < 0:
                return dropped(scalar.as_dim(inner.args[0]), count - taken.param)
    rest = scalar.as_dim(scalar.as_int(n) - scalar.as_int(count))
    if isinstance(rest, int):
        return max(rest, 0)
    return rest if nonnegative(rest) else scalar.maximum(rest, 0)


def _backward(n: Dim, start: Dim | None, stop: Dim | None, step: int) -> Stretch:
    last = scalar.as_int(n) - 1
    first = last if start is None else _clipped_back(n, start)
    end = scalar.as_int(-1) if stop is None else _clipped_back(n, stop)
    length: Dim
    if start is None and stop is None:
        length = n
    else:
        length = (
            dropped(scalar.as_dim(first), scalar.as_dim(end))
            if stop is not None
            else scalar.as_dim(first + 1)
        )
    if step < -1:
        length = step_count(length, -step)
    return Stretch(scalar.as_dim(first), length, step)


def _clipped_back(n: Dim, position: Dim) -> Scalar:
    """A bound of a falling slice, in [-1, n - 1]."""
    p, size = scalar.as_int(position), scalar.as_int(n)
    wrapped = p
    if not nonnegative(position):
        wrapped = p + size if _from_end(position) is not None else scalar.select(scalar.lt(p, 0), p + size, p)
        wrapped = scalar.maximum(wrapped, -1)
    if _from_end(position) is not None:
        return wrapped
    return scalar.minimum(wrapped, size - 1)


def element(part: Stretch, position: Scalar) -> Scalar:
    """The index on the sliced axis of element ``position`` of the slice."""
    step = part.step
    if same(step, 1):
        return position + scalar.as_int(part.first)
    if same(step, -1):
        return scalar.as_int(part.first) - position
    return position * scalar.as_int(step) + scalar.as_int(part.first)


def inside(part: Stretch, extent: Dim, position: Scalar) -> tuple[list[Scalar], Scalar]:
    """Whether the element ``position`` of the axis is in the slice (conditions), and where in the slice."""
    first, step = scalar.as_int(part.first), part.step
    conditions: list[Scalar] = []
    if same(step, 1):
        place = position - first
        if not same(part.first, 0):
            conditions.append(scalar.ge(position, first))
        if not part.to_end and not (same(part.first, 0) and same(part.length, extent)):
            conditions.append(scalar.lt(place, scalar.as_int(part.length)))
        return conditions, place
    if same(step, -1):
        place = first - position
        if not same(part.length, extent):
            conditions = [scalar.ge(place, 0), scalar.lt(place, scalar.as_int(part.length))]
        return conditions, place
    offset, stride = position - first, scalar.as_int(step)
    place = offset // stride
    conditions = [
        scalar.eq(offset % stride, 0),
        scalar.ge(place, 0),
        scalar.lt(place, scalar.as_int(part.length)),
    ]
    return conditions, place
