"""Writes a study's events to its experiment, and at the end the tasks' summaries, for the mirror's thread or sync."""

import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.adapter_card import CARD, AdapterCard, read_card
from krona_tune.record.background import Event, NotAcceptedError
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns, connected, metric_points
from krona_tune.record.mlflow_mirror.registry import register
from krona_tune.record.mlflow_mirror.tracking_uri import find_trouble
from krona_tune.refusal import Refusal
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.result import Report, Status, TrialResult

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)

OF_A_TASK = {"adapters": "adapter"}
"""Folders of a study that hold one folder per task, and the name of the task's folder in its run."""


def summarise(
    runs: StudyRuns, task: str, everyone: "Sequence[Run]", texts: Mapping[str, str], artifacts: Sequence[Path]
) -> None:
    """Completes a task's run; a second call with the same input changes nothing. `texts` are more files by name."""
    run_id = runs.tasks[task]
    children = [run for run in everyone if run.data.tags.get(words.PARENT) == run_id]
    lines = [words.trial_line(run.info.run_name, run.data.tags, run.data.params, run.data.metrics) for run in children]
    for name, text in {**texts, **_table(lines)}.items():
        runs.client.log_text(run_id, text, name)
    for path in artifacts:
        if _concerns(path, task):
            _keep(runs, run_id, path)
    adapter = adapter_of(task, artifacts)
    if rising := _best_so_far(children):
        runs.log(run_id, rising, {}, {})
    _describe(runs, task, lines, read_card(adapter) if adapter else None)


def adapter_of(task: str, artifacts: Sequence[Path]) -> Path | None:
    """Returns the task's adapter among the artifacts, if there is one that can be read."""
    for path in artifacts:
        if path.name == task and (path / CARD).exists():
            try:
                read_card(path)
            except Refusal as refusal:
                logger.warning("%s", refusal)
            else:
                return path
    return None


def _concerns(path: Path, task: str) -> bool:
    return path.parent.name not in OF_A_TASK or path.name == task


def _keep(runs: StudyRuns, run_id: str, path: Path) -> None:
    if not path.exists():
        logger.warning("%s is not there and was not kept", path)
    elif path.is_dir():
        runs.client.log_artifacts(run_id, str(path), OF_A_TASK.get(path.parent.name, path.name))
    else:
        runs.client.log_artifact(run_id, str(path))


