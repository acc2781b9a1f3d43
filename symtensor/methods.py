"""Operators and methods of tensors, as NumPy arrays and Theano's variables have them.

Each one calls the operation of the same meaning; the operations are imported when first used, because they are
defined in terms of tensors.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Tensor


def _op(name: str, *values: Any, **params: Any) -> "Tensor":
    from .opdef import OPS

    return OPS[name](*values, **params)


class TensorMethods:
    """Mixed into Tensor."""

    __array_priority__ = 1000
    __array_ufunc__ = None  # NumPy arrays on the left defer to our reflected operators

    def __add__(self, other: Any) -> "Tensor":
        return _op("add", self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return _op("add", other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return _op("sub", self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return _op("sub", other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return _op("mul", self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return _op("mul", other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return _op("true_div", self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _op("true_div", other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return _op("pow", self, other)

    def __neg__(self) -> "Tensor":
        return _op("neg", self)

    def __gt__(self, other: Any) -> "Tensor":
        return _op("gt", self, other)
