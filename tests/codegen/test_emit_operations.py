"""Every operation of a kernel, on scalars and on vectors, against NumPy's result for the same type."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import BackendError
from symtensor_codegen.llvm import jit
from symtensor_codegen.llvm.operations import SPELL
from symtensor_codegen.llvm.run_kernel import run_kernel
from symtensor_codegen.loops import For, Kernel, LoopKind, Store, parameter
from symtensor_codegen.scalar import Buffer, Scalar, ScalarOp

REAL = tuple(d for d in dtypes.ALL if not d.is_complex)
FLOATS = tuple(d for d in REAL if d.is_float)
INTEGERS = tuple(d for d in REAL if d.is_integer)
BITS = (*INTEGERS, dtypes.bool_)

TYPES: dict[str, tuple[DType, ...]] = {
    **dict.fromkeys(("add", "mul", "minimum", "maximum", "fmin", "fmax"), REAL),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), REAL),
    **dict.fromkeys(("sub", "neg", "abs", "sign"), FLOATS + INTEGERS),
    **dict.fromkeys(("floor", "ceil", "trunc"), FLOATS + INTEGERS),
    **dict.fromkeys(("div", "sqrt", "copysign", "rint"), FLOATS),
    **dict.fromkeys(("isnan", "isinf", "isfinite", "signbit"), FLOATS),
    **dict.fromkeys(("bit_and", "bit_or", "bit_xor", "bit_not"), BITS),
    **dict.fromkeys(("floordiv", "mod", "shl", "shr"), INTEGERS),
    "mulhi": (dtypes.uint64,),
}
CASES = [(name, dtype) for name, kinds in TYPES.items() for dtype in kinds]


def values(dtype: DType, seed: int) -> np.ndarray[Any, Any]:
    """Ordinary and special values of a type; the last ones are paired with each other by ``seed``."""
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.random(64) < 0.5
    if dtype.is_float:
        special = np.array([0.0, -0.0, 1.0, -1.5, 2.5, -3.5, np.inf, -np.inf, np.nan, 1e-40, 65504.0, -7.0])
        special = special.astype(dtype.numpy)
        ordinary = random.normal(size=50) * 10
    else:
        limits = np.iinfo(dtype.numpy)
        least = 0 if limits.min == 0 else -1
        listed = [0, 0, 1, limits.max, limits.min, 7, limits.max - 1, 2, 3, 8, 63, least]
        special = np.array(listed, dtype.numpy)
        ordinary = random.integers(limits.min, limits.max, 50, dtype=dtype.numpy, endpoint=True)
    if seed:
        random.shuffle(special)
    return np.concatenate([special, ordinary.astype(dtype.numpy)])


def elementwise(expression: Scalar, inputs: list[Buffer], index: Scalar, width: int, unroll: int) -> Kernel:
    """The kernel that stores an expression of its inputs at one index."""
    out = Buffer("out", expression.dtype, (parameter(0),))
    body = For(index, parameter(0), (Store(out, (index,), expression),), LoopKind.PARALLEL, width, unroll)
    return Kernel("map", (*inputs, out), (parameter(0),), (body,), written=frozenset((out,)))


def computed(
    op: ScalarOp, arrays: list[np.ndarray[Any, Any]], width: int, unroll: int = 1, bits: int = 512
) -> np.ndarray[Any, Any]:
    """The operation on whole arrays by a kernel of that width."""
    index = scalar.index("i", parameter(0))
    inputs = [Buffer(f"x{k}", dtypes.of(array.dtype), (parameter(0),)) for k, array in enumerate(arrays)]
    expression = op(*(scalar.load(buffer, (index,)) for buffer in inputs))
    kernel = elementwise(expression, inputs, index, width, unroll)
    count = len(arrays[0])
    out = np.zeros(count, expression.dtype.numpy)
    target = jit.host()._replace(vector_bits=bits)
    assert run_kernel(kernel, [*arrays, out], [count], 0, count, target) == 0
    return out


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda case: str(case))
@pytest.mark.parametrize("width", [1, 8])
def test_operation_is_numpys(name: str, dtype: DType, width: int) -> None:
    op = scalar.OPS[name]
    arrays = [values(dtype, seed) for seed in range(op.arity)]
    assert op.numpy is not None
    with np.errstate(all="ignore"):
        expected = np.asarray(op.numpy(*arrays))
        if dtype is dtypes.bool_ and expected.dtype != bool:
            expected = expected.astype(bool)  # NumPy has no bool maximum of another type
    got = computed(op, arrays, width)
    np.testing.assert_array_equal(got, expected.astype(got.dtype))
    if got.dtype.kind == "f" and name not in ("minimum", "maximum", "fmin", "fmax"):
        ordered = ~np.isnan(expected)  # the sign of a NaN says nothing
        np.testing.assert_array_equal(np.signbit(got)[ordered], np.signbit(expected)[ordered])


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_fma_rounds_once(dtype: DType) -> None:
    one = dtype.numpy.type(1)
    tiny = np.finfo(dtype.numpy).eps
    a = np.full(9, one + tiny, dtype.numpy)
    exact = np.full(9, tiny * tiny, dtype.numpy)  # (1 + e)(1 - e) - 1 is -e*e, which two roundings lose
    for width in (1, 8):
        got = computed(scalar.fma, [a, np.full(9, one - tiny, dtype.numpy), np.full(9, -one)], width)
        np.testing.assert_array_equal(got, -exact)


@pytest.mark.parametrize("target", REAL, ids=str)
@pytest.mark.parametrize("source", REAL, ids=str)
def test_cast_is_numpys(source: DType, target: DType) -> None:
    array = values(source, 0)
    if source.is_float and target.is_integer:  # beyond the target's range NumPy's result varies by loop
        array = np.nan_to_num(array, posinf=3, neginf=5)
        array = np.clip(array.astype(float), 0 if target.kind == "u" else -100, 100).astype(source.numpy)
    with np.errstate(all="ignore"):
        expected = array.astype(target.numpy)
    for width in (1, 16):
        got = computed(_caster(target), [array], width)
        np.testing.assert_array_equal(got, expected)


def _caster(target: DType) -> Any:
    return lambda value: scalar.cast(value, target)


HALVES = """
import numpy as np
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.llvm.run_kernel import run_kernel
from symtensor_codegen.loops import For, Kernel, LoopKind, Store, parameter
from symtensor_codegen.scalar import Buffer

