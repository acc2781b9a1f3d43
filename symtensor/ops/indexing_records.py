"""The records of indexing: reading and writing parts of a tensor.

The parameter ``items`` describes the key, one entry an axis: ``("slice", start, stop, step)``, ``("index",
position)``, ``("array", k)``, and ``("newaxis",)`` between them. A bound or position is an int, None, or
``("in", k)``. ``k`` counts the inputs after the tensor (and after the value, for operations that write).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from symtensor.graph import Constant, Params, Tensor, constant
from symtensor.opdef import (
    OPS,
    At,
    Gradients,
    Guard,
    Index,
    IndexMessage,
    Inferred,
    OpDef,
    aligned,
    broadcast_dims,
    describe,
    dim_of,
)
from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.errors import DTypeError, OutOfRangeError, ShapeError
from symtensor_codegen.loops import For, Statement, Store
from symtensor_codegen.scalar import Buffer, Dim, Scalar

from .arguments import equal_guard, same
from .creation import count_up
from .indexing_slices import Item, Stretch, element, inside, stretch
from .shaping import broadcast_like, reshape_to, size, sizes, sum_to

Items = tuple[Item, ...]


class Region(NamedTuple):
    """The part of a tensor that a key means.

    ``dims`` are its sizes. ``block`` is where the axes of the index arrays begin in it, ``rank`` how many
    they are.
    """

    dims: tuple[Dim, ...]
    block: int
    rank: int


def is_basic(items: Items) -> bool:
    """Whether the key has no index arrays."""
    return all(item[0] != "array" for item in items)


def region(x: Tensor, items: Items, others: Sequence[Tensor]) -> Region:
    """Sizes of ``x[key]``, by NumPy's rule: index arrays that are not side by side put their axes first."""
    arrays = [others[item[1]] for item in items if item[0] == "array"]
    block_dims = broadcast_dims("index arrays", arrays) if arrays else ()
    places = [k for k, item in enumerate(items) if item[0] == "array"]
    together = not places or places == list(range(places[0], places[-1] + 1))
    dims: list[Dim] = [] if together else list(block_dims)
    block, axis = 0, 0
    for k, item in enumerate(items):
        kind = item[0]
        if kind == "newaxis":
            dims.append(1)
            continue
        if kind == "array" and together and k == places[0]:
            block = len(dims)
            dims.extend(block_dims)
        if kind == "slice":
            dims.append(stretch(item, x.dims[axis], others).length)
        axis += 1
    return Region(tuple(dims), block, len(block_dims))


def _axes(x: Tensor, items: Items) -> Iterator[tuple[Item, int]]:
    """The entries that stand for an axis of ``x``, with the axis."""
    axis = 0
    for item in items:
        if item[0] != "newaxis":
            yield item, axis
            axis += 1


def position(item: Item, axis: int, x: Tensor, others: Sequence[Tensor], at: At, first: int) -> Scalar:
    """An integer index as a position counted from the front; checked where it comes from data."""
    place, extent = item[1], x.dims[axis]
    if isinstance(place, int):
        return scalar.as_int(place) if place >= 0 else scalar.as_int(extent) + place
    assert isinstance(place, tuple)
    return scalar.checked_index(at(first + place[1], ()), extent, IndexMessage(x, axis, others[place[1]]))


def source(node: Tensor, at: At, index: Index, first: int) -> Index:
    """The index in input 0 of an index of the region; ``first``: number of the first input of the key."""
    x, others, items = node.inputs[0], node.inputs[first:], node.params["items"]
    part = region(x, items, others)
    block = index[part.block : part.block + part.rank]
    rest = iter(index[: part.block] + index[part.block + part.rank :])
    found: list[Scalar] = []
    axis = 0
    for item in items:
        kind = item[0]
        if kind == "newaxis":
            next(rest)
            continue
        if kind == "slice":
            found.append(element(stretch(item, x.dims[axis], others), next(rest)))
        elif kind == "index":
            found.append(position(item, axis, x, others, at, first))
        else:
            array = others[item[1]]
            value = at(first + item[1], aligned(array, block))
            found.append(scalar.checked_index(value, x.dims[axis], IndexMessage(x, axis, array)))
        axis += 1
    return tuple(found)


