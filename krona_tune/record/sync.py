"""Makes MLflow hold what the Parquet records hold: after a tracking server was away, or into another one."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from krona_tune.adapters.card import CARD
from krona_tune.record import mlflow_words as words
from krona_tune.record.mirror import Event, milliseconds
from krona_tune.record.mlflow_runs import StudyRuns
from krona_tune.record.mlflow_store import MlflowStore
from krona_tune.record.read import read_reports, read_trials
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.result import Report, TrialResult


@dataclass(frozen=True, kw_only=True)
class SyncOutcome:
    """How many of the study's trials something was added to, and where they can be looked at."""

    trials: int
    mended: int
    experiment_id: str
    tracking_uri: str

    @property
    def page(self) -> str | None:
        """The experiment's page, where the tracking store is a server."""
        if not self.tracking_uri.startswith("http"):
            return None
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs?{words.MODEL_TRAINING}"


def sync(folder: StudyFolder, tracking_uri: str | None = None) -> SyncOutcome:
    """Adds what is missing, closes what was left running; twice changes nothing. The study must not be running.

    Args:
        tracking_uri: where to; None: the store that the study shares with its siblings.

    Raises:
        FileNotFoundError: the folder holds no study.
        Refusal: the tracking store can't be reached, or refuses.
    """
    try:
        return _sync(folder, tracking_uri)
    except MlflowException as error:
        place = tracking_uri or folder.tracking_uri
        raise Refusal("--tracking-uri", f"{place}: {error.message}", "start the server, or name another") from None


def _sync(folder: StudyFolder, tracking_uri: str | None) -> SyncOutcome:
    uri = tracking_uri or folder.tracking_uri
    store = MlflowStore(
        uri,
        None if tracking_uri else folder.artifact_location,
        folder.name,
        read_manifest(folder.manifest),
        folder.spec.read_text(encoding="utf-8"),
    )
    reports: dict[str, list[Report]] = defaultdict(list)
    for report in read_reports(folder.results):
        reports[report.trial_id].append(report)
    rows = read_trials(folder.results)
    store.open()
    store.ensure_tasks()
    mended = 0
    for row in rows:
        if events := list(_missing(store.runs, row, reports[row.trial_id])):
            store.send(events)
            mended += 1
    store.close(artifacts_of(folder))
    return SyncOutcome(trials=len(rows), mended=mended, experiment_id=store.runs.experiment_id, tracking_uri=uri)


def artifacts_of(folder: StudyFolder) -> list[Path]:
    """What stands in a study's folder to be kept beside its runs: the page and the adapters."""
    page = [folder.report] if folder.report.exists() else []
    return [*page, *sorted(path.parent for path in folder.root.glob(f"adapters/*/{CARD}"))]


def _missing(runs: StudyRuns, row: TrialResult, reports: Sequence[Report]) -> Iterator[Event]:
    """The trial's events that its run has not had; its end again where anything is missing."""
    run = runs.trials.get(row.trial_id)
    there: set[int] = set()
    if run is None:
        yield Event(what=row, at_ms=milliseconds(row.started_at))
    else:
        there = {point.step for point in runs.client.get_metric_history(run.info.run_id, "score")}
    absent = [(at, report) for at, report in _timed(row, reports) if report.examples not in there]
    for at, report in absent:
        yield Event(what=report, at_ms=milliseconds(at))
    ended = run and run.info.status == words.RUN_STATUS[row.status] and _says(run.data.tags, row)
    if absent or not ended:
        at = row.ended_at or (row.started_at + row.train_seconds + row.evaluation_seconds)
        yield Event(what=row, at_ms=milliseconds(at), ended=True)


def _says(tags: dict[str, str], row: TrialResult) -> bool:
    return words.trial_tags(row).items() <= tags.items()


def _timed(row: TrialResult, reports: Sequence[Report]) -> Iterator[tuple[float, Report]]:
    """Each report with about the time at which it came: the seconds that it and those before it took."""
    at = row.started_at
    for report in reports:
        at += report.train_seconds + report.evaluation_seconds
        yield at, report
