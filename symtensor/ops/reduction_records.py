"""The records of reductions: one value out of the elements along some axes.

Each core operation reduces over a sorted tuple of axes without changing the element type. The functions
in ``reduction`` normalise ``axis``, choose the type values are accumulated in, and put reduced axes back.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import OPS, At, Gradients, Guard, Index, Inferred, OpDef, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.loops import Assign, Declare, For, Statement, Store
from symtensor_codegen.scalar import Buffer, Register, Scalar

from .arguments import as_element
from .gradient_parts import typed, zeros
from .shaping import broadcast_like, dimshuffle

Axes = tuple[int, ...]


def restore(reduced: Tensor, axes: Axes, ndim: int) -> Tensor:
    """A reduced tensor with the reduced axes put back as axes of size 1."""
    rest = iter(range(reduced.ndim))
    return dimshuffle(reduced, *["x" if a in axes else next(rest) for a in range(ndim)])


def _spread(reduced: Tensor, node: Tensor) -> Tensor:
    """A value of the result's shape, repeated over the axes that ``node`` reduces."""
    (x,) = node.inputs
    axes = node.params.get("axes", (node.params.get("axis"),))
    return broadcast_like(restore(reduced, axes, x.ndim), x)


def _over(axes: Axes, x: Tensor, index: Index, at: At, combine: str, offset: Scalar | None = None) -> Scalar:
    """The reduction of the elements of ``x`` at an index of the result."""
    rest = iter(index)
    fresh = {a: scalar.index("r", x.dims[a]) for a in axes}
    value = at(0, tuple([fresh[a] if a in fresh else next(rest) for a in range(x.ndim)]))
    if offset is not None:
        value = scalar.exp(value - offset)
    for a in reversed(axes):
        value = scalar.reduce(combine, fresh[a], value)
    return value


def _kept(x: Tensor, axes: Axes) -> tuple[Any, ...]:
    return tuple([d for a, d in enumerate(x.dims) if a not in axes])


def _cases(kinds: str) -> Callable[[np.random.Generator], Any]:
    def cases(rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 17)),), {"axes": (1,)}
        yield (rng.normal(size=(17, 3)).astype("float32"),), {"axes": (0,)}
        yield (rng.normal(size=(2, 3, 4)),), {"axes": (0, 2)}
        yield (rng.normal(size=(2, 1, 4)).astype("float32"),), {"axes": (0, 1, 2)}
        yield (rng.integers(-4, 5, size=(5, 3)),), {"axes": (0,)}
        yield (rng.normal(size=(0, 3)),), {"axes": (1,)}
        if "e" in kinds:  # also over nothing
            yield (rng.normal(size=(0, 3)),), {"axes": (0,)}
        if "b" in kinds:
            yield (rng.random(size=(4, 5)) < 0.4,), {"axes": (1,)}

    return cases


def _reduction(
    name: str,
    doc: str,
    combine: str,
    numpy: Callable[..., Any],
    gradient: Callable[[Tensor, Tensor], Gradients],
    accepts: str,
    *,
    empty: bool = True,
    of_bool: str = "",
    convert: Callable[[Scalar], Scalar] = lambda value: value,
    cases: Callable[[np.random.Generator], Any] | None = None,
) -> OpDef:
    def infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
        (x,) = inputs
        if x.element.kind not in accepts:
            raise DTypeError(f"{name} does not take {x.element}: {describe(x)}")
        if not empty and any(x.type.shape[a] == 0 for a in params["axes"]):
            raise ShapeError(f"{name} of no elements has no value: {describe(x)}")
        return x.element, _kept(x, params["axes"])

    def pull(node: Tensor, at: At, index: Index) -> Scalar:
        (x,) = node.inputs
        kind = of_bool if x.element is dtypes.bool_ else combine
        return convert(_over(node.params["axes"], x, index, at, kind))

    return OpDef(
        name=name,
        doc=doc,
        infer=infer,
        reference=lambda x, axes, **ignored: np.asarray(numpy(x, axis=axes), dtype=x.dtype),
        gradient=gradient,
        pull=pull,
        guards=None if empty else _not_empty,
        category="reduction",
        cases=cases or _cases("e" if empty else ""),
    )


def _not_empty(node: Tensor) -> list[Guard]:
    (x,) = node.inputs
    axes = node.params.get("axes", (node.params.get("axis"),))
    return [
        Guard(
            scalar.gt(scalar.as_int(x.dims[a]), 0),
            f"{node.op.name} of no elements has no value (axis {a} is empty): {describe(x)}",
        )
        for a in axes
        if isinstance(x.dims[a], Scalar)
    ]