def _check_key(name: str, x: Tensor, items: Items, others: Sequence[Tensor]) -> None:
    count = sum(item[0] != "newaxis" for item in items)
    if count != x.ndim:
        raise OutOfRangeError(f"{name}: {count} axes indexed of {x.ndim}: {describe(x)}")
    for item, axis in _axes(x, items):
        extent = x.dims[axis]
        if item[0] == "index" and isinstance(item[1], int) and isinstance(extent, int):
            if not -extent <= item[1] < extent:
                raise OutOfRangeError(f"index {item[1]} is out of range on axis {axis}: {describe(x)}")
        elif item[0] == "array":
            array = others[item[1]]
            if array.element.kind not in "iu":
                raise DTypeError(f"index arrays must be integers or bools, got {describe(array)}")
            if isinstance(array, Constant) and isinstance(extent, int) and array.data.size:
                low, high = int(array.data.min()), int(array.data.max())
                if low < -extent or high >= extent:
                    wrong = low if low < -extent else high
                    raise OutOfRangeError(f"index {wrong} is out of range on axis {axis}: {describe(x)}")
        elif item[0] == "slice" and item[3] == 0:
            raise ValueError(f"a slice of step 0 on axis {axis}: {describe(x)}")


def _key_guards(x: Tensor, items: Items, others: Sequence[Tensor]) -> list[Guard]:
    guards: list[Guard] = []
    for item, axis in _axes(x, items):
        extent = x.dims[axis]
        if item[0] == "index" and isinstance(item[1], int) and isinstance(extent, Scalar):
            needed = item[1] + 1 if item[1] >= 0 else -item[1]
            message = f"index {item[1]} is out of range on axis {axis}, of size {{0}}: {describe(x)}"
            guards.append(Guard(scalar.ge(extent, needed), message, (extent,), OutOfRangeError))
        elif item[0] == "slice" and isinstance(item[3], tuple):
            step = scalar.as_int(dim_of(others[item[3][1]]))
            message = f"a slice of step 0 on axis {axis}: {describe(x)}"
            guards.append(Guard(scalar.ne(step, 0), message, (), ValueError))
        elif item[0] == "array" or (item[0] == "index" and not isinstance(item[1], int)):
            guards += _has_elements(x, axis, others[item[1] if item[0] == "array" else item[1][1]])
    arrays = [others[item[1]] for item in items if item[0] == "array"]
    if len(arrays) > 1:
        guards += fit_guards("index arrays", arrays, broadcast_dims("index arrays", arrays))
    return guards


def _has_elements(x: Tensor, axis: int, index: Tensor) -> list[Guard]:
    """The guard that nothing is looked up on an empty axis: there a refused index has no element to stand for it."""
    extent = x.dims[axis]
    if isinstance(extent, int) and extent > 0:
        return []
    nothing = scalar.eq(scalar.as_int(substitution.product(index.dims)), 0)
    message = f"an index is out of range on axis {axis}, which is empty: {describe(x)}"
    return [Guard(scalar.gt(scalar.as_int(extent), 0) | nothing, message, (), OutOfRangeError)]


def fit_guards(name: str, tensors: Sequence[Tensor], dims: Sequence[Dim]) -> list[Guard]:
    """Guards that the sizes of ``tensors`` agree with those they are broadcast to."""
    guards: list[Guard] = []
    for tensor in tensors:
        for axis, extent in enumerate(reversed(tensor.dims), 1):
            if not same(extent, 1):
                message = f"{name}: sizes {{0}} and {{1}} differ on axis {-axis}: {describe(tensor)}"
                guards += equal_guard(message, extent, dims[len(dims) - axis])
    return guards


