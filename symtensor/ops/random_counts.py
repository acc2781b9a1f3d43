"""Draws that take loops: binomial and multinomial counts, and permutations.

An element may need any number of random words here. Element i of a draw owns the blocks whose counter is
``(1 + position + i, 0, stream, 1 + attempt)``, which no other draw of the stream uses; it moves the position on by one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import At, Index, Inferred, OpDef, ValueMessage, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import InternalError
from symtensor_codegen.loops import Assign, Check, Declare, For, Leave, LoopKind, Statement, Store, Update
from symtensor_codegen.mathlib.philox import block
from symtensor_codegen.scalar import Buffer, Dim, Register, Scalar, as_int

from . import random_reference
from .arguments import equal_guard
from .random_draws import COST, check_state, flat, state_guards, state_words, word

LIMIT = 1 << 40  # attempts; each succeeds with probability 0.8 or more
SMALL_MEAN = 10.0


def _real(value: float) -> Scalar:
    return scalar.const(value, dtypes.float64)


def _unit(bits: Scalar) -> Scalar:
    """53 bits of a word as a number in [0, 1)."""
    whole = scalar.bitcast(scalar.shr(bits, word(11)), dtypes.int64)
    return scalar.cast(whole, dtypes.float64) * _real(2.0**-53)


class _Element:
    """The random words of one element."""

    def __init__(self, state: tuple[Scalar, ...], offset: Scalar) -> None:
        self.first, self.second, self.stream, position = state
        self.counter = position + scalar.cast(offset, dtypes.uint64) + word(1)

    def words(self, attempt: Scalar) -> tuple[Scalar, ...]:
        """The four words of an attempt."""
        extra = scalar.cast(attempt, dtypes.uint64) + word(1)
        return block((self.first, self.second), (self.counter, word(0), self.stream, extra))


# Binomial -------------------------------------------------------------------------------------------------


def _stirling_rest(k: Scalar) -> Scalar:
    """``log k!`` without what Stirling's formula gives for it: ``log(k!) - log(sqrt(2 pi) (k+1)^(k+1/2) e^-(k+1))``.

    For k < 10 the formula is used at k + 10 and brought down by the recurrence of the factorial.
    """
    small = k < _real(10.0)
    at = scalar.select(small, k + _real(10.0), k) + _real(1.0)
    square = _real(1.0) / (at * at)
    series = (
        _real(1 / 12) - (_real(1 / 360) - (_real(1 / 1260) - (_real(1 / 1680) - square * _real(1 / 1188)) * square)
        * square) * square
    ) / at  # fmt: skip
    rising = k + _real(1.0)
    for step in range(2, 11):
        rising = rising * (k + _real(float(step)))
    here = k + _real(1.0)
    below = series - scalar.log(rising) + (here + _real(9.5)) * scalar.log(at) - _real(10.0)
    below = below - (here - _real(0.5)) * scalar.log(here)
    return scalar.select(small, below, series)


def binomial_statements(
    count: Register, element: _Element, n: Scalar, p: Scalar, scope: frozenset[Scalar]
) -> tuple[Statement, ...]:
    """Statements that declare ``count`` (int64) and draw it from the binomial distribution of n and p.

    With ``q = min(p, 1 - p)``: where ``n q < 10`` the distribution function is summed up to a uniform number; else
    the transformed rejection of W. Hormann (BTRS, "The generation of binomial random variates", 1993). Both are exact
    up to the rounding of float64. ``scope`` are the loops around.
    """
    flipped = p > _real(0.5)
    q = scalar.select(flipped, _real(1.0) - p, p)
    trials = scalar.cast(n, dtypes.float64)
    mean = trials * q
    small = ~(mean >= _real(SMALL_MEAN))
    found = Register("found", dtypes.float64)
    value = scalar.read(found, scope)
    whole = scalar.cast(value, dtypes.int64)
    return (
        Declare(found, _real(0.0)),
        *_by_inversion(found, value, element, trials, q, small, scope),
        *_by_rejection(found, element, trials, q, small),
        Declare(count, scalar.select(flipped, n - whole, whole)),
    )


def _by_inversion(
    found: Register, value: Scalar, element: _Element, n: Scalar, p: Scalar, small: Scalar, scope: frozenset[Scalar]
) -> tuple[Statement, ...]:
    left, chance = Register("left", dtypes.float64), Register("chance", dtypes.float64)
    rest, here = scalar.read(left, scope), scalar.read(chance, scope)
    odds = p / (_real(1.0) - p)
    mean = n * p
    most = scalar.minimum(n, mean + _real(20.0) * scalar.sqrt(mean + _real(1.0)) + _real(20.0))
    steps = scalar.select(small, scalar.cast(most, dtypes.int64), as_int(0))
    step = scalar.index("k", steps)
    following = value + _real(1.0)
    return (
        Declare(left, _unit(element.words(as_int(0))[0])),
        Declare(chance, scalar.exp(n * scalar.log1p(-p))),
        For(step, steps, (
            Leave(rest < here),
            Assign(
                (left, found, chance),
                (rest - here, following, here * (n - value) / following * odds),
            ),
        )),
    )  # fmt: skip


def _by_rejection(
    found: Register, element: _Element, n: Scalar, p: Scalar, small: Scalar
) -> tuple[Statement, ...]:
    one, half = _real(1.0), _real(0.5)
    deviation = scalar.sqrt(n * p * (one - p))
    b = _real(1.15) + _real(2.53) * deviation
    a = _real(-0.0873) + _real(0.0248) * b + _real(0.01) * p
    centre = n * p + half
    quick = _real(0.92) - _real(4.2) / b
    odds = p / (one - p)
    alpha = (_real(2.83) + _real(5.1) / b) * deviation
    mode = scalar.floor((n + one) * p)
    steps = scalar.select(small, as_int(0), as_int(LIMIT))
    attempt = scalar.index("attempt", steps)
    words = element.words(attempt + 1)
    v, u = _unit(words[0]), _unit(words[1]) - half
    us = half - scalar.abs_(u)
    k = scalar.floor((_real(2.0) * a / us + b) * u + centre)
    inside = (k >= _real(0.0)) & (k <= n)
    accepted = (us >= _real(0.07)) & (v <= quick)
    safe = scalar.select(inside, k, mode)
    level = scalar.log(v * alpha / (a / (us * us) + b))
    top, rest = n - mode + one, n - safe + one
    bound = (
        (mode + half) * scalar.log((mode + one) / (odds * top))
        + (n + one) * scalar.log(top / rest)
        + (safe + half) * scalar.log(odds * rest / (safe + one))
        + _stirling_rest(mode) + _stirling_rest(n - mode) - _stirling_rest(safe) - _stirling_rest(n - safe)
    )  # fmt: skip
    checked = scalar.rarely(inside & ~accepted, level <= bound, scalar.const(False, dtypes.bool_))
    return (For(attempt, steps, (Assign((found,), (k,)), Leave(inside & (accepted | checked)))),)


def _counts_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    state, n, p = inputs
    check_state("binomial", state)
    if n.element is not dtypes.int64 or p.element is not dtypes.float64:
        raise InternalError(f"binomial counts of {describe(n)} and {describe(p)}")
    return dtypes.int64, p.dims


def _nest(dims: tuple[Dim, ...], make: Callable[[Index], tuple[Statement, ...]]) -> tuple[Statement, ...]:
    """Loops over an array of these sizes; the outermost runs in parallel."""
    index = tuple(scalar.index("ijklmnpq"[axis % 8], size) for axis, size in enumerate(dims))
    body = make(index)
    for axis in reversed(range(len(dims))):
        kind = LoopKind.SERIAL if axis else LoopKind.PARALLEL
        body = (For(index[axis], dims[axis], body, kind),)
    return body


def _probable(node: Tensor, p: Scalar) -> Check:
    text = f"{node.op.name}: a probability is outside of [0, 1]"
    return Check((p >= _real(0.0)) & (p <= _real(1.0)), ValueMessage(node, text))


def _countable(node: Tensor, n: Scalar) -> Check:
    return Check(n >= as_int(0), ValueMessage(node, f"{node.op.name}: n is negative"))


def _binomial_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    def make(index: Index) -> tuple[Statement, ...]:
        n, p = at(1, index), at(2, index)
        count = Register("count", dtypes.int64)
        scope = frozenset(index)
        element = _Element(state_words(at), flat(node.dims, index))
        return (
            _probable(node, p),
            _countable(node, n),
            *binomial_statements(count, element, n, p, scope),
            Store(out, index, scalar.read(count, scope)),
        )

    return _nest(node.dims, make)


def _states(rng: np.random.Generator) -> Any:
    return np.array([*rng.integers(0, 2**64, 2, np.uint64), 1, 5], np.uint64)


def _binomial_cases(rng: np.random.Generator) -> Any:
    chances = np.array([0.0, 1.0, 0.5, 0.01, 0.3, 0.97, 0.5, 0.25])
    yield (_states(rng), np.array([5, 5, 1, 40, 1000, 10**6, 12, 0]), chances), {}
    yield (_states(rng), np.int64(30), np.float64(0.4)), {}
    yield (_states(rng), rng.integers(0, 90, (4, 9)), rng.random((4, 9))), {}
    yield (_states(rng), np.zeros((0, 3), np.int64), np.zeros((0, 3))), {}


RANDOM_BINOMIAL = OpDef(
    name="random_binomial",
    doc="The number of successes in n trials that succeed with probability p, for each n and p.",
    infer=_counts_infer,
    reference=random_reference.binomials,
    loops=_binomial_loops,
    guards=lambda node: state_guards(node) + [
        guard
        for have, want in zip(node.inputs[1].dims, node.inputs[2].dims, strict=True)
        for guard in equal_guard("binomial: sizes of n and p differ: {0} and {1}", have, want)
    ],
    cost=4 * COST,
    category="random",
    cases=_binomial_cases,
)


# Multinomial ----------------------------------------------------------------------------------------------


def _multinomial_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    state, n, p = inputs
    check_state("multinomial", state)
    if n.element is not dtypes.int64 or p.element is not dtypes.float64 or p.ndim != n.ndim + 1:
        raise InternalError(f"multinomial counts of {describe(n)} and {describe(p)}")
    return dtypes.int64, p.dims


def _multinomial_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    """Each category's count is binomial, given those before it."""
    width = node.dims[-1]

    def make(index: Index) -> tuple[Statement, ...]:
        scope = frozenset(index)
        k, j = scalar.index("k", width), scalar.index("j", width)
        mass, left = Register("mass", dtypes.float64), Register("left", dtypes.int64)
        chance = at(2, (*index, k))
        weighed, summed = at(2, (*index, j)), scalar.read(mass, scope)
        remaining = scalar.read(left, scope)
        count = Register("count", dtypes.int64)
        drawn = scalar.read(count, scope | {k})
        element = _Element(state_words(at), flat(node.dims, (*index, k)))
        is_last = scalar.eq(k, as_int(width) - 1) | (summed <= chance)
        share = scalar.select(is_last, _real(1.0), chance / summed)
        good = (weighed >= _real(0.0)) & (weighed < _real(float("inf")))
        text = "multinomial: probabilities must be finite and not negative"
        return (
            _countable(node, at(1, index)),
            Declare(mass, _real(0.0)),
            For(j, width, (Check(good, ValueMessage(node, text)), Update(mass, "add", weighed))),
            Declare(left, at(1, index)),
            For(k, width, (
                *binomial_statements(count, element, remaining, share, scope | {k}),
                Store(out, (*index, k), drawn),
                Assign((left, mass), (remaining - drawn, summed - chance)),
            )),
        )  # fmt: skip

    return _nest(node.dims[:-1], make)


