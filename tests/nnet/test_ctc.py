"""CTC: the loss against the sum over all paths, its gradient against differences, decoders against the loss."""

import itertools
import pickle

import numpy as np
import pytest

import symtensor
import symtensor.tensor as T
from symtensor import function, nnet
from symtensor.graph import Tensor
from symtensor.tensor.nnet.ctc import ctc
from symtensor_codegen.errors import DTypeError, ShapeError

STEPS, CLASSES = 5, 3
# (steps, labels in units: 0 and 1 become the two classes that are not the blank)
EXAMPLES = [
    (5, (0, 1)), (5, (0, 0)), (5, (0, 1, 0)), (5, (1, 1, 1)), (4, ()), (3, (1, 1)), (2, (1, 1)), (1, (0,)),
    (0, ()), (0, (1,)),
]  # fmt: skip
LENGTHS = np.array([steps for steps, _ in EXAMPLES])
COUNTS = np.array([len(labels) for _, labels in EXAMPLES])
LOGITS = np.random.default_rng(3).normal(size=(STEPS, len(EXAMPLES), CLASSES))


def padded(blank: int, padding: int) -> np.ndarray:
    classes = [c for c in range(CLASSES) if c != blank]
    rows = np.full((len(EXAMPLES), 3), padding)
    for row, (_, labels) in zip(rows, EXAMPLES, strict=True):
        row[: len(labels)] = [classes[k] for k in labels]
    return rows


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(c for c, _ in itertools.groupby(path) if c != blank)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def probability(rows: np.ndarray, labels: tuple[int, ...], blank: int) -> float:
    """The sum over every path that gives the labels."""
    return sum(
        float(np.exp(sum(rows[t, c] for t, c in enumerate(path))))
        for path in itertools.product(range(rows.shape[1]), repeat=len(rows))
        if collapsed(path, blank) == labels
    )


def variables() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return T.tensor3("logits"), T.lmatrix("labels"), T.lvector("steps"), T.lvector("counts")


@pytest.mark.parametrize("mode", ["fast_run", "reference"])
@pytest.mark.parametrize("blank", range(CLASSES))
def test_loss_is_the_sum_over_all_paths(blank: int, mode: str) -> None:
    args = variables()
    loss = function(list(args), nnet.ctc_loss(*args, blank=blank), mode=mode)
    rows = padded(blank, padding=-5)
    found = loss(LOGITS, rows, LENGTHS, COUNTS)
    logs = log_softmax(LOGITS)
    for b, (steps, count) in enumerate(zip(LENGTHS, COUNTS, strict=True)):
        exact = probability(logs[:steps, b], tuple(rows[b, :count]), blank)
        if exact:
            assert np.isclose(found[b], -np.log(exact), rtol=1e-12, atol=1e-14)
        else:
            assert found[b] == np.inf
    assert np.isinf(found).sum() == 2  # two ones in two steps; a one in no step


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("blank", [0, 2])
def test_gradient_is_that_of_differences(blank: int, normalised: bool) -> None:
    args = variables()
    made = nnet.ctc_loss(*args, blank=blank, normalised=normalised, zero_infinity=True)
    weights = np.linspace(-1, 2, len(EXAMPLES))
    cost = T.sum(made * weights)
    run = function(list(args), [cost, T.grad(cost, args[0])])
    rest = padded(blank, padding=9), LENGTHS, COUNTS
    gradient = run(LOGITS, *rest)[1]
    step = 1e-5
    for where in np.ndindex(*LOGITS.shape):
        nudge = np.zeros_like(LOGITS)
        nudge[where] = step
        slope = (run(LOGITS + nudge, *rest)[0] - run(LOGITS - nudge, *rest)[0]) / (2 * step)
        assert abs(slope - gradient[where]) < 1e-8
    impossible = np.isinf(function(list(args), nnet.ctc_loss(*args, blank=blank))(LOGITS, *rest))
    assert not gradient[:, impossible].any()
    assert not gradient[STEPS - 1, LENGTHS < STEPS].any()


