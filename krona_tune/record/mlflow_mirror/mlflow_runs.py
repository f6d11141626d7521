"""Manages a study's experiment in MLflow: finds or makes its runs by the study's tags, and logs values in batches."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.study.manifest import Manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

SQLITE = "sqlite:///"


def ensure_schema(tracking_uri: str) -> None:
    """Makes the file of a sqlite store if it is missing; studies that begin at the same time wait for each other."""
    if not tracking_uri.startswith(SQLITE):
        return
    path = Path(tracking_uri.removeprefix(SQLITE))
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            _make(path)


def _make(path: Path) -> None:
    from mlflow import MlflowClient

    unfinished = path.with_name(f".{path.name}.new")
    for leftover in path.parent.glob(f"{unfinished.name}*"):  # sqlite would roll an old journal into the new file
        leftover.unlink()
    MlflowClient(tracking_uri=f"{SQLITE}{unfinished}").search_experiments(max_results=1)
    unfinished.rename(path)


ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Defaults for the environment: a dead server is noticed in seconds, nothing is sent elsewhere, and a run's end prints
nothing among the study's own lines."""

METRICS_A_BATCH = 1000
_CHATTY = ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking", "mlflow.tracking", "urllib3.connectionpool")


def connected(tracking_uri: str) -> "MlflowClient":
    """Returns a client; the first use of a new sqlite file creates its tables, which takes seconds."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the error itself repeats what they log
    warnings.filterwarnings("ignore", message=".*An input example was not provided")
    ensure_schema(tracking_uri)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


class StudyRuns:
    """The runs of a study: one per task and, below it, one per trial. All are named by id, so no active run matters."""

    def __init__(
        self,
        client: "MlflowClient",
        artifact_location: str | None,
        study: str,
        manifest: Manifest,
        experiment: str = "",
    ) -> None:
        """`artifact_location` None leaves it to the tracking server; `experiment` is one that several studies share."""
        self.client = client
        self._study, self._manifest, self._shared = study, manifest, experiment
        self.experiment_id = self._find_or_create_experiment(artifact_location)
        self._read()

    def all(self) -> "Iterator[Run]":
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment_id], self._own, max_results=1000, page_token=token)
            yield from (run for run in page if not self._shared or run.data.tags.get(words.STUDY) == self._study)
            token = page.token
            if not token:
                return

    def of_task(self, task: str, at_ms: int) -> str:
        """Returns the id of a task's run; makes the run if it is missing."""
        self._resolve_doubt()
        if task not in self.tasks:
            self._create(task, task, {words.KIND: words.TASK_KIND}, at_ms)
        run_id = self.tasks[task]
        if not self._described.get(run_id):
            manifest, facts = self._manifest, self._manifest.tasks.get(task)
            params = {"task": task, "model": manifest.model.name, "precision": manifest.precision}
            constant = {"constant_score": facts.constant_score} if facts else {}
            self._name_data(run_id, task)
            self.log(run_id, metric_points(constant, at_ms, 0), params, {})
        return run_id

    def found(self, trial_id: str, fingerprint: str) -> "Run | None":
        """Returns the run of a trial; None if there is none, or it is of another trial that had the same id: it was
        sent before the study's machine was lost, and is not in what was left of the records."""
        run = self.trials.get(trial_id)
        return run if run and run.data.tags.get(words.FINGERPRINT, fingerprint) == fingerprint else None

    def of_trial(self, trial_id: str, task: str, at_ms: int, fingerprint: str = "") -> str:
        """Returns the id of a trial's run; makes the run if it is missing, in place of one of another trial.

        Args:
            fingerprint: the trial's own; empty if it is not known, and whatever run has its id is taken.
        """
        self._resolve_doubt()
        if fingerprint and trial_id in self.trials and not self.found(trial_id, fingerprint):
            self.client.delete_run(self.trials.pop(trial_id).info.run_id)
        if trial_id not in self.trials:
            tags = {words.TRIAL: trial_id, words.PARENT: self.of_task(task, at_ms)}
            self._create(trial_id, task, tags, at_ms)
        run_id = str(self.trials[trial_id].info.run_id)
        if not self._described.get(run_id):
            self._name_data(run_id, task)
        return run_id

    def each_once(self) -> "list[Run]":
        """Returns all runs, after deleting those that MLflow's client made twice: it repeats a request whose answer was
        lost."""
        runs = self._read()
        for run_id in self._doubles:
            self.client.delete_run(run_id)
        return [run for run in runs if run.info.run_id not in self._doubles]

    def log(self, run_id: str, metrics: "Sequence[Metric]", params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Logs one batch, or several if there are more metrics than a batch takes. A logged parameter never changes."""
        from mlflow.entities import Param, RunTag

        described = self._described.setdefault(run_id, set())
        new = [Param(name, value) for name, value in params.items() if name not in described]
        self.client.log_batch(
            run_id,
            metrics=metrics[:METRICS_A_BATCH],
            params=new,
            tags=[RunTag(name, value) for name, value in tags.items()],
            synchronous=True,
        )
        described.update(params)
        for start in range(METRICS_A_BATCH, len(metrics), METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH], synchronous=True)

    @property
    def begun(self) -> str:
        """Returns when the study began, which tells it from others of its name."""
        return self._manifest.created_at

    @property
    def _own(self) -> str:
        """Returns a filter of runs by the study's begin; an experiment of its own needs none."""
        return self._of_our_begin if self._shared else ""

    @property
    def _of_our_begin(self) -> str:
        """Returns a filter by the time of the study's begin, which few others have."""
        return f"tags.`{words.BEGUN}` = '{self.begun}'"

    def _find_or_create_experiment(self, artifact_location: str | None) -> str:
        """Returns the experiment of this study, or the one that it shares with others. If an experiment of another
        kind, of another study or of somebody else has its name, ours also has in its name what it is."""
        name, tags = self._shared or self._study, self._experiment_tags()
        found = self._tagged() or self.client.get_experiment_by_name(name)
        if found is not None and not self._fits(found):
            name = f"{name} ({'studies' if self._shared else self._manifest.created_at})"
            found = self.client.get_experiment_by_name(name)
        if found is None:
            return self._create_experiment(name, artifact_location, tags)
        self._revive(found, tags)
        return str(found.experiment_id)

    def _experiment_tags(self) -> dict[str, str]:
        if self._shared:
            return {words.SHARED: "true", **words.EXPERIMENT_KIND}
        synthetic = str(self._manifest.synthetic).lower()
        return {words.STUDY: self._study, words.BEGUN: self.begun, words.SYNTHETIC: synthetic, **words.EXPERIMENT_KIND}

    def _tagged(self) -> "Experiment | None":
        """Returns the study's own experiment, which a person may have renamed; one that is not deleted before others.
        The tags of a shared one do not say what name its studies know it by."""
        from mlflow.entities import ViewType

        if self._shared:
            return None
        found = self.client.search_experiments(ViewType.ALL, filter_string=self._of_our_begin)
        own = [each for each in found if each.tags.get(words.STUDY) == self._study]
        return min(own, key=lambda each: each.lifecycle_stage == "deleted", default=None)

    def _fits(self, found: "Experiment") -> bool:
        """Returns whether an experiment has our tags, or has nobody's and may be taken: it is not deleted, and is empty
        unless the study names it as one to share."""
        ours, others = (words.SHARED, words.STUDY) if self._shared else (words.STUDY, words.SHARED)
        if others in found.tags:
            return False
        if ours in found.tags:  # without the begin if an earlier version made it
            return bool(found.tags.get(words.BEGUN, self.begun) == self.begun)
        return found.lifecycle_stage != "deleted" and (bool(self._shared) or not self._has_runs(found))

    def _has_runs(self, found: "Experiment") -> bool:
        from mlflow.entities import ViewType

        return bool(self.client.search_runs([found.experiment_id], run_view_type=ViewType.ALL, max_results=1))

    def _create_experiment(self, name: str, artifact_location: str | None, tags: dict[str, str]) -> str:
        """Returns a new experiment, or the one that another study made of this name meanwhile."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.create_experiment(name, artifact_location, tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not self._shared:
                raise
            found = self.client.get_experiment_by_name(name)
            assert found is not None, "it exists already"
            return str(found.experiment_id)

    def _revive(self, found: "Experiment", tags: Mapping[str, str]) -> None:
        """Restores an experiment if it was deleted, and gives it the tags that it lacks."""
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        for name, value in tags.items():
            if name not in found.tags:
                self.client.set_experiment_tag(found.experiment_id, name, value)

    def _read(self) -> "list[Run]":
        """Reads the runs that the store holds. Of several runs of one trial, the one with most parameters counts."""
        runs = list(self.all())  # first: while it fails, what is known stays, and the doubt
        self.tasks: dict[str, str] = {}
        self.trials: dict[str, Run] = {}
        self._described: dict[str, set[str]] = {}
        self._doubles: list[str] = []
        self._in_doubt = False
        for run in sorted(runs, key=lambda run: len(run.data.params), reverse=True):
            self._remember(run)
        return runs

    def _resolve_doubt(self) -> None:
        """Reads the store again if a request to create a run failed: the run may exist."""
        if self._in_doubt:
            self._read()

    def _remember(self, run: "Run") -> None:
        tags, run_id = run.data.tags, str(run.info.run_id)
        if tags.get(words.KIND) == words.TASK_KIND:
            known = self.tasks.setdefault(tags[words.TASK], run_id)
        elif words.TRIAL in tags:
            known = str(self.trials.setdefault(tags[words.TRIAL], run).info.run_id)
        else:
            return
        if known == run_id:
            self._described[run_id] = set(run.data.params)
        else:
            self._doubles.append(run_id)

    def _create(self, name: str, task: str, tags: Mapping[str, str], at_ms: int) -> None:
        own = {**self._tags(task), **tags}
        shown = f"{self._study}/{name}" if self._shared else name
        self._in_doubt = True
        run = self.client.create_run(self.experiment_id, start_time=at_ms, tags=own, run_name=shown)
        self._in_doubt = False
        self._remember(run)

    def _name_data(self, run_id: str, task: str) -> None:
        """Fills MLflow's column "Dataset"; a second call changes nothing."""
        if facts := self._manifest.tasks.get(task):
            self.client.log_inputs(run_id, [words.dataset_input(facts)])

    def _tags(self, task: str) -> dict[str, str]:
        facts = self._manifest.tasks.get(task)
        synthetic = str(facts is not None and facts.synthetic).lower()
        commit = {words.COMMIT: self._manifest.git_commit} if self._manifest.git_commit else {}
        own = {words.STUDY: self._study, words.TASK: task, words.SYNTHETIC: synthetic}
        own |= {words.BEGUN: self.begun} if self._shared else {}
        return {**own, words.SOURCE: "krona_tune", **commit}


def metric_points(values: Mapping[str, float], at_ms: int, step: int) -> "list[Metric]":
    """Returns the values as metrics; `step` counts training examples, or trials for a task's progress."""
    from mlflow.entities import Metric

    return [Metric(name, value, at_ms, step) for name, value in values.items()]
