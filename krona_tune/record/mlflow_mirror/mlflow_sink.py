"""Mirrors a study in MLflow: an experiment per study, a parent run per task, a child run per trial.

Sends from the records what MLflow lacks, when a study is resumed or synced.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from krona_tune.adapters.adapter_card import CARD
from krona_tune.atomic_write import read_text
from krona_tune.record.background import DRAIN_SECONDS, BackgroundSink, Event, milliseconds
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns
from krona_tune.record.mlflow_mirror.mlflow_store import MlflowStore
from krona_tune.record.parquet_reader import read_orders, read_reports, read_trials
from krona_tune.record.records import Records
from krona_tune.refusal import refusing
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import Report, TrialResult


def missing_events(runs: StudyRuns, rows: Sequence[TrialResult], reports: Sequence[Report]) -> Iterator[list[Event]]:
    """Yields the missing events, in their order, of each trial that lacks any."""
    reports_of: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        reports_of[report.trial_id].append(report)
    for row in rows:
        if events := list(_missing(runs, row, reports_of[row.trial_id])):
            yield events


def missing_orders(runs: StudyRuns, rows: Sequence[TrialResult], orders: Sequence[Order]) -> Iterator[list[Event]]:
    """Yields each order whose last state the experiment does not say, or the run of one of the trials in `rows`."""
    said = runs.client.get_experiment(runs.experiment_id).tags if orders else {}
    recorded = {row.trial_id for row in rows}
    for order in orders:
        about = [runs.trials.get(trial_id) for trial_id in words.trials_of(order) if trial_id in recorded]
        told = [said, *(run.data.tags if run else {} for run in about)]
        if not all(words.order_tag(order).items() <= tags.items() for tags in told):
            yield [Event(what=order, at_ms=milliseconds(order.ended_at or order.given_at))]


def _missing(runs: StudyRuns, row: TrialResult, reports: Sequence[Report]) -> Iterator[Event]:
    """Yields the trial's events that its run lacks, and its end again if anything is missing."""
    run = runs.trials.get(row.trial_id)
    there: set[int] = set()
    if run is None:
        yield Event(what=row, at_ms=milliseconds(row.started_at))
    else:
        there = {point.step for point in runs.client.get_metric_history(run.info.run_id, "score")}
    absent = [(at, report) for at, report in _timed(row, reports) if report.examples not in there]
    for at, report in absent:
        yield Event(what=report, at_ms=milliseconds(at))
    if absent or not says_its_end(runs, row):
        at = row.ended_at or (row.started_at + row.busy_seconds)
        yield Event(what=row, at_ms=milliseconds(at), ended=True)


def says_its_end(runs: StudyRuns, row: TrialResult) -> bool:
    """Returns whether the trial's run has the trial's final status and tags, which are sent last."""
    run = runs.trials.get(row.trial_id)
    if run is None or run.info.status != words.RUN_STATUS[row.status]:
        return False
    tags: dict[str, str] = run.data.tags
    return words.trial_tags(row).items() <= tags.items()


def _timed(row: TrialResult, reports: Sequence[Report]) -> Iterator[tuple[float, Report]]:
    """Yields each report with its approximate time: the start, plus the seconds that it and those before it took."""
    at = row.started_at
    for report in reports:
        at += report.train_seconds + report.evaluation_seconds
        yield at, report


class MlflowSink(BackgroundSink):
    """A sink that mirrors a study into MLflow from a background thread; it continues an experiment that exists.

    The first use of a new sqlite file creates its tables, which takes seconds; the thread does that too, when the first
    event comes.
    """

    def __init__(
        self,
        *,
        tracking_uri: str,
        artifact_location: str | None,
        study: str,
        manifest: Manifest,
        spec: str,
        earlier: Records | None = None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        """`spec` is the text of study.yaml. `artifact_location` None leaves it to the tracking server.

        `earlier` are the records of a resumed study: what the tracking store lacks of them is sent first,
        because the driver that had them may have been killed before it could send them.
        """
        store = _Continued(earlier or Records(), tracking_uri, artifact_location, study, manifest, spec)
        super().__init__(store, name=f"MLflow at {tracking_uri}", drain_seconds=drain_seconds)


class _Continued(MlflowStore):
    def __init__(self, earlier: Records, *request: Any) -> None:
        super().__init__(*request)
        self._earlier = earlier

    def open(self) -> None:
        super().open()
        self.begin()

    def behind(self) -> Iterator[list[Event]]:
        rows = self._earlier.trials
        doubtful = [row for row in rows if not row.ended or not says_its_end(self.runs, row)]
        yield from missing_events(self.runs, doubtful, self._earlier.reports)
        yield from missing_orders(self.runs, rows, self._earlier.orders)


@dataclass(frozen=True, kw_only=True)
class SyncOutcome:
    """The number of the study's trials to which something was added, and the place to see them."""

    trials: int
    updated: int
    experiment_id: str
    tracking_uri: str

    @property
    def page(self) -> str | None:
        """Returns the experiment's page if the tracking store is a server."""
        if not self.tracking_uri.startswith("http"):
            return None
        return f"{self.tracking_uri.rstrip('/')}/#/experiments/{self.experiment_id}/runs?{words.MODEL_TRAINING}"


def sync(folder: StudyFolder, tracking_uri: str | None = None) -> SyncOutcome:
    """Adds what is missing and closes what was left running; again changes nothing. The study must not be running.

    Args:
        tracking_uri: where to send it; None: the store that the study shares with the studies beside it.

    Raises:
        Refusal: the folder holds no study, or its records can't be read; the tracking store can't be reached, or
            refuses.
    """
    place = redact(tracking_uri or folder.tracking_uri)
    with refusing("--tracking-uri", f"{place} could not be brought up to date", "fix it, or name another store"):
        return _sync(folder, tracking_uri)


def _sync(folder: StudyFolder, tracking_uri: str | None) -> SyncOutcome:
    uri = tracking_uri or folder.tracking_uri
    store = MlflowStore(
        uri,
        None if tracking_uri else folder.artifact_location,
        folder.name,
        read_manifest(folder.manifest),
        read_text(folder.spec, "put back what the study was begun with"),
    )
    rows, reports = read_trials(folder.results), read_reports(folder.results)
    store.open()
    store.ensure_tasks()
    updated = 0
    for events in missing_events(store.runs, rows, reports):
        store.send(events)
        updated += 1
    for events in missing_orders(store.runs, rows, read_orders(folder.results)):
        store.send(events)
    store.close(artifacts_of(folder))
    return SyncOutcome(trials=len(rows), updated=updated, experiment_id=store.runs.experiment_id, tracking_uri=uri)


def artifacts_of(folder: StudyFolder) -> list[Path]:
    """Returns what to keep of a study's folder with its runs: the page and the adapters."""
    page = [folder.report] if folder.report.exists() else []
    return [*page, *sorted(path.parent for path in folder.root.glob(f"adapters/*/{CARD}"))]