def test_infinite_loss_has_a_gradient_of_zero() -> None:
    logits, labels, _, _ = variables()
    loss = nnet.ctc_loss(logits, labels)
    run = function([logits, labels], [loss, T.grad(T.sum(loss), logits)])
    found, gradient = run(np.zeros((2, 1, 3)), [[1, 1]])
    assert found[0] == np.inf
    assert not gradient.any()


def test_gradient_is_softmax_minus_occupancy() -> None:
    """Every step's gradient sums to zero, and that of a label that must be there is softmax - 1."""
    logits, labels, _, _ = variables()
    loss = nnet.ctc_loss(logits, labels)
    gradient = function([logits, labels], T.grad(T.sum(loss), logits))(LOGITS[:2, :1], [[1, 2]])
    wanted = np.exp(log_softmax(LOGITS[:2, :1])) - np.eye(3)[[1, 2]][:, None]
    np.testing.assert_allclose(gradient, wanted, atol=1e-14)


def test_second_order() -> None:
    logits, labels, _, _ = variables()
    loss = T.sum(nnet.ctc_loss(logits, labels))
    gradient = T.grad(loss, logits)
    direction = np.random.default_rng(5).normal(size=(4, 1, 3))
    hvp = function([logits, labels], T.grad(T.sum(gradient * direction), logits))
    first = function([logits, labels], gradient)
    at, rows, step = LOGITS[:4, :1], [[1, 1]], 1e-5
    slope = (first(at + step * direction, rows) - first(at - step * direction, rows)) / (2 * step)
    np.testing.assert_allclose(hvp(at, rows), slope, atol=1e-8)


def test_checking_modes_find_nothing_wrong() -> None:
    logits, labels, _, _ = variables()
    loss = nnet.ctc_loss(logits, labels)
    for mode in ("nan_guard", "debug"):
        run = function([logits, labels], [loss, T.grad(T.sum(loss), logits)], mode=mode)
        found, _ = run(LOGITS[:, :2], [[1, 2]] * 2)
        assert np.isfinite(found).all()


def test_zero_probabilities() -> None:
    """Logarithms of -inf: a class that cannot be, in a label or beside it."""
    logits, labels, _, _ = variables()
    loss = nnet.ctc_loss(logits, labels, normalised=True)
    run = function([logits, labels], [loss, T.grad(T.sum(loss), logits)])
    with np.errstate(divide="ignore"):
        logs = np.log(np.array([[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0]]]))
    found, gradient = run(logs, [[1]])
    assert np.isclose(found[0], -np.log(0.75))
    assert np.isfinite(gradient).all()
    found, gradient = run(logs, [[2]])
    assert found[0] == np.inf
    assert not gradient.any()


def test_long_sequences_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    logits, labels = T.ftensor3("logits"), T.lmatrix("labels")
    loss = nnet.ctc_loss(logits, labels)
    run = function([logits, labels], [loss, T.grad(T.sum(loss), logits)])
    wide = T.dtensor3("logits")
    exact = nnet.ctc_loss(wide, labels)
    check = function([wide, labels], [exact, T.grad(T.sum(exact), wide)])
    x, y = rng.normal(size=(800, 2, 20)).astype("float32"), rng.integers(1, 20, (2, 60))
    found, wanted = run(x, y), check(x.astype("float64"), y)
    assert found[0].dtype == np.float32
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], atol=2e-3)


@pytest.mark.parametrize(
    ("labels", "steps", "counts", "message"),
    [
        ([[1, 0]], [3], [2], "a label is negative, the blank"),
        ([[1, -1]], [3], [2], "a label is negative, the blank"),
        ([[1, 3]], [3], [2], "not below the number of classes"),
        ([[1, 2]], [4], [2], "an input length is negative or larger"),
        ([[1, 2]], [-1], [2], "an input length is negative or larger"),
        ([[1, 2]], [3], [3], "a label length is negative or larger"),
    ],
)
@pytest.mark.parametrize("mode", ["fast_run", "reference"])
def test_bad_values(labels: list, steps: list, counts: list, message: str, mode: str) -> None:
    args = variables()
    run = function(list(args), nnet.ctc_loss(*args), mode=mode)
    with pytest.raises(ValueError, match=message):
        run(np.zeros((3, 1, 3)), labels, steps, counts)


