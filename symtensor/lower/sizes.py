"""Which sizes are equal: proven when the graph was built, or guarded once per call.

Two sizes of an elementwise operation that are different expressions must be equal at run time. The first call of a
guard makes them one size for everything that follows, so loops over either fuse.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from symtensor_codegen import dtypes, scalar, substitution
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.expr import topological
from symtensor_codegen.program import Guard
from symtensor_codegen.scalar import Dim, Scalar, as_dim, as_int, symbol_op

from ..graph import Tensor
from ..opdef import Guard as OpGuard


@dataclass(frozen=True, slots=True, eq=False)
class SizeMessage:
    """Why a guard on sizes fails: the expression and its operands (for the user's lines), and the axis or text."""

    node: Tensor
    operands: tuple[Tensor, ...]
    axis: int = 0
    text: str = ""
    error: type[Exception] = ShapeError


class Sizes:
    """Equalities between sizes, with the guards that make sure of them.

    ``own``: the tensors of a body, of which the variables, too, have values that are computed unless ``known``.
    """

    def __init__(self, known: Mapping[Scalar, Scalar] | None = None, own: Container[Tensor] = ()) -> None:
        self.own = own
        self.known: dict[Scalar, Scalar] = dict(known or {})
        self.outside = dict(self.known)  # sizes known before a body begins; others are learned from guards
        self.guards: list[Guard] = []
        self._memo: dict[Scalar, Scalar] = dict(self.known)

    def of(self, size: Dim) -> Dim:
        """The representative of a size."""
        if isinstance(size, int) or not self.known:
            return size
        return as_dim(substitution.substitute(size, self.known, self._memo))

    def before(self, size: Dim) -> Dim:
        """A size in terms of what is known before the body: so guards tell it, since a failed one made no two equal."""
        return as_dim(substitution.substitute(size, self.outside)) if isinstance(size, Scalar) else size

    def shape(self, node: Tensor) -> tuple[Dim, ...]:
        """The representatives of a tensor's sizes."""
        return tuple([self.of(d) for d in node.dims])

    def scalar(self, value: Scalar) -> Scalar:
        """An expression with every size replaced by its representative."""
        return substitution.substitute(value, self.known, self._memo) if self.known else value

    def equal(self, a: Dim, b: Dim, message: SizeMessage) -> None:
        """Demand that two sizes are equal."""
        a, b = self.of(a), self.of(b)
        if a is b or (isinstance(a, int) and a == b):
            return
        self.guards.append(Guard(scalar.eq(as_int(a), as_int(b)), message, (a, b)))
        # A symbol is replaced by the other side; an int or an expression stays. What is computed during the call
        # is not known before its guard has been checked, so it neither replaces a size nor is replaced by one.
        if self._is_computed(a) or self._is_computed(b):
            return
        if isinstance(b, Scalar) and b.op is symbol_op:
            self._learn(b, as_int(a))
        elif isinstance(a, Scalar) and a.op is symbol_op:
            self._learn(a, as_int(b))

    def _is_computed(self, size: Dim) -> bool:
        """Whether a size depends on a value that the call itself computes."""
        tokens = [symbol.param for symbol in scalar_symbols(size) if symbol not in self.outside]
        values = [token[1] for token in tokens if token[0] == "value"]
        return any(node.inputs or node in self.own for node in values)

    def _learn(self, symbol: Scalar, value: Scalar) -> None:
        if symbol in scalar_symbols(value):
            return
        step = {symbol: value}
        self.known = {key: substitution.substitute(old, step) for key, old in self.known.items()}
        self.known[symbol] = value
        self._memo = dict(self.known)


def scalar_symbols(value: Dim) -> list[Scalar]:
    """The symbols a size depends on."""
    if isinstance(value, int):
        return []
    return [node for node in topological([value], lambda n: n.args) if node.op is symbol_op]


def find_sizes(
    order: Sequence[Tensor], known: Mapping[Scalar, Scalar] | None = None, inside: bool = False
) -> Sizes:
    """Equalities and guards of every computed tensor, in order.

    ``known`` replaces sizes from the start; ``inside``: the tensors are those of a body.
    """
    sizes = Sizes(known, frozenset(order) if inside else ())
    for node in order:
        if node.op.is_elementwise and len(node.inputs) > 1:
            _elementwise(node, sizes)
        if node.op.guards is not None:
            for guard in node.op.guards(node):
                _guard(node, guard, sizes)
    return sizes


def _elementwise(node: Tensor, sizes: Sizes) -> None:
    first = node.inputs[0].dims
    if all(i.dims == first for i in node.inputs[1:]):
        return
    for axis in range(-len(node.dims), 0):
        seen: Dim | None = None
        for operand in node.inputs:
            if operand.ndim < -axis or operand.type.shape[axis] == 1:
                continue
            size = operand.dims[axis]
            if seen is None:
                seen = size
            elif size is not seen and size != seen:
                sizes.equal(seen, size, SizeMessage(node, node.inputs, len(node.dims) + axis))


def _guard(node: Tensor, guard: OpGuard, sizes: Sizes) -> None:
    message = SizeMessage(node, node.inputs, text=guard.message, error=guard.error)
    condition = guard.condition
    if condition.op is scalar.eq and condition.args[0].dtype is dtypes.int64:
        left, right = (as_dim(a) for a in condition.args)
        before = len(sizes.guards)
        sizes.equal(left, right, message)
        if len(sizes.guards) > before:
            sizes.guards[-1] = Guard(sizes.guards[-1].condition, message, tuple(guard.values))
        return
    condition = sizes.scalar(condition)
    if condition.op is scalar.const_op and condition.param:
        return
    sizes.guards.append(Guard(condition, message, tuple(guard.values)))
