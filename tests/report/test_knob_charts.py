"""Tests the charts of which knobs mattered."""

from dataclasses import replace

import pytest

from krona_tune.report.knob_charts import draw_importance, importances, searched_knobs
from tests.report.many_trials import crowd, subject, subject_of


def test_the_knob_that_decides_is_found_and_the_others_are_not_told_from_chance() -> None:
    chart = draw_importance(subject(300))
    assert chart is not None
    bars, chance = chart.figure.data
    assert bars.y[-1] == "learning_rate"
    assert bars.x[-1] > 10 * chance.x[-1]
    assert all(found < 3 * by_chance for found, by_chance in zip(bars.x[:-1], chance.x[:-1], strict=True))


def test_of_few_trials_nothing_is_said() -> None:
    assert draw_importance(subject(11)) is None
    assert draw_importance(subject(12)) is not None


@pytest.mark.filterwarnings("error::UserWarning")
def test_of_equal_scores_nothing_is_said_and_of_nearly_equal_ones_no_warning_is_shown() -> None:
    alike = [replace(trial, score=0.5) for trial in crowd(12).trials]
    assert draw_importance(subject_of(*alike)) is None
    [found] = importances({"rank": list(range(20))}, [[0.5] * 19 + [0.6]])
    assert set(found) == {"rank"}


def test_only_knobs_that_every_trial_has_and_that_differ_are_asked_about() -> None:
    params = [{"scale": 1.0, "rank": 2, "method": "lora"}, {"scale": 2.0, "method": "lora"}]
    assert searched_knobs(params) == {"scale": [1.0, 2.0]}
    assert searched_knobs([]) == {}


def test_a_higher_score_is_the_better_one() -> None:
    scores = [0.1 * number for number in range(20)]
    [found] = importances({"side": ["low"] * 15 + ["high"] * 5, "other": ["x", "y"] * 10}, [scores])
    assert found["side"] > found["other"]
