"""Tests that curves of another format are refused, and that a training without a score teaches as a bad one."""

from pathlib import Path

import pandas as pd
import pytest

from krona_tune.record import recorded_curves
from krona_tune.record.recorded_curves import HARDLY_LEARNED, LEARNED, curves
from krona_tune.refusal import Refusal
from krona_tune.search.planning.earlier_study import shipped_curves
from krona_tune.search.planning.teaching import by_mean_score
from krona_tune.study.kinds import TrialKind

FRAME = curves()


def some(points: int) -> pd.DataFrame:
    """Returns the curves of the first points on all learned tasks."""
    return FRAME[(FRAME.kind == TrialKind.SEARCH) & FRAME.task.isin(LEARNED) & (FRAME.number < points)].copy()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty folder in which the curves are sought."""
    monkeypatch.setattr(recorded_curves, "FOLDER", tmp_path)
    return tmp_path


def test_every_recorded_task_is_called_learned_or_not() -> None:
    assert set(FRAME.task) == {*LEARNED, *HARDLY_LEARNED}
    assert not LEARNED.keys() & HARDLY_LEARNED


def test_curves_of_another_format_are_refused_with_the_file_and_the_column(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recorded curves"):
        curves()
    path = folder / "points-0-31.parquet"
    some(40).drop(columns="terms").to_parquet(path)
    with pytest.raises(Refusal, match=f"{path.name}.*no column terms"):
        curves()


def test_a_training_without_a_score_counts_as_the_worst_and_one_report_is_enough(folder: Path) -> None:
    frame = some(40)
    frame = frame[frame.epochs == 9].copy()
    best = frame.loc[frame.task == "sst2"].sort_values("score").number.iloc[-1]
    frame.loc[frame.number == best, "score"] = float("nan")
    frame.to_parquet(folder / "points-0-39.parquet")
    study = shipped_curves()
    points = by_mean_score(study)
    assert len(points) == frame.number.nunique()
    lost = next(row.params for row in study.rows if row.number == best)
    assert lost in points[-5:]