def test_bad_types() -> None:
    logits, labels, steps, counts = variables()
    with pytest.raises(ShapeError, match="ctc_loss takes logits"):
        nnet.ctc_loss(T.matrix("x"), labels)
    with pytest.raises(DTypeError, match="integer labels"):
        nnet.ctc_loss(logits, T.dmatrix("y"))
    with pytest.raises(ShapeError, match="input_lengths must be a vector of integers"):
        nnet.ctc_loss(logits, labels, T.dvector("n"))
    run = function([logits, labels, steps, counts], nnet.ctc_loss(logits, labels, steps, counts))
    with pytest.raises(ShapeError, match="rows of labels"):
        run(np.zeros((3, 2, 3)), [[1], [1]], [3], [1, 1])


def test_function_with_a_gradient_is_pickled() -> None:
    logits, labels, _, _ = variables()
    loss = T.sum(nnet.ctc_loss(logits, labels))
    run = function([logits, labels], [loss, T.grad(loss, logits)])
    again = pickle.loads(pickle.dumps(run))
    kept, fresh = pickle.loads(pickle.dumps((loss, [logits, labels])))
    rebuilt = function(fresh, [kept, T.grad(kept, fresh[0])])
    for other in (again, rebuilt):
        for a, b in zip(run(LOGITS[:, :1], [[1, 2]]), other(LOGITS[:, :1], [[1, 2]]), strict=True):
            assert np.array_equal(a, b)


# Decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_decoding(blank: int) -> None:
    rng = np.random.default_rng(1)
    scores, lengths = rng.normal(size=(9, 6, 3)), np.array([9, 7, 3, 1, 0, 9])
    logits, steps = T.tensor3("logits"), T.lvector("steps")
    labels, counts = function([logits, steps], nnet.ctc_greedy_decode(logits, steps, blank=blank))(scores, lengths)
    for b, length in enumerate(lengths):
        wanted = collapsed(tuple(scores[:length, b].argmax(axis=1)), blank)
        assert counts[b] == len(wanted)
        assert tuple(labels[b]) == (*wanted, *[-1] * (9 - len(wanted)))
    whole, _ = function([logits], nnet.ctc_greedy_decode(logits, blank=blank))(scores)
    assert np.array_equal(whole[0], labels[0])


@pytest.mark.parametrize("blank", [0, 2])
def test_wide_beam_search_is_exact(blank: int) -> None:
    logs = log_softmax(LOGITS[:4, :3])
    found = nnet.ctc_beam_search(logs, [4, 3, 0], blank=blank, beam_width=1000, results=1000)
    for b, steps in enumerate((4, 3, 0)):
        every = {collapsed(path, blank) for path in itertools.product(range(3), repeat=steps)}
        assert {labels for labels, _ in found[b]} == every
        for labels, score in found[b]:
            assert np.isclose(np.exp(score), probability(logs[:steps, b], labels, blank), rtol=1e-12)
        scores = [score for _, score in found[b]]
        assert scores == sorted(scores, reverse=True)


def test_beam_search_adds_up_paths() -> None:
    """The textbook example: blank is likeliest in both steps, and yet a label is."""
    logs = np.log(np.array([[[0.6, 0.4]], [[0.6, 0.4]]]))
    [[(labels, score)]] = nnet.ctc_beam_search(logs)
    assert labels == (1,)
    assert np.isclose(np.exp(score), 0.64)
    _, counts = nnet.ctc_greedy_decode(logs)
    assert int(counts.eval()[0]) == 0


