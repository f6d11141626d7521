"""Opens a study's records in its driver, and the sinks that keep copies: restores lost rows, renames unreadable files.

A row is restored from its trial's reports and from the trial's point in the request, in an order or in Optuna's
journal. So no trial id gets a second point: its reports and its checkpoint belong to the first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread

from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink
from krona_tune.record.notifications import Notifications
from krona_tune.record.ownership import refuse_overtaken_here, why_lost
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, read_records
from krona_tune.record.remote_copy import RemoteSink
from krona_tune.record.sink import FanOut, NullSink, Sink
from krona_tune.record.trial_checkpoints import state_name
from krona_tune.record.wandb_sink import WandbSink
from krona_tune.refusal import Refusal
from krona_tune.search.clone import clone_number, clone_of
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.searchers.open_samplers import MethodsInTurn, open_samplers, open_shared_sampler
from krona_tune.search.searchers.proposal import Proposal
from krona_tune.search.searchers.shared_searcher import shared_id
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind, searched_number
from krona_tune.study.order import Order
from krona_tune.study.request.loader import dump_spec
from krona_tune.study.result import Report, TrialResult, grouped
from krona_tune.study.study_state import ALL_DONE, STARTED_AGAIN, End

Number = tuple[str, int]
"""A searched trial: its task, and its number there."""
PointOf = Callable[[str, int], Proposal | None]
"""Returns the point of a searched trial, and who proposed it; None if it is unknown."""


@dataclass(frozen=True, kw_only=True)
class OpenRecords:
    """Holds where records are written, the records of earlier drivers, and the trials that have reports but no point.

    `message` is for the user; empty if nothing was lost.
    """

    sink: ParquetSink
    records: Records
    lost: frozenset[Number]
    message: str

    def ledger(self, context: DriverContext, sinks: Sink) -> Ledger:
        """Returns the study's state as it is recorded; its events go to the sinks from now on."""
        spec = context.plan.spec
        before = context.manifest.unrecorded_devices(spec.resources)
        ledger = Ledger(
            context.plan.count,
            sinks,
            list(map(before.filled_in, self.records.trials)),
            shared_by=spec.shared_by,
            orders=self.records.orders,
            devices=context.slots.devices,
            reports=self.records.reports,
        )
        ledger.lost = self.lost
        return ledger


class StudySinks(FanOut):
    """The sinks of one driver: the records, what is kept of them elsewhere, and the services that are notified.

    A full training (`options.again`) notifies nobody. Of an end after which a queue starts the next driver, nothing is
    told: the queue tells if it starts none.
    """

    def __init__(self, opened: OpenRecords, context: DriverContext, options: DriverOptions) -> None:
        self._queued = options.start.share is not None
        self._notifications: Notifications | None = None
        if options.start.notify and not options.again:
            self._notifications = Notifications(
                options.start.notify,
                study=context.folder.name,
                manifest=context.manifest,
                earlier=opened.records.trials,
                shared_by=context.plan.spec.shared_by,
            )
        told = [self._notifications] if self._notifications else []
        super().__init__([opened.sink, *_copies(context, options.start, opened.records), *told])

    @property
    def unrecorded(self) -> str:
        """Returns why the records lack something now; empty if they have everything."""
        return self.failures.get(ParquetSink.name, "")

    def notify_of_end(self, how: End, reason: str, *, no_page: str) -> None:
        """Tells the services that somebody stopped the study, why it could not go on, or that it has no page."""
        if not (told := self._notifications):
            return
        if no_page:
            told.lacks_page()
        if self._queued and how in STARTED_AGAIN:
            told.goes_on()
        elif reason:
            told.halted(reason)
        elif how != ALL_DONE:
            told.stopped()

    def end(self, artifacts: Sequence[Path], within: float | None) -> None:
        """Ends the records; waits at most `within` seconds, or without a limit if that is None."""
        ending = Thread(target=self.study_ended, args=(artifacts,), name="end of the records", daemon=True)
        ending.start()
        ending.join(within)


def _copies(context: DriverContext, start: StartOptions, earlier: Records) -> Iterator[Sink]:
    """Yields the sinks that keep elsewhere what the records have; the copy first, which a lost machine needs most."""
    folder, manifest = context.folder, context.manifest
    if folder.remote:
        yield RemoteSink(folder, partial(refuse_overtaken_here, folder))
    yield MlflowSink(
        tracking_uri=start.tracking_uri or folder.tracking_uri,
        study=folder.name,
        manifest=manifest,
        spec=dump_spec(context.plan.spec),
        experiment=context.plan.spec.experiment,
        storage=folder.storage,
        earlier=earlier,
    )
    if start.wandb:
        yield WandbSink(project=start.wandb, study=folder.name, manifest=manifest, folder=folder.root, earlier=earlier)


