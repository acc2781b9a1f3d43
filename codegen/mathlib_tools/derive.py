"""Derive every constant of ``symtensor_codegen.mathlib.coefficients`` and write that file.

Run with ``python -m mathlib_tools.derive`` from ``codegen/``; needs mpmath. Names of tables to derive may
follow; the others are then taken from the present file.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import mpmath as mp

from mathlib_tools.remez import rounded, rounded_minimax

TARGET = Path(__file__).parents[1] / "symtensor_codegen" / "mathlib" / "coefficients.py"
PRECISION = 200  # bits of the derivation
BITS = {23: 24, 52: 53}  # stored mantissa bits -> significant bits
Table = dict[int, tuple[float, ...]]


def parts(value: mp.mpf, count: int, *, first_bits: dict[int, int] | None = None) -> Table:
    """``value`` as a sum of ``count`` numbers of each format, the first with fewer bits where asked."""
    table: Table = {}
    for mantissa, bits in BITS.items():
        rest, found = value, []
        for position in range(count):
            width = (first_bits or BITS)[mantissa] if position == 0 else bits
            found.append(rounded(rest, width))
            rest -= found[-1]
        table[mantissa] = tuple(float(part) for part in found)
    return table


def fitted(
    function: Callable[[mp.mpf], mp.mpf],
    weight: Callable[[mp.mpf], mp.mpf],
    low: mp.mpf,
    high: mp.mpf,
    terms: dict[int, int],
) -> Table:
    """Minimax coefficients in each format, with the number of terms given for it."""
    table: Table = {}
    for mantissa, count in terms.items():
        table[mantissa], worst = rounded_minimax(function, weight, low, high, count, BITS[mantissa])
        sys.stderr.write(f"    {count} terms: 2^{math.log2(worst):.1f}\n")
    return {mantissa: tuple(values) for mantissa, values in table.items()}


def log_series(z: mp.mpf) -> mp.mpf:
    """``(log((1 + s) / (1 - s)) - 2 s) / s^3`` for ``z = s^2``."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / s**3


def exponential(base: mp.mpf, relative_to: Callable[[mp.mpf], mp.mpf]) -> Table:
    """``(base^r - 1 - r log(base)) / r^2`` where ``|r log(base)|`` is at most half of ln 2."""
    unit = mp.log(base)
    bound = mp.log(2) / 2 / unit * mp.mpf("1.001")
    return fitted(
        lambda r: (mp.expm1(r * unit) - r * unit) / r**2,
        lambda r: r**2 / abs(relative_to(r * unit)),
        -bound,
        bound,
        {23: 5, 52: 10},
    )


def odd(function: Callable[[mp.mpf], mp.mpf], bound: mp.mpf, terms: dict[int, int]) -> Table:
    """``(function(t) - t) / t^3`` in ``t^2`` for ``|t| <= bound``, the error relative to the function."""

    def rest(z: mp.mpf) -> mp.mpf:
        t = mp.sqrt(z)
        return (function(t) / t - 1) / z

    def weight(z: mp.mpf) -> mp.mpf:
        return z * mp.sqrt(z) / function(mp.sqrt(z))

    return fitted(rest, weight, mp.mpf(0), (bound * mp.mpf("1.001")) ** 2, terms)


def cosine() -> Table:
    """``(cos(r) - 1 + r^2 / 2) / r^4`` in ``r^2`` for ``|r| <= pi / 4``."""

    def rest(z: mp.mpf) -> mp.mpf:
        return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2

    def weight(z: mp.mpf) -> mp.mpf:
        return z * z / mp.cos(mp.sqrt(z))

    return fitted(rest, weight, mp.mpf(0), (mp.pi / 4 * mp.mpf("1.001")) ** 2, {23: 3, 52: 6})


def erf_exponent(mantissa: int, one: float, count: int) -> tuple[float, ...]:
    """``-log(erfc(x)) / x``; the constant term, which alone sets the error at small x, in two numbers."""

    def weight(x: mp.mpf) -> mp.mpf:
        return mp.erfc(x) * x / mp.erf(x)

    first = rounded(2 / mp.sqrt(mp.pi), BITS[mantissa])
    rest = fitted(lambda x: -mp.log(mp.erfc(x)) / x - first, weight, mp.mpf(0), mp.mpf(one), {mantissa: count})
    return (float(first), *rest[mantissa])


def erfc_factor(mantissa: int, end: float, k: int, count: int) -> tuple[float, ...]:
    """The factor of ``exp(-x^2) / (x + k)``, after M. Shepherd and J. Laframboise (1981)."""

    def factor(t: mp.mpf) -> mp.mpf:
        x = k * (1 + t) / (1 - t)
        return (x + k) * mp.erfc(x) * mp.exp(x * x)

    last = (mp.mpf(end) - k) / (mp.mpf(end) + k)
    first = rounded(factor(mp.mpf(0)), BITS[mantissa])
    rest = fitted(lambda t: factor(t) - first, lambda t: 1 / factor(t), mp.mpf(-1), last, {mantissa: count})
    return (float(first), *rest[mantissa])


