"""The meaning of expressions: evaluation node by node with the NumPy reference of every operation.

Slow and obvious. It is the ``reference`` mode of ``function``, the oracle of tests, and what constants are
folded with. Nothing is rewritten, fused or compiled here.
"""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import BackendError, InternalError, OutOfRangeError, ShapeError, UserError
from symtensor_codegen.expr import topological
from symtensor_codegen.scalar import Dim, Scalar

from .graph import Tensor, ancestors
from .opdef import CONSTANT, SHARED, describe, where

Array = npt.NDArray[Any]


class MissingValueError(UserError, KeyError):
    """An expression depends on a variable that was given no value."""

    def __str__(self) -> str:
        return str(self.args[0])


def evaluate(outputs: Sequence[Tensor], values: Mapping[Tensor, Any]) -> list[Array]:
    """The values of the outputs, where ``values`` gives those of variables (or of any other tensor).

    Raises:
        MissingValueError: a variable the outputs depend on has no value.
        ShapeError: sizes that must agree do not.
    """
    evaluation = Evaluation(values)
    return [evaluation.value(output) for output in outputs]


class Evaluation:
    """Values of tensors, computed when asked for and kept."""

    def __init__(self, values: Mapping[Tensor, Any]) -> None:
        self.values: MutableMapping[Tensor, Array] = {
            node: given(node, value) for node, value in values.items()
        }
        self._sizes: dict[Scalar, int | None] = {}

    def value(self, wanted: Tensor) -> Array:
        """The value of one tensor."""
        known = self.values
        stack = [wanted]
        while stack:
            node = stack[-1]
            missing = [] if node in known else [i for i in self._needed(node) if i not in known]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if node not in known:
                known[node] = self._compute(node)
        return known[wanted]

    def _needed(self, node: Tensor) -> Sequence[Tensor]:
        """The inputs to compute a node from: of a lazy branch the condition, then only the value it chooses."""
        if node.op.name != "ifelse":
            return node.inputs
        condition = node.inputs[0]
        if condition not in self.values:
            return (condition,)
        return (condition, node.inputs[1 if self.values[condition] else 2])

    def inside(self, values: Mapping[Tensor, Any]) -> "Evaluation":
        """An evaluation of the body of a loop or branch."""
        return Evaluation(values)

    def size(self, dim: Dim) -> int | None:
        """A symbolic size as a number; None where it depends on a variable without a value."""
        if isinstance(dim, int):
            return dim
        sizes = self._sizes
        for node in topological([dim], lambda node: node.args):
            if node in sizes:
                continue
            sizes[node] = self._scalar(node, [sizes[argument] for argument in node.args])
        return sizes[dim]

    def _scalar(self, node: Scalar, operands: list[int | None]) -> int | None:
        if node.op is scalar.const_op:
            return int(node.param)
        if node.op is scalar.symbol_op:
            token = node.param
            if token[0] == "dim":
                return self.values[token[1]].shape[token[2]] if token[1] in self.values else None
            return int(self.value(token[1]))
        if None in operands:
            return None
        if node.op is scalar.cast_op:
            return int(np.asarray(operands[0]).astype(node.dtype.numpy))
        if node.op.numpy is None:
            raise InternalError(f"{node.op.name} in a size")
        arguments = [np.asarray(o, a.dtype.numpy) for o, a in zip(operands, node.args, strict=True)]
        with np.errstate(all="ignore"):
            return int(node.op.numpy(*arguments))

    def _compute(self, node: Tensor) -> Array:
        op = node.op
        if op is CONSTANT:
            return node.data  # type: ignore[attr-defined,no-any-return]
        if op is SHARED:
            return np.asarray(node.get_value(borrow=True))  # type: ignore[attr-defined]
        if not node.inputs and op.reference is None:
            raise MissingValueError(f"{describe(node)} has no value")
        if op.name == "ifelse":
            return self.values[node.inputs[1 if self.values[node.inputs[0]] else 2]]
        if op.name == "trace":
            from .ops.loop_records import traced

            shape = [self.size(d) for d in node.dims]
            return traced(self.values[node.inputs[0]], node, shape)  # type: ignore[arg-type, no-any-return]
        if op.reference is None:
            raise BackendError(f"{op.name} has no reference meaning{where(node)}")
        arrays = [self.values[i] for i in node.inputs]
        if op.is_elementwise:
            self._check_broadcast(node, arrays)
        for guard in op.guards(node) if op.guards is not None else ():
            if self.size(guard.condition) == 0:
                values = [self.size(value) for value in guard.values]
                raise guard.error(guard.message.format(*values) + where(node))
        if node.element is dtypes.results:
            return op.reference(*arrays, **node.params, inside=self.inside)  # type: ignore[no-any-return]
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(op.reference(*arrays, **node.params))
        except IndexError as error:
            raise OutOfRangeError(f"{op.name}: {error}{where(node)}") from error
        except ValueError as error:
            raise ValueError(f"{op.name}: {error}{where(node)}") from error
        self._check(node, result)
        return result

    def _check_broadcast(self, node: Tensor, arrays: Sequence[Array]) -> None:
        """Only sizes known to be 1 broadcast."""
        for axis in range(-node.ndim, 0):
            sizes = {
                a.shape[axis]: i
                for i, a in zip(node.inputs, arrays, strict=True)
                if a.ndim >= -axis and i.type.shape[axis] != 1
            }
            if len(sizes) > 1:
                found = ", ".join(f"{size} ({describe(tensor)})" for size, tensor in sizes.items())
                raise ShapeError(f"{node.op.name}: sizes differ on axis {axis}: {found}{where(node)}")

    def _check(self, node: Tensor, result: Array) -> None:
        if result.dtype != node.element.numpy:
            raise InternalError(
                f"{node.op.name}: the reference gives {result.dtype}, {node.dtype} was inferred"
            )
        if result.ndim != node.ndim:
            raise InternalError(
                f"{node.op.name}: the reference has {result.ndim} axes, {node.ndim} were inferred"
            )
        for axis, dim in enumerate(node.dims):
            size = self.size(dim)
            if size is not None and size != result.shape[axis]:
                raise ShapeError(
                    f"{node.op.name}: axis {axis} has size {result.shape[axis]}, expected {size}{where(node)}"
                )


