"""Reductions: of reductions, of rearranged or repeated elements, and over axes of size 1."""

import numpy as np

from symtensor.graph import Tensor, constant
from symtensor.opdef import OPS
from symtensor.rewrite.conditions import one_element, uniform, when
from symtensor.rewrite.pattern import Compute, Hole, Param
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.sizes import sizes_as_tensors
from symtensor.rewrite.words import all, any, dimshuffle, max, min, sum

Axes = tuple[int, ...]
Order = tuple[int | str, ...]


def _both_axes(inner: Axes, outer: Axes) -> Axes:
    """The axes of the innermost tensor that two reductions remove."""
    rank = len(inner) + len(outer) + 32
    kept = [a for a in range(rank) if a not in inner]
    return tuple(sorted([*inner, *[kept[a] for a in outer]]))


def _before_shuffle(order: Order, axes: Axes) -> Axes:
    """Axes after a dimshuffle as axes before it; inserted axes are left out, dropped ones added."""
    return tuple(sorted([a for k, a in enumerate(order) if k in axes and isinstance(a, int)]))


def _order_after(order: Order, axes: Axes) -> Order:
    """How the axes that remain are to be shuffled when the reduction comes first."""
    removed = _before_shuffle(order, axes)
    rest: list[int | str] = []
    for k, a in enumerate(order):
        if k not in axes:
            rest.append(a if isinstance(a, str) else a - len([r for r in removed if r < a]))
    return tuple(rest)


def _reduces_real_axes(order: Order, axes: Axes) -> bool:
    return len(_before_shuffle(order, axes)) > 0


@ruleset
def reductions(x: Hole, y: Hole, a: Param, b: Param, o: Param) -> Rows:
    """One reduction for two; rearranged axes are reduced before they are rearranged."""
    both = Compute(_both_axes, a, b)
    before, after = Compute(_before_shuffle, o, a), Compute(_order_after, o, a)
    some = when("an axis of x is reduced", _reduces_real_axes, o, a)
    for word in (sum, max, min, any, all):
        yield f"{word.name}_of_{word.name}", word(word(x, axes=a), axes=b), word(x, axes=both)
        yield (
            f"{word.name}_of_dimshuffle",
            word(dimshuffle(x, order=o), axes=a),
            dimshuffle(word(x, axes=before), order=after),
            some,
        )
    yield "sum_of_neg", sum(-x, axes=a), -sum(x, axes=a)
    yield "max_of_neg", max(-x, axes=a), -min(x, axes=a), when("x signed", _signed, x)
    yield "min_of_neg", min(-x, axes=a), -max(x, axes=a), when("x signed", _signed, x)


def _signed(x: Tensor) -> bool:
    return x.element.kind == "f"


more_reductions = RuleSet("more_reductions", "Reductions over axes of size 1, and of repeated elements.")
_ALL = ("sum", "prod", "max", "min", "any", "all", "logsumexp")


@more_reductions.procedure(*_ALL, name="reduce_single")
def _reduce_single(node: Tensor) -> Tensor | None:
    """An axis known to have one element is dropped, not reduced."""
    (x,), axes = node.inputs, node.params["axes"]
    single = [k for k in axes if x.type.shape[k] == 1]
    if not single and axes:
        return None
    kept = tuple([k for k in range(x.ndim) if k not in single])
    dropped = OPS["dimshuffle"].make(x, order=kept) if single else x
    rest = tuple([kept.index(k) for k in axes if k not in single])
    return node.op.make(dropped, **{**node.params, "axes": rest}) if rest else dropped


@more_reductions.procedure("sum", name="sum_of_broadcast", inputs=("broadcast_to",))
def _sum_of_broadcast(node: Tensor) -> Tensor | None:
    """Repeated elements are counted, not added; only of finite constants or where there is at least one."""
    (wide,), axes = node.inputs, node.params["axes"]
    x = wide.inputs[0]
    new = wide.ndim - x.ndim
    repeated = [k for k in axes if k < new or (x.type.shape[k - new] == 1 and wide.type.shape[k] != 1)]
    if not repeated:
        return None
    sizes = [wide.dims[k] for k in repeated]
    value = uniform(x)
    finite = value is not None and bool(np.isfinite(value))
    if not finite and not _all_positive(sizes):
        return None
    count: Tensor = constant(np.asarray(1, np.int64))
    for size in sizes_as_tensors(sizes):
        count = OPS["mul"].make(count, constant(np.int64(size)) if isinstance(size, int) else size)
    kept = [k for k in range(wide.ndim) if k not in repeated]
    narrow = OPS["broadcast_to"].make
    if kept:
        order = tuple([k for k in range(x.ndim) if k + new in kept])
        x = OPS["dimshuffle"].make(x, order=order) if len(order) < x.ndim else x
        targets = sizes_as_tensors([wide.dims[k] for k in kept])
        shape = tuple([t if isinstance(t, int) else None for t in targets])
        x = narrow(x, *[t for t in targets if not isinstance(t, int)], shape=shape)
        rest = tuple([kept.index(k) for k in axes if k not in repeated])
        x = OPS["sum"].make(x, axes=rest) if rest else x
    elif x.ndim:
        x = OPS["dimshuffle"].make(x, order=())
    return OPS["mul"].make(x, OPS["cast"].make(count, dtype=x.element))


def _all_positive(sizes: list[object]) -> bool:
    return len([s for s in sizes if isinstance(s, int) and s > 0]) == len(sizes)


@more_reductions.procedure("max", "min", "any", "all", name="extreme_of_broadcast", inputs=("broadcast_to",))
def _extreme_of_broadcast(node: Tensor) -> Tensor | None:
    """The largest of repeated elements is that of one of them, where all sizes are known and not 0."""
    (wide,), axes = node.inputs, node.params["axes"]
    x = wide.inputs[0]
    new = wide.ndim - x.ndim
    if not one_element(x) or not _all_positive([wide.dims[k] for k in axes]):
        return None
    del new
    return OPS["dimshuffle"].make(x, order=()) if x.ndim else x
