"""Start or resume a study: workers, search, records, and what is left at the end."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, check_output
from types import FrameType
from typing import Any

import ray
import torch
from filelock import FileLock, Timeout
from ray import tune
from rich.console import Console
from safetensors.torch import load_file

from krona_tune.adapters.export import AdapterCard, save_adapter
from krona_tune.glue.tasks import TASKS
from krona_tune.record.mlflow_sink import MlflowSink
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.read import read_reports, read_trials
from krona_tune.record.sink import FanOut
from krona_tune.refusal import Refusal
from krona_tune.search.callback import Recorder
from krona_tune.search.cluster import Cluster, Slots, connect, slots
from krona_tune.search.door import plain_trial, trial_of
from krona_tune.search.ledger import Ledger
from krona_tune.search.plan import Plan, trial_seed
from krona_tune.search.prepare import Prepared, prepare
from krona_tune.search.sampler import open_samplers
from krona_tune.search.scheduler import AshaPerTask
from krona_tune.search.searcher import StudySearcher
from krona_tune.search.trainable import KronaTrial, Workplace
from krona_tune.search.view import View
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import dump_spec
from krona_tune.study.manifest import Manifest, ModelFacts, read_manifest
from krona_tune.study.result import Status
from krona_tune.train import checkpoint
from krona_tune.train.device import this_device
from krona_tune.train.source import BackboneSource, download

logger = logging.getLogger(__name__)
PACKAGES = ("krona_tune", "ray", "torch", "transformers", "datasets", "optuna", "mlflow", "pyarrow")
RETRIES = 2
"""How often a trial whose worker was lost is taken up again, from its last rung."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a plan needs to run: workers, a backbone on disk, data. Nothing is written yet."""

    plan: Plan
    cluster: Cluster
    slots: Slots
    source: BackboneSource
    prepared: Prepared


@dataclass(frozen=True, kw_only=True)
class Started(Gathered):
    """A study whose folder tells what it is."""

    folder: StudyFolder
    manifest: Manifest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is left at the end. `lost_sinks` says which records could not be kept, and why."""

    ledger: Ledger
    interrupted: bool
    out_of_time: bool
    lost_sinks: dict[str, str]


class Stopping(tune.Stopper):
    """Ends the whole run when a person or the clock asks for it."""

    def __init__(self, time_budget: float | None) -> None:
        self.interrupted = False
        self._deadline = time.monotonic() + time_budget if time_budget else None

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.interrupted or self.out_of_time

    def verdict(self, result: dict[str, Any] | None, error: bool) -> Status:
        """The status that a trial's last result amounts to."""
        if error:
            return Status.FAILED
        if result and "status" in result:
            return Status(result["status"])
        if self.stop_all() or not result or "score" not in result:
            return Status.INTERRUPTED
        return Status.STOPPED_EARLY


@contextmanager
def claimed(folder: StudyFolder) -> Iterator[None]:
    """The study's folder belongs to this process until the context ends. Raises a Refusal where it is taken."""
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal("--storage", f"{folder.root} can't be made: {error.strerror}", "name a writable folder") from None
    lock = FileLock(folder.root / ".lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise Refusal(
            "--name", f"the study {folder.name!r} is being run", "wait for it, or choose another name"
        ) from None


def gather(plan: Plan, address: str | None) -> Gathered:
    """Workers, backbone and data. Raises a Refusal where one of them can't be had."""
    cluster = connect(address)
    fit = slots(cluster, plan.spec.resources)
    source = download(plan.source)
    prepared = prepare(plan, source.location)
    return Gathered(plan=plan, cluster=cluster, slots=fit, source=source, prepared=prepared)


