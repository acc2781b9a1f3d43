"""Operators and methods of tensors, as NumPy arrays and Theano's variables have them.

Each one calls the operation of the same meaning; the operations are imported when first used, because they
are defined in terms of tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from symtensor_codegen.errors import UserError

from .elementwise_methods import ElementwiseMethods

if TYPE_CHECKING:
    from .graph import Tensor
    from .opdef import OpDef
    from .types import TensorType


def _op(name: str, *values: Any) -> "Tensor":
    from .opdef import OPS

    return OPS[name](*values)


def _call(module: str, name: str, *values: Any, **named: Any) -> "Tensor":
    made: Tensor = getattr(import_module(f"symtensor.ops.{module}"), name)(*values, **named)
    return made


class TruthError(UserError, TypeError):
    """A symbolic expression was used where Python needs a value now."""


class _Operators:
    """Python's operators; ``==`` and ``!=`` compare identity (elementwise: ``eq`` and ``neq``)."""

    def __add__(self, other: Any) -> "Tensor":
        return _op("add", self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return _op("add", other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return _op("sub", self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return _op("sub", other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return _op("mul", self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return _op("mul", other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return _op("true_div", self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _op("true_div", other, self)

    def __floordiv__(self, other: Any) -> "Tensor":
        return _op("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> "Tensor":
        return _op("floordiv", other, self)

    def __mod__(self, other: Any) -> "Tensor":
        return _op("mod", self, other)

    def __rmod__(self, other: Any) -> "Tensor":
        return _op("mod", other, self)

    def __divmod__(self, other: Any) -> "tuple[Tensor, Tensor]":
        return _op("floordiv", self, other), _op("mod", self, other)

    def __rdivmod__(self, other: Any) -> "tuple[Tensor, Tensor]":
        return _op("floordiv", other, self), _op("mod", other, self)

    def __pow__(self, other: Any) -> "Tensor":
        if type(other) is int and other == 2 and self.dtype == "bool":  # type: ignore[attr-defined]
            return _op("sqr", self)  # NumPy's x**2 is its square, in int8
        return _op("pow", self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return _op("pow", other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return _call("linalg", "matmul", self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return _call("linalg", "matmul", other, self)

    def __neg__(self) -> "Tensor":
        return _op("neg", self)

    def __pos__(self) -> "Tensor":
        return self  # type: ignore[return-value]

    def __abs__(self) -> "Tensor":
        return _op("abs", self)

    def __invert__(self) -> "Tensor":
        return _op("invert", self)

    def __and__(self, other: Any) -> "Tensor":
        return _op("bitwise_and", self, other)

    def __rand__(self, other: Any) -> "Tensor":
        return _op("bitwise_and", other, self)

    def __or__(self, other: Any) -> "Tensor":
        return _op("bitwise_or", self, other)

    def __ror__(self, other: Any) -> "Tensor":
        return _op("bitwise_or", other, self)

    def __xor__(self, other: Any) -> "Tensor":
        return _op("bitwise_xor", self, other)

    def __rxor__(self, other: Any) -> "Tensor":
        return _op("bitwise_xor", other, self)

    def __lshift__(self, other: Any) -> "Tensor":
        return _op("left_shift", self, other)

    def __rlshift__(self, other: Any) -> "Tensor":
        return _op("left_shift", other, self)

    def __rshift__(self, other: Any) -> "Tensor":
        return _op("right_shift", self, other)

    def __rrshift__(self, other: Any) -> "Tensor":
        return _op("right_shift", other, self)

    def __lt__(self, other: Any) -> "Tensor":
        return _op("lt", self, other)

    def __le__(self, other: Any) -> "Tensor":
        return _op("le", self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return _op("gt", self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return _op("ge", self, other)

    def __bool__(self) -> bool:
        raise TruthError(
            f"{self!r} has no truth value before the program runs: use switch(condition, a, b) to choose "
            "between values, & and | instead of 'and' and 'or', or .eval() to compute it now"
        )

    def __getitem__(self, key: Any) -> "Tensor":
        return _call("indexing", "getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("expressions do not change: write y = set_subtensor(x[key], value)")


class TensorMethods(_Operators, ElementwiseMethods):
    """Mixed into Tensor."""

    __array_priority__ = 1000

    if TYPE_CHECKING:
        op: OpDef
        inputs: tuple[Tensor, ...]
        type: TensorType
        dims: tuple[Any, ...]
        name: str | None

    # NumPy's functions on tensors --------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        """``np.exp(x)``, ``array + x``: the operation of the same name."""
        from .numpy_functions import apply_ufunc

        return apply_ufunc(ufunc, method, inputs, named)

    def __array_function__(self, function: Callable[..., Any], types: Any, values: Any, named: Any) -> Any:
        """``np.dot(x, y)``, ``np.sum(x)``: the function of the same name."""
        from .numpy_functions import apply_function

        return apply_function(function, values, named)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Any:
        raise TruthError(f"{self!r} has no value before the program runs: it does not convert to an array")

    # Facts -------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> str:
        """Name of the element type."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.dims)

    @property
    def broadcastable(self) -> tuple[bool, ...]:
        """For each axis, whether its size is known to be 1."""
        return self.type.broadcastable

    @property
    def shape(self) -> "Tensor":
        """The sizes, an int64 vector of known length: ``rows, columns = x.shape`` works."""
        return _call("shaping", "shape", self)

    @property
    def size(self) -> "Tensor":
        """Number of elements (int64)."""
        return _call("shaping", "size", self)

    def __len__(self) -> int:
        raise TruthError(
            f"the length of {self!r} is not known before the program runs: use x.shape[0], or len(x.eval())"
        )

    def __iter__(self) -> "Iterator[Tensor]":
        length = self.dims[0] if self.dims else None
        if not isinstance(length, int):
            raise TruthError(
                f"{self!r} cannot be iterated: the length of its first axis is not known yet"
                if self.dims
                else f"{self!r} has no axes to iterate over"
            )
        return iter([self[k] for k in range(length)])

    def __contains__(self, value: object) -> bool:
        raise TruthError(
            f"whether {self!r} contains a value is not known before the program runs: use any(eq(x, v))"
        )

    def __float__(self) -> float:
        raise TruthError(f"{self!r} has no value before the program runs: use .eval(), or cast(x, 'float64')")

    def __int__(self) -> int:
        raise TruthError(f"{self!r} has no value before the program runs: use .eval(), or cast(x, 'int64')")

    def __index__(self) -> int:
        raise TruthError(
            f"{self!r} has no value before the program runs: a symbolic size cannot be used here"
        )

    def __copy__(self) -> "Tensor":
        return self  # type: ignore[return-value]

    # Elementwise -------------------------------------------------------------------------------------------

    def astype(self, dtype: object) -> "Tensor":
        """The values converted to another element type."""
        return _call("casting", "cast", self, dtype)

    def copy(self, name: str | None = None) -> "Tensor":
        """The same values as another expression."""
        made = _op("identity", self)
        made.name = name
        return made

    def clip(self, a_min: Any, a_max: Any) -> "Tensor":
        """The values moved into [a_min, a_max]."""
        return _call("elementwise", "clip", self, a_min, a_max)

    def round(self, mode: str | None = None) -> "Tensor":
        """The nearest whole number; halves to the even one (or ``mode="half_away_from_zero"``)."""
        return _call("elementwise_math", "round", self, mode)

    def conj(self) -> "Tensor":
        """Complex conjugate."""
        return _call("complex_numbers", "conj", self)

    conjugate = conj

    @property
    def real(self) -> "Tensor":
        """Real part."""
        return _call("complex_numbers", "real", self)

    @property
    def imag(self) -> "Tensor":
        """Imaginary part."""
        return _call("complex_numbers", "imag", self)

    def zeros_like(self, dtype: object = None) -> "Tensor":
        """Zeros of the same sizes."""
        return _call("creation", "zeros_like", self, dtype)

    def ones_like(self, dtype: object = None) -> "Tensor":
        """Ones of the same sizes."""
        return _call("creation", "ones_like", self, dtype)

    def fill(self, value: Any) -> "Tensor":
        """The value in an array of the same sizes."""
        return _call("creation", "full_like", self, value)

    # Reductions --------------------------------------------------------------------------------------------

    def sum(
        self, axis: Any = None, dtype: object = None, keepdims: bool = False, acc_dtype: object = None
    ) -> "Tensor":
        """Sum over the axes."""
        return _call("reduction", "sum", self, axis, dtype=dtype, keepdims=keepdims, acc_dtype=acc_dtype)

    def prod(
        self, axis: Any = None, dtype: object = None, keepdims: bool = False, acc_dtype: object = None
    ) -> "Tensor":
        """Product over the axes."""
        return _call("reduction", "prod", self, axis, dtype=dtype, keepdims=keepdims, acc_dtype=acc_dtype)

    def mean(
        self, axis: Any = None, dtype: object = None, keepdims: bool = False, acc_dtype: object = None
    ) -> "Tensor":
        """Mean over the axes."""
        return _call("reduction", "mean", self, axis, dtype=dtype, keepdims=keepdims, acc_dtype=acc_dtype)

    def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> "Tensor":
        """Variance over the axes."""
        return _call("reduction", "var", self, axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> "Tensor":
        """Standard deviation over the axes."""
        return _call("reduction", "std", self, axis, ddof=ddof, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Largest value over the axes."""
        return _call("reduction", "max", self, axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Smallest value over the axes."""
        return _call("reduction", "min", self, axis, keepdims=keepdims)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Position of the largest value, the first at ties."""
        return _call("reduction", "argmax", self, axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Position of the smallest value, the first at ties."""
        return _call("reduction", "argmin", self, axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Whether a value over the axes is not zero."""
        return _call("reduction", "any", self, axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Whether no value over the axes is zero."""
        return _call("reduction", "all", self, axis, keepdims=keepdims)

    def ptp(self, axis: Any = None) -> "Tensor":
        """Largest minus smallest value over the axis."""
        return _call("reduction", "ptp", self, axis)

    def norm(self, L: Any = 2, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The L-norm over the axes."""
        return _call("reduction", "norm", self, L, axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> "Tensor":
        """Cumulative sum along the axis."""
        return _call("cumulative", "cumsum", self, axis)

    def cumprod(self, axis: int | None = None) -> "Tensor":
        """Cumulative product along the axis."""
        return _call("cumulative", "cumprod", self, axis)

    # Shapes ------------------------------------------------------------------------------------------------

    @property
    def T(self) -> "Tensor":
        """All axes reversed."""
        return _call("shaping", "transpose", self)

    @property
    def mT(self) -> "Tensor":
        """The last two axes exchanged."""
        return _call("shaping", "swapaxes", self, -1, -2)

    def transpose(self, *axes: Any) -> "Tensor":
        """The axes in another order; reversed without arguments."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return _call("shaping", "transpose", self, order)

    def swapaxes(self, axis1: int, axis2: int) -> "Tensor":
        """Two axes exchanged."""
        return _call("shaping", "swapaxes", self, axis1, axis2)

    def dimshuffle(self, *pattern: Any) -> "Tensor":
        """The axes in another order, with ``"x"`` for new axes of size 1."""
        return _call("shaping", "dimshuffle", self, *pattern)

    def reshape(self, *shape: Any, ndim: int | None = None) -> "Tensor":
        """The same elements with other sizes; one may be -1. Takes a sequence, or the sizes one by one."""
        one = len(shape) == 1 and not isinstance(shape[0], int) and getattr(shape[0], "ndim", 1) != 0
        return _call("shaping", "reshape", self, shape[0] if one else shape, ndim=ndim)

    def flatten(self, ndim: int = 1) -> "Tensor":
        """The last axes joined into one, so that ``ndim`` are left."""
        return _call("shaping", "flatten", self, ndim)

    def ravel(self) -> "Tensor":
        """All axes joined into one."""
        return _call("shaping", "flatten", self, 1)

    def squeeze(self, axis: Any = None) -> "Tensor":
        """Without axes of size 1."""
        return _call("shaping", "squeeze", self, axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> "Tensor":
        """Each element several times along the axis."""
        return _call("joining", "repeat", self, repeats, axis)

    # Elements ----------------------------------------------------------------------------------------------

    def take(self, indices: Any, axis: int | None = None, mode: str = "raise") -> "Tensor":
        """The elements at these positions of the axis."""
        return _call("indexing", "take", self, indices, axis, mode)

    def choose(self, choices: Any, mode: str = "raise") -> "Tensor":
        """For each element, the choice it numbers."""
        return _call("indexing", "choose", self, choices, mode)

    def compress(self, condition: Any, axis: int | None = None) -> "Tensor":
        """The elements where the vector of conditions holds."""
        return _call("indexing", "compress", condition, self, axis)

    def nonzero(self, return_matrix: bool = False) -> Any:
        """Positions of the elements that are not zero: one index vector an axis."""
        return _call("indexing", "nonzero", self, return_matrix)

    def nonzero_values(self) -> "Tensor":
        """The elements that are not zero, in a vector."""
        return _call("indexing", "nonzero_values", self)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> "Tensor":
        """The diagonal of two axes, as the last axis."""
        return _call("indexing", "diagonal", self, offset, axis1, axis2)

    def trace(self) -> "Tensor":
        """Sum of the diagonal."""
        return _call("linalg", "trace", self)

    def dot(self, other: Any) -> "Tensor":
        """Theano's product: of vectors a number, of matrices the matrix product."""
        return _call("linalg", "dot", self, other)

    # Graphs and values -------------------------------------------------------------------------------------

    @property
    def owner(self) -> Any:
        """The operation and its inputs as Theano shows them; None for variables and constants."""
        from .apply import owner

        return owner(self)  # type: ignore[arg-type]

    def eval(self, inputs_to_values: Mapping[Any, Any] | None = None) -> Any:
        """Its value now, for values of the inputs it depends on: ``y.eval({x: 2})``, or by name ``y.eval({"x": 2})``.

        What is compiled for it is kept for the next time. ``symtensor.function`` is for anything called often.
        """
        from .functions import evaluated

        return evaluated(self, inputs_to_values or {})  # type: ignore[arg-type]

    def clone(self, name: str | None = None) -> "Tensor":
        """A new input variable of this type; constants and shared variables are themselves."""
        if not self.inputs and self.op.name in ("constant", "shared"):
            return self  # type: ignore[return-value]
        return self.type(name or self.name)

    def get_scalar_constant_value(self) -> Any:
        """The number, where the expression is a constant."""
        from .constants import get_scalar_constant_value

        return get_scalar_constant_value(self)
