"""The model of `notebooks/character_model.py`, smaller and for fewer epochs."""

import character_model as program
import numpy as np
import pytest


@pytest.mark.many_launches
def test_held_out_characters_cost_less_than_by_counts() -> None:
    result = program.main(epochs=7, hidden=96, rate=1.2e-2)
    assert np.log2(len(program.CHARACTERS)) > result.losses[0] > 3.5
    assert all(later < earlier for earlier, later in zip(result.losses, result.losses[1:], strict=False))
    assert result.losses[-1] < 2.5
    assert result.held_out < result.counted < 3
    assert result.held_out > 1.8  # held out means that: letters of unseen sentences are not known
    words = set(" ".join(program.sentences()).split())
    written = [word for text in result.written for word in text.split() if len(word) > 1]
    assert np.mean([word in words for word in written]) > 0.5


def test_padding_does_not_matter() -> None:
    """What a batch costs is the sum of what its sentences cost alone, whatever lies in the padding."""
    model = program.compile_model(hidden=16)
    texts = ["no dogs.", "the quick brown fox jumps over the lazy dog.", "a statement is either simple or compound."]
    ((characters, lengths),) = program.batches_of(texts)
    together = model.score(characters, lengths)
    for k, end in enumerate(lengths):
        characters[end + 1 :, k] = 5
    np.testing.assert_allclose(model.score(characters, lengths), together)
    alone = [model.score(characters[: end + 1, k : k + 1], lengths[k : k + 1]) for k, end in enumerate(lengths)]
    np.testing.assert_allclose(together, np.sum(alone), rtol=1e-5)


def test_what_is_written_depends_on_the_warmth_only_through_chance() -> None:
    """Without warmth all texts are the same; with it they differ, and the next call writes others."""
    model = program.compile_model(hidden=16)
    cold = model.write(12, 5, np.float32(1e-4))
    assert cold.shape == (12, 5)
    assert (cold == cold[:, :1]).all()
    first, second = (model.write(30, 5, np.float32(1)) for _ in range(2))
    assert (first != first[:, :1]).any()
    assert (first != second).any()
    assert len(np.unique(first)) > 10
