"""Mirrors a study in MLflow: an experiment for a study or for several, a run for a task, below it one for each trial.

Sends from the records what MLflow lacks, when a study is resumed or synced.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krona_tune.adapters.adapter_card import CARD, AdapterCard, read_card
from krona_tune.atomic_write import read_text
from krona_tune.record.background import BackgroundSink, Event, NotAcceptedError, milliseconds
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns, connected, metric_points
from krona_tune.record.mlflow_mirror.tracking_uri import artifact_location, find_trouble
from krona_tune.record.model import CHOSEN_ALIAS, WON_ALIAS, register
from krona_tune.record.parquet_reader import read_orders, read_reports, read_trials
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal, refusing
from krona_tune.study.folder import STUDIES, WINNER, StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Report, Status, TrialResult, grouped

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)

OF_A_TASK = {"adapters": "adapter"}
"""Folders of a study that hold one folder per task, and the name of the task's folder in its run; that of a winner that
is not chosen ends as the study's does."""
OPEN_SECONDS = 10.0
"""How long a store may take to answer."""
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


@dataclass(eq=False, kw_only=True)
class MlflowStore:
    """One study in one tracking store. Used from one thread at a time.

    `spec` is the text of study.yaml, `experiment` one that several studies share, `storage` where they are.
    """

    tracking_uri: str
    study: str
    manifest: Manifest
    spec: str
    experiment: str = ""
    storage: str = STUDIES
    runs: StudyRuns = field(init=False)
    _scored: set[str] = field(init=False)
    _running: set[str] = field(init=False, default_factory=set)
    _with_error: set[str] = field(init=False)  # trials whose runs tell of an error
    _awaiting_runs: dict[str, dict[str, str]] = field(init=False, default_factory=dict)  # tags of orders, by trial

    def open(self) -> None:
        """Raises ConnectionError if the store can't be reached, before MLflow's own clients try for minutes."""
        if problem := find_trouble(self.tracking_uri, OPEN_SECONDS):
            raise ConnectionError(problem)
        client = connected(self.tracking_uri)
        location = artifact_location(self.tracking_uri, self.storage)
        self.runs = StudyRuns(client, location, self.study, self.manifest, self.experiment)
        runs = self.runs.trials
        self._scored = {trial_id for trial_id, run in runs.items() if "score" in run.data.metrics}
        self._with_error = {trial_id for trial_id, run in runs.items() if run.data.tags.get(words.ERROR)}

    def ensure_tasks(self) -> None:
        """Makes a run for every task, whether or not it has a trial."""
        begun = datetime.fromisoformat(self.manifest.created_at)
        for task in self.manifest.tasks:
            self.runs.of_task(task, milliseconds(begun.timestamp()))

    def behind(self, earlier: Records) -> Iterator[list[Event]]:
        """Makes a run for every task and marks it as running; yields what the store lacks of earlier records."""
        self.ensure_tasks()
        for run_id in self.runs.tasks.values():
            self.runs.client.update_run(run_id, status="RUNNING")
        rows = earlier.trials
        doubtful = [row for row in rows if not row.ended or not says_its_end(self.runs, row)]
        yield from missing_events(self.runs, doubtful, earlier.reports)
        yield from missing_orders(self.runs, rows, earlier.orders)

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
        texts = {"study.yaml": self.spec, "manifest.json": self.manifest.model_dump_json(indent=2)}
        for task in self.runs.tasks:
            _summarise(self.runs, task, everyone, texts, artifacts)
        for task in self.runs.tasks:
            name, won = f"{self.study}.{task}", _adapter_of(f"{task}{WINNER}", artifacts)
            if adapter := _adapter_of(task, artifacts):
                is_winner = not (won or read_card(adapter).winner)  # the winner's own state may be gone
                register(self.runs, task, name, adapter, (CHOSEN_ALIAS, *[WON_ALIAS] * is_winner))
            if won:
                register(self.runs, task, name, won, (WON_ALIAS,))
        self._running.clear()

    def _send(self, events: Sequence[Event]) -> None:
        first = events[0].what
        if isinstance(first, Order):
            self._say_order(next(each.what for each in reversed(events) if isinstance(each.what, Order)))
            return
        trial = next((each.what for each in events if isinstance(each.what, TrialResult)), None)
        fingerprint = trial.fingerprint if trial else ""
        run_id = self.runs.of_trial(first.trial_id, first.task, events[0].at_ms, fingerprint)
        if first.trial_id not in self._running:
            self.runs.client.update_run(run_id, status="RUNNING")
            self._running.add(first.trial_id)
        metrics, params, tags = self._values(events)
        if trial and first.trial_id in self._with_error:  # of an end before it went on
            tags = {words.ERROR: "", **tags}
        if tags.get(words.ERROR):
            self._with_error.add(first.trial_id)
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
                    metrics += _points(words.report_metrics(report), event.at_ms)
                case TrialResult() as result:
                    params |= words.trial_params(result)
                    tags.pop(words.ERROR, None)
                    tags |= words.trial_tags(result)
                    if event.ended:
                        metrics += _points(words.curve_metrics(result.curve), event.at_ms)
                        values = words.end_metrics(result, with_score=trial_id not in self._scored)
                        metrics += metric_points(values, event.at_ms, result.examples)
        return metrics, params, tags


