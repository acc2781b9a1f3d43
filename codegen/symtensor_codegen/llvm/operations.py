"""How each scalar operation is spelled in LLVM IR: one row of ``SPELL`` an operation.

A speller writes the instructions for one operation on operands of equal lane count and returns the name of
the result. Arithmetic on floats is IEEE with NumPy's results for NaN, infinities and signed zeros; only
``contract`` is allowed (a*b+c in one rounding), and not inside the expansions of mathematical functions.
Integer arithmetic wraps. Division by zero of integers gives 0, as NumPy does (without its warning).

Conversions of NaN and out-of-range floats to integers are undefined in C and NumPy; here they give what the
processor's conversion instruction gives, as NumPy's vector loops do on the same machine.
"""

from collections.abc import Callable

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import BackendError
from symtensor_codegen.llvm.types import element, literal, splat, suffix, typed
from symtensor_codegen.scalar import (
    Number,
    Scalar,
    add,
    checked_op,
    const_op,
    floordiv,
    guarded_op,
    index_op,
    load_op,
    mod,
    mul,
    reduce_op,
)


class Site:
    """Where instructions go: ``put`` appends one and returns its name; ``lanes`` is the vector width there.
    """

    __slots__ = ("contract", "lanes", "put")

    def __init__(self, put: Callable[[str], str], lanes: int) -> None:
        self.put = put
        self.lanes = lanes
        self.contract = "contract "

    def type(self, dtype: DType) -> str:
        """A register type of this width."""
        return typed(dtype, self.lanes)

    def constant(self, value: Number, dtype: DType) -> str:
        """A constant operand of this width."""
        text = literal(value, dtype)
        return text if self.lanes == 1 else splat(text, dtype)

    def intrinsic(self, name: str, dtype: DType, *operands: str) -> str:
        """Call an LLVM intrinsic whose operands and result all have type ``dtype``."""
        t = self.type(dtype)
        listed = ", ".join(f"{t} {operand}" for operand in operands)
        return self.put(f"call {t} @llvm.{name}.{suffix(t)}({listed})")

    def choose(self, condition: str, dtype: DType, yes: str, no: str) -> str:
        """A select."""
        t = self.type(dtype)
        return self.put(f"select {self.type(dtypes.bool_)} {condition}, {t} {yes}, {t} {no}")


Speller = Callable[..., str]  # (site, node, *operands) -> name


def _arithmetic(on_float: str, on_integer: str, on_bool: str | None = None) -> Speller:
    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        dtype = node.dtype
        t = typed(dtype, site.lanes)
        if dtype.kind == "f":
            return site.put(f"{on_float} {site.contract}{t} {a}, {b}")
        if dtype.kind == "b":
            if on_bool is None:
                raise BackendError(f"LLVM backend: {node.op.name} has no meaning on bool")
            return site.put(f"{on_bool} {t} {a}, {b}")
        return site.put(f"{on_integer} {t} {a}, {b}")

    return spell


def _divide(site: Site, node: Scalar, a: str, b: str) -> str:
    if not node.dtype.is_float:
        raise BackendError(f"LLVM backend: div on {node.dtype}; convert to a float first")
    return site.put(f"fdiv {site.type(node.dtype)} {a}, {b}")


def _negative(site: Site, node: Scalar, a: str) -> str:
    t = site.type(node.dtype)
    return site.put(
        f"fneg {t} {a}" if node.dtype.is_float else f"sub {t} {site.constant(0, node.dtype)}, {a}"
    )


def _absolute(site: Site, node: Scalar, a: str) -> str:
    if node.dtype.is_float:
        return site.intrinsic("fabs", node.dtype, a)
    if node.dtype.kind == "i":
        t = site.type(node.dtype)
        return site.put(f"call {t} @llvm.abs.{suffix(t)}({t} {a}, i1 false)")
    return a


