"""Runs a study to its end: search, finals, records, adapters and report."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import ray
from rich.console import Console

from krona_tune.record.driver_state import share_done
from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink
from krona_tune.record.notifications import Notifications
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, write_effects
from krona_tune.record.remote_copy import RemoteSink
from krona_tune.record.sink import FanOut, Sink
from krona_tune.record.trial_checkpoints import remove, unneeded
from krona_tune.record.wandb_sink import WandbSink
from krona_tune.refusal import told
from krona_tune.search.artifacts import save_best_adapters, save_trained_adapters
from krona_tune.search.budget import Budget, Rates, StudyClock, spent
from krona_tune.search.forecast import Forecast
from krona_tune.search.full_training import FullTraining, full_work
from krona_tune.search.ledger import Ledger
from krona_tune.search.order_table import ANSWERS, OF_A_FULL_TRAINING
from krona_tune.search.phases import PhaseRunner, finals_phase, finals_reserve, known_phase, repeats_phase, search_phase
from krona_tune.search.planning.plan import Plan
from krona_tune.search.ray_internals import kill_ray
from krona_tune.search.ray_metrics import Reading, StudyMetrics, readings
from krona_tune.search.resume import finals_left, repeats_left, search_left
from krona_tune.search.searchers.task_searcher import OPEN
from krona_tune.search.startup.resources import Started
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_records import Opened, open_records
from krona_tune.search.study_stopper import StudyStopper, interruptible
from krona_tune.search.terminal.live_view import View
from krona_tune.search.tune_host import Phase
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import UNCOUNTED
from krona_tune.study.request.loader import dump_spec
from krona_tune.study.request.study_spec import SearchSpec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import Stage

if TYPE_CHECKING:
    from krona_tune.search.searchers.surrogate import TransferSurrogate

logger = logging.getLogger(__name__)


CLOSING_SECONDS = 4.0
"""How long ending the records may take if Ray was lost: whoever sent a signal to all processes soon kills them."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a study's run.

    `asked`: a person or the system stopped the study. `halted` says why it stopped itself, `lost` why Ray's run was
    abandoned, after which Ray can't be called. `lost_sinks` says which records could not be written, and why; `no_page`
    why the page could not be written, which is only drawn from the records and can be drawn again.
    """

    ledger: Ledger
    asked: bool
    halted: str
    lost: str
    lost_sinks: dict[str, str]
    no_page: str = ""

    @property
    def interrupted(self) -> bool:
        return self.asked or bool(self.halted or self.lost)


@dataclass(frozen=True, kw_only=True)
class Left:
    """The adapters and the page that a study's end has written; `no_page` says why the page could not be."""

    paths: tuple[Path, ...] = ()
    no_page: str = ""


def run(
    started: Started,
    console: Console,
    *,
    tracking_uri: str | None,
    quiet: bool,
    forecast: Forecast | None,
    write_report: Callable[[StudyFolder], Path],
    again: FullTraining | None = None,
    notify: Sequence[str] = (),
    wandb: str | None = None,
    share: int | None = None,
    earlier: EarlierOrders | None = None,
) -> Outcome:
    """Runs the rest of the study until its end or a stop, or only the full training `again`; writes its adapters and
    its report.

    Args:
        wandb: a project of W&B to send the trials to.
        share: the most trials at once until an order changes it; None: as many as the request says.
        earlier: the orders that waited when the command began.
    """
    plan, folder = started.plan, started.folder
    opened = open_records(plan, folder)
    notifications = _notifications(started, () if again else notify, opened.records)
    sinks = FanOut([opened.sink, *_copies(started, tracking_uri, wandb, opened.records), notifications])
    ledger = _ledger(started, sinks, opened)
    clock = StudyClock(folder.clock)
    stopping = StudyStopper(
        Budget() if again else _budget(plan.spec.search), lambda: spent(ledger.rows, clock.seconds())
    )
    done = partial(share_done, folder)
    orders: StudyOrders

    def seconds_left() -> float:
        assert forecast is not None, "without a forecast nobody asks"
        return forecast.left(orders.plan.spec, ledger.rows.values(), done, rates().slots)

    def rates() -> Rates:
        return rates_now(started, orders.allowed)

    left = seconds_left if forecast else None
    view = View(console, ledger, started.manifest.tasks, done, quiet=quiet, seconds_left=left, price=started.price)
    orders = StudyOrders(
        plan,
        folder,
        ledger,
        stopping,
        clock,
        view,
        _most(started, share),
        share=share,
        kept=lambda: ParquetSink.__name__ not in sinks.failures,
        only=OF_A_FULL_TRAINING if again else tuple(ANSWERS),
        earlier=earlier or EarlierOrders(),
    )
    metrics = StudyMetrics(folder.name, lambda: _readings(plan, ledger))

    def changed() -> None:
        if problem := sinks.failures.get(ParquetSink.__name__):
            stopping.halt(f"the records could not be kept: {problem}")
        if not again:
            clock.save()
        view.changed()
        metrics.changed()

    phases = PhaseRunner(
        started=started,
        ledger=ledger,
        stopping=stopping,
        orders=orders,
        view=view,
        changed=changed,
        left=None if again else left,
    )
    if opened.said:
        view.say(opened.said)
    with interruptible(stopping, console):
        with view:
            orders.begin()
            if again:
                _train_fully(phases, again)
            else:
                stopping.reserve = finals_reserve(plan.spec, started.prepared.works, ledger, rates, forecast)
                _search_then_finals(phases)
        if not stopping.lost:
            metrics.changed(last=True)
    with interruptible(stopping, console):
        phases.end()
        for trial_id in list(ledger.running):
            ledger.ended(trial_id, Status.INTERRUPTED)
        if not again:  # the study's own budget does not pay for a full training
            clock.save(now=True)
        nothing = stopping.halted or stopping.lost or not ledger.rows  # a page without a trial is refused
        kept = Left() if nothing else _left(started, ledger, stopping, write_report)
        phases.say_end()
        _tell_of_the_end(stopping, kept, notifications)
        _end(sinks, [folder.spec, folder.manifest, *kept.paths], CLOSING_SECONDS if stopping.lost else None)
        if not stopping.interrupted and not again:
            rows, spec = list(ledger.rows.values()), orders.plan.spec
            remove(folder, unneeded(rows, spec, spec.resources.keep_checkpoints))
    return Outcome(
        ledger=ledger,
        asked=bool(stopping.asked),
        halted=stopping.halted,
        lost=stopping.lost,
        lost_sinks=sinks.failures,
        no_page=kept.no_page,
    )


