"""Connectionist temporal classification: a loss for label sequences whose places in the input are not known.

(Graves, Fernandez, Gomez and Schmidhuber, 2006: Connectionist temporal classification: labelling unsegmented sequence
data with recurrent neural networks.)
"""

from collections.abc import Sequence
from typing import Final

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.loops.scan import scan
from symtensor.opdef import describe
from symtensor.ops.barriers import custom_gradient, zero_grad
from symtensor.ops.ctc_states import CTC_STATES
from symtensor_codegen.errors import DTypeError, ShapeError

# The logarithm of an impossible path. Not -inf: a sum of such logarithms has a gradient (zero) and is no NaN. Small
# enough for mode nan_guard (1e10), and lower than what the paths of any real sequence add up to.
IMPOSSIBLE: Final = -1e9


def ctc_loss(
    logits: TensorLike,
    labels: TensorLike,
    input_lengths: TensorLike | None = None,
    label_lengths: TensorLike | None = None,
    blank: int = 0,
    *,
    normalised: bool = False,
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of each label sequence, summed over all ways to lay it along the steps.

    A path names a class for every step; without repetitions and then without blanks it is the label sequence. The sum
    over paths is a recursion over steps on logarithms; its gradient is the difference of the softmax and the
    probability, given the labels, of each class in each step, which a second recursion from the end gives.

    Args:
        logits: (T, B, C) of float: for each step and sequence a score for each class.
        labels: (B, L) integers; what lies behind a sequence's labels is not looked at.
        input_lengths: (B,) the number of steps of each sequence; None: T.
        label_lengths: (B,) the number of labels of each sequence; None: L.
        blank: the class that stands for no label; no label may be it.
        normalised: ``logits`` are logarithms of probabilities already (their gradient is then that of these). Without
            it a softmax is applied, which leaves logarithms of probabilities as they are.
        zero_infinity: the loss is 0, not infinite, of sequences whose labels do not fit into their steps.

    Returns:
        (B,) losses. A sequence too short for its labels (repeated labels need a blank between them) has an infinite
        loss, and in any case a gradient of zero.

    Raises:
        ValueError: when run, for lengths out of range, or labels that are no class or the blank.
    """
    scores, rows = as_tensor(logits), as_tensor(labels)
    if scores.ndim != 3 or rows.ndim != 2:
        raise ShapeError(
            "ctc_loss takes logits (steps, sequences, classes) and labels (sequences, labels), got "
            f"{describe(scores)}; {describe(rows)}"
        )
    if scores.element.kind != "f" or rows.element.kind not in "iu":
        raise DTypeError(
            f"ctc_loss takes logits of floating point and integer labels, got {describe(scores)}; {describe(rows)}"
        )
    steps, sequences, classes = scores.shape[0], scores.shape[1], scores.shape[2]
    ends = _lengths("input_lengths", input_lengths, steps, rows)
    counts = _lengths("label_lengths", label_lengths, rows.shape[1], rows)
    states = CTC_STATES.make(T.cast(rows, "int64"), ends, counts, steps, classes, blank=int(blank))
    logarithms = scores if normalised else T.nnet.log_softmax(scores, axis=2)
    emitted = T.maximum(logarithms[:, T.arange(sequences).dimshuffle(0, "x"), states], IMPOSSIBLE)
    loss = _loss_of_states(emitted, states, ends, counts, int(blank))
    return T.switch(T.isinf(loss), T.zeros_like(loss), loss) if zero_infinity else loss


def _lengths(name: str, given: TensorLike | None, limit: Tensor, rows: Tensor) -> Tensor:
    if given is None:
        return T.alloc(T.cast(limit, "int64"), rows.shape[0])
    lengths = as_tensor(given)
    if lengths.ndim != 1 or lengths.element.kind not in "iu":
        raise ShapeError(f"ctc_loss: {name} must be a vector of integers, got {describe(lengths)}")
    return T.cast(lengths, "int64")


def _loss_of_states(emitted: Tensor, states: Tensor, ends: Tensor, counts: Tensor, blank: int) -> Tensor:
    """The losses, given the logarithms of what every state emits in every step, (T, B, S)."""
    place = T.arange(states.shape[1])
    low = T.constant(IMPOSSIBLE, dtype=emitted.dtype)
    zero = T.zeros_like(low)
    two_before = T.pad(states, ((0, 0), (2, 0)), constant_values=blank)[:, : states.shape[1]]
    jump = T.switch(T.eq(states, blank) | T.eq(states, two_before), low, zero)
    present = T.lt(T.arange(emitted.shape[0]).dimshuffle(0, "x"), ends)
    last = (counts * 2).dimshuffle(0, "x")
    final = T.switch(T.eq(place, last) | T.eq(place, last - 1), zero, low)
    first = T.switch(T.eq(place, 0), zero, low) + T.zeros_like(final)

    def step(emits: Tensor, runs: Tensor, before: Tensor, jumps: Tensor) -> Tensor:
        one, two = _shifted(before, 1), _shifted(before, 2) + jumps
        return T.switch(runs.dimshuffle(0, "x"), _log_sum(before, one, two) + emits, before)

    forward, _ = scan(step, [emitted, present], first, [jump], name="ctc forward")
    total = _log_sum_rows(forward[-1] + final)
    loss = T.switch(T.lt(total, IMPOSSIBLE / 2), T.constant(float("inf"), dtype=emitted.dtype), -total)
    return custom_gradient(loss, [emitted], _occupancy, [forward, total, present, jump, final])


def _occupancy(
    g: Tensor,
    loss: Tensor,
    emitted: Tensor,
    forward: Tensor,
    total: Tensor,
    present: Tensor,
    jump: Tensor,
    final: Tensor,
) -> Sequence[Tensor]:
    """Minus the probability, given the labels, that a sequence is in a state in a step."""
    jump_next = _shifted(jump, -2)

    def step(emits: Tensor, runs: Tensor, after: Tensor, jumps: Tensor) -> list[Tensor]:
        here = after + emits
        one, two = _shifted(here, -1), _shifted(here, -2) + jumps
        return [T.switch(runs.dimshuffle(0, "x"), _log_sum(here, one, two), after), after]

    (_, reverse), _ = scan(
        step, [emitted, present], [final, None], [jump_next], go_backwards=True, name="ctc backward"
    )
    possible = T.ge(total, IMPOSSIBLE / 2)
    share = T.exp(forward + reverse[::-1] - total.dimshuffle(0, "x"))
    counted = (present & possible).dimshuffle(0, 1, "x")
    return (T.switch(counted, -share * g.dimshuffle(0, "x"), T.zeros_like(share)),)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Every row of ``x`` (B, S) moved to the right; impossible where nothing comes from."""
    size = x.shape[1]
    low = T.constant(IMPOSSIBLE, dtype=x.dtype)
    if places > 0:
        return T.pad(x, ((0, 0), (places, 0)), constant_values=low)[:, :size]
    return T.pad(x, ((0, 0), (0, -places)), constant_values=low)[:, -places:]


def _log_sum(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """log(exp(a) + exp(b) + exp(c))."""
    most = zero_grad(T.maximum(T.maximum(a, b), c))
    return T.log(T.exp(a - most) + T.exp(b - most) + T.exp(c - most)) + most


def _log_sum_rows(x: Tensor) -> Tensor:
    most = zero_grad(T.max(x, axis=1))
    return T.log(T.sum(T.exp(x - most.dimshuffle(0, "x")), axis=1)) + most


__all__ = ["ctc_loss"]
