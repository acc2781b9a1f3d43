"""How far rounding may move each element of a result: the reference evaluated again with every operation disturbed.

A compiled function adds in another order, fuses and rewrites, so results differ in their last places, and more where
an expression cancels. Instead of one tolerance for everything, each inexact operation is repeated with operands and
result moved by a few units of the last place; how much an element moves says how well it is determined.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor.graph import Tensor
from symtensor.reference import Evaluation

Array = npt.NDArray[Any]

UNITS = 4.0  # how far operands and results are moved
SAMPLES = 3
MARGIN = 24.0  # how much further than the samples a result may lie
FLOOR = 8.0  # units of the last place that are always allowed

# Operations that round nothing when all numbers are short binary fractions.
MOVES = frozenset((
    "advanced_subtensor", "broadcast_to", "diagonal", "dimshuffle", "identity", "join", "pad", "put_diagonal",
    "reshape", "roll", "set_at", "set_part", "specify_shape", "subtensor", "unbroadcast",
))  # fmt: skip
EXACT = MOVES | frozenset((
    "abs", "add", "all", "any", "arange", "argmax", "argmin", "batched_dot", "cast", "clip", "conj", "constant",
    "cumsum", "dim", "dot", "eq", "ge", "gt", "imag", "inc_at", "inc_part", "input", "le", "lt", "make_vector", "max",
    "maximum", "min", "minimum", "mul", "neg", "neq", "real", "relu", "shared", "sign", "sqr", "sub", "sum", "switch",
))  # fmt: skip
# Logarithms of a sum that is at least 1, which is rounded, beside operands that may be rounded more than once: near 0
# their error is that of the sum and of the operands.
OF_SUMS = frozenset(("log_softmax", "logsumexp"))


def is_short(array: Array) -> bool:
    """Whether all elements are NaN, infinite, or binary fractions so short that a few add exactly."""
    if array.dtype.kind not in "fc":
        return True
    parts = [array.real, array.imag] if array.dtype.kind == "c" else [array]
    grain, bound = (8.0, 16.0) if array.dtype == np.float16 else (256.0, 512.0)
    with np.errstate(all="ignore"):
        short = [~np.isfinite(p) | ((np.abs(p) < bound) & (p * grain == np.rint(p * grain))) for p in parts]
    return all(bool(each.all()) for each in short)


class Exact(Evaluation):
    """The plain reference, which also notes the tensors that no rounding has touched."""

    def __init__(self, values: Mapping[Tensor, Any]) -> None:
        super().__init__(values)
        self.exact: set[Tensor] = {node for node, value in self.values.items() if is_short(value)}

    def _compute(self, node: Tensor) -> Array:
        result = super()._compute(node)
        short = node.op.name in EXACT and all(i in self.exact for i in node.inputs) and is_short(result)
        if short or result.dtype.kind not in "fc":  # integers are only taken where no rounding shows in them
            self.exact.add(node)
        return result


class Disturbed(Evaluation):
    """The reference with every inexact operation moved by a few units of the last place."""

    def __init__(self, values: Mapping[Tensor, Any], plain: Exact, seed: int) -> None:
        super().__init__(values)
        self.plain, self.random = plain, np.random.default_rng(seed)

    def _compute(self, node: Tensor) -> Array:
        if node in self.plain.exact or node.op.name in MOVES or not node.inputs:
            return super()._compute(node)
        kept = {i: self.values[i] for i in node.inputs}
        self.values.update({i: self._moved(array) for i, array in kept.items()})
        try:
            result = super()._compute(node)
            if node.op.name in OF_SUMS:
                operand = np.abs(kept[node.inputs[0]])
                scale = 1 + np.max(operand, where=np.isfinite(operand), initial=0)
                result = result + (self._moved(np.full_like(result, scale)) - result.dtype.type(scale))
            return self._moved(result)
        finally:
            self.values.update(kept)

    def _moved(self, array: Array) -> Array:
        if array.dtype.kind not in "fc":
            return array
        noise = self.random.uniform(-1, 1, array.shape) * UNITS * float(np.finfo(array.dtype).eps)
        with np.errstate(all="ignore"):
            return np.asarray(array * (1 + noise)).astype(array.dtype)


def allowed(outputs: Sequence[Tensor], values: Mapping[Tensor, Any], plain: Exact) -> list[Array]:
    """For each output, the absolute error that each element may have (infinite where rounding decides it)."""
    limits: list[Array] = []
    moved = [Disturbed(values, plain, seed) for seed in range(SAMPLES)]
    for output in outputs:
        want = plain.value(output)
        if want.dtype.kind not in "fc":
            same = [d.value(output) == want for d in moved]
            limits.append(np.where(np.all(same, axis=0), 0.0, np.inf))
            continue
        wide = np.complex128 if want.dtype.kind == "c" else np.float64
        with np.errstate(all="ignore"):
            spread = np.max([np.abs(d.value(output).astype(wide) - want.astype(wide)) for d in moved], axis=0)
            least = np.abs(want.astype(wide)) * FLOOR * float(np.finfo(want.dtype).eps)
        unstable = [np.isfinite(d.value(output)) != np.isfinite(want) for d in moved]
        with np.errstate(over="ignore"):  # a spread without bound is a limit without bound
            limits.append(np.where(np.any(unstable, axis=0), np.inf, MARGIN * np.nan_to_num(spread) + least))
    return limits


def mismatch(got: Array, want: Array, limit: Array) -> str | None:
    """What is wrong with a result; None where nothing is."""
    if got.dtype != want.dtype:
        return f"dtype {got.dtype}, expected {want.dtype}"
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    if want.dtype.kind not in "fc":
        wrong = (got != want) & np.isfinite(limit)
    else:
        wide = np.complex128 if want.dtype.kind == "c" else np.float64
        tiny = float(np.finfo(want.dtype).tiny)
        with np.errstate(all="ignore"):
            far = ~(np.abs(got.astype(wide) - want.astype(wide)) <= limit + tiny)
        regular = np.isfinite(got) & np.isfinite(want)
        wrong = np.where(regular, far, ~_same(got, want)) & np.isfinite(limit)
    if not wrong.any():
        return None
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    found = f"at {place}: {got[place]}, expected {want[place]} (within {limit[place]:.2g})"
    return f"{found}; {wrong.sum()} of {wrong.size}"


def _same(got: Array, want: Array) -> Array:
    """NaN where NaN is expected (in any part of a complex number), the same infinity where infinity is."""
    if want.dtype.kind == "c":
        return np.asarray(~np.isfinite(got) & ~np.isfinite(want))
    return np.asarray((np.isnan(got) & np.isnan(want)) | (got == want))