def begin(gathered: Gathered, folder: StudyFolder, command: str) -> Started:
    """Writes the request and its circumstances into the study's folder."""
    plan, fit, source = gathered.plan, gathered.slots, gathered.source
    manifest = Manifest(
        name=folder.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seed=plan.spec.seed,
        precision=_precision(plan, fit),
        device="cuda" if fit.gpus else "cpu",
        workers=fit.count,
        versions={package: version(package) for package in PACKAGES},
        git_commit=_git_commit(),
        model=ModelFacts(
            name=source.name,
            source=source.how,
            model_type=plan.geometry.model_type,
            parameters=plan.geometry.parameters,
            fingerprint=source.fingerprint,
        ),
        tasks=gathered.prepared.facts,
    )
    if folder.manifest.exists():
        earlier = read_manifest(folder.manifest)
        _refuse_changed(earlier, manifest)
        manifest = manifest.model_copy(
            update={
                "created_at": earlier.created_at,
                "command": earlier.command,
                "resumed_by": (*earlier.resumed_by, command),
            }
        )
    folder.spec.write_text(dump_spec(plan.spec), encoding="utf-8")
    manifest.write(folder.manifest)
    return Started(**vars(gathered), folder=folder, manifest=manifest)


def run(
    started: Started,
    console: Console,
    *,
    tracking_uri: str | None,
    quiet: bool,
    write_report: Callable[[StudyFolder], Path],
) -> Outcome:
    """Runs what the study has not run yet, to its end or until it is stopped; leaves its adapters and its report."""
    plan, folder = started.plan, started.folder
    earlier = read_trials(folder.results) if folder.results.exists() else []
    sinks = FanOut([ParquetSink(folder.results), _mirror(started, tracking_uri)])
    ledger = Ledger(plan.geometry, sinks, earlier)
    waiting, remaining = _to_run(plan, ledger)
    totals = {
        task: len(numbers) + sum(row.task == task for row in ledger.rows.values())
        for task, numbers in remaining.items()
    }
    for config in waiting:
        totals[config["task"]] += config["trial_id"] not in ledger.rows
    stopping = Stopping(plan.spec.search.time_budget)
    view = View(console, ledger, started.manifest.tasks, totals, quiet=quiet)
    with view, _interruptible(stopping, console):
        _tune(started, ledger, waiting, remaining, stopping, view.changed)
    for trial_id in list(ledger.running):
        ledger.ended(trial_id, Status.INTERRUPTED)
    adapters = _leave_adapters(started, ledger)
    sinks.study_ended([folder.spec, folder.manifest, *_page(write_report, folder), *adapters])
    return Outcome(
        ledger=ledger,
        interrupted=stopping.interrupted,
        out_of_time=stopping.out_of_time,
        lost_sinks=sinks.failures,
    )


def _refuse_changed(earlier: Manifest, now: Manifest) -> None:
    """A resumed study goes on with the weights and data that it was begun with."""
    pairs = [("model", earlier.model.fingerprint, now.model.fingerprint)]
    pairs += [(f"data of {t}", facts.fingerprint, now.tasks[t].fingerprint) for t, facts in earlier.tasks.items()]
    for what, then, found in pairs:
        if then != found:
            problem = f"the {what} was {then[:12]}, now it is {found[:12]}"
            raise Refusal("--resume", problem, "put back what the study was begun with, or begin a new one")


def _page(write_report: Callable[[StudyFolder], Path], folder: StudyFolder) -> list[Path]:
    """The report; where it can't be written, the records are kept all the same."""
    try:
        return [write_report(folder)]
    except Exception:
        logger.exception("the report could not be written; krona-tune report tries again")
        return []


def _to_run(plan: Plan, ledger: Ledger) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """The trials that are known already and have not ended, and the numbers that are still to be proposed."""
    open_rows = [row for row in ledger.rows.values() if row.status is Status.INTERRUPTED]
    waiting = [plain_trial(r.trial_id, r.task, r.number, r.kind, r.seed, r.params) for r in open_rows]
    baselines = [config for task in plan.spec.tasks for config in plan.baselines(task)]
    waiting += [config for config in baselines if config["trial_id"] not in ledger.rows]
    remaining = {}
    for task in plan.spec.tasks:
        proposed = {row.number for row in ledger.rows.values() if row.task == task and row.kind == "search"}
        remaining[task] = [number for number in range(plan.spec.search.trials) if number not in proposed]
    return waiting, remaining


