"""The type of an array expression: element type and the sizes known before the program runs."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import ShapeError

if TYPE_CHECKING:
    from .graph import Tensor

_NAMES = {
    (): "scalar", (None,): "vector", (None, None): "matrix", (1, None): "row", (None, 1): "col",
    (None,) * 3: "tensor3", (None,) * 4: "tensor4", (None,) * 5: "tensor5",
}  # fmt: skip


class TensorType:
    """Element type and static shape; ``None`` is a size known only when the program runs.

    Interned: equal types are one object. As in Theano, an axis broadcasts only where its size is known to be 1, and
    calling a type makes an input variable: ``TensorType("float32", (None, 1))("x")``. In the shape, ``True`` stands
    for 1 and ``False`` for None, so Theano's broadcast patterns are accepted too.
    """

    __slots__ = ("element", "shape")
    element: DType
    shape: tuple[int | None, ...]

    def __new__(cls, dtype: object, shape: "Sequence[int | bool | None]" = ()) -> "TensorType":
        """The type with this element type and shape (or broadcast pattern)."""
        return _interned(dtypes.of(dtype), tuple(_size(s) for s in shape))

    @property
    def dtype(self) -> str:
        """Name of the element type."""
        return self.element.name

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def broadcastable(self) -> tuple[bool, ...]:
        """For each axis, whether its size is known to be 1."""
        return tuple(size == 1 for size in self.shape)

    def __call__(self, name: str | None = None) -> "Tensor":
        """A new input variable of this type."""
        from .graph import variable

        return variable(self, name)

    def __repr__(self) -> str:
        shape = tuple(1 if size == 1 else None for size in self.shape)
        known = any(size is not None and size != 1 for size in self.shape)
        name = None if known else _NAMES.get(shape)
        if name is None:
            name = "(" + ", ".join("?" if s is None else str(s) for s in self.shape) + ")"
        return f"TensorType({self.dtype}, {name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorType, (self.dtype, self.shape)


def _size(size: int | bool | None) -> int | None:
    if isinstance(size, bool):
        return 1 if size else None
    if size is not None and size < 0:
        raise ShapeError(f"TensorType: a size cannot be {size}; use None for one known only when the program runs")
    return size


@cache
def _interned(element: DType, shape: tuple[int | None, ...]) -> TensorType:
    made = object.__new__(TensorType)
    made.element, made.shape = element, shape
    return made


def tensor_type(element: DType, shape: tuple[int | None, ...]) -> TensorType:
    """The type with this element type and static shape (no conversion of the arguments)."""
    return _interned(element, shape)
