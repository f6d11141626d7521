"""Tests what the packaged curves are said to teach of two further tasks, which are copies of two of them here."""

from pathlib import Path

import numpy as np
import pytest

from krona_tune.record.recorded_curves import curves
from tests.benchmarks.curves.record import KNOBS
from tests.benchmarks.search import held_out
from tests.benchmarks.search.held_out import report, tables
from tests.benchmarks.search.other_backbones import only
from tests.benchmarks.search.replay.recorded import recorded_tasks

COPIES = {"newsgroups": "tweets", "sst2": "verses"}
POINTS = 16


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "OTHERS", tmp_path)
    rows = curves().query("kind == 'search' and number < @POINTS and task in @COPIES.keys()")
    rows = rows.assign(task=rows.task.map(COPIES), **dict.fromkeys(KNOBS))
    (tmp_path / "minilm").mkdir()
    rows.to_parquet(tmp_path / "minilm" / "further-0-15.parquet")


def test_a_table_holds_what_was_recorded_and_the_points_of_the_design() -> None:
    for of, task in COPIES.items():
        expected, found = only(recorded_tasks()[of], range(POINTS)), tables()[task]
        assert (found.numbers, found.points) == (expected.numbers, expected.points)
        assert np.array_equal(found.scores[~np.isnan(expected.scores)], expected.scores[~np.isnan(expected.scores)])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_a_copy_agrees_with_the_task_that_it_is_of() -> None:
    said = report(range(2)).splitlines()
    header = cells(next(line for line in said if line.endswith("| their mean |")))
    for of, task in COPIES.items():
        told = dict(zip(header, cells(next(line for line in said if line.startswith(f"| {task} |"))), strict=True))
        assert float(told[of]) == 1
    assert any(line.startswith("tweets: of the point recommended the interval") for line in said)