def rates_now(started: Started, allowed: int) -> Rates:
    """Returns the rates at which trials are trained now, with as many at once as are allowed and have room."""
    slots = started.slots
    room = max(slots.count, started.cluster.room(slots.cpus, slots.gpus))
    return Rates(devices=slots.devices.count, slots=max(1, min(allowed, room)))


def _most(started: Started, share: int | None) -> int:
    """Returns how many trials may run at once. With a share, nodes that do not exist yet may bring slots too."""
    return started.slots.count if share is None else started.plan.spec.resources.max_concurrent or OPEN


def _ledger(started: Started, sinks: FanOut, opened: Opened) -> Ledger:
    spec, orders = started.plan.spec, opened.records.orders
    before = started.manifest.unrecorded_devices(spec.resources)
    ledger = Ledger(
        started.plan.count,
        sinks,
        list(map(before.counted, opened.records.trials)),
        shared_by=spec.shared_by,
        orders=orders,
        devices=started.slots.devices,
    )
    ledger.lost = opened.lost
    return ledger


def _notifications(started: Started, services: Sequence[str], earlier: Records) -> Notifications:
    return Notifications(
        services,
        study=started.folder.name,
        manifest=started.manifest,
        earlier=earlier.trials,
        shared_by=started.plan.spec.shared_by,
    )


def _tell_of_the_end(stopping: StudyStopper, left: Left, notifications: Notifications) -> None:
    if left.no_page:
        notifications.lacks_page()
    if stopping.halted or stopping.lost:
        notifications.halted(stopping.halted or stopping.lost)
    elif stopping.asked:
        notifications.stopped()


def _end(sinks: FanOut, artifacts: list[Path], within: float | None) -> None:
    """Ends the records; waits at most `within` seconds, or without a limit if that is None."""
    ending = Thread(target=sinks.study_ended, args=(artifacts,), name="end of the records", daemon=True)
    ending.start()
    ending.join(within)


def _readings(plan: Plan, ledger: Ledger) -> Iterator[Reading]:
    return readings(list(ledger.rows.values()), set(ledger.running), plan.spec.tasks)


