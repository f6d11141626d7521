"""Mirrors a study in MLflow: an experiment per study, a parent run per task, a child run per trial."""

from collections.abc import Iterator
from typing import Any

from krona_tune.record.background_sink import BackgroundSink, Event
from krona_tune.record.mlflow_mirror.backlog import missing_events, missing_orders, says_its_end
from krona_tune.record.mlflow_mirror.mlflow_store import MlflowStore
from krona_tune.record.records import Records
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Status


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
        drain_seconds: float = 60.0,
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
        doubtful = [row for row in rows if row.status is Status.INTERRUPTED or not says_its_end(self.runs, row)]
        yield from missing_events(self.runs, doubtful, self._earlier.reports)
        yield from missing_orders(self.runs, rows, self._earlier.orders)
