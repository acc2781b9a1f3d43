"""The sampler of `notebooks/hamiltonian_monte_carlo.py`, at reduced size, against SciPy's integrals."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")

import hamiltonian_monte_carlo as program


@pytest.mark.many_launches
def test_moments_are_those_of_the_posterior() -> None:
    result = program.main(blocks=3)
    deviation = np.sqrt(np.diag(result.integrated.covariance))
    # 4,000 draws that hardly depend on each other: errors of 0.016 deviations, and 0.022 of a variance.
    assert np.abs((result.sampled.mean - result.integrated.mean) / deviation).max() < 0.06
    unit = (result.sampled.covariance - result.integrated.covariance) / np.outer(deviation, deviation)
    assert np.abs(unit).max() < 0.1
    assert result.rhat < 1.01
    assert 0.95 < result.acceptance <= 1
    assert result.accuracy > 0.88
    assert result.log_score > -0.25


@pytest.mark.many_launches
def test_the_steps_of_a_trajectory_may_be_chosen_at_the_call() -> None:
    """Acceptance falls with the length of a leap: its error in the energy grows with the square."""
    data = program.load_data()
    sample = program.compile_sampler()
    start = np.random.default_rng(0).normal([6.0, -10.0], 1.0, (4, 2))
    scale = np.diag([0.2, 0.4])
    rates = []
    for leaps, size in ((12, 0.1), (3, 0.4), (2, 1.6)):
        positions, accepted = sample(start, scale, 100, leaps, size, data.x, data.y)
        assert positions.shape == (100, 4, 2)
        assert accepted.shape == (100, 4)
        rates.append(accepted[20:].mean())
    assert rates[0] > rates[1] > rates[2]
    assert rates[0] > 0.99