def test_narrow_beam_finds_a_clear_answer() -> None:
    path = [0, 3, 3, 0, 3, 1, 1, 2, 0]
    logs = log_softmax(np.eye(5)[path][:, None] * 6)
    assert nnet.ctc_beam_search(logs, beam_width=3)[0][0][0] == (3, 3, 1, 2)
    assert nnet.ctc_beam_search(logs, beam_width=1)[0][0][0] == (3, 3, 1, 2)


def test_bad_arguments_of_beam_search() -> None:
    logs = np.zeros((3, 2, 4))
    for bad, message in (({"blank": 4}, "blank"), ({"beam_width": 0}, "width"), ({"input_lengths": [1]}, "fit")):
        with pytest.raises(ValueError, match=message):
            nnet.ctc_beam_search(logs, **bad)
    with pytest.raises(ShapeError):
        nnet.ctc_beam_search(logs[0])


def test_error_rates() -> None:
    assert nnet.edit_distance([1, 2, 3], [2, 3, 4]) == 2
    assert nnet.edit_distance([], [5, 5]) == 2
    assert nnet.edit_distance([7, 1, 7], [7, 7]) == 1
    assert nnet.label_error_rate([[1, 2], []], [[1, 3], [4, 4]]) == 0.75
    with pytest.raises(ValueError, match="no labels"):
        nnet.label_error_rate([[1]], [[]])


def test_network_learns_where_labels_are() -> None:
    """Labels are written as pulses at random places; the network is told their order only."""
    rng = np.random.default_rng(4)
    x = rng.normal(0, 0.2, (14, 30, 3))
    y = rng.integers(1, 4, (30, 3))
    for b in range(30):
        for place, label in zip(np.sort(rng.choice(7, 3, replace=False)) * 2, y[b], strict=True):
            x[place, b, label - 1] += 2
    logits, labels = T.tensor3("x"), T.lmatrix("y")
    net, top = nnet.Bidirectional(nnet.LSTM(3, 8, 0), nnet.LSTM(3, 8, 1)), nnet.Dense(16, 4, 2)
    scores = top(net(logits)[0])
    loss = nnet.ctc_loss(scores, labels).mean()
    train = function([logits, labels], loss, updates=nnet.updates.adam(loss, [*net.parameters, *top.parameters], 0.03))
    losses = [float(train(x, y)) for _ in range(100)]
    assert losses[-1] < 0.05 * losses[0]
    found, counts = function([logits], nnet.ctc_greedy_decode(scores))(x)
    read = [row[:n].tolist() for row, n in zip(found, counts, strict=True)]
    assert nnet.label_error_rate(read, y.tolist()) < 0.05
    assert symtensor.nnet is nnet


def test_theano_name() -> None:
    logits, labels, steps, counts = variables()
    run = function([logits, labels, steps], ctc(logits, labels, steps))
    wanted = function([logits, labels, steps, counts], nnet.ctc_loss(logits, labels, steps, counts))
    rows = padded(0, padding=-1)
    assert np.array_equal(run(LOGITS, rows, LENGTHS), wanted(LOGITS, rows, LENGTHS, COUNTS))


def test_nothing_at_all() -> None:
    """No labels, no sequences, no steps."""
    logits, labels, _, _ = variables()
    loss = nnet.ctc_loss(logits, labels)
    run = function([logits, labels], [loss, T.grad(T.sum(loss), logits)])
    found, gradient = run(LOGITS[:, :1], np.zeros((1, 0), "int64"))
    assert np.isclose(found[0], -log_softmax(LOGITS[:, 0])[:, 0].sum())
    np.testing.assert_allclose(gradient[:, 0], np.exp(log_softmax(LOGITS[:, 0])) - [1, 0, 0], atol=1e-14)
    found, gradient = run(np.zeros((4, 0, 3)), np.zeros((0, 2), "int64"))
    assert (found.shape, gradient.shape) == ((0,), (4, 0, 3))
    found, gradient = run(np.zeros((0, 2, 3)), [[1], [2]])
    assert np.isinf(found).all()
    assert gradient.shape == (0, 2, 3)
