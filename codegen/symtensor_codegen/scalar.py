"""Scalar expressions: the value of one element.

A ``Scalar`` is an interned tree over loop indices, buffer loads, symbolic sizes and constants. Tensor operations
are lowered to "the value at an index" in this language, schedules rearrange it, and backends spell it. The
constructors fold constants and apply identities that are exact in the arithmetic of the type, so that equal sizes
and offsets become the same object.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Union

import numpy as np

from . import dtypes
from .dtypes import DType
from .errors import InternalError
from .expr import InternTable, Node

Number = int | float | bool | complex
Dim = Union[int, "Scalar"]


@dataclass(frozen=True, eq=False, slots=True)
class ScalarOp:
    """One scalar operation.

    ``result`` is the dtype rule: ``"same"`` (that of the first argument), ``"last"`` (that of the last),
    ``"bool"``, ``"int64"``, ``"uint32"`` or ``"param"`` (given when built). ``numpy`` is the meaning. A backend spells
    the operation or asks ``mathlib`` for its decomposition.
    """

    name: str
    arity: int
    result: str = "same"
    numpy: Callable[..., Any] | None = None
    commutative: bool = False

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: "Scalar | Number") -> "Scalar":
        """Apply the operation; Python numbers take the type of the first Scalar argument."""
        return apply(self, *args)


class Scalar(Node):
    """An interned scalar expression: operation, arguments, element type and parameter.

    ``free`` holds the loop indices the value depends on; those in the extent of a reduction are among them.
    """

    __slots__ = ("args", "dtype", "free", "op", "param")
    op: ScalarOp
    args: tuple["Scalar", ...]
    dtype: DType
    param: Any
    free: frozenset["Scalar"]

    def __add__(self, other: "Scalar | Number") -> "Scalar":
        return add(self, other)

    def __radd__(self, other: Number) -> "Scalar":
        return add(other, self)

    def __sub__(self, other: "Scalar | Number") -> "Scalar":
        return sub(self, other)

    def __rsub__(self, other: Number) -> "Scalar":
        return sub(other, self)

    def __mul__(self, other: "Scalar | Number") -> "Scalar":
        return mul(self, other)

    def __rmul__(self, other: Number) -> "Scalar":
        return mul(other, self)

    def __truediv__(self, other: "Scalar | Number") -> "Scalar":
        return div(self, other)

    def __rtruediv__(self, other: Number) -> "Scalar":
        return div(other, self)

    def __floordiv__(self, other: "Scalar | Number") -> "Scalar":
        return floordiv(self, other)

    def __mod__(self, other: "Scalar | Number") -> "Scalar":
        return mod(self, other)

    def __neg__(self) -> "Scalar":
        return neg(self)

    def __and__(self, other: "Scalar | Number") -> "Scalar":
        return bit_and(self, other)

    def __or__(self, other: "Scalar | Number") -> "Scalar":
        return bit_or(self, other)

    def __xor__(self, other: "Scalar | Number") -> "Scalar":
        return bit_xor(self, other)

    def __invert__(self) -> "Scalar":
        return bit_not(self)

    def __lshift__(self, other: "Scalar | Number") -> "Scalar":
        return shl(self, other)

    def __rshift__(self, other: "Scalar | Number") -> "Scalar":
        return shr(self, other)

    def __lt__(self, other: "Scalar | Number") -> "Scalar":
        return lt(self, other)

    def __le__(self, other: "Scalar | Number") -> "Scalar":
        return le(self, other)

    def __gt__(self, other: "Scalar | Number") -> "Scalar":
        return gt(self, other)

    def __ge__(self, other: "Scalar | Number") -> "Scalar":
        return ge(self, other)

    def __bool__(self) -> bool:
        raise InternalError("a Scalar has no truth value: use select() or guarded()")

    def __repr__(self) -> str:
        from .text import scalar_text

        return scalar_text(self)


_TABLE: InternTable[Scalar] = InternTable()
_NOTHING: Final[frozenset[Scalar]] = frozenset()


def _make(op: ScalarOp, args: tuple[Scalar, ...], dtype: DType, param: Any = None, key: Hashable = None) -> Scalar:
    """The interned node; ``key`` stands for ``param`` in the identity where ``param`` compares badly."""
    identity = (op, args, dtype, param if key is None else key)
    found = _TABLE.get(identity)
    if found is not None:
        return found
    node = object.__new__(Scalar)
    node.op, node.args, node.dtype, node.param = op, args, dtype, param
    if op is index_op:
        node.free = frozenset((node,))
    elif not args:
        node.free = _NOTHING
    else:
        free = args[0].free
        for argument in args[1:]:
            if not argument.free <= free:
                free = free | argument.free
        if op is reduce_op:
            free = free - {param.index}
            if isinstance(param.index.param.extent, Scalar):
                free = free | param.index.param.extent.free
        node.free = free
    return _TABLE.add(identity, node)


# Leaves ---------------------------------------------------------------------------------------------------------

const_op: Final = ScalarOp("const", 0, "param")
index_op: Final = ScalarOp("index", 0, "int64")
symbol_op: Final = ScalarOp("symbol", 0, "param")
load_op: Final = ScalarOp("load", -1, "param")
register_op: Final = ScalarOp("register", 0, "param")


def const(value: Number, dtype: DType) -> Scalar:
    """A constant of the given type; the value is first converted to what the type can hold."""
    stored: Number
    kind = dtype.kind
    if kind == "f":
        stored = float(value)  # type: ignore[arg-type]
        if dtype is not dtypes.float64:
            with np.errstate(all="ignore"):
                stored = float(dtype.numpy.type(stored))
        return _make(const_op, (), dtype, stored, stored.hex())
    if kind == "b":
        return _make(const_op, (), dtype, bool(value))
    if kind == "c":
        stored = complex(dtype.numpy.type(value))
        return _make(const_op, (), dtype, stored, (stored.real.hex(), stored.imag.hex()))
    bits = dtype.bits
    stored = int(value) & ((1 << bits) - 1)  # type: ignore[arg-type]
    if kind == "i" and stored >> (bits - 1):
        stored -= 1 << bits
    return _make(const_op, (), dtype, stored)


class Counter:
    """The identity of a loop index: a name for people, and the number of values it takes (0 .. extent-1)."""

    __slots__ = ("extent", "name")

    def __init__(self, name: str, extent: Dim) -> None:
        self.name = name
        self.extent = extent


def index(name: str, extent: Dim) -> Scalar:
    """A fresh loop index running from 0 to ``extent - 1``."""
    return _make(index_op, (), dtypes.int64, Counter(name, extent))


def symbol(token: Hashable, dtype: DType = dtypes.int64) -> Scalar:
    """A value known before the kernels run (a size, the value of a 0-d integer), identified by ``token``."""
    return _make(symbol_op, (), dtype, token)


class Buffer:
    """An array in memory, C-contiguous, with ``dims`` known before the kernel runs. Identity is the object."""

    __slots__ = ("dims", "dtype", "name")

    def __init__(self, name: str, dtype: DType, dims: Iterable[Dim]) -> None:
        self.name = name
        self.dtype = dtype
        self.dims: tuple[Dim, ...] = tuple(dims)

    def __repr__(self) -> str:
        return self.name


def load(buffer: Buffer, indices: Iterable[Dim]) -> Scalar:
    """The element of ``buffer`` at ``indices`` (one int64 scalar or int a dimension)."""
    at = tuple(as_int(i) for i in indices)
    if len(at) != len(buffer.dims):
        raise InternalError(f"{buffer.name} has {len(buffer.dims)} dimensions, indexed by {len(at)}")
    return _make(load_op, at, buffer.dtype, buffer)


class Register:
    """The identity of a mutable scalar variable of a kernel (an accumulator)."""

    __slots__ = ("dtype", "name")

    def __init__(self, name: str, dtype: DType) -> None:
        self.name = name
        self.dtype = dtype


def read(register: Register, free: frozenset[Scalar] = _NOTHING) -> Scalar:
    """The current value of a register, declared inside the loops of the indices ``free``."""
    identity = (register_op, register)
    found = _TABLE.get(identity)
    if found is not None:
        return found
    node = object.__new__(Scalar)
    node.op, node.args, node.dtype, node.param, node.free = register_op, (), register.dtype, register, free
    return _TABLE.add(identity, node)


def as_int(value: Dim) -> Scalar:
    """An index or size as an int64 scalar."""
    return value if isinstance(value, Scalar) else const(value, dtypes.int64)


def as_dim(value: Dim) -> Dim:
    """A size with constants as Python ints."""
    return value.param if isinstance(value, Scalar) and value.op is const_op else value


# Operations -----------------------------------------------------------------------------------------------------

OPS: dict[str, ScalarOp] = {}


def _op(
    name: str, arity: int, numpy: Callable[..., Any] | None, result: str = "same", commutative: bool = False
) -> ScalarOp:
    OPS[name] = made = ScalarOp(name, arity, result, numpy, commutative)
    return made


def _upper_half(*operands: Any) -> Any:
    from .mathlib.philox import upper_half

    return upper_half(*operands)


def _random_words(*operands: Any) -> Any:
    from .mathlib.philox import words_of

    return words_of(*operands)


def _random_halves(*operands: Any) -> Any:
    from .mathlib.philox import halves_of

    return halves_of(*operands)


def _normal_quantile(x: Any, rest: Any) -> Any:
    from .mathlib.normal import quantile_of

    return quantile_of(x, rest)


add = _op("add", 2, np.add, commutative=True)
sub = _op("sub", 2, np.subtract)
mul = _op("mul", 2, np.multiply, commutative=True)
div = _op("div", 2, np.divide)
floordiv = _op("floordiv", 2, np.floor_divide)
mod = _op("mod", 2, np.mod)
fmod = _op("fmod", 2, np.fmod)
neg = _op("neg", 1, np.negative)
abs_ = _op("abs", 1, np.abs)
sign = _op("sign", 1, np.sign)
fma = _op("fma", 3, lambda a, b, c: a * b + c)
minimum = _op("minimum", 2, np.minimum, commutative=True)
maximum = _op("maximum", 2, np.maximum, commutative=True)
fmin = _op("fmin", 2, np.fmin, commutative=True)
fmax = _op("fmax", 2, np.fmax, commutative=True)
pow_ = _op("pow", 2, np.power)
sqrt = _op("sqrt", 1, np.sqrt)
cbrt = _op("cbrt", 1, np.cbrt)
floor = _op("floor", 1, np.floor)
ceil = _op("ceil", 1, np.ceil)
trunc = _op("trunc", 1, np.trunc)
rint = _op("rint", 1, np.rint)
copysign = _op("copysign", 2, np.copysign)
nextafter = _op("nextafter", 2, np.nextafter)
ldexp = _op("ldexp", 2, lambda x, e: np.ldexp(x, np.asarray(e, np.int32)))
exp = _op("exp", 1, np.exp)
exp2 = _op("exp2", 1, np.exp2)
expm1 = _op("expm1", 1, np.expm1)
log = _op("log", 1, np.log)
log2 = _op("log2", 1, np.log2)
log10 = _op("log10", 1, np.log10)
log1p = _op("log1p", 1, np.log1p)
sin = _op("sin", 1, np.sin)
cos = _op("cos", 1, np.cos)
tan = _op("tan", 1, np.tan)
arcsin = _op("arcsin", 1, np.arcsin)
arccos = _op("arccos", 1, np.arccos)
arctan = _op("arctan", 1, np.arctan)
arctan2 = _op("arctan2", 2, np.arctan2)
hypot = _op("hypot", 2, np.hypot)
sinh = _op("sinh", 1, np.sinh)
cosh = _op("cosh", 1, np.cosh)
tanh = _op("tanh", 1, np.tanh)
arcsinh = _op("arcsinh", 1, np.arcsinh)
arccosh = _op("arccosh", 1, np.arccosh)
arctanh = _op("arctanh", 1, np.arctanh)
erf = _op("erf", 1, np.vectorize(math.erf, otypes=[float]))
erfc = _op("erfc", 1, np.vectorize(math.erfc, otypes=[float]))
sigmoid = _op("sigmoid", 1, lambda x: np.exp(-np.logaddexp(0, -x)))
softplus = _op("softplus", 1, lambda x: np.logaddexp(0, x))
logaddexp = _op("logaddexp", 2, np.logaddexp, commutative=True)
logaddexp2 = _op("logaddexp2", 2, np.logaddexp2, commutative=True)
gcd = _op("gcd", 2, np.gcd, commutative=True)
bit_and = _op("bit_and", 2, np.bitwise_and, commutative=True)  # on bool: logical
bit_or = _op("bit_or", 2, np.bitwise_or, commutative=True)
bit_xor = _op("bit_xor", 2, np.bitwise_xor, commutative=True)
bit_not = _op("bit_not", 1, np.invert)
mulhi = _op("mulhi", 2, _upper_half, commutative=True)  # of uint64: the upper half of the product
philox64 = _op("philox64", 6, _random_words)  # as in mathlib.philox
philox32 = _op("philox32", 6, _random_halves, "uint32")
normal_quantile = _op("normal_quantile", 2, _normal_quantile)  # as in mathlib.normal
shl = _op("shl", 2, np.left_shift)
shr = _op("shr", 2, np.right_shift)
eq = _op("eq", 2, np.equal, "bool", commutative=True)
ne = _op("ne", 2, np.not_equal, "bool", commutative=True)
lt = _op("lt", 2, np.less, "bool")
le = _op("le", 2, np.less_equal, "bool")
gt = _op("gt", 2, np.greater, "bool")
ge = _op("ge", 2, np.greater_equal, "bool")
isnan = _op("isnan", 1, np.isnan, "bool")
isinf = _op("isinf", 1, np.isinf, "bool")
isfinite = _op("isfinite", 1, np.isfinite, "bool")
signbit = _op("signbit", 1, np.signbit, "bool")
select_op = _op("select", 3, np.where, "last")
guarded_op = _op("guarded", 3, np.where, "last")
rarely_op = _op("rarely", 3, np.where, "last")
cast_op = _op("cast", 1, None, "param")
bitcast_op = _op("bitcast", 1, None, "param")
checked_op = _op("checked_index", 2, None, "int64")
real = _op("real", 1, np.real, "real")
imag = _op("imag", 1, np.imag, "real")
conj = _op("conj", 1, np.conj)
angle = _op("angle", 1, np.angle, "real")
complex_op = _op("complex", 2, lambda a, b: a + 1j * b, "complex")
reduce_op: Final = ScalarOp("reduce", 1, "param")


def select(condition: Scalar, yes: Scalar | Number, no: Scalar | Number) -> Scalar:
    """``yes`` where the bool ``condition`` holds, else ``no``; both are evaluated."""
    return apply(select_op, condition, yes, no)


def guarded(condition: Scalar, value: Scalar, other: Scalar | Number) -> Scalar:
    """``value`` where ``condition`` holds, else ``other``; loads in ``value`` are not made where it does not hold."""
    return apply(guarded_op, condition, value, other)


def rarely(condition: Scalar, value: Scalar, other: Scalar) -> Scalar:
    """As ``select``; ``condition`` seldom holds, and a backend may skip ``value`` where no lane needs it."""
    return apply(rarely_op, condition, value, other)


def cast(value: Scalar, dtype: DType) -> Scalar:
    """Convert to another type as NumPy's astype does (to bool: nonzero; float to integer: toward zero)."""
    if value.dtype is dtype:
        return value
    if value.op is const_op:
        if dtype.is_integer and value.dtype.is_inexact:
            with np.errstate(all="ignore"):
                return const(int(np.asarray(value.param, value.dtype.numpy).astype(dtype.numpy)), dtype)
        if not value.dtype.is_complex:
            return const(value.param, dtype)
    return _make(cast_op, (value,), dtype)


