"""A restricted Boltzmann machine learns handwritten digits by contrastive divergence with persistent chains.

The digits are scikit-learn's 1,797 of 8 x 8 pixels, black or white; a fifth is held out. The negative phase is drawn
from chains that go on from one update to the next: their Gibbs steps run in a loop with random draws inside, and the
last step's state is kept in a shared variable. The score is the pseudo-likelihood: the mean logarithm of the
probability of each pixel given all others.

Method: T. Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", 2008;
score: J. Besag, "Statistical analysis of non-lattice data", 1975.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress
from sklearn.datasets import load_digits

import symtensor.tensor as T
from symtensor import Variable, function, grad, scan, shared
from symtensor.tensor.shared_randomstreams import RandomStreams

SEED = 42
PIXELS = 64
HIDDEN = 128
CHAINS = 64
GIBBS_STEPS = 5  # between two updates
EPOCHS, BATCH = 60, 32
RATE = 0.05  # at the beginning; it falls to zero in a straight line

Array = np.ndarray


class Data(NamedTuple):
    """Black (1) and white (0) pixels, a row for each digit."""

    x: Array
    x_held: Array


class Machine(NamedTuple):
    train: Callable
    """(x, rate) -> how much lower the free energy of digits is than that of the chains"""
    score: Callable
    """x -> the pseudo-likelihood of each row, a mean over pixels"""
    dream: Callable
    """steps -> the pixels' probabilities in the chains after so many Gibbs steps"""
    filters: Callable
    """-> a row of weights for each hidden unit"""


class Result(NamedTuple):
    scores: list[float]
    """Pseudo-likelihood of the digits learnt from, before training and after each epoch."""
    held_out: float
    """That of the digits held out."""
    independent: float
    """The same of a model without hidden units: every pixel by itself."""
    filters: Array
    dreams: Array


def load_data() -> Data:
    """Shuffle the digits, hold out one in five, and call a pixel black from a value of 8 of 16."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = (digits.data[order] >= 8).astype(np.float32)
    return Data(x[len(x) // 5 :], x[: len(x) // 5])


def compile_machine(means: Array) -> Machine:
    """A machine whose visible units begin with the pixels' means, and whose hidden units know nothing yet."""
    rng = np.random.default_rng(SEED)
    w = shared(rng.normal(0, 0.05, (PIXELS, HIDDEN)).astype(np.float32), name="w")
    b = shared(np.log(means / (1 - means)).astype(np.float32), name="b")  # of visible units
    c = shared(np.zeros(HIDDEN, np.float32), name="c")  # of hidden units
    chains = shared((rng.random((CHAINS, PIXELS)) < means).astype(np.float32), name="chains")
    streams = RandomStreams(SEED)
    x, rate, steps = T.fmatrix("x"), T.fscalar("rate"), T.lscalar("steps")

    def free_energy(v: Variable) -> Variable:
        """Minus the logarithm of a state's probability (and a constant), the hidden units summed out."""
        return -T.dot(v, b) - T.nnet.softplus(T.dot(v, w) + c).sum(axis=1)

    def draw(chances: Variable) -> Variable:
        return streams.binomial(chances.shape, 1, chances, dtype="float32")

    def visible_chances(v: Variable) -> Variable:
        """The pixels' probabilities after the hidden units have been drawn from the pixels."""
        return T.nnet.sigmoid(T.dot(draw(T.nnet.sigmoid(T.dot(v, w) + c)), w.T) + b)

    def gibbs(v: Variable) -> Variable:
        return draw(visible_chances(v))

    path, updates = scan(gibbs, outputs_info=[chains], n_steps=GIBBS_STEPS, name="Gibbs")
    after = path[-1]
    cost = free_energy(x).mean() - free_energy(after).mean()
    slopes = grad(cost, [w, b, c], consider_constant=[after])
    updates[chains] = after
    for parameter, slope in zip((w, b, c), slopes, strict=True):
        updates[parameter] = parameter - rate * slope

    # What the energy becomes when a pixel is turned, for all rows and pixels at once: (rows, pixels, hidden) summed.
    turned = 1 - 2 * x
    inputs = (T.dot(x, w) + c)[:, None, :] + turned[:, :, None] * w
    other = -T.dot(x, b)[:, None] - turned * b - T.nnet.softplus(inputs).sum(axis=2)
    score = -T.nnet.softplus(free_energy(x)[:, None] - other).mean(axis=1)

    dream, dream_updates = scan(gibbs, outputs_info=[chains], n_steps=steps, name="dream")
    dream_updates[chains] = dream[-1]
    return Machine(
        function([x, rate], cost, updates=updates, name="train"),
        function([x], score),
        function([steps], visible_chances(dream[-1]), updates=dream_updates),
        function([], w.T),
    )


def main(epochs: int = EPOCHS, picture: str | None = None) -> Result:
    data = load_data()
    print(f"data       {len(data.x)} digits to learn from, {len(data.x_held)} held out")
    means = data.x.mean(axis=0) * 0.98 + 0.01  # no pixel is impossible

    start = time.perf_counter()
    machine = compile_machine(means)
    print(f"compiled   four functions in {time.perf_counter() - start:.3f} s")

    rng = np.random.default_rng(SEED)
    scores, seconds, batches = [float(machine.score(data.x).mean())], 0.0, len(data.x) // BATCH
    for epoch in range(1, epochs + 1):
        rate = np.float32(RATE * (1 - (epoch - 1) / epochs))
        order = rng.permutation(len(data.x))[: batches * BATCH].reshape(batches, BATCH)
        start = time.perf_counter()
        for rows in order:
            machine.train(data.x[rows], rate)
        seconds += time.perf_counter() - start
        scores.append(float(machine.score(data.x).mean()))
        show_progress(epoch, epochs, f"pseudo-likelihood {scores[-1]:.4f}")

    held_out = float(machine.score(data.x_held).mean())
    independent = float((data.x_held * np.log(means) + (1 - data.x_held) * np.log(1 - means)).mean())
    print(f"held out   pseudo-likelihood {held_out:.4f} (of independent pixels {independent:.4f})")
    print(f"speed      {seconds / (epochs * batches) * 1e3:.3f} ms per step of {BATCH} digits and {CHAINS} chains")
    result = Result(scores, held_out, independent, machine.filters(), machine.dream(200))
    if picture:
        draw_result(result, picture)
    return result


def draw_result(result: Result, file: str) -> None:
    """The weights of each hidden unit, and what the chains dream of, as tiles of 8 x 8 pixels."""
    from matplotlib import pyplot as plt

    def tiles(images: Array, columns: int) -> Array:
        framed = np.pad(images.reshape(-1, columns, 8, 8), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        return framed.transpose(0, 2, 1, 3).reshape(len(framed) * 9, columns * 9)[:-1, :-1]

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), width_ratios=[2, 1], layout="constrained")
    reach = np.abs(result.filters).max() / 2
    left.imshow(tiles(result.filters, 16), cmap="RdBu_r", vmin=-reach, vmax=reach)
    left.set_title("weights of hidden units")
    right.imshow(tiles(result.dreams, 8), cmap="gray_r", vmin=0, vmax=1)
    right.set_title("pixels in the chains")
    for axes in (left, right):
        axes.set_axis_off()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