def _tune(
    started: Started,
    ledger: Ledger,
    waiting: list[dict[str, Any]],
    remaining: dict[str, list[int]],
    stopping: Stopping,
    changed: Callable[[], None],
) -> None:
    """One Tune run over everything that is still to be done."""
    plan, folder = started.plan, started.folder
    count = len(waiting) + sum(map(len, remaining.values()))
    if not count:
        return
    samplers = open_samplers(
        plan.spec.tasks,
        plan.space,
        folder.journal,
        study=folder.name,
        seed=plan.spec.seed,
        startup_trials=plan.spec.search.startup_trials,
    )
    searcher = StudySearcher(
        waiting, samplers, remaining, stopping.verdict, {task: trial_seed(plan.spec, task) for task in plan.spec.tasks}
    )
    scheduler = AshaPerTask({task: work.schedule for task, work in started.prepared.works.items()})
    if ledger.rows:
        scheduler.replay([report for report in read_reports(folder.results) if ledger.settled(report)])
    workplace = Workplace(
        folder=started.source.location,
        name=started.source.name,
        precision=plan.spec.precision,
        gpu=started.slots.gpus > 0,
        threads=max(1, int(started.slots.cpus)),
        checkpoints=str(folder.root.resolve() / "checkpoints"),
    )
    trainable = tune.with_resources(
        tune.with_parameters(KronaTrial, works=started.prepared.works, workplace=workplace),
        {"cpu": started.slots.cpus, "gpu": started.slots.gpus},
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=count,
            max_concurrent_trials=started.slots.count,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=f"run-{len(list(folder.ray.glob('run-*'))) + 1}",
            storage_path=str(folder.ray.resolve()),
            callbacks=[Recorder(ledger, stopping.verdict, changed)],
            stop=stopping,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    ).fit()


@contextmanager
def _interruptible(stopping: Stopping, console: Console) -> Iterator[None]:
    """Ctrl-C once ends the study at the next moment that loses nothing; twice stops now."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.interrupted:
            raise KeyboardInterrupt
        stopping.interrupted = True
        console.print("Stopping: what has reached a rung is kept. Press Ctrl-C again to stop now.")

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("stopped at once; the trials under way go on from their last rungs when the study is resumed")
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave_adapters(started: Started, ledger: Ledger) -> list[Path]:
    """Each task's best adapter, with its card, from the state that the winning trial kept."""
    left = []
    for task in started.plan.spec.tasks:
        best = ledger.best(task)
        if best is None or not best.checkpoint or not Path(best.checkpoint).exists():
            continue
        trial = trial_of(plain_trial(best.trial_id, task, best.number, best.kind, best.seed, best.params))
        card = AdapterCard(
            task=task,
            labels=TASKS[task].candidates,
            adapter=trial.adapter,
            backbone=started.source.name,
            model_type=started.plan.geometry.model_type,
            backbone_fingerprint=started.manifest.model.fingerprint,
            score=best.score or 0.0,
            metrics=best.metrics,
            synthetic=started.manifest.tasks[task].synthetic,
            trial_id=best.trial_id,
            study=started.folder.name,
            params=best.params,
        )
        save_adapter(started.folder.adapter(task), load_file(Path(best.checkpoint) / checkpoint.TENSORS), card)
        left.append(started.folder.adapter(task))
    return left


def _mirror(started: Started, tracking_uri: str | None) -> MlflowSink:
    folder = started.folder
    return MlflowSink(
        tracking_uri=tracking_uri or folder.tracking_uri,
        artifact_location=None if tracking_uri else folder.artifact_location,
        study=folder.name,
        manifest=started.manifest,
        spec=dump_spec(started.plan.spec),
    )


def _precision(plan: Plan, fit: Slots) -> str:
    """What the workers compute in, as far as this machine can tell: a head without a GPU can't for those that have."""
    if fit.gpus and not torch.cuda.is_available():
        return plan.spec.precision
    return str(this_device(plan.spec.precision, gpu=fit.gpus > 0).dtype).removeprefix("torch.")


def _git_commit() -> str | None:
    """The commit of the checkout that this code runs from, where it is one."""
    with suppress(OSError, CalledProcessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return check_output(command, stderr=DEVNULL, text=True).strip()
    return None


def stop_ray() -> None:
    """Leaves the cluster, or ends the Ray that was started here."""
    ray.shutdown()
