"""Sizes as tensors: the way back from a symbolic size to an expression of the graph."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from symtensor.graph import Tensor, constant
from symtensor.opdef import OPS
from symtensor_codegen import scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.scalar import Dim, Scalar

_WORDS: Final = {
    "add": "add", "sub": "sub", "mul": "mul", "floordiv": "floordiv", "mod": "mod", "neg": "neg",
    "abs": "abs", "minimum": "minimum", "maximum": "maximum", "eq": "eq", "ne": "neq", "lt": "lt",
    "le": "le", "gt": "gt", "ge": "ge", "select": "switch", "bit_and": "bitwise_and",
    "bit_or": "bitwise_or", "bit_not": "invert",
}  # fmt: skip


def sizes_as_tensors(dims: Sequence[Dim]) -> list[int | Tensor]:
    """Each size as an int where known, else as a 0-d int64 tensor."""
    return [d if isinstance(d, int) else size_tensor(d) for d in dims]


def size_tensor(size: Scalar) -> Tensor:
    """A size as a 0-d int64 tensor over the sizes of leaves and the values of integer scalars."""
    memo: dict[Scalar, Tensor] = {}
    stack = [size]
    while stack:
        node = stack[-1]
        if node in memo:
            stack.pop()
            continue
        missing = [a for a in node.args if a not in memo]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        memo[node] = _tensor_of(node, [memo[a] for a in node.args])
    return memo[size]


def _tensor_of(node: Scalar, arguments: list[Tensor]) -> Tensor:
    if node.op is scalar.const_op:
        return constant(np.asarray(node.param, node.dtype.numpy))
    if node.op is scalar.cast_op:
        return OPS["cast"].make(arguments[0], dtype=node.dtype)
    if node.op is scalar.symbol_op:
        kind, tensor, *axis = node.param
        if kind == "dim":
            return OPS["dim"].make(tensor, axis=axis[0])
        if kind == "value":
            value: Tensor = tensor
            return value if value.element is node.dtype else OPS["cast"].make(value, dtype=node.dtype)
    word = _WORDS.get(node.op.name)
    if word is None:
        raise InternalError(f"the size {node!r} is not an expression over sizes of the graph")
    return OPS[word].make(*arguments)