n = parameter(0)

def convert(array, target):
    source, out = Buffer("x", dtypes.of(array.dtype), (n,)), Buffer("out", target, (n,))
    i = scalar.index("i", n)
    store = Store(out, (i,), scalar.cast(scalar.load(source, (i,)), target))
    loop = For(i, n, (store,), LoopKind.SERIAL, 8)
    result = np.zeros(len(array), target.numpy)
    kernel = Kernel("cast", (source, out), (n,), (loop,), written=frozenset((out,)))
    assert run_kernel(kernel, [array, result], [len(array)]) == 0
    return result

np.seterr(all="ignore")
halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
for wide in (np.float32, np.float64):
    exact = halves.astype(wide)
    assert np.array_equal(convert(halves, dtypes.of(wide)), exact, equal_nan=True)
    middle = (exact + np.roll(exact, 1)) / 2  # ties between neighbours, and a hair above and below
    for some in (exact, middle, np.nextafter(middle, wide(9e9)), np.nextafter(middle, wide(-9e9))):
        got, expected = convert(some, dtypes.float16), some.astype(np.float16)
        assert np.array_equal(got, expected, equal_nan=True)
        assert np.array_equal(np.signbit(got), np.signbit(expected))
print("equal")
"""


@pytest.mark.parametrize("cpu", ["native", "x86-64"])
def test_every_float16_converts_as_in_numpy(cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if cpu != "native" and not jit.host().triple.startswith("x86_64"):
        pytest.skip("an x86 processor without conversions is needed")
    monkeypatch.setenv("SYMTENSOR_CPU", cpu)
    done = subprocess.run([sys.executable, "-c", HALVES], capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 8, 64, -1, -2, -5])
@pytest.mark.parametrize("dtype", [dtypes.int8, dtypes.int32, dtypes.int64], ids=str)
def test_division_by_constants(dtype: DType, divisor: int) -> None:
    array = values(dtype, 0)
    by = np.full_like(array, divisor)
    for op in (scalar.floordiv, scalar.mod):
        assert op.numpy is not None
        with np.errstate(all="ignore"):
            expected = op.numpy(array, by)
        for width in (1, 8):
            got = computed(lambda x, op=op: op(x, scalar.const(divisor, dtype)), [array], width)  # type: ignore[arg-type]
            np.testing.assert_array_equal(got, expected)


def test_all_spelled_operations_are_tested() -> None:
    elsewhere = {"fma", "select", "rarely", "cast", "bitcast"}
    assert set(SPELL) == set(TYPES) | elsewhere


def test_unknown_meaning_is_refused() -> None:
    truths = np.array([True, False])
    with pytest.raises(BackendError, match="sub has no meaning on bool"):
        computed(scalar.sub, [truths, truths], 1)
    with pytest.raises(BackendError, match="div on int32"):
        computed(scalar.div, [np.arange(3, dtype=np.int32)] * 2, 1)
    with pytest.raises(BackendError, match="complex64 values must be split"):
        computed(scalar.add, [np.zeros(3, np.complex64)] * 2, 1)
