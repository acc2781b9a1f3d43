"""Both sides of every rule as CUDA text: they give what the reference gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from symtensor import function
from symtensor.graph import Tensor, ancestors
from symtensor.opdef import CONSTANT
from symtensor.reference import evaluate
from symtensor.rewrite.instances import instances
from symtensor.rules import RULE_SETS
from symtensor_codegen.cuda import device as devices
from tests.cuda.host import HostDevice

pytestmark = pytest.mark.cuda_host
EXAMPLES = 2  # of a row


@pytest.fixture(autouse=True)
def device(host: HostDevice) -> Iterator[HostDevice]:
    devices.use(host)
    yield host
    devices.forget(host.name)


def drawn(node: Tensor, rng: np.random.Generator) -> Any:
    """Ordinary values for a variable: positive ones are fit for every function's domain now and then."""
    kind, shape = node.element.kind, node.type.shape
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "iu":
        return np.asarray(rng.integers(1, 5, shape)).astype(node.element.numpy)
    values = np.asarray(rng.uniform(0.1, 0.9, shape))
    return (values + 1j * rng.uniform(0.1, 0.9, shape) if kind == "c" else values).astype(node.element.numpy)


@pytest.mark.parametrize("name", RULE_SETS)
def test_both_sides(name: str) -> None:
    found = [instance for row in RULE_SETS[name].rows for instance in instances(row, EXAMPLES)]
    outputs = [side for instance in found for side in (instance.left, instance.right)]
    assert outputs
    leaves = [n for n in ancestors(outputs) if not n.inputs and n.op is not CONSTANT]
    rng = np.random.default_rng(len(name))
    values = [drawn(leaf, rng) for leaf in leaves]
    compiled = function(leaves, outputs, device="cuda", on_unused_input="ignore")
    with np.errstate(all="ignore"):
        wanted = evaluate(outputs, dict(zip(leaves, values, strict=True)))
        for output, got, want in zip(outputs, compiled(*values), wanted, strict=True):
            unit = np.finfo(want.dtype).eps if want.dtype.kind in "fc" else 0
            scale = np.maximum(1, np.abs(want)) if want.dtype.kind in "fc" else 1
            np.testing.assert_allclose(got, want, rtol=256 * unit, atol=float(np.max(256 * unit * scale, initial=0)),
                                       equal_nan=True, err_msg=str(output))  # fmt: skip
