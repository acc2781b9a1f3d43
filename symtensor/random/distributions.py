"""Random variables as expressions of a stream's state: what is drawn, in which sizes, and how it is transformed.

Each function takes the state, the parameters and the sizes (None: those the parameters broadcast to) and returns the
random variable with the number of elements that use up the stream. Locations and scales are applied by ordinary
operations, so gradients with respect to them flow.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symtensor.graph import Constant, Tensor, TensorLike, as_tensor, constant
from symtensor.opdef import OPS, describe, dim_of
from symtensor.ops.arguments import as_element, as_params, int64, known_int, sizes_of
from symtensor.ops.creation import count_up
from symtensor.ops.elementwise_bits import logical_and, logical_or
from symtensor.ops.indexing import getitem
from symtensor.ops.random_counts import RANDOM_BINOMIAL, RANDOM_MULTINOMIAL, RANDOM_ORDER
from symtensor.ops.random_draws import (
    RANDOM_ADVANCE,
    RANDOM_BELOW,
    RANDOM_BITS,
    RANDOM_NORMAL,
    RANDOM_UNIFORM,
)
from symtensor.ops.shaping import broadcast_sizes, dim, dimshuffle, reshape, specify_shape
from symtensor.settings import config
from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, ShapeError

Sizes = list[int | Tensor]
Draw = tuple[Tensor, Tensor]  # the random variable, and the state after it


# Arguments ------------------------------------------------------------------------------------------------


def sizes_or_none(name: str, size: Any, ndim: int | None) -> Sizes | None:
    """The ``size`` argument as a list of sizes.

    ``ndim`` is the number of sizes where ``size`` is a vector expression of unknown length.
    """
    if size is None:
        return None
    if isinstance(size, Tensor) and size.ndim == 1 and size.type.shape[0] is None and ndim is not None:
        found = sizes_of(name, [getitem(size, k) for k in range(ndim)])
    else:
        found = sizes_of(name, size)
    if ndim is not None and len(found) != ndim:
        raise ValueError(f"{name}: ndim is {ndim}, but there are {len(found)} sizes")
    for value in found:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{name}: a size is negative: {value}")
    return found


def common_sizes(name: str, size: Sizes | None, parameters: Sequence[Tensor]) -> Sizes:
    """The sizes of the result: those given, else those the parameters broadcast to."""
    if size is not None:
        return size
    whole = parameters[0]
    for other in parameters[1:]:
        whole = OPS["add"](as_element(whole, dtypes.float64), as_element(other, dtypes.float64))
    return [d if isinstance(d, int) else dim(whole, axis) for axis, d in enumerate(whole.dims)]


def spread(name: str, parameter: Tensor, sizes: Sizes) -> Tensor:
    """A parameter in the sizes of the result; scalars stay as they are.

    Raises:
        ShapeError: it does not broadcast to them.
    """
    if parameter.ndim == 0:
        return parameter
    if parameter.ndim > len(sizes):
        raise ShapeError(f"{name}: a parameter has more axes than size: {describe(parameter)}, size {_shown(sizes)}")
    return broadcast_sizes(parameter, sizes)


def _shown(sizes: Sizes) -> str:
    return "(" + ", ".join("?" if isinstance(s, Tensor) else str(s) for s in sizes) + ")"


def numbers(name: str, value: TensorLike) -> Tensor:
    """A parameter as a tensor of real numbers."""
    tensor = as_tensor(value)
    if tensor.element.is_complex:
        raise DTypeError(f"{name}: a parameter is complex: {describe(tensor)}")
    return tensor


def float_type(dtype: object, parameters: Sequence[TensorLike]) -> DType:
    """The result's type: as asked for, else floatX or wider if a parameter (not a Python number) is."""
    if dtype is not None and dtype != "floatX":
        found = dtypes.of(dtype)
        if not found.is_float:
            raise DTypeError(f"a continuous distribution has a floating-point dtype, not {found}")
        return found
    widest = dtypes.of(config.floatX)
    for value in parameters:
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            element = as_tensor(value).element
            if element.is_float and element.itemsize > widest.itemsize:
                widest = element
    return widest


def check_constant(name: str, value: Tensor, holds: Callable[[Any], Any], must: str) -> None:
    """Refuse a parameter that is known and wrong."""
    if isinstance(value, Constant) and not np.all(holds(value.data)):
        raise ValueError(f"{name}: {must}, got {value.data!r}")


def whole_type(dtype: object) -> DType:
    """The type of a result that is a count or an index; ``None`` is int64."""
    if dtype is None:
        return dtypes.int64
    return dtypes.of(config.floatX if dtype == "floatX" else dtype)


def advanced(state: Tensor, sizes: Sizes, halves: bool = False) -> Tensor:
    """The state after a draw of these sizes."""
    shape, given = as_params(sizes)
    return RANDOM_ADVANCE.make(state, *given, shape=shape, halves=halves)


