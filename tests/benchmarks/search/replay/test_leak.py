"""Tests that a judge and teachers have the same points or none in common, and how their first choices are shown."""

from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks.search.replay import leak
from tests.benchmarks.search.replay.leak import (
    COLUMNS,
    OTHER,
    SAME,
    as_markdown,
    first_choices,
    halves,
    main,
    taught_at,
)
from tests.benchmarks.search.replay.recorded import common_numbers, recorded_tasks
from tests.benchmarks.search.replay.run import tasks_of


def test_the_halves_have_every_point_once() -> None:
    judged, other = halves(3)
    assert not judged & other
    assert judged | other == set(common_numbers(recorded_tasks().values()))
    assert len(judged) == len(other)
    assert halves(3) == (judged, other) != halves(4)


def test_teachers_know_the_other_tasks_at_their_points_alone() -> None:
    _, other = halves(3)
    found = taught_at(["sst2", "stsb"], other)
    assert {row.task for row in found.rows} == {"newsgroups", "reuters"}
    assert {row.number for row in found.rows} == other
    assert {each.trial_id for each in found.reports} == {row.trial_id for row in found.rows}


def test_every_task_of_a_study_has_a_first_choice_by_either_teachers() -> None:
    rows = first_choices(100)
    assert [row[:3] for row in rows] == [(100, task, who) for who in (SAME, OTHER) for task in tasks_of(100)]
    assert all(0 <= regret < 3 for *_, regret in rows)
    assert rows[0][3] != rows[2][3]


def test_the_rows_are_written_and_their_means_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        leak,
        "first_choices",
        lambda seed: [
            (seed, task, teachers, regret * seed)
            for teachers, factor in ((SAME, 1), (OTHER, 3))
            for task, regret in (("reuters", 0.01 * factor), ("stsb", 0.02 * factor))
        ],
    )
    main(4, 6, tmp_path)
    kept = pd.read_csv(tmp_path / "leak-4-6.csv")
    assert list(kept.columns) == COLUMNS
    assert len(kept) == 3 * 2 * 2
    lines = as_markdown(kept)
    assert lines[0] == "| teachers at | all | reuters | stsb |"
    assert lines[2:] == [f"| {SAME} | 0.075 | 0.050 | 0.100 |", f"| {OTHER} | 0.225 | 0.150 | 0.300 |"]
    assert capsys.readouterr().out.splitlines() == lines
