"""Recurrent layers against their formulas in NumPy, step by step; gradients against differences."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function, nnet
from symtensor.gradient import verify_grad
from symtensor.tensor.shared_randomstreams import RandomStreams
from symtensor_codegen.errors import ShapeError

STEPS, BATCH, INPUTS, HIDDEN = 6, 3, 4, 5
LENGTHS = np.array([6, 4, 1])
MASK = (np.arange(STEPS)[:, None] < LENGTHS).astype("float64")
RNG = np.random.default_rng(7)
X = RNG.normal(size=(STEPS, BATCH, INPUTS))
H0, C0 = RNG.normal(size=(2, BATCH, HIDDEN))
PEEPHOLES = RNG.normal(size=(3, HIDDEN))
HIDDEN_BIAS = RNG.normal(size=3 * HIDDEN)
Array = np.ndarray
Cell = Callable[..., tuple[Array, ...]]


def weights(gates: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(gates)
    width = gates * HIDDEN
    return (rng.normal(size=(INPUTS, width)), rng.normal(size=(HIDDEN, width)), rng.normal(size=width))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rnn_step(x: Array, h: Array) -> tuple[Array, ...]:
    w, u, b = weights(1)
    return (np.tanh(x @ w + h @ u + b),)


def lstm_step(x: Array, h: Array, c: Array, peepholes: Array, forget_bias: float) -> tuple[Array, ...]:
    w, u, b = weights(4)
    i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=1)
    after = sigmoid(f + peepholes[1] * c + forget_bias) * c + sigmoid(i + peepholes[0] * c) * np.tanh(g)
    return sigmoid(o + peepholes[2] * after) * np.tanh(after), after


def gru_step(x: Array, h: Array, reset_after: bool) -> tuple[Array, ...]:
    w, u, b = weights(3)
    ar, az, an = np.split(x @ w + b, 3, axis=1)
    vr, vz, vn = np.split(h @ u + HIDDEN_BIAS, 3, axis=1)
    r, z = sigmoid(ar + vr), sigmoid(az + vz)
    if reset_after:
        n = np.tanh(an + r * vn)
    else:
        n = np.tanh(an + (r * h) @ u[:, 2 * HIDDEN :] + HIDDEN_BIAS[2 * HIDDEN :])
    return ((1 - z) * n + z * h,)


def unrolled(step: Cell, state: tuple[Array, ...], mask: Array | None, backwards: bool) -> tuple[Array, ...]:
    """The outputs of every step, and the last state."""
    outputs = np.zeros((STEPS, BATCH, HIDDEN))
    for t in reversed(range(STEPS)) if backwards else range(STEPS):
        after = step(X[t], *state)
        if mask is not None:
            present = mask[t][:, None] != 0
            after = tuple(np.where(present, new, old) for new, old in zip(after, state, strict=True))
        state = after
        outputs[t] = state[0]
    return (outputs, *state)


def flat(result: tuple[Any, Any]) -> list[Any]:
    outputs, last = result
    return [outputs, *last] if isinstance(last, tuple) else [outputs, last]


LAYERS: dict[str, tuple[Callable[..., Any], dict[str, Any], Cell, int, int]] = {
    "rnn": (nnet.simple_rnn, {}, rnn_step, 1, 1),
    "lstm": (nnet.lstm, {}, partial(lstm_step, peepholes=np.zeros((3, 1)), forget_bias=0.0), 4, 2),
    "peepholes": (
        nnet.lstm,
        {"peepholes": PEEPHOLES, "forget_bias": 1.5},
        partial(lstm_step, peepholes=PEEPHOLES, forget_bias=1.5),
        4,
        2,
    ),
    "gru": (nnet.gru, {"hidden_bias": HIDDEN_BIAS}, partial(gru_step, reset_after=True), 3, 1),
    "gru, reset before": (
        nnet.gru,
        {"hidden_bias": HIDDEN_BIAS, "reset_after": False},
        partial(gru_step, reset_after=False),
        3,
        1,
    ),
}


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_its_formula(name: str, masked: bool, backwards: bool) -> None:
    layer, options, step, gates, states = LAYERS[name]
    x, mask = T.tensor3("x"), T.matrix("mask")
    starts = dict(list(zip(("h0", "c0"), (H0, C0), strict=True))[:states])
    made = layer(
        x, *weights(gates), mask=mask if masked else None, go_backwards=backwards, **starts, **options
    )
    found = function([x, mask], flat(made), on_unused_input="ignore")(X, MASK)
    wanted = unrolled(step, (H0, C0)[:states], MASK if masked else None, backwards)
    for have, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str) -> None:
    layer, options, _, gates, _ = LAYERS[name]

    def cost(x: Any, w: Any, u: Any, b: Any, h0: Any) -> Any:
        outputs, *last = flat(layer(x, w, u, b, h0=h0, mask=MASK[:3], **options))
        return T.sum(outputs**2) + T.sum(last[-1] ** 3)

    verify_grad(cost, [X[:3], *weights(gates), H0], n_tests=1)


def test_states_begin_at_zero_and_may_be_one_row() -> None:
    x = T.tensor3("x")
    w, u, _ = weights(1)
    zero, _ = nnet.simple_rnn(x, w, u)
    one, _ = nnet.simple_rnn(x, w, u, h0=H0[0])
    found = function([x], [zero[0], one[0]])(X)
    np.testing.assert_allclose(found[0], np.tanh(X[0] @ w))
    np.testing.assert_allclose(found[1], np.tanh(X[0] @ w + H0[0] @ u))


def test_padding_changes_nothing() -> None:
    """The last states and gradients of a padded sequence are those of the sequence alone, in both directions."""
    x, mask = T.tensor3("x"), T.matrix("mask")
    layer = partial(nnet.lstm, w=weights(4)[0], u=weights(4)[1], b=weights(4)[2])
    outputs, (forward, backward) = nnet.bidirectional(layer, layer, x, mask)
    cost = T.sum(forward[0] * 2 + backward[1])
    run = function([x, mask], [outputs, *forward, *backward, T.grad(cost, x)])
    together = run(X, MASK)
    for b, length in enumerate(LENGTHS):
        alone = run(X[:length, b : b + 1], np.ones((length, 1)))
        np.testing.assert_allclose(together[0][:length, b], alone[0][:, 0], rtol=1e-12)
        for whole, part in zip(together[1:5], alone[1:5], strict=True):
            np.testing.assert_allclose(whole[b], part[0], rtol=1e-12)
        np.testing.assert_allclose(together[5][:length, b], alone[5][:, 0], rtol=1e-12)
        assert not together[5][length:, b].any()


def test_single_precision_stays_single() -> None:
    x = T.ftensor3("x")
    layer = nnet.LSTM(INPUTS, HIDDEN, 0, peepholes=True, dtype="float32")
    outputs, (h, c) = layer(x)
    gradients = T.grad(T.sum(outputs), layer.parameters)
    assert {v.dtype for v in (outputs, h, c, *gradients)} == {"float32"}
    found = function([x], [outputs, *gradients])(X.astype("float32"))
    assert [g.shape for g in found[1:]] == [(4, 20), (5, 20), (20,), (3, 5)]


def test_truncated_gradient_reaches_back_two_steps() -> None:
    x = T.tensor3("x")
    _, last = nnet.simple_rnn(x, *weights(1), truncate_gradient=2)
    g = function([x], T.grad(T.sum(last), x))(X)
    assert [bool(row.any()) for row in g] == [False] * 4 + [True] * 2


def test_layers_learn_to_remember() -> None:
    """Which of two symbols came first, eight steps ago."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 40)
    data = rng.normal(0, 0.3, (8, 40, 2))
    data[0] += np.eye(2)[first] * 2
    x, y = T.tensor3("x"), T.lvector("y")
    for make in (nnet.LSTM, nnet.GRU, nnet.SimpleRNN):
        layer, top = make(2, 8, 1), nnet.Dense(8, 2, 2)
        _, last = layer(x)
        h = last[0] if isinstance(last, tuple) else last
        loss = T.nnet.categorical_crossentropy(T.nnet.softmax(top(h)), y).mean()
        updates = nnet.updates.adam(loss, [*layer.parameters, *top.parameters], 0.03)
        train = function([x, y], loss, updates=updates)
        losses = [float(train(data, first)) for _ in range(40)]
        assert losses[0] > 0.4
        assert losses[-1] < 0.05, make


