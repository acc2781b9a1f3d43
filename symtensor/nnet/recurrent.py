"""Recurrent layers: plain, LSTM and GRU networks over batches of sequences.

Every function takes sequences ``x`` of shape (T, B, I): T steps, B sequences, I inputs. The matrices of all gates lie
side by side in one, so that a step is one product; the products with ``x`` are computed for all steps at once.

A ``mask`` (T, B) is nonzero where a sequence has an element. Where it is zero the state is handed on unchanged, so the
last state is that after each sequence's last element, wherever the padding lies. ``go_backwards`` runs from the last
row of ``x`` to the first; row t of the outputs still belongs to row t of ``x``, and the last state is that after row 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.loops.scan import scan
from symtensor.opdef import describe
from symtensor_codegen.errors import ShapeError

Activation = Callable[[Any], Any]
Step = Callable[..., Sequence[Tensor]]


def simple_rnn(
    x: TensorLike,
    w: TensorLike,
    u: TensorLike,
    b: TensorLike | None = None,
    *,
    mask: TensorLike | None = None,
    h0: TensorLike | None = None,
    activation: Activation = T.tanh,
    go_backwards: bool = False,
    truncate_gradient: int = -1,
) -> tuple[Tensor, Tensor]:
    """A network whose hidden layer sees its last values: h[t] = activation(x[t] w + h[t-1] u + b).

    Args:
        x: (T, B, I).
        w, u, b: (I, H), (H, H) and (H,).
        mask: (T, B), see the module; None: all sequences have T elements.
        h0: the state before the first step, (B, H) or (H,); None: zeros.
        activation: a function of a tensor.
        go_backwards: from the last row to the first.
        truncate_gradient: gradients go back this many steps (-1: all).

    Returns:
        The hidden layer of every step, (T, B, H), and the last one, (B, H).
        (Elman, 1990: Finding structure in time.)
    """
    inputs, hidden = _inputs("simple_rnn", x, w, u, b, 1)

    def step(given: Tensor, h: Tensor, hidden: Tensor) -> list[Tensor]:
        return [activation(given + T.dot(h, hidden))]

    (outputs,), (last,) = _run(
        "simple_rnn", step, inputs, [_initial(inputs, hidden, h0)], [hidden], mask, go_backwards, truncate_gradient
    )
    return outputs, last


def lstm(
    x: TensorLike,
    w: TensorLike,
    u: TensorLike,
    b: TensorLike | None = None,
    *,
    mask: TensorLike | None = None,
    h0: TensorLike | None = None,
    c0: TensorLike | None = None,
    peepholes: TensorLike | None = None,
    forget_bias: float = 0.0,
    activation: Activation = T.tanh,
    go_backwards: bool = False,
    truncate_gradient: int = -1,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Long short-term memory; the columns of ``w``, ``u`` and ``b`` are those of the gates i, f, g and o in this order.

    With a[t] = x[t] w + h[t-1] u + b, cut into a_i, a_f, a_g and a_o, and peepholes p_i, p_f, p_o (else zero)::

        i = sigmoid(a_i + p_i c[t-1])
        f = sigmoid(a_f + p_f c[t-1] + forget_bias)
        c[t] = f c[t-1] + i tanh(a_g)
        o = sigmoid(a_o + p_o c[t])
        h[t] = o tanh(c[t])

    Args:
        x: (T, B, I).
        w, u, b: (I, 4 H), (H, 4 H) and (4 H,); as PyTorch's ``weight_ih.T``, ``weight_hh.T`` and the sum of its biases.
        mask: (T, B), see the module; None: all sequences have T elements.
        h0, c0: output and memory before the first step, (B, H) or (H,); None: zeros.
        peepholes: (3, H), the rows p_i, p_f and p_o; None: there are none.
        forget_bias: added before the sigmoid of f: with 1 the memory lasts at the start of training.
        activation: what takes the place of both tanh.
        go_backwards: from the last row to the first.
        truncate_gradient: gradients go back this many steps (-1: all).

    Returns:
        The outputs h of every step, (T, B, H), and the last h and c, (B, H) each.
        (Hochreiter and Schmidhuber, 1997; forget gates and peepholes: Gers, Schraudolph and Schmidhuber, 2002:
        Learning precise timing with LSTM recurrent networks; Graves, 2013: Generating sequences.)
    """
    inputs, hidden = _inputs("lstm", x, w, u, b, 4)
    peeps = [] if peepholes is None else [_of_rank("lstm: peepholes", peepholes, 2)]

    def step(given: Tensor, h: Tensor, c: Tensor, hidden: Tensor, *peepholes: Tensor) -> list[Tensor]:
        in_, forget, new, out = _cut(given + T.dot(h, hidden), hidden, 4)
        for peeps in peepholes:
            in_, forget = in_ + peeps[0] * c, forget + peeps[1] * c
        if forget_bias:
            forget = forget + float(forget_bias)  # NumPy's numbers have types of their own
        after = T.nnet.sigmoid(forget) * c + T.nnet.sigmoid(in_) * activation(new)
        for peeps in peepholes:
            out = out + peeps[2] * after
        return [T.nnet.sigmoid(out) * activation(after), after]

    start = [_initial(inputs, hidden, h0), _initial(inputs, hidden, c0)]
    (outputs, _), (h, c) = _run(
        "lstm", step, inputs, start, [hidden, *peeps], mask, go_backwards, truncate_gradient
    )
    return outputs, (h, c)


