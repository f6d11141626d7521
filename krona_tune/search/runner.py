"""Run a study to its end: search, finals, records, and what is left."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from rich.console import Console

from krona_tune.record.mlflow_sink import MlflowSink
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.read import read_reports, read_trials
from krona_tune.record.remote.sink import RemoteSink
from krona_tune.record.sink import FanOut
from krona_tune.search.budget import Budget, Rates, spent
from krona_tune.search.cost import Forecast
from krona_tune.search.leave import leave_adapters
from krona_tune.search.ledger import Ledger
from krona_tune.search.metrics import Reading, StudyMetrics, readings
from krona_tune.search.phases import finals_left, finals_phase, finals_reserve, search_left, search_phase
from krona_tune.search.plan import Plan
from krona_tune.search.progress import share_done
from krona_tune.search.start import Started
from krona_tune.search.stopping import Stopping, interruptible
from krona_tune.search.tuning import tune_trials
from krona_tune.search.view import View
from krona_tune.study.folder import StudyFolder
from krona_tune.study.loader import dump_spec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.spec import SearchSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is left at the end. `halted` says why the study stopped itself; `lost_sinks` which records could not be
    kept, and why."""

    ledger: Ledger
    interrupted: bool
    halted: str
    lost_sinks: dict[str, str]


def run(
    started: Started,
    console: Console,
    *,
    tracking_uri: str | None,
    quiet: bool,
    forecast: Forecast | None,
    write_report: Callable[[StudyFolder], Path],
) -> Outcome:
    """Runs what the study has not run yet, to its end or until it is stopped; leaves its adapters and its report."""
    plan, folder = started.plan, started.folder
    earlier = read_trials(folder.results) if folder.results.exists() else []
    remote = [RemoteSink(folder)] if folder.remote else []
    sinks = FanOut([ParquetSink(folder.results), _mirror(started, tracking_uri, earlier), *remote])
    shared_by = plan.spec.tasks if plan.spec.search.shared else ()
    ledger = Ledger(plan.geometry, sinks, earlier, shared_by=shared_by)
    rates = Rates(devices=started.slots.gpus or started.slots.cpus, slots=started.slots.count)
    stopping = Stopping(_budget(plan.spec.search), lambda seconds: spent(ledger.rows, seconds, rates))
    share, slots = partial(share_done, folder), started.slots.count
    left = (lambda: forecast.left(plan.spec, ledger.rows.values(), share, slots)) if forecast else None
    view = View(console, ledger, started.manifest.tasks, share, quiet=quiet, seconds_left=left)
    metrics = StudyMetrics(folder.name, lambda: _readings(plan, ledger, rates))

    def changed() -> None:
        if problem := sinks.failures.get(ParquetSink.__name__):
            stopping.halt(f"the records could not be kept: {problem}")
        view.changed()
        metrics.changed()

    with view, interruptible(stopping, console):
        stopping.reserve = finals_reserve(started, ledger, rates, forecast)
        _search_then_finals(started, ledger, stopping, view, changed)
        metrics.changed(last=True)
    for trial_id in list(ledger.running):
        ledger.ended(trial_id, Status.INTERRUPTED)
    kept = [] if stopping.halted else _left(started, ledger, stopping, write_report)
    sinks.study_ended([folder.spec, folder.manifest, *kept])
    return Outcome(
        ledger=ledger,
        interrupted=stopping.interrupted,
        halted=stopping.halted,
        lost_sinks=sinks.failures,
    )


def _readings(plan: Plan, ledger: Ledger, rates: Rates) -> Iterator[Reading]:
    return readings(list(ledger.rows.values()), set(ledger.running), plan.spec.tasks, rates.devices)


def _search_then_finals(
    started: Started, ledger: Ledger, stopping: Stopping, view: View, changed: Callable[[], None]
) -> None:
    """Both phases share one budget: the search leaves what its finals will need, and a person's stop ends both."""
    search = search_phase(started, ledger, stopping)
    view.expect(search.new)
    tune_trials(started, ledger, search, stopping, changed)
    if limit := stopping.used_up:
        left = search_left(started.plan, ledger)
        view.say(f"The budget of {limit} ended the search with {left} of {search.trials} trials to go.")
    stopping.let_finals_end()
    asked = started.plan.spec.finalists
    if not asked.top:
        return
    if stopping.interrupted:
        view.say("The search was stopped before its end, so nothing was trained again with other seeds yet.")
        return
    final = finals_phase(started, ledger, stopping)
    view.expect(final.new)
    if final.trials:
        view.say(f"The search is done. Its best are trained again with {asked.seeds} seeds: {final.trials} trials.")
    tune_trials(started, ledger, final, stopping, changed)
    if left := len(finals_left(started, ledger)):
        view.say(f"Stopped with {left} of {final.trials} finalists to go; they are trained when the study is resumed.")


def _budget(search: SearchSpec) -> Budget:
    return Budget(seconds=search.time_budget, examples=search.examples_budget, device_hours=search.device_hours)


def _left(
    started: Started, ledger: Ledger, stopping: Stopping, write_report: Callable[[StudyFolder], Path]
) -> list[Path]:
    """The adapters and the report; where they can't be written, the records are kept all the same."""
    left: list[Path] = []
    try:
        left += leave_adapters(started, ledger)
    except Exception as error:
        logger.exception("the adapters could not be written")
        stopping.halt(f"the adapters could not be written: {type(error).__name__}: {error}")
    try:
        left.append(write_report(started.folder))
    except Exception:
        logger.exception("the report could not be written; krona-tune report tries again")
    return left


def _mirror(started: Started, tracking_uri: str | None, earlier: list[TrialResult]) -> MlflowSink:
    folder = started.folder
    return MlflowSink(
        tracking_uri=tracking_uri or folder.tracking_uri,
        artifact_location=None if tracking_uri else folder.artifact_location,
        study=folder.name,
        manifest=started.manifest,
        spec=dump_spec(started.plan.spec),
        earlier=(earlier, read_reports(folder.results) if earlier else []),
    )


def stop_ray() -> None:
    """Leaves the cluster, or ends the Ray that was started here."""
    ray.shutdown()
