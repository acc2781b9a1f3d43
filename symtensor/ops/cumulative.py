"""Running sums and products, differences, and counts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import OPS, At, Gradients, Inferred, OpDef, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.loops import Assign, Declare, For, Statement, Store, Update
from symtensor_codegen.scalar import Buffer, Register, Scalar

from .arguments import as_element, as_size_tensor, equal_guard, int64, normal_axis, sizes_of
from .creation import zeros
from .indexing import getitem, inc_subtensor
from .joining_moves import flip
from .joining_pad_modes import pad
from .joining_pieces import concatenate
from .reduction import max as largest
from .shaping import dimshuffle, ravel


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x = inputs[0]
    if x.element is dtypes.bool_:
        raise DTypeError(f"running sums and products take numbers, got {describe(x)}")
    return x.element, x.dims


def _running(
    node: Tensor, along: Callable[[tuple[Scalar, ...], Register, Scalar], tuple[Statement, ...]], first: int
) -> tuple[Statement, ...]:
    """A loop over the axis inside loops over all others, with a register that is carried along."""
    axis = node.params["axis"]
    index = tuple([scalar.index("ijklmnpq"[a % 8], extent) for a, extent in enumerate(node.dims)])
    outer = [i for a, i in enumerate(index) if a != axis]
    carried = Register("carried", node.element)
    value = scalar.read(carried, frozenset(outer))
    body: tuple[Statement, ...] = (
        Declare(carried, scalar.const(first, node.element)),
        For(index[axis], node.dims[axis], along(index, carried, value)),
    )
    for a in reversed(range(node.ndim)):
        if a != axis:
            body = (For(index[a], node.dims[a], body),)
    return body


def _sum_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    return _running(
        node, lambda index, r, value: (Update(r, "add", at(0, index)), Store(out, index, value)), 0
    )


def _product_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    def along(index: tuple[Scalar, ...], r: Register, value: Scalar) -> tuple[Statement, ...]:
        if node.element.is_complex:  # both parts of the next product need both of the last
            return Assign((r,), (value * at(0, index),)), Store(out, index, value)
        return Update(r, "mul", at(0, index)), Store(out, index, value)

    return _running(node, along, 1)


def _cases(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=9),), {"axis": 0}
    yield (rng.normal(size=(3, 5)),), {"axis": 1}
    yield (rng.normal(size=(3, 5)).astype("float32"),), {"axis": 0}
    yield (rng.integers(-3, 4, size=(2, 3, 2)),), {"axis": 1}
    yield (rng.normal(size=(0, 2)),), {"axis": 0}


def _sum_gradient(g: Tensor, node: Tensor) -> Gradients:
    axis = node.params["axis"]
    return (flip(CUMSUM.make(flip(g, axis), axis=axis), axis),)


CUMSUM = OpDef(
    name="cumsum",
    doc="Running sum along an axis.",
    infer=_infer,
    reference=lambda x, axis: np.cumsum(x, axis, dtype=x.dtype),
    gradient=_sum_gradient,
    loops=_sum_loops,
    category="cumulative",
    tolerance=64,
    cases=_cases,
)


def _product_gradient(g: Tensor, node: Tensor) -> Gradients:
    """Without a division, so that zeros do no harm.

    Element i is a factor of every product from the i-th on, so its gradient is the product of the elements
    before it, times s[i] = g[i] + x[i + 1] s[i + 1].
    """
    (x,) = node.inputs
    axis = node.params["axis"]
    later = RECURRENCE.make(_delayed(flip(x, axis), axis, 0), flip(g, axis), axis=axis)
    return (_delayed(node, axis, 1) * flip(later, axis),)


def _delayed(x: Tensor, axis: int, first: int) -> Tensor:
    """Every element moved on by one along the axis, with ``first`` at the beginning."""
    widths = [(1, 0) if a == axis else (0, 0) for a in range(x.ndim)]
    return getitem(pad(x, widths, constant_values=first), (*[slice(None)] * axis, slice(None, -1)))


CUMPROD = OpDef(
    name="cumprod",
    doc="Running product along an axis.",
    infer=_infer,
    reference=lambda x, axis: np.cumprod(x, axis, dtype=x.dtype),
    gradient=_product_gradient,
    loops=_product_loops,
    category="cumulative",
    tolerance=64,
    cases=lambda rng: [*_cases(rng), ((rng.normal(size=(4, 3)) + 1j * rng.normal(size=(4, 3)),), {"axis": 0})],
)


def _recurrence_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    a, b = inputs
    if a.element is not b.element or a.ndim != b.ndim:
        raise ShapeError(f"recurrence: operands differ: {describe(a)}; {describe(b)}")
    return b.element, b.dims


def _recurrence_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    def along(index: tuple[Scalar, ...], r: Register, value: Scalar) -> tuple[Statement, ...]:
        return Update(r, "mul", at(0, index)), Update(r, "add", at(1, index)), Store(out, index, value)

    return _running(node, along, 0)


def _recurrence_reference(a: Any, b: Any, axis: int) -> Any:
    result = np.array(b)
    factors, sums = np.moveaxis(a, axis, 0), np.moveaxis(result, axis, 0)
    for k in range(1, len(sums)):
        sums[k] += factors[k] * sums[k - 1]
    return result


def _recurrence_gradient(g: Tensor, node: Tensor) -> Gradients:
    a = node.inputs[0]
    axis = node.params["axis"]
    back = RECURRENCE.make(_delayed(flip(a, axis), axis, 0), flip(g, axis), axis=axis)
    later = flip(back, axis)
    return later * _delayed(node, axis, 0), later


RECURRENCE = OpDef(
    name="recurrence",
    doc="c[t] = b[t] + a[t] c[t - 1] along an axis, from c[-1] = 0.",
    infer=_recurrence_infer,
    reference=_recurrence_reference,
    gradient=_recurrence_gradient,
    loops=_recurrence_loops,
    guards=lambda node: [
        guard
        for have, want in zip(node.inputs[0].dims, node.dims, strict=True)
        for guard in equal_guard("recurrence: sizes {0} and {1} differ", have, want)
    ],
    category="cumulative",
    tolerance=64,
    cases=lambda rng: [
        ((rng.normal(size=9), rng.normal(size=9)), {"axis": 0}),
        ((rng.normal(size=(3, 4)), rng.normal(size=(3, 4))), {"axis": 0}),
        ((rng.normal(size=(3, 4)).astype("float32"), rng.normal(size=(3, 4)).astype("float32")), {"axis": 1}),
    ],
)


# What users call ------------------------------------------------------------------------------------------


def _cumulative(op: OpDef, x: TensorLike, axis: Any) -> Tensor:
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    along = normal_axis(op.name, axis, x.ndim, x)
    if x.element is dtypes.float16:
        return as_element(op.make(as_element(x, dtypes.float32), axis=along), dtypes.float16)
    wide = {"b": dtypes.int64, "i": dtypes.int64, "u": dtypes.uint64}.get(x.element.kind, x.element)
    return op.make(as_element(x, wide), axis=along)


def cumsum(x: TensorLike, axis: Any = None) -> Tensor:
    """Running sum along ``axis`` (None: of the flattened tensor); of integers in 64 bits."""
    return _cumulative(CUMSUM, x, axis)


def cumprod(x: TensorLike, axis: Any = None) -> Tensor:
    """Running product along ``axis`` (None: of the flattened tensor); of integers in 64 bits."""
    return _cumulative(CUMPROD, x, axis)


def diff(x: TensorLike, n: int = 1, axis: int = -1) -> Tensor:
    """Differences of neighbours along ``axis``, taken ``n`` times. Of bools: whether they differ."""
    tensor = as_tensor(x)
    along = normal_axis("diff", axis, tensor.ndim, tensor)
    if n < 0:
        raise ValueError(f"diff: the order must not be negative, got {n}")
    every = [slice(None)] * along
    for _ in range(n):
        after, before = getitem(tensor, (*every, slice(1, None))), getitem(tensor, (*every, slice(None, -1)))
        tensor = OPS["neq"](after, before) if tensor.element is dtypes.bool_ else after - before
    return tensor


def ediff1d(x: TensorLike, to_end: TensorLike | None = None, to_begin: TensorLike | None = None) -> Tensor:
    """Differences of neighbours of the flattened tensor, with ``to_begin`` and ``to_end`` put around them."""
    pieces = [diff(ravel(x))]
    if to_begin is not None:
        pieces.insert(0, ravel(to_begin))
    if to_end is not None:
        pieces.append(ravel(to_end))
    return concatenate(pieces)


def bincount(
    x: TensorLike,
    weights: TensorLike | None = None,
    minlength: TensorLike | None = None,
    assert_nonneg: bool = False,
) -> Tensor:
    """How often each of 0, 1, 2 ... occurs in the integer vector ``x``, or the sum of the ``weights`` there.

    The result has at least ``minlength`` elements, and one more than the largest value. A negative value is
    an IndexError when the program runs (``assert_nonneg`` is Theano's, and changes nothing).
    """
    x = as_tensor(x)
    if x.ndim != 1 or x.element.kind not in "iu":
        raise DTypeError(f"bincount takes an integer vector, got {describe(x)}")
    values = as_element(x, dtypes.int64)
    least = int64(0) if minlength is None else as_size_tensor(sizes_of("bincount", minlength)[0])
    floor = dimshuffle(least - int64(1), "x")
    length = largest(concatenate([values, floor])) + int64(1)
    # Below zero means out of range here, not counted from the end.
    inside = OPS["switch"](OPS["lt"](values, int64(0)), length, values)
    if weights is None:
        return inc_subtensor(getitem(zeros(length, "int64"), inside), int64(1))
    weight = as_tensor(weights)
    weight = weight if weight.element.is_inexact else as_element(weight, dtypes.float64)
    return inc_subtensor(getitem(zeros(length, weight.element), inside), weight)
