"""What is checked of every row: derived from the rows themselves, there is no second list of them."""

import warnings
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from symtensor import ops  # noqa: F401 - fills the table of operations
from symtensor.graph import Tensor, ancestors
from symtensor.opdef import CONSTANT
from symtensor.reference import evaluate
from symtensor.rewrite import RuleSet, check, rewrite
from symtensor.rewrite.instances import Instance, instances
from symtensor.rules import RULE_SETS, rules_table, ruleset_named

ROWS = [(name, row) for name, rules in RULE_SETS.items() for row in rules.rows]
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.5, 20.0, -20.0, 1e-9, -1e-9, np.inf, -np.inf, np.nan, 1e4, -1e4]
ULPS = 24  # of the truth, between two correct spellings
# Differences of terms that cancel: right to the precision of the terms, not of the small difference.
CANCELLING = ("logsumexp", "log_of_softmax", "logistic_gradient", "scaled_logistic_gradient")

# The passes in order, and those before each.
PASSES = ["algebra", "layout", "stability", "specialise"]
BEFORE = {name: PASSES[: PASSES.index(name)] for name in PASSES} | {"fast_math": PASSES}


@cache
def examples(row):
    return instances(row)


def values_for(node: Tensor, rng: np.random.Generator, moderate: bool):
    shape = node.type.shape
    kind = node.element.kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind in "iu":
        return rng.integers(-4 if kind == "i" else 0, 5, shape).astype(node.element.numpy)
    data = rng.normal(size=shape) * 3
    if not moderate:
        edges = rng.choice(EDGES, size=shape)
        data = np.where(rng.random(shape) < 0.7, edges, data)
    if kind == "c":
        data = data + 1j * rng.normal(size=shape)
    return data.astype(node.element.numpy)


def in_long_double(output: Tensor, values):
    """The value of a graph in extended precision: what both sides approximate."""
    known = {}
    for node in ancestors([output]):
        if node in values:
            value = values[node]
        elif node.op is CONSTANT:
            value = node.data
        elif node.op.name == "cast":
            value = known[node.inputs[0]].astype(node.element.numpy)
        else:
            value = node.op.reference(*[known[i] for i in node.inputs], **node.params)
        value = np.asarray(value)
        known[node] = value.astype(np.longdouble) if value.dtype.kind == "f" else value
    return known[output]


def assert_agrees(instance: Instance, values) -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        left, right = evaluate([instance.left, instance.right], values)
        if left.dtype.kind != "f":
            left, right = np.broadcast_arrays(left, right)
            if left.dtype.kind == "c":
                np.testing.assert_allclose(right, left, rtol=1e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(right, left)
            return
        truth = in_long_double(instance.left, values)
        left, right, truth = np.broadcast_arrays(left, right, truth)
        info = np.finfo(left.dtype)
        exact = truth.astype(left.dtype)  # the best answer in this type
        same = (right == exact) | (np.isnan(right) & np.isnan(truth))
        same |= (right == left) | (np.isnan(left) & np.isnan(right))
        distance = np.abs(right - truth)
        allowed = ULPS * info.eps * np.abs(truth) + info.tiny + 64 * np.finfo(np.longdouble).eps
        if instance.row.name in CANCELLING:
            allowed = allowed + ULPS * info.eps
        # Where even the extended left side overflows, test_stability has the truth.
        beyond = ~np.isfinite(truth) & ~np.isfinite(left) & ~np.isnan(right)
        better = (distance <= np.maximum(np.abs(left - truth), allowed)) | beyond
    wrong = ~(same | better)
    assert not wrong.any(), (instance, values, left[wrong], right[wrong], truth[wrong])


@pytest.mark.parametrize("rules", RULE_SETS.values(), ids=str)
def test_rows_are_well_formed(rules: RuleSet):
    check(rules)


def test_names_are_unique():
    names = [rule.name for rule in rules_table()]
    assert len(names) == len(set(names)) > 150


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda value: getattr(value, "name", value))
def test_row(name, row):
    """The row applies to something, keeps type and rank, agrees on both sides, and is reached."""
    found = examples(row)
    assert found, f"{row} applies to no example"
    rng = np.random.default_rng(7)
    for instance in found:
        left, right = instance.left, instance.right
        assert right.element is left.element
        assert right.ndim <= left.ndim
        leaves = [n for n in ancestors([left]) if not n.inputs and n.op is not CONSTANT]
        # Infinite complex numbers multiply to NaN by NumPy's formula; fast_math is not about infinity at all.
        only_moderate = name == "fast_math" or left.element.is_complex or "complex" in str(leaves[0].type)
        for moderate in (True,) if only_moderate else (True, False):
            for _ in range(3):
                assert_agrees(instance, {leaf: values_for(leaf, rng, moderate) for leaf in leaves})
    assert any(reached(name, row, instance) for instance in found), f"{row}: an earlier rule hides it"


def reached(name, row, instance: Instance) -> bool:
    """Whether the row fires on its own left side, as the passes before leave it."""
    current = [instance.left]
    for earlier in BEFORE[name]:
        current = rewrite(current, ruleset_named(earlier)).outputs
    return row.name in rewrite(current, ruleset_named(name)).counts


def test_passes_are_known():
    assert all(a in RULE_SETS and b in RULE_SETS for a, b in pairwise([*PASSES, "fast_math"]))
