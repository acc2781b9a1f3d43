"""The reader of `notebooks/handwritten_lines.py`: smaller, for shorter lines, and its parts by themselves."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import handwritten_lines as program

SHORT = range(2, 5)


@pytest.mark.many_launches
def test_lines_of_held_out_images_are_read() -> None:
    result = program.main(updates=450, digits=SHORT, hidden=48, rate=1e-2, held_lines=150)
    assert np.mean(result.losses[:20]) > 8
    assert np.mean(result.losses[-20:]) < 2
    assert result.greedy_error < 0.25
    assert result.beam_error < result.greedy_error + 0.02
    context = result.context
    assert context.sensitivity.shape == (len(context.digits), context.line.shape[1])
    assert (np.diff(context.at) > 0).all()
    # What matters most to a digit lies near the place where it is said.
    assert (np.abs(context.sensitivity.argmax(axis=1) - context.at) <= 10).all()


def test_lines_are_as_they_say() -> None:
    learnt, held = program.load_writers(SHORT)
    images = {image.tobytes() for image in learnt.images}
    assert not any(image.tobytes() in images for image in held.images)
    lines = learnt.lines(50)
    steps, count, rows = lines.x.shape
    assert (count, rows, steps) == (50, program.HEIGHT, lines.columns.max())
    assert set(lines.counts) == set(SHORT)
    assert all(len(digits) == n for digits, n in zip(lines.digits(), lines.counts, strict=True))
    assert ((lines.labels >= 0).sum(axis=1) == lines.counts).all()
    for line, end in enumerate(lines.columns):
        assert lines.x[:end, line].std() > program.NOISE
        assert (lines.x[end:, line] == 0).all()
    assert not np.array_equal(learnt.lines(50).labels, lines.labels)


@pytest.mark.many_launches
def test_context_is_the_gradient() -> None:
    """Against differences of the outputs; what is read does not depend on the padding."""
    reader = program.compile_reader(hidden=12)
    lines = program.load_writers(SHORT)[0].lines(3)
    number = int(lines.columns.argmin())
    end = lines.columns[number]
    x, columns = lines.x[:end, number : number + 1], np.array([end])
    alone = reader.probabilities(x, columns)[:, 0]
    np.testing.assert_allclose(np.exp(alone).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(alone, reader.probabilities(lines.x, lines.columns)[:end, number], rtol=1e-4, atol=1e-5)
    at, wanted = np.array([3, end - 4]), np.array([7, 2])
    slopes = np.empty((2, end, program.HEIGHT))
    for column in range(end):
        for row in range(program.HEIGHT):
            moved = []
            for change in (0.05, -0.05):
                changed = x.copy()
                changed[column, 0, row] += np.float32(change)
                moved.append(scores(reader, changed, columns, at, wanted))
            slopes[:, column, row] = (moved[0] - moved[1]) / 0.1
    expected = np.sqrt((slopes**2).sum(axis=2))
    np.testing.assert_allclose(reader.context(x, columns, at, wanted), expected, atol=2e-3 * expected.max())


def scores(
    reader: program.Reader, x: np.ndarray, columns: np.ndarray, at: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Outputs for the labels, less the blank's: what a softmax leaves of them."""
    logarithms = reader.probabilities(x, columns)[at, 0]
    return logarithms[[0, 1], wanted].astype(float) - logarithms[:, program.BLANK]
