"""The fit of a differential equation in `notebooks/predator_prey.py`, against SciPy's solver."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("scipy")

import predator_prey as program


@pytest.fixture(scope="module")
def result() -> program.Result:
    return program.main(iterations=12, steps_per_year=50)


def test_the_fit_goes_down_to_a_minimum(result: program.Result) -> None:
    losses = result.losses
    assert all(later <= earlier for earlier, later in pairwise(losses))
    assert losses[0] > 0.1
    assert losses[-1] < 0.036
    assert losses[-1] == pytest.approx(losses[-3], rel=1e-6)
    # Near the rates that others find in these data, by other weights of the errors (0.55, 0.028, 0.024, 0.80).
    np.testing.assert_allclose(result.rates, [0.55, 0.028, 0.024, 0.80], rtol=0.3)


def test_the_years_held_out_are_predicted(result: program.Result) -> None:
    assert result.held_out < 0.15
    assert result.unchanging > 4 * result.held_out


def test_trajectory_and_gradient_are_those_of_scipy(result: program.Result) -> None:
    assert result.trajectory_error < 1e-7
    assert result.gradient_error < 1e-6


def test_the_method_is_of_fourth_order() -> None:
    """Steps of half the length make errors of a sixteenth."""
    p = np.concatenate([np.log([0.5, 0.02, 0.02, 0.8]), np.log([30, 4])])
    truth = program.solve_by_scipy(p, 6)
    coarse, fine = (np.abs(program.compile_model(n)[0](p, 6) - truth).max() for n in (10, 20))
    assert 13 < coarse / fine < 19
