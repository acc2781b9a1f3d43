"""Padding: more elements before and after the ends of axes, in the modes of ``numpy.pad``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, describe
from symtensor_codegen import dtypes
from symtensor_codegen.errors import DTypeError, ShapeError

from .arguments import as_element, as_size_tensor, int64, known_int, sizes_of
from .creation import count_up
from .indexing import getitem
from .joining_pad import Widths, surrounded
from .joining_pieces import concatenate
from .reduction import max as largest
from .reduction import mean
from .reduction import min as smallest
from .shaping import broadcast_sizes, dim, dimshuffle, sizes

MODES = {
    "constant": ("constant_values",), "edge": (), "empty": (), "linear_ramp": ("end_values",),
    "maximum": ("stat_length",), "mean": ("stat_length",), "minimum": ("stat_length",),
    "reflect": ("reflect_type",), "symmetric": ("reflect_type",), "wrap": (),
}  # fmt: skip
"""The modes, and the options each one has."""
STATISTICS: dict[str, Callable[..., Tensor]] = {"maximum": largest, "minimum": smallest, "mean": mean}


def pad(
    x: TensorLike,
    pad_width: Any,
    mode: str = "constant",
    *,
    stat_length: Any = None,
    constant_values: Any = None,
    end_values: Any = None,
    reflect_type: str | None = None,
) -> Tensor:
    """``x`` with elements added before and after the ends of its axes, as ``numpy.pad``.

    Args:
        x: any tensor.
        pad_width: one size for all, ``(before, after)`` for all axes, or such a pair for each axis.
        mode: ``"constant"``, ``"edge"``, ``"linear_ramp"``, ``"maximum"``, ``"mean"``, ``"minimum"``, ``"reflect"``,
            ``"symmetric"``, ``"wrap"`` or ``"empty"`` (NumPy leaves those elements undefined; here they are zero).
        stat_length: over how many elements at either end the maximum, mean or minimum is taken; None for all.
        constant_values, end_values: the elements of ``"constant"``, the last ones of ``"linear_ramp"`` (default 0).
        reflect_type: ``"even"``, or ``"odd"`` to reflect at the point of the edge.

    The last four are given like ``pad_width``: for all, for both sides, or for both sides of each axis.

    Raises:
        ValueError: another mode, or an option that the mode does not have.
    """
    tensor = as_tensor(x)
    options = {"stat_length": stat_length, "constant_values": constant_values, "end_values": end_values,
               "reflect_type": reflect_type}  # fmt: skip
    if mode not in MODES:
        more = "; 'median' needs sorting, which expressions do not have" if mode == "median" else ""
        raise ValueError(f"pad: mode must be one of {', '.join(MODES)}, not {mode!r}{more}")
    for name, value in options.items():
        if value is not None and name not in MODES[mode]:
            raise ValueError(f"pad: mode {mode!r} has no {name}")
    if reflect_type not in (None, "even", "odd"):
        raise ValueError(f"pad: reflect_type must be 'even' or 'odd', not {reflect_type!r}")
    widths = _pairs(pad_width, tensor)
    if mode in ("constant", "empty"):
        return _constant(tensor, widths, 0 if constant_values is None else constant_values)
    sides = _sides(end_values if mode == "linear_ramp" else stat_length, tensor)
    for axis, (before, after) in enumerate(widths):
        if known_int(before) == known_int(after) == 0:
            continue
        if mode in STATISTICS:
            tensor = _statistic(tensor, mode, axis, (before, after), sides[axis])
        elif mode == "linear_ramp":
            tensor = _ramp(tensor, axis, (before, after), sides[axis])
        elif reflect_type == "odd":
            tensor = _odd(tensor, mode, axis, (before, after))
        else:
            tensor = _along(tensor, axis, _mirrored(mode, dim(tensor, axis), before, after))
    return tensor


def _along(x: Tensor, axis: int, key: Any) -> Tensor:
    return getitem(x, (*[slice(None)] * axis, key))


def _edge(x: Tensor, axis: int, place: int) -> Tensor:
    part = _along(x, axis, place)
    return dimshuffle(part, *range(axis), "x", *range(axis, part.ndim))


Pair = tuple[int | Tensor, int | Tensor]


def _sides(values: Any, x: Tensor) -> list[tuple[Any, Any]]:
    """An option as a pair for each axis."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        return [(values, values)] * x.ndim
    rows = [list(row) if isinstance(row, (list, tuple)) else None for row in values]
    pairs = [list(values)] if None in rows else rows
    found = [tuple(pair * 2 if len(pair) == 1 else pair) for pair in pairs if pair is not None]
    found = found * x.ndim if len(found) == 1 else found
    if len(found) != x.ndim or any(len(pair) != 2 for pair in found):
        raise ShapeError(f"pad: {values!r} must be a value, a pair, or a pair for each axis: {describe(x)}")
    return found


def _constant(x: Tensor, widths: Widths, values: Any) -> Tensor:
    sides = _sides(values, x)
    if all(side is sides[0][0] for pair in sides for side in pair):
        return surrounded(x, _value(sides[0][0] if sides else 0, x), widths)
    nothing: Pair = (0, 0)
    for axis, ((before, after), (first, last)) in enumerate(zip(widths, sides, strict=True)):
        others = [nothing] * axis, [nothing] * (x.ndim - axis - 1)
        x = surrounded(x, _value(first, x), [*others[0], (before, 0), *others[1]])
        x = surrounded(x, _value(last, x), [*others[0], (0, after), *others[1]])
    return x


