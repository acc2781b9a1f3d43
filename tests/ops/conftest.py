"""What tests of functions (rather than of op records) share; they run on every device."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from symtensor import function
from symtensor.graph import Tensor, variable
from symtensor.reference import evaluate
from symtensor.types import TensorType
from tests.cuda.devices import device as device

Agree = Callable[..., None]


def assert_same(got: Any, want: Any, about: str) -> None:
    """Equal element type and shape; values equal up to rounding."""
    assert got.dtype == want.dtype, f"{about}: {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{about}: {got.shape}, expected {want.shape}"
    if want.dtype.kind in "fc":
        tolerance = 64 * np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=about)
    else:
        np.testing.assert_array_equal(got, want, err_msg=about)


@pytest.fixture
def agree() -> Iterator[Agree]:
    """``agree(build, numpy, *arrays)``: our function of variables gives what NumPy's gives of the arrays.

    The expression is evaluated by references at once (with sizes known and unknown), and compiled with
    all others of the test in one function at its end.
    """
    pending: list[tuple[list[Tensor], Tensor, tuple[Any, ...], Any, str]] = []

    def check(build: Callable[..., Tensor], numpy: Callable[..., Any], *arrays: Any) -> None:
        arrays = tuple(np.asarray(a) for a in arrays)
        want = np.asarray(numpy(*arrays))
        for known in (True, False):
            shapes = [tuple(s if known or s == 1 else None for s in a.shape) for a in arrays]
            inputs = [variable(TensorType(a.dtype, s)) for a, s in zip(arrays, shapes, strict=True)]
            output = build(*inputs)
            about = f"{output.op.name} of {', '.join(str(i.type) for i in inputs)}"
            assert all(k in (None, s) for k, s in zip(output.type.shape, want.shape, strict=True)), about
            assert_same(evaluate([output], dict(zip(inputs, arrays, strict=True)))[0], want, about)
        pending.append((inputs, output, arrays, want, about))

    yield check
    if pending:
        inputs = [i for entry in pending for i in entry[0]]
        compiled = function(inputs, [entry[1] for entry in pending], on_unused_input="ignore")
        results = compiled(*[a for entry in pending for a in entry[2]])
        for (_, _, _, want, about), got in zip(pending, results, strict=True):
            assert_same(got, want, about)
