"""Looking at what loops compute in their steps: for mode ``nan_guard``."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from symtensor.graph import Tensor, ancestors, constant
from symtensor.opdef import OPS
from symtensor.ops.indexing_records import SUBTENSOR
from symtensor.ops.loop_records import HISTORY, LOOP, TRACE, body_of, steps_run, trace
from symtensor_codegen import dtypes
from symtensor_codegen.errors import ShapeError

NAN, INFINITE, BIG = 1, 2, 4


class Watch(NamedTuple):
    """An expression inside a loop.

    ``codes`` tells for every step (one axis for each loop around it) the sum of NAN, INFINITE and BIG where such
    numbers are among its elements; ``steps`` how many steps of the outermost loop ran. ``positions`` is where in the
    order of each loop's step it is computed.
    """

    node: Tensor
    loops: tuple[Tensor, ...]
    positions: tuple[int, ...]
    codes: Tensor
    steps: Tensor

    def first(self, codes: npt.NDArray[np.int8], steps: int, refused: int) -> tuple[tuple[int, ...], int] | None:
        """The first steps in which there are numbers of a refused kind, outermost first, and their kinds."""
        forwards = tuple(slice(None, None, -1 if body_of(loop).backwards else 1) for loop in self.loops)
        codes = codes[forwards][:steps]
        found = np.argwhere(codes & refused)
        if not len(found):
            return None
        place = tuple(int(k) for k in found[0])
        return place, int(codes[place]) & refused

    def moment(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """When it is computed in these steps: moments are in the order of execution."""
        return tuple(k for pair in zip(place, self.positions, strict=True) for k in pair)


def watches(outputs: Sequence[Tensor], big: float) -> list[Watch]:
    """Everything of floating point that is computed in the steps of the loops among ``outputs``, in order."""
    found: list[Watch] = []
    for loop in ancestors(outputs):
        if loop.op is LOOP:
            ran = steps_run(loop)
            for node, inner, positions, code in _inside(loop, big):
                found.append(Watch(node, (loop, *inner), positions, trace(loop, code), ran))
    return found


def _inside(loop: Tensor, big: float) -> Iterator[tuple[Tensor, tuple[Tensor, ...], tuple[int, ...], Tensor]]:
    """What is computed in a step, the loops inside that are around it, its positions, and its code."""
    for position, node in enumerate(ancestors(body_of(loop).outputs)):
        if node.op is LOOP and body_of(node).until is None:
            for deeper, loops, positions, code in _inside(node, big):
                try:
                    yield deeper, (node, *loops), (position, *positions), trace(node, code)
                except ShapeError:  # as many steps as the step around it says: its results are looked at
                    continue
        elif node.inputs and node.element.is_inexact:
            yield node, (), (position,), _code(node, big)


def undefined_rows(outputs: Sequence[Tensor]) -> set[Tensor]:
    """Rows over the steps of a loop that may end early, before those of steps that did not run are cut off."""
    found: set[Tensor] = set()
    for node in ancestors(outputs):
        if node.op is TRACE or node.op is HISTORY:
            if body_of(node.inputs[0]).until is not None:
                found.add(node)
        elif not (node.op is SUBTENSOR and len(node.inputs) > 1) and any(i in found for i in node.inputs):
            found.add(node)
    return found


def _code(node: Tensor, big: float) -> Tensor:
    """The sum of the kinds of numbers in a value."""
    isinf = OPS["isinf"](node)
    code: Tensor = constant(0, "int8")
    for kind, which in ((NAN, OPS["isnan"](node)), (INFINITE, isinf), (BIG, (abs(node) > big) & ~isinf)):
        some = OPS["any"].make(which, axes=tuple(range(node.ndim))) if node.ndim else which
        code = OPS["add"](code, OPS["mul"](OPS["cast"].make(some, dtype=dtypes.int8), constant(kind, "int8")))
    return code
