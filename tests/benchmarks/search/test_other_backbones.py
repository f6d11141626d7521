"""Tests what curves teach about another backbone, on a copy of MiniLM's own and on one without knobs or scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from krona_tune.record.recorded_curves import CONSTANT, LEARNED, curves
from tests.benchmarks.curves.record import KNOBS
from tests.benchmarks.search import other_backbones
from tests.benchmarks.search.other_backbones import is_learned, only, recorded_backbones, report, tables_of
from tests.benchmarks.search.replay.recorded import recorded_tasks

POINTS = 12


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Records a backbone that learns exactly as MiniLM does, on other knobs."""
    monkeypatch.setattr(other_backbones, "OTHERS", tmp_path)
    rows = curves().query("kind in ('search', 'baseline') and (number < @POINTS or kind == 'baseline')")
    rows = rows[rows.task.isin(LEARNED)].copy()
    rows[KNOBS] = None
    write(rows, tmp_path)
    return rows


def write(rows: pd.DataFrame, folder: Path) -> None:
    (folder / "twin").mkdir(exist_ok=True)
    rows.to_parquet(folder / "twin" / "points-0-11.parquet")


def test_a_table_holds_what_was_recorded_and_the_points_of_the_design(twin: pd.DataFrame) -> None:
    assert recorded_backbones() == ["twin"]
    for task, table in tables_of("twin").items():
        expected = only(recorded_tasks()[task], range(POINTS))
        assert (table.numbers, table.points) == (expected.numbers, expected.points)
        assert np.array_equal(table.scores, expected.scores)


def test_a_diverged_training_is_worth_the_constant_answer(twin: pd.DataFrame, tmp_path: Path) -> None:
    lost = (twin.task == "stsb") & (twin.number == 3) & (twin.kind == "search") & (twin.epochs.round() > 2)
    write(twin[~lost], tmp_path)
    scores = tables_of("twin")["stsb"].scores[3]
    assert not np.isnan(scores[:2]).any()
    assert set(scores[2:]) == {CONSTANT["stsb"]}


def test_what_a_twin_is_taught_agrees_with_it(twin: pd.DataFrame) -> None:
    said = report("twin", range(2))
    for task in LEARNED:
        line = next(each for each in said.splitlines() if each.startswith(f"| {task} |"))
        same, others, own = (float(cell) for cell in line.strip("| ").split(" | ")[1:])
        assert (same, others) == (1, own)


def test_a_task_that_no_point_learns_is_left_out(twin: pd.DataFrame, tmp_path: Path) -> None:
    write(twin.assign(score=twin.score.where(twin.task != "reuters", CONSTANT["reuters"])), tmp_path)
    assert not is_learned("reuters", tables_of("twin")["reuters"])
    said = report("twin", range(1))
    assert "reuters: best 0.089, middle 0.089, constant 0.089, not learned" in said
    assert "| reuters |" not in said