def _basic(op: Any, state: Tensor, sizes: Sizes, element: DType) -> Draw:
    shape, given = as_params(sizes)
    drawn = op.make(state, *given, shape=shape, dtype=element)
    return drawn, advanced(state, sizes, element.bits == 32)


# Continuous -----------------------------------------------------------------------------------------------


def unit(state: Tensor, sizes: Sizes, element: DType) -> Draw:
    """Uniformly distributed numbers in [0, 1)."""
    if element is not dtypes.float16:
        return _basic(RANDOM_UNIFORM, state, sizes, element)
    bits, after = _basic(RANDOM_BITS, state, sizes, dtypes.uint32)
    whole = as_element(OPS["right_shift"](bits, constant(21, dtypes.uint32)), dtypes.float16)
    return whole * constant(2.0**-11, dtypes.float16), after


def uniform(
    state: Tensor, low: TensorLike, high: TensorLike, size: Sizes | None, dtype: object
) -> Draw:
    """``low + (high - low) u``."""
    element = float_type(dtype, (low, high))
    bottom, top = (as_element(numbers("uniform", v), element) for v in (low, high))
    sizes = common_sizes("uniform", size, (bottom, top))
    drawn, after = unit(state, sizes, element)
    if _is_number(bottom, 0) and _is_number(top, 1):
        return drawn, after
    bottom, top = spread("uniform", bottom, sizes), spread("uniform", top, sizes)
    return bottom + (top - bottom) * drawn, after


def _is_number(value: Tensor, number: float) -> bool:
    return isinstance(value, Constant) and value.ndim == 0 and bool(value.data == number)


def normal(state: Tensor, loc: TensorLike, scale: TensorLike, size: Sizes | None, dtype: object) -> Draw:
    """``loc + scale z``."""
    element = float_type(dtype, (loc, scale))
    mean, deviation = (as_element(numbers("normal", v), element) for v in (loc, scale))
    check_constant("normal", deviation, lambda v: v >= 0, "the standard deviation must not be negative")
    sizes = common_sizes("normal", size, (mean, deviation))
    drawn, after = _basic(RANDOM_NORMAL, state, sizes, dtypes.float32 if element.bits == 16 else element)
    drawn = as_element(drawn, element)
    if not _is_number(deviation, 1):
        drawn = spread("normal", deviation, sizes) * drawn
    return (drawn if _is_number(mean, 0) else spread("normal", mean, sizes) + drawn), after


# Integers -------------------------------------------------------------------------------------------------


def integers(
    state: Tensor, low: TensorLike, high: TensorLike, size: Sizes | None, dtype: object, *, closed: bool
) -> Draw:
    """Integers from ``low`` to ``high``, which is among them where ``closed``."""
    bottom, top = (_integer("integers", v) for v in (low, high))
    if isinstance(bottom, Constant) and isinstance(top, Constant):
        good = bottom.data <= top.data if closed else bottom.data < top.data
        if not np.all(good):
            raise ValueError(f"integers: there are none from {bottom.data} to {top.data}")
    sizes = common_sizes("integers", size, (bottom, top))
    count = top - bottom
    count = count + int64(1) if closed else count
    bound = as_element(spread("integers", count, sizes), dtypes.uint64)
    drawn = RANDOM_BELOW.make(state, broadcast_sizes(bound, sizes))
    result = as_element(drawn, dtypes.int64)
    if not _is_number(bottom, 0):
        result = spread("integers", bottom, sizes) + result
    return as_element(result, whole_type(dtype)), advanced(state, sizes)


def _integer(name: str, value: TensorLike) -> Tensor:
    tensor = as_tensor(value)
    if tensor.element.kind not in "biu":
        raise DTypeError(f"{name} takes integers, got {describe(tensor)}")
    return as_element(tensor, dtypes.int64)


def bernoulli(state: Tensor, p: TensorLike, size: Sizes | None, dtype: object) -> Draw:
    """1 with probability p, else 0.

    Exact to 2^-32 where p or the result has at most 32 bits of floating point, else to 2^-53.
    """
    chance = _probability("bernoulli", p)
    element = whole_type(dtype)
    sizes = common_sizes("bernoulli", size, (chance,))
    chance = spread("bernoulli", chance, sizes)
    given = chance.element if isinstance(p, (Tensor, np.ndarray, np.generic)) else element
    if given.is_float and given.bits <= 32:
        bits, after = _basic(RANDOM_BITS, state, sizes, dtypes.uint32)
        happens = OPS["lt"](as_element(bits, dtypes.int64), _first_not_below(chance, 32))
    elif chance.ndim == 0:
        bits, after = _basic(RANDOM_BITS, state, sizes, dtypes.uint64)
        number = OPS["right_shift"](bits, constant(11, dtypes.uint64))
        happens = OPS["lt"](as_element(number, dtypes.int64), _first_not_below(chance, 53))
    else:
        drawn, after = _basic(RANDOM_UNIFORM, state, sizes, dtypes.float64)
        happens = OPS["lt"](drawn, as_element(chance, dtypes.float64))
    return as_element(happens, element), after


