"""An LSTM learns to write English, letter by letter, from the sentences of Python's own reference manual.

The text ships with every Python (`pydoc_data.topics`, what `help("lambda")` shows). Sentences of similar length are
padded to one and trained on together, with masks; a tenth of them is held out. The score is the number of bits that
a held-out character costs, compared with counts of three characters in a row. After training the network writes by
itself: each character is drawn from what it expects, inside the compiled loop, and read again.

A. Graves, "Generating sequences with recurrent neural networks", 2013.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress

import symtensor.tensor as T
from symtensor import Variable, function, grad, scan, shared
from symtensor.nnet import LSTM, Dense, initial
from symtensor.nnet.updates import adam, total_norm_constraint
from symtensor.tensor.shared_randomstreams import RandomStreams

SEED = 42
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;'\"()_-"  # the first ends a sentence
LENGTHS = range(16, 160)
EMBEDDING, HIDDEN = 32, 160
EPOCHS, BATCH = 20, 32
RATE = 5e-3  # at the beginning; it falls to zero in a straight line

Array = np.ndarray
Batch = tuple[Array, Array]  # characters' numbers (steps + 1, sentences), and the number of steps of each sentence


def sentences() -> list[str]:
    """The manual's sentences in small letters, each once, in random order."""
    found = {}
    for paragraph in "\n\n".join(topics.values()).lower().split("\n\n"):
        for sentence in re.split(r"(?<=[.:;]) (?=\w)", " ".join(paragraph.split())):
            if len(sentence) in LENGTHS and sentence[-1] in ".:;" and set(sentence) <= set(CHARACTERS):
                found[sentence] = None
    texts = sorted(found)
    np.random.default_rng(SEED).shuffle(texts)
    return texts


def batches_of(texts: Sequence[str]) -> list[Batch]:
    """Sentences of similar length side by side; they begin and end with the character 0, and are padded with it."""
    number = {c: k for k, c in enumerate(CHARACTERS)}
    ordered = sorted(texts, key=len)
    made = []
    for first in range(0, len(ordered), BATCH):
        rows = ordered[first : first + BATCH]
        lengths = np.array([len(row) + 1 for row in rows])
        characters = np.zeros((lengths.max() + 1, len(rows)), np.int64)
        for k, row in enumerate(rows):
            characters[1 : len(row) + 1, k] = [number[c] for c in row]
        made.append((characters, lengths))
    return made


class Model(NamedTuple):
    train: Callable
    """(characters, lengths, rate) -> bits for each character"""
    score: Callable
    """(characters, lengths) -> bits for all characters"""
    write: Callable
    """(steps, texts, warmth) -> characters' numbers (steps, texts)"""


def compile_model(hidden: int = HIDDEN) -> Model:
    rng = np.random.default_rng(SEED)
    classes = len(CHARACTERS)
    embedding = shared(initial.normal((classes, EMBEDDING), rng, 0.3, dtype="float32"), name="embedding")
    lstm = LSTM(EMBEDDING, hidden, rng, dtype="float32")
    dense = Dense(hidden, classes, rng, dtype="float32")
    parameters = [embedding, *lstm.parameters, *dense.parameters]

    characters, lengths, rate = T.lmatrix("characters"), T.lvector("lengths"), T.fscalar("rate")
    read, wanted = characters[:-1], characters[1:]
    mask = T.arange(read.shape[0])[:, None] < lengths
    outputs, _ = lstm(embedding[read], mask)
    surprise = -T.nnet.log_softmax(dense(outputs), axis=2)
    steps, rows = T.arange(read.shape[0])[:, None], T.arange(read.shape[1])
    bits = T.switch(mask, surprise[steps, rows, wanted], np.float32(0)).sum() / np.float32(np.log(2))
    mean = bits / T.cast(lengths.sum(), "float32")
    slopes = total_norm_constraint(grad(mean, parameters), 1.0)

    count, texts, warmth = T.lscalar("count"), T.lscalar("texts"), T.fscalar("warmth")
    streams = RandomStreams(SEED)

    def step(last: Variable, h: Variable, c: Variable) -> list[Variable]:
        _, (h, c) = lstm(embedding[last][None], h0=h, c0=c)
        chances = T.nnet.softmax(dense(h) / warmth)
        return [streams.choice(a=classes, p=chances, size=(texts,)), h, c]

    nothing = T.zeros((texts, hidden), dtype="float32")
    (written, _, _), updates = scan(
        step, outputs_info=[T.zeros((texts,), dtype="int64"), nothing, nothing], n_steps=count, name="writing"
    )
    return Model(
        function([characters, lengths, rate], mean, updates=adam(slopes, parameters, rate), name="train"),
        function([characters, lengths], bits, name="score"),
        function([count, texts, warmth], written, updates=updates, name="write"),
    )


