"""Tests that a live comparison trains what it says: the same reports as an uninterrupted training, and NaN at the end
of one that diverges."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import pandas as pd
import pytest

from krona_tune.record.recorded_curves import LEARNED
from krona_tune.study.request.schedule import make_schedule
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Report
from krona_tune.train.loop import train_trial
from tests.benchmarks.search.live import COLUMNS, PAIRS, LiveTask, summary, write_raw
from tests.benchmarks.search.replay.rivals import REFERENCE
from tests.train.conftest import table, tiny_backbone, tiny_work

POINT = {"a_out": 4, "a_in": 6, "scale": 2.0, "learning_rate": 1e-2, "batch_size": 8, "dropout": 0.0}
SCHEDULE = make_schedule(examples_per_epoch=100, epochs=4, grace_epochs=1, reduction=2)


def live(folder: Path) -> LiveTask:
    work = replace(tiny_work(), test=table(32, 3))
    return LiveTask(work, tiny_backbone(), 5, folder)


def test_a_training_that_is_left_between_reports_goes_on_as_if_it_were_not(tmp_path: Path) -> None:
    task = live(tmp_path)
    first, other = (task.curve(POINT | {"scale": scale}, SCHEDULE) for scale in (2.0, 4.0))
    seen = [first[0], other[0], first[1], first[2]]
    whole: list[Report] = []
    train_trial("t", check_trial("rte", 5, POINT), task.work, tiny_backbone(), whole.append)
    own = [seen[0], *seen[2:]]
    assert [each.score for each in own] == [report.score for report in whole]
    assert [each.train_loss for each in own] == pytest.approx([report.train_loss for report in whole])
    assert [each.examples for each in own] == [100, 200, 400]
    assert task.curve(POINT, SCHEDULE) is first
    assert 0 <= task.test(POINT, 6) <= 1


def test_a_training_that_diverges_ends_with_a_report_that_is_no_number(tmp_path: Path) -> None:
    task = live(tmp_path)
    wild = POINT | {"learning_rate": 1e30, "clip_norm": 1e30}
    assert task.curve(wild, SCHEDULE)[0].diverged
    assert isnan(task.test(wild, 6))


def invented(*gains: tuple[str, float]) -> pd.DataFrame:
    """Returns the rows of a study of each pair, where a rival gains so much, and more in later studies."""
    rows = [
        ("+".join(pair), seed, name, task, budget, 0.5, seed / 10 + gain * (1 + seed), 3 + seed, "a processor")
        for name, gain in gains
        for seed, pair in enumerate(PAIRS)
        for task in pair
        for budget in (5.0, 10.0)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_summary_compares_study_by_study_with_rays_own() -> None:
    found = summary(invented((REFERENCE, 0.0), ("ours", 0.02)))
    rows = [line.split()[1:] for line in found.splitlines() if line.startswith("ours")]
    scores, difference, error, p, median, studies = rows
    assert len(scores) == 2 * 4
    assert difference == median == ["0.070", "0.070"]
    assert error == ["0.015", "0.015"]
    assert p == ["0.031", "0.031"], "two of the 64 signs of six differences are as far from even"
    assert studies == ["6", "6"]


def test_the_raw_rows_are_kept_and_a_study_that_ran_again_replaces_its_own(tmp_path: Path) -> None:
    path, first = tmp_path / "results" / "live.csv", invented((REFERENCE, 0.0), ("ours", 0.02))
    write_raw(first, path)
    kept = pd.read_csv(path)
    assert list(kept.columns) == COLUMNS
    assert len(kept) == len(first) == 2 * 6 * 2 * 2
    again = invented(("ours", 0.04))
    write_raw(again[again.seed == 1], path)
    both = pd.read_csv(path)
    assert len(both) == len(kept)
    ours = both[both.rival == "ours"].groupby("seed").test.mean()
    assert list(ours) == pytest.approx([0.02, 0.18, *(0.1 * seed + 0.02 * (1 + seed) for seed in range(2, 6))])
    assert set(both[both.seed == 1].study) == {"+".join(PAIRS[1])}


def test_six_studies_have_every_pair_of_tasks_once() -> None:
    assert len(set(PAIRS)) == 6
    assert {task for pair in PAIRS for task in pair} == set(LEARNED)
