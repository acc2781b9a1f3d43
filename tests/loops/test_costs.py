"""What a loop costs beside its steps: memory of what nobody asks for, and compiling."""

import re
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, grad, scan

from .both import both

STEPS = (100, 60_000, 100_000, 1_000_000_000)  # from 65,537 on, in pieces that Ctrl-C can come between


def last_of_large_states() -> Any:
    x, w, n = T.dvector("x"), T.dmatrix("w"), T.lscalar("n")
    path, _ = scan(lambda x: T.tanh(T.dot(w, x)), outputs_info=x, n_steps=n)
    return function([x, w, n], path[-1])


def last_of_small_states() -> Any:
    x, w, n = T.tensor("float64", shape=(3,)), T.tensor("float64", shape=(3, 3)), T.lscalar("n")
    path, _ = scan(lambda x: T.tanh(T.dot(w, x)), outputs_info=x, n_steps=n)
    return function([x, w, n], path[-1])


@pytest.mark.parametrize("make", [last_of_large_states, last_of_small_states])
def test_memory_of_the_last_state_does_not_grow_with_the_steps(make: Any) -> None:
    f = make()
    assert not re.search(r"\bn\b", f.memory)
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 3)), rng.normal(size=3)
    expected = x
    for _ in range(17):
        expected = np.tanh(w @ expected)
    np.testing.assert_allclose(f(x, w, 17), expected, rtol=1e-12)


def test_all_states_and_gradients_are_kept() -> None:
    """What the test above looks for is there where it must be."""
    x, w, n = T.dvector("x"), T.dmatrix("w"), T.lscalar("n")
    path, _ = scan(lambda x: T.tanh(T.dot(w, x)), outputs_info=x, n_steps=n)
    for output in (path, grad(path[-1].sum(), w)):
        assert re.search(r"\bn\b", function([x, w, n], output).memory)


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("shape", [(), (3, 3), (None, None)])
def test_code_does_not_grow_with_the_steps(
    shape: tuple[int | None, ...], with_gradient: bool, device: str
) -> None:
    sizes, kernels = [], "llvm" if device == "cpu" else "cuda"
    for steps in STEPS:
        x, r = T.tensor("float64", shape=shape), T.dscalar("r")
        path, _ = scan(lambda x, r: r * x * (1 - x), outputs_info=x, non_sequences=r, n_steps=steps)
        loss = path[-1].sum()
        f = function([x, r], grad(loss, [x, r]) if with_gradient else loss, mode="fast_run")
        sizes.append(tuple(len(f.source(language).splitlines()) for language in ("program", kernels)))
    assert sizes[0] == sizes[1]
    assert sizes[2] == sizes[3]


def test_matrices_with_short_rows_are_transposed_before_the_loop() -> None:
    rng = np.random.default_rng(1)
    a, b, c = (T.tensor("float64", shape=shape) for shape in ((90, 7), (40, 9), (9, 7)))
    q, steps = T.tensor("float64", shape=(7,)), T.lscalar("steps")

    def step(q: Any) -> Any:
        inner = T.dot(b, T.tanh(T.dot(c, q)))  # one product of another
        return 0.5 * q + T.dot(T.nnet.sigmoid(T.dot(a, q)), a) / 90 + inner.sum() / 100

    path, _ = scan(step, outputs_info=q, n_steps=steps)
    cost = (path**2).sum()
    values = [rng.normal(size=shape) for shape in ((90, 7), (40, 9), (9, 7), (7,))]
    both([a, b, c, q, steps], [path[-1], *grad(cost, [a, b, c, q])], *values, 6)
    program = function([a, b, c, q, steps], path[-1], device="cpu").source("program")
    before, _, loop = program.partition("\n  for ")
    assert before.count("launch") >= 3
    for matrix in ("7, 90", "9, 40", "7, 9"):
        assert f"float64[{matrix}] is " in loop
