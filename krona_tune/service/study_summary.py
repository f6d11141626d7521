"""Summarises a study from its records: how far it is, what it has found, what it took."""

from typing import Any

from krona_tune.record.parquet_reader import read_orders
from krona_tune.record.records import Records, read_trials_so_far
from krona_tune.refusal import Refusal
from krona_tune.report.study_results import StudyResults, request_text
from krona_tune.search.progress.study_status import StudyStatus, read_status
from krona_tune.service.response_models import StudySummary
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.study_state import UNREADABLE, DriverState, running_trials


def recorded_status(folder: StudyFolder, results: StudyResults, *, runs: bool) -> StudyStatus:
    """Returns the state of a study whose records were read."""
    recorded = results.recorded
    return read_status(folder, recorded.trials, recorded.orders, runs=runs, manifest=results.manifest)


def records_for_summary(folder: StudyFolder, *, runs: bool) -> Records:
    """Returns the study's trials, as far as they have reported; reads no reports if each trial has ended."""
    trials = tuple(read_trials_so_far(folder.results))
    running = running_trials(trials) if runs else frozenset()
    return Records(trials=trials, running=running, orders=tuple(read_orders(folder.results)))


def summarise_study(folder: StudyFolder, *, runs: bool) -> StudySummary:
    """Returns a study's summary; one that can't be read says why."""
    try:
        manifest = read_manifest(folder.manifest)
    except Refusal as refusal:
        return StudySummary(name=folder.name, state=UNREADABLE, problem=_refusal_text(refusal))
    try:
        recorded = records_for_summary(folder, runs=runs)
        results = StudyResults(manifest=manifest, recorded=recorded, spec=request_text(folder))
        return summary_of(folder, results, recorded_status(folder, results, runs=runs))
    except Refusal as refusal:
        return StudySummary(name=folder.name, state=UNREADABLE, problem=_refusal_text(refusal), **_facts(manifest))


def summary_of(folder: StudyFolder, results: StudyResults, status: StudyStatus) -> StudySummary:
    """Returns the summary of a study whose records were read; its problem is that of its request, if that has one."""
    mean, state = results.average, status.state
    return StudySummary(
        name=folder.name,
        state=state.word,
        problem=_refusal_text(status.problem) if status.problem else "",
        best=mean.best if mean else None,
        head_only=mean.baseline if mean else None,
        device_seconds=results.cost.device_seconds,
        trials=state.trials,
        ended=state.ended,
        seconds_left=state.seconds_left,
        verdicts=[text for each in results.tasks for text in each.verdicts.all],
        winners={each.task: each.winner.trial_id for each in results.tasks if each.winner},
        chosen={each.task: each.chosen.trial_id for each in results.tasks if each.chosen},
        **_facts(results.manifest),
    )


def with_driver(summary: StudySummary, driver: DriverState | None) -> StudySummary:
    """Returns a summary with what the study's driver wrote last, which is newer than what was computed from rows."""
    if driver is None:
        return summary
    said = {"trials": driver.trials, "ended": driver.ended, "seconds_left": driver.seconds_left}
    return summary.model_copy(update=said | {"state": driver.word})


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "tasks": list(manifest.tasks),
        "titles": [facts.title for facts in manifest.tasks.values()],
        "synthetic": manifest.synthetic,
        "begun": manifest.created_at,
        "begun_by": manifest.begun_by,
    }


def _refusal_text(refusal: Refusal) -> str:
    return f"{refusal.place.rpartition('/')[2]}: {refusal.problem}"
