"""Hamiltonian Monte Carlo of a small posterior: leapfrog, random momenta and acceptance in one compiled loop.

The posterior is that of a logistic regression with two weights: is a breast tumour benign, given the largest
number of concave points among its cells' outlines (scikit-learn's copy of the Wisconsin set, 569 tumours)? A fifth of
the tumours is held out. The chains are many, side by side; their moments are compared with those which SciPy
integrates numerically.

Method: R. M. Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, 2011, figure 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from progress import picture_file, show_progress
from scipy import integrate, optimize
from sklearn.datasets import load_breast_cancer

import symtensor.tensor as T
from symtensor import Variable, function, grad, scan
from symtensor.gradient import hessian
from symtensor.tensor.shared_randomstreams import RandomStreams

SEED = 42
FEATURE = "worst concave points"
PRIOR_DEVIATION = 5.0  # of each weight, around zero
CHAINS = 8
BLOCKS, BLOCK = 10, 250  # calls, and transitions of every chain in each
WARM_UP = 1  # blocks that are thrown away
LEAPS, STEP_SIZE = 6, 0.26  # together a quarter of an oscillation, in deviations of the posterior

Array = np.ndarray


class Data(NamedTuple):
    """A column of ones and a standardised measurement for each tumour; label 1 is benign, 0 malignant."""

    x: Array
    y: Array
    x_held: Array
    y_held: Array


class Moments(NamedTuple):
    mean: Array
    covariance: Array


def load_data() -> Data:
    """Shuffle the rows, hold out one in five, and standardise with what the others tell."""
    bunch = load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    measured = bunch.data[order, list(bunch.feature_names).index(FEATURE)]
    y = bunch.target[order].astype(np.float64)
    held = len(y) // 5
    x = np.stack([np.ones(len(y)), (measured - measured[held:].mean()) / measured[held:].std()], axis=1)
    return Data(x[held:], y[held:], x[:held], y[:held])


def potential(q: Variable, x: Variable, y: Variable) -> Variable:
    """Minus the logarithm of the posterior density (without its constant) of each row of weights ``q``."""
    logits = T.dot(q, x.T)
    likelihood = (y * T.nnet.softplus(-logits) + (1 - y) * T.nnet.softplus(logits)).sum(axis=1)
    return likelihood + (q**2).sum(axis=1) / (2 * PRIOR_DEVIATION**2)


def compile_posterior() -> tuple[Callable, Callable, Callable]:
    """Return, each as a function of one row of weights, x and y: potential, its gradient, its second derivatives."""
    q, x, y = T.dvector("q"), T.dmatrix("x"), T.dvector("y")
    energy = potential(q[None, :], x, y)[0]
    inputs = [q, x, y]
    return function(inputs, energy), function(inputs, grad(energy, q)), function(inputs, hessian(energy, q))


def compile_sampler() -> Callable:
    """Return `sample(q, scale, transitions, leaps, step_size, x, y) -> [positions, accepted]`.

    Positions are (transitions, chains, weights), accepted is the probability of each acceptance. Weights are
    ``scale @ position``, so that a step is as long in all directions.
    """
    start, scale = T.dmatrix("start"), T.dmatrix("scale")
    transitions, leaps, size = T.lscalar("transitions"), T.lscalar("leaps"), T.dscalar("size")
    x, y = T.dmatrix("x"), T.dvector("y")
    streams = RandomStreams(SEED)

    def energy(q: Variable) -> Variable:
        return potential(T.dot(q, scale.T), x, y)

    def force(q: Variable) -> Variable:
        return -grad(energy(q).sum(), q)

    def leap(q: Variable, p: Variable) -> list[Variable]:
        q = q + size * p
        return [q, p + size * force(q)]

    def transition(q: Variable) -> list[Variable]:
        p = streams.normal(q.shape)
        (path_q, path_p), _ = scan(leap, outputs_info=[q, p + size / 2 * force(q)], n_steps=leaps, name="leapfrog")
        new_q = path_q[-1]
        new_p = path_p[-1] - size / 2 * force(new_q)  # the last leap took a whole step of the momentum
        gained = energy(q) - energy(new_q) + (p**2).sum(axis=1) / 2 - (new_p**2).sum(axis=1) / 2
        accepted = T.exp(T.minimum(gained, 0.0))
        taken = streams.uniform(accepted.shape) < accepted
        return [T.switch(taken[:, None], new_q, q), accepted]

    (positions, accepted), updates = scan(
        transition, outputs_info=[start, None], n_steps=transitions, name="transitions"
    )
    return function([start, scale, transitions, leaps, size, x, y], [positions, accepted], updates=updates)


def integrated_moments(density: Callable, mode: Array, scale: Array) -> Moments:
    """Mean and covariance by SciPy's integration over the square of 8 deviations around the mode."""

    def integral(of: Callable) -> float:
        def integrand(b: float, a: float) -> float:
            q = mode + scale @ [a, b]
            return of(q) * density(q)

        return integrate.dblquad(integrand, -8, 8, -8, 8, epsabs=1e-7)[0]

    total = integral(lambda q: 1.0)
    mean = np.array([integral(lambda q, i=i: q[i]) for i in (0, 1)]) / total
    away = lambda q, i, j: (q[i] - mean[i]) * (q[j] - mean[j])  # noqa: E731
    a, ab, b = (integral(lambda q, i=i, j=j: away(q, i, j)) / total for i, j in ((0, 0), (0, 1), (1, 1)))
    return Moments(mean, np.array([[a, ab], [ab, b]]))


