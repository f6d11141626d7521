"""Mirrors a study in W&B: a run per trial, all in the group of the study. Checks before whether that can be done."""

import hashlib
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from krona_tune.record.background import BackgroundSink, Event, milliseconds
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal, lacking_package, refusing
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.result import Report, Status, TrialResult

PROJECT = re.compile(r"(?:[^/\\#?%:\s]+/)?[^/\\#?%:]{1,128}")
OFFLINE = ("offline", "dryrun")
"""The words of WANDB_MODE for runs that are only written to disk."""
FOLDER, SENT = "wandb", "sent.txt"
"""The folder of wandb in a study's, and the file in it that says which trials' ends which project has."""
ID_LENGTH = 8
"""The hexadecimal digits that tell the trials of one study from those of another in the same project."""
PATIENCE_SECONDS = 20.0
"""How long wandb may wait for its server, at a run's begin and end."""
SETTINGS: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,  # the driver's machine is not the trial's
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "init_timeout": PATIENCE_SECONDS,
    "finish_timeout": PATIENCE_SECONDS,
    "finish_timeout_raises": True,
}


def refuse_no_account(project: str | None) -> None:
    """Refuses a project that can't be sent to; None passes. The server is not asked: it may come back meanwhile.

    Raises:
        Refusal: wandb is not installed or switched off, the name is none, or no key is known and W&B is not offline.
    """
    if project is None:
        return
    if not PROJECT.fullmatch(project):
        raise Refusal("--wandb", f"{project!r} is no project of W&B", "write PROJECT or TEAM/PROJECT")
    try:
        import wandb
    except ImportError:
        raise lacking_package("--wandb", "wandb") from None
    with refusing("--wandb", "wandb can't be set up", "fix its settings, or leave --wandb out"):
        mode = wandb.setup().settings.mode
        if mode == "disabled":
            raise Refusal("--wandb", "WANDB_MODE is disabled", "unset it, or leave --wandb out")
        if mode not in OFFLINE and not wandb.login(prompt=False, verify=False):
            fix = "run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline to write to disk only"
            raise Refusal("--wandb", "no key of W&B is known", fix)


def is_offline() -> bool:
    """Returns whether runs are only written to disk."""
    import wandb

    return wandb.setup().settings.mode in OFFLINE


