"""Random programs: lists of small instructions, each of which adds a tensor to a pool if it can.

An instruction is a verb and a few small numbers, which pick operands from the pool and options of the operation.
Every list of instructions is a program (what does not fit is skipped), so a failing one shrinks by leaving
instructions out. Sizes come from a few names, so a program can run with other sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import symtensor
import symtensor.tensor as T
from symtensor.graph import Tensor
from symtensor.types import TensorType
from symtensor_codegen.errors import UserError

from .rounding import Exact

Array = npt.NDArray[Any]
Instruction = tuple[str, tuple[int, ...]]

FLOATS = ("float64", "float32", "float64", "float16")
INTEGERS = ("int64", "int32", "int8", "uint8", "int16", "uint32", "uint64", "uint16")
OTHERS = ("bool", "complex128", "complex64")
SIZES = ((3, 5, 1, 2), (1, 17, 2, 0), (4, 1, 7, 3), (33, 2, 1, 5))  # of the named sizes, one row a call
LARGEST = 4000  # elements of one tensor
BOUND = 1e3  # of numbers in the pool


@dataclass
class Leaf:
    """An input or shared variable with the names of its sizes (negative: that many, known when built)."""

    variable: Tensor
    axes: tuple[int, ...]
    seed: int
    special: bool  # whether some elements are NaN or infinite
    is_index: bool = False

    def value(self, sizes: Sequence[int]) -> Array:
        shape = tuple(-a if a < 0 else sizes[a] for a in self.axes)
        rng = np.random.default_rng([self.seed, *shape])
        dtype = self.variable.element.numpy
        if self.is_index:
            return np.asarray(rng.integers(-1, 1, size=shape)).astype(dtype)
        if dtype.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        if dtype.kind in "iu":
            return np.asarray(rng.integers(0 if dtype.kind == "u" else -6, 7, size=shape)).astype(dtype)
        values = rng.integers(-16, 17, size=shape) / 8
        if self.special:
            values = np.where(rng.random(shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf, -0.0], shape), values)
        if dtype.kind == "c":
            values = values + 1j * (rng.integers(-16, 17, size=shape) / 8)
        return np.asarray(values).astype(dtype)


@dataclass
class Program:
    """Leaves, a pool of tensors over them, and their values for the first row of sizes."""

    sizes: tuple[int, ...]
    leaves: list[Leaf] = field(default_factory=list)
    pool: list[Tensor] = field(default_factory=list)
    special: bool = False

    def __post_init__(self) -> None:
        self.values = Exact({})

    # Picking ---------------------------------------------------------------------------------------------------

    def pick(self, number: int, kinds: str = "biufc", least: int = 0, most: int = 5) -> Tensor | None:
        """The tensor ``number`` places before the end of the pool, of those that suit."""
        suited = [t for t in self.pool if t.element.kind in kinds and least <= t.ndim <= most]
        return suited[-1 - number % len(suited)] if suited else None

    def partner(self, x: Tensor, number: int, kinds: str = "") -> Tensor | None:
        """A tensor that ``x`` can be combined with element by element."""
        kinds = kinds or x.element.kind
        suited = [t for t in self.pool if t.element.kind in kinds and self._fits(x, t)]
        return suited[-1 - number % len(suited)] if suited else None

    def _fits(self, a: Tensor, b: Tensor) -> bool:
        pairs = zip(
            reversed(list(zip(a.type.shape, self.shape(a), strict=True))),
            reversed(list(zip(b.type.shape, self.shape(b), strict=True))),
            strict=False,
        )
        return all(p == q or s == 1 or t == 1 for (s, p), (t, q) in pairs)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return self.values.value(x).shape

    def is_exact(self, x: Tensor) -> bool:
        self.values.value(x)
        return x in self.values.exact or x.element.kind not in "fc"

    # Growing ---------------------------------------------------------------------------------------------------

    def add(self, made: Tensor | None) -> None:
        """Put a tensor into the pool, unless its value is too large or cannot be computed."""
        if made is None or made in self.pool:
            return
        try:
            value = self.values.value(made)
        except (UserError, ValueError, IndexError):
            return
        if value.size > LARGEST or made.ndim > 5:
            return
        if value.dtype.kind in "fc":
            with np.errstate(all="ignore"):
                size = np.abs(value)
            largest = 100.0 if value.dtype == np.float16 else BOUND
            if not self.special and not bool((size <= largest).all()):
                return
        self.pool.append(made)

    def run(self, instruction: Instruction) -> None:
        verb, numbers = instruction
        try:
            made = VERBS[verb](self, *numbers)
        except (UserError, ValueError, TypeError, IndexError, NotImplementedError):
            return  # the operation does not take these operands
        for each in made if isinstance(made, (list, tuple)) else [made]:
            self.add(each)


# Leaves -----------------------------------------------------------------------------------------------------------


def leaf(
    program: Program, dtype: str, axes: Sequence[int], seed: int, is_shared: bool, is_index: bool = False
) -> Tensor:
    """A new variable; axis name 2 or -1 is a size known to be 1."""
    sizes = tuple(-a if a < 0 else None for a in axes)
    made = Leaf(TensorType(dtype, sizes)(f"x{len(program.leaves)}"), tuple(axes), seed, program.special, is_index)
    if is_shared:
        value = made.value(program.sizes)
        made.variable = symtensor.shared(value, name=f"s{len(program.leaves)}", shape=sizes)
    program.leaves.append(made)
    value = made.value(program.sizes)
    program.values.values[made.variable] = value
    program.values.exact.add(made.variable)
    program.pool.append(made.variable)
    return made.variable


def _axes(a: int, b: int) -> list[int]:
    """Up to four names of sizes."""
    rank = (1, 2, 2, 1, 3, 0, 4, 2)[a % 8]
    return [(0, 1, -1, 0, 1, 2, 3, -1, -2)[(b // 9**k) % 9] for k in range(rank)]


def _float(p: Program, a: int, b: int, c: int) -> None:
    leaf(p, FLOATS[c % 4], _axes(a, b), a + b, bool(c // 4 % 3 == 0))


def _integer(p: Program, a: int, b: int, c: int) -> None:
    leaf(p, INTEGERS[c % 8], _axes(a, b), a + b, bool(c // 8 % 4 == 0))


def _other(p: Program, a: int, b: int, c: int) -> None:
    leaf(p, OTHERS[c % 3], _axes(a, b), a + b, bool(c // 3 % 4 == 0))


def _constant(p: Program, a: int, b: int, c: int) -> Tensor:
    dtype = (FLOATS + INTEGERS)[c % 12]
    return symtensor.tensor.as_tensor(Leaf(TensorType(dtype, ())(), (), a, False).value(p.sizes) + b % 3)


# Elementwise ------------------------------------------------------------------------------------------------------


def _signed(x: Tensor) -> Tensor:
    """``x`` with a sign that means something: rules that move switches may change that of zero, any that of NaN."""
    return T.switch(T.isnan(x) | T.eq(x, 0), 1, x)


def _zero(x: Tensor) -> Tensor:
    """``x`` with a positive zero, for functions that tell the zeros apart: sums and rules may change their sign."""
    return T.switch(T.eq(x, 0), 0, x)


def _copysign(x: Tensor, y: Tensor) -> Tensor:
    return T.copysign(x, _signed(y))


def _signbit(x: Tensor) -> Tensor:
    return T.signbit(_signed(x))


SMOOTH: tuple[Callable[..., Any], ...] = (
    T.tanh, T.exp, T.nnet.sigmoid, T.sin, T.cos, T.nnet.softplus, T.sqr, lambda x: T.log(1 + x * x), T.erf, T.arctan,
    lambda x: T.sqrt(T.abs(x) + 0.5), lambda x: T.log1p(T.exp(x)), T.expm1, lambda x: 1 / (1 + T.exp(-x)), T.sinh,
    lambda x: x**3, lambda x: 2 / (3 + x * x), T.arcsinh, T.neg, T.abs, T.nnet.relu, T.nnet.elu,
    lambda x: _zero(x) ** -0.5, lambda x: T.log(x), lambda x: T.reciprocal(_zero(x)), T.sqrt,
    lambda x: -T.log(T.nnet.sigmoid(x)), T.exp2, T.cosh, T.log2, T.erfc,
)  # fmt: skip
DISCRETE: tuple[Callable[..., Any], ...] = (
    T.floor, T.ceil, T.trunc, T.sign, T.round, T.isnan, T.isinf, lambda x: x > 0, lambda x: T.cast(x, "bool"),
    lambda x: T.eq(x, 0.5), _signbit, T.sgn,
)  # fmt: skip
ON_INTEGERS: tuple[Callable[..., Any], ...] = (
    T.neg, T.abs, T.sqr, T.invert, T.sign, T.sqrt, T.exp, lambda x: x // 3, lambda x: x % 4, lambda x: x > 2,
    lambda x: x << 1, T.cos, lambda x: 1 / (2 + x * x), lambda x: x & 5, lambda x: x * 2.5, lambda x: 3 - x,
    lambda x: x // (x * 0), lambda x: -7 % x,
)  # fmt: skip
ON_COMPLEX: tuple[Callable[..., Any], ...] = (
    T.conj, T.real, T.imag, T.abs, T.exp, T.neg, T.sqr, T.angle, lambda x: 1 / (3 + x), T.sqrt, T.sin, T.tanh,
)  # fmt: skip
BINARY: tuple[Callable[..., Any], ...] = (
    T.add, T.mul, T.sub, T.maximum, T.minimum, lambda x, y: x / (2 + T.abs(y)), lambda x, y: x - 2 * y,
    lambda x, y: T.arctan2(_zero(x), _zero(y)), lambda x, y: x * y + x, T.logaddexp, T.hypot,
    lambda x, y: T.switch(x > 0, x, y), T.fmax, lambda x, y: x / _zero(y), lambda x, y: (T.abs(x) + 0.5) ** y,
    _copysign,
)  # fmt: skip
BINARY_DISCRETE: tuple[Callable[..., Any], ...] = (
    T.lt, T.ge, T.eq, T.neq, T.floor_div, T.mod, T.floor_div, T.fmod, lambda x, y: T.isclose(x, y), T.heaviside,
)  # fmt: skip
BINARY_INTEGERS: tuple[Callable[..., Any], ...] = (
    T.add, T.mul, T.sub, T.maximum, T.minimum, T.floor_div, T.mod, T.and_, T.or_, T.xor, T.lt, T.eq, T.true_div,
    T.left_shift, T.right_shift, T.gcd, lambda x, y: x ** T.cast(T.abs(y) % 4, x.dtype), T.lcm, T.fmod,
)  # fmt: skip


def _unary(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    if x is None:
        return None
    kind = x.element.kind
    if kind == "f":
        if c % 4 == 0 and p.is_exact(x):
            return DISCRETE[b % len(DISCRETE)](x)
        return SMOOTH[b % len(SMOOTH)](x)
    table = {"c": ON_COMPLEX, "b": (T.invert, lambda x: T.cast(x, "float64"))}.get(kind, ON_INTEGERS)
    return table[b % len(table)](x)


def _binary(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    y = None if x is None else p.partner(x, b, "" if c % 3 else "biuf")
    if x is None or y is None:
        return None
    kinds = {x.element.kind, y.element.kind}
    if kinds <= set("iub"):
        return BINARY_INTEGERS[c % len(BINARY_INTEGERS)](x, y)
    if "c" in kinds:
        return BINARY[c % 3](x, y)
    if c % 4 == 0 and p.is_exact(x) and p.is_exact(y):
        return BINARY_DISCRETE[c // 4 % len(BINARY_DISCRETE)](x, y)
    return BINARY[c % len(BINARY)](x, y)


def _switch(p: Program, a: int, b: int, c: int) -> Any:
    condition = p.pick(a, "b")
    x = None if condition is None else p.partner(condition, b, "iuf")
    y = None if x is None else p.partner(x, c, "iuf")
    return None if condition is None or y is None else T.switch(condition, x, y)


def _cast(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    if x is None:
        return None
    target = (*FLOATS, *INTEGERS, "complex128", "bool")[b % 14]
    if x.element.kind in "fc" and target not in FLOATS[:2]:
        if not p.is_exact(x) or x.element.kind == "c":
            return None
        if p.special and target[0] in "iu":  # which integer NaN and infinity become depends on the processor
            x = T.switch(T.isnan(x) | T.isinf(x), 0, x)
        x = T.abs(x) if target[0] == "u" else x
    return T.cast(x, target)


# Reductions -------------------------------------------------------------------------------------------------------

REDUCTIONS: tuple[Callable[..., Any], ...] = (T.sum, T.mean, T.max, T.min, T.prod, T.logsumexp, T.var, T.std)


def _some_axes(x: Tensor, number: int) -> Any:
    if number % 3 == 0 or x.ndim == 0:
        return None
    if number % 3 == 1:
        return number // 3 % x.ndim
    return tuple(k for k in range(x.ndim) if number // 3 >> k & 1) or -1


def _reduce(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    if x is None:
        return None
    axis, keep = _some_axes(x, b), bool(c % 2)
    if x.element.kind == "b":
        return (T.any, T.all, T.sum)[c // 2 % 3](x, axis=axis, keepdims=keep)
    if x.element.kind == "c":
        return (T.sum, T.mean)[c // 2 % 2](x, axis=axis, keepdims=keep)
    return REDUCTIONS[c // 2 % len(REDUCTIONS)](x, axis=axis, keepdims=keep)


def _argument(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, "iuf", least=1)
    if x is None or not p.is_exact(x):
        return None
    axis = None if b % 4 == 0 else b % x.ndim
    return (T.argmax, T.argmin)[c % 2](x, axis=axis, keepdims=bool(c // 2 % 2))


def _row_function(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, "f", least=1)
    if x is None:
        return None
    return (T.nnet.softmax, T.nnet.log_softmax, T.cumsum, T.cumprod)[c % 4](x, axis=b % x.ndim)


# Moving -----------------------------------------------------------------------------------------------------------


def _slice(p: Program, number: int) -> slice:
    bounds: list[Any] = [None, 0, 1, -1, 2, -2, None, 5, -7]
    small = p.pick(number, "iu", most=0)
    if small is not None and number % 7 == 0:
        bounds[5] = small
    step = (1, 1, 2, -1, -2, 3)[number % 6]
    return slice(bounds[number // 6 % 9], bounds[number // 54 % 9], step)


def _index(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    if x is None:
        return None
    key: list[Any] = []
    for axis in range(x.ndim):
        number = b // 5**axis
        small = p.pick(number, "iu", most=0)
        if number % 5 == 0:
            key.append(0 if c % 2 else -1)
        elif number % 5 == 1 and small is not None and c % 3 == 0:
            key.append(small)
        else:
            key.append(_slice(p, c + 17 * number))
        if (c + axis) % 6 == 5:
            key.append(None)
    return x[tuple(key[: 1 + c % (1 + len(key))])]


def _gather(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    if x is None:
        return None
    indices = [le.variable for le in p.leaves if le.is_index] or [T.as_tensor(np.array([0, -1, 0]))]
    key: list[Any] = [slice(None)] * x.ndim
    key[b % x.ndim] = indices[b % len(indices)]
    if c % 3 == 0:
        key[c % x.ndim] = indices[c % len(indices)]
    elif c % 3 == 1:
        key[c % x.ndim] = _slice(p, c)
    return x[tuple(key)]


def _mask(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    condition = None if x is None else p.pick(b, "b", least=1, most=x.ndim)
    return None if x is None or condition is None else x[condition]


def _write(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, "iufc", least=1)
    if x is None:
        return None
    part = _index(p, a, b, c) if c % 2 else _gather(p, a, b, c)
    if not isinstance(part, Tensor) or part.op.name not in ("subtensor", "advanced_subtensor"):
        return None
    p.add(part)
    value = p.partner(part, b, x.element.kind) if part in p.pool else None
    if value is None or value.element is not part.element or value.ndim > part.ndim:
        value = T.as_tensor(np.asarray(c % 5, part.element.numpy))
    if part.op.name == "advanced_subtensor" and value.ndim:  # which of several equal places wins is not defined
        return T.inc_subtensor(part, value)
    return (T.set_subtensor, T.inc_subtensor)[c // 2 % 2](part, value)


def _shuffle(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    if x is None:
        return None
    order: list[Any] = list(np.random.default_rng(b).permutation(x.ndim))
    order = [int(k) for k in order]
    if c % 3 == 0:
        order.insert(c % (1 + x.ndim), "x")
    if c % 4 == 1:
        order = [k for k in order if k == "x" or x.type.shape[k] != 1]
    return x.dimshuffle(*order)


def _reshape(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a)
    if x is None:
        return None
    shape: list[Any] = [x.shape[k] for k in range(x.ndim)] if c % 2 else list(p.shape(x))
    if c % 5 == 0 or x.ndim < 2:
        return x.flatten() if c % 3 else x.reshape((-1,))
    if c % 5 == 1:
        return x.reshape((*shape[:-2], shape[-2] * shape[-1]))
    if c % 5 == 2:
        return x.reshape((-1, shape[b % x.ndim]))
    if c % 5 == 3:
        return x.reshape((shape[-1], *shape[:-1]))
    return x.reshape((*shape[: b % x.ndim], -1, 1, *shape[b % x.ndim + 1 :]))


def _join(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    if x is None:
        return None
    others = [t for t in p.pool if t.ndim == x.ndim and t.element.kind == x.element.kind]
    y = others[b % len(others)]
    if c % 3 == 0:
        return T.stack([x, y, x], axis=c % (x.ndim + 1))
    if c % 3 == 1:
        return T.concatenate([x, y], axis=c % x.ndim)
    return T.split(x, [1, x.shape[c % x.ndim] - 1], 2, axis=c % x.ndim)


def _product(p: Program, a: int, b: int, c: int) -> Any:
    kinds = "fc" if c % 4 else "iuf"
    x = p.pick(a, kinds, least=1, most=3)
    if x is None or p.special:  # BLAS leaves out what is multiplied by zero, even NaN
        return None
    sizes = p.shape(x)
    suited = [t for t in p.pool if t.element.kind in kinds and 1 <= t.ndim <= 3]
    y = suited[b % len(suited)]
    if x.ndim == 2 and y.ndim == 2 and sizes[1] != p.shape(y)[0]:
        x, y = (x, y.T) if sizes[1] == p.shape(y)[1] else (x.T, y) if sizes[0] == p.shape(y)[0] else (x, x.T)
    if x.ndim == 3 and y.ndim == 3:
        return T.batched_dot(x, y if sizes[2] == p.shape(y)[1] else x.dimshuffle(0, 2, 1))
    if c % 5 == 0:
        return T.tensordot(x, y, axes=1)
    return T.dot(x, y) if x.ndim < 3 and y.ndim < 3 else T.matmul(x, y)


def _outer(p: Program, a: int, b: int, c: int) -> Any:
    x, y = p.pick(a, "f", 1, 1), p.pick(b, "f", 1, 1)
    return None if x is None or y is None else T.outer(x, y)


def _rearrange(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    if x is None:
        return None
    axis = b % x.ndim
    choices: tuple[Callable[[], Any], ...] = (
        lambda: T.roll(x, b % 5 - 2, axis=axis), lambda: T.repeat(x, b % 3 + 1, axis=axis),
        lambda: T.tile(x, (2,) + (1,) * (x.ndim - 1)), lambda: T.flip(x, axis), lambda: T.pad(x, ((1, 2),) * x.ndim),
        lambda: T.pad(x, ((1, 1),) * x.ndim, mode="edge"), lambda: T.diag(x) if x.ndim < 3 else None,
        lambda: T.zeros_like(x) + 1, lambda: T.take(x, T.as_tensor([0, -1]), axis=axis), lambda: T.diff(x, axis=axis),
        lambda: T.tril(x) if x.ndim == 2 else None, lambda: T.eye(x.shape[0], x.shape[-1]),
        lambda: T.arange(x.shape[axis]), lambda: T.broadcast_to(x, (2, *[x.shape[k] for k in range(x.ndim)])),
        lambda: T.alloc(x, 2, *[x.shape[k] for k in range(x.ndim)]), lambda: x.nonzero()[0] if p.is_exact(x) else None,
    )  # fmt: skip
    return choices[c % len(choices)]()


def _sizes_of(p: Program, a: int, b: int, c: int) -> Any:
    x = p.pick(a, least=1)
    if x is None:
        return None
    return (x.shape, x.shape[b % x.ndim], x.size, x.shape[b % x.ndim] * 2 - 1)[c % 4]


def _index_leaf(p: Program, a: int, b: int, c: int) -> None:
    axes = _axes(a % 3, b)[:2]
    leaf(p, "int64" if c % 2 else "int32", axes, a + b, False, is_index=True)


def _gradient(p: Program, a: int, b: int, c: int) -> Any:
    if p.special:  # a gradient's formula for infinities is not the derivative
        return None
    cost = p.pick(a, "f")
    floats = [t for t in p.pool if t.element.kind == "f" and t is not cost]
    if cost is None or not floats:
        return None
    wrt = [floats[-1 - b % len(floats)], floats[-1 - c % len(floats)]]
    wrt = list(dict.fromkeys(wrt))
    return T.grad((cost * cost).sum() if c % 2 else cost.sum(), wrt, disconnected_inputs="ignore")


VERBS: dict[str, Callable[..., Any]] = {
    "float": _float, "integer": _integer, "other": _other, "constant": _constant, "unary": _unary, "binary": _binary,
    "switch": _switch, "cast": _cast, "reduce": _reduce, "argument": _argument, "row": _row_function, "index": _index,
    "gather": _gather, "mask": _mask, "write": _write, "shuffle": _shuffle, "reshape": _reshape, "join": _join,
    "product": _product, "outer": _outer, "rearrange": _rearrange, "sizes": _sizes_of, "indices": _index_leaf,
    "gradient": _gradient,
}  # fmt: skip
WEIGHTS = {"unary": 4, "binary": 6, "reduce": 4, "index": 3, "gradient": 2, "product": 2, "float": 2, "write": 2}


def build(instructions: Sequence[Instruction], special: bool = False, row: int = 0) -> Program:
    """The program that a list of instructions describes; its pool is never empty."""
    program = Program(SIZES[row], special=special)
    leaf(program, "float64", (0, 1), 1, False)
    for instruction in instructions:
        program.run(instruction)
    return program
