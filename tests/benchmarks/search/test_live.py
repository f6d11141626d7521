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
from tests.benchmarks.search.live import PAIRS, LiveTask, summary
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


def test_the_summary_compares_study_by_study_with_rays_own() -> None:
    rows = [
        (name, seed, task, budget, 0.0, seed / 10 + gain)
        for name, gain in ((REFERENCE, 0.0), ("ours", 0.05))
        for seed, pair in enumerate(PAIRS)
        for task in pair
        for budget in (5.0, 10.0)
    ]
    _, less = summary(pd.DataFrame(rows, columns=["rival", "seed", "task", "budget", "validation", "test"])).split(
        "less"
    )
    differences, errors = less.split("standard error")
    [ours] = [line.split()[1:] for line in differences.splitlines() if line.startswith("ours")]
    assert len(ours) == 2
    assert ours == ["0.050", "0.050"]
    assert [line.split()[-1] for line in errors.splitlines() if line.startswith(("ours", REFERENCE))] == ["0.000"] * 2


def test_six_studies_have_every_pair_of_tasks_once() -> None:
    assert len(set(PAIRS)) == 6
    assert {task for pair in PAIRS for task in pair} == set(LEARNED)