def normal_quantile(upper: mp.mpf) -> mp.mpf:
    """The number that a standard normal variable exceeds with probability ``upper`` (below 1/2), by Newton's method."""
    z = mp.sqrt(-2 * mp.log(upper)) if upper < mp.mpf("0.05") else mp.mpf("0.5")
    for _ in range(200):
        rest = mp.erfc(z / mp.sqrt(2)) / 2 - upper
        step = -rest * mp.sqrt(2 * mp.pi) * mp.exp(z * z / 2)
        z -= max(min(step, mp.mpf(1)), mp.mpf(-1))
        if abs(step) < mp.mpf(2) ** (8 - mp.mp.prec):
            break
    return z


def normal_factor(w: mp.mpf) -> mp.mpf:
    """``sqrt(2) erfinv(x) / x`` for ``w = -log(1 - x^2)``, which is smooth in w (M. Giles, 2010)."""
    if w < mp.mpf(10) ** -30:
        return mp.sqrt(mp.pi / 2)
    x = mp.sqrt(-mp.expm1(-w))
    return normal_quantile(mp.exp(-w) / (1 + x) / 2) / x


def normal_polynomial(
    function: Callable[[mp.mpf], mp.mpf], ranges: dict[int, tuple[float, float]], terms: dict[int, int]
) -> Table:
    """``function`` over a range for each format, which is mapped to [-1, 1]; of least relative error."""
    table: Table = {}
    for mantissa, (low, high) in ranges.items():
        middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2

        def over(t: mp.mpf, middle: mp.mpf = middle, half: mp.mpf = half) -> mp.mpf:
            return function(middle + half * t)

        def weight(t: mp.mpf, over: Callable[[mp.mpf], mp.mpf] = over) -> mp.mpf:
            return 1 / over(t)

        table |= fitted(over, weight, mp.mpf(-1), mp.mpf(1), {mantissa: terms[mantissa]})
    return table


SMALL_S = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.001")
ERF_ONE = {23: 3.93, 52: 5.93}
NORMAL_CENTRE = {23: (0.0, 5.0), 52: (0.0, 6.25)}
NORMAL_TAIL = {23: (2.23, 4.65), 52: (2.49, 6.62)}
ERFC_END = {23: (10.1, 3.0), 52: (27.4, 4.0)}