def open_records(plan: Plan, folder: StudyFolder) -> OpenRecords:
    """Opens the records of a new or resumed study; restored rows are written at once."""
    sink = ParquetSink(folder.results, partial(why_lost, folder.root))
    known = read_records(folder.results)
    again, lost = _made_again(plan, folder, known)
    for row in again:
        sink.trial_started(row)
    message = _message(len(sink.unreadable), len(again), len(lost))
    return OpenRecords(sink=sink, records=replace(known, trials=(*known.trials, *again)), lost=lost, message=message)


def _message(files: int, rows: int, lost: int) -> str:
    parts = {
        "Unreadable files of the records, renamed in their folder": files,
        "Trials whose rows were lost, restored from their reports and Optuna's journal": rows,
        "Trials whose rows and points were lost, replaced by new trials": lost,
    }
    return "\n".join(f"{text}: {count}." for text, count in parts.items() if count)


def _made_again(plan: Plan, folder: StudyFolder, recorded: Records) -> tuple[list[TrialResult], frozenset[Number]]:
    """Returns rows for trials that have reports but no row, and the numbers of those without a known point."""
    rows = {row.trial_id: row for row in recorded.trials}
    lost_rows = (each for each in recorded.reports if each.trial_id not in rows and each.task in plan.spec.tasks)
    without_row = grouped(lost_rows, lambda report: report.trial_id)
    if not without_row:
        return [], frozenset()
    point_of = _points(plan, folder)
    book, lost = Ledger(plan.count, NullSink(), []), set()

    def begin(message: TrialMessage) -> None:
        book.started(message)
        for report in without_row[message.trial_id]:
            book.reported(report, str(folder.checkpoints.resolve() / message.trial_id / state_name(report.rung + 1)))

    for trial_id, own in without_row.items():
        number = searched_number(trial_id, own[0].task)
        if begun := _as_begun(plan, own[0], number, point_of):
            begin(begun)
        elif number is not None:
            lost.add((own[0].task, number))
    for trial_id in [each for each in without_row if each not in book.rows]:  # of those that are there by now
        if clone := _clone(plan, trial_id, recorded.orders, rows | book.rows):
            begin(clone)
    again = list(book.rows.values())
    return _one_at_a_time(again, recorded.trials) if plan.spec.search.shared else again, frozenset(lost)


def _points(plan: Plan, folder: StudyFolder) -> PointOf:
    """Returns a function that looks points up in Optuna's journal."""
    request = (plan.spec, plan.space, folder.journal, lambda reason: None)

    def known(sampler: TaskSampler | MethodsInTurn, trial_id: str) -> Proposal | None:
        point = sampler.point(trial_id)
        return None if point is None else Proposal(point, sampler.origin(trial_id))

    if plan.spec.search.shared:
        shared = open_shared_sampler(*request)
        return lambda task, number: known(shared, shared_id(number))
    samplers = open_samplers(*request)
    return lambda task, number: known(samplers[task], TrialKind.SEARCH.facts.id_of(task=task, number=number))


def _as_begun(plan: Plan, report: Report, number: int | None, point_of: PointOf) -> TrialMessage | None:
    """Returns the trial as it was begun; None if it is unknown, or a finalist or repeat, which is chosen again."""
    task = report.task
    if number is None:
        return next((each for each in plan.baselines(task) if each.trial_id == report.trial_id), None)
    if (known := point_of(task, number)) is None:
        return None
    seed, origin = trial_seed(plan.spec, task), known.origin.plain()
    return TrialMessage(report.trial_id, task, number, TrialKind.SEARCH, seed, dict(known.point), **origin)


def _clone(plan: Plan, trial_id: str, orders: Sequence[Order], rows: Mapping[str, TrialResult]) -> TrialMessage | None:
    """Returns a clone as it was ordered; None if the trial is none, or what it changes is unknown."""
    order = next((each for each in orders if each.made == trial_id), None)
    request = order.request if order else None
    if request is None or request.trial not in rows:
        return None
    source = rows[request.trial]
    with suppress(Refusal):  # this version may refuse what an earlier one took
        return clone_of(request, source, clone_number(trial_id, source.task), plan.count)
    return None


def _one_at_a_time(again: Sequence[TrialResult], rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns one row of each shared configuration: when its trial has ended, the searcher runs the other tasks."""
    waiting = {row.number for row in rows if row.searched and not row.ended}
    first = {row.number: row for row in reversed(again) if row.searched and row.number not in waiting}
    return [row for row in again if not row.searched or first.get(row.number) is row]
