"""Indexing as NumPy does it, and expressions for tensors with a part replaced."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor.graph import Constant, Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import describe, dim_of
from symtensor_codegen import dtypes
from symtensor_codegen.errors import DTypeError, OutOfRangeError

from .arguments import as_element, known_int
from .indexing_nonzero import positions
from .indexing_records import (
    ADVANCED_SUBTENSOR,
    INC_AT,
    INC_PART,
    SET_AT,
    SET_PART,
    SUBTENSOR,
    is_basic,
)
from .indexing_slices import Item
from .shaping import addbroadcast, dimshuffle, make_vector, shape_padleft, sizes, specify_shape


class _Key:
    """A key taken apart: entries, the tensors they refer to, and where axes of size 1 are inserted."""

    def __init__(self, x: Tensor, key: Any) -> None:
        entries = list(key) if isinstance(key, tuple) else [key]
        entries = [_array(e) for e in entries]
        used = sum(_axes_used(e) for e in entries)
        ellipses = [k for k, e in enumerate(entries) if e is Ellipsis]
        if len(ellipses) > 1:
            raise OutOfRangeError("an index can have only one ellipsis ('...')")
        if used > x.ndim:
            raise OutOfRangeError(f"too many indices: {used} for {x.ndim} axes of {describe(x)}")
        missing = [slice(None)] * (x.ndim - used)
        place = ellipses[0] if ellipses else len(entries)
        self.entries = [*entries[:place], *missing, *entries[place + len(ellipses) :]]
        self.advanced = any(isinstance(e, Tensor) and (e.ndim > 0 or _is_mask(e)) for e in self.entries)
        self.x = x
        self.others: list[Tensor] = []
        self.items: list[Item] = []
        axis = 0
        for entry in self.entries:
            self._add(entry, axis)
            axis += _axes_used(entry)

    def _add(self, entry: Any, axis: int) -> None:
        if entry is None:
            self.items.append(("newaxis",))
        elif isinstance(entry, slice):
            step = 1 if entry.step is None else self._bound(entry.step)
            start, stop = self._bound(entry.start), self._bound(entry.stop)
            if step == 1:
                start = None if start == 0 else start
            self.items.append(("slice", start, stop, step))
        elif isinstance(entry, Tensor) and _is_mask(entry):
            for array in _positions(entry, self.x, axis):
                self._add_array(array)
        elif isinstance(entry, Tensor) and (entry.ndim or self.advanced):
            self._add_array(entry)
        elif self.advanced:
            self._add_array(constant(np.asarray(entry, np.int64)))
        else:
            self.items.append(("index", self._bound(entry)))

    def _add_array(self, array: Tensor) -> None:
        if array.element.kind not in "iu":
            raise DTypeError(
                f"an index must be an integer, a slice, a bool array or None, got {describe(array)}"
            )
        self.others.append(array)
        self.items.append(("array", len(self.others) - 1))

    def _bound(self, value: Any) -> Any:
        if value is None:
            return None
        number = known_int(value)
        if number is not None:
            return number
        if not isinstance(value, Tensor) or value.ndim or value.element.kind not in "iu":
            shown = describe(value) if isinstance(value, Tensor) else repr(value)
            raise DTypeError(f"an index must be an integer, a slice, a bool array or None, got {shown}")
        known = dim_of(value)
        if isinstance(known, int):
            return known
        self.others.append(as_element(value, dtypes.int64))
        return ("in", len(self.others) - 1)


def _array(entry: Any) -> Any:
    """Lists and arrays in a key as tensors."""
    if isinstance(entry, (bool, np.bool_)):
        raise DTypeError("an index must not be True or False: use newaxis, or a mask with as many axes")
    if isinstance(entry, (list, tuple)):
        return as_tensor(entry) if len(entry) else constant(np.zeros(0, np.int64))
    if isinstance(entry, np.ndarray) and (entry.ndim or entry.dtype.kind == "b"):
        return constant(entry)
    return entry


def _is_mask(entry: Tensor) -> bool:
    return entry.element is dtypes.bool_


def _axes_used(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, Tensor) and _is_mask(entry) else 1


def _positions(mask: Tensor, x: Tensor, axis: int) -> Sequence[Tensor]:
    """The index arrays of a mask over the axes of ``x`` from ``axis`` on."""
    if mask.ndim == 0:
        raise DTypeError(f"a mask must have an axis: {describe(mask)}")
    for k, size in enumerate(mask.type.shape):
        have = x.type.shape[axis + k]
        if size is not None and have is not None and size != have:
            raise OutOfRangeError(
                f"a mask of size {size} does not fit axis {axis + k} of size {have}: "
                f"{describe(mask)}; {describe(x)}"
            )
    return positions(specify_shape(mask, sizes(x)[axis : axis + mask.ndim]))


def getitem(x: TensorLike, key: Any) -> Tensor:
    """``x[key]`` with NumPy's rules.

    The key holds integers, slices, ``...``, None, integer arrays and bool masks; integers may be expressions.

    Raises:
        OutOfRangeError: too many indices, or one known to be out of range (others are checked at run time).
        DTypeError: an index that is no integer.
    """
    x = as_tensor(x)
    simple = _element_of_vector(x, key)
    if simple is not None:
        return simple
    parts = _Key(x, key)
    if parts.advanced:
        return ADVANCED_SUBTENSOR.make(x, *parts.others, items=tuple(parts.items))
    kept = tuple([item for item in parts.items if item[0] != "newaxis"])
    part = SUBTENSOR.make(x, *parts.others, items=kept) if kept else x
    if len(kept) == len(parts.items):
        return part
    rest = iter(range(part.ndim))
    axes = [item for item in parts.items if item[0] != "index"]
    return dimshuffle(part, *["x" if item[0] == "newaxis" else next(rest) for item in axes])


def _element_of_vector(x: Tensor, key: Any) -> Tensor | None:
    """Parts of vectors made of sizes (``x.shape[0]``, ``x.shape[1:]``) as the sizes themselves."""
    if x.ndim != 1:
        return None
    if x.op.name != "make_vector" and not (isinstance(x, Constant) and x.element is dtypes.int64):
        return None
    length = x.type.shape[0]
    assert length is not None
    number = known_int(key)
    if number is not None and -length <= number < length:
        return constant(x.data[number]) if isinstance(x, Constant) else x.inputs[number]
    if not isinstance(key, slice):
        return None
    bounds = [key.start, key.stop, key.step]
    if any(b is not None and known_int(b) is None for b in bounds) or known_int(key.step) == 0:
        return None
    picked = np.arange(length)[slice(*[None if b is None else known_int(b) for b in bounds])]
    if isinstance(x, Constant):
        return constant(x.data[picked])
    if not picked.size:
        return constant(np.zeros(0, x.element.numpy))
    return make_vector([x.inputs[k] for k in picked])


def set_subtensor(
    x: Tensor, y: TensorLike, inplace: bool = False, tolerate_inplace_aliasing: bool = False
) -> Tensor:
    """For ``x = a[key]``: ``a`` with that part replaced by ``y``, which may broadcast.

    Of repeated index values the last one counts. ``inplace`` and ``tolerate_inplace_aliasing`` are accepted
    for Theano's programs: what is done in place is decided by the compiler.

    Raises:
        TypeError: ``x`` is not a part of a tensor.
    """
    return _write("set_subtensor", x, y)


def inc_subtensor(
    x: Tensor,
    y: TensorLike,
    inplace: bool = False,
    tolerate_inplace_aliasing: bool = False,
    set_instead_of_inc: bool = False,
) -> Tensor:
    """For ``x = a[key]``: ``a`` with ``y`` added to that part; at repeated index values everything is added.

    The other arguments are those of Theano; ``inplace`` and ``tolerate_inplace_aliasing`` change nothing.

    Raises:
        TypeError: ``x`` is not a part of a tensor.
    """
    return _write("set_subtensor" if set_instead_of_inc else "inc_subtensor", x, y)


def _write(name: str, part: Tensor, value: TensorLike) -> Tensor:
    if not isinstance(part, Tensor):
        raise TypeError(f"{name}: the first argument must be a part of a tensor, x[...], not {part!r}")
    y = _value(name, part, value)
    node = part
    while node.op.name == "dimshuffle":
        order = node.params["order"]
        y = shape_padleft(y, max(node.ndim - y.ndim, 0))
        if y.ndim > node.ndim:
            break
        y = addbroadcast(y, *[a for a, source in enumerate(order) if source == "x"])
        y = dimshuffle(y, *[order.index(a) if a in order else "x" for a in range(node.inputs[0].ndim)])
        node = node.inputs[0]
    if node.op not in (SUBTENSOR, ADVANCED_SUBTENSOR):
        raise TypeError(
            f"{name}: the first argument must be a part of a tensor, x[...], not {describe(part)}"
        )
    x, *others = node.inputs
    items = node.params["items"]
    if is_basic(items):
        op = SET_PART if name == "set_subtensor" else INC_PART
    else:
        op = SET_AT if name == "set_subtensor" else INC_AT
    return op.make(x, y, *others, items=items)


def _value(name: str, part: Tensor, value: TensorLike) -> Tensor:
    """The value to be written, in the element type of the tensor."""
    element = part.element
    if name == "inc_subtensor" and element is dtypes.bool_:
        raise DTypeError(f"inc_subtensor: bools cannot be added to: {describe(part)}")
    node = as_tensor(value)
    weak = type(value) in (bool, int, float, complex)
    lossless = np.can_cast(node.element.numpy, element.numpy, "same_kind")
    if not (lossless or (weak and "biufc".index(node.element.kind) <= "biufc".index(element.kind))):
        raise DTypeError(
            f"{name}: {node.element} does not convert to {element}; use cast(): {describe(part)}"
        )
    return as_element(node, element)
