"""The mirror in MLflow: an experiment a study, a parent run a task, a child run a trial. Only importer of mlflow."""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from krona_tune.record import mlflow_words as words
from krona_tune.record.mirror import Event, Mirror, NotAcceptedError
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Report, Status, TrialResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Where the environment says nothing: a dead server is noticed in seconds, and nothing is sent elsewhere."""

METRICS_A_BATCH = 1000
_CHATTY = ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking", "mlflow.tracking", "urllib3.connectionpool")


class MlflowSink(Mirror):
    """Mirrors a study into MLflow from a background thread; an experiment that is there already is continued.

    The first use of a new sqlite file creates its tables, which takes seconds; that happens in the thread too.
    Runs are addressed by their ids, so neither `MLFLOW_RUN_ID` nor an active run matters.
    """

    def __init__(
        self,
        *,
        tracking_uri: str,
        artifact_location: str | None,
        study: str,
        manifest: Manifest,
        spec: str,
        drain_seconds: float = 60.0,
    ) -> None:
        """`spec` is the text of study.yaml. `artifact_location` None leaves it to the tracking server."""
        store = _MlflowStore(tracking_uri, artifact_location, study, manifest, spec)
        super().__init__(store, name=f"MLflow at {tracking_uri}", drain_seconds=drain_seconds)


class _MlflowStore:
    """What the mirror's thread does with a client: finds or creates runs, logs in batches."""

    _client: "MlflowClient"
    _experiment: str

    def __init__(
        self, tracking_uri: str, artifact_location: str | None, study: str, manifest: Manifest, spec: str
    ) -> None:
        self._tracking_uri, self._artifact_location = tracking_uri, artifact_location
        self._study, self._manifest, self._spec = study, manifest, spec
        self._parents: dict[str, str] = {}
        self._children: dict[str, str] = {}
        self._described: dict[str, set[str]] = {}
        self._scored: set[str] = set()
        self._running: set[str] = set()

    def open(self) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._client = MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)
        self._experiment = self._find_or_create_experiment()
        for run in self._runs():
            self._remember(run)
        for task in self._manifest.tasks:
            self._client.update_run(self._parent(task), status="RUNNING")

    def send(self, events: Sequence[Event]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._send(events)
        except MlflowException as error:
            if error.error_code in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}:
                raise NotAcceptedError(str(error)) from error
            raise

    def close(self, artifacts: Sequence[Path]) -> None:
        """What still runs was interrupted. A task's run gets its end, its table and the artifacts that concern it."""
        runs = list(self._runs())
        for run in runs:
            if words.TRIAL in run.data.tags and run.info.status == "RUNNING":
                self._client.set_tag(run.info.run_id, words.STATUS, str(Status.INTERRUPTED))
                self._client.set_terminated(run.info.run_id, words.RUN_STATUS[Status.INTERRUPTED])
        for run_id in self._parents.values():
            self._client.set_terminated(run_id, "FINISHED")
        for task, run_id in self._parents.items():
            self._client.log_text(run_id, self._spec, "study.yaml")
            self._client.log_text(run_id, self._manifest.model_dump_json(indent=2), "manifest.json")
            self._summarise(run_id, [run for run in runs if run.data.tags.get(words.PARENT) == run_id])
            for artifact in artifacts:
                self._keep(task, run_id, artifact)

    def _summarise(self, run_id: str, children: "Sequence[Run]") -> None:
        """The task's trials as a table that the MLflow page shows, and the best score as the parent's metric."""
        trials = [
            words.trial_line(run.info.run_name, run.data.tags, run.data.params, run.data.metrics) for run in children
        ]
        best = [line["score"] for line in trials if line["kind"] == "search" and not math.isnan(line["score"])]
        values = {"trials": float(len(trials)), **({"best_score": max(best)} if best else {})}
        self._log(run_id, _metrics(values, _now_ms(), 0), {}, {})
        if trials:
            self._client.log_text(run_id, words.table_text(trials), "trials.csv")

    def _keep(self, task: str, run_id: str, artifact: Path) -> None:
        """A file or folder beside the task's run; `adapters/<task>` goes to that task only."""
        if not artifact.exists():
            logger.warning("%s is not there and was not kept", artifact)
        elif artifact.parent.name == "adapters" and artifact.name != task:
            return
        elif artifact.is_dir():
            name = "adapter" if artifact.parent.name == "adapters" else artifact.name
            self._client.log_artifacts(run_id, str(artifact), name)
        else:
            self._client.log_artifact(run_id, str(artifact))

    def _find_or_create_experiment(self) -> str:
        """This study's experiment. Another study of the same name keeps its own; ours then carries its time too."""
        begun = self._manifest.created_at
        found = self._client.get_experiment_by_name(self._study)
        name = self._study
        if found is not None and found.tags.get(words.BEGUN, begun) != begun:
            name = f"{self._study} ({begun})"
            found = self._client.get_experiment_by_name(name)
        if found is None:
            synthetic = str(self._manifest.synthetic).lower()
            tags = {words.STUDY: self._study, words.BEGUN: begun, words.SYNTHETIC: synthetic}
            return str(self._client.create_experiment(name, self._artifact_location, tags))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _runs(self) -> "Iterator[Run]":
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _remember(self, run: "Run") -> None:
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get(words.KIND) == words.TASK_KIND:
            self._parents[tags[words.TASK]] = run_id
        elif words.TRIAL in tags:
            self._children[tags[words.TRIAL]] = run_id
            self._described[run_id] = set(run.data.params)
            if "score" in run.data.metrics:
                self._scored.add(run_id)

    def _send(self, events: Sequence[Event]) -> None:
        first = events[0].what
        run_id = self._child(first.trial_id, first.task, events[0].at_ms)
        if run_id not in self._running:
            self._client.update_run(run_id, status="RUNNING")
            self._running.add(run_id)
        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        scored = run_id in self._scored
        for event in events:
            match event.what:
                case Report() as report:
                    scored = True
                    metrics += _metrics(words.report_metrics(report), event.at_ms, report.examples)
                case TrialResult() as result:
                    params |= words.trial_params(result)
                    tags |= words.trial_tags(result)
                    if event.ended:
                        values = words.end_metrics(result, with_score=not scored)
                        metrics += _metrics(values, event.at_ms, result.examples)
        self._log(run_id, metrics, params, tags)
        if scored:
            self._scored.add(run_id)
        if events[-1].ended and isinstance(events[-1].what, TrialResult):
            self._client.set_terminated(run_id, words.RUN_STATUS[events[-1].what.status], events[-1].at_ms)
            self._running.discard(run_id)

    def _log(self, run_id: str, metrics: "list[Metric]", params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """One batch, or several where there are more metrics than a batch takes. A logged parameter never changes."""
        from mlflow.entities import Param, RunTag

        described = self._described.setdefault(run_id, set())
        new = [Param(name, value) for name, value in params.items() if name not in described]
        self._client.log_batch(
            run_id,
            metrics=metrics[:METRICS_A_BATCH],
            params=new,
            tags=[RunTag(name, value) for name, value in tags.items()],
            synchronous=True,
        )
        described.update(params)
        for start in range(METRICS_A_BATCH, len(metrics), METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH], synchronous=True)

    def _child(self, trial_id: str, task: str, at_ms: int) -> str:
        if trial_id not in self._children:
            tags = {**self._tags(task), words.TRIAL: trial_id, words.PARENT: self._parent(task)}
            self._children[trial_id] = self._create(trial_id, tags, at_ms)
            self._running.add(self._children[trial_id])
        return self._children[trial_id]

    def _parent(self, task: str) -> str:
        if task not in self._parents:
            tags = {**self._tags(task), words.KIND: words.TASK_KIND}
            self._parents[task] = self._create(task, tags, _now_ms())
            manifest, facts = self._manifest, self._manifest.tasks.get(task)
            params = {"task": task, "model": manifest.model.name, "precision": manifest.precision}
            constant = {"constant_score": facts.constant_score} if facts else {}
            self._log(self._parents[task], _metrics(constant, _now_ms(), 0), params, {})
        return self._parents[task]

    def _create(self, name: str, tags: Mapping[str, str], at_ms: int) -> str:
        run = self._client.create_run(self._experiment, start_time=at_ms, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def _tags(self, task: str) -> dict[str, str]:
        facts = self._manifest.tasks.get(task)
        synthetic = str(facts is not None and facts.synthetic).lower()
        return {words.STUDY: self._study, words.TASK: task, words.SYNTHETIC: synthetic}


def _metrics(values: Mapping[str, float], at_ms: int, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    return [Metric(name, value, at_ms, step) for name, value in values.items()]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
