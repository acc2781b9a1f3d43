"""Products of vectors, matrices and higher arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor, TensorLike
from symtensor.opdef import OPS, At, Gradients, Guard, Index, Inferred, OpDef, describe, promoted, where
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Scalar

from .arguments import as_element, equal_guard, normal_axis
from .reduction import sum as sum_over
from .shaping import broadcast_sizes, dimshuffle, reshape_to, sizes, transpose

_SIDES = {1: "elements", 2: "rows"}


def _known_to_differ(a: Tensor, axis_a: int, b: Tensor, axis_b: int) -> bool:
    have, want = a.type.shape[axis_a], b.type.shape[axis_b]
    return have is not None and want is not None and have != want


def _name(x: Tensor) -> str:
    return x.name or x.op.name


def _multiplied(over: Scalar, a: Scalar, b: Scalar) -> Scalar:
    if a.dtype is dtypes.bool_:
        return scalar.reduce("or", over, a & b)
    return scalar.reduce("add", over, a * b)


# dot ------------------------------------------------------------------------------------------------------


def _dot_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    a, b = inputs
    if a.ndim not in (1, 2) or b.ndim not in (1, 2) or a.element is not b.element:
        raise ShapeError(f"dot takes vectors and matrices of one type, got {describe(a)}; {describe(b)}")
    if _known_to_differ(a, -1, b, 0):
        columns = "columns" if a.ndim == 2 else "elements"
        raise ShapeError(
            f"dot: inner sizes differ: {_name(a)} has {a.type.shape[-1]} {columns}{where(a)}, "
            f"{_name(b)} has {b.type.shape[0]} {_SIDES[b.ndim]}{where(b)}"
        )
    return a.element, (*a.dims[:-1], *b.dims[1:])


def _dot_guards(node: Tensor) -> list[Guard]:
    a, b = node.inputs
    columns = "columns" if a.ndim == 2 else "elements"
    message = (
        f"dot: inner sizes differ: {_name(a)} has {{0}} {columns}{where(a)}, "
        f"{_name(b)} has {{1}} {_SIDES[b.ndim]}{where(b)}"
    )
    return equal_guard(message, a.dims[-1], b.dims[0])


def _dot_pull(node: Tensor, at: At, index: Index) -> Scalar:
    a, b = node.inputs
    inner = a.dims[-1] if isinstance(a.dims[-1], int) else b.dims[0]
    over = scalar.index("r", inner)
    left, right = index[: a.ndim - 1], index[a.ndim - 1 :]
    return _multiplied(over, at(0, (*left, over)), at(1, (over, *right)))


def _dot_gradient(g: Tensor, node: Tensor) -> Gradients:
    a, b = node.inputs
    if a.ndim == 1 and b.ndim == 1:
        return g * b, g * a
    if a.ndim == 2 and b.ndim == 2:
        return dot(g, transpose(b)), dot(transpose(a), g)
    if a.ndim == 2:
        return outer(g, b), dot(transpose(a), g)
    return dot(b, g), outer(a, g)


def _dot_cases(rng: np.random.Generator) -> Any:
    shapes = [
        ((3,), (3,)),
        ((4, 3), (3,)),
        ((3,), (3, 5)),
        ((4, 3), (3, 5)),
        ((17, 9), (9, 1)),
        ((2, 0), (0, 3)),
    ]
    for left, right in shapes:
        yield (rng.normal(size=left), rng.normal(size=right)), {}
    yield (rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(3, 5)).astype("float32")), {}
    yield (rng.integers(-5, 5, size=(4, 3)), rng.integers(-5, 5, size=(3, 2))), {}
    yield (rng.random((4, 3)) < 0.4, rng.random((3, 2)) < 0.4), {}


DOT = OpDef(
    name="dot",
    doc="Product of vectors and matrices.",
    infer=_dot_infer,
    reference=lambda a, b: np.asarray(np.dot(a, b)),
    gradient=_dot_gradient,
    pull=_dot_pull,
    library="gemm",
    guards=_dot_guards,
    category="linalg",
    cost=20,
    tolerance=64,
    cases=_dot_cases,
)


def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """Product as ``numpy.dot``: of vectors their inner product, of matrices the matrix product.

    Higher operands: a sum over the last axis of ``a`` and the last but one of ``b``, so the product of two
    tensor3 has four axes (``batched_dot`` and ``matmul`` pair them instead). Operands are promoted; scalars
    multiply.
    """
    a, b = promoted((a, b), name="dot")
    if a.ndim == 0 or b.ndim == 0:
        return OPS["mul"](a, b)
    if a.ndim > 2 or b.ndim > 2:
        return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)))
    if a.element is dtypes.float16:
        return as_element(DOT.make(as_element(a, dtypes.float32), as_element(b, dtypes.float32)), dtypes.float16)
    return DOT.make(a, b)


# batched_dot ----------------------------------------------------------------------------------------------


def _batched_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    a, b = inputs
    if a.ndim != 3 or b.ndim != 3 or a.element is not b.element:
        raise ShapeError(f"batched_dot takes stacks of matrices of one type, got {describe(a)}; {describe(b)}")
    if _known_to_differ(a, 0, b, 0) or _known_to_differ(a, 2, b, 1):
        raise ShapeError(f"batched_dot: sizes do not agree: {describe(a)}; {describe(b)}")
    batch = a.dims[0] if isinstance(a.dims[0], int) else b.dims[0]
    return a.element, (batch, a.dims[1], b.dims[2])


def _batched_guards(node: Tensor) -> list[Guard]:
    a, b = node.inputs
    message = f"batched_dot: sizes {{0}} and {{1}} differ: {describe(a)}; {describe(b)}"
    return equal_guard(message, a.dims[0], b.dims[0]) + equal_guard(message, a.dims[2], b.dims[1])


def _batched_pull(node: Tensor, at: At, index: Index) -> Scalar:
    a, b = node.inputs
    batch, row, column = index
    over = scalar.index("r", a.dims[2] if isinstance(a.dims[2], int) else b.dims[1])
    return _multiplied(over, at(0, (batch, row, over)), at(1, (batch, over, column)))


def _batched_gradient(g: Tensor, node: Tensor) -> Gradients:
    a, b = node.inputs
    return BATCHED_DOT.make(g, dimshuffle(b, 0, 2, 1)), BATCHED_DOT.make(dimshuffle(a, 0, 2, 1), g)


BATCHED_DOT = OpDef(
    name="batched_dot",
    doc="Matrix products of two stacks of matrices, pair by pair.",
    infer=_batched_infer,
    reference=lambda a, b: np.matmul(a, b),
    gradient=_batched_gradient,
    pull=_batched_pull,
    library="gemm",
    guards=_batched_guards,
    category="linalg",
    cost=20,
    tolerance=64,
    cases=lambda rng: [
        ((rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3, 5))), {}),
        ((rng.normal(size=(3, 1, 2)).astype("float32"), rng.normal(size=(3, 2, 4)).astype("float32")), {}),
        ((rng.normal(size=(0, 4, 3)), rng.normal(size=(0, 3, 5))), {}),
        ((rng.integers(-5, 5, size=(2, 2, 3)), rng.integers(-5, 5, size=(2, 3, 1))), {}),
    ],
)


def _batched(a: Tensor, b: Tensor) -> Tensor:
    if a.element is dtypes.float16:
        wide = BATCHED_DOT.make(as_element(a, dtypes.float32), as_element(b, dtypes.float32))
        return as_element(wide, dtypes.float16)
    return BATCHED_DOT.make(a, b)


def batched_dot(a: TensorLike, b: TensorLike) -> Tensor:
    """Products of ``a[i]`` and ``b[i]`` for every i: of vectors or matrices; higher ones as ``tensordot``
    over one axis.

    Raises:
        ShapeError: an operand has no axis, or sizes do not agree.
    """
    a, b = promoted((a, b), name="batched_dot")
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"batched_dot: the first axis counts the products: {describe(a)}; {describe(b)}")
    if a.ndim == 1 or b.ndim == 1:
        scale, other = (a, b) if a.ndim == 1 else (b, a)
        return OPS["mul"](dimshuffle(scale, 0, *["x"] * (other.ndim - 1)), other)
    return _batched_product("batched_dot", a, b, ((a.ndim - 1,), (max(b.ndim - 2, 1),)))


# Derived products -----------------------------------------------------------------------------------------


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """Product as ``numpy.matmul`` (``@``): higher operands are stacks of matrices, which broadcast.

    Raises:
        ShapeError: an operand is a scalar, or sizes do not agree.
    """
    a, b = promoted((a, b), name="matmul")
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul does not take scalars, use *: {describe(a)}; {describe(b)}")
    if b.ndim <= 2:
        return dot(a, b)
    if a.ndim == 1:
        product = matmul(dimshuffle(a, "x", 0), b)
        return dimshuffle(product, *range(product.ndim - 2), product.ndim - 1)
    batch = _batch_sizes(a, b)
    a = broadcast_sizes(a, [*batch, *sizes(a)[-2:]])
    b = broadcast_sizes(b, [*batch, *sizes(b)[-2:]])
    if len(batch) == 1:
        return _batched(a, b)
    product = _batched(_stacked(a), _stacked(b))
    return reshape_to(product, [*batch, *sizes(product)[1:]])


def _stacked(x: Tensor) -> Tensor:
    """All leading axes joined, so that a stack of matrices has three axes."""
    extents = sizes(x)
    return reshape_to(x, [_flat(extents[:-2]), *extents[-2:]])


def _batch_sizes(a: Tensor, b: Tensor) -> list[int | Tensor]:
    left, right = sizes(a)[:-2], sizes(b)[:-2]
    rank = max(len(left), len(right))
    left, right = [*[1] * (rank - len(left)), *left], [*[1] * (rank - len(right)), *right]
    found: list[int | Tensor] = []
    for have, other in zip(left, right, strict=True):
        if isinstance(have, int) and isinstance(other, int) and 1 not in (have, other) and have != other:
            raise ShapeError(f"matmul: stacks do not agree: {describe(a)}; {describe(b)}")
        one = isinstance(have, int) and have == 1
        found.append(other if one or (isinstance(other, int) and other != 1) else have)
    return found


def _axis_pairs(name: str, axes: Any, a: Tensor, b: Tensor, first: int = 0) -> tuple[list[int], list[int]]:
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        if count < 0 or count > min(a.ndim, b.ndim) - first:
            raise ShapeError(f"{name}: {count} axes to sum over: {describe(a)}; {describe(b)}")
        return list(range(a.ndim - count, a.ndim)), list(range(first, first + count))
    left, right = axes
    lefts = [normal_axis(name, k, a.ndim, a) for k in (left if isinstance(left, (tuple, list)) else (left,))]
    rights = [normal_axis(name, k, b.ndim, b) for k in (right if isinstance(right, (tuple, list)) else (right,))]
    if len(lefts) != len(rights) or len(set(lefts)) != len(lefts) or len(set(rights)) != len(rights):
        raise ShapeError(f"{name}: axes {axes} must name as many different axes of both operands")
    return lefts, rights


def _check_pairs(name: str, a: Tensor, b: Tensor, lefts: Sequence[int], rights: Sequence[int]) -> None:
    for i, j in zip(lefts, rights, strict=True):
        if _known_to_differ(a, i, b, j):
            raise ShapeError(f"{name}: axis {i} and axis {j} have different sizes: {describe(a)}; {describe(b)}")


def _flat(extents: Sequence[int | Tensor]) -> int | Tensor:
    total: int | Tensor = 1
    for extent in extents:
        total = extent if isinstance(total, int) and total == 1 else total * extent
    return total


def tensordot(a: TensorLike, b: TensorLike, axes: Any = 2) -> Tensor:
    """Sum of products over pairs of axes, as ``numpy.tensordot``.

    ``axes``: how many last axes of ``a`` go with the first of ``b``, or the axes of ``a`` and those of ``b``.
    """
    a, b = promoted((a, b), name="tensordot")
    lefts, rights = _axis_pairs("tensordot", axes, a, b)
    _check_pairs("tensordot", a, b, lefts, rights)
    rows = [k for k in range(a.ndim) if k not in lefts]
    columns = [k for k in range(b.ndim) if k not in rights]
    extents_a, extents_b = sizes(a), sizes(b)
    if not lefts:
        return OPS["mul"](dimshuffle(a, *rows, *["x"] * b.ndim), b)
    inner = _flat([extents_a[k] for k in lefts])
    left = reshape_to(dimshuffle(a, *rows, *lefts), [*([_flat([extents_a[k] for k in rows])] if rows else []), inner])
    inner_b = _flat([extents_b[k] for k in rights])
    right = reshape_to(
        dimshuffle(b, *rights, *columns),
        [inner_b, *([_flat([extents_b[k] for k in columns])] if columns else [])],
    )
    return reshape_to(dot(left, right), [*[extents_a[k] for k in rows], *[extents_b[k] for k in columns]])


def batched_tensordot(a: TensorLike, b: TensorLike, axes: Any = 2) -> Tensor:
    """``tensordot`` of ``a[i]`` and ``b[i]`` for every i; ``axes`` may not name the first axis."""
    a, b = promoted((a, b), name="batched_tensordot")
    return _batched_product("batched_tensordot", a, b, axes)


def _batched_product(name: str, a: Tensor, b: Tensor, axes: Any) -> Tensor:
    lefts, rights = _axis_pairs(name, axes, a, b, first=1)
    if 0 in lefts or 0 in rights:
        raise ShapeError(f"{name}: the first axis counts the products and cannot be summed over")
    _check_pairs(name, a, b, [0, *lefts], [0, *rights])
    rows = [k for k in range(1, a.ndim) if k not in lefts]
    columns = [k for k in range(1, b.ndim) if k not in rights]
    extents_a, extents_b = sizes(a), sizes(b)
    batch = extents_a[0] if isinstance(extents_a[0], int) else extents_b[0]
    left = reshape_to(
        dimshuffle(a, 0, *rows, *lefts),
        [extents_a[0], _flat([extents_a[k] for k in rows]), _flat([extents_a[k] for k in lefts])],
    )
    right = reshape_to(
        dimshuffle(b, 0, *rights, *columns),
        [extents_b[0], _flat([extents_b[k] for k in rights]), _flat([extents_b[k] for k in columns])],
    )
    product = _batched(left, right)
    return reshape_to(product, [batch, *[extents_a[k] for k in rows], *[extents_b[k] for k in columns]])


def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """Products of every element of ``a`` with every one of ``b``; operands are flattened."""
    a, b = promoted((a, b), name="outer")
    a, b = reshape_to(a, [-1]) if a.ndim != 1 else a, reshape_to(b, [-1]) if b.ndim != 1 else b
    return dimshuffle(a, 0, "x") * dimshuffle(b, "x", 0)


def inner(a: TensorLike, b: TensorLike) -> Tensor:
    """Sum of products over the last axis of both."""
    a, b = promoted((a, b), name="inner")
    if a.ndim == 0 or b.ndim == 0:
        return OPS["mul"](a, b)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def vdot(a: TensorLike, b: TensorLike) -> Tensor:
    """Inner product of two vectors; complex values of the first are conjugated. Operands are flattened."""
    from .complex_numbers import conj

    a, b = promoted((a, b), name="vdot")
    a = conj(a) if a.element.is_complex else a
    return dot(reshape_to(a, [-1]), reshape_to(b, [-1]))


def vecdot(a: TensorLike, b: TensorLike, axis: int = -1) -> Tensor:
    """Inner products of the vectors along an axis; complex values of the first are conjugated."""
    from .complex_numbers import conj

    a, b = promoted((a, b), name="vecdot")
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"vecdot does not take scalars: {describe(a)}; {describe(b)}")
    return sum_over(conj(a) * b, axis, dtype=a.element)


def matvec(a: TensorLike, b: TensorLike) -> Tensor:
    """Products of the matrices in the last two axes of ``a`` with the vectors in the last axis of ``b``."""
    a, b = promoted((a, b), name="matvec")
    if a.ndim < 2 or b.ndim == 0:
        raise ShapeError(f"matvec takes matrices and vectors: {describe(a)}; {describe(b)}")
    product = matmul(a, dimshuffle(b, *range(b.ndim), "x"))
    return dimshuffle(product, *range(product.ndim - 1))


def vecmat(a: TensorLike, b: TensorLike) -> Tensor:
    """Products of the vectors in the last axis of ``a``, conjugated, with the matrices in ``b``."""
    from .complex_numbers import conj

    a, b = promoted((a, b), name="vecmat")
    if a.ndim == 0 or b.ndim < 2:
        raise ShapeError(f"vecmat takes vectors and matrices: {describe(a)}; {describe(b)}")
    product = matmul(dimshuffle(conj(a), *range(a.ndim - 1), "x", a.ndim - 1), b)
    return dimshuffle(product, *range(product.ndim - 2), product.ndim - 1)


def kron(a: TensorLike, b: TensorLike) -> Tensor:
    """Kronecker product; missing axes are put in front, as in NumPy."""
    a, b = promoted((a, b), name="kron")
    rank = max(a.ndim, b.ndim)
    a = dimshuffle(a, *["x"] * (rank - a.ndim), *range(a.ndim))
    b = dimshuffle(b, *["x"] * (rank - b.ndim), *range(b.ndim))
    left = dimshuffle(a, *[p for k in range(rank) for p in (k, "x")])
    right = dimshuffle(b, *[p for k in range(rank) for p in ("x", k)])
    extents = [_flat([m, n]) for m, n in zip(sizes(a), sizes(b), strict=True)]
    return reshape_to(left * right, extents) if rank else left * right


def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Sum of a diagonal."""
    from .creation_diagonal import diagonal

    return sum_over(diagonal(x, offset, axis1, axis2), -1)
