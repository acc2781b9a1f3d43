"""Array expressions: the interned nodes users build, and what walks over them.

A ``Tensor`` is an operation on other tensors, or a leaf: an input variable, a constant or a shared variable. Its
element type and sizes are inferred when it is built. Names, source lines and tags are attributes beside the node's
identity.
"""

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError
from symtensor_codegen.expr import InternTable, Node, topological
from symtensor_codegen.scalar import Dim

from .methods import TensorMethods
from .settings import config
from .types import TensorType, tensor_type

if TYPE_CHECKING:
    from .opdef import OpDef

Params = Mapping[str, Any]
TensorLike = Any  # a Tensor, an array, a number, or a nested sequence of numbers

_PACKAGES = (str(Path(__file__).parent), str(Path(scalar.__file__).parent))


class Tag:
    """Free attributes of a tensor (``x.tag.test_value``)."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What the user put there."""

        def __setattr__(self, name: str, value: Any) -> None:
            """Put something there."""


class Tensor(TensorMethods, Node):
    """An array expression.

    ``op``, ``inputs`` and ``params`` say how it is computed (leaves have no inputs), ``type`` its element type and
    static shape, ``dims`` its sizes as ints or symbolic scalars over the sizes of leaves. Any other attribute may be
    set. Tensors compare by identity.
    """

    op: "OpDef"
    inputs: "tuple[Tensor, ...]"
    params: Params
    type: TensorType
    dims: tuple[Dim, ...]
    name: str | None
    _site: tuple[CodeType, int] | None

    @property
    def element(self) -> DType:
        """The element type."""
        return self.type.element

    @property
    def site(self) -> str | None:
        """Where the user's program made this expression, as ``file.py:line``."""
        if self._site is None:
            return None
        code, instruction = self._site
        line = next((ln for start, end, ln in code.co_lines() if start <= instruction < end), None)
        return f"{Path(code.co_filename).name}:{line or code.co_firstlineno}"

    @property
    def tag(self) -> Tag:
        """A place for the user's own attributes."""
        found = self.__dict__.get("_tag")
        if found is None:
            found = self.__dict__["_tag"] = Tag()
        return found

    @tag.setter
    def tag(self, value: Tag) -> None:
        self.__dict__["_tag"] = value

    def __repr__(self) -> str:
        from .printing import label

        return label(self)

    def __reduce__(self) -> Any:
        from .pickling import reduce_tensor

        return reduce_tensor(self)


_TABLE: InternTable[Tensor] = InternTable()
_recording = True  # whether new nodes note the user's line; off while the compiler rewrites


def intern(
    op: "OpDef", inputs: tuple[Tensor, ...], params: Params, infer: Callable[[], tuple[DType, tuple[Dim, ...]]]
) -> Tensor:
    """The node ``op(*inputs, **params)``, inferred and made if it does not exist yet."""
    key = (op, inputs, tuple(params.items()))
    found = _TABLE.get(key)
    if found is None:
        element, dims = infer()
        found = _TABLE.add(key, _new(Tensor, op, inputs, params, element, dims))
    if config.compute_test_value != "off" and _recording:
        from .test_values import compute

        compute(found)
    return found


def _new(
    cls: "type[Any]", op: "OpDef", inputs: tuple[Tensor, ...], params: Params, element: DType, dims: tuple[Dim, ...]
) -> Any:
    node = object.__new__(cls)
    node.op, node.inputs, node.params = op, inputs, params
    node.dims = dims
    node.type = tensor_type(element, tuple([d if d.__class__ is int else None for d in dims]))
    node.name = None
    node._site = _user_site() if _recording else None
    return node


def _user_site() -> tuple[CodeType, int] | None:
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGES):
            return code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


class no_recording:
    """Inside this block new nodes do not note a source line (the compiler makes them, not the user)."""

    def __enter__(self) -> None:
        global _recording
        self._before, _recording = _recording, False

    def __exit__(self, *exc: object) -> None:
        global _recording
        _recording = self._before


# Leaves ---------------------------------------------------------------------------------------------------------


def _leaf(cls: "type[Any]", op: "OpDef", kind: TensorType, name: str | None) -> Any:
    node = _new(cls, op, (), {}, kind.element, ())
    node.type, node.name = kind, name
    node.dims = tuple(
        scalar.symbol(("dim", node, axis)) if size is None else size for axis, size in enumerate(kind.shape)
    )
    return node


