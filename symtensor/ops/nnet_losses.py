"""Cross-entropies."""

from symtensor.graph import Tensor, TensorLike, as_tensor
from symtensor.opdef import describe, promoted
from symtensor_codegen.errors import DTypeError, ShapeError

from .elementwise import add
from .elementwise_math import log
from .elementwise_smooth import softplus
from .gradient_parts import typed
from .nnet import log_softmax, softmax


def _picked(logarithms: Tensor, labels: Tensor) -> Tensor:
    """The element of each row (of the last axis) that its label numbers."""
    from .creation import arange

    if logarithms.ndim == 1:
        return logarithms[labels]
    if logarithms.ndim == 2:
        return logarithms[arange(logarithms.shape[0]), labels]
    from .indexing import take_along_axis

    return take_along_axis(logarithms, labels.dimshuffle(*range(labels.ndim), "x"), -1)[..., 0]


def categorical_crossentropy(coding_dist: TensorLike, true_dist: TensorLike) -> Tensor:
    """-sum(true log(coding)) over the last axis.

    ``true_dist`` holds probabilities (as many axes as ``coding_dist``) or, with one axis less, integer
    labels.

    Raises:
        ShapeError: another number of axes.
        DTypeError: labels that are not integers.
    """
    from .reduction import sum as sum_of

    coding, true = as_tensor(coding_dist), as_tensor(true_dist)
    if true.ndim == coding.ndim:
        return -sum_of(true * log(coding), axis=coding.ndim - 1)
    if true.ndim != coding.ndim - 1:
        raise ShapeError(
            "categorical_crossentropy: true_dist must have as many axes as coding_dist, or one less: "
            f"{describe(coding)}; {describe(true)}"
        )
    if not true.element.is_integer:
        raise DTypeError(f"categorical_crossentropy: labels must be integers, got {describe(true)}")
    return -_picked(log(coding), true)


def crossentropy_categorical_1hot(coding_dist: TensorLike, true_one_of_n: TensorLike) -> Tensor:
    """-log(coding[i, label_i]) for each row."""
    return categorical_crossentropy(coding_dist, true_one_of_n)


def crossentropy_softmax_1hot(x: TensorLike, y_idx: TensorLike) -> tuple[Tensor, Tensor]:
    """-log softmax(x)[i, label_i] for each row, and the softmax."""
    return -_picked(log_softmax(x), as_tensor(y_idx)), softmax(x)


def crossentropy_softmax_1hot_with_bias(
    x: TensorLike, b: TensorLike, y_idx: TensorLike
) -> tuple[Tensor, Tensor]:
    """As ``crossentropy_softmax_1hot`` for x + b."""
    return crossentropy_softmax_1hot(add(x, b), y_idx)


def crossentropy_softmax_argmax_1hot_with_bias(
    x: TensorLike, b: TensorLike, y_idx: TensorLike
) -> tuple[Tensor, Tensor, Tensor]:
    """-log softmax(x + b)[i, label_i] for each row, the softmax, and its most likely class."""
    from .reduction import argmax

    logits = add(x, b)
    loss, probabilities = crossentropy_softmax_1hot(logits, y_idx)
    return loss, probabilities, argmax(logits, axis=-1)


def crossentropy_softmax_max_and_argmax_1hot_with_bias(
    x: TensorLike, b: TensorLike, y_idx: TensorLike
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, softmax, largest probability and most likely class of each row of x + b."""
    from .reduction import max as max_of

    loss, probabilities, position = crossentropy_softmax_argmax_1hot_with_bias(x, b, y_idx)
    return loss, probabilities, max_of(probabilities, axis=-1), position


def crossentropy_softmax_max_and_argmax_1hot(
    x: TensorLike, y_idx: TensorLike
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, softmax, largest probability and most likely class of each row."""
    from .reduction import argmax
    from .reduction import max as max_of

    loss, probabilities = crossentropy_softmax_1hot(x, y_idx)
    return loss, probabilities, max_of(probabilities, axis=-1), argmax(x, axis=-1)


def binary_crossentropy(output: TensorLike, target: TensorLike) -> Tensor:
    """-(target log(output) + (1 - target) log(1 - output)), elementwise.

    Of ``sigmoid(x)`` it is computed from x: exact where the sigmoid saturates.
    """
    p, t = promoted((output, target), integer="float", name="binary_crossentropy")
    one = typed(1, p)
    return -(t * log(p) + (one - t) * log(one - p))


def sigmoid_binary_crossentropy(output: TensorLike, target: TensorLike) -> Tensor:
    """binary_crossentropy(sigmoid(output), target) without overflow or cancellation."""
    x, t = promoted((output, target), integer="float", name="sigmoid_binary_crossentropy")
    return t * softplus(-x) + (typed(1, t) - t) * softplus(x)


def h_softmax(
    x: TensorLike,
    batch_size: int | Tensor,
    n_outputs: int,
    n_classes: int,
    n_outputs_per_class: int,
    W1: TensorLike,
    b1: TensorLike,
    W2: TensorLike,
    b2: TensorLike,
    target: TensorLike = None,
) -> Tensor:
    """Two-level softmax: the probability of a class of outputs, times that of an output within its class.

    ``x`` is (batch, features), ``W1`` (features, classes), ``W2`` (classes, features, outputs per class) and
    ``b2`` (classes, outputs per class). With ``target`` (one output for each row) only its probability is
    computed, a vector; otherwise those of all outputs, (batch, outputs).
    """
    from .creation import arange
    from .linalg import batched_dot, dot, tensordot

    features, weights, bias = as_tensor(x), as_tensor(W2), as_tensor(b2)
    of_class = softmax(add(dot(features, W1), b1))
    if target is None:
        within = softmax(tensordot(features, weights, (1, 1)) + bias)
        every = of_class.dimshuffle(0, 1, "x") * within
        return every.reshape((batch_size, n_classes * n_outputs_per_class))[:, :n_outputs]
    wanted = as_tensor(target).flatten()
    group, member = wanted // n_outputs_per_class, wanted % n_outputs_per_class
    within = softmax(batched_dot(features, weights[group]) + bias[group])
    rows = arange(batch_size)
    return of_class[rows, group] * within[rows, member]


def prepend_scalar_to_each_row(value: TensorLike, matrix: TensorLike) -> Tensor:
    """A matrix with one more column in front, filled with the value."""
    from .creation import full
    from .joining import concatenate

    rows = as_tensor(matrix)
    return concatenate([full((rows.shape[0], 1), value, dtype=rows.dtype), rows], axis=1)


def prepend_0_to_each_row(matrix: TensorLike) -> Tensor:
    """A matrix with a column of zeros in front."""
    return prepend_scalar_to_each_row(0, matrix)


def prepend_1_to_each_row(matrix: TensorLike) -> Tensor:
    """A matrix with a column of ones in front."""
    return prepend_scalar_to_each_row(1, matrix)