def bitcast(value: Scalar, dtype: DType) -> Scalar:
    """The same bits read as another type of the same width."""
    if value.dtype is dtype:
        return value
    if value.dtype.itemsize != dtype.itemsize:
        raise InternalError(f"bitcast from {value.dtype} to {dtype}")
    if value.op is const_op:
        bits = np.asarray(value.param, value.dtype.numpy).view(dtype.numpy)
        return const(bits.item(), dtype)
    return _make(bitcast_op, (value,), dtype)


def checked_index(position: Scalar, extent: Dim, message: Hashable) -> Scalar:
    """An index given by data: negative values count from the end; outside [-extent, extent) the kernel fails.

    The result always lies in [0, extent) where it is used for a load; ``message`` identifies the failure.
    """
    wanted, limit = cast(position, dtypes.int64), as_int(extent)
    return wanted if _in_range(wanted, limit) else _make(checked_op, (wanted, limit), dtypes.int64, message)


# Reductions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a ``reduce`` combines: ``combine`` (a key of COMBINES) over ``index``."""

    combine: str
    index: Scalar


@dataclass(frozen=True, slots=True)
class Combine:
    """A commutative, associative way to combine values: its step, its neutral element, and NumPy's meaning."""

    step: Callable[[Scalar, Scalar], Scalar]
    neutral: Callable[[DType], Number]
    numpy: Callable[..., Any]