def _sign(site: Site, node: Scalar, a: str) -> str:
    dtype = node.dtype
    zero, one = site.constant(0, dtype), site.constant(1, dtype)
    if dtype.kind in "bu":
        return site.choose(compare_as(site, "ne", dtype, a, zero), dtype, one, zero)
    above = compare_as(site, "gt", dtype, a, zero)
    below = compare_as(site, "lt", dtype, a, zero)
    rest = zero
    if dtype.is_float:  # NaN stays NaN, and both zeros give +0
        rest = site.choose(compare_as(site, "eq", dtype, a, zero), dtype, zero, a)
    return site.choose(above, dtype, one, site.choose(below, dtype, site.constant(-1, dtype), rest))


_FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


def compare_as(site: Site, name: str, dtype: DType, a: str, b: str) -> str:
    t = site.type(dtype)
    if dtype.is_float:
        return site.put(f"fcmp {_FLOAT_COMPARE[name]} {t} {a}, {b}")
    sign = "" if name in ("eq", "ne") else "s" if dtype.kind == "i" else "u"
    return site.put(f"icmp {sign}{name} {t} {a}, {b}")


def _compare(name: str) -> Speller:
    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        return compare_as(site, name, node.args[0].dtype, a, b)

    return spell


def _unordered(site: Site, dtype: DType, a: str) -> str:
    return site.put(f"fcmp uno {site.type(dtype)} {a}, {a}")


def _extreme(name: str, propagate: bool) -> Speller:
    """Maximum and minimum (NaN wins) or fmax and fmin (NaN loses).

    ``select (a > b), a, b`` is one instruction on x86 and gives ``b`` where either is NaN; one more select
    mends the other operand.
    """

    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        dtype = node.dtype
        if dtype.kind == "b":
            return site.put(f"{'or' if name == 'max' else 'and'} {site.type(dtype)} {a}, {b}")
        if dtype.is_integer:
            return site.intrinsic(("s" if dtype.kind == "i" else "u") + name, dtype, a, b)
        t = site.type(dtype)
        order = "ogt" if name == "max" else "olt"
        best = site.choose(site.put(f"fcmp {order} {t} {a}, {b}"), dtype, a, b)
        if propagate:
            return site.choose(_unordered(site, dtype, a), dtype, a, best)
        return site.choose(_unordered(site, dtype, b), dtype, a, best)

    return spell


def _float_intrinsic(intrinsic: str, whole: bool = False) -> Speller:
    """An LLVM intrinsic on floats; ``whole``: the identity on integers (floor, rint ...)."""

    def spell(site: Site, node: Scalar, *operands: str) -> str:
        if not node.dtype.is_float:
            if whole:
                return operands[0]
            raise BackendError(f"LLVM backend: {node.op.name} on {node.dtype}; convert to a float first")
        return site.intrinsic(intrinsic, node.dtype, *operands)

    return spell


def _fma(site: Site, node: Scalar, a: str, b: str, c: str) -> str:
    if node.dtype.is_float:
        return site.intrinsic("fma", node.dtype, a, b, c)
    t = site.type(node.dtype)
    return site.put(f"add {t} {site.put(f'mul {t} {a}, {b}')}, {c}")


def _classify(name: str) -> Speller:
    def spell(site: Site, node: Scalar, a: str) -> str:
        dtype = node.args[0].dtype
        if not dtype.is_float:
            return site.constant(name == "isfinite", dtypes.bool_)
        if name == "isnan":
            return _unordered(site, dtype, a)
        size = site.intrinsic("fabs", dtype, a)
        order = "oeq" if name == "isinf" else "olt"
        return site.put(f"fcmp {order} {site.type(dtype)} {size}, {site.constant(float('inf'), dtype)}")

    return spell


def _signbit(site: Site, node: Scalar, a: str) -> str:
    dtype = node.args[0].dtype
    if dtype.kind in "bu":
        return site.constant(False, dtypes.bool_)
    if dtype.is_float:
        whole = dtypes.BY_NAME[f"int{dtype.bits}"]
        a, dtype = site.put(f"bitcast {site.type(dtype)} {a} to {site.type(whole)}"), whole
    return compare_as(site, "lt", dtype, a, site.constant(0, dtype))


# Integers ------------------------------------------------------------------------------------------------


