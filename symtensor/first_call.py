"""What the first call of a function shows: sizes, for which loops are made faster."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen.scalar import Scalar

from .graph import Tensor, variable
from .loops.passes import has_loops
from .lower.plan import Result
from .pipeline import specialised
from .types import TensorType

if TYPE_CHECKING:
    from .compiled_function import Definition, Function

Array = npt.NDArray[Any]

NOTHING = np.zeros((), np.int8)
FIRST_CALL = variable(TensorType("int8"), "first_call")


def may_specialise(made: "Definition") -> bool:
    """Whether the sizes of a first call's arguments may make loops of a function faster."""
    return bool(made.inputs) and not made.mode.quick and not made.profile and has_loops(made.computed)


def size_hints(variables: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> dict[Scalar, int]:
    """The sizes of arrays, by the symbols that stand for them."""
    return {
        symbol: size
        for node, shape in zip(variables, shapes, strict=True)
        for symbol, size in zip(node.dims, shape, strict=True)
        if isinstance(symbol, Scalar)
    }


class FirstCall:
    """What a function does with the arguments of its first call, beside converting them.

    Loops over a few numbers are kept in registers, for which sizes must be known. Where they are not, the program is
    compiled again when a call has shown likely sizes: with both ways, of which each call takes the one that fits.
    """

    def __init__(self, function: "Function", results: Sequence[Result]) -> None:
        self.function, self.results = function, results
        self.lock = Lock()
        self.done = False

    def __call__(self, *args: Any, **named: Any) -> tuple[Array, ...]:
        """The arguments as native code wants them, the one that asks for this call last."""
        function = self.function
        arrays = function._arguments(*args, **named)
        with self.lock:
            if not self.done:
                self.done = True
                self._specialise(arrays)
        return (*arrays, NOTHING)

    def _specialise(self, arrays: tuple[Array, ...]) -> None:
        function = self.function
        function._earlier = function._native_keep  # type: ignore[attr-defined]  # the call in progress runs it
        inputs = [i.variable for i in function.inputs]
        hints = function._hints(arrays)
        better = specialised(function.compilation, function.name, inputs, function._cells, self.results, hints)
        if better is not None:
            function._compilation = better
            function._attach(better)
        else:
            function._attach(function.compilation, waits=True)