def _table(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {"trials.csv": words.table_text(lines)} if lines else {}


def _best_so_far(children: "Sequence[Run]") -> "list[Metric]":
    """Returns the search's progress as a curve: after each trial that came to its end, the best score until then.

    Steps count trials and times are their ends, so a second call adds nothing.
    """
    searched = [run for run in children if run.data.tags.get(words.KIND) == TrialKind.SEARCH]
    ended = [run for run in searched if run.info.status == "FINISHED" and "score" in run.data.metrics]
    ended.sort(key=lambda run: (run.info.end_time, run.info.run_name))
    best = accumulate((run.data.metrics["score"] for run in ended), max)
    told = zip(ended, best, strict=True)
    return [
        point
        for step, (run, score) in enumerate(told, start=1)
        for point in metric_points({"best_so_far": score}, run.info.end_time, step)
    ]


def _describe(runs: StudyRuns, task: str, lines: Sequence[Mapping[str, Any]], card: AdapterCard | None) -> None:
    """Ends the task's run, and adds its results if they are new."""
    run_id = runs.tasks[task]
    run = runs.client.get_run(run_id)
    values = words.task_metrics(lines, card)
    changed = {name: value for name, value in values.items() if run.data.metrics.get(name) != value}
    tags = {words.NOTE: words.task_note(values, card), **({words.WINNER: card.trial_id} if card else {})}
    new = {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
    if changed or new:
        runs.log(run_id, metric_points(changed, words.now_ms(), 0), {}, new)
    if run.info.status != "FINISHED":
        runs.client.set_terminated(run_id, "FINISHED")


OPEN_SECONDS = 10.0
"""How long a store may take to answer."""
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


class MlflowStore:
    """One study in one tracking store. Used from one thread at a time."""

    runs: StudyRuns

    def __init__(
        self, tracking_uri: str, artifact_location: str | None, study: str, manifest: Manifest, spec: str
    ) -> None:
        """`spec` is the text of study.yaml. `artifact_location` None leaves it to the tracking server."""
        self._tracking_uri, self._artifact_location = tracking_uri, artifact_location
        self._study, self._manifest, self._spec = study, manifest, spec
        self._scored: set[str] = set()
        self._running: set[str] = set()
        self._awaiting_runs: dict[str, dict[str, str]] = {}  # tags of orders about trials that have no run so far

    def open(self) -> None:
        """Raises ConnectionError if the store can't be reached, before MLflow's own clients try for minutes."""
        if problem := find_trouble(self._tracking_uri, OPEN_SECONDS):
            raise ConnectionError(problem)
        client = connected(self._tracking_uri)
        self.runs = StudyRuns(client, self._artifact_location, self._study, self._manifest)
        self._scored = {trial_id for trial_id, run in self.runs.trials.items() if "score" in run.data.metrics}

    def ensure_tasks(self) -> None:
        """Makes a run for every task, whether or not it has a trial."""
        for task in self._manifest.tasks:
            self.runs.of_task(task, words.begun_ms(self._manifest))

    def begin(self) -> None:
        """Makes a run for every task, and marks it as running."""
        self.ensure_tasks()
        for run_id in self.runs.tasks.values():
            self.runs.client.update_run(run_id, status="RUNNING")

    def send(self, events: Sequence[Event]) -> None:
        """Sends one subject's events. Metrics of the same time, step and value are one, so sending again does no harm.

        Raises:
            NotAcceptedError: MLflow refuses the events themselves.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._send(events)
        except MlflowException as error:
            if error.error_code in _REFUSALS:
                raise NotAcceptedError(str(error)) from error
            raise

    def close(self, artifacts: Sequence[Path]) -> None:
        """Marks what still runs as interrupted. Gives each task's run its end, tables, artifacts and model."""
        everyone = self.runs.each_once()
        client = self.runs.client
        for run in everyone:
            if words.TRIAL in run.data.tags and run.info.status == "RUNNING":
                client.set_tag(run.info.run_id, words.STATUS, str(Status.INTERRUPTED))
                client.set_terminated(run.info.run_id, words.RUN_STATUS[Status.INTERRUPTED])
        texts = {"study.yaml": self._spec, "manifest.json": self._manifest.model_dump_json(indent=2)}
        for task in self.runs.tasks:
            summarise(self.runs, task, everyone, texts, artifacts)
        for task in self.runs.tasks:
            if adapter := adapter_of(task, artifacts):
                register(self.runs, task, f"{self._study}.{task}", adapter)
        self._running.clear()

    def _send(self, events: Sequence[Event]) -> None:
        first = events[0].what
        if isinstance(first, Order):
            self._say_order(next(each.what for each in reversed(events) if isinstance(each.what, Order)))
            return
        run_id = self.runs.of_trial(first.trial_id, first.task, events[0].at_ms)
        if first.trial_id not in self._running:
            self.runs.client.update_run(run_id, status="RUNNING")
            self._running.add(first.trial_id)
        metrics, params, tags = self._values(events)
        self.runs.log(run_id, metrics, params, {**tags, **self._awaiting_runs.get(first.trial_id, {})})
        self._awaiting_runs.pop(first.trial_id, None)
        last = events[-1]
        if last.ended and isinstance(last.what, TrialResult):
            self.runs.client.set_terminated(run_id, words.RUN_STATUS[last.what.status], last.at_ms)
            self._running.discard(first.trial_id)

    def _say_order(self, order: Order) -> None:
        """Tags the experiment, and the runs of the trials that the order is about, now or when they are made."""
        client, tag = self.runs.client, words.order_tag(order)
        for trial_id in words.trials_of(order):
            if run := self.runs.trials.get(trial_id):
                for name, text in tag.items():
                    client.set_tag(run.info.run_id, name, text)
            else:
                self._awaiting_runs.setdefault(trial_id, {}).update(tag)
        for name, text in tag.items():
            client.set_experiment_tag(self.runs.experiment_id, name, text)

    def _values(self, events: Sequence[Event]) -> "tuple[list[Metric], Mapping[str, str], Mapping[str, str]]":
        """Returns the events' metrics, parameters and tags. An end has the score if no report had one."""
        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for event in events:
            trial_id = event.subject
            match event.what:
                case Report() as report:
                    self._scored.add(trial_id)
                    metrics += metric_points(words.report_metrics(report), event.at_ms, report.examples)
                case TrialResult() as result:
                    params |= words.trial_params(result)
                    tags |= words.trial_tags(result)
                    if event.ended:
                        values = words.end_metrics(result, with_score=trial_id not in self._scored)
                        metrics += metric_points(values, event.at_ms, result.examples)
        return metrics, params, tags