def _value(value: TensorLike, x: Tensor) -> Tensor:
    return as_element(as_tensor(value), x.element)


def _statistic(x: Tensor, mode: str, axis: int, widths: Pair, lengths: tuple[Any, Any]) -> Tensor:
    pieces = [x]
    for end, (width, length) in enumerate(zip(widths, lengths, strict=True)):
        part = x
        if length is not None:
            if known_int(length) is not None and int(length) <= 0:
                raise ValueError(f"pad: stat_length must be positive, got {length}: {describe(x)}")
            limit = OPS["minimum"](as_size_tensor(length), dim(x, axis))
            part = _along(x, axis, slice(dim(x, axis) - limit, None) if end else slice(None, limit))
        value = STATISTICS[mode](part, axis, keepdims=True)
        if mode == "mean" and x.element.is_integer:
            value = OPS["rint"](value)
        piece = _repeated(as_element(value, x.element), axis, width)
        pieces.insert(0 if end == 0 else 2, piece)
    return concatenate(pieces, axis)


def _repeated(edge: Tensor, axis: int, width: int | Tensor) -> Tensor:
    return broadcast_sizes(edge, [width if a == axis else size for a, size in enumerate(sizes(edge))])


def _ramp(x: Tensor, axis: int, widths: Pair, ends: tuple[Any, Any]) -> Tensor:
    """NumPy's linspace from the end value to the edge, in double precision; floored for integers."""
    element = dtypes.complex128 if x.element.is_complex else dtypes.float64
    pieces = [x]
    for end, (width, last) in enumerate(zip(widths, ends, strict=True)):
        start = as_element(as_tensor(0 if last is None else last), element)
        edge = as_element(_edge(x, axis, -1 if end else 0), element)
        count = as_size_tensor(width)
        step = (edge - start) / as_element(count, element)
        number = count_up(count)
        number = count - int64(1) - number if end else number
        shaped = dimshuffle(as_element(number, element), *[0 if a == axis else "x" for a in range(x.ndim)])
        ramp = shaped * step + start
        ramp = OPS["floor"](ramp) if x.element.is_integer else ramp
        pieces.insert(0 if end == 0 else 2, as_element(ramp, x.element))
    return concatenate(pieces, axis)


def _odd(x: Tensor, mode: str, axis: int, widths: Pair) -> Tensor:
    """Reflected at the points of both edges: f(-t) = 2 f(0) - f(t), and likewise at the other end.

    So after a period (there and back) the values have moved on by twice the difference of the edges.
    """
    if x.element is dtypes.bool_:
        raise DTypeError(f"pad: bools have no odd reflection: {describe(x)}")
    n = dim(x, axis)
    before, after = [as_size_tensor(width) for width in widths]
    place = count_up(before + n + after) - before
    again = int64(1 if mode == "symmetric" else 0)  # whether the edge itself comes twice
    left = place < int64(0)
    away = OPS["switch"](left, -place - again, place)
    last = n - int64(1)
    half = OPS["maximum"](last + again, int64(1))
    turns = away // (half * int64(2))
    inside = away % (half * int64(2))
    back = inside > last
    source = OPS["switch"](back, OPS["minimum"](half * int64(2) - again - inside, last), inside)
    first, final = _edge(x, axis, 0), _edge(x, axis, -1)

    def shaped(vector: Tensor) -> Tensor:
        return dimshuffle(vector, *[0 if a == axis else "x" for a in range(x.ndim)])

    value = _along(x, axis, source)
    value = OPS["switch"](shaped(back), final + final - value, value)
    moved = as_element(shaped(turns), x.element) * (final - first)
    value = OPS["switch"](shaped(turns > int64(0)), value + (moved + moved), value)
    return OPS["switch"](shaped(left), first + first - value, value)


def _pairs(width: Any, x: Tensor) -> list[tuple[int | Tensor, int | Tensor]]:
    if isinstance(width, np.ndarray):
        width = width.tolist()
    if isinstance(width, (list, tuple)) and width and isinstance(width[0], (list, tuple)):
        pairs = [tuple(sizes_of("pad", pair)) for pair in width]
        pairs = pairs * x.ndim if len(pairs) == 1 else pairs
    else:
        pairs = [tuple(sizes_of("pad", width))] * x.ndim
    pairs = [pair * 2 if len(pair) == 1 else pair for pair in pairs]
    if len(pairs) != x.ndim or any(len(pair) != 2 for pair in pairs):
        raise ShapeError(
            f"pad: pad_width {width!r} must be a size, a pair, or a pair for each axis: {describe(x)}"
        )
    return [(pair[0], pair[1]) for pair in pairs]


def _mirrored(mode: str, n: Tensor, before: int | Tensor, after: int | Tensor) -> Tensor:
    """For each element along a padded axis the position in the axis (of size ``n``) it is copied from."""
    length = as_size_tensor(before) + n + as_size_tensor(after)
    place = count_up(length) - as_size_tensor(before)
    last = n - int64(1)
    if mode == "edge":
        return OPS["minimum"](OPS["maximum"](place, int64(0)), last)
    if mode == "wrap":
        return place % n
    if mode == "symmetric":
        period = n * int64(2)
        inside = place % period
        return OPS["minimum"](inside, period - int64(1) - inside)
    period = OPS["maximum"](last * int64(2), int64(1))
    inside = place % period
    return OPS["minimum"](inside, period - inside)
