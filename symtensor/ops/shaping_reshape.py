"""Reshape: the same elements in C order with other sizes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike, as_tensor
from symtensor.opdef import At, Guard, Index, Inferred, OpDef, describe, dim_of
from symtensor_codegen import scalar, substitution
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar

from .arguments import as_params, equal_guard, param_dims, param_values, same, size_guards, sizes_of
from .shaping_axes import ZERO, sizes


def _factors(extents: Iterable[Dim]) -> tuple[int, list[Scalar]]:
    """Sizes as a known factor and symbolic ones that are no products themselves."""
    known, symbolic = 1, []
    stack = [scalar.as_int(d) for d in reversed(list(extents))]
    while stack:
        node = stack.pop()
        if node.op is scalar.const_op:
            known *= node.param
        elif node.op is scalar.mul:
            stack.extend(reversed(node.args))
        else:
            symbolic.append(node)
    return known, symbolic


def _quotient(total: Sequence[Dim], others: Sequence[Dim]) -> Dim | None:
    """The product of ``total`` over that of ``others``; None if it is known to leave a rest."""
    known, symbolic = _factors(total)
    divisor, divisors = _factors(others)
    for factor in list(divisors):
        if factor in symbolic:
            symbolic.remove(factor)
            divisors.remove(factor)
    if divisor and known % divisor == 0:
        known, divisor = known // divisor, 1
    if divisor == 1 and not divisors:
        return substitution.product([known, *symbolic])
    if not symbolic and not divisors:
        return 0 if known == 0 else None
    return scalar.as_int(substitution.product([known, *symbolic])) // substitution.product([divisor, *divisors])


def _reshape_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    x = inputs[0]
    target = param_dims(params["shape"], inputs[1:])
    computed = [k for k, size in enumerate(target) if isinstance(size, int) and size == -1]
    message = f"reshape: {x.type.shape} cannot become {params['shape']}: {describe(x)}"
    if len(computed) > 1 or any(isinstance(size, int) and size < -1 for size in target):
        raise ShapeError(message + "; at most one size may be -1")
    if computed:
        if any(isinstance(size, int) and size == 0 for size in target):
            raise ShapeError(message + "; a size of -1 cannot be found beside sizes of 0")
        size = _quotient(x.dims, [s for k, s in enumerate(target) if k != computed[0]])
        if size is None:
            raise ShapeError(message)
        target[computed[0]] = size
    before, after = substitution.product(x.dims), substitution.product(target)
    if isinstance(before, int) and isinstance(after, int) and before != after:
        raise ShapeError(message)
    return x.element, tuple(target)


def _reshape_guards(node: Tensor) -> list[Guard]:
    x = node.inputs[0]
    guards = size_guards("reshape", node, node.dims)
    if -1 in node.params["shape"]:
        found = node.dims[node.params["shape"].index(-1)]
        if isinstance(found, Scalar) and found.op is scalar.floordiv:
            wrong = f"reshape: a size of -1 cannot be found beside sizes of 0: {describe(x)}"
            guards.append(Guard(scalar.ne(found.args[1], 0), wrong))
    if _factor_set(x.dims) == _factor_set(node.dims):
        return guards
    message = f"reshape: {{0}} elements cannot become {{1}}: {describe(x)}"
    return guards + equal_guard(message, substitution.product(x.dims), substitution.product(node.dims))


def _factor_set(extents: Iterable[Dim]) -> tuple[int, list[int]]:
    known, symbolic = _factors(extents)
    return known, sorted(id(s) for s in symbolic)


def _groups(inner: Sequence[Dim], outer: Sequence[Dim]) -> list[tuple[range, range]]:
    """The shortest runs of axes on both sides that hold equally many elements."""
    i = j = 0
    found = []
    while i < len(inner) or j < len(outer):
        pairs = sorted(
            ((a, b) for a in range(i, len(inner) + 1) for b in range(j, len(outer) + 1) if a + b > i + j),
            key=lambda pair: (sum(pair), pair),
        )
        a, b = next(
            (p for p in pairs if _factor_set(inner[i : p[0]]) == _factor_set(outer[j : p[1]])),
            (len(inner), len(outer)),
        )
        found.append((range(i, a), range(j, b)))
        i, j = a, b
    return found


def _reshape_pull(node: Tensor, at: At, index: Index) -> Scalar:
    inner, outer = node.inputs[0].dims, node.dims
    source = [ZERO] * len(inner)
    for here, there in _groups(inner, outer):
        if len(here) == 1 and len(there) == 1:
            source[here[0]] = index[there[0]]
            continue
        flat = ravel_position([index[j] for j in there], [outer[j] for j in there])
        for i, position in zip(here, unravel_position(flat, [inner[i] for i in here]), strict=True):
            source[i] = position
    return at(0, tuple(source))


def ravel_position(index: Sequence[Scalar], extents: Sequence[Dim]) -> Scalar:
    """The position of an index in C order."""
    position = ZERO
    for i, extent in zip(index, extents, strict=True):
        position = position * scalar.as_int(extent) + i
    return position


def unravel_position(position: Scalar, extents: Sequence[Dim]) -> list[Scalar]:
    """The index of a position in C order."""
    index = [ZERO] * len(extents)
    counting = [k for k, extent in enumerate(extents) if not (isinstance(extent, int) and extent == 1)]
    for k in reversed(counting):
        if k == counting[0]:
            index[k] = position
        else:
            extent = scalar.as_int(extents[k])
            index[k] = position % extent
            position = position // extent
    return index


RESHAPE = OpDef(
    name="reshape",
    doc="The same elements in C order with other sizes; -1 stands for what remains.",
    infer=_reshape_infer,
    reference=lambda x, *given, shape: np.reshape(x, param_values(shape, given)),
    gradient=lambda g, node: (reshape_to(g, sizes(node.inputs[0])), *[None] * (len(node.inputs) - 1)),
    pull=_reshape_pull,
    alias=True,
    guards=_reshape_guards,
    category="shape",
    cases=lambda rng: [
        ((rng.normal(size=(3, 4)),), {"shape": (12,)}),
        ((rng.normal(size=(3, 4)), np.int64(2)), {"shape": (None, -1)}),
        ((rng.normal(size=(2, 3, 4)), np.int64(4)), {"shape": (2, None, 3)}),
        ((rng.normal(size=(2, 3, 4)).astype("float32"),), {"shape": (-1, 1, 12)}),
        ((rng.normal(size=(0, 3)),), {"shape": (3, 0)}),
        ((rng.normal(size=(1, 1)),), {"shape": ()}),
    ],
)


def reshape_to(x: Tensor, target: Sequence[int | Tensor]) -> Tensor:
    """Reshape to sizes that are ints or 0-d int64 expressions."""
    if len(target) == x.ndim:
        unlike = [s for s, d in zip(target, x.dims, strict=True) if not same(dim_of(s), d)]
        if not unlike or (len(unlike) == 1 and isinstance(unlike[0], int) and unlike[0] == -1):
            return x
    shape, given = as_params(target)
    return RESHAPE.make(x, *given, shape=shape)


def reshape(x: TensorLike, newshape: Any, ndim: int | None = None) -> Tensor:
    """The elements of ``x`` in C order with other sizes.

    Args:
        x: any tensor.
        newshape: sizes (ints or integer scalar expressions; at most one -1), or an integer vector expression.
        ndim: the length of ``newshape``, where it is not known otherwise.
    """
    x = as_tensor(x)
    if (
        isinstance(newshape, Tensor)
        and newshape.ndim == 1
        and newshape.type.shape[0] is None
        and ndim is not None
    ):
        from .indexing import getitem

        return reshape_to(x, sizes_of("reshape", [getitem(newshape, k) for k in range(ndim)]))
    target = sizes_of("reshape", newshape)
    if ndim is not None and len(target) != ndim:
        raise ShapeError(f"reshape: ndim is {ndim}, but {len(target)} sizes are given")
    return reshape_to(x, target)


def flatten(x: TensorLike, ndim: int = 1, outdim: int | None = None) -> Tensor:
    """The first ``ndim - 1`` axes as they are, all others joined into one."""
    x = as_tensor(x)
    rank = ndim if outdim is None else outdim
    if not 1 <= rank <= max(x.ndim, 1):
        raise ShapeError(f"flatten: ndim must be from 1 to {max(x.ndim, 1)}, not {rank}: {describe(x)}")
    return x if x.ndim == rank else reshape_to(x, [*sizes(x)[: rank - 1], -1])


def ravel(x: TensorLike) -> Tensor:
    """All elements in C order as a vector."""
    return flatten(x)
