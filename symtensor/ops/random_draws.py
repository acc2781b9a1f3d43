"""Draws from random streams: one element is a function of the stream's state and the element's position.

The state of a stream is a vector of four uint64: the two words of the key, the number of the stream under that key,
and the position, which counts the words of 64 bits that were used. Element i of a draw is made from word
``position + i``, so elements are computed inside the loops of their users, in any order, by any number of threads.
A draw of 32-bit elements takes half a word for each, the lower half first, and leaves the last half unused where
their number is odd. ``random_advance`` is the state after a draw.

Words are those of ``numpy.random.Philox`` (see ``symtensor_codegen.mathlib.philox``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import At, Guard, Index, Inferred, OpDef, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import DTypeError, InternalError
from symtensor_codegen.mathlib.normal import quantile_of
from symtensor_codegen.mathlib.philox import halves_of, upper_half, words_of
from symtensor_codegen.scalar import Dim, Scalar, as_int
from symtensor_codegen.substitution import product

from .arguments import equal_guard, param_dims, param_values, size_guards

COST = 60  # a block of words is about a hundred instructions for four


def check_state(name: str, state: Tensor) -> None:
    """Refuse what is not the state of a stream."""
    if state.element is not dtypes.uint64 or state.type.shape not in ((4,), (None,)):
        raise DTypeError(f"{name}: a random state is a uint64 vector of 4, got {describe(state)}")


def state_guards(node: Tensor) -> list[Guard]:
    """A guard that a state has four words, where that is not known."""
    return equal_guard("a random state has {0} words instead of {1}", node.inputs[0].dims[0], 4)


def state_words(at: At) -> tuple[Scalar, ...]:
    """Key, stream and position of the state that is input 0."""
    return tuple(at(0, (as_int(k),)) for k in range(4))


def word(value: int) -> Scalar:
    """A word as a constant."""
    return scalar.const(value, dtypes.uint64)


def flat(dims: Sequence[Dim], index: Index) -> Scalar:
    """The position of an element among all elements."""
    offset = as_int(0)
    for size, place in zip(dims, index, strict=True):
        if not (isinstance(size, int) and size == 1):
            offset = offset * as_int(size) + place
    return offset


def drawn(node: Tensor, at: At, index: Index, op: scalar.ScalarOp, extra: int = 0) -> Scalar:
    """The random word (or half) of an element of a draw."""
    first, second, stream, position = state_words(at)
    return op(first, second, stream, word(extra), position, flat(node.dims, index))


def drawn_array(function: Callable[..., Any], state: Any, shape: tuple[int, ...], extra: int = 0) -> Any:
    """The same in NumPy, for all elements."""
    first, second, stream, position = state
    count = int(np.prod(shape, dtype=np.int64))
    return function(first, second, stream, extra, position, np.arange(count)).reshape(shape)


def _sizes(node: Tensor) -> list[Dim]:
    return param_dims(node.params["shape"], node.inputs[1:])


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    check_state("random draw", inputs[0])
    return params["dtype"], tuple(param_dims(params["shape"], inputs[1:]))


def _cases(*kinds: DType) -> Callable[[np.random.Generator], Any]:
    def cases(rng: np.random.Generator) -> Any:
        for kind in kinds:
            for shape, position in (((), 0), ((7,), 3), ((40,), 1), ((3, 50), 2), ((2, 0), 0), ((5, 1, 9), 6)):
                state = np.array([*rng.integers(0, 2**64, 2, np.uint64), 5, position], np.uint64)
                yield (state,), {"shape": shape, "dtype": kind}
        state = np.array([1, 2, 0, 0], np.uint64)
        yield (state, np.int64(19)), {"shape": (2, None), "dtype": kinds[-1]}

    return cases


def _draw(
    name: str,
    doc: str,
    kinds: tuple[DType, ...],
    element: Callable[[Scalar], Scalar],
    numpy: Callable[[Any], Any],
) -> OpDef:
    """A draw whose elements are made from one word each, or half a word where the type has 32 bits."""

    def pull(node: Tensor, at: At, index: Index) -> Scalar:
        return element(drawn(node, at, index, scalar.philox32 if node.element.bits == 32 else scalar.philox64))

    def reference(state: Any, *sizes: Any, shape: Any, dtype: DType) -> Any:
        words = drawn_array(halves_of if dtype.bits == 32 else words_of, state, param_values(shape, sizes))
        return numpy(words)

    def infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
        if params["dtype"] not in kinds:
            raise InternalError(f"{name} of {params['dtype']}")
        return _infer(inputs, params)

    return OpDef(
        name=name, doc=doc, infer=infer, reference=reference, pull=pull, cost=COST, category="random",
        guards=lambda node: [*state_guards(node), *size_guards(name, node, _sizes(node))], cases=_cases(*kinds),
    )  # fmt: skip


# Uniform --------------------------------------------------------------------------------------------------


def _unit(bits: Scalar) -> Scalar:
    """As many upper bits of a word as a float holds, as a number in [0, 1); as NumPy does."""
    kind, digits = (dtypes.float32, 24) if bits.dtype.bits == 32 else (dtypes.float64, 53)
    whole = scalar.shr(bits, scalar.const(bits.dtype.bits - digits, bits.dtype))
    signed = scalar.bitcast(whole, dtypes.int32 if digits == 24 else dtypes.int64)  # one instruction less
    return scalar.cast(signed, kind) * scalar.const(2.0**-digits, kind)


def _unit_array(bits: Any) -> Any:
    kind, digits = (np.float32, 24) if bits.dtype == np.uint32 else (np.float64, 53)
    return (bits >> (bits.itemsize * 8 - digits)).astype(kind) * kind(2.0**-digits)


RANDOM_UNIFORM = _draw(
    "random_uniform",
    "Uniformly distributed numbers in [0, 1), those of NumPy's Generator(Philox).random.",
    (dtypes.float32, dtypes.float64),
    _unit,
    _unit_array,
)


# Normal ---------------------------------------------------------------------------------------------------


def _normal(bits: Scalar) -> Scalar:
    """The normal quantile of a word, read as a number in (-1, 1) whose distance to its end keeps all its bits."""
    width = bits.dtype.bits
    whole, kind = (dtypes.int32, dtypes.float32) if width == 32 else (dtypes.int64, dtypes.float64)
    signed = scalar.bitcast(bits, whole)
    magnitude = signed ^ scalar.shr(signed, scalar.const(width - 1, whole))
    left = scalar.const(2 ** (width - 1) - 1, whole) - magnitude
    unit, half = scalar.const(2.0 ** (1 - width), kind), scalar.const(0.5, kind)
    x = scalar.copysign((scalar.cast(magnitude, kind) + half) * unit, scalar.cast(signed, kind))
    return scalar.normal_quantile(x, (scalar.cast(left, kind) + half) * unit)


def _normal_array(bits: Any) -> Any:
    width = bits.itemsize * 8
    kind = np.float32 if width == 32 else np.float64
    signed = bits.view(np.int32 if width == 32 else np.int64)
    magnitude = signed ^ (signed >> (width - 1))
    left = signed.dtype.type(2 ** (width - 1) - 1) - magnitude
    unit = kind(2.0 ** (1 - width))
    x = np.copysign((magnitude.astype(kind) + kind(0.5)) * unit, signed.astype(kind))
    return quantile_of(x, (left.astype(kind) + kind(0.5)) * unit)


RANDOM_NORMAL = _draw(
    "random_normal",
    "Numbers from the standard normal distribution: its quantile at a uniformly distributed number.",
    (dtypes.float32, dtypes.float64),
    _normal,
    _normal_array,
)


# Integers -------------------------------------------------------------------------------------------------

RANDOM_BITS = _draw(
    "random_bits",
    "Random bits: uint64 or uint32 numbers, all equally likely.",
    (dtypes.uint32, dtypes.uint64),
    lambda bits: bits,
    lambda bits: bits,
)


def _below_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    check_state("random_below", inputs[0])
    if inputs[1].element is not dtypes.uint64:
        raise InternalError("random_below takes uint64 bounds")
    return dtypes.uint64, inputs[1].dims


def bounded(first: Scalar, second: Scalar, bound: Scalar) -> Scalar:
    """The integer part of ``bound`` times a fraction of 128 random bits; ``bound`` 0 stands for 2^64.

    Probabilities differ by less than 2^-64 of their size, and the second word is needed once in ``2^64 / bound`` times.
    """
    whole, fraction = scalar.mulhi(first, bound), first * bound
    carried = whole + scalar.cast((fraction + scalar.mulhi(second, bound)) < fraction, dtypes.uint64)
    value = scalar.rarely(fraction > (word(0) - bound), carried, whole)
    return scalar.select(scalar.eq(bound, word(0)), first, value)


def bounded_array(first: Any, second: Any, bound: Any) -> Any:
    """As ``bounded``, of arrays."""
    with np.errstate(over="ignore"):
        whole, fraction = upper_half(first, bound), first * bound
        carried = whole + (fraction + upper_half(second, bound) < fraction).astype(np.uint64)
        return np.where(bound == 0, first, np.where(fraction > np.uint64(0) - bound, carried, whole))


def _below(node: Tensor, at: At, index: Index) -> Scalar:
    words = [drawn(node, at, index, scalar.philox64, extra) for extra in (0, 1)]
    return bounded(words[0], words[1], at(1, index))


def _below_reference(state: Any, bound: Any) -> Any:
    words = [drawn_array(words_of, state, bound.shape, extra) for extra in (0, 1)]
    return bounded_array(words[0], words[1], bound)


def _below_cases(rng: np.random.Generator) -> Any:
    for shape in ((), (9,), (3, 40)):
        state = np.array([*rng.integers(0, 2**64, 2, np.uint64), 0, 2], np.uint64)
        yield (state, np.full(shape, 6, np.uint64)), {}
        yield (state, rng.integers(0, 2**64, shape, np.uint64)), {}
        yield (state, np.zeros(shape, np.uint64)), {}


RANDOM_BELOW = OpDef(
    name="random_below",
    doc="For each bound b an integer from 0 to b - 1, all equally likely.",
    infer=_below_infer,
    reference=_below_reference,
    pull=_below,
    guards=state_guards,
    cost=COST,
    category="random",
    cases=_below_cases,
)


# The state after a draw -----------------------------------------------------------------------------------


def _advance_infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    check_state("random_advance", inputs[0])
    return dtypes.uint64, inputs[0].dims


def _used(node: Tensor) -> Dim:
    """The number of words that a draw of these sizes uses."""
    count = product(_sizes(node))
    if not node.params["halves"]:
        return count
    return scalar.as_dim((as_int(count) + 1) // 2)


def _advance(node: Tensor, at: At, index: Index) -> Scalar:
    moves = scalar.eq(index[0], as_int(3))
    used = scalar.cast(as_int(_used(node)), dtypes.uint64)
    return at(0, index) + scalar.select(moves, used, word(0))


def _advance_reference(state: Any, *sizes: Any, shape: Any, halves: bool) -> Any:
    count = int(np.prod(param_values(shape, sizes), dtype=np.int64))
    return state + np.array([0, 0, 0, (count + 1) // 2 if halves else count], np.uint64)


RANDOM_ADVANCE = OpDef(
    name="random_advance",
    doc="The state of a random stream after a draw of these sizes.",
    infer=_advance_infer,
    reference=_advance_reference,
    pull=_advance,
    sizes=lambda node: [_used(node)],
    guards=lambda node: [*state_guards(node), *size_guards("random draw", node, _sizes(node))],
    category="random",
    cases=lambda rng: [
        ((np.array([1, 2, 3, 4], np.uint64),), {"shape": (3, 5), "halves": True}),
        ((np.array([1, 2, 3, 4], np.uint64), np.int64(7)), {"shape": (None,), "halves": False}),
    ],
)
