"""The mirror in MLflow: an experiment a study, a parent run a task, a child run a trial."""

from collections.abc import Iterator, Sequence
from typing import Any

from krona_tune.record.mlflow_mirror.background_sink import BackgroundSink, Event
from krona_tune.record.mlflow_mirror.backlog import missing_events, says_its_end
from krona_tune.record.mlflow_mirror.mlflow_store import MlflowStore
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Report, Status, TrialResult


class MlflowSink(BackgroundSink):
    """Mirrors a study into MLflow from a background thread; an experiment that is there already is continued.

    The first use of a new sqlite file creates its tables, which takes seconds; that happens in the thread too, when the
    first event comes.
    """

    def __init__(
        self,
        *,
        tracking_uri: str,
        artifact_location: str | None,
        study: str,
        manifest: Manifest,
        spec: str,
        earlier: tuple[Sequence[TrialResult], Sequence[Report]] = ((), ()),
        drain_seconds: float = 60.0,
    ) -> None:
        """`spec` is the text of study.yaml. `artifact_location` None leaves it to the tracking server.

        `earlier` are the rows and reports of a study that goes on: what the tracking store lacks of them is sent first,
        since the driver that had them may have been killed before it could.
        """
        store = _Continued(earlier, tracking_uri, artifact_location, study, manifest, spec)
        super().__init__(store, name=f"MLflow at {tracking_uri}", drain_seconds=drain_seconds)


class _Continued(MlflowStore):
    def __init__(self, earlier: tuple[Sequence[TrialResult], Sequence[Report]], *request: Any) -> None:
        super().__init__(*request)
        self._earlier = earlier

    def open(self) -> None:
        super().open()
        self.begin()

    def behind(self) -> Iterator[list[Event]]:
        rows, reports = self._earlier
        doubtful = [row for row in rows if row.status is Status.INTERRUPTED or not says_its_end(self.runs, row)]
        return missing_events(self.runs, doubtful, reports)