def _sum_gradient(g: Tensor, node: Tensor) -> Gradients:
    return (_spread(g, node),)


SUM = _reduction("sum", "Sum of elements.", "add", np.sum, _sum_gradient, "iufc")


def _prod_gradient(g: Tensor, node: Tensor) -> Gradients:
    """Exact also where elements are zero, and so is its own gradient.

    The product of the other elements is that of all nonzero ones, over the element itself, times that of
    the other zeros: 1 if there are none; the sum of the zeros but this one if there is one (so that it has
    a derivative). Third derivatives are exact where fewer than three elements are zero.
    """
    (x,) = node.inputs
    axes = node.params["axes"]
    if node.params["no_zeros"]:
        return (_spread(g * node, node) / x,)
    one, zero = typed(1, x), typed(0, x)
    is_zero = OPS["eq"](x, zero)
    nonzero = OPS["switch"](is_zero, one, x)
    zeros_only = OPS["switch"](is_zero, x, zero)
    ones = as_element(is_zero, dtypes.int64)
    product = _spread(PROD.make(nonzero, axes=axes, no_zeros=True), node)
    others = _spread(SUM.make(ones, axes=axes), node) - ones
    other_zero = _spread(SUM.make(zeros_only, axes=axes), node) - zeros_only
    factor = OPS["switch"](OPS["eq"](others, 0), one, OPS["switch"](OPS["eq"](others, 1), other_zero, zero))
    return (_spread(g, node) * (product / nonzero) * factor,)


def _prod_cases(rng: np.random.Generator) -> Any:
    for arrays, params in _cases("e")(rng):
        yield arrays, {**params, "no_zeros": False}
    yield (np.array([[1.5, 0.0, -2.0], [0.0, 0.0, 3.0]]),), {"axes": (1,), "no_zeros": False}
    yield (rng.uniform(0.5, 2, size=(3, 4)),), {"axes": (1,), "no_zeros": True}


PROD = _reduction(
    "prod", "Product of elements.", "mul", np.prod, _prod_gradient, "iuf", of_bool="and", cases=_prod_cases
)


def _complex_prod_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    (x,), axes = node.inputs, node.params["axes"]
    index = tuple([scalar.index("ijklmnpq"[a % 8], extent) for a, extent in enumerate(x.dims)])
    kept = [a for a in range(x.ndim) if a not in axes]
    product = Register("product", node.element)
    so_far = scalar.read(product, frozenset([index[a] for a in kept]))
    body: tuple[Statement, ...] = (Assign((product,), (so_far * at(0, index),)),)
    for a in reversed(axes):
        body = (For(index[a], x.dims[a], body),)
    place = tuple([index[a] for a in kept])
    body = (Declare(product, scalar.const(1, node.element)), *body, Store(out, place, so_far))
    for a in reversed(kept):
        body = (For(index[a], x.dims[a], body),)
    return body


def _complex_prod_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    if not x.element.is_complex:
        raise DTypeError(f"complex_prod does not take {x.element}: {describe(x)}")
    return x.element, _kept(x, params["axes"])


def _complex_prod_cases(rng: np.random.Generator) -> Any:
    x = rng.normal(size=(3, 4, 2)) + 1j * rng.normal(size=(3, 4, 2))
    for axes in ((0,), (2,), (0, 2), (0, 1, 2)):
        yield (x,), {"axes": axes}
    yield (x[0].astype("complex64"),), {"axes": (1,)}
    yield (x[:0],), {"axes": (0,)}


COMPLEX_PROD = OpDef(
    name="complex_prod",
    doc="Product of complex elements.",
    infer=_complex_prod_infer,
    reference=lambda x, axes: np.asarray(np.prod(x, axis=axes), x.dtype),
    loops=_complex_prod_loops,
    category="reduction",
    cases=_complex_prod_cases,
    tolerance=16,
)


def _extreme_gradient(g: Tensor, node: Tensor) -> Gradients:
    (x,) = node.inputs
    return (OPS["switch"](OPS["eq"](x, _spread(node, node)), _spread(g, node), typed(0, g)),)


MAX = _reduction(
    "max", "Largest element; NaN if there is one.", "maximum", np.max, _extreme_gradient, "biuf",
    empty=False, of_bool="or",
)  # fmt: skip
MIN = _reduction(
    "min", "Smallest element; NaN if there is one.", "minimum", np.min, _extreme_gradient, "biuf",
    empty=False, of_bool="and",
)  # fmt: skip


