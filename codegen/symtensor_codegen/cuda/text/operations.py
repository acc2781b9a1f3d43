"""How each scalar operation is spelled in CUDA C: one row of ``SPELL`` an operation.

A speller gets the node and the texts of its operands, which can stand anywhere in an expression, and returns the
text of the result. Arithmetic is IEEE with NumPy's results for NaN, infinities and signed zeros. Integer arithmetic
wraps: where it could overflow it is done on unsigned numbers, for which C++ says so. float16 is ``float`` in
registers, rounded after every operation; a product or sum of two is exact enough in float for that to be right.
"""

import math
from collections.abc import Callable

import numpy as np

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import BackendError
from symtensor_codegen.scalar import (
    Number,
    Scalar,
    add,
    checked_op,
    const_op,
    floordiv,
    index_op,
    mod,
    mul,
    sub,
    symbol_op,
)

Speller = Callable[..., str]  # (node, *operands) -> text

REGISTER = {
    dtypes.bool_: "bool", dtypes.int8: "i8", dtypes.int16: "i16", dtypes.int32: "i32", dtypes.int64: "i64",
    dtypes.uint8: "u8", dtypes.uint16: "u16", dtypes.uint32: "u32", dtypes.uint64: "u64",
    dtypes.float16: "f32", dtypes.float32: "f32", dtypes.float64: "f64",
}  # fmt: skip
"""The type of a value in a register."""
MEMORY = REGISTER | {dtypes.bool_: "u8", dtypes.float16: "u16"}
"""The type of an element in memory."""


def literal(value: Number, dtype: DType) -> str:
    """A constant of a type."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind == "f":
        number = float(value)  # type: ignore[arg-type]
        wide = dtype is dtypes.float64
        if math.isfinite(number):
            text = repr(number) if wide else repr(float(str(np.float32(number))))
            return text if wide else f"{text}f"
        if math.isnan(number):
            return "__longlong_as_double(0x7ff8000000000000LL)" if wide else "__int_as_float(0x7fc00000)"
        text = "__longlong_as_double(0x7ff0000000000000LL)" if wide else "__int_as_float(0x7f800000)"
        return text if number > 0 else f"(-{text})"
    whole = int(value)  # type: ignore[arg-type]
    if dtype is dtypes.uint64:
        return f"{whole}ULL"
    if dtype is dtypes.int64:
        return f"{whole}LL" if whole > -(2**63) else "(-9223372036854775807LL - 1)"
    if dtype is dtypes.uint32:
        return f"{whole}u"
    if dtype is dtypes.int32:
        return str(whole) if whole > -(2**31) else "(-2147483647 - 1)"
    return f"({REGISTER[dtype]}){whole}" if whole >= 0 else f"({REGISTER[dtype]})({whole})"


def is_position(node: Scalar) -> bool:
    """Whether an int64 expression is index arithmetic, of loop indices, sizes and constants: it never overflows."""
    pending = [node]
    for _ in range(64):  # index arithmetic is small; anything bigger is not worth the search
        if not pending:
            return True
        node = pending.pop()
        if node.dtype is not dtypes.int64:
            return False
        if node.op in (index_op, symbol_op, const_op, checked_op):
            continue
        if node.op not in (add, sub, mul, floordiv, mod):
            return False
        pending.extend(node.args)
    return False


def _rounded(node: Scalar, text: str) -> str:
    """A result in the precision of its type."""
    return f"st_round_half({text})" if node.dtype is dtypes.float16 else text


def _arithmetic(sign: str, on_bool: str | None = None) -> Speller:
    def spell(node: Scalar, a: str, b: str) -> str:
        dtype = node.dtype
        if dtype.kind == "f":
            return _rounded(node, f"({a} {sign} {b})")
        if dtype.kind == "b":
            if on_bool is None:
                raise BackendError(f"cuda backend: {node.op.name} has no meaning on bool")
            return f"({a} {on_bool} {b})"
        if is_position(node):
            return f"({a} {sign} {b})"
        if dtype.kind == "i" and dtype.bits >= 32:
            wide = f"u{dtype.bits}"
            return f"({REGISTER[dtype]})(({wide}){a} {sign} ({wide}){b})"
        if dtype.bits >= 32:
            return f"({a} {sign} {b})"
        return f"({REGISTER[dtype]})((u32){a} {sign} (u32){b})"  # the product of two u16 overflows an int

    return spell


EXACT = {"add": "add", "sub": "sub", "mul": "mul"}


def exact_arithmetic(node: Scalar, a: str, b: str) -> str:
    """Addition, subtraction or multiplication which the compiler does not merge with another into one rounding."""
    if node.dtype not in (dtypes.float32, dtypes.float64):
        return SPELL[node.op.name](node, a, b)
    letter = "d" if node.dtype is dtypes.float64 else "f"
    return f"__{letter}{EXACT[node.op.name]}_rn({a}, {b})"


def _divide(node: Scalar, a: str, b: str) -> str:
    if not node.dtype.is_float:
        raise BackendError(f"cuda backend: div on {node.dtype}; convert to a float first")
    return _rounded(node, f"({a} / {b})")


def _negative(node: Scalar, a: str) -> str:
    dtype = node.dtype
    if dtype.is_float:
        return f"(-{a})"
    if dtype is dtypes.int64 and is_position(node):
        return f"(-{a})"
    wide = f"u{dtype.bits}" if dtype.bits >= 32 else "u32"
    return f"({REGISTER[dtype]})(0u - ({wide}){a})"


def _absolute(node: Scalar, a: str) -> str:
    dtype = node.dtype
    if dtype.is_float:
        return f"fabs({a})" if dtype is dtypes.float64 else f"fabsf({a})"
    return f"st_absolute({a})" if dtype.kind == "i" else a


def _call(name: str) -> Speller:
    return lambda node, *operands: f"{name}({', '.join(operands)})"


def _math(name: str, whole: bool = False) -> Speller:
    """A function of C's library on floats; ``whole``: the identity on integers (floor, rint ...)."""

    def spell(node: Scalar, *operands: str) -> str:
        if not node.dtype.is_float:
            if whole:
                return operands[0]
            raise BackendError(f"cuda backend: {node.op.name} on {node.dtype}; convert to a float first")
        suffix = "" if node.dtype is dtypes.float64 else "f"
        return _rounded(node, f"{name}{suffix}({', '.join(operands)})")

    return spell


