"""Complex elementary functions: the scalar formulas, evaluated by NumPy, against mpmath."""

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np
import pytest

import symtensor  # noqa: F401 - fills the table of operations
from symtensor.opdef import OPS
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.expr import topological
from symtensor_codegen.scalar import Scalar

FUNCTIONS = {
    "exp": mpmath.exp, "exp2": lambda z: mpmath.power(2, z), "expm1": mpmath.expm1, "log": mpmath.log,
    "log2": lambda z: mpmath.log(z) / mpmath.log(2), "log10": mpmath.log10,
    "log1p": lambda z: mpmath.log(1 + z),
    "sqrt": mpmath.sqrt, "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "arcsin": mpmath.asin, "arccos": mpmath.acos,
    "arctan": mpmath.atan, "arcsinh": mpmath.asinh, "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "abs": abs, "angle": mpmath.arg, "sign": mpmath.sign, "reciprocal": lambda z: 1 / z,
    "sqr": lambda z: z * z,
}  # fmt: skip
PARTS = (-30.0, -3.0, -0.7, -0.3, -1e-6, 1e-9, 0.2, 0.6, 0.9999, 1.3, 5.0)
GRID = np.array([complex(re, im) for re in PARTS for im in PARTS])
BOUND = 4.0  # units in the last place of the modulus


def evaluated(expression: Scalar, known: Mapping[Scalar, Any]) -> Any:
    values: dict[Scalar, Any] = dict(known)
    for node in topological([expression], lambda node: node.args):
        if node in values:
            continue
        operands = [values[a] for a in node.args]
        if node.op is scalar.const_op:
            values[node] = node.dtype.numpy.type(node.param)
        elif node.op is scalar.complex_op:
            values[node] = (operands[0] + 1j * operands[1]).astype(node.dtype.numpy)
        else:
            assert node.op.numpy is not None
            values[node] = np.asarray(node.op.numpy(*operands)).astype(node.dtype.numpy)
    return values[expression]


@pytest.mark.parametrize("dtype", [dtypes.complex64, dtypes.complex128], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_formula(name: str, dtype: DType) -> None:
    points = GRID.astype(dtype.numpy)
    leaf = scalar.symbol("z", dtype)
    meaning = OPS[name].scalar
    assert meaning is not None
    with np.errstate(all="ignore"):
        got = evaluated(meaning(leaf), {leaf: points})
    unit = float(np.finfo(dtype.numpy).eps)
    with mpmath.workdps(40):
        for point, found in zip(points, got, strict=True):
            exact = FUNCTIONS[name](mpmath.mpc(complex(point)))
            error = float(abs(mpmath.mpmathify(complex(found)) - exact) / (unit * abs(exact)))
            bound = BOUND + (abs(point) if name == "exp2" else 0)  # its angle is a rounded product
            assert error < bound, f"{name}({point}) = {found}, exactly {exact}: {error} units"


def test_powers() -> None:
    x, y = scalar.symbol("x", dtypes.complex128), scalar.symbol("y", dtypes.complex128)
    meaning = OPS["pow"].scalar
    assert meaning is not None
    base = np.array([0, 0, 0, 2, -1, 1j, 1 + 1j])
    exponent = np.array([0, 2, 1 + 1j, 0.5, 0.5, 2, -2j])
    with np.errstate(all="ignore"):
        got = evaluated(meaning(x, y), {x: base, y: exponent})
    np.testing.assert_allclose(got, base**exponent, rtol=1e-14, atol=1e-15)


def test_branch_cuts_follow_the_sign_of_zero() -> None:
    leaf = scalar.symbol("z", dtypes.complex128)
    for name, points in (("sqrt", [-4 + 0j, complex(-4, -0.0)]), ("log", [-1 + 0j, complex(-1, -0.0)])):
        meaning = OPS[name].scalar
        assert meaning is not None
        got = evaluated(meaning(leaf), {leaf: np.array(points)})
        np.testing.assert_array_equal(got, OPS[name].reference(np.array(points)))  # type: ignore[misc]
