"""Other loops: ``map`` and folds as in Theano, and loops over states as in JAX."""

from collections.abc import Callable, Sequence
from typing import Any

from symtensor.graph import Tensor, TensorLike, as_tensor, constant, variable
from symtensor.opdef import OPS, describe
from symtensor.ops.loop_body import UNBOUNDED, capture, index_variable, keep_sizes, make_body
from symtensor.ops.loop_records import LOOP, final
from symtensor.types import TensorType
from symtensor.updates import OrderedUpdates
from symtensor_codegen import dtypes

from .scan import scan
from .steps import ScanError, listed


def map(
    fn: Callable[..., Any],
    sequences: Any,
    non_sequences: Any = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    mode: object = None,
    name: str | None = None,
) -> tuple[Any, OrderedUpdates]:
    """``fn`` applied to the rows of ``sequences``; results are stacked. Arguments as in ``scan``."""
    return scan(
        fn, sequences, None, non_sequences, truncate_gradient=truncate_gradient, go_backwards=go_backwards, name=name
    )


def reduce(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    go_backwards: bool = False,
    mode: object = None,
    name: str | None = None,
) -> tuple[Any, OrderedUpdates]:
    """The last results of a ``scan``: nothing but the latest state is kept."""
    outputs, updates = scan(
        fn, sequences, outputs_info, non_sequences, go_backwards=go_backwards, name=name, return_list=True
    )
    last = [output[-1] for output in outputs]
    return last[0] if len(last) == 1 else last, updates


def foldl(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    mode: object = None,
    name: str | None = None,
) -> tuple[Any, OrderedUpdates]:
    """``reduce`` from the first row to the last."""
    return reduce(fn, sequences, outputs_info, non_sequences, name=name)


def foldr(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    mode: object = None,
    name: str | None = None,
) -> tuple[Any, OrderedUpdates]:
    """``reduce`` from the last row to the first."""
    return reduce(fn, sequences, outputs_info, non_sequences, go_backwards=True, name=name)


def fori_loop(lower: TensorLike, upper: TensorLike, body_fun: Callable[..., Any], init_val: Any) -> Any:
    """The state after ``body_fun(i, state)`` for i from ``lower`` to ``upper - 1``.

    The state is a tensor, or a list or tuple of tensors; ``body_fun`` returns the same.
    """
    low, high = _bound(lower), _bound(upper)
    count = OPS["maximum"](OPS["sub"](high, low), 0)
    return _run("fori_loop", count, init_val, lambda index, state: (body_fun(OPS["add"](index, low), state), None))


def while_loop(
    cond_fun: Callable[..., Any], body_fun: Callable[..., Any], init_val: Any, max_steps: int | None = None
) -> Any:
    """The first state for which ``cond_fun(state)`` does not hold, each made from the last by ``body_fun``.

    The state is a tensor, or a list or tuple of tensors. With ``max_steps`` the loop ends after so many steps in any
    case; a gradient needs that, because it keeps what every step computed.
    """
    initial = list(init_val) if isinstance(init_val, (list, tuple)) else init_val
    goes_on = _condition(cond_fun(initial))
    steps = constant(UNBOUNDED if max_steps is None else max_steps, "int64")
    count = OPS["switch"](goes_on, steps, constant(0, "int64"))

    def step(index: Tensor, state: Any) -> tuple[Any, Tensor]:
        after = body_fun(state)
        return after, OPS["eq"](OPS["cast"].make(_condition(cond_fun(after)), dtype=dtypes.bool_), False)

    return _run("while_loop", count, init_val, step)


def _bound(value: TensorLike) -> Tensor:
    made = as_tensor(value)
    if made.ndim != 0 or made.element.kind not in "iu":
        raise ScanError(f"fori_loop: the bounds must be integer scalars, got {describe(made)}")
    return made if made.element is dtypes.int64 else OPS["cast"].make(made, dtype=dtypes.int64)


