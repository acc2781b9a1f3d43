"""The body of a loop: what one step computes from the state before it.

A body is closed: its expressions depend on its own variables and on constants only. What a step uses from outside
becomes one of the loop's inputs (``capture``), so work that is the same in every step is never inside.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakValueDictionary

from symtensor.graph import Tensor, ancestors, replace, variable
from symtensor.opdef import CONSTANT
from symtensor.types import TensorType
from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.scalar import Dim, Scalar, symbol_op

UNBOUNDED = 1 << 62  # steps of a loop that only its condition ends


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Body:
    """One step.

    ``index`` is the number of the step (int64, 0-d). ``carries`` are the state before the step, ``nexts`` after it.
    ``sequences`` are rows of the loop's sequence inputs, ``constants`` what is the same in every step. Where
    ``until`` (bool, 0-d) is true the loop ends after the step. With ``backwards`` the first step has the last rows,
    and its results are the last rows. ``truncate``: gradients go back this many steps (-1: all). ``traced`` are the
    values that are stored in every step, once the compiler has settled on them. ``recompute``: the gradient keeps
    nothing of a step but its variables, so no work may be moved out of the loop, nor the loop be unrolled.
    """

    index: Tensor
    carries: tuple[Tensor, ...]
    sequences: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    nexts: tuple[Tensor, ...]
    until: Tensor | None = None
    backwards: bool = False
    truncate: int = -1
    name: str = ""
    traced: tuple[Tensor, ...] = ()
    recompute: bool = False

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """All that a step depends on; the index first, the others in the order of the loop's inputs."""
        return (self.index, *self.carries, *self.sequences, *self.constants)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What every step must compute: the next state, whether to stop, and what is stored."""
        stop = (self.until,) if self.until is not None else ()
        return (*self.nexts, *stop, *self.traced)

    def __repr__(self) -> str:
        return self.name or "body"

    def __reduce__(self) -> Any:
        return make_body, tuple(getattr(self, name) for name in _FIELDS)


_FIELDS = (
    "index", "carries", "sequences", "constants", "nexts", "until", "backwards", "truncate", "name", "traced",
    "recompute",
)  # fmt: skip
_BODIES: WeakValueDictionary[tuple[Any, ...], Body] = WeakValueDictionary()


def make_body(*fields: Any, **named: Any) -> Body:
    """The body with these fields; equal ones are one object, so loops that have become equal merge."""
    made = Body(*fields, **named)
    key = tuple(getattr(made, name) for name in _FIELDS)
    return _BODIES.setdefault(key, made)


@dataclass(frozen=True, slots=True)
class Parts:
    """The inputs of a loop node by their role."""

    count: Tensor
    initial: tuple[Tensor, ...]
    sequences: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]


def parts(inputs: Sequence[Tensor], body: Body) -> Parts:
    """The inputs of a loop by their role."""
    first, second = 1 + len(body.carries), 1 + len(body.carries) + len(body.sequences)
    return Parts(inputs[0], tuple(inputs[1:first]), tuple(inputs[first:second]), tuple(inputs[second:]))


def index_variable() -> Tensor:
    """A variable for the number of a step."""
    return variable(TensorType(dtypes.int64, ()), "step")


def row_variable(sequence: Tensor, name: str | None = None) -> Tensor:
    """A variable for one row of a sequence."""
    return variable(TensorType(sequence.element, sequence.type.shape[1:]), name)


def capture(outputs: Sequence[Tensor], variables: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Close expressions over some variables.

    Returns:
        The expressions with the largest parts that depend on none of ``variables`` replaced by new variables; those
        parts; and the new variables. Constants stay where they are.
    """
    own = frozenset(variables)
    order = ancestors(outputs)
    inside: set[Tensor] = set()
    literal: set[Tensor] = set()  # made of constants alone
    for node in order:
        if node in own or any(i in inside for i in node.inputs):
            inside.add(node)
        elif node.op is CONSTANT or (node.inputs and all(i in literal for i in node.inputs)):
            literal.add(node)
    found: dict[Tensor, Tensor] = {}
    for node in order:
        if node in inside:
            for i in node.inputs:
                if i not in inside and i not in literal and i not in found:
                    found[i] = variable(i.type, i.name)
    for out in outputs:
        if out not in inside and out not in literal and out not in found:
            found[out] = variable(out.type, out.name)
    return replace(outputs, found), list(found), list(found.values())


def keep_sizes(before: Sequence[Tensor], after: Sequence[Tensor], constants: Sequence[Tensor]) -> list[Tensor]:
    """The next states, those of which the step itself computes a size as stated to have the sizes they had before.

    A loop checks before its first step that states keep their sizes; these are checked in every step.
    """
    from .shaping_axes import sizes
    from .shaping_broadcast import SPECIFY_SHAPE

    made: list[Tensor] = []
    for old, new in zip(before, after, strict=True):
        symbols = [s.param for d in new.dims if isinstance(d, Scalar) for s in substitution_symbols(d)]
        if old.ndim == new.ndim and any(token[0] == "value" and token[1] not in constants for token in symbols):
            wanted = sizes(old)
            known = tuple(size if isinstance(size, int) else None for size in wanted)
            given = [size for size in wanted if not isinstance(size, int)]
            label = f"state {old.name!r}" if old.name else "a state"
            new = SPECIFY_SHAPE.make(new, *given, shape=known, state=label)
        made.append(new)
    return made


def outer_size(body: Body, inputs: Sequence[Tensor]) -> Callable[[Dim], Dim]:
    """How sizes inside a body are said outside.

    Raises (when called):
        ShapeError: a size is computed in the loop, so it may change from step to step.
    """
    from symtensor.opdef import dim_of

    given = parts(inputs, body)
    known: dict[Scalar, Scalar] = {}
    for inner, outer, skip in (
        *((v, s, 1) for v, s in zip(body.sequences, given.sequences, strict=True)),
        *((v, c, 0) for v, c in zip(body.carries, given.initial, strict=True)),
        *((v, c, 0) for v, c in zip(body.constants, given.constants, strict=True)),
    ):
        for axis, size in enumerate(inner.dims):
            if isinstance(size, Scalar):
                known[size] = scalar.as_int(outer.dims[axis + skip])

    constants = dict(zip(body.constants, given.constants, strict=True))

    def outside(size: Dim) -> Dim:
        if isinstance(size, int):
            return size
        for node in substitution_symbols(size):
            if node not in known:
                token = node.param
                if token[0] == "value" and token[1] in constants:
                    known[node] = scalar.as_int(dim_of(constants[token[1]]))
                else:
                    raise ShapeError("a size is computed inside the loop, so it may change from step to step")
        return scalar.as_dim(substitution.substitute(size, known))

    return outside


MANY_ROWS = 8  # of a matrix from which its products with vectors are faster as vector loops than number by number
MANY_PRODUCTS = 160  # multiplications in such products


def has_wide_products(order: Iterable[Tensor], shape: Callable[[Tensor], Sequence[int]]) -> bool:
    """Whether a step multiplies so many numbers that loops over memory are faster than registers."""
    total = 0
    for node in order:
        if node.op.name == "dot" and node.ndim and max(shape(node)) >= MANY_ROWS:
            total += prod(shape(node)) * shape(node.inputs[0])[-1]
    return total >= MANY_PRODUCTS


def substitution_symbols(size: Scalar) -> list[Scalar]:
    """The symbols in a size."""
    from symtensor_codegen.expr import topological

    return [node for node in topological([size], lambda n: n.args) if node.op is symbol_op]
