"""Constructors of input variables, by Theano's names.

The letter is the element type (``b`` int8, ``w`` int16, ``i`` int32, ``l`` int64, ``f`` float32, ``d``
float64, ``c`` complex64, ``z`` complex128; none: ``config.floatX``), the word the number of axes. ``dmatrix``
is a type; calling it makes a variable. ``dmatrices("x", "y")``, ``dmatrices("xy")`` and ``dmatrices(2)`` make
several.
"""

from collections.abc import Callable
from typing import Any

from symtensor import graph
from symtensor.graph import Tensor
from symtensor.opdef import describe
from symtensor.ops.shaping import shape_padleft
from symtensor.settings import config
from symtensor.types import TensorType
from symtensor_codegen import dtypes
from symtensor_codegen.errors import ShapeError

Shape = tuple[int | None, ...]
SHAPES: tuple[Shape, ...] = (
    (), (None,), (None, None), (1, None), (None, 1),
    (None,) * 3, (None,) * 4, (None,) * 5, (None,) * 6, (None,) * 7,
)  # fmt: skip
Ten = tuple[
    TensorType, TensorType, TensorType, TensorType, TensorType,
    TensorType, TensorType, TensorType, TensorType, TensorType,
]  # fmt: skip
Several = Callable[..., Any]
TenSeveral = tuple[
    Several, Several, Several, Several, Several, Several, Several, Several, Several, Several
]  # fmt: skip


def _types(dtype: str) -> Ten:
    made: Any = tuple(TensorType(dtype, shape) for shape in SHAPES)
    return made  # type: ignore[no-any-return]


def _several(dtype: str) -> TenSeveral:
    made: Any = tuple(several(kind) for kind in _types(dtype))
    return made  # type: ignore[no-any-return]


def several(one: Callable[..., Tensor]) -> Several:
    """A function that makes variables for several names (or for the letters of one), or a number of them."""

    def make(*names: Any, **options: Any) -> Any:
        if len(names) == 1:
            names = names[0]
            if isinstance(names, int):
                return [one(**options) for _ in range(names)]
        made = [one(name, **options) for name in names]
        return made[0] if len(made) == 1 else made

    return make


def _default(shape: Shape) -> Callable[..., Tensor]:
    def make(name: str | None = None, dtype: object = None) -> Tensor:
        return TensorType(config.floatX if dtype is None else element(dtype), shape)(name)

    return make


def element(dtype: object) -> dtypes.DType:
    """The element type; ``"floatX"`` is that of ``config.floatX``."""
    return dtypes.of(config.floatX if isinstance(dtype, str) and dtype == "floatX" else dtype)


def tensor(
    dtype: object = None, broadcastable: Any = None, name: str | None = None, shape: Any = None
) -> Tensor:
    """A variable with this element type, and sizes (``shape``) or broadcast pattern."""
    sizes = shape if shape is not None else broadcastable if broadcastable is not None else ()
    return TensorType(config.floatX if dtype is None else element(dtype), tuple(sizes))(name)


def constant(x: Any, name: str | None = None, ndim: int | None = None, dtype: object = None) -> Tensor:
    """A constant array, with new axes of size 1 in front until it has ``ndim``.

    A Python float has the element type ``config.floatX``; under Theano's cast policy Python numbers have Theano's
    small element types.

    Raises:
        ShapeError: it has more than ``ndim`` axes.
    """
    known = graph.as_tensor(x).dtype if dtype is None and type(x) in (bool, int, float) else dtype
    made: Tensor = graph.constant(x, None if known is None else element(known))
    made.name = made.name or name
    return _with_axes(made, ndim)


def as_tensor_variable(x: Any, name: str | None = None, ndim: int | None = None) -> Tensor:
    """A tensor as it is; an array, number, or nested sequence (also of tensors) as an expression.

    Raises:
        ShapeError: it has more than ``ndim`` axes.
    """
    if type(x) in (bool, int, float):
        return constant(x, name, ndim)
    return _with_axes(graph.as_tensor(x), ndim)


def stacklists(nested: Any) -> Tensor:
    """Nested lists of tensors as one tensor, with an axis for each level."""
    return graph.as_tensor(nested)


def _with_axes(x: Tensor, ndim: int | None) -> Tensor:
    if ndim is None or x.ndim == ndim:
        return x
    if x.ndim > ndim:
        raise ShapeError(f"{describe(x)} has more than {ndim} axes")
    return shape_padleft(x, ndim - x.ndim)


scalar, vector, matrix, row, col = (_default(shape) for shape in SHAPES[:5])
tensor3, tensor4, tensor5, tensor6, tensor7 = (_default(shape) for shape in SHAPES[5:])
scalars, vectors, matrices, rows, cols = (several(f) for f in (scalar, vector, matrix, row, col))
tensor3s, tensor4s, tensor5s, tensor6s, tensor7s = (
    several(f) for f in (tensor3, tensor4, tensor5, tensor6, tensor7)
)

