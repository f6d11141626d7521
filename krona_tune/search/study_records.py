"""Opens a study's records in its driver, and the sinks that keep copies; says what was lost, and what is restored."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread

from krona_tune.record.mlflow_mirror.mlflow_sink import MlflowSink, MlflowStore
from krona_tune.record.notifications import Notifications
from krona_tune.record.ownership import refuse_overtaken_here, why_lost
from krona_tune.record.parquet_reader import REPORT_KIND
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, read_records
from krona_tune.record.remote_copy import RemoteSink
from krona_tune.record.sink import FanOut, Sink
from krona_tune.record.wandb_sink import WandbSink, WandbStore
from krona_tune.search.driver_options import DriverOptions
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.restored_rows import Number, last_reports, restore_rows
from krona_tune.search.start_options import StartOptions
from krona_tune.search.startup.begin_study import DriverContext
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import TrialKind
from krona_tune.study.request.loader import dump_spec
from krona_tune.study.result import TrialResult
from krona_tune.study.study_state import ALL_DONE, STARTED_AGAIN, End


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
        MlflowStore(
            tracking_uri=start.tracking_uri or folder.tracking_uri,
            study=folder.name,
            manifest=manifest,
            spec=dump_spec(context.plan.spec),
            experiment=context.plan.spec.experiment,
            storage=folder.storage,
        ),
        earlier,
    )
    if start.wandb:
        yield WandbSink(
            WandbStore(project=start.wandb, study=folder.name, manifest=manifest, folder=folder.root), earlier
        )


def open_records(plan: Plan, folder: StudyFolder) -> OpenRecords:
    """Opens the records of a new or resumed study; restored rows are written at once."""
    sink = ParquetSink(folder.results, partial(why_lost, folder.root))
    known = read_records(folder.results)
    again, lost = restore_rows(plan, folder, known)
    for row in again:
        sink.trial_started(row)
    damaged = any(path.name.startswith(REPORT_KIND.name) for path in sink.unreadable)
    reports = last_reports(folder, (*known.trials, *again), known.reports) if damaged else []
    for report in reports:
        sink.reported(report)
    # Read again, since a row is as far as its reports.
    found = read_records(folder.results) if reports else replace(known, trials=(*known.trials, *again))
    message = _message(found, sink.unreadable, again, lost, len(reports))
    return OpenRecords(sink=sink, records=found, lost=lost, message=message)


def _message(
    found: Records, unreadable: Sequence[Path], again: Sequence[TrialResult], lost: Collection[Number], reports: int
) -> str:
    """Says what was lost, and what of it is restored: rows of trials, and `reports` of others."""
    rows = {row.trial_id for row in found.trials}
    new = {TrialKind.SEARCH.facts.id_of(task=task, number=number) for task, number in lost}
    reported = {report.trial_id for report in found.reports}
    unreported = [row for row in found.trials if row.rung is not None and row.trial_id not in reported]
    parts = {
        "Unreadable files of the records, renamed in their folder": len(unreadable),
        "Trials whose rows were lost, restored from their reports and Optuna's journal": len(again),
        "Of these, trials whose end is not known": sum(not row.ended for row in again),
        "Trials whose rows were lost, restored if finals or repeats train them again": len(reported - rows - new),
        "Trials whose rows and points were lost, replaced by new trials": len(lost),
        "Trials whose reports were lost but for the last one, which their states have": reports,
        "Trials whose reports were lost": len(unreported) if unreadable else 0,
    }
    return "\n".join(f"{text}: {count}." for text, count in parts.items() if count)
