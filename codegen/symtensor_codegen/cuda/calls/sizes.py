"""Sizes and other host values of one call: scalar expressions over symbols, evaluated to Python numbers.

Arithmetic is that of the type: int64 wraps around, and division by zero gives 0, as in generated code. Every
expression is evaluated once; when a symbol gets another value (a loop's index, what a step reads), only what depends
on it is evaluated again.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.scalar import Dim, Scalar, ScalarOp, bitcast_op, cast_op, const_op, symbol_op

_NOTHING: Final[frozenset[Scalar]] = frozenset()


class Sizes:
    """The values that are known so far in a call of the program ``name``."""

    __slots__ = ("_changing", "_depends", "_users", "_values", "name")

    def __init__(self, name: str, changing: frozenset[Scalar]) -> None:
        """``changing``: the symbols that may get another value during the call."""
        self.name = name
        self._changing = changing
        self._values: dict[Scalar, Any] = {}
        self._depends: dict[Scalar, frozenset[Scalar]] = {}  # on which changing symbols
        self._users: dict[Scalar, list[Scalar]] = {}  # what has been evaluated with a changing symbol

    def set(self, symbol: Scalar, value: int | None) -> int | None:
        """Give a symbol its value, or None to make it unknown; returns the value it had."""
        values = self._values
        for node in self._users.pop(symbol, ()):
            values.pop(node, None)
        before: int | None = values.pop(symbol, None)
        if value is not None:
            values[symbol] = value
        return before

    def __call__(self, size: Dim) -> int:
        """The value of a size.

        Raises:
            InternalError: it depends on a symbol that has no value yet.
        """
        if size.__class__ is int:
            return size
        found: int | None = self._values.get(size)  # type: ignore[arg-type]
        return self._evaluate(size) if found is None else found  # type: ignore[arg-type]

    def shape(self, dims: Iterable[Dim]) -> tuple[int, ...]:
        """The values of several sizes."""
        return tuple([self(d) for d in dims])

    def _evaluate(self, root: Scalar) -> Any:
        values, depends = self._values, self._depends
        stack = [root]
        while stack:
            node = stack[-1]
            if node in values:
                stack.pop()
                continue
            missing = [a for a in node.args if a not in values]
            if missing:
                stack += missing
                continue
            stack.pop()
            if node.op is symbol_op:
                raise InternalError(f"{self.name}: {node} is not known here, but needed")
            values[node] = _compute(node, [values[a] for a in node.args])
            on = depends.get(node)
            if on is None:
                on = depends[node] = self._changing_in(node)
            for symbol in on:
                self._users.setdefault(symbol, []).append(node)
        return values[root]

    def _changing_in(self, node: Scalar) -> frozenset[Scalar]:
        found = _NOTHING
        for argument in node.args:
            if argument.op is not const_op:
                own = frozenset((argument,)) & self._changing if argument.op is symbol_op else _NOTHING
                found |= own or self._depends.get(argument, _NOTHING)
        return found


def _wrap(value: int) -> int:
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return value
    return (value + 0x8000000000000000 & 0xFFFFFFFFFFFFFFFF) - 0x8000000000000000


_INT64: Final[dict[ScalarOp, Callable[..., int]]] = {
    scalar.add: lambda a, b: _wrap(a + b),
    scalar.sub: lambda a, b: _wrap(a - b),
    scalar.mul: lambda a, b: _wrap(a * b),
    scalar.neg: lambda a: _wrap(-a),
    scalar.abs_: lambda a: _wrap(abs(a)),
    scalar.sign: lambda a: (a > 0) - (a < 0),
    scalar.floordiv: lambda a, b: _wrap(a // b) if b else 0,
    scalar.mod: lambda a, b: a % b if b else 0,
    scalar.minimum: min,
    scalar.maximum: max,
    scalar.bit_and: lambda a, b: a & b,
    scalar.bit_or: lambda a, b: a | b,
    scalar.bit_xor: lambda a, b: a ^ b,
    scalar.bit_not: lambda a: ~a,
}
_BOOL: Final[dict[ScalarOp, Callable[..., bool]]] = {
    scalar.bit_and: lambda a, b: a and b,
    scalar.bit_or: lambda a, b: a or b,
    scalar.bit_xor: lambda a, b: a is not b,
    scalar.bit_not: lambda a: not a,
}
_COMPARE: Final[dict[ScalarOp, Callable[..., bool]]] = {
    scalar.eq: lambda a, b: a == b,
    scalar.ne: lambda a, b: a != b,
    scalar.lt: lambda a, b: a < b,
    scalar.le: lambda a, b: a <= b,
    scalar.gt: lambda a, b: a > b,
    scalar.ge: lambda a, b: a >= b,
}
_CHOICES: Final = (scalar.select_op, scalar.guarded_op, scalar.rarely_op)


def _compute(node: Scalar, arguments: list[Any]) -> Any:
    """The value of a node of which the arguments are known."""
    op = node.op
    if op is const_op:
        return node.param
    if op in _CHOICES:
        return arguments[1] if arguments[0] else arguments[2]
    kind = node.args[0].dtype
    if not kind.is_complex and (compare := _COMPARE.get(op)) is not None:
        return compare(*arguments)
    table = _INT64 if kind is dtypes.int64 else _BOOL if kind is dtypes.bool_ else None
    if table is not None and (known := table.get(op)) is not None:
        return known(*arguments)
    if op is cast_op and kind in (dtypes.int64, dtypes.bool_):
        if node.dtype is dtypes.int64:
            return int(arguments[0])
        if node.dtype is dtypes.float64:
            return float(arguments[0])
    return _general(node, arguments)


def _general(node: Scalar, arguments: list[Any]) -> Any:
    """The value of any operation on one element, as NumPy computes it."""
    op, result = node.op, node.dtype.numpy
    with np.errstate(all="ignore"):
        given = [a.dtype.numpy.type(v) for a, v in zip(node.args, arguments, strict=True)]
        if op is cast_op:
            return np.asarray(given[0]).astype(result).item()
        if op is bitcast_op:
            return np.asarray(given[0]).view(result).item()
        if op.numpy is None:
            raise InternalError(f"{op.name} is no operation on sizes")
        return np.asarray(op.numpy(*given)).astype(result).item()
