"""Layout: chains of dimshuffles, reshapes and broadcasts, and sizes as expressions of the sizes of inputs."""

import numpy as np

from symtensor.graph import Tensor, constant
from symtensor.opdef import CONSTANT, OPS
from symtensor.rewrite.conditions import when
from symtensor.rewrite.pattern import Compute, Hole, Param, Rest
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.sizes import size_tensor
from symtensor.rewrite.words import dimshuffle, dot, reshape

Order = tuple[int | str, ...]


def _compose(inner: Order, outer: Order) -> Order:
    """The order of two dimshuffles after each other."""
    return tuple([a if isinstance(a, str) else inner[a] for a in outer])


def _nothing(x: Tensor, order: Order) -> bool:
    return order == tuple(range(x.ndim))


def _keeps_sizes(x: Tensor, given: tuple[Tensor, ...], shape: tuple[int | None, ...]) -> bool:
    return OPS["reshape"].make(x, *given, shape=shape).dims == x.dims


def _keeps_order(order: Order) -> bool:
    """Whether only axes of size 1 are inserted or dropped."""
    kept = [a for a in order if isinstance(a, int)]
    return kept == sorted(kept)


@ruleset
def chains(x: Hole, r: Rest, s: Rest, o: Param, q: Param, a: Param, b: Param) -> Rows:
    """Cancel and join dimshuffles and reshapes."""
    yield "dimshuffle_nothing", dimshuffle(x, order=o), x, when("o changes nothing", _nothing, x, o)
    composed = Compute(_compose, o, q)
    yield "dimshuffle_twice", dimshuffle(dimshuffle(x, order=o), order=q), dimshuffle(x, order=composed)
    yield (
        "reshape_nothing",
        reshape(x, r, shape=a),
        x,
        when("the sizes are those of x", _keeps_sizes, x, r, a),
    )
    yield "reshape_twice", reshape(reshape(x, r, shape=a), s, shape=b), reshape(x, s, shape=b)
    ones = when("o only inserts or drops axes of size 1", _keeps_order, o)
    yield "reshape_of_dimshuffle", reshape(dimshuffle(x, order=o), r, shape=a), reshape(x, r, shape=a), ones


sizes = RuleSet("sizes", "Sizes are expressions of the sizes of inputs, whatever was computed between.")


@sizes.procedure("dim", name="size_of_result")
def _size_of_result(node: Tensor) -> Tensor | None:
    """The size of a result as the inference rule knows it; nothing is computed for its sake."""
    size = node.inputs[0].dims[node.params["axis"]]
    return constant(np.int64(size)) if isinstance(size, int) else size_tensor(size)


views_of_repeated = RuleSet("views_of_repeated", "Views of one repeated element are that element, repeated otherwise.")


@views_of_repeated.procedure(
    "dimshuffle", "reshape", "subtensor", "specify_shape", name="view_of_repeated", inputs=("broadcast_to",)
)
def _view_of_repeated(node: Tensor) -> Tensor | None:
    """view(broadcast(scalar)) becomes broadcast(scalar); the driver gives it the sizes of the view."""
    source = node.inputs[0].inputs[0]
    if node.inputs[0].op is CONSTANT or source.ndim or node.ndim == 0:
        return None
    return source


@ruleset
def transposed_products(x: Hole, y: Hole) -> Rows:
    """Products of transposes whose result is transposed back."""
    swap = (1, 0)
    yield (
        "transposed_product",
        dimshuffle(dot(dimshuffle(x, order=swap), dimshuffle(y, order=swap)), order=swap),
        dot(y, x),
    )
