"""The states of connectionist temporal classification: labels with blanks around them, checked."""

from typing import Any

import numpy as np

from symtensor.graph import Params, Tensor
from symtensor.opdef import At, Guard, Inferred, OpDef, ValueMessage, describe
from symtensor_codegen import dtypes, scalar
from symtensor_codegen.errors import ShapeError
from symtensor_codegen.loops import Check, For, LoopKind, Statement, Store
from symtensor_codegen.scalar import Buffer, Scalar

from .arguments import equal_guard

LONG_INPUT = "ctc_loss: an input length is negative or larger than the number of steps"
LONG_LABELS = "ctc_loss: a label length is negative or larger than the number of labels of a row"
BAD_LABEL = "ctc_loss: a label is negative, the blank, or not below the number of classes"


def _infer(inputs: tuple[Tensor, ...], params: Params) -> Inferred:
    if [i.ndim for i in inputs] != [2, 1, 1, 0, 0] or any(i.element is not dtypes.int64 for i in inputs):
        raise ShapeError("ctc_states: unexpected arguments: " + "; ".join(describe(i) for i in inputs))
    rows, labels = inputs[0].dims
    return dtypes.int64, (rows, scalar.as_dim(scalar.as_int(labels) * 2 + 1))


def _guards(node: Tensor) -> list[Guard]:
    rows = node.inputs[0].dims[0]
    message = "ctc_loss: there are {0} rows of labels and {1} "
    return [
        *equal_guard(message + "input lengths", rows, node.inputs[1].dims[0]),
        *equal_guard(message + "label lengths", rows, node.inputs[2].dims[0]),
    ]


def _within(value: Scalar, limit: Scalar) -> Scalar:
    return scalar.ge(value, 0) & scalar.le(value, limit)


def _loops(node: Tensor, at: At, out: Buffer) -> tuple[Statement, ...]:
    rows, width = node.dims
    b, s = scalar.index("b", rows), scalar.index("s", width)
    steps, classes, blank = at(3, ()), at(4, ()), scalar.as_int(node.params["blank"])
    number = scalar.floordiv(s, scalar.as_int(2))
    is_label = scalar.eq(scalar.mod(s, scalar.as_int(2)), 1) & scalar.lt(number, at(2, (b,)))
    label = scalar.guarded(is_label, at(0, (b, number)), blank)
    known = _within(label, classes - 1) & (scalar.ne(label, blank) | ~is_label)
    body = (
        Check(known, ValueMessage(node, BAD_LABEL)),
        Store(out, (b, s), label),
    )
    lengths = (
        Check(_within(at(1, (b,)), steps), ValueMessage(node, LONG_INPUT)),
        Check(_within(at(2, (b,)), scalar.as_int(node.inputs[0].dims[1])), ValueMessage(node, LONG_LABELS)),
    )
    return (For(b, rows, (*lengths, For(s, width, body)), LoopKind.PARALLEL),)


def _reference(
    labels: Any, input_lengths: Any, label_lengths: Any, steps: Any, classes: Any, blank: int
) -> Any:
    if ((input_lengths < 0) | (input_lengths > steps)).any():
        raise ValueError(LONG_INPUT)
    if ((label_lengths < 0) | (label_lengths > labels.shape[1])).any():
        raise ValueError(LONG_LABELS)
    states = np.full((len(labels), 2 * labels.shape[1] + 1), blank, np.int64)
    present = np.arange(labels.shape[1]) < label_lengths[:, None]
    if ((labels < 0) | (labels == blank) | (labels >= classes))[present].any() or not 0 <= blank < classes:
        raise ValueError(BAD_LABEL)
    states[:, 1::2] = np.where(present, labels, blank)
    return states


def _cases(rng: np.random.Generator) -> Any:
    steps, classes = np.asarray(7, np.int64), np.asarray(4, np.int64)
    lengths = np.array([3, 0, 7]), np.array([2, 0, 5])
    yield (rng.integers(1, 4, (3, 5)), *lengths, steps, classes), {"blank": 0}
    yield (rng.integers(0, 3, (3, 5)), *lengths, steps, classes), {"blank": 3}
    yield (np.zeros((2, 0), np.int64), lengths[0][:2], lengths[1][1:2].repeat(2), steps, classes), {"blank": 0}


CTC_STATES = OpDef(
    name="ctc_states",
    doc="For each row of labels: blanks before, between and after the labels; the rest is blank.",
    infer=_infer,
    reference=_reference,
    gradient=lambda g, node: (None,) * 5,
    loops=_loops,
    guards=_guards,
    category="indexing",
    cases=_cases,
)
