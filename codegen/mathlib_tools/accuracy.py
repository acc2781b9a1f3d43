"""How exact the functions are: their errors against mpmath, and the bounds that hold for them.

``CASES`` is the one table of functions with real values: what they mean, where they are sampled, and the
bound that tests enforce. ``python -m mathlib_tools.accuracy`` (from ``codegen/``) measures them and writes
``docs/math-accuracy.md``.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

from mathlib_tools.native import Array, NativeFunction

DOCUMENT = Path(__file__).parents[2] / "docs" / "math-accuracy.md"
PRECISION = 140  # bits, more where a reference needs them
Real = mp.mpf


@dataclass(frozen=True)
class Case:
    """A function of one or two arguments.

    ``spans`` are the intervals it is sampled in, for float32 and float64; ``bounds`` the greatest error in
    units in the last place. ``pairs`` makes the arguments of a function of two. ``scale``, where given,
    says what the error is relative to besides the result.
    """

    name: str
    reference: Callable[..., Real]
    bounds: tuple[float, float]
    spans: tuple[tuple[float, float], tuple[float, float]] = ((-3e38, 3e38), (-1e308, 1e308))
    pairs: Callable[[np.random.Generator, int, np.finfo[Any]], tuple[Array, Array]] | None = None
    scale: Callable[..., Real] | None = None

    def __str__(self) -> str:
        return self.name

    def bound(self, kind: str) -> float:
        """The bound in a format."""
        return self.bounds[kind == "float64"]

    def samples(self, kind: str, count: int, seed: int = 0) -> tuple[Array, ...]:
        """``count`` random arguments or a few more, with those near places where something changes."""
        rng = np.random.default_rng([seed, *self.name.encode()])
        info = np.finfo(kind)
        with np.errstate(over="ignore", under="ignore"):
            if self.pairs is not None:
                first, second = (array.astype(kind) for array in self.pairs(rng, count, info))
                ordinary = (first != 0) & (second != 0)  # mpmath has no signed zeros
                return first[ordinary], second[ordinary]
            low, high = self.spans[kind == "float64"]
            return (_spread(rng, low, high, count, info).astype(kind),)


def _spread(rng: np.random.Generator, low: float, high: float, count: int, info: np.finfo[Any]) -> Array:
    """Numbers in [low, high]: uniform, uniform near zero, of every size, and beside one and the ends."""
    quarter = count // 4
    narrow = max(low, -4.0), min(high, 4.0)
    uniform = low / 2 + (high / 2 - low / 2) * rng.random(quarter) + low / 2
    sizes = 2.0 ** rng.uniform(np.log2(float(info.smallest_subnormal)), np.log2(max(-low, high)), 2 * quarter)
    beside = 2.0 ** -rng.uniform(1, info.nmant + 1, quarter) * rng.choice((-1, 1), quarter)
    ends = [end * (1 - part) for end in (low, high) for part in (0, 1e-3, 1e-5, float(info.eps))]
    found = np.concatenate(
        [
            uniform,
            rng.uniform(*narrow, quarter),
            sizes * rng.choice((-1, 1), sizes.size),
            1 + beside,
            beside - 1,
            ends,
        ]
    )
    return found[(found >= low) & (found <= high)]


def _any_sizes(rng: np.random.Generator, count: int, info: np.finfo[Any]) -> tuple[Array, Array]:
    """Pairs of similar size, in every range and of every sign."""
    common = 2.0 ** rng.uniform(float(info.minexp) - info.nmant, float(info.maxexp) - 3, count)
    first, second = rng.uniform(-4, 4, (2, count)) * common
    return first, second


def _powers(rng: np.random.Generator, count: int, info: np.finfo[Any]) -> tuple[Array, Array]:
    """Bases of every size with exponents for results of every size, and small whole ones."""
    third = count // 3
    base = 2.0 ** rng.uniform(float(info.minexp) + 1, float(info.maxexp) - 1, third)
    beside = 1 + rng.uniform(-1, 1, third) * 2.0 ** rng.uniform(-info.nmant, -2, third)
    base = np.concatenate([base, beside])
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = rng.uniform(float(info.minexp) - info.nmant, float(info.maxexp), base.size) / np.log2(base)
    exponent[~np.isfinite(exponent)] = 2.5
    whole = np.rint(rng.uniform(-12, 12, third))
    return np.concatenate([base, rng.uniform(-50, 50, third)]), np.concatenate([exponent, whole])


def _logarithms(rng: np.random.Generator, count: int, info: np.finfo[Any]) -> tuple[Array, Array]:
    """Pairs that matter to each other, and pairs that do not."""
    first = np.concatenate([rng.uniform(-3, 3, count // 2), rng.uniform(-700, 700, count - count // 2)])
    return first, first + np.concatenate([rng.uniform(-3, 3, count // 2), rng.uniform(-50, 50, count - count // 2)])


def _log_sum(base: Real | None) -> Callable[[Real, Real], Real]:
    def value(a: Real, b: Real) -> Real:
        unit = mp.log(base) if base else mp.mpf(1)
        return max(a, b) + mp.log1p(mp.exp(-abs(a - b) * unit)) / unit

    return value


def _softplus(x: Real) -> Real:
    return max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def _circular(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """The function with as many more bits as a large argument has in front of the point."""

    def value(x: Real) -> Real:
        with mp.workprec(PRECISION + max(0, int(mp.frexp(x)[1])) if x else PRECISION):
            return function(x)

    return value


def _larger(a: Real, b: Real) -> Real:
    return max(abs(a), abs(b))


_UNIT = ((-1.0, 1.0), (-1.0, 1.0))
_POSITIVE = ((0.0, 3e38), (0.0, 1e308))

CASES = (
    Case("exp", mp.exp, (1.0, 1.0), ((-105.0, 88.8), (-746.0, 709.9))),
    Case("exp2", lambda x: mp.mpf(2) ** x, (1.0, 1.0), ((-151.0, 128.0), (-1076.0, 1024.0))),
    Case("expm1", mp.expm1, (1.5, 1.5), ((-30.0, 88.8), (-60.0, 709.9))),
    Case("log", mp.log, (1.0, 1.0), _POSITIVE),
    Case("log2", lambda x: mp.log(x, 2), (1.0, 1.0), _POSITIVE),
    Case("log10", mp.log10, (1.0, 1.0), _POSITIVE),
    Case("log1p", mp.log1p, (1.5, 1.5), ((-1.0, 3e38), (-1.0, 1e308))),
    Case("sin", _circular(mp.sin), (1.0, 1.0)),
    Case("cos", _circular(mp.cos), (1.0, 1.0)),
    Case("tan", _circular(mp.tan), (2.5, 2.5)),
    Case("arcsin", mp.asin, (1.5, 1.5), _UNIT),
    Case("arccos", mp.acos, (1.5, 1.5), _UNIT),
    Case("arctan", mp.atan, (2.0, 2.0)),
    Case("arctan2", mp.atan2, (2.0, 2.0), pairs=_any_sizes),
    Case("sinh", mp.sinh, (3.0, 3.0), ((-89.4, 89.4), (-710.4, 710.4))),
    Case("cosh", mp.cosh, (1.5, 1.5), ((-89.4, 89.4), (-710.4, 710.4))),
    Case("tanh", mp.tanh, (3.0, 3.0), ((-12.0, 12.0), (-25.0, 25.0))),
    Case("arcsinh", mp.asinh, (2.0, 2.0)),
    Case("arccosh", mp.acosh, (2.5, 2.5), ((1.0, 3e38), (1.0, 1e308))),
    Case("arctanh", mp.atanh, (2.5, 2.5), _UNIT),
    Case("erf", mp.erf, (2.0, 2.0), ((-4.5, 4.5), (-6.5, 6.5))),
    Case("erfc", mp.erfc, (4.0, 4.0), ((-4.5, 10.06), (-6.5, 27.2))),
    Case("sigmoid", lambda x: 1 / (1 + mp.exp(-x)), (2.5, 2.5), ((-104.0, 30.0), (-745.0, 60.0))),
    Case("softplus", _softplus, (2.0, 2.0), ((-104.0, 100.0), (-745.0, 800.0))),
    Case("logaddexp", _log_sum(None), (2.5, 2.5), pairs=_logarithms, scale=_larger),
    Case("logaddexp2", _log_sum(mp.mpf(2)), (2.5, 2.5), pairs=_logarithms, scale=_larger),
    Case("pow", lambda x, y: mp.power(x, y), (1.0, 1.0), pairs=_powers),
    Case("cbrt", lambda x: mp.sign(x) * mp.cbrt(abs(x)), (1.0, 1.0)),
    Case("hypot", mp.hypot, (1.0, 1.0), pairs=_any_sizes),
)


HEAD = """# Accuracy of mathematical functions

