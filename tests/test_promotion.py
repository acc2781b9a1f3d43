"""Common element types: NumPy 2's, compared with NumPy itself, and Theano's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.settings import config
from symtensor.types import TensorType
from symtensor_codegen import dtypes
from symtensor_codegen.errors import DTypeError

NAMES = [d.name for d in dtypes.ALL]
BINARY = {
    "add": np.add, "mul": np.multiply, "true_div": np.true_divide, "maximum": np.maximum, "eq": np.equal,
    "arctan2": np.arctan2, "hypot": np.hypot, "pow": np.power, "floordiv": np.floor_divide, "mod": np.mod,
    "bitwise_and": np.bitwise_and, "left_shift": np.left_shift, "gcd": np.gcd, "copysign": np.copysign,
}  # fmt: skip
UNARY = {
    "exp": np.exp, "sqrt": np.sqrt, "sin": np.sin, "arctanh": np.arctanh, "log1p": np.log1p,
    "neg": np.negative,
    "abs": np.abs, "sign": np.sign, "sqr": np.square, "isnan": np.isnan, "floor": np.floor, "rint": np.rint,
    "cbrt": np.cbrt, "signbit": np.signbit, "deg2rad": np.deg2rad, "invert": np.invert, "exp2": np.exp2,
}  # fmt: skip


def leaf(dtype: str) -> T.TensorVariable:
    return TensorType(dtype, (None,))()


def outcome(function: Callable[..., Any], *operands: Any) -> str:
    try:
        with np.errstate(all="ignore"):
            return str(function(*operands).dtype)
    except TypeError:
        return "refused"


# Known and meant: integers and bools that NumPy rounds in floating point stay whole here (their value is the
# same); quotients and powers of bools have no use, their square is their product; complex numbers have no
# order.
def differs_on_purpose(name: str, kinds: str) -> bool:
    return (
        (name in ("floor", "rint") and set(kinds) <= set("biu"))
        or (name in ("floordiv", "mod", "pow", "left_shift") and set(kinds) == {"b"})
        or (name == "sqr" and kinds == "b")
        or (name in ("maximum", "rint") and "c" in kinds)
    )


@pytest.mark.parametrize("name", BINARY)
def test_arrays_promote_as_in_numpy(name: str) -> None:
    for a in NAMES:
        for b in NAMES:
            kinds = np.dtype(a).kind + np.dtype(b).kind
            if not differs_on_purpose(name, kinds):
                expected = outcome(BINARY[name], np.ones(1, a), np.ones(1, b))
                assert outcome(getattr(T, name), leaf(a), leaf(b)) == expected, (a, b)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_argument_have_numpys_type(name: str) -> None:
    from symtensor.opdef import OPS

    for a in NAMES:
        if not differs_on_purpose(name, np.dtype(a).kind):
            assert outcome(OPS[name], leaf(a)) == outcome(UNARY[name], np.ones(1, a)), a


@pytest.mark.parametrize("number", [True, 2, 2.5, 1j])
def test_python_numbers_are_weak(number: complex) -> None:
    for a in NAMES:
        if number is not True or a != "bool":
            assert (leaf(a) + number).dtype == str((np.ones(1, a) + number).dtype), a
            assert (number * leaf(a)).dtype == str((number * np.ones(1, a)).dtype), a
        if number != 1j and np.dtype(a).kind != "c":
            assert T.hypot(leaf(a), number).dtype == str(np.hypot(np.ones(1, a), number).dtype), a


def test_numpy_scalars_and_arrays_are_strong() -> None:
    x = leaf("float32")
    assert (x * np.float64(2)).dtype == "float64"
    assert (np.float64(2) * x).dtype == "float64"
    assert (np.arange(3) + x).dtype == "float64"
    assert (x * np.float32(2)).dtype == "float32"
    assert (np.array([1, 2, 3]) + x).dtype == "float64"


def test_integers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DTypeError, match="add: Python integer 1000 is out of bounds for int8"):
        leaf("int8") + 1000
    with pytest.raises(DTypeError, match="-1 is out of bounds for uint16"):
        leaf("uint16") * -1


def test_bools_as_in_numpy() -> None:
    p, q = leaf("bool"), leaf("bool")
    assert (p + q).dtype == (p * q).dtype == "bool"
    with pytest.raises(DTypeError, match="sub does not take bool"):
        p - q
    with pytest.raises(DTypeError, match="neg does not take bool"):
        -p


def test_things_that_are_not_numbers() -> None:
    with pytest.raises(DTypeError):
        leaf("float32") + "text"
    with pytest.raises(DTypeError):
        T.cast(leaf("float32"), "text")


# THEANO_SEMANTICS 9 to 13 ----------------------------------------------------------------------------------


def test_theanos_table() -> None:
    with config.change(cast_policy="theano", floatX="float32"):
        b, i, n, f = T.bvector(), T.ivector(), T.lvector(), T.fvector()
        assert (b + f).dtype == "float32"
        assert (i + f).dtype == (n + f).dtype == "float64"
        assert (i * 1.0).dtype == "float64"
        assert (f + 2.0).dtype == (f * np.pi).dtype == "float32"
        assert (f + np.float64(2)).dtype == "float64"
        assert (b + 1000).dtype == "int16"
        assert (b + 100).dtype == "int8"
        assert (n / 2).dtype == (i / i).dtype == "float32"
        assert (b // 2).dtype == "int8"
        assert T.sqrt(i).dtype == T.sqrt(n).dtype == "float64"
        assert T.exp(b).dtype == "float32"
        assert (f**2).dtype == "float32"
        assert T.eq(i, f).dtype == "bool"
        assert (1 - T.eq(i, 1)).dtype == "int8"
        assert T.switch(T.eq(i, 1), 1, 0).dtype == "int8"
        assert T.switch(T.eq(i, 1), 1.0, 0.0).dtype == "float32"
        assert T.cast(i, "floatX").dtype == i.astype("floatX").dtype == "float32"
        assert T.constant(1).dtype == T.constant(True).dtype == "int8"
        assert T.constant(300).dtype == "int16"
        assert T.constant(1.0).dtype == "float32"
        assert T.constant([1, 2]).dtype == "int64"
        assert T.as_tensor_variable([1.0, 2.0]).dtype == "float64"


def test_theanos_table_in_double_precision() -> None:
    with config.change(cast_policy="theano", floatX="float64"):
        f = T.fvector()
        assert (f * np.pi).dtype == "float64"
        assert (f + 2.0).dtype == "float32"
        assert (T.ivector() / 2).dtype == "float64"


def test_floatx_is_read_when_used() -> None:
    with config.change(floatX="float32"):
        assert T.matrix().dtype == T.scalar().dtype == "float32"
    assert T.matrix().dtype == "float64"
    assert T.vector(dtype="int32").dtype == "int32"
