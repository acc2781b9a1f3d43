"""Theano's view of a graph, for programs that walk it: variables, and the operations that made them.

Here one node is both. ``Apply`` shows it as the application of an operation: ``x.owner.op``,
``x.owner.inputs``. Two views of one node are equal.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from . import graph
from .graph import Constant, Tensor
from .opdef import OpDef

Variable = Tensor  # Theano's name


class Apply:
    """The application of an operation that made ``out``."""

    __slots__ = ("out",)

    def __init__(self, out: Tensor) -> None:
        self.out = out

    @property
    def op(self) -> OpDef:
        """The operation."""
        return self.out.op

    @property
    def inputs(self) -> list[Tensor]:
        """What it was applied to."""
        return list(self.out.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """Its one result, as a list."""
        return [self.out]

    @property
    def params(self) -> graph.Params:
        """The parameters of the operation."""
        return self.out.params

    @property
    def nin(self) -> int:
        """Number of inputs."""
        return len(self.out.inputs)

    @property
    def nout(self) -> int:
        """Number of results."""
        return 1

    @property
    def tag(self) -> graph.Tag:
        """The tag of the result."""
        return self.out.tag

    def default_output(self) -> Tensor:
        """The result that stands for the whole."""
        return self.out

    def clone_with_new_inputs(self, inputs: Sequence[Tensor]) -> "Apply":
        """The same operation applied to other inputs."""
        return Apply(graph.rebuild(self.out, tuple(inputs)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Apply) and other.out is self.out

    def __hash__(self) -> int:
        return hash(self.out)

    def __repr__(self) -> str:
        return f"{self.out.op}({', '.join(map(str, self.out.inputs))})"

    def __reduce__(self) -> Any:
        return Apply, (self.out,)


def owner(tensor: Tensor) -> Apply | None:
    """The application that made a tensor; None for inputs, constants and shared variables (``x.owner``)."""
    return Apply(tensor) if tensor.inputs else None


def inputs(variables: Iterable[Tensor], blockers: Iterable[Tensor] = ()) -> list[Tensor]:
    """The leaves (inputs, constants, shared variables) that the variables are computed from.

    ``blockers`` count as leaves.
    """
    blocked = frozenset(blockers)
    return [node for node in graph.ancestors(variables, blocked) if not node.inputs or node in blocked]


def explicit_inputs(variables: Iterable[Tensor]) -> list[Tensor]:
    """The leaves that are not constants."""
    return [leaf for leaf in inputs(variables) if not isinstance(leaf, Constant)]


def ancestors(variables: Iterable[Tensor], blockers: Iterable[Tensor] = ()) -> list[Tensor]:
    """Everything the variables are computed from, themselves included; not beyond the blockers."""
    return graph.ancestors(variables, blockers)


def io_toposort(inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> list[Apply]:
    """The applications between inputs and outputs, each after those that it depends on."""
    given = frozenset(inputs)
    return [Apply(node) for node in graph.ancestors(outputs, given) if node.inputs and node not in given]


def is_same_graph(a: Tensor, b: Tensor, givens: Any = None) -> bool:
    """Whether two expressions compute the same from the same leaves, after replacing what ``givens`` says.

    Equal expressions are one node here, so without ``givens`` this is ``a is b``.
    """
    if givens:
        pairs = dict(givens)
        a, b = graph.replace([a, b], pairs)
    return a is b


def equal_computations(
    xs: Sequence[Tensor], ys: Sequence[Tensor], in_xs: Sequence[Tensor] = (), in_ys: Sequence[Tensor] = ()
) -> bool:
    """Whether two lists of expressions compute the same, ``in_xs`` standing for ``in_ys``."""
    if len(xs) != len(ys) or len(in_xs) != len(in_ys):
        return False
    if any(x.type is not y.type for x, y in zip(in_xs, in_ys, strict=True)):
        return False
    return graph.replace(xs, dict(zip(in_xs, in_ys, strict=True))) == list(ys)
