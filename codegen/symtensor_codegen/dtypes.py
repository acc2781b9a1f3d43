"""Element types: one record each, and their promotion."""

from functools import cache
from typing import Final

import numpy as np

from .errors import DTypeError


class DType:
    """An element type. Interned: there is one object per name, so comparison is identity.

    ``kind`` is NumPy's letter (``b`` bool, ``i`` signed, ``u`` unsigned, ``f`` float, ``c`` complex) and ``rank``
    orders the kinds.
    """

    __slots__ = ("itemsize", "kind", "name", "numpy", "rank")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.numpy: Final = np.dtype(name)
        self.kind: Final = self.numpy.kind
        self.itemsize: Final = self.numpy.itemsize
        self.rank: Final = "buifc".index(self.kind)

    @property
    def bits(self) -> int:
        """Width of one element in memory, in bits."""
        return self.itemsize * 8

    @property
    def is_float(self) -> bool:
        """Whether this is a real floating-point type."""
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer type (bool is not)."""
        return self.kind in "iu"

    @property
    def is_complex(self) -> bool:
        """Whether this is a complex type."""
        return self.kind == "c"

    @property
    def is_inexact(self) -> bool:
        """Whether this is a floating-point or complex type."""
        return self.kind in "fc"

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name if self.name != "bool" else "bool_"  # a reference to the module constant


bool_ = DType("bool")
int8, int16, int32, int64 = DType("int8"), DType("int16"), DType("int32"), DType("int64")
uint8, uint16, uint32, uint64 = DType("uint8"), DType("uint16"), DType("uint32"), DType("uint64")
float16, float32, float64 = DType("float16"), DType("float32"), DType("float64")
complex64, complex128 = DType("complex64"), DType("complex128")


def _record_of_results() -> DType:
    made = object.__new__(DType)
    for name, value in (("name", "results"), ("numpy", np.dtype("O")), ("kind", "O"), ("itemsize", 0), ("rank", 0)):
        setattr(made, name, value)
    return made


results = _record_of_results()  # of expressions with several results: they are taken out one by one, never stored

ALL: Final = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    float16, float32, float64, complex64, complex128,
)  # fmt: skip
BY_NAME: Final = {d.name: d for d in ALL}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}


def of(spec: object) -> DType:
    """The element type named by a string, a NumPy dtype or scalar type, or a DType.

    Raises:
        DTypeError: for types without a numeric meaning here (objects, strings, dates, long double).
    """
    if isinstance(spec, DType):
        return spec
    found = BY_NAME.get(spec) if isinstance(spec, str) else None
    if found is None:
        try:
            found = _BY_NUMPY.get(np.dtype(spec))  # type: ignore[call-overload]
        except TypeError:
            found = None
    if found is None:
        raise DTypeError(f"{spec!r} is not an element type; use one of {', '.join(BY_NAME)}")
    return found


@cache
def promote(a: DType, b: DType) -> DType:
    """NumPy's common type of two element types."""
    return a if a is b else _BY_NUMPY[np.promote_types(a.numpy, b.numpy)]


def real_of(dtype: DType) -> DType:
    """The type of the real and imaginary parts of a complex type; other types are returned as they are."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


def complex_of(dtype: DType) -> DType:
    """The smallest complex type that holds values of ``dtype``."""
    return promote(dtype, complex64)
