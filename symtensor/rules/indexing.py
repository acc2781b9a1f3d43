"""Parts of tensors: whole slices, parts that were just written, elements of products and of vectors of scalars.

Parts of elementwise results need no rule: only the elements asked for are computed, because operations are
lowered to their value at an index.
"""

from typing import Any

from symtensor.graph import Tensor
from symtensor.opdef import OPS
from symtensor.rewrite.conditions import when
from symtensor.rewrite.fold import conform
from symtensor.rewrite.pattern import Hole, Param, Rest
from symtensor.rewrite.rules import Rows, RuleSet, ruleset
from symtensor.rewrite.words import subtensor

Item = tuple[Any, ...]
_ALL: Item = ("slice", None, None, 1)


def _everything(items: tuple[Item, ...]) -> bool:
    return all(item in (_ALL, ("slice", 0, None, 1)) for item in items)


@ruleset
def parts(x: Hole, r: Rest, i: Param) -> Rows:
    """Slices that take everything."""
    yield "part_is_all", subtensor(x, r, items=i), x, when("i takes everything", _everything, i)


parts_of_results = RuleSet("parts_of_results", "Parts of what was just written, stacked or multiplied.")


@parts_of_results.procedure("subtensor", name="part_just_set", inputs=("set_part",))
def _part_just_set(node: Tensor) -> Tensor | None:
    """set_subtensor(x[i], y)[i] becomes y."""
    written = node.inputs[0]
    if node.params["items"] != written.params["items"] or node.inputs[1:] != written.inputs[2:]:
        return None
    return conform(written.inputs[1], node)


@parts_of_results.procedure("subtensor", name="element_of_vector", inputs=("make_vector",))
def _element_of_vector(node: Tensor) -> Tensor | None:
    """An element of a vector of scalars, at a known position, is that scalar."""
    items: tuple[Item, ...] = node.params["items"]
    if len(items) != 1 or items[0][0] != "index" or not isinstance(items[0][1], int):
        return None
    return node.inputs[0].inputs[items[0][1]]


@parts_of_results.procedure("subtensor", name="part_of_product", inputs=("dot",))
def _part_of_product(node: Tensor) -> Tensor | None:
    """A row, column or element of a product of matrices becomes a product with a vector."""
    product, *bounds = node.inputs
    items = node.params["items"]
    a, b = product.inputs
    if a.ndim != 2 or b.ndim != 2 or len(items) != 2 or "index" not in (items[0][0], items[1][0]):
        return None
    rows = _along(a, (items[0], _ALL), bounds)
    columns = _along(b, (_ALL, items[1]), bounds)
    return OPS["dot"].make(rows, columns)


def _along(x: Tensor, items: tuple[Item, ...], bounds: list[Tensor]) -> Tensor:
    """The part of ``x``, with only those of the inputs that its items speak of."""
    if _everything(items):
        return x
    used: list[Tensor] = []
    renamed: list[Item] = []
    for item in items:
        entries: list[Any] = []
        for entry in item:
            if isinstance(entry, tuple):
                used.append(bounds[entry[1]])
                entry = ("in", len(used) - 1)
            entries.append(entry)
        renamed.append(tuple(entries))
    return OPS["subtensor"].make(x, *used, items=tuple(renamed))