def _lowest(d: DType) -> Number:
    return -math.inf if d.kind == "f" else (0 if d.kind in "bu" else -(1 << (d.bits - 1)))


def _highest(d: DType) -> Number:
    if d.kind == "f":
        return math.inf
    return 1 if d.kind == "b" else (1 << (d.bits - (d.kind == "i"))) - 1


COMBINES: Final[Mapping[str, Combine]] = {
    "add": Combine(add, lambda d: 0, np.add.reduce),
    "mul": Combine(mul, lambda d: 1, np.multiply.reduce),
    "maximum": Combine(maximum, _lowest, np.maximum.reduce),
    "minimum": Combine(minimum, _highest, np.minimum.reduce),
    "and": Combine(bit_and, lambda d: -1 if d.kind == "i" else _highest(d), np.bitwise_and.reduce),
    "or": Combine(bit_or, lambda d: 0, np.bitwise_or.reduce),
    "xor": Combine(bit_xor, lambda d: 0, np.bitwise_xor.reduce),
}
ARG_COMBINES: Final = ("argmax", "argmin")  # the first position of the extreme value; the first NaN wins


def reduce(combine: str, over: Scalar, body: Scalar) -> Scalar:
    """Combine ``body`` over every value of the index ``over``; argmax and argmin give an int64 position."""
    dtype = dtypes.int64 if combine in ARG_COMBINES else body.dtype
    return _make(reduce_op, (body,), dtype, Reduction(combine, over))


