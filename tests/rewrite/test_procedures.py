"""Rules that no row can say: each on what it is for, compared with the reference, and where it must not apply."""

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor.graph import ancestors
from symtensor.reference import evaluate
from symtensor.rewrite import rewrite
from symtensor.rules import RULE_SETS, ruleset_named

PASSES = ("algebra", "layout", "stability", "specialise")


def run(output):
    fired = set()
    outputs = [output]
    for name in PASSES:
        result = rewrite(outputs, ruleset_named(name))
        assert not result.circular
        outputs = result.outputs
        fired |= set(result.counts)
    return outputs[0], fired


def m():
    return T.TensorType("float64", (None, None))("m")


def v():
    return T.TensorType("float64", (None,))("v")


def softmax_by_hand(x):
    e = T.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


CASES = {
    "values_only": lambda x: T.log(T.disconnected_grad(T.exp(x))),
    "broadcast_operand": lambda x: x + T.full_like(x, 2.5),
    "size_of_result": lambda x: T.exp(x).shape[0] * x,
    "view_of_repeated": lambda x: T.zeros_like(x).T + x.T,
    "reduce_single": lambda x: x.reshape((-1, 1)).sum(axis=1),
    "sum_of_broadcast": lambda x: T.ones_like(x).sum(axis=0) * x,
    "extreme_of_broadcast": lambda x: T.alloc(x.sum(), 3, 2).max(axis=0),
    "log_past_views": lambda x: T.log(T.nnet.softmax(x).T),
    "complement_past_views": lambda x: 1 - T.nnet.sigmoid(x).flatten(),
    "softmax_of_exps": lambda x: T.exp(x) / T.exp(x).sum(axis=1, keepdims=True),
    "softmax_of_shifted": softmax_by_hand,
    "log_softmax_of_difference": lambda x: x - T.log(T.exp(x).sum(axis=1, keepdims=True)),
    "sum_of_scaled": lambda x: (x.sum() * x).sum(axis=0),
    "scatter_of_labels": lambda x: T.inc_subtensor(T.zeros_like(x)[T.arange(x.shape[0]), (x[:, 0] > 0) * 1], 2.5),
    "sum_of_labels": lambda x: T.inc_subtensor(
        T.zeros_like(x)[T.arange(x.shape[0]), (x[:, 0] > 0) * 1], x[:, 1]
    ).sum(axis=1),
    "sum_of_part": lambda x: T.inc_subtensor(
        T.zeros_like(x)[T.arange(x[:2, 0].shape[0]), (x[:2, 0] > 0) * 1], x[:2, 1]
    ).sum(axis=1),
    "slices_side_by_side": lambda x: T.grad((x[:, :1] * x[:, 1:3].sum(axis=1, keepdims=True)).sum(), x),
    "part_just_set": lambda x: T.set_subtensor(x[1:], x[1:] * 2)[1:],
    "part_of_product": lambda x: T.dot(x, x.T)[1],
    "element_of_vector": lambda x: T.stack([x.sum(), x.max()])[1],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_procedure(name):
    x = m()
    output = CASES[name](x)
    after, fired = run(output)
    if name == "element_of_vector" and name not in fired:
        assert after.op.name == "max"  # taken already when the expression was built
    else:
        assert name in fired
    value = np.random.default_rng(3).normal(size=(3, 4))
    expected, got = evaluate([output, after], {x: value})
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)


def test_every_procedure_has_a_case():
    names = {p.name for rules in RULE_SETS.values() for p in rules.procedures}
    assert names == set(CASES)


def test_repeated_unknown_values_are_summed_as_they_are():
    """A sum over a possibly empty axis is 0 even if the repeated value is infinite: n * inf would be NaN."""
    x, y = v(), T.dscalar("y")
    after, fired = run(T.alloc(y, x.shape[0]).sum())
    assert "sum_of_broadcast" not in fired
    assert evaluate([after], {x: np.zeros(0), y: np.inf})[0] == 0


def test_other_axes_are_no_softmax():
    x = m()
    after, fired = run(T.exp(x) / T.exp(x).sum(axis=0))
    assert "softmax" in {n.op.name for n in ancestors([after])} or "softmax_of_exps" not in fired
    after, fired = run(T.exp(x) / T.exp(2 * x).sum(axis=1, keepdims=True))
    assert "softmax_of_exps" not in fired


def test_whole_product_stays():
    x = m()
    after, fired = run(T.dot(x, x.T)[1:])
    assert "part_of_product" not in fired
    assert "dot" in {n.op.name for n in ancestors([after])}