def _first_not_below(chance: Tensor, digits: int) -> Tensor:
    """The smallest whole k for which ``k 2^-digits < chance`` fails: numbers are compared with it as integers.

    Chances beyond [0, 1] count as 0 or 1, and NaN, which nothing is below, as 0.
    """
    nothing, everything = constant(0, chance.element), constant(1, chance.element)
    inside = OPS["switch"](OPS["gt"](chance, nothing), OPS["minimum"](chance, everything), nothing)
    return as_element(OPS["ceil"](as_element(inside, dtypes.float64) * constant(2.0**digits)), dtypes.int64)


def _probability(name: str, p: TensorLike) -> Tensor:
    chance = numbers(name, p)
    check_constant(name, chance, lambda v: (v >= 0) & (v <= 1), "a probability must lie in [0, 1]")
    return chance if chance.element.is_float else as_element(chance, dtypes.float64)


def binomial(state: Tensor, n: TensorLike, p: TensorLike, size: Sizes | None, dtype: object) -> Draw:
    """The number of successes in n trials that succeed with probability p."""
    if known_int(n) == 1:
        return bernoulli(state, p, size, dtype)
    count, chance = _count("binomial", n), as_element(_probability("binomial", p), dtypes.float64)
    sizes = common_sizes("binomial", size, (count, chance))
    count = broadcast_sizes(spread("binomial", count, sizes), sizes)
    chance = broadcast_sizes(spread("binomial", chance, sizes), sizes)
    return as_element(RANDOM_BINOMIAL.make(state, count, chance), whole_type(dtype)), advanced(state, sizes)


def _count(name: str, n: TensorLike) -> Tensor:
    count = _integer(name, n)
    check_constant(name, count, lambda v: v >= 0, "n must not be negative")
    return count


# Categories -----------------------------------------------------------------------------------------------


def weights(name: str, p: TensorLike) -> Tensor:
    """Probabilities along the last axis, as float64; they are scaled to the sum 1 when used."""
    chances = as_element(numbers(name, p), dtypes.float64)
    if chances.ndim == 0:
        raise ShapeError(f"{name}: probabilities are a vector, or rows of a matrix, not a scalar")
    check_constant(name, chances, lambda v: (v >= 0) & np.isfinite(v), "probabilities must not be negative")
    check_constant(
        name, chances, lambda v: np.abs(v.sum(-1) - 1) < 1e-5, "probabilities must sum to 1 along the last axis"
    )
    return chances


def categorical(state: Tensor, p: TensorLike, size: Sizes | None, dtype: object) -> Draw:
    """The position of a category, for each row of probabilities; ``size`` are the sizes without the last axis."""
    chances = weights("categorical", p)
    batch = getitem(chances, (..., 0))
    sizes = common_sizes("categorical", size, (batch,))
    running = spread_rows("categorical", OPS["cumsum"].make(chances, axis=chances.ndim - 1), sizes)
    drawn, after = _basic(RANDOM_UNIFORM, state, sizes, dtypes.float64)
    total = getitem(running, (..., slice(-1, None)))
    place = dimshuffle(drawn, *range(drawn.ndim), "x") * _single(total)
    passed = logical_and(OPS["le"](running, place), OPS["lt"](running, _single(total)))
    found = OPS["sum"].make(as_element(passed, dtypes.int64), axes=(passed.ndim - 1,))
    return as_element(found, whole_type(dtype)), after


def _single(column: Tensor) -> Tensor:
    """A slice of the last axis that has one element, as an axis that broadcasts."""
    first = getitem(column, (..., 0))
    return dimshuffle(first, *range(first.ndim), "x")


def spread_rows(name: str, rows: Tensor, sizes: Sizes) -> Tensor:
    """Rows along the last axis, repeated over the sizes of the result where they have not as many axes."""
    batch = rows.ndim - 1
    if batch > len(sizes):
        raise ShapeError(f"{name}: probabilities {describe(rows)} have more axes than size {_shown(sizes)}")
    if batch == 0:
        return rows
    length = rows.dims[-1]
    return broadcast_sizes(rows, [*sizes, length if isinstance(length, int) else dim(rows, rows.ndim - 1)])


