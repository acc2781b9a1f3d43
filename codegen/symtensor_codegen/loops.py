"""Kernels: loop nests over buffers. The form that schedules arrange and that every backend emits.

A kernel is a function of buffers and parameters (sizes and other int64 values known when it is launched). Its
outermost loop may be PARALLEL: a launch then runs sub-ranges of it on several threads in any order, so its
iterations must not depend on each other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from .expr import topological
from .scalar import Buffer, Dim, Register, Scalar, index_op, load_op, symbol_op


class LoopKind(Enum):
    """How the iterations of a loop are run."""

    SERIAL = "serial"
    PARALLEL = "parallel"  # on threads; only the outermost loop of a kernel
    GRID = "grid"  # on blocks of a GPU
    BLOCK = "block"  # on threads of a block


@dataclass(frozen=True, slots=True, eq=False)
class For:
    """Run ``body`` for each value of ``index`` from 0 to ``extent - 1``.

    ``width`` > 1 asks for that many consecutive iterations at once as vector lanes: only ``Update``s may carry values
    between iterations, and no two iterations may store to one element. ``unroll`` repeats the (vector) body, with
    an accumulator of its own for each copy.
    """

    index: Scalar
    extent: Dim
    body: tuple["Statement", ...]
    kind: LoopKind = LoopKind.SERIAL
    width: int = 1
    unroll: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Declare:
    """A mutable scalar with a first value; visible in the statements after it and in loops inside."""

    register: Register
    value: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """``register = combine(register, value)`` with ``combine`` a key of ``scalar.COMBINES``."""

    register: Register
    combine: str
    value: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class ArgUpdate:
    """Keep the extreme of ``value`` in ``best`` and the ``position`` where it first occurred in ``place``.

    ``combine`` is argmax or argmin. The first NaN wins. Both registers are declared before: ``best`` with the
    neutral value, ``place`` with 0; the loop is over all positions in rising order (lanes of a vector loop are
    merged by the smaller position).
    """

    best: Register
    place: Register
    combine: str
    value: Scalar
    position: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Assign:
    """Give registers their next values, all at once: every value is evaluated with the old registers first.

    A loop that assigns registers declared outside of it is a recurrence: before the Assign a register has its value
    of the iteration before, after the loop its last one.
    """

    registers: tuple[Register, ...]
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Leave:
    """End the innermost loop, which is SERIAL, where the bool ``condition`` holds.

    What follows in this iteration, and all further iterations, do not run.
    """

    condition: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Write ``value`` to ``buffer[index]``; with ``combine``, combine it with the element there instead.

    ``where`` (a bool) suppresses the store where it is false.
    """

    buffer: Buffer
    index: tuple[Scalar, ...]
    value: Scalar
    combine: str | None = None
    where: Scalar | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The kernel fails with ``message`` where ``condition`` does not hold; ``values`` (int64) go into the report."""

    condition: Scalar
    message: object
    values: tuple[Scalar, ...] = ()


Statement = For | Declare | Update | ArgUpdate | Assign | Leave | Store | Check


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A named loop nest.

    ``buffers`` are passed as pointers in this order, then ``parameters``: int64 values computed by the caller, read in
    the body as the symbols of the same position (``parameter(k)``). ``failures`` lists the messages of checked
    indices and Checks: a launch returns 1 + the position of the message that failed first, else 0.
    ``note`` says in the user's words what is computed. ``local`` buffers, of known sizes, are a launch's own: they
    are not passed, and gone at its end.
    """

    name: str
    buffers: tuple[Buffer, ...]
    parameters: tuple[Scalar, ...]
    body: tuple[Statement, ...]
    failures: tuple[object, ...] = ()
    note: str = ""
    written: frozenset[Buffer] = field(default_factory=frozenset)
    local: tuple[Buffer, ...] = ()

    @property
    def parallel_loop(self) -> For | None:
        """The outermost loop, when the kernel is one parallel loop."""
        only = self.body[0] if len(self.body) == 1 else None
        return only if isinstance(only, For) and only.kind is LoopKind.PARALLEL else None


def parameter(position: int) -> Scalar:
    """The symbol by which a kernel body reads its parameter number ``position``."""
    from .scalar import symbol

    return symbol(("parameter", position))


def statements(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement of a body, loops before what is in them."""
    for statement in body:
        yield statement
        if isinstance(statement, For):
            yield from statements(statement.body)


def values_of(statement: Statement) -> tuple[Scalar, ...]:
    """The scalar expressions that a statement itself evaluates (not those of statements inside it)."""
    match statement:
        case For(extent=extent):
            return (extent,) if isinstance(extent, Scalar) else ()
        case Declare(value=value) | Update(value=value):
            return (value,)
        case ArgUpdate(value=value, position=position):
            return (value, position)
        case Assign(values=values):
            return values
        case Leave(condition=condition):
            return (condition,)
        case Store(index=index, value=value, where=where):
            return (*index, value, where) if where is not None else (*index, value)
        case Check(condition=condition, values=values):
            return (condition, *values)


def scalars(body: tuple[Statement, ...]) -> list[Scalar]:
    """Every distinct scalar node of a body, arguments first."""
    roots = [value for statement in statements(body) for value in values_of(statement)]
    return topological(roots, lambda node: node.args)


def map_values(body: tuple[Statement, ...], change: Callable[[Scalar], Scalar]) -> tuple[Statement, ...]:
    """The same statements with every scalar expression replaced by ``change`` of it."""

    def one(statement: Statement) -> Statement:
        match statement:
            case For(extent=extent, body=inner):
                return replace(
                    statement,
                    extent=change(extent) if isinstance(extent, Scalar) else extent,
                    body=tuple(one(s) for s in inner),
                )
            case Declare(value=value) | Update(value=value):
                return replace(statement, value=change(value))
            case ArgUpdate(value=value, position=position):
                return replace(statement, value=change(value), position=change(position))
            case Assign(values=values):
                return replace(statement, values=tuple(change(v) for v in values))
            case Leave(condition=condition):
                return replace(statement, condition=change(condition))
            case Store(index=index, value=value, where=where):
                return replace(
                    statement,
                    index=tuple(change(i) for i in index),
                    value=change(value),
                    where=None if where is None else change(where),
                )
            case Check(condition=condition, values=values):
                return replace(statement, condition=change(condition), values=tuple(change(v) for v in values))

    return tuple(one(statement) for statement in body)


def loads(body: tuple[Statement, ...]) -> list[Scalar]:
    """Every distinct load of a body."""
    return [node for node in scalars(body) if node.op is load_op]


def symbols(body: tuple[Statement, ...]) -> list[Scalar]:
    """Every distinct symbol of a body."""
    return [node for node in scalars(body) if node.op is symbol_op]


def loop_indices(body: tuple[Statement, ...]) -> list[Scalar]:
    """The indices of all loops of a body, outermost first."""
    return [s.index for s in statements(body) if isinstance(s, For) and s.index.op is index_op]