# Construction with folding --------------------------------------------------------------------------------------


def apply(op: ScalarOp, *operands: Scalar | Number) -> Scalar:
    """Build ``op(*operands)``, folding what is exact. All operands of one operation have one type."""
    args: tuple[Scalar, ...]
    for operand in operands:
        if not isinstance(operand, Scalar):
            args = _typed(operands)
            break
    else:
        args = operands  # type: ignore[assignment]
    if len(args) != op.arity:
        raise InternalError(f"{op.name} takes {op.arity} arguments, got {len(args)}")
    simpler = _SIMPLIFY.get(op.name)
    if simpler is not None:
        found = simpler(*args)
        if found is not None:
            return found
    dtype = _result(op, args)
    if op.numpy is not None and all(a.op is const_op for a in args) and op not in (erf, erfc):
        return _fold(op, args, dtype)
    return _make(op, args, dtype)


def _typed(operands: tuple[Scalar | Number, ...]) -> tuple[Scalar, ...]:
    like = next((o.dtype for o in reversed(operands) if isinstance(o, Scalar) and o.dtype is not dtypes.bool_), None)
    if like is None:
        like = dtypes.bool_
    return tuple(o if isinstance(o, Scalar) else const(o, like) for o in operands)


def _result(op: ScalarOp, args: tuple[Scalar, ...]) -> DType:
    rule = op.result
    if rule == "same":
        return args[0].dtype
    if rule == "last":
        return args[-1].dtype
    if rule == "bool":
        return dtypes.bool_
    if rule == "real":
        return dtypes.real_of(args[0].dtype)
    if rule == "complex":
        return dtypes.complex_of(args[0].dtype)
    if rule == "uint32":
        return dtypes.uint32
    return dtypes.int64


