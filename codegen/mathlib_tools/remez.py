"""Weighted minimax polynomials by the Remez exchange, in mpmath.

The exchange follows E. Remez (1934) as told in J.-M. Muller, *Elementary Functions*, chapter 3.
Coefficients are rounded to the target precision one by one, lowest power first, and the others are fitted
again after each, so that the rounding of the large coefficients is absorbed by the small ones.
"""

from collections.abc import Callable, Sequence

import mpmath as mp
import numpy as np

Real = mp.mpf
Function = Callable[[Real], Real]


def rounded(value: Real, bits: int) -> Real:
    """``value`` to the nearest number with ``bits`` significant bits."""
    if value == 0:
        return mp.mpf(0)
    mantissa, exponent = mp.frexp(value)
    return mp.ldexp(mp.nint(mp.ldexp(mantissa, bits)), int(exponent) - bits)


class Samples:
    """A function and its weight on a grid of Chebyshev points (24 a term), with the powers of the points."""

    def __init__(self, function: Function, weight: Function, low: Real, high: Real, powers: Sequence[int]) -> None:
        low, high = mp.mpf(low), mp.mpf(high)
        count = 24 * len(powers) + 64
        self.points = [
            (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / count) for i in range(count)
        ]
        self.powers = tuple(powers)
        self.weights = np.array([weight(p) for p in self.points], dtype=object)
        self.values = np.array([function(p) for p in self.points], dtype=object)
        self.columns = np.array([[p**k for k in powers] for p in self.points], dtype=object)

    def errors(self, coefficients: Sequence[Real]) -> list[Real]:
        """The weighted error of a polynomial over all the powers, on the grid."""
        return list(self.weights * (self.values - self.columns.dot(np.array(coefficients, dtype=object))))

    def fit(self, fixed: Sequence[Real]) -> list[Real]:
        """Coefficients whose first are ``fixed``, the others of nearly least maximal weighted error."""
        held = len(fixed)
        size = len(self.powers) - held + 1
        values = self.values - (self.columns[:, :held].dot(np.array(fixed, dtype=object)) if held else 0)
        count = len(self.points)
        chosen = [round((count - 1) * (1 - float(mp.cos(mp.pi * i / (size - 1)))) / 2) for i in range(size)]
        best: tuple[Real, list[Real]] | None = None
        for _ in range(60):
            *free, level = self._levelled(chosen, values, held)
            errors = self.errors([*fixed, *free])
            worst = max(abs(error) for error in errors)
            if best is None or worst < best[0]:
                best = worst, [*fixed, *free]
            chosen = alternating(errors, size)
            if len(chosen) < size or worst <= abs(level) * mp.mpf("1.002"):
                break
        assert best is not None
        return best[1]

    def _levelled(
        self, chosen: list[int], values: "np.ndarray[tuple[int], np.dtype[np.object_]]", held: int
    ) -> list[Real]:
        """Coefficients with an equal, alternating weighted error on the chosen points, then that error."""
        size = len(chosen)
        matrix, right = mp.matrix(size, size), mp.matrix(size, 1)
        for row, at in enumerate(chosen):
            for column in range(size - 1):
                matrix[row, column] = self.columns[at, held + column]
            matrix[row, size - 1] = (-1) ** row / self.weights[at]
            right[row] = values[at]
        return list(mp.lu_solve(matrix, right))


def alternating(errors: Sequence[Real], size: int) -> list[int]:
    """Positions of ``size`` large errors of alternating sign, fewer if there are not so many."""
    found: list[int] = []
    for at, error in enumerate(errors):
        if found and (error > 0) == (errors[found[-1]] > 0):
            if abs(error) > abs(errors[found[-1]]):
                found[-1] = at
        else:
            found.append(at)
    while len(found) > size:
        sizes = [abs(errors[at]) for at in found]
        if len(found) == size + 1 or min(sizes) in (sizes[0], sizes[-1]):
            del found[0 if sizes[0] < sizes[-1] else -1]
        else:  # the smallest goes with its smaller neighbour: signs still alternate
            at = sizes.index(min(sizes))
            other = at - 1 if sizes[at - 1] < sizes[at + 1] else at
            del found[other : other + 2]
    return found


def minimax(function: Function, weight: Function, low: Real, high: Real, terms: int) -> tuple[list[Real], Real]:
    """The polynomial of ``terms`` terms of least ``|weight * (function - polynomial)|``, and that error."""
    samples = Samples(function, weight, low, high, range(terms))
    coefficients = samples.fit(())
    return coefficients, max(abs(error) for error in samples.errors(coefficients))


def rounded_minimax(
    function: Function, weight: Function, low: Real, high: Real, terms: int, bits: int
) -> tuple[list[float], float]:
    """As ``minimax``, with coefficients of ``bits`` significant bits."""
    samples = Samples(function, weight, low, high, range(terms))
    coefficients = samples.fit(())
    for position in range(terms):
        fixed = [*coefficients[:position], rounded(coefficients[position], bits)]
        candidates = [[*fixed, *coefficients[position + 1 :]]]
        if position + 1 < terms:
            candidates.append(samples.fit(fixed))
        coefficients = min(candidates, key=lambda c: max(abs(error) for error in samples.errors(c)))
    return [float(c) for c in coefficients], float(max(abs(error) for error in samples.errors(coefficients)))
