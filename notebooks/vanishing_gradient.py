"""The vanishing gradient: how much what was read long ago still matters to a simple recurrent network, and to an LSTM.

Each network reads a handwritten digit (scikit-learn's 1,797 of 8 x 8 pixels) row by row, then sees nothing for a
while, and only then says which digit it was. The sensitivity of its answer to what it could have read at every step,
the norm of the gradient of the loss with respect to that input, is shown before and after training; a fifth of the
digits is held out.

S. Hochreiter, "The vanishing gradient problem during learning recurrent neural nets and problem solutions", 1998.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress
from sklearn.datasets import load_digits

import symtensor.tensor as T
from symtensor import Variable, function, grad, nnet, shared
from symtensor.nnet.updates import adam, total_norm_constraint

SEED = 42
WAIT = 52  # steps between the last row and the answer
HIDDEN = 32
EPOCHS, BATCH = 30, 32
RATE = 1e-2  # at the beginning; it falls to zero in a straight line

Array = np.ndarray


class Data(NamedTuple):
    """Rows of digits (rows, digits, pixels), from 0 to 1, and which digits they are."""

    x: Array
    y: Array
    x_held: Array
    y_held: Array


class Network(NamedTuple):
    train: Callable
    """(x, y, rate) -> loss"""
    answers: Callable
    """x -> the digits seen"""
    sensitivity: Callable
    """(x, y) -> the norm of the loss's gradient by the input of each step, a mean over digits"""


class Result(NamedTuple):
    losses: list[float]
    """The mean of each epoch."""
    accuracy: float
    """On the digits held out."""
    before: Array
    after: Array
    """Sensitivity by step, before and after training."""


def load_data() -> Data:
    """Shuffle the digits and hold out one in five."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = (digits.images[order] / 16).astype(np.float32).transpose(1, 0, 2)
    y = digits.target[order]
    held = len(y) // 5
    return Data(x[:, held:], y[held:], x[:, :held], y[:held])


def compile_network(kind: str, wait: int = WAIT) -> Network:
    """A network with one recurrent layer, ``"rnn"`` or ``"lstm"``, that answers ``wait`` steps after the last row."""
    rng = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> Variable:
        limit = 1 / np.sqrt(HIDDEN)  # as PyTorch's layers begin
        return shared(rng.uniform(-limit, limit, (rows, columns)).astype(np.float32))

    gates = 4 if kind == "lstm" else 1
    size = gates * HIDDEN
    w, u, b = matrix(8, size), matrix(HIDDEN, size), shared(np.zeros(size, np.float32))
    v, c = matrix(HIDDEN, 10), shared(np.zeros(10, np.float32))

    x, y, rate = T.ftensor3("x"), T.lvector("y"), T.fscalar("rate")
    nothing = T.zeros((wait, x.shape[1], 8), dtype="float32")
    inputs = T.concatenate([x, nothing])
    if kind == "lstm":
        # Gates forget as slowly as the wait is long (Tallec and Ollivier, "Can recurrent networks warp time", 2018).
        _, (last, _) = nnet.lstm(inputs, w, u, b, forget_bias=np.log(wait))
    else:
        _, last = nnet.simple_rnn(inputs, w, u, b)
    chances = T.nnet.softmax(T.dot(last, v) + c)
    losses = T.nnet.categorical_crossentropy(chances, y)
    slopes = grad(losses.sum(), inputs)
    parameters = [w, u, b, v, c]
    updates = adam(total_norm_constraint(grad(losses.mean(), parameters), 1.0), parameters, rate)
    return Network(
        function([x, y, rate], losses.mean(), updates=updates, name=f"train {kind}"),
        function([x], chances.argmax(axis=1)),
        function([x, y], T.sqrt((slopes**2).sum(axis=2)).mean(axis=1)),
    )


def run(kind: str, data: Data, epochs: int = EPOCHS, wait: int = WAIT) -> Result:
    start = time.perf_counter()
    network = compile_network(kind, wait)
    print(f"compiled   {kind}, three functions in {time.perf_counter() - start:.3f} s")
    rng = np.random.default_rng(SEED)
    before = network.sensitivity(data.x_held, data.y_held)
    losses, seconds, batches = [], 0.0, len(data.y) // BATCH
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(data.y))[: batches * BATCH].reshape(batches, BATCH)
        rate = np.float32(RATE * (1 - (epoch - 1) / epochs))
        start = time.perf_counter()
        total = sum(float(network.train(data.x[:, rows], data.y[rows], rate)) for rows in order)
        seconds += time.perf_counter() - start
        losses.append(total / batches)
        show_progress(epoch, epochs, f"loss {losses[-1]:.4f}")
    accuracy = float((network.answers(data.x_held) == data.y_held).mean())
    print(f"accuracy   {accuracy:.1%} of the {len(data.y_held)} held-out digits, {wait} steps after the last row")
    print(f"speed      {seconds / (epochs * batches) * 1e3:.2f} ms per step of {BATCH} digits")
    return Result(losses, accuracy, before, network.sensitivity(data.x_held, data.y_held))


def main(epochs: int = EPOCHS, wait: int = WAIT, picture: str | None = None) -> dict[str, Result]:
    data = load_data()
    print(f"data       {len(data.y)} digits to learn from, {len(data.y_held)} held out")
    results = {kind: run(kind, data, epochs, wait) for kind in ("rnn", "lstm")}
    for kind, result in results.items():
        first, last = result.before[0], result.before[-1]
        print(f"{kind:10s} sensitivity {first:.1e} to the first row, {last:.1e} to the last step, before training")
    if picture:
        draw(results, wait, picture)
    return results


def draw(results: dict[str, Result], wait: int, file: str) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for color, (kind, result) in enumerate(results.items()):
        name = {"rnn": "simple RNN", "lstm": "LSTM"}[kind]
        axes.semilogy(result.before, "--", color=f"C{color}", label=f"{name}, before training")
        label = f"{name}, after training: {result.accuracy:.0%} right"
        axes.semilogy(result.after, color=f"C{color}", label=label)
    axes.axvspan(-0.5, 7.5, color="0.93", label="the digit is read")
    axes.set(xlabel="step", ylabel="sensitivity of the answer to this step's input", xlim=(-0.5, 7.5 + wait))
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