def _fold(op: ScalarOp, args: tuple[Scalar, ...], dtype: DType) -> Scalar:
    with np.errstate(all="ignore"):
        values = [a.dtype.numpy.type(a.param) for a in args]
        assert op.numpy is not None
        return const(np.asarray(op.numpy(*values)).astype(dtype.numpy).item(), dtype)


def _is(value: Scalar, number: Number) -> bool:
    return value.op is const_op and value.param == number and not value.dtype.is_complex


def _add(a: Scalar, b: Scalar) -> Scalar | None:
    if a.dtype.kind not in "iu":
        return None
    if _is(a, 0):
        return b
    if _is(b, 0):
        return a
    if b.op is const_op and a.op is add and a.args[1].op is const_op:
        return add(a.args[0], const(a.args[1].param + b.param, a.dtype))
    if a.op is const_op and b.op is not const_op:
        return add(b, a)
    return None


def _sub(a: Scalar, b: Scalar) -> Scalar | None:
    if _is(b, 0) and (a.dtype.is_integer or math.copysign(1, b.param) > 0):
        return a  # x - 0.0 is x for every x; x - (-0.0) is not (-0.0 becomes 0.0)
    if a.dtype.is_integer:
        if a is b:
            return const(0, a.dtype)
        if b.op is const_op:
            return add(a, const(-b.param, a.dtype))
        if a.op is add:
            if a.args[0] is b:
                return a.args[1]
            if a.args[1] is b:
                return a.args[0]
    return None


