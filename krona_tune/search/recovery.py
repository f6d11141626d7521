"""A study's records when its driver opens them: what can't be read is set aside, lost rows are made again.

A row is made again from its trial's reports, and from the point that the request or Optuna's journal knows it by. So no
id is given to another point: its reports and its checkpoint are those of the first.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import Records, read_records
from krona_tune.record.sink import NothingKept
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan, trial_seed
from krona_tune.search.planning.space import Params
from krona_tune.search.searchers.open_samplers import open_samplers, open_shared_sampler
from krona_tune.search.searchers.shared_searcher import shared_id
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.result import Report, Status, TrialResult

Number = tuple[str, int]
"""A searched trial: its task, and its number there."""
PointOf = Callable[[str, int], Params | None]
"""The point of a searched trial; None where nobody knows it."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Where records go, what is known of earlier drivers, and the numbers of trials that have reports and no point.

    `said` is what a person should know of it; empty where nothing was lost.
    """

    sink: ParquetSink
    records: Records
    lost: frozenset[Number]
    said: str


def open_records(plan: Plan, folder: StudyFolder) -> Opened:
    """Opens a study's records to go on with them; the rows that are made again are kept at once."""
    sink = ParquetSink(folder.results)
    known = read_records(folder.results)
    again, lost = _made_again(plan, folder, known.trials, known.reports)
    for row in again:
        sink.trial_started(row)
    said = _said(len(sink.unreadable), len(again), len(lost))
    return Opened(sink=sink, records=replace(known, trials=(*known.trials, *again)), lost=lost, said=said)


def _said(files: int, rows: int, lost: int) -> str:
    parts = {
        "Files of the records that can't be read, set aside beside their place": files,
        "Trials whose rows were lost, taken back from their reports and Optuna's journal": rows,
        "Trials whose rows and points were lost, others take their place": lost,
    }
    return "\n".join(f"{text}: {count}." for text, count in parts.items() if count)


def _made_again(
    plan: Plan, folder: StudyFolder, rows: Sequence[TrialResult], reports: Sequence[Report]
) -> tuple[list[TrialResult], frozenset[Number]]:
    """The rows of trials that have reports and no row, and the numbers of those whose point nobody knows."""
    without_row: dict[str, list[Report]] = defaultdict(list)
    known = {row.trial_id for row in rows}
    for report in reports:
        if report.trial_id not in known and report.task in plan.spec.tasks:
            without_row[report.trial_id].append(report)
    if not without_row:
        return [], frozenset()
    point_of = _points(plan, folder)
    book, lost = Ledger(plan.geometry, NothingKept(), []), set()
    for trial_id, own in without_row.items():
        number = _number(own[0])
        if config := _config(plan, own[0], number, point_of):
            book.started(config)
            for report in own:
                book.reported(report, str(folder.checkpoints.resolve() / trial_id / f"rung-{report.rung + 1}"))
        elif number is not None:
            lost.add((own[0].task, number))
    again = list(book.rows.values())
    return _one_at_a_time(again, rows) if plan.spec.search.shared else again, frozenset(lost)


def _points(plan: Plan, folder: StudyFolder) -> PointOf:
    """Asks Optuna's journal."""
    request = (plan.spec, plan.space, folder.journal, lambda reason: None)
    if plan.spec.search.shared:
        shared = open_shared_sampler(*request)
        return lambda task, number: shared.point(shared_id(number))
    samplers = open_samplers(*request)
    return lambda task, number: samplers[task].point(f"{task}-{number:03d}")


def _number(report: Report) -> int | None:
    """The number of a searched trial; None of a baseline and of a finalist."""
    number = report.trial_id.removeprefix(f"{report.task}-")
    return int(number) if number.isdecimal() else None


def _config(plan: Plan, report: Report, number: int | None, point_of: PointOf) -> TrialMessage | None:
    """The trial as it was begun; None where it is not known, and of a finalist, which the finals choose again."""
    task = report.task
    if number is None:
        return next((each for each in plan.baselines(task) if each.trial_id == report.trial_id), None)
    point = point_of(task, number)
    seed = trial_seed(plan.spec, task)
    return None if point is None else TrialMessage(report.trial_id, task, number, "search", seed, dict(point))


def _one_at_a_time(again: Sequence[TrialResult], rows: Sequence[TrialResult]) -> list[TrialResult]:
    """One row of each configuration that tasks share: when its trial has ended, the searcher goes on to the others."""
    waiting = {row.number for row in rows if row.kind == "search" and row.status is Status.INTERRUPTED}
    first = {row.number: row for row in reversed(again) if row.kind == "search" and row.number not in waiting}
    return [row for row in again if row.kind != "search" or first.get(row.number) is row]
