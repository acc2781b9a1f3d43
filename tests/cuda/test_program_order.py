"""What may run side by side, and the values of sizes."""

from __future__ import annotations

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.cuda.calls.actions import Place, dependencies
from symtensor_codegen.cuda.calls.sizes import Sizes
from symtensor_codegen.errors import InternalError

# Order ----------------------------------------------------------------------------------------------------------------


class Touching:
    """An action that reads and writes pieces of memory."""

    def __init__(self, reads: list[Place], writes: list[Place]) -> None:
        self.reads, self.writes = tuple(reads), tuple(writes)

    def overlaps(self, other: Touching) -> bool:
        return any(
            a.size and b.size and a.offset < b.offset + b.size and b.offset < a.offset + a.size
            for mine, others in ((self.writes, (*other.reads, *other.writes)), (self.reads, other.writes))
            for a in mine
            for b in others
        )


@pytest.mark.parametrize("seed", range(20))
def test_what_touches_the_same_memory_stays_in_order(seed: int) -> None:
    """And nothing waits for what it has nothing to do with."""
    choice = np.random.default_rng(seed)

    def places() -> list[Place]:
        return [
            Place(0, int(choice.integers(60)), int(choice.integers(0, 12))) for _ in range(choice.integers(3))
        ]  # fmt: skip

    actions = [Touching(places(), places()) for _ in range(60)]
    before: list[set[int]] = []
    for position, waits in enumerate(dependencies(actions, [0])):  # type: ignore[arg-type]
        assert all(actions[k].overlaps(actions[position]) for k in waits)
        before.append(set(waits).union(*[before[k] for k in waits]))
        needed = {k for k in range(position) if actions[k].overlaps(actions[position])}
        assert needed <= before[position]


# Sizes ----------------------------------------------------------------------------------------------------------------

A, B = scalar.symbol("a"), scalar.symbol("b")
TWO = [
    scalar.add, scalar.sub, scalar.mul, scalar.floordiv, scalar.mod, scalar.minimum, scalar.maximum, scalar.bit_and,
    scalar.bit_or, scalar.bit_xor, scalar.eq, scalar.ne, scalar.lt, scalar.le, scalar.gt, scalar.ge, scalar.gcd,
    scalar.shr,
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 7, -7, 63, (1 << 62) + 5, (1 << 63) - 1, -(1 << 63)]


@pytest.mark.parametrize("operation", TWO, ids=str)
def test_arithmetic_of_sizes(operation: scalar.ScalarOp) -> None:
    """As in the interpreter, which folds constants with NumPy."""
    made = operation(A, B)
    for a in NUMBERS:
        for b in [abs(n) % 64 for n in NUMBERS] if operation is scalar.shr else NUMBERS:
            if operation is scalar.gcd and -(1 << 63) in (a, b):
                continue
            known = {A: scalar.as_int(a), B: scalar.as_int(b)}
            sizes = Sizes("test", frozenset())
            sizes.set(A, a)
            sizes.set(B, b)
            wanted = substitution.substitute(made, known)
            assert wanted.op is scalar.const_op
            assert sizes(made) == wanted.param, (operation, a, b)


def test_other_operations_of_sizes() -> None:
    double = scalar.cast(A, dtypes.float64)
    for made, wanted in (
        (-A, -7), (scalar.abs_(-A), 7), (scalar.sign(A), 1), (~A, -8), (scalar.select(A > 3, B, A), 3),
        (scalar.cast(A > 9, dtypes.int64), 0), (~(A > 9) & (B > 2) ^ (A > 1), False),
        (scalar.cast(scalar.ceil(double / 2.0), dtypes.int64), 4), (scalar.bitcast(double, dtypes.int64), 0x401C << 48),
        (scalar.cast(A * 40, dtypes.int8), 24), (double > 6.5, True),
    ):  # fmt: skip
        sizes = Sizes("test", frozenset())
        sizes.set(A, 7)
        sizes.set(B, 3)
        assert sizes(made) == wanted, made
    with pytest.raises(InternalError, match="not known here"):
        Sizes("test", frozenset())(A + 1)


def test_sizes_of_a_symbol_that_changes() -> None:
    """Only what depends on it is computed again; deep expressions are no problem."""
    deep: scalar.Scalar = A
    for _ in range(5000):
        deep = deep * B % 1009 + 1
    sizes = Sizes("test", frozenset((A,)))
    sizes.set(B, 3)
    found = []
    for a in (1, 2, 1):
        assert sizes.set(A, a) in (None, 1, 2)
        found.append((sizes(deep), sizes(A + 1), sizes(B * 2)))
    assert found[0] == found[2] != found[1]
    assert [f[1:] for f in found] == [(2, 6), (3, 6), (2, 6)]
    assert sizes.set(A, None) == 1
    with pytest.raises(InternalError):
        sizes(A + 1)