def nonnegative(node: Scalar) -> bool:
    """Whether an integer expression cannot be negative: made of loop indices, constants and their sums."""
    pending = [node]
    for _ in range(64):  # index arithmetic is small; anything bigger is not worth the search
        if not pending:
            return True
        node = pending.pop()
        if node.dtype.kind in "bu" or node.op is index_op:
            continue
        if node.op is const_op:
            if node.param < 0:
                return False
        elif node.op in (add, mul, floordiv, mod):
            pending.extend(node.args)
        else:
            return False
    return False


def _division(want_quotient: bool) -> Speller:
    """Floor division and its remainder. The divisor's cases that trap (0, and -1 for the least integer) are
    replaced.
    """

    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        dtype, divisor = node.dtype, node.args[1]
        t = site.type(dtype)
        zero, one = site.constant(0, dtype), site.constant(1, dtype)
        known = divisor.param if divisor.op is const_op else None
        if known == 0:
            return zero
        if known == -1:
            return site.put(f"sub {t} {zero}, {a}") if want_quotient else zero
        if known is not None and known > 0 and known & (known - 1) == 0:  # shifting and masking round down
            if want_quotient:
                shift = "ashr" if dtype.kind == "i" else "lshr"
                return site.put(f"{shift} {t} {a}, {site.constant(known.bit_length() - 1, dtype)}")
            return site.put(f"and {t} {a}, {site.constant(known - 1, dtype)}")
        unsigned = dtype.kind == "u" or (nonnegative(node.args[0]) and (known is not None and known > 0))
        by_zero = None if known is not None else site.put(f"icmp eq {t} {b}, {zero}")
        if unsigned:
            if by_zero is not None:
                b = site.choose(by_zero, dtype, one, b)
            result = site.put(f"{'udiv' if want_quotient else 'urem'} {t} {a}, {b}")
            return result if by_zero is None else site.choose(by_zero, dtype, zero, result)
        by_minus_one = None
        if by_zero is not None:
            by_minus_one = site.put(f"icmp eq {t} {b}, {site.constant(-1, dtype)}")
            trap = site.put(f"or {site.type(dtypes.bool_)} {by_zero}, {by_minus_one}")
            b = site.choose(trap, dtype, one, b)
        quotient = site.put(f"sdiv {t} {a}, {b}")
        rest = site.put(f"sub {t} {a}, {site.put(f'mul {t} {quotient}, {b}')}")
        inexact = site.put(f"icmp ne {t} {rest}, {zero}")
        opposite = site.put(f"icmp slt {t} {site.put(f'xor {t} {rest}, {b}')}, {zero}")
        down = site.put(f"and {site.type(dtypes.bool_)} {inexact}, {opposite}")
        if want_quotient:
            result = site.choose(down, dtype, site.put(f"sub {t} {quotient}, {one}"), quotient)
            if by_minus_one is not None:
                result = site.choose(by_minus_one, dtype, site.put(f"sub {t} {zero}, {a}"), result)
        else:
            result = site.choose(down, dtype, site.put(f"add {t} {rest}, {b}"), rest)
        return result if by_zero is None else site.choose(by_zero, dtype, zero, result)

    return spell


def _bitwise(name: str) -> Speller:
    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        return site.put(f"{name} {site.type(node.dtype)} {a}, {b}")

    return spell


def _upper_half(site: Site, node: Scalar, a: str, b: str) -> str:
    """In vectors of four products of halves: there are no instructions for the upper half of a vector product."""
    t = site.type(node.dtype)
    if site.lanes == 1:
        wide = [site.put(f"zext i64 {x} to i128") for x in (a, b)]
        whole = site.put(f"mul i128 {wide[0]}, {wide[1]}")
        return site.put(f"trunc i128 {site.put(f'lshr i128 {whole}, 64')} to i64")
    low, half = site.constant(0xFFFFFFFF, node.dtype), site.constant(32, node.dtype)
    halves = site.put(f"and {t} {b}, {low}"), site.put(f"lshr {t} {b}, {half}")
    return upper_half(site.put, t, a, *halves)