def evaluations(
    outer: Evaluation, outputs: Sequence[Tensor], wanted: Tensor, steps: str = ""
) -> Iterator[tuple[Evaluation, str, Sequence[Tensor]]]:
    """Where ``wanted`` has a value, in the order of execution: among ``outputs``, or inside loops and branches.

    Yields:
        An evaluation in which ``wanted`` can be computed; in words, the step of each loop around it; and the outputs
        that are computed there.
    """
    from .ops.branch_records import BRANCH, chosen_body
    from .ops.loop_records import LOOP, body_of, environments

    order = ancestors(outputs)
    if wanted in order:
        yield outer, steps, outputs
        return
    for node in order:
        if node.op is LOOP and _inside(body_of(node).outputs, wanted):
            count, *values = [outer.value(i) for i in node.inputs]
            for step, inner in enumerate(environments(body_of(node), int(count), values, outer.inside, [])):
                yield from evaluations(inner, body_of(node).outputs, wanted, f"{steps}, in step {step}")
        elif node.op is BRANCH:
            condition, *values = [outer.value(i) for i in node.inputs]
            body = chosen_body(condition, node.params["bodies"])
            if _inside(body.outputs, wanted):
                inner = outer.inside(dict(zip(body.constants, values, strict=True)))
                yield from evaluations(inner, body.outputs, wanted, steps)


def _inside(outputs: Sequence[Tensor], wanted: Tensor) -> bool:
    """Whether an expression is computed for ``outputs``, perhaps in a loop or branch."""
    for node in ancestors(outputs):
        bodies = [node.params["body"]] if node.op.name == "loop" else node.params.get("bodies", ())
        if node is wanted or any(_inside(body.outputs, wanted) for body in bodies):
            return True
    return False


def given(node: Tensor, value: Any) -> Array:
    """A value for a tensor, converted where nothing is lost.

    Raises:
        TypeError: the element type or number of axes does not fit.
        ShapeError: a size does not fit.
    """
    array = np.asarray(value)
    wanted = node.element.numpy
    if array.dtype != wanted:
        same_kind = np.can_cast(array.dtype, wanted, "same_kind") and not isinstance(
            value, (np.ndarray, np.generic)
        )
        if not (np.can_cast(array.dtype, wanted, "safe") or same_kind):
            raise TypeError(f"{describe(node)} does not take values of dtype {array.dtype}")
        array = array.astype(wanted)
    if array.ndim != node.ndim:
        raise TypeError(f"{describe(node)} has {node.ndim} axes, the value has {array.ndim}")
    for axis, size in enumerate(node.type.shape):
        if size is not None and array.shape[axis] != size:
            raise ShapeError(f"{describe(node)}: axis {axis} must have size {size}, got {array.shape[axis]}")
    return array