def gru(
    x: TensorLike,
    w: TensorLike,
    u: TensorLike,
    b: TensorLike | None = None,
    *,
    hidden_bias: TensorLike | None = None,
    reset_after: bool = True,
    mask: TensorLike | None = None,
    h0: TensorLike | None = None,
    activation: Activation = T.tanh,
    go_backwards: bool = False,
    truncate_gradient: int = -1,
) -> tuple[Tensor, Tensor]:
    """Gated recurrent units; the columns of ``w``, ``u`` and ``b`` are those of r, z and n in this order.

    With a[t] = x[t] w + b and v[t] = h[t-1] u + hidden_bias, cut into three parts each::

        r = sigmoid(a_r + v_r)
        z = sigmoid(a_z + v_z)
        n = tanh(a_n + r v_n)                               (reset_after, as cuDNN, PyTorch and Keras)
        n = tanh(a_n + (r h[t-1]) u_n + hidden_bias_n)      (otherwise, as in the paper)
        h[t] = (1 - z) n + z h[t-1]

    Args:
        x: (T, B, I).
        w, u, b: (I, 3 H), (H, 3 H) and (3 H,).
        hidden_bias: (3 H,); it differs from ``b`` only in n, and there only with ``reset_after``.
        reset_after: whether r applies to what ``u`` made of the state, or to the state before.
        mask: (T, B), see the module; None: all sequences have T elements.
        h0: the state before the first step, (B, H) or (H,); None: zeros.
        activation: what takes the place of tanh.
        go_backwards: from the last row to the first.
        truncate_gradient: gradients go back this many steps (-1: all).

    Returns:
        The state after every step, (T, B, H), and the last one, (B, H).
        (Cho et al., 2014: Learning phrase representations using RNN encoder-decoder.)
    """
    inputs, hidden = _inputs("gru", x, w, u, b, 3)
    extra = [] if hidden_bias is None else [as_tensor(hidden_bias)]

    def step(given: Tensor, h: Tensor, hidden: Tensor, *extra: Tensor) -> list[Tensor]:
        size = hidden.shape[0]
        if reset_after:
            reset, update, new = _cut(sum(extra, T.dot(h, hidden)), hidden, 3)
            r, z, n = _cut(given, hidden, 3)
            candidate = activation(n + T.nnet.sigmoid(r + reset) * new)
        else:
            r, z, n = _cut(sum(extra, given), hidden, 3)
            product = T.dot(h, hidden[:, : 2 * size])
            reset, update = product[:, :size], product[:, size:]
            candidate = activation(n + T.dot(T.nnet.sigmoid(r + reset) * h, hidden[:, 2 * size :]))
        keep = T.nnet.sigmoid(z + update)
        return [candidate + keep * (h - candidate)]

    (outputs,), (last,) = _run(
        "gru", step, inputs, [_initial(inputs, hidden, h0)], [hidden, *extra], mask, go_backwards, truncate_gradient
    )
    return outputs, last