Written by `python -m mathlib_tools.accuracy` (in `codegen/`): the greatest error found against mpmath on
{count} arguments of every size, in units in the last place (ulp), beside the bound that the tests enforce;
and the time of one element in a vectorised loop over arrays that fit the cache, on the machine where this
table was made. float16 is computed in float32 and rounded once.

| function | float32 ulp | bound | ns | float64 ulp | bound | ns |
|---|---|---|---|---|---|---|"""

TAIL = """
`sin`, `cos` and `tan` hold their bounds for every argument, however large. Errors of `logaddexp` and
`logaddexp2` are relative to the larger of the result and the arguments: the sum may cancel.

Exact for all arguments: `fmod`, `mod`, `nextafter`, `ldexp` (one rounding), `gcd`, `pow` of integers (modulo
the width; a negative exponent gives the quotient rounded toward zero), and `floordiv` as long as the quotient
is below two to the power of the stored mantissa bits (NumPy's own result is then sometimes one too low);
beyond, `floordiv` takes NumPy's steps.

NaN, infinities, signed zeros, subnormal numbers, overflow and underflow give C99's results.
"""


def errors(case: Case, kind: str, arguments: tuple[Array, ...], results: Array) -> Array:
    """The errors of results in units in the last place of the exact value.

    Infinity counts as the number after the largest one.
    """
    info = np.finfo(kind)
    mantissa, least = int(info.nmant), int(info.minexp)
    found = np.empty(len(results))
    with mp.workprec(PRECISION):
        over = mp.mpf(2) ** int(info.maxexp)
        for position, result in enumerate(results.tolist()):
            exact = [mp.mpf(float(argument[position])) for argument in arguments]
            value = case.reference(*exact)
            if mp.isinf(value):  # a pole at the end of the span
                found[position] = 0.0 if result == value else float("inf")
                continue
            size = abs(value) if case.scale is None else max(abs(value), case.scale(*exact))
            exponent = int(mp.frexp(size)[1]) - 1 if size else least
            got = mp.sign(result) * over if abs(result) == float("inf") else mp.mpf(result)
            if abs(value) > over:
                value = mp.sign(value) * over
                exponent = int(info.maxexp) - 1
            found[position] = float(abs(got - value) * mp.mpf(2) ** (mantissa - max(exponent, least)))
    return found


def measured(case: Case, kind: str, count: int, seed: int = 0) -> tuple[float, tuple[float, ...]]:
    """The greatest error on random arguments, and where it is."""
    arguments = case.samples(kind, count, seed)
    found = errors(case, kind, arguments, NativeFunction(case.name, *[kind] * len(arguments))(*arguments))
    worst = int(np.argmax(found))  # a NaN comes first
    return float(found[worst]), tuple(float(argument[worst]) for argument in arguments)


def _speed(case: Case, kind: str) -> float:
    rng = np.random.default_rng(0)
    arity = 1 if case.pairs is None else 2
    low, high = case.spans[kind == "float64"]
    inside = [rng.uniform(max(low, -3.0), min(high, 3.0), 8192).astype(kind) for _ in range(arity)]
    return NativeFunction(case.name, *[kind] * arity).nanoseconds(*inside)


def main(count: int = 20_000) -> None:
    """Measure every function and write the document."""
    lines = [HEAD.format(count=f"{count:,}")]
    for case in CASES:
        row = [f"`{case.name}`"]
        for kind in ("float32", "float64"):
            worst, _ = measured(case, kind, count)
            row += [f"{worst:.2f}", f"{case.bound(kind):g}", f"{_speed(case, kind):.2f}"]
        sys.stderr.write(" | ".join(row) + "\n")
        lines.append(f"| {' | '.join(row)} |")
    DOCUMENT.write_text("\n".join([*lines, TAIL]))


if __name__ == "__main__":
    main()
