"""Random loops called with one size after another: compiled and in the reference interpreter, values and gradients.

The first call of a function decides for which sizes its loops have their state in registers; later calls have others.
Steps multiply matrices and vectors, choose lazily and run loops of their own; weights are inputs or shared.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest

import symtensor.tensor as T
from symtensor import function, scan, shared
from symtensor.graph import Tensor
from symtensor.ifelse import ifelse
from symtensor.scan_module import until

SIZES = [1, 2, 3, 4, 9, 17]
TOLERANCE = {"float64": (1e-7, 1e-9), "float32": (3e-3, 3e-4)}  # of sums in another order


class _Program:
    """A scan over some sequences and states, and how its arguments are drawn."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, Random(seed)
        self.dtype = self.random.choice(["float64", "float64", "float32"])
        self.known = self.random.random() < 0.3
        self.sizes = [(self.random.choice(SIZES), self.random.choice([4, 5, 8])) for _ in range(3)]
        if self.known:
            self.sizes = self.sizes[:1] * 3
        self.inputs: list[Tensor] = []
        self.shapes: list[str] = []
        self.total = shared(np.asarray(0.25, self.dtype), name="total")
        self.weights = [self.input("nn"), self.input("nn")]
        self.states: list[str] = []
        self.own: list[Any] = []
        if self.known:
            n = self.sizes[0][0]
            self.own = [shared((np.random.default_rng(seed).normal(size=(n, n)) * 0.5).astype(self.dtype))]
            self.weights[0] = self.own[0]
        self.bias = self.input("n")

    def input(self, shape: str) -> Tensor:
        """A new input: n is the size of vectors in a step, m the number of rows, 2 and 3 are numbers of taps."""
        n, m = self.sizes[0]
        dims = tuple({"n": n, "m": m}.get(letter) or int(letter) for letter in shape)
        made = T.TensorType(self.dtype, shape=dims if self.known else (None,) * len(shape))()
        self.inputs.append(made)
        self.shapes.append(shape)
        return made

    def values(self, call: int) -> list[Any]:
        """Arguments of a call."""
        n, m = self.sizes[call]
        rng = np.random.default_rng((self.seed, call))
        dims = [tuple({"n": n, "m": m}.get(letter) or int(letter) for letter in shape) for shape in self.shapes]
        return [(rng.normal(size=d) * 0.6).astype(self.dtype) for d in dims]

    def number(self, value: float) -> Tensor:
        """A constant of the program's type."""
        return T.constant(np.asarray(value, self.dtype))

    def vector(self, pool: Sequence[Tensor]) -> Tensor:
        """A vector made of what there is."""
        choose, c = self.random.choice, self.number
        v, other = (choose([a for a in pool if a.ndim == 1]) for _ in range(2))
        matrix = choose([a for a in pool if a.ndim == 2])
        ways: list[Callable[[], Tensor]] = [
            lambda: T.tanh(T.dot(matrix, v)),
            lambda: T.tanh(T.dot(v, matrix)),
            lambda: T.tanh(v + other * c(0.3)),
            lambda: T.switch(v > c(0.1), T.sin(v), other * c(0.5)),
            lambda: v[::-1] * c(0.9),
            lambda: T.nnet.softmax(v.dimshuffle("x", 0))[0],
            lambda: T.set_subtensor(v[0], T.sin(v.sum())),
            lambda: T.concatenate([v[1:], v[:1]]),
            lambda: matrix[0] * v,
            lambda: T.sqr(v) / (c(1) + abs(other)),
            lambda: T.cumsum(v) * c(0.2),
        ]
        return choose(ways)()

    def special(self, pool: Sequence[Tensor]) -> Tensor:
        """Something with bodies of its own, or a matrix."""
        choose, c = self.random.choice, self.number
        v = choose([a for a in pool if a.ndim == 1])
        matrix = choose([a for a in pool if a.ndim == 2])
        ways: list[Callable[[], Tensor]] = [
            lambda: ifelse(v.sum() > c(0), self.vector(pool), self.vector(pool) * c(0.5)),
            lambda: scan(lambda row, s: T.tanh(s + T.dot(row, v)), matrix, c(0.1))[0],
            lambda: scan(lambda s: T.tanh(T.dot(matrix, s) + c(0.1)), outputs_info=v, n_steps=2)[0][-1],
            lambda: scan(lambda row: T.tanh(row * v).sum(), matrix)[0],
            lambda: T.dot(matrix, matrix.T) * c(0.3),
            lambda: T.outer(v, self.bias),
        ]
        return choose(ways)()

    def step(self, *given: Tensor) -> Any:
        """One step; the states come last."""
        pool = [*given, self.bias, *self.weights]
        for _ in range(self.random.randint(1, 3)):
            pool.append(self.vector(pool) if self.random.random() < 0.5 else self.special(pool))
        outputs = [self.state(letters, pool) for letters in self.states] or [T.tanh(self.vector(pool))]
        outputs[0] = outputs[0] + self.number(0.01) * sum(T.sin(a).sum() for a in given)
        returned: list[Any] = [outputs]
        if self.random.random() < 0.3:
            returned.append({self.total: T.sin(self.total + outputs[0].sum())})
        if self.random.random() < 0.25:
            returned.append(until(outputs[-1].sum() > self.number(0.9)))
        return tuple(returned) if len(returned) > 1 else outputs

    def state(self, letters: str, pool: Sequence[Tensor]) -> Tensor:
        """The next value of a state with these sizes."""
        if letters == "nn":
            return T.tanh(self.weights[1] * self.vector(pool).dimshuffle(0, "x"))
        return T.tanh(self.vector(pool)) if letters else T.sin(self.vector(pool).sum())

    def build(self) -> tuple[list[Tensor], Any]:
        """The results of the loop, and its updates."""
        choose = self.random.choice
        sequences = [
            {"input": self.input(choose(["m", "mn"])), "taps": choose([[0], [-1, 0], [0, 2]])}
            for _ in range(self.random.randint(0, 2))
        ]
        self.states = [choose(["", "n", "nn"]) for _ in range(self.random.randint(0, 3))]
        infos = []
        for letters in self.states:
            taps = choose([[-1], [-1, -2], [-3, -1]])
            depth = "" if taps == [-1] else str(max(-t for t in taps))
            infos.append({"initial": self.input(depth + letters), "taps": taps})
        steps = None if sequences else 3
        backwards, truncate = choose([False, True]), choose([-1, -1, -1, 2])
        found: tuple[list[Tensor], Any] = scan(
            self.step, sequences, infos or [None], None, steps, truncate, backwards, return_list=True
        )
        return found


@pytest.mark.parametrize("seed", [*range(12), 27, 508])
def test_every_call_agrees_with_the_reference(seed: int) -> None:
    program = _Program(seed)
    outputs, updates = program.build()
    shown = [o[-1] if program.random.random() < 0.5 else o for o in outputs]
    cost = sum(T.sum(T.sin(o)) for o in shown)
    gradients = T.grad(cost, [*program.inputs, *program.own], disconnected_inputs="ignore")
    compiled, reference = (
        function(program.inputs, [*shown, *gradients], updates=updates, mode=mode, on_unused_input="ignore")
        for mode in ("fast_run", "reference")
    )
    rtol, atol = TOLERANCE[program.dtype]
    for call in range(3):
        results = []
        for f in (compiled, reference):
            program.total.set_value(np.asarray(0.25, program.dtype))
            results.append([*f(*program.values(call)), program.total.get_value()])
        for got, want in zip(*results, strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol, atol * max(1.0, float(np.max(np.abs(want), initial=0))))
