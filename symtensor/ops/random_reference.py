"""What the draws that take loops mean: the same algorithms, element by element, in Python."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from symtensor_codegen.mathlib.philox import words_of

Array = npt.NDArray[Any]
Words = Callable[[int], list[int]]  # the four words of an attempt


def element_words(state: Array, offset: int) -> Words:
    """The words of an element's attempts."""
    first, second, stream, position = (int(w) for w in state)
    start = 4 * ((position + offset) % 2**64)

    def words(attempt: int) -> list[int]:
        found = words_of(first, second, stream, attempt + 1, start, np.arange(4))
        return [int(w) for w in found]

    return words


def unit(bits: int) -> float:
    """53 bits of a word as a number in [0, 1)."""
    return (bits >> 11) * 2.0**-53


def stirling_rest(k: float) -> float:
    """``log k!`` without ``log(sqrt(2 pi) (k + 1)^(k + 1/2) e^-(k + 1))``."""
    return math.lgamma(k + 1) - (0.5 * math.log(2 * math.pi) + (k + 0.5) * math.log(k + 1) - (k + 1))


def binomial(words: Words, n: int, p: float) -> int:
    """One binomial count."""
    q = min(p, 1 - p)
    found = _inverted(words, n, q) if not n * q >= 10 else _rejected(words, n, q)
    return n - found if p > 0.5 else found


def _inverted(words: Words, n: int, p: float) -> int:
    left, chance = unit(words(0)[0]), math.exp(n * math.log1p(-p))
    mean, odds = n * p, p / (1 - p)
    for k in range(int(min(n, mean + 20 * math.sqrt(mean + 1) + 20))):
        if left < chance:
            return k
        left, chance = left - chance, chance * (n - k) / (k + 1) * odds
    return int(min(n, mean + 20 * math.sqrt(mean + 1) + 20))


def _rejected(words: Words, n: int, p: float) -> int:
    deviation = math.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    odds, mode = p / (1 - p), math.floor((n + 1) * p)
    alpha = (2.83 + 5.1 / b) * deviation
    attempt = 0
    while True:
        attempt += 1
        first, second, *_ = words(attempt)
        v, u = unit(first), unit(second) - 0.5
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + (n * p + 0.5)) if us else -1
        if not 0 <= k <= n:
            continue
        if us >= 0.07 and v <= 0.92 - 4.2 / b:
            return k
        level = math.log(v * alpha / (a / (us * us) + b)) if v else -math.inf
        bound = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * math.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * math.log(odds * (n - k + 1) / (k + 1))
            + stirling_rest(mode) + stirling_rest(n - mode) - stirling_rest(k) - stirling_rest(n - k)
        )  # fmt: skip
        if level <= bound:
            return k


def binomials(state: Array, n: Array, p: Array) -> Array:
    """Binomial counts for every element of n and p."""
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("a probability is outside of [0, 1]")
    if np.any(n < 0):
        raise ValueError("n is negative")
    flat = [
        binomial(element_words(state, i), int(trials), float(chance))
        for i, (trials, chance) in enumerate(zip(n.ravel(), p.ravel(), strict=True))
    ]
    return np.array(flat, np.int64).reshape(p.shape)


def multinomials(state: Array, n: Array, p: Array) -> Array:
    """Counts of the categories along the last axis, one binomial after the other."""
    if not (np.all(p >= 0) and np.all(np.isfinite(p))):
        raise ValueError("probabilities must be finite and not negative")
    if np.any(n < 0):
        raise ValueError("n is negative")
    result = np.zeros(p.shape, np.int64)
    width = p.shape[-1]
    for row, trials in enumerate(n.ravel()):
        chances, counts = p.reshape(-1, width)[row] if width else [], result.reshape(-1, width or 1)[row]
        remaining, mass = int(trials), 0.0
        for chance in chances:
            mass += chance
        for k in range(width):
            share = 1.0 if k == width - 1 or mass <= chances[k] else chances[k] / mass
            counts[k] = binomial(element_words(state, row * width + k), remaining, share)
            remaining -= int(counts[k])
            mass -= chances[k]
    return result


def orders(places: Array) -> Array:
    """Shuffled positions along the last axis: element i goes to its place, what was there to i."""
    result = np.zeros(places.shape, np.int64)
    length = places.shape[-1]
    for row, chosen in enumerate(places.reshape(-1, length) if length else ()):
        order = result.reshape(-1, length)[row]
        for i, place in enumerate(chosen):
            order[i] = order[place]
            order[place] = i
    return result