def _search_then_finals(phases: PhaseRunner) -> None:
    """All phases share one budget: the search leaves what finals and repeats will need; a stop ends all."""
    started, ledger, stopping, view, orders = (
        phases.started,
        phases.ledger,
        phases.stopping,
        phases.view,
        phases.orders,
    )
    prepared = started.prepared
    search = search_phase(orders.plan, prepared.works, started.folder, ledger, stopping)
    view.expect(search.new)
    phases.run(search, "search")
    plan = orders.plan
    if search.surrogate and not stopping.interrupted:
        _write_effects(search.surrogate, plan, started.folder)
    reason = f"The budget of {stopping.used_up}" if stopping.used_up else stopping.ended
    if reason and (left := search_left(plan, ledger)):
        view.say(f"{reason} ended the search with {left} {'trial' if left == 1 else 'trials'} to go.")
    stopping.let_finals_end()
    finalists, repeats = plan.spec.finalists, plan.spec.search.repeats
    if stopping.interrupted:
        if finalists.top or repeats.points:
            view.say("The search was stopped before its end, so nothing was trained again with other seeds yet.")
        return

    def train_again(phase: Phase, begins: str, stage: Stage, kind: str, unended: Callable[[], int]) -> bool:
        """Returns whether all trials of the phase have ended."""
        view.expect(phase.new)
        if phase.trials:
            view.say(f"{begins}: {phase.trials} trials.")
        phases.run(phase, stage)
        if left := unended():
            view.say(f"Stopped with {left} of {phase.trials} {kind} to go; they are trained when the study is resumed.")
        return not left

    final = finals_phase(plan.spec, prepared.final_works(), ledger, stopping)
    begins = f"The search is done. Its best are trained again with {finalists.seeds} seeds"
    if train_again(final, begins, "finals", "finalists", lambda: len(finals_left(plan.spec, ledger))):
        again = repeats_phase(plan.spec, prepared.works, ledger, stopping)
        begins = f"The first points are trained again with {repeats.seeds} seeds"
        train_again(again, begins, "repeats", "repeats", lambda: len(repeats_left(plan.spec, ledger)))


def _write_effects(surrogate: "TransferSurrogate", plan: Plan, folder: StudyFolder) -> None:
    """Keeps what the surrogate expects of each knob. An error is only logged: nothing that a trial produced is lost."""
    from krona_tune.search.searchers.surrogate import effects  # no other study loads its packages

    try:
        found = [each for task in plan.spec.tasks for each in effects(surrogate, plan.space, task, plan.spec.seed)]
        write_effects(folder.results, found)
    except Exception:
        logger.exception("the effects of the knobs could not be written")


def _train_fully(phases: PhaseRunner, again: FullTraining) -> None:
    """Trains the configuration on all examples, with those seeds that have not completed."""
    started, ledger, view = phases.started, phases.ledger, phases.view
    works = {again.of.task: full_work(started.plan, started.source.location, again)}
    ended = {row.trial_id for row in ledger.rows.values() if row.status is Status.COMPLETED}
    waiting = [trial for trial in again.trials(started.plan.spec.seed) if trial.trial_id not in ended]
    phase = known_phase(waiting, works, ledger, phases.stopping)
    view.expect(phase.new)
    view.say(f"{again.of.trial_id} again on {again.said}: {len(works[again.of.task].train):,}.")
    phases.run(phase, "full training")


def _budget(search: SearchSpec) -> Budget:
    return Budget(seconds=search.time_budget, examples=search.examples_budget, device_hours=search.device_hours)


def _left(
    started: Started, ledger: Ledger, stopping: StudyStopper, write_report: Callable[[StudyFolder], Path]
) -> Left:
    """Writes the adapters and the page. An error of the adapters halts the study, but keeps its records; one of the
    page is only told, because the page is drawn from the records at any time."""
    paths: list[Path] = []
    no_page = ""
    try:
        place = (started.folder, started.manifest, started.plan)
        paths += save_best_adapters(*place, ledger.standings)
        paths += save_trained_adapters(*place, [row for row in ledger.rows.values() if _fully_trained(row)])
    except Exception as error:
        logger.exception("the adapters could not be written")
        stopping.halt(f"the adapters could not be written: {told(error)}")
    try:
        paths.append(write_report(started.folder))
    except Exception as error:
        logger.exception("the page could not be written")
        no_page = told(error)
    return Left(paths=tuple(paths), no_page=no_page)


def _fully_trained(row: TrialResult) -> bool:
    return row.kind in UNCOUNTED and row.status is Status.COMPLETED


def _copies(started: Started, tracking_uri: str | None, wandb: str | None, earlier: Records) -> Iterator[Sink]:
    """Yields the sinks that keep elsewhere what the records have."""
    folder, manifest = started.folder, started.manifest
    yield MlflowSink(
        tracking_uri=tracking_uri or folder.tracking_uri,
        artifact_location=None if tracking_uri else folder.artifact_location,
        study=folder.name,
        manifest=manifest,
        spec=dump_spec(started.plan.spec),
        earlier=earlier,
    )
    if wandb:
        yield WandbSink(project=wandb, study=folder.name, manifest=manifest, folder=folder.root, earlier=earlier)
    if folder.remote:
        yield RemoteSink(folder)


def stop_ray(outcome: Outcome) -> None:
    """Leaves the cluster, or ends the Ray that was started here; kills the remaining processes of a lost Ray."""
    if outcome.lost:
        kill_ray()
    else:
        ray.shutdown()
