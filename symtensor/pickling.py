"""Pickling and copying expressions.

An expression is pickled as a flat list of operations over its leaves, so that any depth works. Leaves are
objects of their own in the pickle: expressions pickled together that share an input share it again when
they are loaded, and everything computed from the same leaves in the same way is one node again, because
nodes are interned.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any

from symtensor_codegen.errors import UserError

from .collecting import no_collection
from .graph import Constant, Tensor, ancestors, constant, no_recording, variable
from .opdef import INPUT, OpDef
from .shared_variables import SharedVariable, shared
from .types import TensorType

if TYPE_CHECKING:
    from .compiled_function import Function


class PickleError(UserError, ValueError):
    """A pickled expression cannot be loaded by this version."""


SideData = dict[str, Any] | None

# One operation: its record, where its inputs are in the list (leaves first), its parameters (None where there
# are none), its source line, its side data.
Step = tuple[OpDef, tuple[int, ...], dict[str, Any] | None, str | None, SideData]


class Steps(list[Step]):
    """The operations of an expression, each after its inputs. Nothing in it changes, so copies share it."""

    def __deepcopy__(self, memo: object) -> "Steps":
        return self


def reduce_tensor(tensor: Tensor) -> Any:
    """What ``Tensor.__reduce__`` returns."""
    if tensor.op is INPUT:
        return _load_input, (tensor.type, tensor.name, tensor.site, _side_data(tensor))
    if isinstance(tensor, Constant):
        return _load_constant, (tensor.data, tensor.name, tensor.site, _side_data(tensor))
    if isinstance(tensor, SharedVariable):
        # What refers back to the variable (its default update) comes as state, after the variable itself.
        state = {**(_side_data(tensor) or {}), "default_update": tensor.default_update}
        return _load_shared, (tensor.type, tensor.get_value(borrow=True), tensor.name, tensor.site), state
    if not tensor.inputs:
        raise TypeError(f"{type(tensor).__name__} {tensor} does not say how it is pickled")
    return _load_one, flatten([tensor])


def flatten(outputs: Sequence[Tensor]) -> tuple[list[Tensor], Steps, list[int]]:
    """Expressions as leaves, operations in order, and where in the list of both the outputs are."""
    order = ancestors(outputs)
    leaves = [node for node in order if not node.inputs]
    position = {node: k for k, node in enumerate(leaves)}
    steps = Steps()
    sites: dict[tuple[int, int], str | None] = {}
    with no_collection():
        for node in order:
            if node.inputs:
                position[node] = len(position)
                places = tuple([position[i] for i in node.inputs])
                site = None
                if node._site is not None:  # looked up once per line of the program: it is slow
                    key = id(node._site[0]), node._site[1]
                    if key not in sites:
                        sites[key] = node.site
                    site = sites[key]
                steps.append((node.op, places, dict(node.params) or None, site, _side_data(node)))
    return leaves, steps, [position[output] for output in outputs]


def unflatten(leaves: Sequence[Tensor], steps: Sequence[Step], outputs: Sequence[int]) -> list[Tensor]:
    """The expressions that ``flatten`` took apart.

    Raises:
        PickleError: the operations are not those of this version.
    """
    nodes = list(leaves)
    with no_recording(), no_collection():
        for op, places, params, site, side_data in steps:
            try:
                node = op.make(*[nodes[k] for k in places], **(params or {}))
            except (TypeError, KeyError, IndexError) as error:
                raise PickleError(
                    f"a pickled expression uses {op} in a way this version does not know ({error!r}); "
                    "build the expression again"
                ) from error
            _restore(node, site, side_data)
            nodes.append(node)
    return [nodes[k] for k in outputs]


def reduce_function(function: "Function") -> Any:
    """What ``Function.__reduce__`` returns: what it computes, to be compiled again."""
    made = function.definition
    keys = [key for key, _ in made.updates]
    elsewhere = ("outputs", "updates", "device")  # it is built for a device of the machine that loads it
    state = {f.name: getattr(made, f.name) for f in fields(made) if f.name not in elsewhere}
    return _load_function, (*flatten(made.expressions), keys, {**state, "name": function.name})


def _load_function(
    leaves: Sequence[Tensor],
    steps: Sequence[Step],
    outputs: Sequence[int],
    keys: Sequence[SharedVariable],
    state: Any,
    device: str | None = None,
) -> Any:
    from .compiled_function import Definition, function_of
    from .functions import place

    expressions = unflatten(leaves, steps, outputs)
    count = len(expressions) - len(keys)
    updates = tuple(zip(keys, expressions[count:], strict=True))
    variables = [leaf for leaf in leaves if isinstance(leaf, SharedVariable)]
    state["device"] = place(state["mode"], device, [*variables, *keys])
    return function_of(Definition(outputs=tuple(expressions[:count]), updates=updates, **state))


def _load_one(leaves: Sequence[Tensor], steps: Sequence[Step], outputs: Sequence[int]) -> Tensor:
    return unflatten(leaves, steps, outputs)[0]


def _load_input(kind: TensorType, name: str | None, site: str | None, side_data: SideData) -> Tensor:
    with no_recording():
        node = variable(kind, name)
    _restore(node, site, side_data)
    return node


def _load_constant(data: Any, name: str | None, site: str | None, side_data: SideData) -> Tensor:
    with no_recording():
        node = constant(data, name=name)
    _restore(node, site, side_data)
    return node


def _load_shared(kind: TensorType, value: Any, name: str | None, site: str | None) -> Tensor:
    with no_recording():
        node = shared(value, name, borrow=True, shape=kind.shape)
    _restore(node, site, None)
    return node


def _side_data(node: Tensor) -> SideData:
    """Name of an operation, tag, and the user's own attributes; the compiler's begin with an underscore."""
    attributes = node.__dict__
    found = None
    if len(attributes) > _LEAST:
        found = {key: value for key, value in attributes.items() if key not in _FIELDS and key[0] != "_"}
        if "_tag" in attributes:
            found["_tag"] = node.tag
    if node.name is not None and node.inputs:
        found = {**(found or {}), "name": node.name}
    return found or None


_FIELDS = frozenset(("op", "inputs", "params", "type", "dims", "data", "name", "cell", "default_update"))
_LEAST = 7  # attributes of every node: op, inputs, params, type, dims, name, _site


def _restore(node: Tensor, site: str | None, side_data: SideData) -> None:
    """Side data of the pickled node; what the node has already (it may be an old one) stays."""
    if site is not None and node._site is None:
        node._site = _code_at(site)
    if side_data is not None:
        for key, value in side_data.items():
            if node.__dict__.get(key) is None:
                node.__dict__[key] = value


@lru_cache(maxsize=4096)
def _code_at(site: str) -> tuple[CodeType, int]:
    """An empty piece of code on the source line that an unpickled node was made on."""
    file, _, line = site.rpartition(":")
    return compile("", file, "exec").replace(co_firstlineno=int(line)), -1