def _no_slope(g: Tensor, node: Tensor) -> Gradients:
    return (zeros(_spread(g, node)),)


def _bool_cases(rng: np.random.Generator) -> Any:
    yield (rng.random(size=(4, 5)) < 0.3,), {"axes": (1,)}
    yield (rng.random(size=(4, 5)) < 0.7,), {"axes": (0, 1)}
    yield (np.zeros((0, 3), bool),), {"axes": (0,)}


ANY = _reduction(
    "any", "Whether any element holds.", "or", np.any, _no_slope, "b", of_bool="or", cases=_bool_cases
)
ALL = _reduction(
    "all", "Whether all elements hold.", "and", np.all, _no_slope, "b", of_bool="and", cases=_bool_cases
)


# Positions ------------------------------------------------------------------------------------------------


def _arg_cases(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=(3, 17)),), {"axis": 1}
    yield (rng.normal(size=(17, 3)).astype("float32"),), {"axis": 0}
    yield (rng.integers(0, 3, size=(2, 9, 2)),), {"axis": 1}
    yield (np.array([1.0, np.nan, 5.0, np.nan, 5.0]),), {"axis": 0}
    yield (rng.random(size=(4, 6)) < 0.3,), {"axis": 1}
    yield (np.zeros((0, 3)),), {"axis": 1}


def _arg(name: str, doc: str, numpy: Callable[..., Any]) -> OpDef:
    def infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
        (x,) = inputs
        if x.element.kind not in "biuf":
            raise DTypeError(f"{name} does not take {x.element}: {describe(x)}")
        if x.type.shape[params["axis"]] == 0:
            raise ShapeError(f"{name} of no elements has no value: {describe(x)}")
        return dtypes.int64, _kept(x, (params["axis"],))

    return OpDef(
        name=name,
        doc=doc,
        infer=infer,
        reference=lambda x, axis: np.asarray(numpy(x, axis=axis)),
        gradient=_no_slope,
        pull=lambda node, at, index: _over((node.params["axis"],), node.inputs[0], index, at, name),
        guards=_not_empty,
        category="reduction",
        cases=_arg_cases,
    )


ARGMAX = _arg("argmax", "Position of the largest element (the first; of the first NaN).", np.argmax)
ARGMIN = _arg("argmin", "Position of the smallest element (the first; of the first NaN).", np.argmin)


# Log of a sum of exponentials -----------------------------------------------------------------------------


def _logsumexp_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    (x,) = inputs
    if not x.element.is_float:
        raise DTypeError(f"logsumexp does not take {x.element}: {describe(x)}")
    return x.element, _kept(x, params["axes"])


def _logsumexp_pull(node: Tensor, at: At, index: Index) -> Scalar:
    (x,) = node.inputs
    axes = node.params["axes"]
    highest = _over(axes, x, index, at, "maximum")
    shift = scalar.select(scalar.isfinite(highest), highest, 0)
    return scalar.log(_over(axes, x, index, at, "add", shift)) + shift


def _logsumexp_reference(x: Any, axes: Axes) -> Any:
    if not axes:
        return np.asarray(x)
    with np.errstate(all="ignore"):
        highest = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(highest), highest, np.zeros_like(highest))
        total = np.log(np.sum(np.exp(x - shift), axis=axes))
        return np.asarray(total + shift.reshape(total.shape), x.dtype)


def _logsumexp_cases(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=(3, 17)) * 3,), {"axes": (1,)}
    yield (rng.normal(size=(17, 3)).astype("float32"),), {"axes": (0,)}
    yield (rng.normal(size=(2, 3, 4)),), {"axes": (0, 2)}
    yield (np.array([[1000.0, 1000.0], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 1.0]]),), {"axes": (1,)}
    yield (np.zeros((0, 3)),), {"axes": (0,)}


LOGSUMEXP = OpDef(
    name="logsumexp",
    doc="Logarithm of the sum of exponentials, shifted by the largest element so that nothing overflows.",
    infer=_logsumexp_infer,
    reference=_logsumexp_reference,
    gradient=lambda g, node: (_spread(g, node) * OPS["exp"](node.inputs[0] - _spread(node, node)),),
    pull=_logsumexp_pull,
    category="reduction",
    cost=40,
    cases=_logsumexp_cases,
)
