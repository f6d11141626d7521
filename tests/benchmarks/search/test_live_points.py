"""Tests how trainings of taught points and even draws are compared at equal cost."""

from pathlib import Path

import pandas as pd
import pytest

from krona_tune.record.recorded_curves import DRAW_LOST, FIRST_LOST
from tests.benchmarks.search.live_points import (
    EVEN,
    FULL,
    TAUGHT,
    best_under_asha,
    last_scores,
    means_over_tasks,
    regrets,
    report,
)

PAGE = Path(__file__).parents[3] / "docs" / "how_it_searches.md"
KEPT = Path(__file__).parent / "results" / "live_points.parquet"
SCORES = {TAUGHT: [(0.2, 0.8), (0.6, 0.9)], EVEN: [(0.1, 0.3), (0.5, 1.0), (0.4, 0.6)]}


def trainings(scores: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    """Returns the rows of trainings, of each its scores after the first and the third epoch; None: it diverged."""
    reports = [
        {"backbone": "b", "task": "t", "kind": kind, "number": number, "epochs": epochs, "score": score}
        for kind, of_kind in scores.items()
        for number, both in enumerate(of_kind)
        for epochs, score in zip((1.0, 3.0), both, strict=True)
    ]
    return pd.DataFrame(reports)


def test_the_best_of_the_taught_is_held_against_all_orders_of_the_draws() -> None:
    found = regrets(trainings(SCORES))
    assert found["taught"] == pytest.approx([0.2, 0.1, 0.1])
    best_of_one = (0.3 + 1.0 + 0.6) / 3
    assert found["even, full"] == pytest.approx([1 - best_of_one, 1 - (1.0 + 1.0 + 0.6) / 3, 0.0], abs=0.02)


def test_what_diverged_is_worth_the_tasks_worst_score() -> None:
    frame = trainings({TAUGHT: [(0.2, 0.8)], EVEN: [(0.1, 0.3), (0.5, 0.6)]})
    gone = (frame.kind == EVEN) & (frame.number == 1)
    frame.loc[gone & (frame.epochs == 3.0), "score"] = float("nan")
    assert last_scores(frame, EVEN) == ([0.1, 0.5], [0.3, 0.1])
    assert last_scores(frame[~gone | (frame.epochs == 1.0)], EVEN) == ([0.1, 0.5], [0.3, 0.1])


def test_asha_stops_what_is_not_in_the_best_third_and_pays_for_it() -> None:
    first, last = [0.5, 0.4, 0.3, 0.6], [0.7, 0.9, 1.0, 0.8]
    assert best_under_asha(first, last, 1.0) == 0.7
    assert best_under_asha(first, last, 2.0) == 0.7, "two are stopped, and a third can't end"
    assert best_under_asha(first, last, 2.7) == 0.8


def test_the_report_gives_the_ratio_of_the_means_over_tasks(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.concat([trainings(SCORES), trainings(SCORES).assign(task="u")]).to_parquet(path)
    lines = report(str(path)).splitlines()
    assert lines[2].startswith("| b: t | 1.000 | 0.200, 0.100, 0.100 | 0.359, 0.126, 0.000 |")
    assert lines[5:8] == [
        "b, 2 tasks, lost in the mean and taught over the draws:",
        "taught 0.200, 0.100, 0.100; 1.00, 1.00, 1.00",
        "even, full 0.359, 0.126, 0.000; 0.56, 0.79, -",
    ]


def test_the_page_and_the_plan_say_what_the_kept_rows_show() -> None:
    rows = [line.replace("0.", ".") for line in report(str(KEPT)).splitlines() if line.startswith("| ")]
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 10
    assert all(row in page for row in rows[1:])
    means = means_over_tasks(pd.read_parquet(KEPT)).values()
    lost, drawn = (sorted(f"{each[kind][0]:.3f}".removeprefix("0") for each in means) for kind in (TAUGHT, FULL))
    assert (f"{lost[0]} to {lost[-1]}", f"{drawn[0]} to {drawn[-1]}") == (FIRST_LOST, DRAW_LOST)