class WandbStore:
    """One study's runs in one project of W&B. Used from one thread at a time.

    A run's id comes from the project, the study and the trial, so that a later session continues it. It is opened with
    all reports of its trial: online, W&B has some of them already and gets only those that follow; offline, it replaces
    the run on disk that an earlier session wrote.
    """

    def __init__(self, *, project: str, study: str, manifest: Manifest, folder: Path) -> None:
        """`project` may begin with a team: TEAM/PROJECT. `folder` is the study's: wandb writes into `wandb/` there."""
        self.project, (self._entity, _, self._project) = project, project.rpartition("/")
        self._study, self._manifest, self._folder = study, manifest, folder
        self._runs: dict[str, Any] = {}
        self._under_way: dict[str, str] = {}  # the trials whose run has begun and has no end, and their tasks
        self._reports: dict[str, dict[int, Report]] = defaultdict(dict)
        self._orders: dict[str, dict[str, str]] = defaultdict(dict)  # what orders say of trials, by trial

    def open(self) -> None:
        (self._folder / FOLDER).mkdir(parents=True, exist_ok=True)
        self._offline = is_offline()

    def behind(self, earlier: Records) -> Iterator[list[Event]]:
        """Yields each trial of earlier sessions whose last status was not noted as sent."""
        for report in earlier.reports:
            self._reports[report.trial_id][report.examples] = report
        sent = self._sent()
        for row in earlier.trials:
            if sent.get(row.trial_id) != row.status:
                at, ended = row.ended_at or row.started_at, row.ended
                yield [Event(what=row, at_ms=milliseconds(at), ended=ended)]

    def send(self, events: Sequence[Event]) -> None:
        first, last = events[0].what, events[-1]
        if isinstance(first, Order):
            self._say_order(next(each.what for each in reversed(events) if isinstance(each.what, Order)))
            return
        for event in events:
            if isinstance(event.what, Report):
                self._reports[event.subject][event.what.examples] = event.what
        run = self._run(first.trial_id, first.task)
        for report in sorted(self._reports[first.trial_id].values(), key=lambda each: each.examples):
            _log(run, words.report_metrics(report), report.examples / report.epochs)  # before the summary
        for event in events:
            if isinstance(event.what, TrialResult):
                run.config.update(_config(event.what), allow_val_change=True)
        run.summary.update(self._orders[first.trial_id])
        if last.ended and isinstance(last.what, TrialResult):
            if last.what.curve:
                _log(run, words.curve_metrics(last.what.curve), self._examples_per_epoch(last.what))
            self._end(last.what.trial_id, last.what.status, words.end_metrics(last.what, with_score=True))

    def close(self, artifacts: Sequence[Path]) -> None:
        """Ends the runs of the trials that have not ended. W&B gets no artifacts."""
        for trial_id, task in list(self._under_way.items()):
            self._run(trial_id, task)
            self._end(trial_id, Status.INTERRUPTED, {})

    def _examples_per_epoch(self, row: TrialResult) -> float:
        facts = self._manifest.tasks.get(row.task)
        return row.examples / row.epochs if row.epochs else facts.train_examples if facts else math.inf

    def _run(self, trial_id: str, task: str) -> Any:
        if trial_id not in self._runs:
            try:
                self._runs[trial_id] = self._opened(trial_id, task)
            except Exception:
                self._start_over()
                raise
            self._under_way[trial_id] = task
        return self._runs[trial_id]

    def _opened(self, trial_id: str, task: str) -> Any:
        import wandb

        run_id = self._id(trial_id)
        if self._offline:
            for earlier in (self._folder / FOLDER).glob(f"offline-run-*-{run_id}"):
                shutil.rmtree(earlier)
        facts = self._manifest.tasks.get(task)
        run = wandb.init(
            project=self._project,
            entity=self._entity or None,
            id=run_id,
            name=trial_id,
            group=self._study,
            job_type=task,
            tags=["synthetic data"] if facts and facts.synthetic else [],
            config={"study": self._study, "model": self._manifest.model.name, "task": task},
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(**SETTINGS),
        )
        run.define_metric("epochs")
        run.define_metric("*", step_metric="epochs")
        return run

    def _id(self, trial_id: str) -> str:
        whole = "\n".join((self.project, self._study, self._manifest.created_at, trial_id))
        return f"{trial_id}-{hashlib.sha256(whole.encode()).hexdigest()[:ID_LENGTH]}"

    def _end(self, trial_id: str, status: Status, values: dict[str, float]) -> None:
        run = self._runs.pop(trial_id)  # what fails now is sent to the run opened again
        run.summary.update({**values, "status": str(status)})
        run.finish(exit_code=0 if words.RUN_STATUS[status] == "FINISHED" else 1)
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(f"{trial_id} {status} {self.project}\n")
        del self._under_way[trial_id]

    def _start_over(self) -> None:
        """Ends wandb's own process, which would keep the id of a run that it could not begin. The runs that it has are
        opened again when they are needed."""
        import wandb

        self._runs.clear()
        with suppress(SystemExit):  # if that process failed
            wandb.teardown()

    def _say_order(self, order: Order) -> None:
        """Keeps what became of an order for the runs of its trials: those under way, or those that will begin."""
        tag = words.order_tag(order)
        for trial_id in words.trials_of(order):
            self._orders[trial_id].update(tag)
            if run := self._runs.get(trial_id):
                run.summary.update(tag)

    @property
    def _notes(self) -> Path:
        return self._folder / FOLDER / SENT

    def _sent(self) -> dict[str, str]:
        """Returns the last status of each trial that the project has."""
        if not self._notes.exists():
            return {}
        lines = [line.split(" ", 2) for line in self._notes.read_text(encoding="utf-8").splitlines()]
        return {line[0]: line[1] for line in lines if line[2:] == [self.project]}


def _config(result: TrialResult) -> dict[str, Any]:
    return {"seed": result.seed, "kind": result.kind, "of": result.of or None, **result.params}


def _log(run: Any, by_examples: Mapping[int, Mapping[str, float]], examples_per_epoch: float) -> None:
    """Adds values to a run's history, at the training examples by which they are given."""
    for examples, values in by_examples.items():
        if examples >= run.step:  # W&B has the others; a step never comes back
            own = {"epochs": examples / examples_per_epoch, "examples": examples}
            run.log({**values, **own}, step=examples, commit=True)


class WandbSink(BackgroundSink):
    """A sink that mirrors a study's trials to W&B from a background thread; it continues runs that exist."""

    name = "W&B"

    def __init__(self, store: WandbStore, earlier: Records | None = None) -> None:
        fix = "the Parquet records have them, and resuming the study with --wandb sends them"
        super().__init__(store, earlier or Records(), name=f"W&B at {store.project}", fix=fix)