def variable(kind: TensorType, name: str | None = None) -> Tensor:
    """A new input variable; every call makes another one."""
    from .opdef import INPUT

    return _leaf(Tensor, INPUT, kind, name)  # type: ignore[no-any-return]


class Constant(Tensor):
    """A value known when the program is built. ``data`` is read-only."""

    data: npt.NDArray[Any]

    @property
    def value(self) -> npt.NDArray[Any]:
        """The array (Theano's name for ``data``)."""
        return self.data


def constant(value: Any, dtype: object = None, name: str | None = None) -> Constant:
    """A constant array; small equal constants are one node. Its sizes are all static."""
    from .opdef import CONSTANT

    data = np.asarray(value, None if dtype is None else dtypes.of(dtype).numpy)
    if data.dtype.hasobject or data.dtype.kind not in "biufc":
        raise DTypeError(f"constant: {value!r} is not numeric (NumPy gives it dtype {data.dtype})")
    element = dtypes.of(data.dtype)
    data = np.array(data, element.numpy, order="C", copy=True)
    data.setflags(write=False)
    key: Hashable = None
    if data.nbytes <= 4096:
        key = (CONSTANT, element, data.shape, data.tobytes())
        found = _TABLE.get(key)
        if found is not None:
            return found  # type: ignore[return-value]
    node: Constant = _new(Constant, CONSTANT, (), {}, element, data.shape)
    node.data, node.name = data, name
    if key is not None:
        node._site = None  # it stands for the same number on every line of the program
    return node if key is None else _TABLE.add(key, node)  # type: ignore[return-value]


def as_tensor(value: TensorLike, dtype: object = None) -> Tensor:
    """A tensor as it is; an array, number or nested sequence (tensors inside are stacked) as an expression.

    A Python float has the element type ``config.floatX``; under Theano's cast policy Python numbers have Theano's.
    """
    if isinstance(value, Tensor):
        if dtype is not None and value.element is not dtypes.of(dtype):
            raise DTypeError(f"as_tensor: {value} has dtype {value.dtype}, not {dtypes.of(dtype)}; use cast()")
        return value
    if isinstance(value, (list, tuple)) and _holds_tensor(value):
        from .ops.joining import stack

        return stack([as_tensor(v) for v in value])
    if isinstance(value, (list, tuple)) and len(value) == 0 and dtype is None:
        return constant(np.zeros(0, config.floatX))
    if dtype is None and type(value) in (bool, int, float):
        if config.cast_policy == "theano":
            from .promotion import literal_type

            return constant(value, literal_type(value))
        if type(value) is float:
            return constant(value, config.floatX)
    return constant(value, dtype)


def _holds_tensor(value: Sequence[Any]) -> bool:
    return any(isinstance(v, Tensor) or (isinstance(v, (list, tuple)) and _holds_tensor(v)) for v in value)


# Walks ----------------------------------------------------------------------------------------------------------


def ancestors(outputs: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> list[Tensor]:
    """Every tensor the outputs are computed from (themselves included), each after its inputs.

    The inputs of tensors in ``stop`` are not visited.
    """
    blocked = frozenset(stop)
    if not blocked:
        return topological(outputs, lambda node: node.inputs)
    return topological(outputs, lambda node: () if node in blocked else node.inputs)


def leaves(outputs: Iterable[Tensor]) -> list[Tensor]:
    """The variables, constants and shared variables that the outputs are computed from."""
    return [node for node in ancestors(outputs) if not node.inputs]


def rebuild(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """The operation of ``node`` on other inputs; keeps its name and source line where the new node has none."""
    made = node.op.make(*inputs, **node.params)
    inherit(made, node)
    return made


def inherit(made: Tensor, old: Tensor) -> None:
    """Give ``made`` the source line and name of the node it stands for, where it has none of its own."""
    if made._site is None:
        made._site = old._site
    if made.name is None and made.inputs:
        made.name = old.name


def replace(outputs: Sequence[Tensor], replacements: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """The outputs with some tensors replaced; what does not depend on a replaced tensor is shared, not copied."""
    memo: dict[Tensor, Tensor] = dict(replacements)
    with no_recording():
        for node in ancestors(outputs, stop=memo):
            if node in memo:
                continue
            inputs = tuple([memo[i] for i in node.inputs])
            memo[node] = node if inputs == node.inputs else rebuild(node, inputs)
    return [memo[output] for output in outputs]
