"""Examples of rows: tensors for the holes with which the left side exists and the condition holds.

The checks of every row are derived from these: both sides are evaluated, the rows are applied to the left
side.
"""

from collections.abc import Iterator
from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np

from symtensor.graph import Tensor, ancestors, constant, no_recording, variable
from symtensor.opdef import OPS
from symtensor.types import tensor_type
from symtensor_codegen import dtypes
from symtensor_codegen.errors import InternalError, UserError

from .match import Matcher, instantiate
from .pattern import Apply, Const, Hole, Param, Pattern, Rest, holes
from .rules import Row

ELEMENTS = (dtypes.float64, dtypes.float32, dtypes.int64, dtypes.int8, dtypes.bool_, dtypes.complex128)
SHAPES = ((3,), (2, 3), (), (1, 3), (2, 1), (2, 3, 4), (1, 1))
VALUES = (2.0, 3.0, -0.5)
PARAMS: dict[str, tuple[Any, ...]] = {
    "axes": ((0,), (1,), (0, 1), (0, 2)),
    "axis": (0, 1),
    "order": ((0, 1), (1, 0), (0, "x"), ("x", 0), (0,), (0, 1, "x"), (1, "x", 0), (2, 0, 1)),
    "shape": ((3,), (2, 3), (6,), (3, 2), (1, 3), (4, 3), (4, 2, 3), (5, 2, 3)),
    "items": ((("slice", None, None, 1),), (("slice", 0, None, 1), ("slice", None, None, 1))),
    "dtype": (dtypes.float64, dtypes.float32, dtypes.int64, dtypes.int8, dtypes.bool_),
}


class Instance(NamedTuple):
    """A row with tensors in its holes: both sides, built."""

    row: Row
    holes: dict[Hole | Param, Any]
    left: Tensor
    right: Tensor


def instances(row: Row, count: int = 8, tries: int = 20_000) -> list[Instance]:
    """Up to ``count`` examples of a row, of different element types and shapes."""
    return list(islice(_instances(row, tries), count))


def _instances(row: Row, tries: int) -> Iterator[Instance]:
    found = sorted(holes(row.left), key=lambda h: h.name)
    tensors = [h for h in found if isinstance(h, Hole) and not isinstance(h, Rest)]
    params = [h for h in found if isinstance(h, Param)]
    rests = [h for h in found if isinstance(h, Rest)]
    conditions = _conditions(row.left)
    choices = [PARAMS[_param_name(row.left, p)] for p in params]
    matcher = Matcher(row.name, row.left, row.right, row.condition)
    tried = 0
    for relation in _relations(tensors):
        for shapes, element, values in product(_shapes(len(tensors)), ELEMENTS, product(*choices)):
            tried += 1
            if tried > tries:
                return
            chosen: dict[Hole | Param, Any] = dict(zip(params, values, strict=True))
            chosen.update(dict.fromkeys(rests, ()))
            for k, (hole, shape) in enumerate(zip(tensors, shapes, strict=True)):
                kind = dtypes.bool_ if hole in conditions else element
                if isinstance(hole, Const):
                    chosen[hole] = constant(np.asarray(VALUES[k % len(VALUES)]).astype(kind.numpy))
                else:
                    chosen[hole] = variable(tensor_type(kind, shape), hole.name)
            if relation is not None:
                one, other = relation
                if chosen[other].element.kind not in "fi":
                    continue
                chosen[one] = OPS["neg"].make(chosen[other])
            made = _built(row, matcher, chosen, element)
            if made is not None:
                yield made


def _shapes(count: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The same shape for all holes first; then one of them is a scalar."""
    for shape in SHAPES:
        yield (shape,) * count
    for k in range(count if count > 1 else 0):
        yield tuple([() if j == k else (2, 3) for j in range(count)])


def _relations(tensors: list[Hole]) -> Iterator[tuple[Hole, Hole] | None]:
    """Holes that are independent of each other first; then one is the negative of another."""
    yield None
    for one, other in product(tensors, tensors):
        if one is not other:
            yield one, other


def _conditions(left: Pattern) -> set[Pattern]:
    """The holes that stand for conditions of ``switch``."""
    found: set[Pattern] = set()
    stack = [left]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply):
            stack.extend(node.arguments)
            if node.op == "switch":
                condition = node.arguments[0]
                while isinstance(condition, Apply):
                    condition = condition.arguments[0]
                found.add(condition)
    return found


def _param_name(left: Pattern, param: Param) -> str:
    stack = [left]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply):
            stack.extend(node.arguments)
            for name, value in node.params.items():
                if value is param:
                    return name
    raise InternalError(f"{param.name} is not a parameter of {left!r}")


def _built(row: Row, matcher: Matcher, chosen: dict[Hole | Param, Any], element: dtypes.DType) -> Instance | None:
    with no_recording():
        try:
            left = instantiate(row.left, chosen, element)
        except (UserError, InternalError, LookupError):
            return None
        found = matcher.match(left)
        if found is None or not all(_as_users_build(node) for node in ancestors([left])):
            return None
        return Instance(row, found, left, instantiate(row.right, found, left.element))


def _as_users_build(node: Tensor) -> bool:
    """Whether users could have built the node: operands of the types it computes in, axes that exist."""
    if any(axis >= node.inputs[0].ndim for axis in node.params.get("axes", ())):
        return False
    convert = node.op.convert
    return convert is None or tuple(convert(node.op, node.inputs)) == node.inputs


__all__ = ["Instance", "instances"]
