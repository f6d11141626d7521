"""Tests that the learning rate rises over the warm-up and falls to zero at the end."""

import pytest

from krona_tune.train.loop import share


def test_the_share_rises_linearly_and_falls_linearly_to_zero() -> None:
    at = share(warmup_steps=4, total_steps=14)
    assert [at(step) for step in (0, 1, 4, 9, 14, 15)] == pytest.approx([0, 0.25, 1, 0.5, 0, 0])


def test_without_a_warmup_it_begins_at_one() -> None:
    assert [share(0, 3)(step) for step in range(4)] == pytest.approx([1, 2 / 3, 1 / 3, 0])
