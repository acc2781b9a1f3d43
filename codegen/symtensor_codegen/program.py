"""The host program: what one call of a compiled function does, step by step.

Sizes and other host values are scalar expressions over *symbols*. A symbol is known from the start when it is a
dimension of an input (``program.inputs[k].dims[axis]``), and from a ``Read`` step on when it is the value of a
0-d buffer. Backends turn the steps into one native function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from . import dtypes
from .loops import Kernel
from .scalar import Buffer, Dim, Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """The call fails with ``message`` unless the bool ``condition`` holds; up to 4 ``values`` go into the report."""

    condition: Scalar
    message: object
    values: tuple[Dim, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reserve:
    """Take one block of ``size`` bytes for the buffers placed in it; released when the call ends."""

    size: Dim


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Put a buffer ``offset`` bytes into the reserved block (64-byte aligned)."""

    buffer: Buffer
    offset: Dim


@dataclass(frozen=True, slots=True, eq=False)
class Allocate:
    """Take a block of its own for a buffer whose size is only known now; released when the call ends."""

    buffer: Buffer


@dataclass(frozen=True, slots=True, eq=False)
class AllocateOutput:
    """Make the array of output number ``position``; its memory is ``buffer``."""

    buffer: Buffer
    position: int


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """From here on ``symbol`` is the value of the one element of ``buffer`` (converted to the symbol's type)."""

    symbol: Scalar
    buffer: Buffer


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """Run a finished kernel on actual buffers and parameter values.

    ``extent`` is the number of iterations of the parallel loop (1 where there is none) and ``grain`` the least
    number worth a thread of its own. ``messages`` are the failures of this launch, in the kernel's order.
    ``cost`` is the number of innermost iterations and ``traffic`` the bytes moved, for profiles.
    """

    kernel: Kernel
    buffers: tuple[Buffer, ...]
    parameters: tuple[Dim, ...]
    extent: Dim
    grain: Dim
    messages: tuple[object, ...] = ()
    cost: Dim = 0
    traffic: Dim = 0


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A matrix (or a batch of them) inside a buffer: strides and offset in elements; one of the strides is 1."""

    buffer: Buffer
    offset: Dim
    row_stride: Dim
    column_stride: Dim
    batch_stride: Dim = 0


@dataclass(frozen=True, slots=True, eq=False)
class Gemm:
    """``out = a @ b + beta * out`` for each of ``batch`` matrices of m x k and k x n; ``out`` has column stride 1."""

    out: Matrix
    a: Matrix
    b: Matrix
    m: Dim
    n: Dim
    k: Dim
    batch: Dim = 1
    alpha: float = 1.0
    beta: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """Copy all of ``source`` to ``target`` (same type and size)."""

    target: Buffer
    source: Buffer


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """``buffer`` is row number ``position`` of ``source``; among the rows of a Loop, anew in every step.

    A row is as many bytes as ``buffer`` has.
    """

    buffer: Buffer
    source: Buffer
    position: Dim


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """Run ``steps`` at most ``count`` times; ``index`` counts them from 0 and is known in rows and steps.

    After each step the buffers of every tuple of ``swaps`` exchange their memory: each takes that of the next, the
    last that of the first. After the loop buffers mean the memory that they had then. The loop ends after a step
    in which ``until``, a 0-d bool, is true. ``executed``, a 0-d int64, gets the number of steps that ran.

    Steps may be any but Reserve, Place and AllocateOutput. Memory that a step allocates is given back at its end.
    """

    index: Scalar
    count: Dim
    rows: tuple[Row, ...]
    steps: tuple["Step", ...]
    swaps: tuple[tuple[Buffer, ...], ...] = ()
    until: Buffer | None = None
    executed: Buffer | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """Run ``then`` where ``condition`` holds, else ``otherwise``: a bool host value, or whether the one element of a
    buffer is not zero.

    Steps may be any but Reserve, Place and AllocateOutput. Memory that they allocate is given back at their end.
    """

    condition: Buffer | Scalar
    then: tuple["Step", ...]
    otherwise: tuple["Step", ...]


Step = Guard | Reserve | Place | Allocate | AllocateOutput | Read | Launch | Gemm | Copy | Row | Loop | Branch


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, in the order of the text: loops and branches before what is in them."""
    for step in steps:
        yield step
        if isinstance(step, Loop):
            yield from walk(step.steps)
        elif isinstance(step, Branch):
            yield from walk(step.then)
            yield from walk(step.otherwise)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """One result: an array to return (``cell`` None), or the next value of shared variable number ``cell``.

    ``in_place``: the program writes into the shared variable's own memory; nothing is allocated.
    """

    buffer: Buffer
    cell: int | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Steps from the buffers of ``inputs`` (arguments) and ``cells`` (shared variables) to those of ``outputs``.

    ``counters``, one of the cells, makes the program measure itself: for each of ``timed_steps``, and at the end for
    all of them, it adds to ``COUNTERS`` int64 words there: calls, ticks of ``clock``, iterations and bytes.
    """

    name: str
    inputs: tuple[Buffer, ...]
    cells: tuple[Buffer, ...]
    outputs: tuple[Output, ...]
    steps: tuple[Step, ...]
    messages: tuple[object, ...] = field(default=())  # every failure; a call's status is 1 + the position in here
    counters: Buffer | None = None

    def kernels(self) -> Iterator[Kernel]:
        """The kernels launched, in order, with repetitions."""
        for step in walk(self.steps):
            if isinstance(step, Launch):
                yield step.kernel

    @property
    def timed_steps(self) -> tuple[Launch | Gemm, ...]:
        """The steps that a profile has a row for, those in loops and branches among them."""
        return tuple(step for step in walk(self.steps) if isinstance(step, (Launch, Gemm)))


COUNTERS = 4  # words a row of a program's counters


def with_counters(program: Program) -> Program:
    """The program with one more cell, last, for its counters."""
    counters = Buffer("counters", dtypes.int64, (COUNTERS * (len(program.timed_steps) + 1),))
    return replace(program, cells=(*program.cells, counters), counters=counters)
