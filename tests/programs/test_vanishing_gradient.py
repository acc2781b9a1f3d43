"""The two networks of `notebooks/vanishing_gradient.py`, with a shorter wait."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

import vanishing_gradient as program


@pytest.mark.many_launches
def test_only_the_lstm_remembers() -> None:
    results = program.main(epochs=15, wait=30)
    simple, lstm = results["rnn"], results["lstm"]
    assert simple.before.shape == (38,)
    # Before training: what the simple network read first does not matter, for the LSTM it does.
    assert simple.before[0] / simple.before[-1] < 1e-5
    assert lstm.before[0] / lstm.before[-1] > 0.1
    # It vanishes by about the same factor in each step (the radius of its random matrix, at most about 0.6).
    factors = simple.before[10:30] / simple.before[11:31]
    assert 0.4 < np.exp(np.log(factors).mean()) < 0.75
    assert lstm.losses[-1] < 0.9
    assert lstm.losses[-1] < simple.losses[-1] - 0.2
    assert lstm.accuracy > max(0.65, simple.accuracy + 0.1)
