"""From the outputs of a network trained with ``ctc_loss`` to label sequences, and how far off these are."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import describe
from symtensor_codegen.errors import ShapeError

Labels = tuple[int, ...]
Scored = tuple[Labels, float]  # labels, and the logarithm of their probability
NEVER = -math.inf


def ctc_greedy_decode(
    logits: TensorLike, input_lengths: TensorLike | None = None, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """The labels of the most likely path of each sequence (best path decoding).

    Args:
        logits: (T, B, C) scores or probabilities.
        input_lengths: (B,) the number of steps of each sequence; None: T.
        blank: the class that stands for no label.

    Returns:
        Two expressions: the labels, (B, T) int64, with -1 behind the last of each row; and their numbers, (B,) int64.
        (Graves et al., 2006, section 3.2; it need not be the most likely label sequence.)
    """
    scores = as_tensor(logits)
    if scores.ndim != 3:
        raise ShapeError(f"ctc_greedy_decode takes logits (steps, sequences, classes), got {describe(scores)}")
    path = T.argmax(scores, axis=2).T
    sequences, steps = path.shape[0], path.shape[1]
    step = T.arange(steps)
    before = T.pad(path, ((0, 0), (1, 0)), constant_values=blank)[:, :steps]
    kept = T.neq(path, blank) & T.neq(path, before)
    if input_lengths is not None:
        kept = kept & T.lt(step, as_tensor(input_lengths).dimshuffle(0, "x"))
    place = T.switch(kept, T.cumsum(T.cast(kept, "int64"), axis=1) - 1, steps)
    rows = T.arange(sequences).dimshuffle(0, "x")
    wide = T.alloc(T.constant(-1, dtype="int64"), sequences, steps + 1)
    return T.set_subtensor(wide[rows, place], path)[:, :steps], T.sum(T.cast(kept, "int64"), axis=1)


def ctc_beam_search(
    log_probabilities: npt.ArrayLike,
    input_lengths: Iterable[int] | None = None,
    blank: int = 0,
    beam_width: int = 16,
    results: int = 1,
) -> list[list[Scored]]:
    """The most likely label sequences, by a search that keeps the best prefixes in each step.

    Paths with the same labels are added up, which the most likely path alone is not. This runs in Python on arrays, not
    in a compiled program: what is kept depends on the data in every step.

    Args:
        log_probabilities: (T, B, C) array of normalised logarithms (``log_softmax`` of the network's outputs).
        input_lengths: (B,) the number of steps of each sequence; None: T.
        blank: the class that stands for no label.
        beam_width: how many prefixes are kept.
        results: how many label sequences are returned at most for each sequence.

    Returns:
        For each sequence the labels and the logarithm of the probability found for them, best first. With a beam so
        wide that nothing is left out the probability is exact. (Graves, 2012: Supervised sequence labelling, section
        7.5; in the form of Hannun et al., 2014: First-pass large vocabulary continuous speech recognition.)
    """
    scores = np.asarray(log_probabilities, np.float64)
    if scores.ndim != 3:
        raise ShapeError(f"ctc_beam_search takes (steps, sequences, classes), got an array of shape {scores.shape}")
    steps, sequences, classes = scores.shape
    if not 0 <= blank < classes:
        raise ValueError(f"ctc_beam_search: the blank {blank} is not one of {classes} classes")
    if beam_width < 1:
        raise ValueError(f"ctc_beam_search: a beam of width {beam_width} holds nothing")
    lengths = [steps] * sequences if input_lengths is None else [int(n) for n in input_lengths]
    if len(lengths) != sequences or any(not 0 <= n <= steps for n in lengths):
        raise ValueError(f"ctc_beam_search: input_lengths do not fit {sequences} sequences of {steps} steps")
    return [_search(scores[:n, b], blank, beam_width)[:results] for b, n in enumerate(lengths)]


def _search(scores: npt.NDArray[np.float64], blank: int, width: int) -> list[Scored]:
    """The best prefixes of one sequence (T, C)."""
    beam: dict[Labels, tuple[float, float]] = {(): (0.0, NEVER)}  # paths that end with a blank, and that do not
    for row in scores:
        likely = np.argsort(-row, kind="stable")[: width + 1]  # no other class can enter the beam
        after: dict[Labels, tuple[float, float]] = {}
        for prefix, (with_blank, without) in beam.items():
            both = _add(with_blank, without)
            last = prefix[-1] if prefix else None
            _put(after, prefix, both + float(row[blank]), NEVER if last is None else without + float(row[last]))
            for label in likely.tolist():
                if label != blank:
                    reached = with_blank if label == last else both
                    _put(after, (*prefix, label), NEVER, reached + float(row[label]))
        best = sorted(after.items(), key=lambda item: -_add(*item[1]))
        beam = dict(best[:width])
    found = [(prefix, _add(*ends)) for prefix, ends in beam.items()]
    return sorted((item for item in found if item[1] > NEVER), key=lambda item: -item[1])


def _put(beam: dict[Labels, tuple[float, float]], prefix: Labels, with_blank: float, without: float) -> None:
    old = beam.get(prefix, (NEVER, NEVER))
    beam[prefix] = _add(old[0], with_blank), _add(old[1], without)


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = (a, b) if a >= b else (b, a)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


def edit_distance(found: Sequence[int], wanted: Sequence[int]) -> int:
    """The least number of insertions, deletions and replacements that make one sequence the other.

    (Levenshtein, 1966.)
    """
    row = list(range(len(wanted) + 1))
    for i, have in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, want in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (have != want))
    return row[-1]


def label_error_rate(found: Iterable[Sequence[int]], wanted: Iterable[Sequence[int]]) -> float:
    """Edit distances between pairs of label sequences, by the number of labels wanted.

    Raises:
        ValueError: there are not as many sequences on both sides, or no labels.
    """
    pairs = list(zip(found, wanted, strict=True))
    count = sum(len(want) for _, want in pairs)
    if count == 0:
        raise ValueError("label_error_rate: there are no labels")
    return sum(edit_distance(list(have), list(want)) for have, want in pairs) / count


__all__ = ["ctc_beam_search", "ctc_greedy_decode", "edit_distance", "label_error_rate"]