def _fma(node: Scalar, a: str, b: str, c: str) -> str:
    if node.dtype is dtypes.float64:
        return f"fma({a}, {b}, {c})"
    if node.dtype.is_float:
        return _rounded(node, f"fmaf({a}, {b}, {c})")
    wide = f"u{max(node.dtype.bits, 32)}"
    return f"({REGISTER[node.dtype]})(({wide}){a} * ({wide}){b} + ({wide}){c})"


def _infix(sign: str) -> Speller:
    return lambda node, a, b: f"({a} {sign} {b})"


def _bitwise(sign: str) -> Speller:
    def spell(node: Scalar, a: str, b: str) -> str:
        dtype = node.dtype
        return f"({a} {sign} {b})" if dtype.bits >= 32 else f"({REGISTER[dtype]})({a} {sign} {b})"

    return spell


def _invert(node: Scalar, a: str) -> str:
    return f"(!{a})" if node.dtype.kind == "b" else f"({REGISTER[node.dtype]})(~{a})"


def _shift(name: str) -> Speller:
    """Shifts by the width or more give 0, or the sign for a right shift of a signed integer."""

    def spell(node: Scalar, a: str, b: str) -> str:
        dtype, amount = node.dtype, node.args[1]
        kind = REGISTER[dtype]
        if amount.op is const_op and 0 <= amount.param < dtype.bits:
            if name == "right":
                return f"({kind})({a} >> {amount.param})"
            return f"({kind})((u{max(dtype.bits, 32)}){a} << {amount.param})"
        return f"st_shift_{name}<{kind}>({a}, {b})"

    return spell


def _classify(name: str) -> Speller:
    def spell(node: Scalar, a: str) -> str:
        dtype = node.args[0].dtype
        if not dtype.is_float:
            return "true" if name == "isfinite" else "false"
        if name == "isnan":
            return f"({a} != {a})"
        infinity = literal(math.inf, dtype)
        return f"({_absolute(node.args[0], a)} {'==' if name == 'isinf' else '<'} {infinity})"

    return spell


def _signbit(node: Scalar, a: str) -> str:
    dtype = node.args[0].dtype
    if dtype.kind in "bu":
        return "false"
    if dtype is dtypes.float64:
        return f"(__double_as_longlong({a}) < 0)"
    return f"(__float_as_int({a}) < 0)" if dtype.is_float else f"({a} < 0)"


def _extreme(name: str, on_bool: str) -> Speller:
    def spell(node: Scalar, a: str, b: str) -> str:
        if node.dtype.kind == "b":
            return f"({a} {on_bool} {b})"
        return f"st_{name}({a}, {b})"

    return spell


def _division(name: str) -> Speller:
    """Floor division and its remainder; of a division by zero the result is 0."""

    def spell(node: Scalar, a: str, b: str) -> str:
        dtype, divisor = node.dtype, node.args[1]
        if divisor.op is const_op and divisor.param > 0 and is_position(node.args[0]) and _not_negative(node.args[0]):
            return f"({a} {'/' if name == 'floordiv' else '%'} {b})"
        return f"st_{name}<{REGISTER[dtype]}>({a}, {b})"

    return spell


