"""Expressions over a batch: the same computation for every element of a new first axis, without a loop.

``vectorize`` replaces some nodes by tensors with one more axis in front, and builds what depends on them so
that it has this axis too. Elementwise operations broadcast over it; the others have a rule here.
"""

from collections.abc import Callable, Mapping, Sequence

from symtensor_codegen.errors import InternalError, UserError

from .graph import Tensor, ancestors, inherit, no_recording, rebuild
from .opdef import describe
from .ops import indexing_records, shaping_axes
from .ops.shaping_axes import dim, dimshuffle
from .ops.shaping_broadcast import broadcast_sizes
from .ops.shaping_reshape import reshape_to


class VectorizeError(UserError, NotImplementedError):
    """An operation has no rule for a batch."""


Size = int | Tensor  # the latter a 0-d int64 expression

# A rule gets the node, its inputs (some with the batch axis in front), which have it, and the batch's size.
Inputs = Sequence[Tensor]
Rule = Callable[[Tensor, Inputs, Sequence[bool], Size], Tensor]


def vectorize(outputs: Sequence[Tensor], replacements: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """The outputs with a batch axis in front, computed from replacements that have it.

    Args:
        outputs: expressions.
        replacements: for some nodes, tensors of the same element type with one more axis in front; all of one
            size there.

    Returns:
        The outputs, each with the batch axis (also where it does not depend on a replaced node).

    Raises:
        VectorizeError: an operation that depends on a replaced node has no rule.
    """
    batch: dict[Tensor, Tensor] = {}
    for old, new in replacements.items():
        if new.ndim != old.ndim + 1 or new.element is not old.element:
            raise InternalError(f"vectorize: {describe(new)} is no batch of {describe(old)}")
        batch[old] = new
    first = next(iter(batch.values()))
    count = first.type.shape[0] if first.type.shape[0] is not None else dim(first, 0)
    alike: dict[Tensor, Tensor] = {}  # what is the same for all elements of a batch: computed from sizes of one
    with no_recording():
        for node in ancestors(outputs, stop=batch):
            if node in batch:
                continue
            if node.op.name == "dim" and node.inputs[0] in batch:
                alike[node] = shaping_axes.dim(batch[node.inputs[0]], node.params["axis"] + 1)
            elif any(i in batch for i in node.inputs):
                batch[node] = made = _batched(node, batch, alike, count)
                inherit(made, node)
            elif any(i in alike for i in node.inputs):
                alike[node] = rebuild(node, tuple([alike.get(i, i) for i in node.inputs]))
        return [batch[out] if out in batch else _repeated(alike.get(out, out), count) for out in outputs]


def _batched(node: Tensor, batch: Mapping[Tensor, Tensor], alike: Mapping[Tensor, Tensor], count: Size) -> Tensor:
    has = [i in batch for i in node.inputs]
    inputs = [batch.get(i, alike.get(i, i)) for i in node.inputs]
    if node.op.is_elementwise:
        return _elementwise(node, inputs, has)
    rule = RULES.get(node.op.name)
    if rule is None:
        raise VectorizeError(
            f"{node.op} cannot be computed for a batch{describe_site(node)}: it has no rule for it. "
            "Compute the elements one by one"
        )
    return rule(node, inputs, has, count)


def describe_site(node: Tensor) -> str:
    """`` (train.py:12)``, or nothing where it is not known."""
    return f" ({node.site})" if node.site else ""


def _repeated(x: Tensor, count: Size) -> Tensor:
    """The tensor once for every element of the batch."""
    return broadcast_sizes(x, [count, *shaping_axes.sizes(x)])


def _aligned(x: Tensor, has: bool, rank: int) -> Tensor:
    """A batched operand with axes of size 1 behind the batch axis, so that the others align at the right."""
    missing = rank - (x.ndim - 1)
    return dimshuffle(x, 0, *["x"] * missing, *range(1, x.ndim)) if has and missing else x


def _elementwise(node: Tensor, inputs: Inputs, has: Sequence[bool]) -> Tensor:
    return node.op.make(*[_aligned(i, h, node.ndim) for i, h in zip(inputs, has, strict=True)], **node.params)


def _along(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    """Operations along axes: these are one further back. Operands of lower rank are amounts and sizes."""
    rank = node.inputs[0].ndim
    made: list[Tensor] = []
    for old, new, batched in zip(node.inputs, inputs, has, strict=True):
        if batched and old.ndim != rank:
            raise VectorizeError(
                f"{node.op}{describe_site(node)}: {describe(old)} differs from element to element of a batch"
            )
        made.append(_repeated(new, count) if old.ndim == rank and not batched else new)
    return node.op.make(*made, **{name: _moved(name, value) for name, value in node.params.items()})


def _moved(name: str, value: object) -> object:
    if name in ("axis", "axis1", "axis2"):
        assert isinstance(value, int)
        return value + 1
    if name == "axes":
        assert isinstance(value, tuple)
        return tuple([axis + 1 for axis in value])
    return value


def _dimshuffle(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    return dimshuffle(inputs[0], 0, *[a if a == "x" else a + 1 for a in node.params["order"]])


def _broadcast(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    if any(has[1:]):
        raise VectorizeError(
            f"{node.op}{describe_site(node)}: its sizes differ from element to element of a batch"
        )
    return broadcast_sizes(_aligned(inputs[0], True, node.ndim), [count, *_sizes_given(node, inputs)])


def _reshape(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    if any(has[1:]):
        raise VectorizeError(
            f"{node.op}{describe_site(node)}: its sizes differ from element to element of a batch"
        )
    return reshape_to(inputs[0], [count, *_sizes_given(node, inputs)])


def _front_extended(*front: int) -> Rule:
    """A rule for operations whose parameter ``shape`` has entries for every axis: ``front`` for the new."""

    def rule(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
        if any(has[1:]):
            raise VectorizeError(
                f"{node.op}{describe_site(node)}: its arguments differ from element to element of a batch"
            )
        return node.op.make(*inputs, shape=(*front, *node.params["shape"]))

    return rule


def _sizes_given(node: Tensor, inputs: Inputs) -> list[Size]:
    given = iter(inputs[1:])
    return [next(given) if size is None else size for size in node.params["shape"]]


def _make_vector(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    from .ops.joining import join

    rows = [i if h else _repeated(i, count) for i, h in zip(inputs, has, strict=True)]
    return join(1, *[dimshuffle(row, 0, "x") for row in rows])


def _dot(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    """Products of vectors and matrices, as products of higher rank."""
    from .ops import linalg

    a, b = inputs
    if has[0] and not has[1]:
        return linalg.tensordot(a, b, axes=([a.ndim - 1], [max(b.ndim - 2, 0)]))
    if has[1] and not has[0]:
        axis = 1 + max(b.ndim - 3, 0)
        product = linalg.tensordot(a, b, axes=([a.ndim - 1], [axis]))
        return dimshuffle(product, a.ndim - 1, *[k for k in range(product.ndim) if k != a.ndim - 1])
    if a.ndim == 2:
        product = linalg.matmul(dimshuffle(a, 0, "x", 1), b if b.ndim == 3 else dimshuffle(b, 0, 1, "x"))
        return dimshuffle(product, 0, 2) if b.ndim == 3 else dimshuffle(product, 0)
    if b.ndim == 2:
        return dimshuffle(linalg.matmul(a, dimshuffle(b, 0, 1, "x")), 0, 1)
    return linalg.matmul(a, b)


def _batched_dot(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    from .ops.linalg import matmul

    return matmul(*inputs)


# Indexing ------------------------------------------------------------------------------------------------

_ALL = ("slice", None, None, 1)


def _checked_keys(node: Tensor, has: Sequence[bool]) -> None:
    if any(has):
        raise VectorizeError(
            f"{node.op}{describe_site(node)}: its indices differ from element to element of a batch"
        )


def _front(node: Tensor) -> int:
    """Where the batch axis is in a part of a batch: behind the axes of index arrays that come first."""
    items = node.params["items"]
    places = [k for k, item in enumerate(items) if item[0] == "array"]
    if not places or places == list(range(places[0], places[-1] + 1)):
        return 0
    first = len(node.inputs) - _keys(node)
    return max(int(node.inputs[first + items[k][1]].ndim) for k in places)


def _keys(node: Tensor) -> int:
    return len(node.inputs) - (1 if node.op.name in ("subtensor", "advanced_subtensor") else 2)


def _read(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    _checked_keys(node, has[1:])
    part = node.op.make(*inputs, items=(_ALL, *node.params["items"]))
    at = _front(node)
    return dimshuffle(part, at, *[k for k in range(part.ndim) if k != at]) if at else part


def _write(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    _checked_keys(node, has[2:])
    x, y, *others = inputs
    if not has[0]:
        x = _repeated(x, count)
    if has[1]:
        part = len(indexing_records.region(node.inputs[0], node.params["items"], node.inputs[2:]).dims)
        y = _aligned(y, True, part)
        at = _front(node)
        if at:
            y = dimshuffle(y, *range(1, at + 1), 0, *range(at + 1, y.ndim))
    return node.op.make(x, y, *others, items=(_ALL, *node.params["items"]))


def _loop(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    from .loops.batches import batched_loop

    return batched_loop(node, inputs, has, count)


def _of_loop(node: Tensor, inputs: Inputs, has: Sequence[bool], count: Size) -> Tensor:
    from .loops.batches import batched_result

    return batched_result(node, inputs, has, count)


_ALONG = (
    "sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "logsumexp", "softmax", "log_softmax",
    "cumsum", "cumprod", "recurrence", "join", "roll", "diagonal", "put_diagonal", "unbroadcast",
    "spread",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ALONG, _along),
    "loop": _loop,
    **dict.fromkeys(("trace", "final", "history", "steps_run"), _of_loop),
    "dimshuffle": _dimshuffle,
    "broadcast_to": _broadcast,
    "reshape": _reshape,
    "specify_shape": _front_extended(-1),
    "pad": _front_extended(0, 0),
    "make_vector": _make_vector,
    "dot": _dot,
    "batched_dot": _batched_dot,
    "subtensor": _read,
    "advanced_subtensor": _read,
    "set_part": _write,
    "inc_part": _write,
    "set_at": _write,
    "inc_at": _write,
}
