"""Pickling and copying expressions.

An expression is pickled as a flat list of operations over its leaves, so that any depth works. Leaves are
objects of their own in the pickle: expressions pickled together that share an input share it again when
they are loaded, and everything computed from the same leaves in the same way is one node again, because
nodes are interned.
"""

from collections.abc import Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

from symtensor_codegen.errors import UserError

from .graph import Constant, Tensor, ancestors, constant, no_recording, variable
from .opdef import INPUT, OpDef
from .types import TensorType


class PickleError(UserError, ValueError):
    """A pickled expression cannot be loaded by this version."""


SideData = dict[str, Any] | None

# One operation: its record, where its inputs are in the list (leaves first), its parameters, its side data.
Step = tuple[OpDef, tuple[int, ...], dict[str, Any], SideData]


class Steps(list[Step]):
    """The operations of an expression, each after its inputs. Nothing in it changes, so copies share it."""

    def __deepcopy__(self, memo: object) -> "Steps":
        return self


def reduce_tensor(tensor: Tensor) -> Any:
    """What ``Tensor.__reduce__`` returns."""
    if tensor.op is INPUT:
        return _load_input, (tensor.type, _side_data(tensor))
    if isinstance(tensor, Constant):
        return _load_constant, (tensor.data, _side_data(tensor))
    if not tensor.inputs:
        raise TypeError(f"{type(tensor).__name__} {tensor} does not say how it is pickled")
    return _load_one, flatten([tensor])


def flatten(outputs: Sequence[Tensor]) -> tuple[list[Tensor], Steps, list[int]]:
    """Expressions as leaves, operations in order, and where in the list of both the outputs are."""
    order = ancestors(outputs)
    leaves = [node for node in order if not node.inputs]
    position = {node: k for k, node in enumerate(leaves)}
    steps = Steps()
    for node in order:
        if node.inputs:
            position[node] = len(leaves) + len(steps)
            places = tuple([position[i] for i in node.inputs])
            steps.append((node.op, places, dict(node.params), _side_data(node)))
    return leaves, steps, [position[output] for output in outputs]


def unflatten(leaves: Sequence[Tensor], steps: Sequence[Step], outputs: Sequence[int]) -> list[Tensor]:
    """The expressions that ``flatten`` took apart.

    Raises:
        PickleError: the operations are not those of this version.
    """
    nodes = list(leaves)
    with no_recording():
        for op, places, params, side_data in steps:
            try:
                node = op.make(*[nodes[k] for k in places], **params)
            except (TypeError, KeyError, IndexError) as error:
                raise PickleError(
                    f"a pickled expression uses {op} in a way this version does not know ({error!r}); "
                    "build the expression again"
                ) from error
            _restore(node, side_data)
            nodes.append(node)
    return [nodes[k] for k in outputs]


def _load_one(leaves: Sequence[Tensor], steps: Sequence[Step], outputs: Sequence[int]) -> Tensor:
    return unflatten(leaves, steps, outputs)[0]


def _load_input(kind: TensorType, side_data: SideData) -> Tensor:
    node = variable(kind)
    _restore(node, side_data)
    return node


def _load_constant(data: Any, side_data: SideData) -> Tensor:
    node = constant(data)
    _restore(node, side_data)
    return node


def _side_data(node: Tensor) -> SideData:
    """Name, source line, tag and the user's own attributes; fields of the compiler begin with an underscore."""
    found = {key: value for key, value in node.__dict__.items() if key not in _FIELDS and key[0] != "_"}
    if node.name is not None:
        found["name"] = node.name
    if node._site is not None:
        found["_site"] = node.site
    if "_tag" in node.__dict__:
        found["_tag"] = node.tag
    return found or None


_FIELDS = frozenset(("op", "inputs", "params", "type", "dims", "data", "name"))


def _restore(node: Tensor, side_data: SideData) -> None:
    """Side data of the pickled node; what the node has already (it may be an old one) stays."""
    if side_data is not None:
        for key, value in side_data.items():
            if node.__dict__.get(key) is None:
                node.__dict__[key] = _code_at(value) if key == "_site" else value


@lru_cache(maxsize=4096)
def _code_at(site: str) -> tuple[CodeType, int]:
    """An empty piece of code on the source line that an unpickled node was made on."""
    file, _, line = site.rpartition(":")
    return compile("", file, "exec").replace(co_firstlineno=int(line)), -1