(
    bscalar, bvector, bmatrix, brow, bcol, btensor3, btensor4,
    btensor5, btensor6, btensor7,
) = _types("int8")  # fmt: skip
(
    bscalars, bvectors, bmatrices, brows, bcols, btensor3s, btensor4s,
    btensor5s, btensor6s, btensor7s,
) = _several("int8")  # fmt: skip
(
    wscalar, wvector, wmatrix, wrow, wcol, wtensor3, wtensor4,
    wtensor5, wtensor6, wtensor7,
) = _types("int16")  # fmt: skip
(
    wscalars, wvectors, wmatrices, wrows, wcols, wtensor3s, wtensor4s,
    wtensor5s, wtensor6s, wtensor7s,
) = _several("int16")  # fmt: skip
(
    iscalar, ivector, imatrix, irow, icol, itensor3, itensor4,
    itensor5, itensor6, itensor7,
) = _types("int32")  # fmt: skip
(
    iscalars, ivectors, imatrices, irows, icols, itensor3s, itensor4s,
    itensor5s, itensor6s, itensor7s,
) = _several("int32")  # fmt: skip
(
    lscalar, lvector, lmatrix, lrow, lcol, ltensor3, ltensor4,
    ltensor5, ltensor6, ltensor7,
) = _types("int64")  # fmt: skip
(
    lscalars, lvectors, lmatrices, lrows, lcols, ltensor3s, ltensor4s,
    ltensor5s, ltensor6s, ltensor7s,
) = _several("int64")  # fmt: skip
(
    fscalar, fvector, fmatrix, frow, fcol, ftensor3, ftensor4,
    ftensor5, ftensor6, ftensor7,
) = _types("float32")  # fmt: skip
(
    fscalars, fvectors, fmatrices, frows, fcols, ftensor3s, ftensor4s,
    ftensor5s, ftensor6s, ftensor7s,
) = _several("float32")  # fmt: skip
(
    dscalar, dvector, dmatrix, drow, dcol, dtensor3, dtensor4,
    dtensor5, dtensor6, dtensor7,
) = _types("float64")  # fmt: skip
(
    dscalars, dvectors, dmatrices, drows, dcols, dtensor3s, dtensor4s,
    dtensor5s, dtensor6s, dtensor7s,
) = _several("float64")  # fmt: skip
(
    cscalar, cvector, cmatrix, crow, ccol, ctensor3, ctensor4,
    ctensor5, ctensor6, ctensor7,
) = _types("complex64")  # fmt: skip
(
    cscalars, cvectors, cmatrices, crows, ccols, ctensor3s, ctensor4s,
    ctensor5s, ctensor6s, ctensor7s,
) = _several("complex64")  # fmt: skip
(
    zscalar, zvector, zmatrix, zrow, zcol, ztensor3, ztensor4,
    ztensor5, ztensor6, ztensor7,
) = _types("complex128")  # fmt: skip
(
    zscalars, zvectors, zmatrices, zrows, zcols, ztensor3s, ztensor4s,
    ztensor5s, ztensor6s, ztensor7s,
) = _several("complex128")  # fmt: skip

__all__ = [
    "as_tensor_variable", "stacklists",
    "constant", "tensor", "scalar", "vector", "matrix", "row", "col", "tensor3",
    "tensor4", "tensor5", "tensor6", "tensor7", "scalars", "vectors", "matrices", "rows", "cols",
    "tensor3s", "tensor4s", "tensor5s", "tensor6s", "tensor7s", "bscalar", "bvector", "bmatrix", "brow",
    "bcol", "btensor3", "btensor4", "btensor5", "btensor6", "btensor7", "bscalars", "bvectors",
    "bmatrices", "brows", "bcols", "btensor3s", "btensor4s", "btensor5s", "btensor6s", "btensor7s",
    "wscalar", "wvector", "wmatrix", "wrow", "wcol", "wtensor3", "wtensor4", "wtensor5", "wtensor6",
    "wtensor7", "wscalars", "wvectors", "wmatrices", "wrows", "wcols", "wtensor3s", "wtensor4s",
    "wtensor5s", "wtensor6s", "wtensor7s", "iscalar", "ivector", "imatrix", "irow", "icol", "itensor3",
    "itensor4", "itensor5", "itensor6", "itensor7", "iscalars", "ivectors", "imatrices", "irows",
    "icols", "itensor3s", "itensor4s", "itensor5s", "itensor6s", "itensor7s", "lscalar", "lvector",
    "lmatrix", "lrow", "lcol", "ltensor3", "ltensor4", "ltensor5", "ltensor6", "ltensor7", "lscalars",
    "lvectors", "lmatrices", "lrows", "lcols", "ltensor3s", "ltensor4s", "ltensor5s", "ltensor6s",
    "ltensor7s", "fscalar", "fvector", "fmatrix", "frow", "fcol", "ftensor3", "ftensor4", "ftensor5",
    "ftensor6", "ftensor7", "fscalars", "fvectors", "fmatrices", "frows", "fcols", "ftensor3s",
    "ftensor4s", "ftensor5s", "ftensor6s", "ftensor7s", "dscalar", "dvector", "dmatrix", "drow", "dcol",
    "dtensor3", "dtensor4", "dtensor5", "dtensor6", "dtensor7", "dscalars", "dvectors", "dmatrices",
    "drows", "dcols", "dtensor3s", "dtensor4s", "dtensor5s", "dtensor6s", "dtensor7s", "cscalar",
    "cvector", "cmatrix", "crow", "ccol", "ctensor3", "ctensor4", "ctensor5", "ctensor6", "ctensor7",
    "cscalars", "cvectors", "cmatrices", "crows", "ccols", "ctensor3s", "ctensor4s", "ctensor5s",
    "ctensor6s", "ctensor7s", "zscalar", "zvector", "zmatrix", "zrow", "zcol", "ztensor3", "ztensor4",
    "ztensor5", "ztensor6", "ztensor7", "zscalars", "zvectors", "zmatrices", "zrows", "zcols",
    "ztensor3s", "ztensor4s", "ztensor5s", "ztensor6s", "ztensor7s",
]  # fmt: skip