def upper_half(put: Callable[[str], str], t: str, a: str, b_low: str, b_high: str) -> str:
    """The upper halves of the products of vectors of words; ``b`` is given in halves."""
    low, half = "splat (i64 4294967295)", "splat (i64 32)"
    a_low, a_high = put(f"and {t} {a}, {low}"), put(f"lshr {t} {a}, {half}")
    least = put(f"lshr {t} {put(f'mul {t} {a_low}, {b_low}')}, {half}")
    middle = put(f"add {t} {put(f'mul {t} {a_high}, {b_low}')}, {least}")
    rest = put(f"and {t} {middle}, {low}")
    other = put(f"add {t} {put(f'mul {t} {a_low}, {b_high}')}, {rest}")
    most = put(f"add {t} {put(f'mul {t} {a_high}, {b_high}')}, {put(f'lshr {t} {middle}, {half}')}")
    return put(f"add {t} {most}, {put(f'lshr {t} {other}, {half}')}")


def _invert(site: Site, node: Scalar, a: str) -> str:
    ones = site.constant(True if node.dtype.kind == "b" else -1, node.dtype)
    return site.put(f"xor {site.type(node.dtype)} {a}, {ones}")


def _shift(left: bool) -> Speller:
    """Shifts by the width or more give 0, or the sign for a right shift of a signed integer."""

    def spell(site: Site, node: Scalar, a: str, b: str) -> str:
        dtype, amount = node.dtype, node.args[1]
        t = site.type(dtype)
        name = "shl" if left else "ashr" if dtype.kind == "i" else "lshr"
        if amount.op is const_op and 0 <= amount.param < dtype.bits:
            return site.put(f"{name} {t} {a}, {b}")
        fits = site.put(f"icmp ult {t} {b}, {site.constant(dtype.bits, dtype)}")
        if name == "ashr":
            return site.put(
                f"ashr {t} {a}, {site.choose(fits, dtype, b, site.constant(dtype.bits - 1, dtype))}"
            )
        shifted = site.put(f"{name} {t} {a}, {site.choose(fits, dtype, b, site.constant(0, dtype))}")
        return site.choose(fits, dtype, shifted, site.constant(0, dtype))

    return spell


# Selection and conversion --------------------------------------------------------------------------------


def _select(site: Site, node: Scalar, condition: str, yes: str, no: str) -> str:
    return site.choose(condition, node.dtype, yes, no)


def _bitcast(site: Site, node: Scalar, a: str) -> str:
    return site.put(f"bitcast {site.type(node.args[0].dtype)} {a} to {site.type(node.dtype)}")


def _cast(site: Site, node: Scalar, a: str) -> str:
    return convert(site, a, node.args[0].dtype, node.dtype)


def convert(site: Site, a: str, source: DType, target: DType) -> str:
    """Convert ``a`` as NumPy's astype does."""
    if source is target:
        return a
    s, t = site.type(source), site.type(target)
    if target.kind == "b":
        return compare_as(site, "ne", source, a, site.constant(0, source))
    if source.kind == "b":
        if target.is_float:
            return site.choose(a, target, site.constant(1, target), site.constant(0, target))
        return site.put(f"zext {s} {a} to {t}")
    if source.is_float:
        return _from_float(site, a, source, target)
    if target is dtypes.float16:  # integers that float32 does not hold exactly are beyond float16's range
        a = convert(site, a, source, dtypes.float32)
        return site.put(f"fptrunc {site.type(dtypes.float32)} {a} to {t}")
    if target.is_float:
        return site.put(f"{'si' if source.kind == 'i' else 'ui'}tofp {s} {a} to {t}")
    if source.bits == target.bits:
        return a
    if source.bits > target.bits:
        return site.put(f"trunc {s} {a} to {t}")
    return site.put(f"{'sext' if source.kind == 'i' else 'zext'} {s} {a} to {t}")


def _from_float(site: Site, a: str, source: DType, target: DType) -> str:
    s, t = site.type(source), site.type(target)
    if target.is_float:
        if source.bits < target.bits:
            return site.put(f"fpext {s} {a} to {t}")
        if source is dtypes.float64 and target is dtypes.float16:
            a, source = _round_to_odd(site, a), dtypes.float32
        return site.put(f"fptrunc {site.type(source)} {a} to {t}")
    if source is dtypes.float16:
        return _from_float(site, convert(site, a, source, dtypes.float32), dtypes.float32, target)
    if target is dtypes.uint64 or target is dtypes.uint32:
        return _to_unsigned(site, a, source, dtypes.int64 if target is dtypes.uint64 else dtypes.int32)
    # By the processor's one instruction; narrower types are cut from its result.
    wide = dtypes.int64 if target.bits == 64 else dtypes.int32
    whole = site.put(f"fptosi {s} {a} to {site.type(wide)}")
    whole = site.put(f"freeze {site.type(wide)} {whole}")
    return convert(site, whole, wide, target)