def _points(by_examples: Mapping[int, Mapping[str, float]], at_ms: int) -> "list[Metric]":
    return [point for examples, values in by_examples.items() for point in metric_points(values, at_ms, examples)]


def missing_events(runs: StudyRuns, rows: Sequence[TrialResult], reports: Sequence[Report]) -> Iterator[list[Event]]:
    """Yields the missing events, in their order, of each trial that lacks any."""
    reports_of = grouped(reports, lambda report: report.trial_id)
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
    run = runs.found(row.trial_id, row.fingerprint)
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
    run = runs.found(row.trial_id, row.fingerprint)
    if run is None or run.info.status != words.RUN_STATUS[row.status]:
        return False
    tags: dict[str, str] = {words.ERROR: "", **run.data.tags}
    return {words.ERROR: "", **words.trial_tags(row)}.items() <= tags.items()


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

    name = "MLflow"

    def __init__(self, store: MlflowStore, earlier: Records | None = None) -> None:
        super().__init__(store, earlier or Records(), name=f"MLflow at {store.tracking_uri}")


@dataclass(frozen=True, kw_only=True)
class SyncOutcome:
    """Says how many trials the study has, to how many of them something was added (`updated`), and where they are."""

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


def sync(folder: StudyFolder, tracking_uri: str | None = None, experiment: str | None = None) -> SyncOutcome:
    """Adds what is missing and closes what was left running; again changes nothing. The study must not be running.

    Args:
        tracking_uri: where to send it; None: the store that the study shares with the studies beside it.
        experiment: the experiment that gets it, and may hold other studies; None: the one that its request names.

    Raises:
        Refusal: the folder holds no study, or its records can't be read; the tracking store can't be reached, or
            refuses.
    """
    place, fix = folder.tracking_uri, "move it away, then sync each study beside it"
    if tracking_uri:
        place, fix = f"--tracking-uri: {redact(tracking_uri)}", "fix it, or name another store"
    with refusing(place, "could not be brought up to date", fix):
        return _sync(folder, tracking_uri, experiment)


