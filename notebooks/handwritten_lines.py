"""Reading lines of handwritten digits without cutting them up: a bidirectional LSTM trained with CTC.

Lines are composed of scikit-learn's 1,797 digits of 8 x 8 pixels: stretched or squeezed to different widths, shifted up
and down, of different darkness, nearer or farther from each other, even touching, with noise all over. The network sees
a line column by column, and is told only which digits the line shows, not where. The score is the label error rate on
lines of images that are held out: insertions, deletions and replacements, by the number of digits. The context of what
is read, the gradient of each digit's output with respect to the columns of the line, can be shown as a picture.

Method: A. Graves and J. Schmidhuber, "Offline handwriting recognition with multidimensional recurrent neural networks",
2008; A. Graves et al., "Connectionist temporal classification", 2006.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress
from sklearn.datasets import load_digits

import symtensor.tensor as T
from symtensor import function, grad
from symtensor.gradient import jacobian
from symtensor.nnet import (
    LSTM,
    Bidirectional,
    Dense,
    ctc_beam_search,
    ctc_greedy_decode,
    ctc_loss,
    dropout,
    label_error_rate,
)
from symtensor.nnet.updates import adam, total_norm_constraint
from symtensor.tensor.shared_randomstreams import RandomStreams

SEED = 42
HEIGHT = 10  # rows of a line
WIDTHS = range(6, 12)  # columns of a digit's box, of 8 at first
DIGITS = range(3, 8)  # in a line
NOISE = 0.1  # deviation; ink is 1
HIDDEN = 64  # in each direction
WINDOW = 7  # columns that each step sees, its own in the middle
UPDATES, BATCH = 3000, 32
RATE = 6e-3  # at the beginning; in the second half it falls to zero
BLANK = 10
HELD_LINES = 400

Array = np.ndarray


class Lines(NamedTuple):
    """A batch of lines, padded."""

    x: Array
    """(columns, lines, rows), ink 1 and paper 0"""
    columns: Array
    """How many each line has."""
    labels: Array
    """(lines, digits), -1 behind the last"""
    counts: Array
    """How many digits each line has."""

    def digits(self) -> list[list[int]]:
        return [row[:n].tolist() for row, n in zip(self.labels, self.counts, strict=True)]


class Writer:
    """Composes lines of images, never the same twice."""

    def __init__(self, images: Array, labels: Array, seed: int, digits: range = DIGITS) -> None:
        self.images, self.labels, self.digits = images, labels, digits
        self.rng = np.random.default_rng(seed)
        self.columns = max(digits) * (max(WIDTHS) + 3) + 6
        self.stretch = {width: stretching(width) for width in WIDTHS}

    def lines(self, count: int) -> Lines:
        rng = self.rng
        page = np.zeros((count, HEIGHT, self.columns), np.float32)
        labels = np.full((count, max(self.digits)), -1)
        counts, ends = rng.integers(self.digits.start, self.digits.stop, count), np.zeros(count, np.int64)
        for line in range(count):
            chosen = rng.integers(0, len(self.labels), counts[line])
            labels[line, : counts[line]] = self.labels[chosen]
            at = rng.integers(0, 4)
            for image in chosen:
                width = int(rng.choice(WIDTHS))
                row = rng.integers(0, HEIGHT - 7)
                place = page[line, row : row + 8, at : at + width]
                np.maximum(place, self.images[image] @ self.stretch[width] * rng.uniform(0.7, 1), out=place)
                at += width + rng.integers(-1, 4)
            ends[line] = at + rng.integers(0, 4)
        page += rng.normal(0, NOISE, page.shape).astype(np.float32)
        page *= np.arange(self.columns) < ends[:, None, None]
        return Lines(np.ascontiguousarray(page.transpose(2, 0, 1)[: ends.max()]), ends, labels, counts)


def stretching(width: int) -> Array:
    """The matrix (8, width) that stretches the columns of an image, by linear interpolation."""
    at = np.linspace(0, 7, width)
    return np.maximum(0, 1 - np.abs(np.arange(8)[:, None] - at)).astype(np.float32)


def load_writers(digits: range = DIGITS) -> tuple[Writer, Writer]:
    """One that writes with four fifths of the images, and one with those held out."""
    bunch = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    images, labels = (bunch.images[order] / 16).astype(np.float32), bunch.target[order]
    held = len(labels) // 5
    return Writer(images[held:], labels[held:], SEED, digits), Writer(images[:held], labels[:held], SEED + 1, digits)


class Reader(NamedTuple):
    train: Callable
    """(x, columns, labels, counts, rate) -> loss"""
    read: Callable
    """(x, columns) -> [digits (lines, columns) with -1 behind the last, their numbers]"""
    probabilities: Callable
    """(x, columns) -> logarithms (columns, lines, classes)"""
    context: Callable
    """(x, columns, at, labels) of one line -> (outputs, columns): norms of the gradients of the outputs for these
    labels at these columns, by every column of the line"""


def compile_reader(hidden: int = HIDDEN) -> Reader:
    rng = np.random.default_rng(SEED)
    forward, backward = (LSTM(WINDOW * HEIGHT, hidden, rng, name=n, dtype="float32") for n in ("forward", "backward"))
    both = Bidirectional(forward, backward)
    dense = Dense(2 * hidden, 11, rng, dtype="float32")
    parameters = [*both.parameters, *dense.parameters]
    streams = RandomStreams(SEED)

    x, columns, rate = T.ftensor3("x"), T.lvector("columns"), T.fscalar("rate")
    labels, counts = T.lmatrix("labels"), T.lvector("counts")
    mask = T.arange(x.shape[0])[:, None] < columns
    wide = T.pad(x, ((WINDOW // 2, WINDOW // 2), (0, 0), (0, 0)))
    windows = T.concatenate([wide[k : k + x.shape[0]] for k in range(WINDOW)], axis=2)
    features, _ = both(windows, mask)
    logits = dense(features)
    loss = ctc_loss(dense(dropout(features, 0.2, streams)), labels, columns, counts, blank=BLANK).mean()
    slopes = total_norm_constraint(grad(loss, parameters), 5.0)

    at, wanted = T.lvector("at"), T.lvector("wanted")
    outputs = logits[at, 0, wanted] - logits[at, 0, BLANK]  # how sure it is of a digit, not of nothing
    return Reader(
        function([x, columns, labels, counts, rate], loss, updates=adam(slopes, parameters, rate), name="train"),
        function([x, columns], ctc_greedy_decode(logits, columns, blank=BLANK), name="read"),
        function([x, columns], T.nnet.log_softmax(logits, axis=2), name="probabilities"),
        function([x, columns, at, wanted], T.sqrt((jacobian(outputs, x)[:, :, 0] ** 2).sum(axis=2)), name="context"),
    )


def greedy(reader: Reader, lines: Lines) -> list[list[int]]:
    """The digits that the reader sees in each line: its best path."""
    found, numbers = reader.read(lines.x, lines.columns)
    return [row[:n].tolist() for row, n in zip(found, numbers, strict=True)]


class Context(NamedTuple):
    """How one line is read."""

    line: Array
    """(rows, columns)"""
    digits: list[int]
    at: Array
    """The column where the network says each digit."""
    sensitivity: Array
    """(digits, columns)"""


def context_of(reader: Reader, lines: Lines, number: int) -> Context:
    """The gradient of each digit's output, where it is said most clearly, by the line's columns."""
    end = lines.columns[number]
    x, columns = lines.x[:end, number : number + 1], np.array([end])
    scores = reader.probabilities(x, columns)[:, 0]
    path = scores.argmax(axis=1)
    starts = np.flatnonzero((path != BLANK) & (path != np.concatenate([[BLANK], path[:-1]])))
    ends = [next((t for t in range(s, end) if path[t] != path[s]), end) for s in starts]
    at = np.array([s + scores[s:e, path[s]].argmax() for s, e in zip(starts, ends, strict=True)], np.int64)
    return Context(x[:, 0].T, path[at].tolist(), at, reader.context(x, columns, at, path[at]))


class Result(NamedTuple):
    losses: list[float]
    greedy_error: float
    """Label error rate on held-out lines: of the best path,"""
    beam_error: float
    """and of a search for the best labels."""
    context: Context


def main(
    updates: int = UPDATES,
    digits: range = DIGITS,
    hidden: int = HIDDEN,
    rate: float = RATE,
    held_lines: int = HELD_LINES,
    picture: str | None = None,
) -> Result:
    writer, held_writer = load_writers(digits)
    print(f"data       {len(writer.labels)} images to learn from, {len(held_writer.labels)} held out")

    start = time.perf_counter()
    reader = compile_reader(hidden)
    print(f"compiled   four functions in {time.perf_counter() - start:.3f} s")

    losses, seconds = [], 0.0
    for update in range(1, updates + 1):
        lines = writer.lines(BATCH)
        now = np.float32(rate * min(1, 2 * (1 - (update - 1) / updates)))
        start = time.perf_counter()
        losses.append(float(reader.train(*lines, now)))
        seconds += time.perf_counter() - start
        if update == 1 or update % 10 == 0:
            show_progress(update, updates, f"loss {np.mean(losses[-50:]):.4f}")

    held = held_writer.lines(held_lines)
    truth = held.digits()
    greedy_error = label_error_rate(greedy(reader, held), truth)
    found = ctc_beam_search(reader.probabilities(held.x, held.columns), held.columns, blank=BLANK, beam_width=4)
    beam_error = label_error_rate([best[0][0] for best in found], truth)
    print(f"held out   label error rate {greedy_error:.2%} (best path), {beam_error:.2%} (beam search)")
    print(f"           of {held.counts.sum()} digits in {len(truth)} lines")
    print(f"speed      {seconds / updates * 1e3:.2f} ms per step of {BATCH} lines")
    result = Result(losses, greedy_error, beam_error, context_of(reader, held, 0))
    if picture:
        draw(result.context, picture)
    return result


def draw(context: Context, file: str) -> None:
    """The line, and under it for each digit read how much each column matters."""
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 4), sharex=True, height_ratios=[1, 2], layout="constrained")
    above.imshow(context.line, cmap="gray_r", aspect="auto")
    above.set(yticks=[])
    for k, (digit, at) in enumerate(zip(context.digits, context.at, strict=True)):
        below.plot(context.sensitivity[k], color=f"C{k}")
        below.axvline(at, color=f"C{k}", linestyle=":")
        above.text(at, -0.8, str(digit), color=f"C{k}", ha="center", va="bottom", weight="bold")
    below.set(xlabel="column", ylabel="gradient of each digit's output")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
