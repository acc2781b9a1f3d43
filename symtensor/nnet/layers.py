"""Layers that hold their parameters: thin objects over the functions of this package.

A layer is made with its sizes and a random generator (or seed) and called on an expression. ``parameters`` is the list
of its shared variables, for ``grad`` and ``updates``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import symtensor.tensor as T
from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.settings import config
from symtensor.shared_variables import SharedVariable, shared
from symtensor.updates import OrderedUpdates

from .initial import Array, Random, glorot_uniform, orthogonal
from .normalisation import batch_norm, layer_norm
from .recurrent import Activation, bidirectional, gru, lstm, simple_rnn


class Layer:
    """Something with parameters."""

    def __init__(self, name: str, dtype: str | None = None) -> None:
        self.name = name
        self.dtype = np.dtype(config.floatX if dtype is None else dtype)
        self.parameters: list[SharedVariable] = []

    def parameter(self, value: Array | float, label: str, shape: Sequence[int] = ()) -> SharedVariable:
        """A new parameter: an array, or a number repeated to a shape. Its sizes are fixed."""
        array = np.array(np.broadcast_to(value, shape) if shape else value, self.dtype)
        made = shared(array, f"{self.name}.{label}", shape=array.shape)
        self.parameters.append(made)
        return made


class Dense(Layer):
    """activation(x w + b) of the last axis of x; w is (inputs, outputs)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Random,
        activation: Callable[[Any], Any] | None = None,
        name: str = "dense",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, dtype)
        self.activation = activation
        self.w = self.parameter(glorot_uniform((inputs, outputs), rng), "w")
        self.b = self.parameter(0.0, "b", (outputs,))

    def __call__(self, x: TensorLike) -> Tensor:
        """The layer's output, (..., outputs)."""
        result: Tensor = T.dot(as_tensor(x), self.w) + self.b
        return result if self.activation is None else as_tensor(self.activation(result))


class _Recurrent(Layer):
    """The matrices of a recurrent layer: Glorot's for the inputs, orthogonal ones for the state, gate by gate."""

    def __init__(self, inputs: int, hidden: int, gates: int, rng: Random, name: str, dtype: str | None) -> None:
        super().__init__(name, dtype)
        generator = np.random.default_rng(rng)
        self.hidden = hidden
        w = [glorot_uniform((inputs, hidden), generator) for _ in range(gates)]
        u = [orthogonal((hidden, hidden), generator) for _ in range(gates)]
        self.w = self.parameter(np.concatenate(w, axis=1), "w")
        self.u = self.parameter(np.concatenate(u, axis=1), "u")
        self.b = self.parameter(0.0, "b", (gates * hidden,))


class SimpleRNN(_Recurrent):
    """``simple_rnn`` with its parameters w (I, H), u (H, H) and b (H,)."""

    def __init__(
        self, inputs: int, hidden: int, rng: Random, activation: Activation = T.tanh, name: str = "rnn",
        dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(inputs, hidden, 1, rng, name, dtype)
        self.activation = activation

    def __call__(self, x: TensorLike, mask: TensorLike | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        """As ``simple_rnn``; ``options`` are its other arguments (``h0``, ``go_backwards`` ...)."""
        return simple_rnn(x, self.w, self.u, self.b, mask=mask, activation=self.activation, **options)


class LSTM(_Recurrent):
    """``lstm`` with its parameters w (I, 4 H), u (H, 4 H), b (4 H,), and peepholes (3, H) if wanted.

    The bias of the forget gates begins at ``forget_bias``.
    """

    def __init__(
        self, inputs: int, hidden: int, rng: Random, peepholes: bool = False, forget_bias: float = 1.0,
        name: str = "lstm", dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(inputs, hidden, 4, rng, name, dtype)
        first = np.zeros(4 * hidden)
        first[hidden : 2 * hidden] = forget_bias
        self.b.set_value(first.astype(self.dtype))
        self.peepholes = self.parameter(0.0, "peepholes", (3, hidden)) if peepholes else None

    def __call__(
        self, x: TensorLike, mask: TensorLike | None = None, **options: Any
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As ``lstm``; ``options`` are its other arguments (``h0``, ``c0``, ``go_backwards`` ...)."""
        return lstm(x, self.w, self.u, self.b, mask=mask, peepholes=self.peepholes, **options)


class GRU(_Recurrent):
    """``gru`` with its parameters w (I, 3 H), u (H, 3 H), b and hidden_bias (3 H,)."""

    def __init__(
        self, inputs: int, hidden: int, rng: Random, reset_after: bool = True, name: str = "gru",
        dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(inputs, hidden, 3, rng, name, dtype)
        self.reset_after = reset_after
        self.hidden_bias = self.parameter(0.0, "hidden_bias", (3 * hidden,)) if reset_after else None

    def __call__(self, x: TensorLike, mask: TensorLike | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        """As ``gru``; ``options`` are its other arguments (``h0``, ``go_backwards`` ...)."""
        return gru(
            x, self.w, self.u, self.b, hidden_bias=self.hidden_bias, reset_after=self.reset_after, mask=mask, **options
        )


class Bidirectional:
    """Two recurrent layers, the second from the ends of the sequences; outputs lie side by side."""

    def __init__(self, forward: Any, backward: Any) -> None:
        self.forward, self.backward = forward, backward
        self.parameters: list[SharedVariable] = [*forward.parameters, *backward.parameters]

    def __call__(self, x: TensorLike, mask: TensorLike | None = None) -> tuple[Tensor, tuple[Any, Any]]:
        """As ``bidirectional``."""
        return bidirectional(self.forward, self.backward, x, mask)


class LayerNorm(Layer):
    """``layer_norm`` over the last axis, with its scale and offset."""

    def __init__(self, size: int, epsilon: float = 1e-5, name: str = "layer_norm", dtype: str | None = None) -> None:
        super().__init__(name, dtype)
        self.epsilon = epsilon
        self.gamma = self.parameter(1.0, "gamma", (size,))
        self.beta = self.parameter(0.0, "beta", (size,))

    def __call__(self, x: TensorLike) -> Tensor:
        """``x`` normalised, of the same shape."""
        return layer_norm(x, self.gamma, self.beta, epsilon=self.epsilon)


class BatchNorm(Layer):
    """``batch_norm`` with its scale, offset, and running mean and variance of each channel (axis 1)."""

    def __init__(
        self, size: int, epsilon: float = 1e-5, running_average_factor: float = 0.1, name: str = "batch_norm",
        dtype: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, dtype)
        self.epsilon, self.factor = epsilon, running_average_factor
        self.gamma = self.parameter(1.0, "gamma", (size,))
        self.beta = self.parameter(0.0, "beta", (size,))
        self.running_mean = self.parameter(0.0, "running_mean", (size,))
        self.running_var = self.parameter(1.0, "running_var", (size,))
        self.parameters = [self.gamma, self.beta]  # the others are not trained by gradients

    def __call__(self, x: TensorLike, training: bool = True) -> tuple[Tensor, OrderedUpdates]:
        """As ``batch_norm`` over all axes but that of the channels: the result, and updates."""
        return batch_norm(
            x, self.gamma, self.beta, self.running_mean, self.running_var, training, "spatial", self.epsilon,
            self.factor,
        )  # fmt: skip


__all__ = ["GRU", "LSTM", "BatchNorm", "Bidirectional", "Dense", "Layer", "LayerNorm", "SimpleRNN"]
