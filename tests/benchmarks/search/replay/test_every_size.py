"""Tests the volume under a front, the share of a cost at which another search reaches it, and the searches' rows."""

from math import inf
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.search.replay import every_size
from tests.benchmarks.search.replay.every_size import (
    BEFORE,
    BUDGETS,
    COLUMNS,
    DEFAULT,
    RAYS,
    SEARCHES,
    cost_ratios,
    main,
    one_study,
    reached_at,
    shuffled,
    upside_down,
    volume,
)
from tests.benchmarks.search.replay.run import tasks_of
from tests.benchmarks.search.replay.split import elsewhere

POINTS = st.lists(st.tuples(st.integers(-1, 5), st.integers(-2, 6)), max_size=8)


@given(points=POINTS)
def test_the_volume_is_the_sum_over_sizes_of_the_best_that_is_no_larger(points: list[tuple[int, int]]) -> None:
    by_size = [max([0, *(score for size, score in points if size <= at)]) for at in range(4)]
    assert volume(points, 0, 4, 0) == sum(by_size)
    assert volume([(size, score + 7.0) for size, score in points], 0, 4, 7.0) == sum(by_size)


def test_a_share_is_reached_between_two_budgets_or_never() -> None:
    curve = [0.01 * budget for budget in BUDGETS]
    assert reached_at(curve, 0.01) == pytest.approx(1.0)
    assert reached_at(curve, 0.35) == pytest.approx(35.0)
    assert reached_at(curve, 0.41) == inf


def test_half_the_cost_is_a_ratio_of_one_half() -> None:
    shares = {BEFORE: 0.01, "faster": 0.02}
    rows = [
        (name, seed, "reuters", budget, slope * budget)
        for name, slope in shares.items()
        for seed in (1, 2)
        for budget in BUDGETS
    ]
    assert cost_ratios(pd.DataFrame(rows, columns=COLUMNS), "faster", 20) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [BEFORE, DEFAULT, RAYS])
def test_a_search_covers_more_with_more_trainings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_size, "BUDGETS", (3, 6))
    rows = pd.DataFrame(one_study(name, 100), columns=COLUMNS)
    assert [*dict.fromkeys(rows.task)] == tasks_of(100)
    for _, own in rows.groupby("task"):
        few, more = own.volume
        assert 0 <= few <= more < 1.5
        assert more > 0


def test_shuffled_curves_have_the_same_points_and_others_scores() -> None:
    study = tasks_of(100)
    true, other = elsewhere(study, 100), shuffled(study, 100)
    assert [row.params for row in true.rows] != [row.params for row in other.rows]
    assert sorted(str(row.params) for row in true.rows) == sorted(str(row.params) for row in other.rows)
    assert {row.trial_id: row.score for row in true.rows} == {row.trial_id: row.score for row in other.rows}


def test_of_the_wrong_sign_the_best_point_of_a_task_is_its_worst() -> None:
    study = tasks_of(100)
    for task in elsewhere(study, 100).budgets:
        true, other = (
            {row.trial_id: row.score for row in made(study, 100).rows if row.task == task and row.score is not None}
            for made in (elsewhere, upside_down)
        )
        assert max(true, key=true.__getitem__) == min(other, key=other.__getitem__)
        assert max(true.values()) == pytest.approx(max(other.values()))


def test_the_rows_are_written_and_shown_again_without_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(every_size, "every_row", lambda seeds: [
        (name, seed, task, budget, 0.001 * (1 + place) * budget)
        for place, name in enumerate(SEARCHES)
        for seed in seeds
        for task in ("reuters", "stsb")
        for budget in BUDGETS
    ])  # fmt: skip
    main(4, 6, folder=tmp_path)
    said = capsys.readouterr().out
    assert f"| {DEFAULT}, all | 0.50 (0.50-0.50) |" in said
    main(4, 6, replays=False, folder=tmp_path)
    assert capsys.readouterr().out == said
