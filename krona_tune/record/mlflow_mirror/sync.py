"""Sends to MLflow what the Parquet records hold: after a tracking server was unreachable, or to another one."""

from dataclasses import dataclass
from pathlib import Path

from krona_tune.adapters.files.adapter_card import CARD
from krona_tune.atomic_write import read_text
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.backlog import missing_events, missing_orders
from krona_tune.record.mlflow_mirror.mlflow_store import MlflowStore
from krona_tune.record.parquet_reader import read_orders, read_reports, read_trials
from krona_tune.refusal import refusing
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import read_manifest
from krona_tune.study.redact import redact


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
