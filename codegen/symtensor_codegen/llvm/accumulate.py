"""Accumulators of reductions: their first values, their steps, and how lanes and copies become one value.

Copies and lanes are combined pairwise in a fixed order. Of equal extremes argmax and argmin keep the one at
the smaller position, and the first NaN wins, as in NumPy.
"""

from collections.abc import Callable, Sequence
from functools import cache

from symtensor_codegen import dtypes
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.llvm.operations import SPELL, Site
from symtensor_codegen.llvm.types import literal, shuffle_indices, suffix, typed
from symtensor_codegen.scalar import ARG_COMBINES, COMBINES, Scalar, const, symbol

_EXTREME = {"argmax": "maximum", "argmin": "minimum"}


def neutral(combine: str, dtype: DType) -> str:
    """The constant that changes nothing when it is combined, as an operand."""
    combine = _EXTREME.get(combine, combine)
    if combine not in COMBINES:
        raise InternalError("a register is combined in several ways by one vector loop")
    return literal(const(COMBINES[combine].neutral(dtype), dtype).param, dtype)


@cache
def step_node(combine: str, dtype: DType) -> Scalar:
    """An expression whose operation is the step of ``combine`` on values of a type."""
    return COMBINES[combine].step(symbol("old", dtype), symbol("new", dtype))


def step(site: Site, combine: str, dtype: DType, old: str, new: str) -> str:
    """``combine(old, new)``."""
    node = step_node(combine, dtype)
    return SPELL[node.op.name](site, node, old, new)


def beats(site: Site, combine: str, dtype: DType, new: str, old: str) -> str:
    """Whether ``new`` replaces ``old``, which came before it, as the extreme."""
    t = site.type(dtype)
    order = "gt" if combine == "argmax" else "lt"
    if not dtype.is_float:
        return site.put(f"icmp {'s' if dtype.kind == 'i' else 'u'}{order} {t} {new}, {old}")
    further = site.put(f"fcmp u{order} {t} {new}, {old}")
    ordinary = site.put(f"fcmp ord {t} {old}, {old}")
    return site.put(f"and {site.type(dtypes.bool_)} {further}, {ordinary}")


def better(site: Site, combine: str, dtype: DType, a: tuple[str, str], b: tuple[str, str]) -> tuple[str, str]:
    """The better of two (value, position)."""
    truth = site.type(dtypes.bool_)
    b_beats, a_beats = beats(site, combine, dtype, b[0], a[0]), beats(site, combine, dtype, a[0], b[0])
    earlier = site.put(f"icmp slt {site.type(dtypes.int64)} {b[1]}, {a[1]}")
    not_worse = site.put(f"xor {truth} {a_beats}, {site.constant(True, dtypes.bool_)}")
    tie = site.put(f"and {truth} {not_worse}, {earlier}")
    wins = site.put(f"or {truth} {b_beats}, {tie}")
    return site.choose(wins, dtype, b[0], a[0]), site.choose(wins, dtypes.int64, b[1], a[1])


Pairs = Sequence[tuple[str, ...]]
"""Values of one accumulator: (value,) each, or (best, position) each for argmax and argmin."""


def _together(
    site: Site, combine: str, dtype: DType, a: tuple[str, ...], b: tuple[str, ...]
) -> tuple[str, ...]:
    if combine in ARG_COMBINES:
        return better(site, combine, dtype, (a[0], a[1]), (b[0], b[1]))
    return (step(site, combine, dtype, a[0], b[0]),)


def fold(site: Site, combine: str, dtype: DType, copies: Pairs) -> tuple[str, ...]:
    """One value from those of several copies (a power of two)."""
    left = list(copies)
    while len(left) > 1:
        half = len(left) // 2
        left = [_together(site, combine, dtype, left[k], left[k + half]) for k in range(half)]
    return left[0]


def across(
    put: Callable[[str], str], combine: str, dtype: DType, lanes: int, value: tuple[str, ...]
) -> tuple[str, ...]:
    """One scalar value from the lanes of a vector one."""
    if dtype.kind == "b" and lanes > 1 and combine not in ARG_COMBINES:
        kind = "and" if combine in ("and", "mul", "minimum") else "xor" if combine == "xor" else "or"
        t = typed(dtype, lanes)
        return (put(f"call i1 @llvm.vector.reduce.{kind}.{suffix(t)}({t} {value[0]})"),)
    while lanes > 1:
        lanes //= 2
        kinds = (dtype, dtypes.int64)[: len(value)]
        halves = [_halves(put, name, kind, lanes) for name, kind in zip(value, kinds, strict=True)]
        low, high = tuple(h[0] for h in halves), tuple(h[1] for h in halves)
        value = _together(Site(put, lanes), combine, dtype, low, high)
    return value


def with_first(
    put: Callable[[str], str], combine: str, dtype: DType, first: tuple[str, ...], value: tuple[str, ...]
) -> tuple[str, ...]:
    """The scalar ``value`` of a loop combined with that before the loop."""
    return _together(Site(put, 1), combine, dtype, first, value)


def _halves(put: Callable[[str], str], name: str, dtype: DType, lanes: int) -> tuple[str, str]:
    """The lower and the upper ``lanes`` lanes of a vector of twice as many."""
    t = typed(dtype, 2 * lanes)
    if lanes == 1:
        return put(f"extractelement {t} {name}, i32 0"), put(f"extractelement {t} {name}, i32 1")
    low, high = (
        put(f"shufflevector {t} {name}, {t} poison, {shuffle_indices(range(k, k + lanes))}")
        for k in (0, lanes)
    )
    return low, high
