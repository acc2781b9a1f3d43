"""Random words in packs: the numbers of the CPU bit for bit, from one block for all elements of a thread's pack.

States are arguments, so that a draw can begin anywhere in a block. Whole numbers are added exactly in any order: sums
of draws are compared bit for bit too.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function
from symtensor.ops.random_draws import RANDOM_BITS
from symtensor.random import distributions as draw
from symtensor_codegen import dtypes
from symtensor_codegen.cuda.schedules import stages
from symtensor_codegen.mathlib.philox import halves_of, words_of

pytestmark = [pytest.mark.cuda_host, pytest.mark.usefixtures("device")]
Array = np.ndarray[Any, Any]
Build = Callable[..., Any]


def bits(state: Any, sizes: Any, dtype: str) -> Any:
    return draw._basic(RANDOM_BITS, state, sizes, dtypes.of(dtype))[0]


def uniform(state: Any, sizes: Any, dtype: str) -> Any:
    return draw.uniform(state, 0.0, 1.0, sizes, dtype)[0]


def mask(state: Any, sizes: Any, dtype: str) -> Any:
    return draw.bernoulli(state, 0.7, sizes, dtype)[0]


def integers(state: Any, sizes: Any, dtype: str) -> Any:
    return draw.integers(state, -3, 11, sizes, dtype, closed=True)[0]


DRAWS: dict[str, tuple[Build, str]] = {
    f"{build.__name__} {dtype}": (build, dtype)
    for build, types in (
        (bits, ("uint32", "uint64")),
        (uniform, ("float16", "float32", "float64")),
        (mask, ("float16", "float32", "float64", "int64", "int8", "bool")),
        (integers, ("int64", "int16")),
    )
    for dtype in types
}


def state_at(position: int) -> Array:
    return np.array([0x9D39247E33776D41, 0x2AF7398005AAA5C7, 3, position], np.uint64)


class Pair:
    """A function for the CPU and for a device."""

    def __init__(self, inputs: list[Any], output: Any) -> None:
        self.cpu, self.cuda = (function(inputs, output, device=name) for name in ("cpu", "cuda"))

    def check(self, *values: Any) -> Array:
        """The result, the same on both."""
        found, wanted = self.cuda(*values), self.cpu(*values)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        return found


STATE, N, M = T.vector("state", dtype="uint64"), T.lscalar("n"), T.lscalar("m")


@pytest.mark.cuda_host
@pytest.mark.parametrize("name", DRAWS)
def test_every_size_and_position(name: str) -> None:
    build, dtype = DRAWS[name]
    pair = Pair([STATE, N], build(STATE, [N], dtype))
    for size in range(1, 71):
        pair.check(state_at(size * 5 % 9), size)
    for position in range(9):
        pair.check(state_at(position), 67)


@pytest.mark.cuda_host
@pytest.mark.parametrize(("dtype", "reference"), [("uint32", halves_of), ("uint64", words_of)])
def test_positions_count_modulo_two_to_the_64(dtype: str, reference: Build) -> None:
    f = function([STATE, N], bits(STATE, [N], dtype), device="cuda")
    for position in (2**62 - 3, 2**63 - 2, 2**63 + 1, 2**64 - 7, 2**64 - 1):
        first, second, stream, start = state = state_at(position)
        wanted = reference(first, second, stream, 0, start, np.arange(45))
        np.testing.assert_array_equal(f(state, 45), wanted)


@pytest.mark.cuda_host
@pytest.mark.parametrize("name", DRAWS)
def test_beside_arrays(name: str) -> None:
    """Arrays that begin where packs may, and those that do not; rows of which few or none do."""
    build, dtype = DRAWS[name]
    x, k = T.dmatrix("x"), T.lscalar("k")
    part = x[:, k:]
    pair = Pair([STATE, x, k], T.switch(part > 0, build(STATE, [part.shape[0], part.shape[1]], dtype), 0))
    rng = np.random.default_rng(3)
    for shape, begin in (((3, 24), 0), ((5, 13), 0), ((4, 12), 4), ((4, 14), 1), ((3, 22), 2), ((1, 35), 3)):
        for position in (0, 3):
            pair.check(state_at(position), rng.normal(size=shape), begin)


@pytest.mark.cuda_host
@pytest.mark.parametrize("name", ["bits uint64", "bits uint32", "mask float32", "mask int64", "integers int64"])
@pytest.mark.parametrize("form", ["sum", "rows", "columns", "running"])
def test_where_they_are_combined(form: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "A_FEW", 0)  # threads have several columns, however few there are
    build, dtype = DRAWS[name]
    x = T.matrix("x", dtype=dtype)
    drawn = build(STATE, [x.shape[0], x.shape[1]], dtype)
    made = {
        "sum": drawn.sum(),
        "rows": (x * drawn).sum(axis=1),
        "columns": (x * drawn).sum(axis=0),
        "running": T.cumsum(x * drawn, axis=1),
    }[form]
    pair = Pair([STATE, x], made) if form != "sum" else Pair([STATE, N, M], build(STATE, [N, M], dtype).sum())
    shapes = [(3, 70), (64, 12), (7, 9), (2, 1037), (1, 5)]
    for shape in shapes:
        values = np.arange(shape[0] * shape[1]).reshape(shape) % 5
        for position in (0, 1, 6):
            arguments = shape if form == "sum" else (values.astype(dtype),)
            pair.check(state_at(position), *arguments)


@pytest.mark.cuda_host
def test_several_streams_in_a_loop() -> None:
    x, other = T.fvector("x"), T.vector("other", dtype="uint64")
    sizes = [x.shape[0]]
    first, second, third = mask(STATE, sizes, "float32"), mask(other, sizes, "int64"), bits(other, sizes, "uint32")
    pair = Pair([STATE, other, x], x * first + second * 3 + (third & 7))
    for size in (1, 8, 37, 64):
        pair.check(state_at(2), state_at(5) + np.uint64(1), np.ones(size, np.float32))


@pytest.mark.cuda_host
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_any_probability(dtype: str) -> None:
    """Numbers below p count as ones, for every p; the numbers are compared as integers."""
    p = T.scalar("p", dtype=dtype)
    pair = Pair([STATE, p], draw.bernoulli(STATE, p, [40], "int64")[0])
    words, unused, digits = (halves_of, 0, 32) if dtype == "float32" else (words_of, 11, 53)
    first, second, stream, start = state_at(1)
    numbers = words(first, second, stream, 0, start, np.arange(40)) >> np.uint64(unused)
    some = [float(numbers[k]) * 2.0**-digits for k in (0, 1)]
    beyond = (-0.3, 2, 1e38, -1e38, np.nan, np.inf, -np.inf)
    for value in (0, 1, 0.5, 0.3, 1e-45, *some, *np.nextafter(some, 1), *beyond):
        given = np.asarray(value, dtype)
        wanted = numbers.astype(np.float64) * 2.0**-digits < given.astype(np.float64)
        np.testing.assert_array_equal(pair.check(state_at(1), given), wanted)


# Text ---------------------------------------------------------------------------------------------------------------


def loops_of(text: str) -> list[str]:
    """The loops over packs in a text, with what is in them."""
    found = []
    for match in re.finditer(r"( +)for \(i64 near\w* = .*\n", text):
        end = text.index(f"\n{match[1]}}}", match.end())
        found.append(text[match.start() : end])
    return found


@pytest.mark.parametrize("name", DRAWS)
def test_a_block_is_computed_once_in_a_pack(name: str) -> None:
    build, dtype = DRAWS[name]
    f = function([STATE, N], build(STATE, [N], dtype), device="cuda:sm_90")
    (loop,) = loops_of(f.source("cuda"))
    before, each = loop.split("#pragma unroll\n", 1)
    assert before.count("st_philox_row(") == 1
    assert "st_philox" not in re.sub(r"st_philox64<1>", "", each)  # a second word that few need
    ((_, width),) = re.findall(r"(u32|u64) words\[(\d+)\]", before)
    assert int(width) * (4 if "u32 words" in before else 8) >= 32


def test_normal_numbers_that_are_added_need_no_memory_for_packs() -> None:
    f = function([STATE, N], draw.normal(STATE, 0.0, 1.0, [N], "float32")[0].sum(), device="cuda:sm_90")
    first = next(loop for loop in loops_of(f.source("cuda")) if "st_philox" in loop)
    assert "u32 words[8];" in first
    assert first.count("st_philox") == 1
    assert "#pragma unroll\n" not in first  # long code is not repeated for each of eight


def test_arrays_in_packs_of_a_block_begin_at_multiples_of_16_bytes() -> None:
    """A pack is wider than an access: rows of 12 floats, say, have packs all the same."""
    x = T.fmatrix("x")
    f = function([STATE, x], (x * mask(STATE, [x.shape[0], x.shape[1]], "float32")).sum(axis=1), device="cuda:sm_90")
    (test,) = re.findall(r"const i64 rest = (.*) \?", f.source("cuda"))
    assert "& 15) == 0" in test
    assert "& 3) == 0" in test
    assert "& 7) == 0" not in test