def _multinomial_cases(rng: np.random.Generator) -> Any:
    rows = rng.dirichlet(np.ones(4), 6)
    yield (_states(rng), rng.integers(0, 100, 6), rows), {}
    yield (_states(rng), np.int64(1000), np.array([0.0, 0.25, 0.75, 0.0])), {}
    yield (_states(rng), rng.integers(0, 9, (2, 3)), rng.dirichlet(np.ones(5), (2, 3))), {}


RANDOM_MULTINOMIAL = OpDef(
    name="random_multinomial",
    doc="How often each category occurs in n draws, for each n and row of probabilities.",
    infer=_multinomial_infer,
    reference=random_reference.multinomials,
    loops=_multinomial_loops,
    guards=lambda node: state_guards(node) + [
        guard
        for have, want in zip(node.inputs[1].dims, node.inputs[2].dims, strict=False)
        for guard in equal_guard("multinomial: sizes of n and the probabilities differ: {0} and {1}", have, want)
    ],
    cost=4 * COST,
    category="random",
    cases=_multinomial_cases,
)


# Order ----------------------------------------------------------------------------------------------------


def _order_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    if inputs[0].element is not dtypes.int64 or not inputs[0].ndim:
        raise InternalError(f"random_order of {describe(inputs[0])}")
    return dtypes.int64, inputs[0].dims


def _order_loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    """R. Durstenfeld's shuffle (1964), from the inside out: element i goes to its place, what was there to i."""
    length = node.dims[-1]

    def make(index: Index) -> tuple[Statement, ...]:
        i = scalar.index("e", length)
        place = scalar.minimum(scalar.maximum(at(0, (*index, i)), as_int(0)), i)
        moved = Store(out, (*index, i), scalar.load(out, (*index, place)))
        return (For(i, length, (moved, Store(out, (*index, place), i))),)

    return _nest(node.dims[:-1], make)


RANDOM_ORDER = OpDef(
    name="random_order",
    doc="The numbers from 0 on along the last axis, shuffled: number i is put at its place, what was there at i.",
    infer=_order_infer,
    reference=random_reference.orders,
    loops=_order_loops,
    cost=4,
    category="random",
    cases=lambda rng: [
        ((np.array([0, 1, 0, 3, 2, 1]),), {}),
        ((rng.integers(0, np.arange(1, 8), (3, 7)),), {}),
        ((rng.integers(0, np.arange(1, 6), (2, 2, 5)),), {}),
        ((np.zeros((3, 0), np.int64),), {}),
    ],
)
