"""Every decomposition ends in primitives, shares what it can, and is loaded only when it is needed."""

import subprocess
import sys
from itertools import pairwise

import mpmath as mp
import pytest

from mathlib_tools import derive
from symtensor_codegen import dtypes, mathlib, scalar
from symtensor_codegen.dtypes import DType
from symtensor_codegen.errors import InternalError
from symtensor_codegen.expr import topological
from symtensor_codegen.mathlib import coefficients
from symtensor_codegen.scalar import OPS, Scalar, apply, symbol

PRIMITIVES = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "abs",
        "sqrt",
        "fma",
        "minimum",
        "maximum",
        "copysign",
        "floor",
        "ceil",
        "trunc",
        "rint",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bit_not",
        "shl",
        "shr",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "select",
        "rarely",
        "cast",
        "bitcast",
        "isnan",
        "const",
        "symbol",
    ]
)
FUNCTIONS = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "arctan2",
    "hypot",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "erf",
    "erfc",
    "pow",
    "cbrt",
    "sigmoid",
    "softplus",
    "logaddexp",
    "logaddexp2",
    "fmod",
    "mod",
    "floordiv",
    "ldexp",
    "nextafter",
    "isinf",
    "isfinite",
    "signbit",
]
CASES = [(name, kind) for name in FUNCTIONS for kind in (dtypes.float16, dtypes.float32, dtypes.float64)]
CASES += [(name, kind) for name in ("pow", "gcd") for kind in dtypes.ALL if kind.is_integer]


def node_of(name: str, kind: DType) -> Scalar:
    op = OPS[name]
    return apply(op, *(symbol(("argument", k), kind) for k in range(op.arity)))


def nodes(root: Scalar) -> list[Scalar]:
    return topological([root], lambda node: node.args)


@pytest.mark.parametrize(("name", "kind"), CASES, ids=lambda value: str(value))
def test_only_primitives_of_one_type_remain(name: str, kind: DType) -> None:
    node = node_of(name, kind)
    expansion = mathlib.expand(node)
    assert expansion.dtype is node.dtype
    integer_modulo = {"mod"} if name == "gcd" else set()
    assert {part.op.name for part in nodes(expansion)} <= PRIMITIVES | integer_modulo
    for part in nodes(expansion):
        operands = part.args[1:] if part.op.name in ("select", "rarely") else part.args
        assert all(a.dtype is b.dtype for a, b in pairwise(operands)), part


def test_sine_and_cosine_share_the_reduction() -> None:
    sine, cosine = (mathlib.expand(node_of(name, dtypes.float64)) for name in ("sin", "cos"))
    together = topological([sine, cosine], lambda node: node.args)
    assert len(together) < 0.6 * (len(nodes(sine)) + len(nodes(cosine)))


def test_expansion_is_deterministic() -> None:
    node = node_of("erfc", dtypes.float64)
    assert mathlib.expand(node) is mathlib.expand(node)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 10])
def test_a_known_exponent_of_integers_costs_its_bits(exponent: int) -> None:
    x = symbol("x", dtypes.int64)
    expansion = mathlib.expand(apply(scalar.pow_, x, exponent))
    assert len([node for node in nodes(expansion) if node.op is scalar.mul]) <= 2 * max(exponent.bit_length(), 1)
    assert not any(node.op.name == "rarely" for node in nodes(expansion))


def test_what_has_no_decomposition_is_refused() -> None:
    x, y = symbol("x", dtypes.int64), symbol("y", dtypes.int64)
    with pytest.raises(InternalError, match="sqrt has no decomposition"):
        mathlib.expand(scalar.sqrt(symbol("x", dtypes.float64)))
    with pytest.raises(InternalError, match="exp of int64 has no decomposition"):
        mathlib.expand(scalar.exp(x))
    with pytest.raises(InternalError, match="mod of int64 has no decomposition"):
        mathlib.expand(scalar.mod(x, y))
    with pytest.raises(InternalError, match="gcd of float64 has no decomposition"):
        mathlib.expand(node_of("gcd", dtypes.float64))


LONG = ("ERF", "ERFC", "NORMAL_CENTRE", "NORMAL_TAIL")  # each takes half a minute


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in derive.SPECS if name not in LONG])
def test_constants_are_those_the_script_derives(name: str) -> None:
    with mp.workprec(derive.PRECISION):
        assert derive.SPECS[name][1]() == getattr(coefficients, name)


def test_families_are_loaded_when_they_are_used() -> None:
    program = (
        "import sys; from symtensor_codegen import mathlib, scalar, dtypes\n"
        "family = 'symtensor_codegen.mathlib.'\n"
        "assert not [name for name in sys.modules if name.startswith(family)]\n"
        "mathlib.expand(scalar.exp(scalar.symbol('x', dtypes.float64)))\n"
        "assert family + 'exponential' in sys.modules and family + 'trigonometric' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})