def split_rhat(samples: Array) -> Array:
    """Gelman and Rubin's ratio of variances, for the halves of all chains of (transitions, chains, weights)."""
    half = len(samples) // 2
    halves = np.concatenate([samples[:half], samples[half : 2 * half]], axis=1)
    within = halves.var(axis=0, ddof=1).mean(axis=0)
    between = halves.mean(axis=0).var(axis=0, ddof=1)
    return np.sqrt((half - 1) / half + between / within)


class Result(NamedTuple):
    samples: Array
    """(transitions, chains, weights)"""
    sampled: Moments
    integrated: Moments
    acceptance: float
    rhat: float
    accuracy: float
    log_score: float
    """Mean logarithm of the probability given to the held-out labels."""


def main(blocks: int = BLOCKS, picture: str | None = None) -> Result:
    data = load_data()
    print(f"data       {len(data.y)} tumours to learn from, {len(data.y_held)} held out; {FEATURE!r}")

    start = time.perf_counter()
    energy, slope, curvature = compile_posterior()
    print(f"compiled   the posterior and its derivatives in {time.perf_counter() - start:.3f} s")
    start = time.perf_counter()
    sample = compile_sampler()
    print(f"compiled   the sampler in {time.perf_counter() - start:.3f} s")

    best = optimize.minimize(energy, np.zeros(2), args=(data.x, data.y), jac=slope, method="BFGS")
    scale = np.linalg.cholesky(np.linalg.inv(curvature(best.x, data.x, data.y)))
    lowest = best.fun
    integrated = integrated_moments(lambda q: np.exp(lowest - energy(q, data.x, data.y)), best.x, scale)

    rng = np.random.default_rng(SEED)
    position = np.linalg.solve(scale, best.x) + rng.normal(size=(CHAINS, 2))
    kept, acceptances, seconds = [], [], 0.0
    for block in range(1, blocks + 1):
        start = time.perf_counter()
        positions, accepted = sample(position, scale, BLOCK, LEAPS, STEP_SIZE, data.x, data.y)
        seconds += time.perf_counter() - start
        position = positions[-1]
        if block > WARM_UP:
            kept.append(positions)
            acceptances.append(accepted.mean())
        show_progress(block, blocks, f"accepted {accepted.mean():.3f}", "sampling")

    samples = np.concatenate(kept) @ scale.T
    flat = samples.reshape(-1, 2)
    sampled = Moments(flat.mean(axis=0), np.cov(flat.T))
    chances = (1 / (1 + np.exp(-data.x_held @ flat.T))).mean(axis=1)
    right = np.where(data.y_held == 1, chances, 1 - chances)
    result = Result(
        samples,
        sampled,
        integrated,
        float(np.mean(acceptances)),
        float(split_rhat(samples).max()),
        float((right > 0.5).mean()),
        float(np.log(right).mean()),
    )
    report(result, seconds / (blocks * BLOCK * (LEAPS + 1)))
    if picture:
        draw(result, picture)
    return result


def report(result: Result, seconds_per_leap: float) -> None:
    for name, moments in (("sampled", result.sampled), ("SciPy", result.integrated)):
        deviation = np.sqrt(np.diag(moments.covariance))
        weights = ", ".join(f"{m:+.3f} ± {d:.3f}" for m, d in zip(moments.mean, deviation, strict=True))
        correlation = moments.covariance[0, 1] / deviation.prod()
        print(f"{name:10s} weights {weights}   correlation {correlation:+.3f}")
    print(f"chains     {CHAINS}, acceptance {result.acceptance:.3f}, R-hat {result.rhat:.4f}")
    print(f"held out   accuracy {result.accuracy:.1%}, mean log probability {result.log_score:.3f}")
    print(f"speed      {seconds_per_leap * 1e6:.2f} us per leap of {CHAINS} chains")


def draw(result: Result, file: str) -> None:
    """The samples, with ellipses of one and two deviations from the integrated moments."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    axes.plot(*result.samples[::4].reshape(-1, 2).T, ".", markersize=2, alpha=0.3, label="Hamiltonian Monte Carlo")
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.linalg.cholesky(result.integrated.covariance) @ [np.cos(angle), np.sin(angle)]
    for deviations in (1, 2):
        curve = result.integrated.mean[:, None] + deviations * circle
        axes.plot(*curve, color="black", linewidth=1, label="moments by SciPy" if deviations == 1 else None)
    axes.set(xlabel="bias", ylabel=f"weight of {FEATURE}")
    axes.legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main(picture=picture_file(__doc__))
