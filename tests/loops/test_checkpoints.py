"""Gradients that compute again: the same numbers, and less memory."""

import re

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import checkpoint, function, scan, scan_checkpoints, shared
from symtensor.graph import Tensor
from symtensor.tensor.shared_randomstreams import RandomStreams

from .both import both, gradients


def _layers(x: Tensor, w: Tensor) -> Tensor:
    for _ in range(4):
        x = T.tanh(T.dot(x, w))
    return x


def _kilobytes(f: object) -> int:
    """The memory of a call as reported, where all sizes are known: without what is returned."""
    places: dict[str, int] = {}
    for size, place in re.findall(r"(\d+)\s+arena, place (\d+)", f.memory):  # type: ignore[attr-defined]
        places[place] = max(places.get(place, 0), int(size))
    return sum(places.values()) // 1024


@pytest.mark.parametrize("form", ["expression", "inputs", "function", "list"])
def test_checkpoint_has_the_same_values_and_gradients(form: str) -> None:
    x, w = T.dmatrix("x"), T.dmatrix("w")
    middle = x * 2
    made = {
        "expression": lambda: checkpoint(_layers(middle, w)),
        "inputs": lambda: checkpoint(_layers(middle, w), inputs=[middle]),
        "function": lambda: checkpoint(_layers)(middle, w),
        "list": lambda: checkpoint([_layers(middle, w), w])[0],
    }[form]()
    plain = _layers(middle, w)
    values = np.random.default_rng(0).normal(size=(3, 2)), np.random.default_rng(1).normal(size=(2, 2))
    got = both([x, w], [made, *gradients((made**2).sum(), [x, w])], *values, rtol=1e-9)
    want = both([x, w], [plain, *gradients((plain**2).sum(), [x, w])], *values, rtol=1e-9)
    for g, v in zip(got, want, strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-10)


def test_a_chain_of_checkpoints_needs_less_memory() -> None:
    """Eight blocks of four layers: with checkpoints the gradient keeps a value for each block."""
    x = T.TensorType("float64", shape=(256, 32))("x")
    w = T.TensorType("float64", shape=(32, 32))("w")
    plain = kept = x
    for _ in range(8):
        plain, kept = _layers(plain, w), checkpoint(_layers)(kept, w)
    functions = [function([x, w], T.grad((y**2).sum(), w)) for y in (plain, kept)]
    value = np.random.default_rng(2).normal(size=(256, 32)), np.random.default_rng(3).normal(size=(32, 32)) / 6
    np.testing.assert_allclose(functions[1](*value), functions[0](*value), rtol=1e-9)
    assert _kilobytes(functions[1]) < 0.75 * _kilobytes(functions[0])


def test_draws_are_the_same_when_computed_again() -> None:
    x = T.dvector("x")
    noisy = checkpoint(x * RandomStreams(5).normal((4,)))
    value, gradient = function([x], [noisy, T.grad(noisy.sum(), x)])(np.full(4, 2.0))
    np.testing.assert_allclose(value, 2 * gradient)


@pytest.mark.parametrize("every", [1, 3, 4, 12, 20])
def test_scan_checkpoints_returns_every_nth_state(every: int) -> None:
    x, h, w = T.dvector("x"), T.dvector("h"), T.dmatrix("w")

    def step(v: Tensor, state: Tensor, w: Tensor) -> Tensor:
        return T.tanh(T.dot(state, w) + v)

    whole, _ = scan(step, x, h, w)
    some, _ = scan_checkpoints(step, x, h, w, save_every_N=every)
    values = np.linspace(-1, 1, 12), np.ones(3), np.random.default_rng(4).normal(size=(3, 3)) / 2
    want = function([x, h, w], [whole, *T.grad((whole[-1] ** 2).sum(), [x, h, w])])(*values)
    got = both([x, h, w], [some, *T.grad((some[-1] ** 2).sum(), [x, h, w])], *values)
    rows = [min(k + every, 12) - 1 for k in range(0, 12, every)]
    np.testing.assert_allclose(got[0], want[0][rows], rtol=1e-12)
    for g, v in zip(got[1:], want[1:], strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-10)


def test_scan_checkpoints_passes_updates_on() -> None:
    count, x = shared(np.int64(0)), T.dvector("x")
    out, updates = scan_checkpoints(lambda v, s: (s + v, {count: count + 1}), x, T.constant(0.0), save_every_N=4)
    assert function([x], out, updates=updates)(np.ones(10)).tolist() == [4, 8, 10]
    assert count.get_value() == 10


def test_scan_checkpoints_keeps_the_square_root_of_the_states() -> None:
    steps = 400
    h = T.TensorType("float64", shape=(64,))("h")
    w = T.TensorType("float64", shape=(64, 64))("w")

    def step(state: Tensor, w: Tensor) -> Tensor:
        return T.tanh(T.dot(state, w))

    whole, _ = scan(step, None, h, w, n_steps=steps)
    some, _ = scan_checkpoints(step, None, h, w, n_steps=steps, save_every_N=20)
    functions = [function([h, w], T.grad((y[-1] ** 2).sum(), [h, w])) for y in (whole, some)]
    values = np.ones(64), np.random.default_rng(5).normal(size=(64, 64)) / 8
    for got, want in zip(functions[1](*values), functions[0](*values), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8)
    assert _kilobytes(functions[1]) < 0.6 * _kilobytes(functions[0])


def test_padding_can_be_left_out_where_blocks_are_whole() -> None:
    x = T.dvector("x")
    out, _ = symtensor.scan_module.scan_checkpoints(
        lambda v, s: s + v, x, T.constant(0.0), save_every_N=5, padding=False
    )
    assert function([x], out)(np.ones(10)).tolist() == [5, 10]
    with pytest.raises(ValueError, match="11 elements cannot become"):
        function([x], out)(np.ones(11))
