"""Logistic regression on real data: the first program of Theano's tutorial, with symtensor's import lines.

The data are 569 biopsies of breast tumours, 30 measurements each (scikit-learn's copy of the Wisconsin set).
A fifth of them is held out, and never seen while the weights are learnt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer

import symtensor.tensor as T
from symtensor import function, grad, shared

SEED = 42
STEPS = 500


class Data(NamedTuple):
    """Measurements scaled by the learning rows' mean and deviation; label 1 is benign, 0 malignant."""

    x: np.ndarray
    y: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray


def load_data(rng: np.random.RandomState) -> Data:
    """Shuffle the rows, hold out one in five, and standardise with what the learning rows tell."""
    x, y = load_breast_cancer(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = x[order], y[order].astype(np.float64)
    held = len(x) // 5
    mean, deviation = x[held:].mean(axis=0), x[held:].std(axis=0)
    x = (x - mean) / deviation
    return Data(x[held:], y[held:], x[:held], y[:held])


def compile_model(n_features: int, rng: np.random.RandomState) -> tuple[Callable, Callable]:
    """Return `train(x, y) -> [prediction, loss of each row]`, which takes one step, and `predict(x)`."""
    x, y = T.dmatrix("x"), T.dvector("y")
    w, b = shared(rng.randn(n_features), name="w"), shared(np.zeros(()), name="b")
    p_1 = 1 / (1 + T.exp(-T.dot(x, w) - b))
    xent = -y * T.log(p_1) - (1 - y) * T.log(1 - p_1)
    prediction = p_1 > 0.5
    cost = xent.mean() + 0.01 * (w**2).sum()
    gw, gb = grad(cost, [w, b])
    train = function(
        inputs=[x, y], outputs=[prediction, xent], updates={w: w - 0.1 * gw, b: b - 0.1 * gb}, name="train"
    )
    predict = function(inputs=[x], outputs=prediction, name="predict")
    return train, predict


def show_progress(step: int, steps: int, loss: float) -> None:
    """Draw the bar: in place on a terminal, else one line for every tenth of the way."""
    done = step * 30 // steps
    line = f"training   [{'#' * done}{'.' * (30 - done)}] {step:5d}/{steps}   loss {loss:.4f}"
    if sys.stdout.isatty():
        print("\r" + line, end="\n" if step == steps else "", flush=True)
    elif step == 1 or step % (steps // 10) == 0:
        print(line, flush=True)


def main(steps: int = STEPS) -> None:
    rng = np.random.RandomState(SEED)
    data = load_data(rng)
    benign = int(data.y.sum() + data.y_held.sum())
    total = len(data.y) + len(data.y_held)
    measurements = data.x.shape[1]
    print(f"data       {total} tumours, {measurements} measurements each")
    print(f"           {benign} benign, {total - benign} malignant")
    print(f"           {len(data.y)} rows to learn from, {len(data.y_held)} held out")

    start = time.perf_counter()
    train, predict = compile_model(measurements, rng)
    compile_time = time.perf_counter() - start
    print(f"compiled   two functions in {compile_time:.3f} s")

    in_steps = 0.0
    for step in range(1, steps + 1):
        start = time.perf_counter()
        _, xent = train(data.x, data.y)
        in_steps += time.perf_counter() - start
        if step == 1 or step % 10 == 0:
            show_progress(step, steps, xent.mean())

    accuracy = np.mean(predict(data.x_held) == data.y_held)
    print(f"accuracy   {accuracy:.1%} of the {len(data.y_held)} held-out rows")
    print(f"speed      {in_steps / steps * 1e6:.1f} us per step of {len(data.y)} rows")


if __name__ == "__main__":
    main()