def _to_unsigned(site: Site, a: str, source: DType, signed: DType) -> str:
    """Below half of the range as a signed conversion (negative values wrap), from there on relative to it."""
    s, t = site.type(source), site.type(signed)
    half = 2 ** (signed.bits - 1)
    limit = site.constant(float(half), source)
    high = site.put(f"fcmp oge {s} {a}, {limit}")
    less = site.choose(high, source, site.put(f"fsub {s} {a}, {limit}"), a)
    whole = site.put(f"freeze {t} {site.put(f'fptosi {s} {less} to {t}')}")
    flipped = site.put(f"xor {t} {whole}, {site.constant(-half, signed)}")
    return site.choose(high, signed, flipped, whole)


def _round_to_odd(site: Site, a: str) -> str:
    """A float64 as a float32 that rounds to float16 as the float64 would: inexact results get an odd last
    bit.
    """
    double, single, whole = dtypes.float64, dtypes.float32, dtypes.int32
    d, f, i = site.type(double), site.type(single), site.type(whole)
    rounded = site.put(f"fptrunc {d} {a} to {f}")
    back = site.put(f"fpext {f} {rounded} to {d}")
    bits = site.put(f"bitcast {f} {rounded} to {i}")
    larger = site.put(
        f"fcmp ogt {d} {site.intrinsic('fabs', double, back)}, {site.intrinsic('fabs', double, a)}"
    )
    down = site.put(f"sext {site.type(dtypes.bool_)} {larger} to {i}")
    toward_zero = site.put(f"add {i} {bits}, {down}")
    inexact = site.put(f"fcmp une {d} {back}, {a}")
    odd = site.put(f"zext {site.type(dtypes.bool_)} {inexact} to {i}")
    return site.put(f"bitcast {i} {site.put(f'or {i} {toward_zero}, {odd}')} to {f}")


SPELL: dict[str, Speller] = {
    "add": _arithmetic("fadd", "add", "or"),
    "sub": _arithmetic("fsub", "sub"),
    "mul": _arithmetic("fmul", "mul", "and"),
    "div": _divide,
    "floordiv": _division(True),
    "mod": _division(False),
    "neg": _negative,
    "abs": _absolute,
    "sign": _sign,
    "fma": _fma,
    "minimum": _extreme("min", True),
    "maximum": _extreme("max", True),
    "fmin": _extreme("min", False),
    "fmax": _extreme("max", False),
    "sqrt": _float_intrinsic("sqrt"),
    "floor": _float_intrinsic("floor", whole=True),
    "ceil": _float_intrinsic("ceil", whole=True),
    "trunc": _float_intrinsic("trunc", whole=True),
    "rint": _float_intrinsic("roundeven", whole=True),
    "copysign": _float_intrinsic("copysign"),
    "bit_and": _bitwise("and"),
    "bit_or": _bitwise("or"),
    "bit_xor": _bitwise("xor"),
    "bit_not": _invert,
    "mulhi": _upper_half,
    "shl": _shift(True),
    "shr": _shift(False),
    **{name: _compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: _classify(name) for name in ("isnan", "isinf", "isfinite")},
    "signbit": _signbit,
    "select": _select,
    "rarely": _select,
    "cast": _cast,
    "bitcast": _bitcast,
}


def is_function(node: Scalar) -> bool:
    """Whether an operation is a mathematical function that ``mathlib`` expands, not a few instructions
    here.
    """
    op = node.op
    if not node.args or op is load_op or op is checked_op or op is guarded_op or op is reduce_op:
        return False
    return op.name not in SPELL or (op.name in ("floordiv", "mod") and node.dtype.is_float)


__all__ = ["SPELL", "Site", "convert", "element", "is_function", "nonnegative"]
