"""Random words: NumPy's Philox, in scalars and lanes, from any position; and the normal quantile."""

import mpmath
import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.llvm import jit
from symtensor_codegen.llvm.run_kernel import NativeKernel, run_kernel
from symtensor_codegen.llvm.schedule import vectorise
from symtensor_codegen.loops import For, Kernel, LoopKind, Store, parameter
from symtensor_codegen.mathlib.normal import quantile_of
from symtensor_codegen.mathlib.philox import halves_of, words_of
from symtensor_codegen.scalar import Buffer, Scalar

WIDE = jit.host()._replace(vector_bits=512, masked_loads=True)
NARROW = jit.host()._replace(vector_bits=256)
SSE = jit.host()._replace(vector_bits=128)


def kernel(op: scalar.ScalarOp, step: int = 1) -> Kernel:
    """Stores the words of a stream, every ``step``-th of them."""
    out, state = Buffer("out", _kind(op), (parameter(0),)), Buffer("state", dtypes.uint64, (4,))
    i = scalar.index("i", parameter(0))
    first, second, stream, position = (scalar.load(state, (k,)) for k in range(4))
    drawn = op(first, second, stream, scalar.const(0, dtypes.uint64), position, i * step)
    loop = For(i, parameter(0), (Store(out, (i,), drawn),), LoopKind.PARALLEL)
    return Kernel("words", (out, state), (parameter(0),), (loop,), written=frozenset((out,)))


def _kind(op: scalar.ScalarOp) -> DType:
    return dtypes.uint32 if op is scalar.philox32 else dtypes.uint64


def state_of(seed: int, stream: int, position: int) -> np.ndarray:
    key = np.random.Philox(seed).state["state"]["key"]
    return np.array([*key, stream, position], np.uint64)


@pytest.mark.parametrize("target", [WIDE, NARROW, SSE], ids=["wide", "narrow", "sse"])
@pytest.mark.parametrize("op", [scalar.philox64, scalar.philox32], ids=repr)
def test_words_are_numpys_from_any_position_and_in_any_pieces(op, target):
    native = NativeKernel(vectorise(kernel(op), target), target)
    for stream, position, count in [(0, 0, 200), (0, 1, 70), (3, 2, 33), (2, 3, 5), (1, 7, 1), (0, 4, 64)]:
        bits = np.random.Philox(7).jumped(stream)
        bits.random_raw(position)
        if op is scalar.philox64:
            want = bits.random_raw(count)
        else:
            want = np.random.Generator(bits).integers(0, 2**32, count, dtype=np.uint32)
        for cut in (0, 1, 3, count // 2):
            got = np.zeros(count, want.dtype)
            arguments = native.arguments([got, state_of(7, stream, position)], [count])
            assert native.launch(arguments, 0, cut) == 0
            assert native.launch(arguments, cut, count) == 0
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("op", [scalar.philox64, scalar.philox32], ids=repr)
def test_words_out_of_order(op):
    made = vectorise(kernel(op, 3), WIDE)
    got = np.zeros(50, _kind(op).numpy)
    state = state_of(5, 2, 6)
    assert run_kernel(made, [got, state], [50], 0, 50, WIDE) == 0
    function = words_of if op is scalar.philox64 else halves_of
    np.testing.assert_array_equal(got, function(*state[:3], 0, state[3], 3 * np.arange(50)))


def test_lanes_that_draw_in_order_take_whole_blocks():
    """Four registers of words at once: a register of blocks."""
    for op, width, unroll in ((scalar.philox64, 8, 4), (scalar.philox32, 16, 4)):
        (loop,) = vectorise(kernel(op), WIDE).body
        assert isinstance(loop, For)
        assert (loop.width, loop.unroll) == (width, unroll)


def test_a_block_of_the_published_examples():
    """Known answers of the Random123 library for philox4x64-10."""
    ones = 2**64 - 1
    for counter, key, want in [
        ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
        ((ones,) * 4, (ones, ones), (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)),
    ]:
        from symtensor_codegen.mathlib.philox import block

        word = [scalar.const(w, dtypes.uint64) for w in (*key, *counter)]
        found = block((word[0], word[1]), (word[2], word[3], word[4], word[5]))
        assert tuple(w.param for w in found) == want


def test_upper_half_of_a_product():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**64, (2, 100), np.uint64)
    want = [(int(x) * int(y)) >> 64 for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(scalar.mulhi.numpy(a, b), np.array(want, np.uint64))
    for target in (WIDE, SSE):
        x, y, out = (Buffer(n, dtypes.uint64, (100,)) for n in ("x", "y", "out"))
        i = scalar.index("i", 100)
        store = Store(out, (i,), scalar.mulhi(scalar.load(x, (i,)), scalar.load(y, (i,))))
        made = Kernel("k", (out, x, y), (), (For(i, 100, (store,)),), written=frozenset((out,)))
        got = np.zeros(100, np.uint64)
        assert run_kernel(vectorise(made, target), [got, a, b], target=target) == 0
        np.testing.assert_array_equal(got, np.array(want, np.uint64))


# The normal quantile --------------------------------------------------------------------------------------


def quantiles(x: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The compiled function on arrays."""
    kind = dtypes.of(x.dtype)
    a, b, out = (Buffer(n, kind, (len(x),)) for n in ("x", "rest", "out"))
    i = scalar.index("i", len(x))
    value: Scalar = scalar.normal_quantile(scalar.load(a, (i,)), scalar.load(b, (i,)))
    made = Kernel("k", (out, a, b), (), (For(i, len(x), (Store(out, (i,), value),)),), written=frozenset((out,)))
    got = np.zeros_like(x)
    assert run_kernel(vectorise(made, jit.host()), [got, x, rest]) == 0
    return got


@pytest.mark.parametrize(("kind", "bits", "bound"), [(np.float64, 64, 6.0), (np.float32, 32, 6.0)], ids=str)
def test_quantile_against_multiple_precision(kind, bits, bound):
    """Over all magnitudes of the distance to the end of (-1, 1), up to the last that random bits give."""
    rng = np.random.default_rng(1)
    rest = np.concatenate([np.exp2(-rng.uniform(0, bits, 300)), [2.0**-bits, 0.5, 0.25]]).astype(kind)
    rest = np.concatenate([rest, rng.uniform(0, 1, 200).astype(kind)])
    x = (1 - rest.astype(np.float64)).astype(kind)
    keep = x > 0
    x, rest = x[keep], rest[keep]
    got = quantiles(x, rest)
    with mpmath.workprec(160):
        for value, end, found in zip(x.tolist(), rest.tolist(), got.tolist(), strict=True):
            # x and its distance to 1 are two roundings of one number; the smaller one is the precise one.
            exact = _exact_quantile(mpmath.mpf(end) if end < 0.5 else 1 - mpmath.mpf(value))
            assert abs(found - exact) <= bound * np.spacing(kind(abs(exact))) + np.finfo(kind).eps / 8, (value, end)


def _exact_quantile(rest: mpmath.mpf) -> mpmath.mpf:
    upper = rest / 2
    start = float(-quantile_of(np.array([-1.0]), np.array([float(rest)]))[0])
    return mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2) - mpmath.log(upper), abs(start))


def test_quantile_is_odd():
    rest = np.linspace(0.01, 0.99, 57)
    np.testing.assert_array_equal(quantiles(1 - rest, rest), -quantiles(rest - 1, rest))
