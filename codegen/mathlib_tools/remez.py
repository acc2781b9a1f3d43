"""Weighted minimax polynomials by the Remez exchange, in mpmath.

The exchange follows E. Remez (1934) as told in J.-M. Muller, *Elementary Functions*, chapter 3. Coefficients are
rounded to the target precision one by one, lowest power first, and the rest is fitted again after each, so that the
rounding of the large coefficients is absorbed by the small ones.
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


def _solve(points: list[Real], values: list[Real], weights: list[Real], powers: Sequence[int]) -> list[Real]:
    """Coefficients with an equal alternating weighted error on the points, then that error."""
    size = len(powers) + 1
    matrix, right = mp.matrix(size, size), mp.matrix(size, 1)
    for row, point in enumerate(points):
        for column, power in enumerate(powers):
            matrix[row, column] = point**power
        matrix[row, size - 1] = (-1) ** row / weights[row]
        right[row] = values[row]
    return list(mp.lu_solve(matrix, right))


def minimax(
    function: Function, weight: Function, low: Real, high: Real, powers: Sequence[int], grid: int = 0
) -> tuple[list[Real], Real]:
    """The polynomial over ``powers`` of least maximal ``|weight * (function - polynomial)|`` on [low, high].

    The maximum is searched on a grid of Chebyshev points (25 a coefficient), which never contains the midpoint.
    Returns the coefficients and the maximal weighted error.
    """
    low, high = mp.mpf(low), mp.mpf(high)
    size = len(powers) + 1
    count = grid or 2 * (12 * size + 20)
    points = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / count)
        for i in range(count)
    ]
    values = [function(p) for p in points]
    weights = [weight(p) for p in points]
    table = np.array([[p**k for k in powers] for p in points], dtype=object)
    chosen = (
        [round((count - 1) * (1 - float(mp.cos(mp.pi * i / (size - 1)))) / 2) for i in range(size)]
        if size > 1
        else [0]
    )
    chosen = sorted(set(chosen))
    while len(chosen) < size:  # rounding may merge two of the first points
        chosen = sorted({*chosen, next(i for i in range(count) if i not in chosen)})
    coefficients: list[Real] = []
    for _ in range(60):
        solution = _solve(
            [points[i] for i in chosen], [values[i] for i in chosen], [weights[i] for i in chosen], powers
        )
        coefficients, level = solution[:-1], abs(solution[-1])
        errors = [
            w * (v - s)
            for w, v, s in zip(weights, values, table.dot(np.array(coefficients, dtype=object)), strict=True)
        ]
        extremes: list[int] = []
        for i, error in enumerate(errors):
            if extremes and (error > 0) == (errors[extremes[-1]] > 0):
                if abs(error) > abs(errors[extremes[-1]]):
                    extremes[-1] = i
            else:
                extremes.append(i)
        while len(extremes) > size:
            if len(extremes) == size + 1 or min(abs(errors[extremes[0]]), abs(errors[extremes[-1]])) == min(
                abs(errors[i]) for i in extremes
            ):
                del extremes[0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1]
            else:  # drop the smallest inner extreme with its smaller neighbour, so that signs still alternate
                at = min(range(1, len(extremes) - 1), key=lambda k: abs(errors[extremes[k]]))
                other = at - 1 if abs(errors[extremes[at - 1]]) < abs(errors[extremes[at + 1]]) else at + 1
                for k in sorted((at, other), reverse=True):
                    del extremes[k]
        worst = max(abs(e) for e in errors)
        if len(extremes) < size or worst <= level * mp.mpf("1.002"):
            return coefficients, worst
        chosen = extremes
    return coefficients, worst


def rounded_minimax(
    function: Function, weight: Function, low: Real, high: Real, powers: Sequence[int], bits: int
) -> tuple[list[float], float]:
    """The minimax polynomial with coefficients of ``bits`` significant bits, and its maximal weighted error."""
    fixed: list[Real] = []
    powers = list(powers)
    coefficients, worst = minimax(function, weight, low, high, powers)
    for position in range(len(powers)):
        fixed.append(rounded(coefficients[0], bits))
        rest = powers[position + 1 :]

        def remainder(t: Real) -> Real:
            return function(t) - sum(c * t**k for c, k in zip(fixed, powers, strict=False))

        if rest:
            coefficients, worst = minimax(remainder, weight, low, high, rest)
    points = [low + (high - low) * (i + mp.mpf(1) / 2) / 1000 for i in range(1000)]
    worst = max(
        abs(weight(t) * (function(t) - sum(c * t**k for c, k in zip(fixed, powers, strict=True))))
        for t in points
    )
    return [float(c) for c in fixed], float(worst)
