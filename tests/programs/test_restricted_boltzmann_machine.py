"""The machine of `notebooks/restricted_boltzmann_machine.py`: fewer epochs, and its parts against NumPy."""

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn")

import restricted_boltzmann_machine as program


@pytest.mark.many_launches
def test_the_pseudo_likelihood_rises() -> None:
    result = program.main(epochs=20)
    assert result.scores[0] == pytest.approx(result.independent, abs=0.01)
    assert result.scores[-1] > result.scores[0] + 0.07
    assert all(later > earlier for earlier, later in zip(result.scores[5:], result.scores[10:], strict=False))
    assert result.held_out > result.independent + 0.07
    assert result.filters.shape == (program.HIDDEN, program.PIXELS)
    assert result.dreams.shape == (program.CHAINS, program.PIXELS)


def test_score_and_chains_are_those_of_the_model() -> None:
    """The score is the definition's, pixel by pixel; after little learning the chains have the pixels' means."""
    x = program.load_data().x
    means = x.mean(axis=0) * 0.98 + 0.01
    machine = program.compile_machine(means)
    for rows in np.array_split(x, 40):
        machine.train(rows, np.float32(0.05))
    w = machine.filters().T.astype(np.float64)
    score = machine.score(x[:3])

    machine.train(x[:32], np.float32(0))  # no learning: only the chains move
    np.testing.assert_array_equal(machine.filters().T, w)
    dreams = np.mean([machine.dream(10) for _ in range(40)], axis=(0, 1))
    assert np.abs(dreams - means).mean() < 0.03

    b, c = biases(machine, x[:1])
    np.testing.assert_allclose(score, [pseudo_likelihood(v.astype(float), w, b, c) for v in x[:3]], rtol=1e-5)


def biases(machine: program.Machine, x: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], ...]:
    """The shared variables that the scoring function reads, by name."""
    values = {s.name: s.get_value().astype(float) for s in machine.score.get_shared()}
    return values["b"], values["c"]


def pseudo_likelihood(
    v: npt.NDArray[np.float64], w: npt.NDArray[np.float64], b: npt.NDArray[np.float64], c: npt.NDArray[np.float64]
) -> float:
    """By the definition: both values of each pixel, all others given."""

    def weight(v: npt.NDArray[np.float64]) -> float:
        return float(v @ b + np.logaddexp(0, v @ w + c).sum())

    total = 0.0
    for i in range(len(v)):
        turned = v.copy()
        turned[i] = 1 - v[i]
        total -= np.logaddexp(0, weight(turned) - weight(v))
    return total / len(v)