def bits_of_counts(texts: Sequence[str], held: Sequence[str]) -> float:
    """Bits for each held-out character, given the two before it, by counts that fall back on fewer characters."""
    counts: Counter[str] = Counter()
    for text in texts:
        padded = f"\n\n{text}\n"
        for end in range(3, len(padded) + 1):
            counts.update((padded[end - 3 : end], padded[end - 2 : end], padded[end - 1]))
            counts.update((f"{padded[end - 3 : end - 1]}*", f"{padded[end - 2]}*", "*"))
    total, number = 0.0, 0
    for text in held:
        padded = f"\n\n{text}\n"
        for end in range(3, len(padded) + 1):
            chance = 1 / len(CHARACTERS)
            for start in (end - 1, end - 2, end - 3):  # Witten and Bell's kind of smoothing, with 5 for all contexts
                seen, context = counts[padded[start:end]], counts[f"{padded[start : end - 1]}*"]
                chance = (seen + 5 * chance) / (context + 5)
            total, number = total - np.log2(chance), number + 1
    return total / number


class Result(NamedTuple):
    losses: list[float]
    """Bits for each character, the mean of each epoch."""
    held_out: float
    counted: float
    """That of counts of three characters in a row."""
    written: list[str]


def main(epochs: int = EPOCHS, hidden: int = HIDDEN, rate: float = RATE, picture: str | None = None) -> Result:
    texts = sentences()
    held, learnt = texts[: len(texts) // 10], texts[len(texts) // 10 :]
    letters = sum(map(len, learnt))
    print(f"data       {len(learnt)} sentences to learn from ({letters} characters), {len(held)} held out")

    start = time.perf_counter()
    model = compile_model(hidden)
    print(f"compiled   three functions in {time.perf_counter() - start:.3f} s")

    rng = np.random.default_rng(SEED)
    batches, losses, seconds, step = batches_of(learnt), [], 0.0, 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        for k in rng.permutation(len(batches)):
            now = np.float32(rate * (1 - step / (epochs * len(batches))))
            step += 1
            start = time.perf_counter()
            total += float(model.train(*batches[k], now))
            seconds += time.perf_counter() - start
        losses.append(total / len(batches))
        show_progress(epoch, epochs, f"{losses[-1]:.3f} bits a character")

    held_batches = batches_of(held)
    bits = sum(float(model.score(*batch)) for batch in held_batches) / sum(n.sum() for _, n in held_batches)
    counted = bits_of_counts(learnt, held)
    print(f"held out   {bits:.3f} bits a character (by counts of three in a row: {counted:.3f})")
    print(f"speed      {seconds / step * 1e3:.2f} ms per step of {BATCH} sentences")
    start = time.perf_counter()
    numbers = model.write(120, 8, np.float32(0.7))
    seconds = time.perf_counter() - start
    written = ["".join(CHARACTERS[k] for k in column).split("\n")[0] for column in numbers.T]
    print(f"writing    {seconds / numbers.size * 1e6:.1f} us per character:")
    for text in written:
        print(f"           {text}")
    result = Result(losses, float(bits), counted, written)
    if picture:
        draw(result, picture)
    return result


def draw(result: Result, file: str) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(range(1, len(result.losses) + 1), result.losses, label="LSTM, sentences learnt from")
    axes.axhline(result.held_out, color="C0", linestyle="--", label="LSTM, held out")
    axes.axhline(result.counted, color="C1", linestyle="--", label="counts of three characters, held out")
    axes.set(xlabel="epoch", ylabel="bits a character")
    axes.legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
