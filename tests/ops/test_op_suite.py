"""Every operation, from its record: results, types, sizes and gradients against the NumPy reference."""

import numpy as np
import pytest

import symtensor
from symtensor.opdef import OPS, OpDef
from symtensor.ops import barriers
from symtensor.testing import (
    assert_close,
    cases_of,
    check_gradient,
    differentiable,
    edge_case,
    expected,
    restrided,
    takes,
)
from symtensor_codegen import dtypes

TESTED = [op for op in OPS.values() if op.category != "leaf"]
ELEMENTWISE = [op for op in TESTED if op.is_elementwise and op.cases is None]
BARRIERS = [
    op for op in vars(barriers).values() if isinstance(op, OpDef)
]  # alter gradients: tests/test_gradient.py
DIFFERENTIABLE = [op for op in TESTED if op.gradient is not None and op not in BARRIERS]
EDGE_TYPES = (dtypes.float32, dtypes.float64, dtypes.int8, dtypes.int32, dtypes.int64, dtypes.uint16)
# Integer powers with negative exponents have no meaning.
NO_EDGES = {"f": (), "i": ("pow",), "u": ()}
NAMED = {"ids": lambda op: op.name}


@pytest.mark.parametrize("op", TESTED, **NAMED)
def test_record_is_complete(op: OpDef) -> None:
    assert op.doc
    assert op.doc[-1] in ".)"
    if op.category == "control" and not cases_of(op):
        return  # loops and branches have bodies, not arrays: tests/loops
    assert op.reference is not None
    lowered = op.pull is not None or op.loops is not None or op.library is not None
    assert lowered or op.name == "ifelse"
    assert cases_of(op), "nothing tests this operation: give the record cases"


@pytest.mark.parametrize("op", TESTED, **NAMED)
def test_reference_has_the_inferred_type(op: OpDef) -> None:
    for case in cases_of(op):
        inputs = case.variables()
        expression = case.apply(inputs)
        result = expected(expression, inputs, case.arrays)
        assert result.dtype.name == expression.dtype
        assert all(
            size in (None, found) for size, found in zip(expression.type.shape, result.shape, strict=True)
        )


@pytest.mark.parametrize("op", DIFFERENTIABLE, **NAMED)
@pytest.mark.parametrize("order", [1, 2])
def test_gradient(op: OpDef, order: int) -> None:
    for case in cases_of(op):
        if differentiable(case) and all(a.size <= 20 for a in case.arrays):
            check_gradient(case, order)


@pytest.mark.parametrize("op", TESTED, **NAMED)
def test_compiled_result(op: OpDef) -> None:
    cases = cases_of(op)
    given = [case.variables() for case in cases]
    outputs = [case.apply(inputs) for case, inputs in zip(cases, given, strict=True)]
    compiled = symtensor.function([v for inputs in given for v in inputs], outputs, on_unused_input="ignore")
    arrays = [array for case in cases for array in case.arrays]
    wanted = [expected(o, i, c.arrays) for o, i, c in zip(outputs, given, cases, strict=True)]
    for results in (compiled(*arrays), compiled(*[restrided(a) for a in arrays])):
        for case, got, want in zip(cases, results, wanted, strict=True):
            assert_close(got, want, case)


@pytest.mark.parametrize("op", ELEMENTWISE, **NAMED)
def test_compiled_result_at_the_edges(op: OpDef) -> None:
    cases = [
        edge_case(op, dtype)
        for dtype in EDGE_TYPES
        if takes(op, dtype) and op.name not in NO_EDGES[dtype.kind]
    ]
    given = [case.variables() for case in cases]
    outputs = [case.apply(inputs) for case, inputs in zip(cases, given, strict=True)]
    compiled = symtensor.function([v for inputs in given for v in inputs], outputs)
    results = compiled(*[array for case in cases for array in case.arrays])
    for case, inputs, output, got in zip(cases, given, outputs, results, strict=True):
        with np.errstate(all="ignore"):
            assert_close(got, expected(output, inputs, case.arrays), case)
