"""What an emitter keeps while it writes: values, open levels of code, vector lanes and guards."""

import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from symtensor_codegen.scalar import Register, Scalar


class Value(NamedTuple):
    """SSA names of one value: one for all unrolled copies or one for each; in vectors or not; at which
    level.
    """

    names: tuple[str, ...]
    vector: bool
    depth: int


def of_copy(names: tuple[str, ...], copy: int) -> str:
    """The name for one unrolled copy, of names that are one for each copy or one for all."""
    return names[copy] if len(names) > 1 else names[0]


class Level:
    """An open block of code: a loop body, or the region before a loop that is skipped when the loop is
    empty.
    """

    __slots__ = ("depth", "keys", "label", "lines", "registers", "_numbers")

    def __init__(self, depth: int, label: str, numbers: "itertools.count[int]") -> None:
        self.depth = depth
        self.label = label  # the basic block that is open at the end of ``lines``
        self.lines: list[str] = []
        self.keys: list[Hashable] = []  # what to forget when the level closes
        self.registers: dict[Register, Value] = {}
        self._numbers = numbers

    def put(self, text: str) -> str:
        """Append one instruction; returns the name of its result."""
        name = f"%v{next(self._numbers)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {text}")

    def jump(self, text: str, label: str) -> None:
        """End the open block with ``text`` and begin the block ``label``."""
        self.lines.append(f"  {text}")
        self.lines.append(f"{label}:")
        self.label = label


@dataclass(slots=True, eq=False)
class Split:
    """The start of a loop body whose loads differ for whole groups of lanes and for the last, partial one.

    First come the addresses (``head``), then the loads of one case or the other, then a phi for each of them
    (``joined``). What follows is written once and serves both.
    """

    head: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    labels: tuple[str, str] = ("", "")
    fits: str = ""  # the bool that tells a whole group
    masks: tuple[str, ...] = ()  # of the partial case, one for each copy


@dataclass(slots=True, eq=False)
class Lanes:
    """The open loop that runs several iterations at once: ``width`` lanes in each of ``copies``.

    ``first`` is the index of lane 0 of copy 0 as an expression, and ``tail`` (bool vector) tells the lanes
    that are inside the loop's range when not all of them are.
    """

    index: Scalar
    first: Scalar
    width: int
    copies: int
    depth: int = 0
    tail: Value | None = None
    split: Split | None = None


@dataclass(slots=True, eq=False)
class Exits:
    """Where a loop that is open continues afterwards, and the places where it ends early.

    Each of those is the label of its block and the values there of the registers that the loop changes.
    """

    label: str
    depth: int
    registers: tuple[Register, ...]
    early: list[tuple[str, dict[Register, tuple[str, ...]]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """The lanes where ``condition`` and the guards around it hold."""

    outer: "Guard | None"
    condition: Scalar


@dataclass(slots=True, eq=False)
class Functions:
    """Mathematical functions that a module calls instead of having them inline: symbol to text."""

    texts: dict[str, str] = field(default_factory=dict)
