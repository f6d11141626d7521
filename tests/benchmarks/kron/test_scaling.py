"""Tests that a common scale loses nothing exactly where it gives each shape its own best step."""

from math import log10

import pytest

from tests.benchmarks.kron.scaling import SHAPES, STEPS, common_scale


def test_even_scaling_loses_nothing_where_the_same_step_is_best_for_all_shapes() -> None:
    scores = [[-abs(log10(step) + 0.5) for step in STEPS] for _ in SHAPES]
    even, plain = (common_scale(scores, scaling)[1] for scaling in ("even", "plain"))
    assert even == pytest.approx(0, abs=0.05)
    assert plain > 0.2