def _numpy_key(items: Items, values: Sequence[Any]) -> tuple[Any, ...]:
    def number(value: Any) -> Any:
        return int(values[value[1]]) if isinstance(value, tuple) else value

    makers: dict[str, Callable[..., Any]] = {
        "slice": lambda start, stop, step: slice(number(start), number(stop), number(step)),
        "index": number,
        "array": lambda k: np.asarray(values[k]).astype(np.int64),
        "newaxis": lambda: None,
    }
    return tuple([makers[str(item[0])](*item[1:]) for item in items])


# Reading --------------------------------------------------------------------------------------------------


def _read_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x, *others = inputs
    _check_key("subtensor", x, params["items"], others)
    return x.element, region(x, params["items"], others).dims


def _read_gradient(g: Tensor, node: Tensor) -> Gradients:
    x, *others = node.inputs
    nothing = broadcast_like(constant(0, g.element), x)
    op = SET_PART if is_basic(node.params["items"]) else INC_AT
    return (op.make(nothing, g, *others, **node.params), *[None] * len(others))


def _read_guards(node: Tensor) -> list[Guard]:
    return _key_guards(node.inputs[0], node.params["items"], node.inputs[1:])


def _read_reference(x: Any, *others: Any, items: Items) -> Any:
    return x[_numpy_key(items, others)]


def _read_pull(node: Tensor, at: At, index: Index) -> Scalar:
    return at(0, source(node, at, index, 1))


def _bounds(node: Tensor, arrays: int) -> list[Dim]:
    """Bounds of the slices: where a part begins and ends, which the size of the result need not say."""
    found = [b for item in node.params["items"] if item[0] == "slice" for b in item[1:] if isinstance(b, tuple)]
    return [dim_of(node.inputs[arrays + b[1]]) for b in found]


def _read_sizes(node: Tensor) -> list[Dim]:
    return _bounds(node, 1)


ALL: Item = ("slice", None, None, 1)


def _basic_keys(rng: np.random.Generator) -> Iterator[tuple[Any, Items, tuple[Any, ...], tuple[int, ...]]]:
    """An array, a key, the integers in it, and the shape of the part."""
    x = rng.normal(size=(5, 4))
    n = np.int64
    yield x, (("slice", 1, None, 1), ALL), (), (4, 4)
    yield x, (("slice", None, None, -1), ("index", -1)), (), (5,)
    yield x, (("slice", 4, 0, -2), ("slice", -3, -1, 1)), (), (2, 2)
    yield x, (("slice", 3, 1, 1), ALL), (), (0, 4)
    yield x.astype("float32"), (("index", ("in", 0)), ("slice", ("in", 1), None, 2)), (n(-2), n(1)), (2,)
    yield x, (("slice", ("in", 0), ("in", 1), 1), ALL), (n(-4), n(4)), (3, 4)
    yield x, (("slice", None, None, ("in", 0)), ALL), (n(-2),), (3, 4)
    yield rng.integers(-9, 9, size=6), (("slice", 1, 9, 3),), (), (2,)


def _advanced_keys(rng: np.random.Generator) -> Iterator[tuple[Any, Items, tuple[Any, ...], tuple[int, ...]]]:
    x = rng.normal(size=(3, 2, 3))
    rows, columns = np.array([2, 0, -1, 2]), np.array([[1], [-2]])
    yield x, (("array", 0), ALL, ALL), (rows,), (4, 2, 3)
    yield x, (ALL, ("array", 0), ("array", 1)), (columns, np.array([0, 2])), (3, 2, 2)
    yield x, (("array", 0), ALL, ("array", 1)), (rows, np.array([0, 2, 1, 0])), (4, 2)
    yield x, (("array", 0), ("slice", None, None, -1), ("newaxis",), ALL), (rows,), (4, 2, 1, 3)
    yield (
        x.astype("float32"),
        (("slice", 1, ("in", 0), 1), ("array", 1), ALL),
        (np.int64(3), columns),
        (2, 2, 1, 3),
    )
    yield x, (("array", 0), ALL, ALL), (np.zeros(0, np.int64),), (0, 2, 3)


def _read_cases(keys: Any) -> Any:
    return lambda rng: [((x, *others), {"items": items}) for x, items, others, _ in keys(rng)]