SPECS: dict[str, tuple[str, Callable[[], Table]]] = {
    "LN2": ("ln 2 in two parts", lambda: parts(mp.log(2), 2)),
    "LOG2_OF_E": ("log2(e) in two parts", lambda: parts(1 / mp.log(2), 2)),
    "LOG10_OF_E": ("log10(e) in two parts", lambda: parts(1 / mp.log(10), 2)),
    "LOG10_OF_2": ("log10(2) in two parts", lambda: parts(mp.log(2) / mp.log(10), 2)),
    "EXP_RANGE": (
        "e^x is zero below the first; above the others e^x, and e^x / 2, is infinite (with n in range)",
        lambda: {23: (-104.5, 89.0, 89.6), 52: (-746.0, 710.0, 710.6)},
    ),
    "EXP": (
        "(e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, error relative to e^r",
        lambda: exponential(mp.e, mp.exp),
    ),
    "EXPM1": (
        "(e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, error relative to e^r - 1",
        lambda: exponential(mp.e, mp.expm1),
    ),
    "EXP2": (
        "(2^r - 1 - r ln 2) / r^2 for |r| <= 1/2, error relative to 2^r",
        lambda: exponential(mp.mpf(2), mp.exp),
    ),
    "LOG": (
        "(log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2 for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)",
        lambda: fitted(log_series, lambda z: z / 2, mp.mpf(0), SMALL_S, {23: 3, 52: 7}),
    ),
    "LOG2_SERIES_FIRST": ("2 / ln 2 in two parts", lambda: parts(2 / mp.log(2), 2)),
    "LOG2_SERIES_THIRD": ("2 / (3 ln 2) in two parts", lambda: parts(2 / (3 * mp.log(2)), 2)),
    "LOG2_SERIES": (
        "(log2((1 + s) / (1 - s)) - 2 / ln 2 (s + s^3 / 3)) / s^5 in s^2 for s as in LOG",
        lambda: fitted(
            lambda z: (log_series(z) - mp.mpf(2) / 3) / z / mp.log(2),
            lambda z: z * z * mp.log(2) / 2,
            mp.mpf(0),
            SMALL_S,
            {23: 3, 52: 7},
        ),
    ),
    "RECIPROCAL_CBRT": (
        "m^(-1/3) for 1 <= m <= 2",
        lambda: fitted(lambda m: 1 / mp.cbrt(m), mp.cbrt, mp.mpf(1), mp.mpf(2), {23: 6, 52: 11}),
    ),
    "HALF_PI": (
        "pi/2 in three parts, the first two bits short",
        lambda: parts(mp.pi / 2, 3, first_bits={23: 22, 52: 51}),
    ),
    "REDUCTION_END": (
        "up to here HALF_PI reduces an angle exactly enough",
        lambda: {23: (2.0**17,), 52: (2.0**28,)},
    ),
    "SIN": ("(sin(r) - r) / r^3 in r^2 for |r| <= pi / 4", lambda: odd(mp.sin, mp.pi / 4, {23: 3, 52: 6})),
    "COS": ("(cos(r) - 1 + r^2 / 2) / r^4 in r^2 for |r| <= pi / 4", cosine),
    "PI": ("pi in two parts", lambda: parts(mp.pi, 2)),
    "ARCTAN": (
        "(atan(t) - t) / t^3 in t^2 for |t| <= tan(pi / 8)",
        lambda: odd(mp.atan, mp.tan(mp.pi / 8), {23: 5, 52: 11}),
    ),
    "ARCSIN": (
        "(asin(s) - s) / s^3 in s^2 for |s| <= 1/2",
        lambda: odd(mp.asin, mp.mpf("0.5"), {23: 5, 52: 12}),
    ),
    "ERF_ONE": ("from here on erf rounds to one", lambda: {m: (one,) for m, one in ERF_ONE.items()}),
    "ERF": (
        "-log(erfc(x)) / x for 0 <= x <= ERF_ONE, error relative to erf(x); two constant terms",
        lambda: {m: erf_exponent(m, ERF_ONE[m], n) for m, n in ((23, 10), (52, 25))},
    ),
    "ERFC_END": (
        "from the first on erfc rounds to zero; the second is the k of ERFC",
        lambda: dict(ERFC_END),
    ),
    "ERFC": (
        "(x + k) exp(x^2) erfc(x) in t = (x - k) / (x + k) for 0 <= x <= ERFC_END; two constant terms",
        lambda: {m: erfc_factor(m, ERFC_END[m][0], int(ERFC_END[m][1]), n) for m, n in ((23, 10), (52, 23))},
    ),
    "NORMAL_CENTRE_RANGE": (
        "w = -log(1 - x^2) in the centre of the normal distribution",
        lambda: dict(NORMAL_CENTRE),
    ),
    "NORMAL_CENTRE": (
        "sqrt(2) erfinv(x) / x in w over NORMAL_CENTRE_RANGE mapped to [-1, 1]",
        lambda: normal_polynomial(normal_factor, NORMAL_CENTRE, {23: 10, 52: 24}),
    ),
    "NORMAL_TAIL_RANGE": (
        "sqrt(w) in the tails of the normal distribution",
        lambda: dict(NORMAL_TAIL),
    ),
    "NORMAL_TAIL": (
        "sqrt(2) erfinv(x) / x in sqrt(w) over NORMAL_TAIL_RANGE mapped to [-1, 1]",
        lambda: normal_polynomial(lambda s: normal_factor(s * s), NORMAL_TAIL, {23: 11, 52: 29}),
    ),
}

HEADER = '''"""Constants of the functions, derived by ``mathlib_tools.derive``: do not edit.

Tables have an entry for each format, by its stored mantissa bits (23: float32, 52: float64). Coefficients
are written lowest power first.
"""

# fmt: off

from typing import Final

LOG2_E: Final = {log2_e!r}
TWO_OVER_PI: Final = {two_over_pi!r}
TAN_SIXTEENTH_TURN: Final = {tangent!r}

# the first bits of 2/pi, in words of 64 bits
TWO_OVER_PI_BITS: Final = (
{words}
)
'''


def bits_of_two_over_pi(words: int) -> list[int]:
    """The leading words of 64 bits of 2/pi."""
    with mp.workprec(64 * words + 64):
        bits = int(mp.floor(mp.ldexp(2 / mp.pi, 64 * words)))
    return [bits >> (64 * (words - 1 - k)) & (2**64 - 1) for k in range(words)]


def written(name: str, comment: str, table: Table) -> str:
    """One table as Python text."""
    lines = [f"\n# {comment}", f"{name}: Final[dict[int, tuple[float, ...]]] = {{"]
    for mantissa, values in table.items():
        lines.append(f"    {mantissa}: (")
        row = "       "
        for value in values:
            if len(row) + len(repr(value)) > 105:
                lines.append(row)
                row = "       "
            row += f" {value!r},"
        lines += [row, "    ),"]
    return "\n".join([*lines, "}", ""])


def main(wanted: list[str]) -> None:
    """Derive the wanted tables (all where none is named) and write the file."""
    mp.mp.prec = PRECISION
    present: dict[str, Table] = {}
    if wanted and TARGET.exists():
        exec(TARGET.read_text(), present)  # type: ignore[arg-type]
    text = HEADER.format(
        log2_e=1 / math.log(2),
        two_over_pi=2 / math.pi,
        tangent=math.sqrt(2) - 1,
        words="\n".join(f"    {word:#018x}," for word in bits_of_two_over_pi(19)),
    )
    for name, (comment, derive) in SPECS.items():
        if name in present and name not in wanted:
            table = present[name]
        else:
            sys.stderr.write(f"{name}\n")
            table = derive()
        text += written(name, comment, table)
    TARGET.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
