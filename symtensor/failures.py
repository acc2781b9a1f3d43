"""Errors of a running function, in the user's words: the expression, its source line, and the sizes it met."""

from symtensor_codegen.errors import InternalError, ShapeError

from .lower.sizes import SizeMessage
from .opdef import describe, where


def failure(name: str, message: object, details: tuple[int, int, int, int]) -> BaseException:
    """The exception for a failure of the compiled function ``name``."""
    if isinstance(message, SizeMessage):
        if message.text:
            return message.error(f"{name}: {message.text.format(*details)}{where(message.node)}")
        operands = "; ".join(describe(t) for t in message.operands)
        label = message.node.name or message.node.op.name
        return ShapeError(
            f"{name}: {label}{where(message.node)}: sizes on axis {message.axis} do not agree: {details[0]} and "
            f"{details[1]}; operands: {operands}. An axis of size 1 broadcasts only where its size is known to be 1 "
            "when the function is built."
        )
    if isinstance(message, BaseException):
        return type(message)(f"{name}: {message}")
    return InternalError(f"{name}: failed with {message!r}, {details}")