def _sync(folder: StudyFolder, tracking_uri: str | None, experiment: str | None) -> SyncOutcome:
    uri = tracking_uri or folder.tracking_uri
    store = MlflowStore(
        tracking_uri=uri,
        study=folder.name,
        manifest=read_manifest(folder.manifest),
        spec=read_text(folder.spec, "put back what the study was begun with"),
        experiment=load_spec(folder.spec).experiment if experiment is None else experiment,
        storage=folder.storage,
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
    page = [folder.page] if folder.page.exists() else []
    return [*page, *sorted(path.parent for path in folder.root.glob(f"adapters/*/{CARD}"))]


def _summarise(
    runs: StudyRuns, task: str, everyone: "Sequence[Run]", texts: Mapping[str, str], artifacts: Sequence[Path]
) -> None:
    """Completes a task's run; a second call with the same input changes nothing. `texts` are more files by name."""
    run_id = runs.tasks[task]
    of_task = [run for run in everyone if run.data.tags.get(words.TASK) == task]
    children = [run for run in of_task if words.TRIAL in run.data.tags]  # a person may have added others
    for run in children:
        if run.data.tags.get(words.PARENT) != run_id:  # the task's run was deleted
            runs.client.set_tag(run.info.run_id, words.PARENT, run_id)
    lines = [words.trial_line(run.data.tags, run.data.params, run.data.metrics) for run in children]
    knobs = words.tried_knobs(lines, {name for run in children for name in run.data.params} - {"task", "seed"})
    table = {"trials.csv": words.table_text(lines, knobs.same)} if lines else {}
    for name, text in {**texts, **table}.items():
        runs.client.log_text(run_id, text, name)
    for path in artifacts:
        if path.parent.name not in OF_A_TASK:
            _keep(runs, run_id, path, path.name)
        elif path.name in {task, f"{task}{WINNER}"}:
            _keep(runs, run_id, path, OF_A_TASK[path.parent.name] + path.name.removeprefix(task))
    adapter = _adapter_of(task, artifacts)
    card = read_card(adapter) if adapter else None
    winner = f"{OF_A_TASK['adapters']}{WINNER}"
    if adapter and card and not card.winner and runs.client.list_artifacts(run_id, winner):
        _keep(runs, run_id, adapter, winner)  # at an earlier end another one had won than was chosen
    if rising := _best_so_far(children, lines):
        runs.log(run_id, rising, {}, {})
    _describe(runs, task, lines, card, knobs)


def _adapter_of(task: str, artifacts: Sequence[Path]) -> Path | None:
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


def _keep(runs: StudyRuns, run_id: str, path: Path, name: str) -> None:
    """Logs a file, or a folder under this name."""
    if not path.exists():
        logger.warning("%s is not there and was not kept", path)
    elif path.is_dir():
        runs.client.log_artifacts(run_id, str(path), name)
    else:
        runs.client.log_artifact(run_id, str(path))


def _best_so_far(children: "Sequence[Run]", lines: Sequence[Mapping[str, Any]]) -> "list[Metric]":
    """Returns the search's progress as a curve: after each trial that came to its end, the best score until then, of
    those that may be the best.

    Steps count trials and times are their ends, so a second call adds nothing if the same trials may be the best.
    """
    searched = [run for run in children if run.data.tags.get(words.KIND) == TrialKind.SEARCH]
    ended = [run for run in searched if run.info.status == "FINISHED" and "score" in run.data.metrics]
    ended.sort(key=lambda run: (run.info.end_time, run.info.run_name))
    ranked = {line["trial_id"] for line in words.ranked_lines(lines)}
    scores = (run.data.metrics["score"] if run.data.tags[words.TRIAL] in ranked else -math.inf for run in ended)
    told = zip(ended, accumulate(scores, max), strict=True)
    return [
        point
        for step, (run, score) in enumerate(told, start=1)
        if score > -math.inf
        for point in metric_points({"best_so_far": score}, run.info.end_time, step)
    ]


def _describe(
    runs: StudyRuns, task: str, lines: Sequence[Mapping[str, Any]], card: AdapterCard | None, knobs: words.TriedKnobs
) -> None:
    """Ends the task's run, and adds its results if they are new."""
    run_id = runs.tasks[task]
    run = runs.client.get_run(run_id)
    values = words.task_metrics(lines, card)
    changed = {name: value for name, value in values.items() if run.data.metrics.get(name) != value}
    best = {words.WINNER: card.winner or card.trial_id, words.CHOSEN: card.trial_id} if card else {}
    searched = {words.SEARCHED: ", ".join(knobs.searched)} if knobs.searched else {}
    tags = {words.NOTE: words.task_note(values, card, knobs), **searched, **best}
    new = {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
    if changed or new:
        runs.log(run_id, metric_points(changed, milliseconds(time.time()), 0), {}, new)
    if run.info.status != "FINISHED":
        runs.client.set_terminated(run_id, "FINISHED")
