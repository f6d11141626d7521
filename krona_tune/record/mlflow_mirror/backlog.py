"""Finds what MLflow lacks of a study's records."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from krona_tune.record.background_sink import Event, milliseconds
from krona_tune.record.mlflow_mirror import mlflow_names as words
from krona_tune.record.mlflow_mirror.mlflow_runs import StudyRuns
from krona_tune.study.order import Order
from krona_tune.study.result import Report, TrialResult


def missing_events(runs: StudyRuns, rows: Sequence[TrialResult], reports: Sequence[Report]) -> Iterator[list[Event]]:
    """Yields the missing events, in their order, of each trial that lacks any."""
    reports_of: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        reports_of[report.trial_id].append(report)
    for row in rows:
        if events := list(_missing(runs, row, reports_of[row.trial_id])):
            yield events


def missing_orders(runs: StudyRuns, rows: Sequence[TrialResult], orders: Sequence[Order]) -> Iterator[list[Event]]:
    """Yields each order whose last state the experiment does not say, or the run of one of the trials in `rows`."""
    said = runs.client.get_experiment(runs.experiment_id).tags if orders else {}
    recorded = {row.trial_id for row in rows}
    for order in orders:
        about = [runs.trials.get(trial_id) for trial_id in words.trials_of(order) if trial_id in recorded]
        told = [said, *(run.data.tags if run else {} for run in about)]
        if not all(words.order_tag(order).items() <= tags.items() for tags in told):
            yield [Event(what=order, at_ms=milliseconds(order.ended_at or order.given_at))]


def _missing(runs: StudyRuns, row: TrialResult, reports: Sequence[Report]) -> Iterator[Event]:
    """Yields the trial's events that its run lacks, and its end again if anything is missing."""
    run = runs.trials.get(row.trial_id)
    there: set[int] = set()
    if run is None:
        yield Event(what=row, at_ms=milliseconds(row.started_at))
    else:
        there = {point.step for point in runs.client.get_metric_history(run.info.run_id, "score")}
    absent = [(at, report) for at, report in _timed(row, reports) if report.examples not in there]
    for at, report in absent:
        yield Event(what=report, at_ms=milliseconds(at))
    if absent or not says_its_end(runs, row):
        at = row.ended_at or (row.started_at + row.train_seconds + row.evaluation_seconds)
        yield Event(what=row, at_ms=milliseconds(at), ended=True)


def says_its_end(runs: StudyRuns, row: TrialResult) -> bool:
    """Returns whether the trial's run has the trial's final status and tags, which are sent last."""
    run = runs.trials.get(row.trial_id)
    if run is None or run.info.status != words.RUN_STATUS[row.status]:
        return False
    tags: dict[str, str] = run.data.tags
    return words.trial_tags(row).items() <= tags.items()


def _timed(row: TrialResult, reports: Sequence[Report]) -> Iterator[tuple[float, Report]]:
    """Yields each report with its approximate time: the start, plus the seconds that it and those before it took."""
    at = row.started_at
    for report in reports:
        at += report.train_seconds + report.evaluation_seconds
        yield at, report