SUBTENSOR = OpDef(
    name="subtensor",
    doc="Part of a tensor, by slices and integers.",
    infer=_read_infer,
    reference=_read_reference,
    gradient=_read_gradient,
    pull=_read_pull,
    guards=_read_guards,
    sizes=_read_sizes,
    category="indexing",
    cases=_read_cases(_basic_keys),
)
ADVANCED_SUBTENSOR = OpDef(
    name="advanced_subtensor",
    doc="Elements picked by index arrays (beside slices and integers), as in NumPy.",
    infer=_read_infer,
    reference=_read_reference,
    gradient=_read_gradient,
    pull=_read_pull,
    guards=_read_guards,
    sizes=_read_sizes,
    category="indexing",
    cost=4,
    cases=_read_cases(_advanced_keys),
)


# Writing --------------------------------------------------------------------------------------------------


def _write_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x, y, *others = inputs
    _check_key("set_subtensor", x, params["items"], others)
    dims = region(x, params["items"], others).dims
    if y.element is not x.element:
        raise DTypeError(f"set_subtensor: the value has another type: {describe(y)}; {describe(x)}")
    fits = y.ndim <= len(dims) and all(
        same(size, 1) or isinstance(size, Scalar) or isinstance(dim, Scalar) or size == dim
        for size, dim in zip(reversed(y.dims), reversed(dims), strict=False)
    )
    if not fits:
        shape = tuple([d if isinstance(d, int) else None for d in dims])
        raise ShapeError(f"set_subtensor: the part has shape {shape}, the value does not fit: {describe(y)}")
    return x.element, x.dims


def _write_guards(node: Tensor) -> list[Guard]:
    x, y, *others = node.inputs
    items = node.params["items"]
    return [
        *_key_guards(x, items, others),
        *fit_guards("set_subtensor", [y], region(x, items, others).dims),
    ]


def _write_sizes(node: Tensor) -> list[Dim]:
    return _bounds(node, 2)


def _part_of(node: Tensor, g: Tensor) -> Tensor:
    op = SUBTENSOR if is_basic(node.params["items"]) else ADVANCED_SUBTENSOR
    return op.make(g, *node.inputs[2:], **node.params)


def _set_gradient(g: Tensor, node: Tensor) -> Gradients:
    _, y, *others = node.inputs
    rest = node.op.make(g, constant(0, g.element), *others, **node.params)
    return (rest, sum_to(_part_of(node, g), y), *[None] * len(others))


def _set_at_gradient(g: Tensor, node: Tensor) -> Gradients:
    """As for slices, but where an index is repeated only the value written last has a gradient."""
    rest, part, *none = _set_gradient(g, node)
    _, y, *others = node.inputs
    items = node.params["items"]
    if part is None or _distinct(items, others):
        return (rest, part, *none)
    picked = _part_of(node, g)
    ids = reshape_to(count_up(size(picked)), sizes(picked))
    nobody = broadcast_like(constant(-1, dtypes.int64), g)
    last = SET_AT.make(nobody, ids, *others, items=items)
    kept = OPS["switch"](OPS["eq"](_part_of(node, last), ids), picked, constant(0, g.element))
    return (rest, sum_to(kept, y), *none)


def _distinct(items: Items, others: Sequence[Tensor]) -> bool:
    """Whether no element is picked twice: some index array counts up, or all are single indices."""
    arrays = [others[item[1]] for item in items if item[0] == "array"]
    return all(a.ndim == 0 for a in arrays) or any(
        a.op.name in ("arange", "flatnonzero") and a.type.shape[0] != 1 and all(b.ndim <= 1 for b in arrays)
        for a in arrays
    )


def _inc_gradient(g: Tensor, node: Tensor) -> Gradients:
    _, y, *others = node.inputs
    return (g, sum_to(_part_of(node, g), y), *[None] * len(others))