def test_bidirectional_layer_has_the_parameters_of_both() -> None:
    net = nnet.Bidirectional(nnet.LSTM(2, 3, 0, name="there"), nnet.GRU(2, 4, 1, name="back"))
    x = T.tensor3("x")
    outputs, _ = net(x)
    found = function([x], outputs)(np.zeros((5, 2, 2)))
    assert found.shape == (5, 2, 7)
    assert [p.name for p in net.parameters] == [
        "there.w", "there.u", "there.b", "back.w", "back.u", "back.b", "back.hidden_bias",
    ]  # fmt: skip
    forget = net.parameters[2].get_value()
    assert forget.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6


def test_bad_shapes() -> None:
    w, u, b = weights(4)
    with pytest.raises(ShapeError, match=r"lstm: x .* must have 3 axes"):
        nnet.lstm(T.matrix("x"), w, u, b)
    with pytest.raises(ShapeError, match="gru: u must have 3 times as many columns as rows"):
        nnet.gru(T.tensor3("x"), w, u, b)
    with pytest.raises(ShapeError, match=r"simple_rnn: mask .* must have 2 axes"):
        nnet.simple_rnn(T.tensor3("x"), *weights(1), mask=T.tensor3("m"))
    x = T.tensor3("x")
    run = function([x], nnet.lstm(x, symtensor.shared(w), u, b)[0])
    with pytest.raises(ShapeError):
        run(np.zeros((2, 2, INPUTS + 1)))


def test_no_steps() -> None:
    x = T.tensor3("x")
    outputs, (h, c) = nnet.lstm(x, *weights(4), h0=H0, c0=C0)
    found = function([x], [outputs, h, c])(X[:0])
    assert found[0].shape == (0, BATCH, HIDDEN)
    assert np.array_equal(found[1], H0)
    assert np.array_equal(found[2], C0)


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_weights_dropped_at_random_are_the_same_in_all_steps(cell: str) -> None:
    """Dropout of the recurrent weights (Wan et al., 2013) draws one mask for a call."""
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[cell]
    rng = np.random.default_rng(0)
    w, u = rng.normal(size=(2, gates * 3)), rng.normal(size=(3, gates * 3))
    x = rng.normal(size=(6, 2, 2))
    dropped = nnet.dropout(T.constant(u), 0.5, RandomStreams(7))
    layer = getattr(nnet, cell)
    got, used = function([], [layer(x, w, dropped)[0], dropped])()
    assert (used == 0).any()
    np.testing.assert_allclose(got, function([], layer(x, w, used)[0])(), rtol=1e-12)
