"""What is known of an expression before the program runs: the number it stands for."""

from typing import Any

from symtensor_codegen.errors import UserError

from .graph import TensorLike, as_tensor, leaves
from .opdef import CONSTANT, describe, dim_of
from .reference import evaluate


class NotScalarConstantError(UserError, ValueError):
    """An expression does not stand for one number known before the program runs."""


def get_scalar_constant_value(value: TensorLike) -> Any:
    """The number an expression stands for, as a NumPy scalar.

    It may have axes if all of them have size 1, and may use sizes that are known.

    Raises:
        NotScalarConstantError: it depends on variables, or has several elements.
    """
    node = as_tensor(value)
    if any(size != 1 for size in node.type.shape):
        raise NotScalarConstantError(f"{describe(node)} may have several elements")
    if node.ndim == 0 and node.element.is_integer:
        size = dim_of(node)
        if isinstance(size, int):
            return node.element.numpy.type(size)
    if not all(leaf.op is CONSTANT for leaf in leaves([node])):
        raise NotScalarConstantError(f"{describe(node)} depends on variables")
    return evaluate([node], {})[0].reshape(())[()]


def extract_constant(value: TensorLike, elemwise: bool = True, only_process_constants: bool = False) -> Any:
    """The number an expression stands for, or the expression where it is not one known number.

    ``elemwise`` is accepted for Theano's sake. ``only_process_constants`` computes nothing: only constants
    count as known.
    """
    node = as_tensor(value)
    if only_process_constants and node.op is not CONSTANT:
        return node
    try:
        return get_scalar_constant_value(node)
    except NotScalarConstantError:
        return node
