"""The record of an operation: everything the compiler knows about it, in one place.

Element types and sizes, NumPy meaning, gradient, how one element of the result is computed, and examples: tests,
reference pages, gradient checks and capability tables are derived from these records.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, NamedTuple

import numpy as np

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, ShapeError
from symtensor_codegen.loops import Statement
from symtensor_codegen.scalar import Buffer, Dim, Scalar

from .graph import Params, Tensor, TensorLike, as_tensor, intern

Index = tuple[Scalar, ...]
At = Callable[[int, Index], Scalar]  # at(k, index): the value of input number k at an index
Inferred = tuple[DType, tuple[Dim, ...]]
Gradients = Sequence[Tensor | None]  # one per input; None where the result does not depend on it


@dataclass(frozen=True, slots=True)
class Domain:
    """Where test inputs are drawn from: uniformly in [low, high]."""

    low: float = -2.0
    high: float = 2.0


class Guard(NamedTuple):
    """What must hold about sizes before a call runs anything.

    ``message`` is a format string for the run-time ``values`` (``{0}``, ``{1}``); ``error`` is what is raised.
    """

    condition: Scalar
    message: str
    values: tuple[Dim, ...] = ()
    error: type[Exception] = ShapeError


@dataclass(frozen=True, slots=True)
class IndexMessage:
    """Why an index that comes from data is refused: ``index`` points outside of ``axis`` of ``tensor``."""

    tensor: Tensor
    axis: int
    index: Tensor


@dataclass(frozen=True, slots=True)
class ValueMessage:
    """Why an operation refuses a value that it met when it ran."""

    node: Tensor
    text: str


@dataclass(frozen=True, eq=False, kw_only=True)
class OpDef:
    """One operation on tensors.

    name, doc: as in the reference pages.
    infer: (inputs, params) -> (element type, sizes); raises ShapeError or DTypeError with a message for the user.
    reference: the NumPy meaning, called with the input arrays and the params as keywords.
    gradient: (output gradient, node) -> one gradient per input (None: does not depend on it). Built of tensors, so
        it is differentiable again. An op without one is not differentiable, and ``grad`` says so.
    pull: (node, at, index) -> the Scalar value of the output at an index.
    loops: (node, at, out) -> statements that fill the buffer ``out`` (sizes ``node.dims``): for what no pull can say
        well (cumulative ops, scatters, joins, compaction). ``at`` as in pull.
    overwrites: ``loops`` expects the elements of input 0 in ``out`` already, and changes some of them; the compiler
        copies input 0 there, or lets the output take over its memory where nobody else needs it.
    library: the name of the library step it is lowered to (``"gemm"``); the compiler refuses what a backend lacks.
    associative: more than two operands are combined from the left, as in ``add(a, b, c)``.
    alias: the output has the same elements in the same order as input 0, only other sizes (reshape).
    scalar: for elementwise ops, the Scalar meaning of one element, called with the operands and the params.
    guards: (node) -> what must hold of the sizes at run time and could not be decided when the node was built.
    sizes: (node) -> sizes that ``pull`` or ``loops`` use beside those of the inputs and the result (bounds of slices).
    cost: rough number of arithmetic operations per output element (decides what is worth computing twice).
    cases: (rng) -> iterable of (input arrays, params) to test with; elementwise ops derive theirs from ``domains``.
    """

    name: str
    doc: str = ""
    infer: Callable[[tuple[Tensor, ...], Params], Inferred]
    reference: Callable[..., Any] | None = None
    gradient: Callable[[Tensor, Tensor], Gradients] | None = None
    pull: Callable[[Tensor, At, Index], Scalar] | None = None
    loops: Callable[[Tensor, At, Buffer], tuple[Statement, ...]] | None = None
    overwrites: bool = False
    library: str | None = None
    associative: bool = False
    alias: bool = False
    scalar: Callable[..., Scalar] | None = None
    guards: Callable[[Tensor], Sequence[Guard]] | None = None
    sizes: Callable[[Tensor], Sequence[Dim]] | None = None
    cost: int = 1
    domains: tuple[Domain, ...] = ()
    cases: Callable[[np.random.Generator], Iterable[tuple[Sequence[Any], dict[str, Any]]]] | None = None
    category: str = ""
    tolerance: float = 4.0  # allowed difference from the reference, in units of the last place of the result's type
    convert: Callable[["OpDef", tuple[TensorLike, ...]], tuple[Tensor, ...]] | None = None

    def __post_init__(self) -> None:
        if self.name in OPS:
            raise AssertionError(f"two operations are called {self.name}")
        OPS[self.name] = self

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return op_named, (self.name,)

    def make(self, *inputs: Tensor, **params: Any) -> Tensor:
        """The node for inputs that are tensors already (the compiler's entrance)."""
        return intern(self, inputs, params, lambda: self.infer(inputs, params))

    def __call__(self, *inputs: TensorLike, **params: Any) -> Tensor:
        """Apply the operation; arguments are converted as in NumPy."""
        if self.associative and len(inputs) > 2:
            chained: Tensor = reduce(self, inputs)
            return chained
        if self.convert is not None:
            return self.make(*self.convert(self, inputs), **params)
        return self.make(*[as_tensor(i) for i in inputs], **params)

    @property
    def is_elementwise(self) -> bool:
        """Whether every output element depends only on the input elements at the same (broadcast) index."""
        return self.scalar is not None


OPS: Final[dict[str, OpDef]] = {}


def op_named(name: str) -> OpDef:
    """The operation with this name (for unpickling)."""
    from . import ops  # fills the table  # noqa: F401

    if name not in OPS:
        from .pickling import PickleError

        raise PickleError(f"a pickle uses the operation {name!r}, which this version does not have")
    return OPS[name]


# Leaves ---------------------------------------------------------------------------------------------------------


def _leaf_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    raise AssertionError("leaves are made by variable(), constant() and shared()")


INPUT: Final = OpDef(name="input", doc="An input variable.", infer=_leaf_infer, category="leaf")
CONSTANT: Final = OpDef(
    name="constant", doc="A value known when the program is built.", infer=_leaf_infer, category="leaf"
)
SHARED: Final = OpDef(
    name="shared", doc="A variable that keeps its value between calls.", infer=_leaf_infer, category="leaf"
)


# Sizes ----------------------------------------------------------------------------------------------------------


def dim_of(size: TensorLike) -> Dim:
    """A 0-d integer expression as a size: an int where constant, else a symbolic scalar.

    Sizes and arithmetic on sizes are looked through, so ``x.shape[0] * 2`` is an expression over the sizes of
    ``x``; any other expression becomes the symbol of its value, known once it has been computed.
    """
    if isinstance(size, (int, np.integer)):
        return int(size)
    if isinstance(size, Scalar):
        return scalar.as_dim(size)
    node = as_tensor(size)
    if node.ndim != 0 or node.element.kind not in "iub":
        raise DTypeError(f"a size must be an integer scalar, got {node.type}" + where(node))
    return scalar.as_dim(_size_scalar(node, 24))


def _size_scalar(node: Tensor, depth: int) -> Scalar:
    op = node.op
    if op is CONSTANT:
        return scalar.const(int(node.data), dtypes.int64)  # type: ignore[attr-defined]
    if op.name == "dim":
        return scalar.as_int(node.inputs[0].dims[node.params["axis"]])
    if depth and op.name == "cast" and node.inputs[0].element.is_integer and node.element.itemsize >= 4:
        return _size_scalar(node.inputs[0], depth - 1)
    if depth and op.scalar is not None and node.element is dtypes.int64 and op.name in _SIZE_OPS:
        return op.scalar(*[_size_scalar(i, depth - 1) for i in node.inputs])
    return scalar.symbol(("value", node), dtypes.int64)


_SIZE_OPS: Final = frozenset(("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum", "neg"))


def where(*tensors: Tensor) -> str:
    """`` (train.py:12)`` for an error message; empty where no source line is known."""
    sites = [t.site for t in tensors if t.site is not None]
    return f" ({', '.join(dict.fromkeys(sites))})" if sites else ""


def describe(tensor: Tensor) -> str:
    """A tensor in an error message: its name or operation, type and source line."""
    label = tensor.name or tensor.op.name
    return f"{label}: {tensor.type}{where(tensor)}"


# Elementwise operations ------------------------------------------------------------------------------------------


def broadcast_dims(name: str, inputs: Sequence[Tensor]) -> tuple[Dim, ...]:
    """Sizes of an elementwise result: sizes known to be 1 broadcast, ranks align at the right.

    Raises:
        ShapeError: where two sizes are known and differ.
    """
    shapes = [i.dims for i in inputs if i.dims]
    first = shapes[0] if shapes else ()
    if all(s == first for s in shapes[1:]):
        return first
    rank = max(len(s) for s in shapes)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        size: Dim = 1
        for shape in shapes:
            if len(shape) >= -axis:
                d = shape[axis]
                if d.__class__ is int:
                    if d == 1:
                        continue
                    if size.__class__ is int and size not in (1, d):
                        raise ShapeError(
                            f"{name}: sizes do not agree on axis {axis}: " + "; ".join(describe(i) for i in inputs)
                        )
                    size = d
                elif size.__class__ is int and size == 1:
                    size = d
        result.append(size)
    return tuple(result)


def aligned(value: Tensor, index: Index) -> Index:
    """The index at which an elementwise operand is read for the output index ``index``."""
    shape = value.type.shape
    rank = len(shape)
    at = index if rank == len(index) else index[len(index) - rank :]
    if 1 in shape:
        zero = scalar.const(0, dtypes.int64)
        return tuple([zero if size == 1 else i for size, i in zip(shape, at, strict=True)])
    return at


def pull_elementwise(node: Tensor, at: At, index: Index) -> Scalar:
    """The ``pull`` of every elementwise operation: its scalar meaning on the operands at the aligned indices."""
    assert node.op.scalar is not None
    values = [at(k, aligned(value, index)) for k, value in enumerate(node.inputs)]
    return node.op.scalar(*values, **node.params)


def elementwise(
    name: str,
    *,
    doc: str,
    scalar: Callable[..., Scalar],
    numpy: Callable[..., Any],
    arity: int,
    result: Callable[[DType], DType] = lambda d: d,
    accepts: str = "biufc",
    integer: str = "keep",
    gradient: Callable[..., Gradients] | None = None,
    domains: tuple[Domain, ...] = (),
    cost: int = 1,
    tolerance: float = 4.0,
    arithmetic: bool = False,
    counting: bool = False,
    associative: bool = False,
    check: Callable[..., None] | None = None,
    convert: Callable[[OpDef, tuple[TensorLike, ...]], tuple[Tensor, ...]] | None = None,
) -> OpDef:
    """Define an elementwise operation.

    Operands are cast to their common type first (``promoted``); ``integer`` says what happens to integers and bools:
    ``"keep"``, ``"float"`` to compute in floating point (as ``exp``), or ``"quotient"`` to do so in float64 whatever
    their width (floatX under Theano's policy). ``arithmetic`` ops count bools as int8 under Theano's policy,
    ``counting`` ones always.
    ``accepts`` lists the kinds the op takes after that. ``result`` gives the output type from the common type.
    ``gradient`` is called as ``gradient(g, *inputs, out)`` and returns one gradient per input, in the broadcast
    shape (sums over broadcast axes are added by ``grad``). ``check`` gets the operands and may refuse them.
    ``convert`` takes the place of the promotion to a common type.
    """

    def infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
        if len(inputs) != arity:
            raise TypeError(f"{name} takes {arity} arguments, got {len(inputs)}")
        common = inputs[0].element
        if common.kind not in accepts:
            raise DTypeError(f"{name} does not take {common}: " + "; ".join(describe(i) for i in inputs))
        if check is not None:
            check(*inputs)
        return result(common), broadcast_dims(name, inputs)

    def converted(op: OpDef, values: tuple[TensorLike, ...]) -> tuple[Tensor, ...]:
        if len(values) != arity:
            raise TypeError(f"{name} takes {arity} arguments, got {len(values)}")
        if convert is not None:
            return convert(op, values)
        return promoted(values, integer=integer, arithmetic=arithmetic, counting=counting, name=name)

    def pullback(g: Tensor, node: Tensor) -> Gradients:
        assert gradient is not None
        return gradient(g, *node.inputs, node)

    return OpDef(
        name=name, doc=doc, infer=infer, convert=converted, reference=numpy, pull=pull_elementwise, scalar=scalar,
        gradient=pullback if gradient is not None else None, domains=domains or (Domain(),) * arity, cost=cost,
        category="elementwise", tolerance=tolerance, associative=associative,
    )  # fmt: skip


def promoted(
    values: Sequence[TensorLike],
    *,
    integer: str = "keep",
    arithmetic: bool = False,
    counting: bool = False,
    name: str = "",
) -> tuple[Tensor, ...]:
    """Operands as tensors of one common element type (explicit casts are inserted).

    ``integer``, ``arithmetic`` and ``counting`` are as in ``elementwise``.

    Python numbers are weak under the default policy: they take the type of the tensors they meet, as in NumPy 2.
    """
    from .promotion import common_type

    values = [as_tensor(value) if isinstance(value, (list, tuple)) else value for value in values]
    common = common_type(values, integer=integer, arithmetic=arithmetic, counting=counting, name=name)
    return tuple([_as(value, common) for value in values])


def _as(value: TensorLike, element: DType) -> Tensor:
    if isinstance(value, Tensor):
        return value if value.element is element else OPS["cast"].make(value, dtype=element)
    return as_tensor(np.asarray(value).astype(element.numpy))


__all__ = [
    "CONSTANT", "INPUT", "OPS", "SHARED", "At", "Domain", "Gradients", "Guard", "Index",
    "IndexMessage", "Inferred",
    "OpDef", "ValueMessage", "aligned", "broadcast_dims", "describe", "dim_of", "elementwise", "op_named", "promoted",
    "pull_elementwise", "where",
]  # fmt: skip
