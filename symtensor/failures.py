"""Errors of a running function, in the user's words: the expression, its source line, and what it met."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from symtensor_codegen.errors import InternalError, OutOfRangeError, ShapeError, UserError

from .graph import Tensor, ancestors
from .lower.sizes import SizeMessage
from .opdef import IndexMessage, ValueMessage, describe, where
from .reference import Array, Evaluation, evaluations

if TYPE_CHECKING:
    from .compiled_function import Function

Met = Callable[[], tuple[Sequence[Array], Sequence[Array]]]
"""What a failing call has met: its arguments, and the values of the function's shared variables."""


class NotFiniteError(UserError, ArithmeticError):
    """Mode ``nan_guard``: an expression gave NaN, infinity, or a number that is too big."""


def failure(function: "Function", message: object, details: Sequence[int], met: Met) -> BaseException:
    """The exception for a failed call: ``message`` is what failed, ``details`` the numbers that the program left."""
    name = function.name
    if isinstance(message, SizeMessage):
        return _size_failure(name, message, details)
    if isinstance(message, IndexMessage):
        return _index_failure(function, message, met)
    if isinstance(message, ValueMessage):
        return ValueError(f"{name}: {_at(message.node)}{message.text}")
    return InternalError(f"{name}: failed with {message!r}, {details}")


def _size_failure(name: str, message: SizeMessage, details: Sequence[int]) -> BaseException:
    if message.text:
        text = message.text
        for position, value in enumerate(details):
            text = text.replace(f"{{{position}}}", str(value))
        return message.error(f"{name}: {_at(message.node)}{text}")
    operands = "; ".join(describe(t) for t in message.operands)
    label = message.node.name or message.node.op.name
    return ShapeError(
        f"{name}: {_at(message.node)}{label}: sizes on axis {message.axis} do not agree: {details[0]} and "
        f"{details[1]}; operands: {operands}. An axis of size 1 broadcasts only where its size is known to "
        "be 1 when the function is built."
    )


def _index_failure(function: "Function", message: IndexMessage, met: Met) -> BaseException:
    """The reference computes the index again, from the arguments of the call, to find the wrong value."""
    inputs, cells = met()
    known: dict[Tensor, Array] = {i.variable: array for i, array in zip(function.inputs, inputs, strict=True)}
    known |= dict(zip(function.get_shared(), cells, strict=True))
    for evaluation, steps, results in evaluations(Evaluation(known), function.maker.fgraph.outputs, message.index):
        index = evaluation.value(message.index)
        size = evaluation.size(message.tensor.dims[message.axis])
        assert size is not None
        bad = (index < -size) | (index >= size)
        if bad.any():
            return _out_of_range(function.name, message, int(index[bad][0]), size, steps, results)
    return InternalError(
        f"{function.name}: no index of {describe(message.index)} is out of range, but one was reported"
    )


def _out_of_range(
    name: str, message: IndexMessage, value: int, size: int, steps: str, results: Sequence[Tensor]
) -> BaseException:
    label = message.index.name or message.index.op.name
    users = [n for n in ancestors(results) if _indexes(n, message)]
    return OutOfRangeError(
        f"{name}: {_at(*users)}index {value} ({label}{where(message.index)}) is out of range on axis "
        f"{message.axis}, of size {size}: {describe(message.tensor)}{steps}"
    )


def _indexes(node: Tensor, message: IndexMessage) -> bool:
    """Whether ``node`` is an expression that uses this index on this tensor."""
    return len(node.inputs) > 1 and node.inputs[0] is message.tensor and message.index in node.inputs[1:]


def _at(*nodes: Tensor) -> str:
    """The user's line of an expression, to begin a message with."""
    sites = dict.fromkeys(node.site for node in nodes if node.site is not None)
    return f"at {', '.join(sites)}: " if sites else ""
