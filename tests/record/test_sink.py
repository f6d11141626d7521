"""Tests the contract of every sink: for the same events, every trial is kept exactly once."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.sink import FanOut, Sink
from krona_tune.study.result import Status
from tests.record.events import RUNGS, ended, report, started

Account = dict[str, tuple[str, str, dict[int, float]]]
"""What a store knows of each trial: its task, its status, its scores by the number of examples."""


def in_parquet(results: Path) -> Account:
    trials, reports = read_trials(results), read_reports(results)
    assert max(Counter(trial.trial_id for trial in trials).values(), default=1) == 1
    assert max(Counter((report.trial_id, report.rung) for report in reports).values(), default=1) == 1
    return {
        trial.trial_id: (
            trial.task,
            str(trial.status),
            {report.examples: report.score for report in reports if report.trial_id == trial.trial_id},
        )
        for trial in trials
    }


def in_mlflow(uri: str) -> Account:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("first-study")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.run_name"])
    runs = [run for run in found if "krona.trial_id" in run.data.tags]
    assert max(Counter(run.data.tags["krona.trial_id"] for run in runs).values(), default=1) == 1
    return {
        run.data.tags["krona.trial_id"]: (
            run.data.tags["krona.task"],
            run.data.tags["krona.status"],
            {point.step: point.value for point in client.get_metric_history(run.info.run_id, "score")},
        )
        for run in runs
    }


class Case:
    """A sink that can be opened again, and what its store holds."""

    def __init__(self, open_sink: Callable[[], Sink], account: Callable[[], Account]) -> None:
        self.open, self.account = open_sink, account


@pytest.fixture(params=["parquet", "mlflow", "fan-out"])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, tracking_uri: str, mlflow_sink: Callable[[], MlflowSink]
) -> Case:
    results = tmp_path / "results"

    def both() -> Account:
        assert repr(in_parquet(results)) == repr(in_mlflow(tracking_uri))  # as text, NaN equals itself
        return in_parquet(results)

    return {
        "parquet": Case(lambda: ParquetSink(results), lambda: in_parquet(results)),
        "mlflow": Case(mlflow_sink, lambda: in_mlflow(tracking_uri)),
        "fan-out": Case(lambda: FanOut([ParquetSink(results), mlflow_sink()]), both),
    }[request.param]


@pytest.mark.parametrize("status", Status)
def test_a_trial_ends_once_with_its_status(case: Case, status: Status) -> None:
    trial = started(3)
    reports = [report(trial, 0, 0.25), report(trial, 1, 0.5)]
    sink = case.open()
    sink.trial_started(trial)
    for each in reports:
        sink.reported(each)
    sink.trial_ended(ended(trial, status, reports))
    sink.study_ended([])
    assert case.account() == {"cola-0003": ("cola", str(status), {RUNGS[0]: 0.25, RUNGS[1]: 0.5})}


def test_a_trial_without_an_end_is_interrupted(case: Case) -> None:
    trial = started(1)
    sink = case.open()
    sink.trial_started(trial)
    sink.reported(report(trial, 0, 0.25))
    sink.study_ended([])
    assert case.account() == {"cola-0001": ("cola", "interrupted", {RUNGS[0]: 0.25})}


def test_an_end_may_come_without_a_start(case: Case) -> None:
    trial = started(1)
    sink = case.open()
    sink.trial_ended(ended(trial, Status.FAILED, []))
    sink.study_ended([])
    assert case.account() == {"cola-0001": ("cola", "failed", {})}


def test_interleaved_trials_of_two_tasks_keep_their_own_reports(case: Case) -> None:
    first, second = started(0), started(1, "rte")
    sink = case.open()
    sink.trial_started(first)
    sink.trial_started(second)
    sink.reported(report(second, 0, 0.75))
    sink.reported(report(first, 0, -0.25))
    sink.trial_ended(ended(second, Status.STOPPED_EARLY, [report(second, 0, 0.75)]))
    sink.study_ended([])
    assert case.account() == {
        "cola-0000": ("cola", "interrupted", {RUNGS[0]: -0.25}),
        "rte-0001": ("rte", "stopped_early", {RUNGS[0]: 0.75}),
    }


def test_a_later_session_goes_on_and_repeats_nothing(case: Case) -> None:
    done, cut = started(0), started(1)
    sink = case.open()
    sink.reported(report(done, 0, 0.5))
    sink.trial_ended(ended(done, Status.COMPLETED, [report(done, 0, 0.5)]))
    sink.trial_started(cut)
    sink.study_ended([])
    sink = case.open()
    sink.trial_started(cut)
    sink.reported(report(cut, 0, 0.75))
    sink.trial_ended(ended(cut, Status.COMPLETED, [report(cut, 0, 0.75)]))
    sink.study_ended([])
    account = case.account()
    assert {name: status for name, (_, status, _) in account.items()} == {
        "cola-0000": "completed",
        "cola-0001": "completed",
    }
    assert account["cola-0001"][2] == {RUNGS[0]: 0.75}


def test_a_score_that_is_not_a_number_is_kept_as_such(case: Case) -> None:
    trial = started(2)
    reports = [report(trial, 0, math.nan)]
    sink = case.open()
    sink.trial_started(trial)
    sink.reported(reports[0])
    sink.trial_ended(ended(trial, Status.DIVERGED, reports))
    sink.study_ended([])
    [(task, status, scores)] = case.account().values()
    assert (task, status) == ("cola", "diverged")
    assert math.isnan(scores[RUNGS[0]])


def test_a_study_without_trials_ends_well(case: Case) -> None:
    case.open().study_ended([])
    assert case.account() == {}


class Broken:
    """A sink that refuses some events."""

    name = "the broken one"

    def __init__(self, *refused: str) -> None:
        self._refused = refused

    def __getattr__(self, name: str) -> Callable[..., None]:
        def take(*_: object) -> None:
            if name in self._refused:
                raise OSError(f"no space for {name}")

        return take


def test_a_failing_sink_harms_no_other(tmp_path: Path) -> None:
    sink = FanOut([Broken("trial_started", "trial_ended", "study_ended"), ParquetSink(tmp_path)])
    trial = started(4)
    sink.trial_started(trial)
    sink.trial_ended(replace(trial, status=Status.COMPLETED))
    sink.study_ended([])
    assert [each.status for each in read_trials(tmp_path)] == [Status.COMPLETED]
    assert sink.failures == {"the broken one": "OSError: no space for study_ended"}


def test_a_sink_that_works_again_has_made_up_for_its_failure() -> None:
    sink = FanOut([Broken("trial_started")])
    sink.trial_started(started(4))
    assert sink.failures == {"the broken one": "OSError: no space for trial_started"}
    sink.trial_ended(replace(started(4), status=Status.COMPLETED))
    assert sink.failures == {}