def _written(node: Tensor, at: At, index: Index) -> tuple[Scalar | None, Scalar]:
    """Whether an index of the tensor is in the part (None: always), and the value there."""
    x, y, *others = node.inputs
    conditions: list[Scalar] = []
    places: list[Scalar] = []
    for item, axis in _axes(x, node.params["items"]):
        if item[0] == "index":
            wanted = position(item, axis, x, others, at, 2)
            conditions.append(scalar.eq(index[axis], wanted))
        else:
            part: Stretch = stretch(item, x.dims[axis], others)
            found, place = inside(part, x.dims[axis], index[axis])
            conditions += found
            places.append(place)
    value = at(1, aligned(y, tuple(places[len(places) - y.ndim :])))
    condition = None
    for each in conditions:
        condition = each if condition is None else condition & each
    return condition, value


def _set_pull(node: Tensor, at: At, index: Index) -> Scalar:
    condition, value = _written(node, at, index)
    return value if condition is None else scalar.guarded(condition, value, at(0, index))


def _inc_pull(node: Tensor, at: At, index: Index) -> Scalar:
    condition, value = _written(node, at, index)
    old = at(0, index)
    return old + value if condition is None else scalar.guarded(condition, old + value, old)


def _set_reference(x: Any, y: Any, *others: Any, items: Items) -> Any:
    result = np.array(x)
    result[_numpy_key(items, others)] = y
    return result


def _inc_reference(x: Any, y: Any, *others: Any, items: Items) -> Any:
    result = np.array(x)
    key = _numpy_key(items, others)
    # NumPy's own broadcasting here reads past the values where vectors are added at matrices of positions.
    np.add.at(result, key, np.broadcast_to(y, result[key].shape))
    return result


def _scatter(combine: str | None) -> Any:
    def loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
        x, y, *others = node.inputs
        part = region(x, node.params["items"], others)
        index = tuple([scalar.index("ijklmnpq"[k % 8], extent) for k, extent in enumerate(part.dims)])
        value = at(1, aligned(y, index[len(index) - y.ndim :]))
        statement: Statement = Store(out, source(node, at, index, 2), value, combine)
        for i, extent in zip(reversed(index), reversed(part.dims), strict=True):
            statement = For(i, extent, (statement,))
        return (statement,)

    return loops


def _write_cases(keys: Any) -> Any:
    def cases(rng: np.random.Generator) -> Any:
        for x, items, others, shape in keys(rng):
            yield (x, rng.normal(size=shape).astype(x.dtype), *others), {"items": items}
        x, items, others, _ = next(keys(rng))
        yield (x, np.asarray(2.5), *others), {"items": items}

    return cases


SET_PART = OpDef(
    name="set_part",
    doc="A tensor with the part given by slices and integers set to a value.",
    infer=_write_infer,
    reference=_set_reference,
    gradient=_set_gradient,
    pull=_set_pull,
    guards=_write_guards,
    sizes=_write_sizes,
    category="indexing",
    cases=_write_cases(_basic_keys),
)
INC_PART = OpDef(
    name="inc_part",
    doc="A tensor with a value added to the part given by slices and integers.",
    infer=_write_infer,
    reference=_inc_reference,
    gradient=_inc_gradient,
    pull=_inc_pull,
    guards=_write_guards,
    sizes=_write_sizes,
    category="indexing",
    cases=_write_cases(_basic_keys),
)
SET_AT = OpDef(
    name="set_at",
    doc="A tensor with the elements picked by index arrays set to a value; the last of repeated ones counts.",
    infer=_write_infer,
    reference=_set_reference,
    gradient=_set_at_gradient,
    loops=_scatter(None),
    overwrites=True,
    guards=_write_guards,
    sizes=_write_sizes,
    category="indexing",
    cases=_write_cases(_advanced_keys),
)
INC_AT = OpDef(
    name="inc_at",
    doc="A tensor with a value added to the elements picked by index arrays; repeated indices add up.",
    infer=_write_infer,
    reference=_inc_reference,
    gradient=_inc_gradient,
    loops=_scatter("add"),
    overwrites=True,
    guards=_write_guards,
    sizes=_write_sizes,
    category="indexing",
    cases=_write_cases(_advanced_keys),
)
