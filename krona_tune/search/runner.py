"""Run a study to its end: workers, search, records, and what is left."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from krona_tune.record.mlflow_sink import MlflowSink
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.read import read_reports, read_trials
from krona_tune.record.sink import FanOut
from krona_tune.search.callback import Recorder
from krona_tune.search.door import plain_trial
from krona_tune.search.leave import leave_adapters
from krona_tune.search.ledger import Ledger
from krona_tune.search.plan import Plan, trial_seed
from krona_tune.search.sampler import open_samplers
from krona_tune.search.scheduler import AshaPerTask
from krona_tune.search.searcher import StudySearcher
from krona_tune.search.start import Started
from krona_tune.search.stopping import Stopping, interruptible
from krona_tune.search.trainable import KronaTrial, Workplace
from krona_tune.search.view import View
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import dump_spec
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)
RETRIES = 2
"""How often a trial whose worker was lost is taken up again, from its last rung."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is left at the end. `lost_sinks` says which records could not be kept, and why."""

    ledger: Ledger
    interrupted: bool
    out_of_time: bool
    lost_sinks: dict[str, str]


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
    with view, interruptible(stopping, console):
        _tune(started, ledger, waiting, remaining, stopping, view.changed)
    for trial_id in list(ledger.running):
        ledger.ended(trial_id, Status.INTERRUPTED)
    adapters = leave_adapters(started, ledger)
    sinks.study_ended([folder.spec, folder.manifest, *_page(write_report, folder), *adapters])
    return Outcome(
        ledger=ledger,
        interrupted=stopping.interrupted,
        out_of_time=stopping.out_of_time,
        lost_sinks=sinks.failures,
    )


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


def _mirror(started: Started, tracking_uri: str | None) -> MlflowSink:
    folder = started.folder
    return MlflowSink(
        tracking_uri=tracking_uri or folder.tracking_uri,
        artifact_location=None if tracking_uri else folder.artifact_location,
        study=folder.name,
        manifest=started.manifest,
        spec=dump_spec(started.plan.spec),
    )


def stop_ray() -> None:
    """Leaves the cluster, or ends the Ray that was started here."""
    ray.shutdown()