def _mul(a: Scalar, b: Scalar) -> Scalar | None:
    if _is(b, 1):
        return a
    if _is(a, 1):
        return b
    if a.dtype.is_integer:
        if _is(a, 0) or _is(b, 0):
            return const(0, a.dtype)
        if a.op is const_op and b.op is not const_op:
            return mul(b, a)
    return None


def _div(a: Scalar, b: Scalar) -> Scalar | None:
    return a if _is(b, 1) else None


def _floordiv(a: Scalar, b: Scalar) -> Scalar | None:
    if _is(b, 1) and a.dtype.is_integer:
        return a
    if _in_range(a, b):
        return const(0, a.dtype)
    if a.op is mul and a.dtype is dtypes.int64 and a.args[1] is b and b.op is const_op and b.param != 0:
        return a.args[0]
    return None


def _mod(a: Scalar, b: Scalar) -> Scalar | None:
    if _is(b, 1) and a.dtype.is_integer:
        return const(0, a.dtype)
    return a if _in_range(a, b) else None


def _in_range(a: Scalar, b: Scalar) -> bool:
    """Whether the loop index ``a`` is known to stay below ``b``."""
    return a.op is index_op and as_int(a.param.extent) is b


def _extreme(a: Scalar, b: Scalar) -> Scalar | None:
    return a if a is b else None


def _select(condition: Scalar, yes: Scalar, no: Scalar) -> Scalar | None:
    if yes is no:
        return yes
    if condition.op is const_op:
        return yes if condition.param else no
    return None


def _and(a: Scalar, b: Scalar) -> Scalar | None:
    if a is b:
        return a
    if a.dtype is dtypes.bool_:
        for x, y in ((a, b), (b, a)):
            if x.op is const_op:
                return y if x.param else x
    return None


def _or(a: Scalar, b: Scalar) -> Scalar | None:
    if a is b:
        return a
    if a.dtype is dtypes.bool_:
        for x, y in ((a, b), (b, a)):
            if x.op is const_op:
                return x if x.param else y
    return None


def _neg(a: Scalar) -> Scalar | None:
    return a.args[0] if a.op is neg else None


_SIMPLIFY: Final[dict[str, Callable[..., Scalar | None]]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "floordiv": _floordiv, "mod": _mod,
    "minimum": _extreme, "maximum": _extreme, "select": _select, "guarded": _select, "rarely": _select,
    "bit_and": _and, "bit_or": _or, "neg": _neg,
}  # fmt: skip
