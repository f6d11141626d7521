"""Checks whether every trial of a study is present once in each of its records."""

from collections import Counter

import optuna
from mlflow.tracking import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.parquet_reader import read_reports, read_trials
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Status, TrialResult

TOLD = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.STOPPED_EARLY: TrialState.PRUNED,
    Status.STOPPED_BY_USER: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.OUT_OF_MEMORY: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}


def settled(
    folder: StudyFolder, tasks: tuple[str, ...], trials: int, tracking_uri: str | None = None, *, head: bool = True
) -> dict[str, TrialResult]:
    """Returns the study's rows; asserts that Parquet, Optuna and MLflow agree and none is missing, doubled or open.

    Without `head` the head alone was not trained.
    """
    rows = read_trials(folder.results)
    ends = [*(["head-0"] if head else []), *(f"{n:03d}" for n in range(trials))]
    expected = {f"{task}-{end}" for task in tasks for end in ends}
    assert Counter(row.trial_id for row in rows) == Counter(expected)
    assert Status.INTERRUPTED not in {row.status for row in rows}
    rungs = Counter((report.trial_id, report.rung) for report in read_reports(folder.results))
    assert set(rungs.values()) <= {1}
    by_id = {row.trial_id: row for row in rows}
    _optuna_agrees(folder, tasks, by_id)
    _mlflow_agrees(folder, by_id, tracking_uri or folder.tracking_uri)
    return by_id


def _optuna_agrees(folder: StudyFolder, tasks: tuple[str, ...], rows: dict[str, TrialResult]) -> None:
    storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    told = {}
    for task in tasks:
        for trial in optuna.load_study(study_name=f"{folder.name}/{task}", storage=storage).trials:
            if "trial_id" in trial.user_attrs:
                assert trial.user_attrs["trial_id"] not in told
                told[trial.user_attrs["trial_id"]] = trial.state
    assert told == {trial_id: TOLD[row.status] for trial_id, row in rows.items() if row.kind == "search"}


def _mlflow_agrees(folder: StudyFolder, rows: dict[str, TrialResult], tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments() if folder.name in e.name]
    runs = [run for run in client.search_runs(experiments) if words.TRIAL in run.data.tags]
    assert Counter(run.data.tags[words.TRIAL] for run in runs) == Counter(rows.keys())
    for run in runs:
        row = rows[run.data.tags[words.TRIAL]]
        assert run.info.status == words.RUN_STATUS[row.status]
        assert run.data.metrics.get("score") == row.score