def _condition(value: TensorLike) -> Tensor:
    made = as_tensor(value)
    if made.ndim != 0:
        raise ScanError(f"while_loop: the condition must be a scalar, got {describe(made)}")
    return made


def _run(
    name: str, count: Tensor, init_val: Any, step: Callable[[Tensor, Any], tuple[Any, Tensor | None]]
) -> Any:
    """Run a step over states, and take out the last ones."""
    from symtensor.rules import stabilise

    many = isinstance(init_val, (list, tuple))
    initial = [as_tensor(x) for x in (init_val if many else [init_val])]
    index = index_variable()
    before = [variable(TensorType(x.element, x.type.shape), x.name) for x in initial]
    state: Any = before if many else before[0]
    after, until = step(index, type(init_val)(state) if many else state)
    nexts = [as_tensor(x) for x in listed(after)]
    if len(nexts) != len(before):
        raise ScanError(f"{name}: the state has {len(before)} parts, but a step returns {len(nexts)}")
    inner = stabilise([*nexts, *([until] if until is not None else [])], [index, *before])
    inner, captured, holes = capture(inner, [index, *before])
    body = make_body(
        index, tuple(before), (), tuple(holes), tuple(keep_sizes(before, inner[: len(before)], holes)),
        inner[-1] if until is not None else None, False, -1, name,
    )  # fmt: skip
    loop = LOOP.make(count, *initial, *captured, body=body)
    return _like(init_val, [final(loop, k) for k in range(len(before))])


def _like(model: Any, values: Sequence[Tensor]) -> Any:
    if isinstance(model, tuple):
        return tuple(values)
    return list(values) if isinstance(model, list) else values[0]


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes of ``elems`` along ``axis``, combined by the associative ``fn``, in a logarithmic number of steps.

    Args:
        fn: combines two arrays (or two lists of arrays) row by row: ``fn(earlier, later)``.
        elems: an array, or a list or tuple of arrays with equally many rows.
        reverse: combine from the end: suffixes.
        axis: the axis to run along.

    Returns:
        As ``elems``: row i is the combination of the rows up to i. (Hillis and Steele, 1986: Data parallel
        algorithms; every step combines each row with the one 1, 2, 4, ... before.)
    """
    from symtensor.ops.creation import arange
    from symtensor.ops.shaping_axes import dim, dimshuffle

    many = isinstance(elems, (list, tuple))
    arrays = [_first(as_tensor(x), axis) for x in (elems if many else [elems])]
    if reverse:
        arrays = [x[::-1] for x in arrays]
    count = dim(arrays[0], 0)
    rows = arange(count)

    def step(state: Sequence[Tensor]) -> list[Tensor]:
        distance, *values = state
        source = OPS["maximum"](OPS["sub"](rows, distance), 0)
        earlier = [x[source] for x in values]
        joined = listed(fn(earlier, values) if many else fn(earlier[0], values[0]))
        made = []
        for new, old in zip(joined, values, strict=True):
            reached = dimshuffle(OPS["ge"](rows, distance), 0, *["x"] * (old.ndim - 1))
            made.append(OPS["switch"](reached, new, old))
        return [OPS["mul"](distance, 2), *made]

    _, *results = while_loop(
        lambda state: OPS["lt"](state[0], count), step, [constant(1, "int64"), *arrays], max_steps=62
    )
    if reverse:
        results = [x[::-1] for x in results]
    return _like(elems, [_back(x, axis) for x in results])


def _first(x: Tensor, axis: int) -> Tensor:
    order = [axis % x.ndim, *[a for a in range(x.ndim) if a != axis % x.ndim]]
    return x if order == list(range(x.ndim)) else OPS["dimshuffle"].make(x, order=tuple(order))


def _back(x: Tensor, axis: int) -> Tensor:
    order = [axis % x.ndim, *[a for a in range(x.ndim) if a != axis % x.ndim]]
    inverse = tuple(order.index(a) for a in range(x.ndim))
    return x if order == list(range(x.ndim)) else OPS["dimshuffle"].make(x, order=inverse)