def _not_negative(node: Scalar) -> bool:
    if node.op is index_op:
        return True
    if node.op is const_op:
        return bool(node.param >= 0)
    return node.op in (add, mul, floordiv, mod) and all(_not_negative(a) for a in node.args)


# Selection and conversion -------------------------------------------------------------------------------------


def _select(node: Scalar, condition: str, yes: str, no: str) -> str:
    return f"({condition} ? {yes} : {no})"


def _cast(node: Scalar, a: str) -> str:
    return convert(a, node.args[0].dtype, node.dtype)


def convert(a: str, source: DType, target: DType) -> str:
    """Convert ``a`` as NumPy's astype does."""
    if source is target:
        return a
    if target.kind == "b":
        zero = literal(0, source)
        return f"({a} != {zero})"
    kind = REGISTER[target]
    if target is dtypes.float16:
        if source is dtypes.float64:
            return f"st_half_to_float(st_double_to_half({a}))"
        return f"st_round_half((f32){a})"
    if target.is_float:
        return a if source is dtypes.float16 and target is dtypes.float32 else f"({kind}){a}"
    if source.is_float:
        if target is dtypes.uint64:
            return f"st_to_u64({a})"
        # Through a signed type: negative values wrap, as NumPy's do.
        wide = "i64" if target in (dtypes.int64, dtypes.uint32) else "i32"
        made = f"st_to_int<{wide}>({a})"
        return made if target is dtypes.int64 else f"({kind}){made}"
    return f"({kind}){a}"


def _bitcast(node: Scalar, a: str) -> str:
    source, target = node.args[0].dtype, node.dtype
    if source.is_float and target.is_float:
        return a
    if target is dtypes.float64:
        return f"__longlong_as_double((i64){a})"
    if target is dtypes.float32:
        return f"__int_as_float((i32){a})"
    if target is dtypes.float16:
        return f"st_half_to_float((u16){a})"
    kind = REGISTER[target]
    if source is dtypes.float64:
        return f"({kind})__double_as_longlong({a})"
    if source is dtypes.float32:
        return f"({kind})__float_as_int({a})"
    if source is dtypes.float16:
        return f"({kind})st_float_to_half({a})"
    return f"({kind}){a}"


_LIBRARY = {
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p",
    "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "hypot": "hypot", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "erf": "erf", "erfc": "erfc", "cbrt": "cbrt", "fmod": "fmod",
    "sqrt": "sqrt", "copysign": "copysign",
}  # fmt: skip

FUNCTIONS = frozenset((*_LIBRARY.values(), "abs", "fabs", "floor", "ceil", "trunc", "rint", "pow", "fma", "min", "max"))
"""Functions of C's library that kernels call."""

SPELL: dict[str, Speller] = {
    "add": _arithmetic("+", "|"),
    "sub": _arithmetic("-"),
    "mul": _arithmetic("*", "&"),
    "div": _divide,
    "floordiv": _division("floordiv"),
    "mod": _division("mod"),
    "neg": _negative,
    "abs": _absolute,
    "sign": _call("st_sign"),
    "fma": _fma,
    "minimum": _extreme("minimum", "&"),
    "maximum": _extreme("maximum", "|"),
    "fmin": _extreme("fmin", "&"),
    "fmax": _extreme("fmax", "|"),
    **{name: _math(spelled) for name, spelled in _LIBRARY.items()},
    "floor": _math("floor", whole=True),
    "ceil": _math("ceil", whole=True),
    "trunc": _math("trunc", whole=True),
    "rint": _math("rint", whole=True),
    "pow": _math("pow"),
    "bit_and": _bitwise("&"),
    "bit_or": _bitwise("|"),
    "bit_xor": _bitwise("^"),
    "bit_not": _invert,
    "mulhi": _call("__umul64hi"),
    "shl": _shift("left"),
    "shr": _shift("right"),
    "eq": _infix("=="), "ne": _infix("!="),
    "lt": _infix("<"), "le": _infix("<="), "gt": _infix(">"), "ge": _infix(">="),
    **{name: _classify(name) for name in ("isnan", "isinf", "isfinite")},
    "signbit": _signbit,
    "select": _select,
    "cast": _cast,
    "bitcast": _bitcast,
}  # fmt: skip


def is_expanded(node: Scalar) -> bool:
    """Whether an operation is written as a function of its own, from ``mathlib``'s decomposition."""
    name = node.op.name
    if name in ("floordiv", "mod") and node.dtype.is_float:
        return True
    if name in ("pow", "fmod") and not node.dtype.is_float:
        return True
    return name not in SPELL


__all__ = ["MEMORY", "REGISTER", "SPELL", "convert", "exact_arithmetic", "is_expanded", "literal"]
