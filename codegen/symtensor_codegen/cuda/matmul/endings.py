"""What NVIDIA's library can do at the end of a product, and which kernels after a product do that and nothing else.

cuBLASLt adds a number for each column, cuts at zero, or does both. It does so with other instructions than our kernels:
whether its relu is the one that a program asks for, is tried before it is used (``library``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.expr import topological
from symtensor_codegen.loops import Store
from symtensor_codegen.scalar import Scalar, add, as_int, const_op, eq, ge, gt, le, load_op, lt, maximum, ne, select_op
from symtensor_codegen.substitution import stride, substitute

if TYPE_CHECKING:
    from symtensor_codegen.cuda.matmul.fusion import Finish
    from symtensor_codegen.cuda.schedules.stages import Stage

__all__ = ["DISPUTED", "Ending", "Found", "Relu", "ending_of", "is_own", "relu_of", "relu_seen"]

Array = np.ndarray[Any, Any]

_CHOICES: Final = (select_op, eq, ne, lt, le, gt, ge)


class Relu(NamedTuple):
    """What a relu makes of numbers about which there are several opinions.

    ``keeps_nan``: NaN stays, else it becomes 0. ``keeps_sign``: -0.0 stays, else it becomes 0.0; None: either will do.
    """

    keeps_nan: bool
    keeps_sign: bool | None

    def difference(self, wanted: Relu) -> str:
        """Why this one cannot be used for another; empty if it can."""
        if self.keeps_nan is not wanted.keeps_nan:
            return "keeps NaN, where 0 is wanted" if self.keeps_nan else "makes 0 of NaN, which is to be kept"
        if wanted.keeps_sign not in (None, self.keeps_sign):
            return "keeps -0.0, where 0.0 is wanted" if self.keeps_sign else "makes 0.0 of -0.0, which is to be kept"
        return ""


DISPUTED: Final = (np.nan, np.inf, -np.inf, -1.0, -0.0, 2.0)
"""What tells one relu from another, and from what is none."""


def relu_seen(rows: Sequence[Array]) -> Relu | None:
    """The relu that was seen: a row for each number of `DISPUTED` times about 3/4; None if it is none, or several."""
    nan, infinite, *negative, negative_zero, positive = rows
    kept, signs = np.isnan(nan), np.signbit(negative_zero)
    if kept.any() != kept.all() or signs.any() != signs.all() or negative_zero.any():
        return None
    zeros = negative if kept.any() else [*negative, nan]
    if any(row.any() or np.signbit(row).any() for row in zeros):
        return None
    if not (infinite == np.inf).all() or not (abs(positive - 1.5) < 0.1).all():
        return None
    return Relu(bool(kept.all()), bool(signs.all()))


@dataclass(frozen=True, slots=True)
class Ending:
    """A sum with one number for each column, or a relu, or a relu of the sum."""

    bias: bool
    relu: Relu | None

    @property
    def told(self) -> str:
        """In words."""
        return " and ".join(["bias"] * self.bias + ["relu"] * (self.relu is not None))


class Found(NamedTuple):
    """An ending, with the positions of its result and its bias among the buffers of the launch (-1: no bias)."""

    ending: Ending
    result: int
    bias: int


def ending_of(finish: Finish) -> Found | None:
    """The ending that a finish is; None where it is none, or where something else reads the product."""
    body, buffers = finish.stage.body, finish.launch.kernel.buffers
    if finish.kept or len(body) != 1 or not isinstance(body[0], Store):
        return None
    store = body[0]
    if store.combine is not None or store.where is not None or not is_own(store.index[0], finish.stage):
        return None
    if finish.element.dtype is not dtypes.float32:
        return None
    nodes = topological([store.value], lambda n: () if n.op is load_op else n.args)
    loads = {node for node in nodes if node.op is load_op}
    value = next(node for node in loads if node.param is finish.element)
    position = -1
    if loads != {value}:
        sums = [node for node in nodes if node.op is add and value in node.args and set(node.args) == loads]
        if len(sums) != 1:
            return None
        (bias,) = loads - {value}
        if not _is_of_column(bias.args[0], finish.stage):
            return None
        value, position = sums[0], buffers.index(bias.param)
    relu = None if store.value is value else relu_of(store.value, value)
    if relu is None and (position < 0 or store.value is not value):
        return None
    return Found(Ending(position >= 0, relu), buffers.index(store.buffer), position)


def is_own(place: Scalar, stage: Stage) -> bool:
    """Whether a place is that of the iteration, where rows follow each other without gaps."""
    *outer, inner = stage.chain
    if any(stride(place, loop.index) != inner.extent for loop in outer):
        return False
    return stride(place, inner.index) == 1 and _begins(place, stage)


def _is_of_column(place: Scalar, stage: Stage) -> bool:
    """Whether a place is that of the column."""
    if len(stage.chain) != 2:  # rows and columns as one loop: a matrix is added
        return False
    outer, inner = stage.chain
    return stride(place, outer.index) == 0 and stride(place, inner.index) == 1 and _begins(place, stage)


def _begins(place: Scalar, stage: Stage) -> bool:
    """Whether the first iteration is at the first element."""
    return substitute(place, {loop.index: as_int(0) for loop in stage.chain}) is as_int(0)


def relu_of(result: Scalar, value: Scalar) -> Relu | None:
    """The relu of ``value`` that ``result`` is; None where it is not that of every number.

    ``0.5 * (x + abs(x))`` is none: it makes NaN of -inf.
    """
    if result.op is maximum:
        zero = [argument for argument in result.args if argument is not value]
        return Relu(True, None) if len(zero) == 1 and _is_zero(zero[0]) else None
    order = topological([result], lambda n: () if n is value else n.args)
    if not all(n is value or n.op in _CHOICES or _is_zero(n) for n in order):
        return None
    # What compares with zero and chooses, and no more, does the same with all numbers of a sign.
    nan, negative, negative_zero, zero, positive = (_at(order, value, x) for x in (np.nan, -1.0, -0.0, 0.0, 2.0))
    if positive != 2 or any(x != 0 or np.signbit(x) for x in (negative, zero)) or negative_zero != 0:
        return None
    if not np.isnan(nan) and (nan != 0 or np.signbit(nan)):
        return None
    return Relu(bool(np.isnan(nan)), bool(np.signbit(negative_zero)))


def _at(order: Sequence[Scalar], value: Scalar, number: float) -> Any:
    """The last of these nodes where ``value`` is a number."""
    known: dict[Scalar, Any] = {value: np.float32(number)}
    for node in order:
        if node.op is const_op:
            known[node] = np.float32(0)
        elif node is not value:
            assert node.op.numpy is not None
            known[node] = node.op.numpy(*[known[argument] for argument in node.args])
    return known[order[-1]]


def _is_zero(node: Scalar) -> bool:
    return node.op is const_op and node.dtype is dtypes.float32 and node.param == 0 and not np.signbit(node.param)