def multinomial(state: Tensor, n: TensorLike, p: TensorLike, size: Sizes | None, dtype: object) -> Draw:
    """How often each category occurs in n draws, for each row of probabilities."""
    chances = weights("multinomial", p)
    if known_int(n) == 1:
        found, after = categorical(state, chances, size, None)
        place = count_up(chances.dims[-1] if isinstance(chances.dims[-1], int) else dim(chances, chances.ndim - 1))
        return as_element(OPS["eq"](dimshuffle(found, *range(found.ndim), "x"), place), whole_type(dtype)), after
    count = _count("multinomial", n)
    batch = getitem(chances, (..., 0))
    sizes = common_sizes("multinomial", size, (count, as_element(batch, dtypes.float64)))
    length = chances.dims[-1]
    width: int | Tensor = length if isinstance(length, int) else dim(chances, chances.ndim - 1)
    rows = broadcast_sizes(chances, [*sizes, width])
    counts = RANDOM_MULTINOMIAL.make(state, broadcast_sizes(spread("multinomial", count, sizes), sizes), rows)
    return as_element(counts, whole_type(dtype)), advanced(state, [*sizes, width])


# Order ----------------------------------------------------------------------------------------------------


def permutation(state: Tensor, length: int | Tensor, size: Sizes, dtype: object) -> Draw:
    """Permutations of 0 to ``length - 1`` along the last axis, one for each element of ``size``."""
    sizes: Sizes = [*size, length]
    bounds = as_element(count_up(length), dtypes.uint64) + constant(1, dtypes.uint64)
    places = as_element(RANDOM_BELOW.make(state, broadcast_sizes(bounds, sizes)), dtypes.int64)
    return as_element(RANDOM_ORDER.make(places), whole_type(dtype)), advanced(state, sizes)


def length_of(name: str, value: TensorLike) -> int | Tensor:
    """An integer as a size."""
    number = known_int(value)
    if number is not None:
        if number < 0:
            raise ValueError(f"{name}: the length is negative: {number}")
        return number
    tensor = as_tensor(value)
    if tensor.ndim or tensor.element.kind not in "iu":
        raise DTypeError(f"{name}: a length is an integer, got {describe(tensor)}")
    known = dim_of(tensor)
    return known if isinstance(known, int) else as_element(tensor, dtypes.int64)


def leading(name: str, order: Tensor, sizes: Sizes) -> Tensor:
    """The first elements along the last axis, as many as an array of these sizes takes."""
    total: int | Tensor = 1
    for size in sizes:
        total = size * total if isinstance(size, Tensor) else total * size
    length = order.dims[-1]
    if isinstance(total, int) and isinstance(length, int) and total > length:
        raise ValueError(f"{name}: {total} different elements of {length} are asked for")
    first = getitem(order, (..., slice(None, total)))
    front: Sizes = [dim(order, axis) for axis in range(order.ndim - 1)]
    return reshape(first, [*front, *sizes], ndim=order.ndim - 1 + len(sizes))


def matching(name: str, p: TensorLike, count: TensorLike) -> Tensor:
    """Probabilities, one for each of ``count`` elements."""
    chances = weights(name, p)
    wanted = length_of(name, count)
    if isinstance(wanted, int) and isinstance(chances.dims[-1], int) and chances.dims[-1] != wanted:
        raise ShapeError(f"{name}: {describe(chances)} for {wanted} elements")
    sizes: Sizes = [d if isinstance(d, int) else dim(chances, axis) for axis, d in enumerate(chances.dims)]
    return specify_shape(chances, [*sizes[:-1], wanted])


def distinct(state: Tensor, p: Tensor, sizes: Sizes, dtype: object) -> Draw:
    """Different categories, drawn one after the other from those that are left.

    The order in which exponential clocks with the rates p ring (P. Efraimidis and P. Spirakis, 2006): an element's rank
    is the number of clocks before it.
    """
    whole: Sizes = [d if isinstance(d, int) else dim(p, axis) for axis, d in enumerate(p.dims)]
    drawn, after = _basic(RANDOM_UNIFORM, state, whole, dtypes.float64)
    rings = -OPS["log1p"](-drawn) / p
    axes = range(rings.ndim - 1)
    column = dimshuffle(rings, *axes, rings.ndim - 1, "x")
    row = dimshuffle(rings, *axes, "x", rings.ndim - 1)
    place = count_up(whole[-1])
    ahead = dimshuffle(place, 0, "x")
    before = logical_or(OPS["lt"](row, column), logical_and(OPS["eq"](row, column), OPS["lt"](place, ahead)))
    rank = OPS["sum"].make(as_element(before, dtypes.int64), axes=(before.ndim - 1,))
    here = OPS["eq"](dimshuffle(rank, *axes, "x", rank.ndim - 1), ahead)
    order = OPS["sum"].make(OPS["switch"](here, place, int64(0)), axes=(here.ndim - 1,))
    return as_element(leading("choice", order, sizes), whole_type(dtype)), after
