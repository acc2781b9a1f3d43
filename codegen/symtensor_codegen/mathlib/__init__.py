"""Mathematical functions as scalar expressions.

A backend spells the primitives (arithmetic, ``fma``, ``sqrt``, rounding, ``copysign``, comparisons,
``select``, integer and bit operations, ``cast``, ``bitcast``, ``isnan``); every other function of a real or
integer element is decomposed here into those. The decompositions take no branches, so one expression serves
a scalar, a vector of lanes and a GPU thread; each has a bound on its error that is checked against
multiple-precision arithmetic (``docs/math-accuracy.md``). They count on their arithmetic as written: a
backend must not contract ``a * b + c`` inside them. Parts in ``rarely`` are long: a backend should skip
them where no lane needs them.

Families are loaded when the first of their functions is expanded.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.scalar import Scalar, ScalarOp, apply, cast

__all__ = ["expand", "expandable"]

_FAMILY: Final = {
    name: family
    for family, names in {
        "exponential": "exp exp2 expm1 sinh cosh tanh sigmoid",
        "logarithm": "log log2 log10 log1p softplus logaddexp logaddexp2 arcsinh arccosh arctanh",
        "error_function": "erf erfc",
        "power": "pow cbrt hypot",
        "remainder": "fmod mod floordiv gcd",
        "representation": "isinf isfinite signbit nextafter ldexp",
        "trigonometric": "sin cos tan",
        "philox": "philox64 philox32",
        "normal": "normal_quantile",
        "inverse_trigonometric": "arctan arctan2 arcsin arccos",
    }.items()
    for name in names.split()
}
_ON_BITS: Final = frozenset(("nextafter", "signbit", "isinf", "isfinite"))  # in float16 as it is
_ONLY_OF_INTEGERS: Final = frozenset(("gcd", "philox64", "philox32"))
_OF_INTEGERS: Final = _ONLY_OF_INTEGERS | {"pow", "isinf", "isfinite", "signbit"}


def expandable(op: ScalarOp) -> bool:
    """Whether ``expand`` knows a decomposition of the operation, at least for floats (gcd: for integers).

    Floor division and modulo of integers are for the backend to spell.
    """
    return op.name in _FAMILY


def _defined(name: str, dtype: DType) -> bool:
    if dtype.is_integer:
        return name in _OF_INTEGERS
    return dtype.is_float and name in _FAMILY and name not in _ONLY_OF_INTEGERS


def expand(node: Scalar) -> Scalar:
    """The decomposition of one operation on its arguments into primitives.

    float16 is computed in float32 and rounded once. Raises InternalError for an operation or type that has
    none.
    """
    name = node.op.name
    if name not in _FAMILY:
        raise InternalError(f"{name} has no decomposition")
    if not _defined(name, node.args[0].dtype):
        raise InternalError(f"{name} of {node.args[0].dtype} has no decomposition")
    if node.args[0].dtype is dtypes.float16 and name not in _ON_BITS:
        wide = (cast(a, dtypes.float32) if a.dtype is dtypes.float16 else a for a in node.args)
        return cast(expand(apply(node.op, *wide)), node.dtype)
    functions: dict[str, Callable[..., Scalar]] = import_module(f".{_FAMILY[name]}", __name__).EXPANSIONS
    return functions[name](*node.args)