def bidirectional(
    forward: Callable[..., tuple[Tensor, Any]],
    backward: Callable[..., tuple[Tensor, Any]],
    x: TensorLike,
    mask: TensorLike | None = None,
) -> tuple[Tensor, tuple[Any, Any]]:
    """Two recurrent layers over the same sequences, the second from their ends; outputs lie side by side.

    Args:
        forward, backward: called as ``layer(x, mask=mask, go_backwards=...)``: objects as ``LSTM(...)``, or functions
            of this module with their parameters given (``functools.partial(lstm, w=w, u=u, b=b)``).
        x: (T, B, I).
        mask: (T, B) or None.

    Returns:
        The outputs, (T, B, H forward + H backward), and a pair of the layers' last states; that of ``backward`` is its
        state after row 0. (Schuster and Paliwal, 1997: Bidirectional recurrent neural networks.)
    """
    there, last_there = forward(x, mask=mask, go_backwards=False)
    back, last_back = backward(x, mask=mask, go_backwards=True)
    return T.concatenate([there, back], axis=2), (last_there, last_back)


def _of_rank(what: str, value: TensorLike, rank: int) -> Tensor:
    tensor = as_tensor(value)
    if tensor.ndim != rank:
        raise ShapeError(f"{what} must have {rank} axes, got {describe(tensor)}")
    return tensor


def _inputs(
    name: str, x: TensorLike, w: TensorLike, u: TensorLike, b: TensorLike | None, gates: int
) -> tuple[Tensor, Tensor]:
    """What the sequences contribute to the gates of every step, (T, B, gates H), and the recurrent matrix."""
    sequences = _of_rank(f"{name}: x (steps, sequences, inputs)", x, 3)
    weights = _of_rank(f"{name}: w", w, 2)
    hidden = _of_rank(f"{name}: u", u, 2)
    rows, columns = hidden.type.shape
    if rows is not None and columns is not None and columns != gates * rows:
        expected = "as many columns as rows" if gates == 1 else f"{gates} times as many columns as rows"
        raise ShapeError(f"{name}: u must have {expected}, got {describe(hidden)}")
    product = T.dot(sequences, weights)
    return (product if b is None else product + as_tensor(b)), hidden


def _initial(inputs: Tensor, hidden: Tensor, given: TensorLike | None) -> Tensor:
    """The state before the first step, (B, H)."""
    shape = (inputs.shape[1], hidden.shape[0])
    if given is None:
        return T.zeros(shape, dtype=inputs.dtype)
    state = as_tensor(given)
    return T.broadcast_to(state, shape) if state.ndim == 1 else state


def _cut(value: Tensor, hidden: Tensor, parts: int) -> list[Tensor]:
    """The columns of each gate."""
    size = hidden.shape[0]
    return [value[:, k * size : (k + 1) * size] for k in range(parts)]


def _run(
    name: str,
    step: Step,
    inputs: Tensor,
    initial: Sequence[Tensor],
    fixed: Sequence[Tensor],
    mask: TensorLike | None,
    go_backwards: bool,
    truncate_gradient: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """The states after every step in the order of the rows, and the last ones; ``fixed`` is the same in all steps."""

    def masked(given: Tensor, present: Tensor, *others: Tensor) -> list[Tensor]:
        goes_on = present.dimshuffle(0, "x")
        # As many states as there are new ones; what is fixed comes behind them.
        return [T.switch(goes_on, new, old) for new, old in zip(step(given, *others), others, strict=False)]

    sequences = [inputs]
    if mask is not None:
        sequences.append(T.neq(_of_rank(f"{name}: mask (steps, sequences)", mask, 2), 0))
    states, _ = scan(
        step if mask is None else masked, sequences, list(initial), list(fixed), truncate_gradient=truncate_gradient,
        go_backwards=go_backwards, name=name, return_list=True,
    )  # fmt: skip
    return [s[::-1] if go_backwards else s for s in states], [s[-1] for s in states]


__all__ = ["bidirectional", "gru", "lstm", "simple_rnn"]
