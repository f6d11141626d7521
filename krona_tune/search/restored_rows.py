"""Restores rows and reports of trials that the records have lost.

A row is restored from its trial's reports and from the trial's point in the request, in an order or in Optuna's
journal, which knows its end, too. So no trial id gets a second point: its reports and its checkpoint belong to the
first. Of a trial whose reports were lost, the last one is restored from its checkpoint.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from krona_tune.record.records import Records
from krona_tune.record.sink import NullSink
from krona_tune.record.trial_checkpoints import latest_checkpoint, state_name
from krona_tune.refusal import Refusal
from krona_tune.search.clone import clone_number, clone_of
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.searchers.open_samplers import MethodsInTurn, open_samplers, open_shared_sampler
from krona_tune.search.searchers.proposal import Proposal
from krona_tune.search.searchers.shared_searcher import shared_id
from krona_tune.search.searchers.task_sampler import TaskSampler
from krona_tune.search.trial_message import TrialMessage, repeat_of
from krona_tune.study.folder import FULL, StudyFolder
from krona_tune.study.kinds import FULL_TRAININGS, TrialKind, searched_number
from krona_tune.study.order import Order
from krona_tune.study.request.trial import MOST_SEEDS
from krona_tune.study.result import Report, Status, TrialResult, grouped
from krona_tune.train import checkpoint

Number = tuple[str, int]
"""A searched trial: its task, and its number there."""


@dataclass(frozen=True)
class _Journal:
    """Reads the points and ends of a study's searched trials in Optuna's journal: of each task's own search, or of
    configurations that all tasks share. Of these it knows the end of all tasks together only."""

    samplers: Mapping[str, TaskSampler | MethodsInTurn]
    shared: bool

    def point(self, task: str, number: int) -> Proposal | None:
        """Returns a trial's point, and who proposed it; None if it is unknown."""
        sampler = self.samplers[task]
        trial_id = shared_id(number) if self.shared else TrialKind.SEARCH.facts.id_of(task=task, number=number)
        point = sampler.point(trial_id)
        return None if point is None else Proposal(point, sampler.origin(trial_id))

    def end(self, last: Report) -> Status | None:
        """Returns how the trial of a last report ended; None if it goes on, or nobody knows."""
        return None if self.shared else self.samplers[last.task].end(last.trial_id, last.examples)


def last_reports(folder: StudyFolder, rows: Iterable[TrialResult], known: Iterable[Report]) -> list[Report]:
    """Returns the last report of each trial that has lost its reports and whose state is kept."""
    reported = {report.trial_id for report in known}
    states = (
        (row, latest_checkpoint(folder.checkpoints / row.trial_id)) for row in rows if row.trial_id not in reported
    )
    found = (checkpoint.last_report(state, row.fingerprint) for row, state in states if state)
    return [report for report in found if report]


def restore_rows(plan: Plan, folder: StudyFolder, recorded: Records) -> tuple[list[TrialResult], frozenset[Number]]:
    """Returns rows for trials that have reports but no row, and the numbers of those without a known point."""
    rows = {row.trial_id: row for row in recorded.trials}
    lost_rows = (each for each in recorded.reports if each.trial_id not in rows and each.task in plan.spec.tasks)
    without_row = grouped(lost_rows, lambda report: report.trial_id)
    if not without_row:
        return [], frozenset()
    journal = _journal(plan, folder)
    book, lost = Ledger(plan.count, NullSink(), []), set()

    def begin(message: TrialMessage) -> None:
        book.started(message)
        own = without_row[message.trial_id]
        for report in own:
            book.reported(report, str(folder.checkpoints.resolve() / message.trial_id / state_name(report.rung + 1)))
        if end := journal.end(own[-1]):
            book.ended(message.trial_id, end)

    for trial_id, own in without_row.items():
        number = searched_number(trial_id, own[0].task)
        if begun := _as_begun(plan, own[0], number, journal):
            begin(begun)
        elif number is not None:
            lost.add((own[0].task, number))
    for trial_id in [each for each in without_row if each not in book.rows]:  # of those that are there by now
        known = rows | book.rows
        if begun := _clone(plan, trial_id, recorded.orders, known) or _full_training(plan, trial_id, known):
            begin(begun)
    again = list(book.rows.values())
    return _one_at_a_time(again, recorded.trials) if plan.spec.search.shared else again, frozenset(lost)


def _journal(plan: Plan, folder: StudyFolder) -> _Journal:
    request = (plan.spec, plan.space, folder.journal, lambda reason: None)
    if plan.spec.search.shared:
        return _Journal(dict.fromkeys(plan.spec.tasks, open_shared_sampler(*request)), shared=True)
    return _Journal(open_samplers(*request), shared=False)


def _as_begun(plan: Plan, report: Report, number: int | None, journal: _Journal) -> TrialMessage | None:
    """Returns the trial as it was begun; None if it is unknown, or trains a configuration again."""
    task = report.task
    if number is None:
        return next((each for each in plan.baselines(task) if each.trial_id == report.trial_id), None)
    if (known := journal.point(task, number)) is None:
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


def _full_training(plan: Plan, trial_id: str, rows: Mapping[str, TrialResult]) -> TrialMessage | None:
    """Returns a full training as it was ordered; None if the trial is none, or its configuration is unknown."""
    source = trial_id.partition(FULL)[0]
    row = rows.get(source) or next((each for each in rows.values() if each.of == source), None)
    ids = (
        (kind, index, kind.facts.id_of(source=source, index=index))
        for kind in FULL_TRAININGS
        for index in range(1, MOST_SEEDS + 1)
    )
    found = next(((kind, index) for kind, index, its in ids if its == trial_id), None)
    return repeat_of(row, found[0], source, found[1], plan.spec.seed) if row and found else None


def _one_at_a_time(again: Sequence[TrialResult], rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns one row of each shared configuration: when its trial has ended, the searcher runs the other tasks."""
    waiting = {row.number for row in rows if row.searched and not row.ended}
    first = {row.number: row for row in reversed(again) if row.searched and row.number not in waiting}
    return [row for row in again if not row.searched or first.get(row.number) is row]
