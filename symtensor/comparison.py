"""How close compiled values must come to those of the reference.

An operation may be off by as many units in the last place as its record says. Where rounding errors of the
operands are amplified (sums that cancel, long products), what is allowed grows with them; how much they
matter is measured by computing the reference again with operands moved by a few units, at random, as in Monte
Carlo arithmetic (D. S. Parker, "Monte Carlo Arithmetic", 1997).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen import dtypes
from symtensor_codegen.errors import InternalError

from .graph import Tensor
from .reference import Evaluation

Array = npt.NDArray[Any]

DRAWS = 4  # computations with noise
UNITS = 4.0  # by how many units in the last place the noise moves a number, at most
FACTOR = 16.0  # how much more than the noise seen is allowed


class MismatchError(InternalError, AssertionError):
    """Mode ``debug`` found values that compiled code and the reference disagree about."""


class _NoisyEvaluation(Evaluation):
    """The reference, with every floating-point operand and result moved a little."""

    def __init__(self, values: Mapping[Tensor, Any], rng: np.random.Generator) -> None:
        super().__init__({node: _moved(np.asarray(value), None, rng) for node, value in values.items()})
        self._rng = rng

    def _compute(self, node: Tensor) -> Array:
        result = super()._compute(node)
        if node.element is dtypes.results:
            return result
        return _moved(result, self._size_inside(node, result), self._rng)

    def inside(self, values: Mapping[Tensor, Any]) -> Evaluation:
        """The steps of loops are as noisy."""
        return _NoisyEvaluation(values, self._rng)

    def _size_inside(self, node: Tensor, result: Array) -> Array | None:
        """How large the numbers are that are added inside an operation: its result for operands without signs.

        The rounding errors of a sum that cancels are as large as those of the sum of magnitudes.
        """
        chosen = node.op.category == "control"  # a branch, or part of what a loop computes
        if node.op.is_elementwise or chosen or node.op.reference is None or result.dtype.kind not in "fc":
            return None
        operands = [self.values[i] for i in node.inputs]
        plain = [np.abs(x).astype(x.dtype) if x.dtype.kind in "fc" else x for x in operands]
        with np.errstate(all="ignore"):
            size = np.abs(np.asarray(node.op.reference(*plain, **node.params)))
        return size if size.shape == result.shape else None


def _moved(array: Array, size: Array | None, rng: np.random.Generator) -> Array:
    """Numbers moved by between half of ``UNITS`` and ``UNITS`` units in the last place, up or down.

    The units are those of ``size`` where it is finite and larger than the number itself.
    """
    if array.dtype.kind not in "fc":
        return array
    unit = np.finfo(array.dtype).eps
    step = rng.choice([-1.0, 1.0], array.shape) * rng.uniform(UNITS / 2, UNITS, array.shape)
    with np.errstate(all="ignore"):
        own = np.abs(array)
        scale = own if size is None else np.where(np.isfinite(size) & (size > own), size, own)
        # Not of infinities: infinity times nothing is no number.
        moved = np.where(np.isfinite(array), array + unit * step * np.where(np.isfinite(scale), scale, 0), array)
        return np.asarray(moved).astype(array.dtype)


def noise_of(outputs: Sequence[Tensor], values: Mapping[Tensor, Array]) -> list[Array]:
    """By how much noise of a few units in the last place moves each element of the outputs.

    It is infinite where noise makes the difference between a number and none, and for an output whose shape
    it changes.
    """
    calm = Evaluation(values)
    wanted = [calm.value(output) for output in outputs]
    spreads = [np.zeros(w.shape) for w in wanted]
    for draw in range(DRAWS):
        noisy = _NoisyEvaluation(values, np.random.default_rng(draw))
        for position, (output, want) in enumerate(zip(outputs, wanted, strict=True)):
            try:
                got = noisy.value(output)
            except (ValueError, IndexError):  # sizes and indices that come from data follow the noise
                got = np.empty(0)
            if got.shape != want.shape:
                spreads[position] = np.full(want.shape, np.inf)
                continue
            difference = _difference(got, want)
            if want.dtype.kind not in "fc":
                difference = np.where(difference > 0, np.inf, 0.0)  # any other integer may follow
            spreads[position] = np.maximum(spreads[position], difference)
    return spreads


def _difference(got: Array, want: Array) -> Array:
    """Absolute differences; 0 between equal infinities or two NaN, infinite between a number and none."""
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        difference = np.abs(got.astype(wide) - want.astype(wide))
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))


class Comparison:
    """A compiled value beside the reference's.

    ``tolerance``: allowed difference in units in the last place of each element; ``noise``: what ``noise_of``
    tells; ``may_overflow``: the reference may be NaN or infinite where the value is not.
    """

    def __init__(
        self,
        got: Array,
        want: Array,
        tolerance: float,
        noise: Array | None = None,
        may_overflow: bool = False,
    ) -> None:
        self.got, self.want = got, want
        self.tolerance, self.noise, self.may_overflow = tolerance, noise, may_overflow

    def fault(self) -> str | None:
        """What is wrong, in words; None if nothing is."""
        got, want = self.got, self.want
        if got.dtype != want.dtype:
            return f"the element type is {got.dtype}, expected {want.dtype}"
        if got.shape != want.shape:
            return f"the shape is {got.shape}, expected {want.shape}"
        difference = _difference(got, want)
        allowed = self._allowed()
        bad = difference > allowed
        if not bad.any():
            return None
        worst = np.unravel_index(int(np.argmax(np.where(bad, difference, -1.0))), got.shape)
        place = f" at {tuple(int(i) for i in worst)}" if got.ndim else ""
        return (
            f"{np.count_nonzero(bad)} of {got.size} elements; largest difference "
            f"{difference[worst]:.3g}{place}: compiled {got[worst]}, reference {want[worst]}, "
            f"allowed {allowed[worst]:.3g}"
        )

    def _allowed(self) -> Array:
        want = self.want
        allowed = np.zeros(want.shape)
        if want.dtype.kind in "fc":
            limits = np.finfo(want.dtype)
            finite = np.isfinite(want)
            size = np.abs(np.where(finite, want, 0)).astype(np.float64)
            allowed = self.tolerance * float(limits.eps) * np.maximum(size, float(limits.tiny))
            allowed = np.where(finite, allowed, np.inf if self.may_overflow else 0.0)
        return allowed if self.noise is None else allowed + FACTOR * self.noise
