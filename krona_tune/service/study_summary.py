"""Summarises a study from its records: how far it is, what it has found, what it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from krona_tune.record.driver_state import read_driver_state
from krona_tune.record.parquet_reader import read_trials
from krona_tune.record.records import Records, read_records
from krona_tune.refusal import Refusal
from krona_tune.report.pages.study_page import spec_of
from krona_tune.report.summary.cost import cost, device_rates
from krona_tune.report.summary.present import UnderWay, present
from krona_tune.report.summary.task_summary import average, judged_together, shared_part, summaries
from krona_tune.service.answers import RunningTrial, State, StudyDetail, StudySummary
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest, read_manifest
from krona_tune.study.order import Order
from krona_tune.study.request.loader import load_spec
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import DriverState, not_begun


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many of the plan's trials have no row yet; None if the request can't be read, and then why."""

    left: int | None
    problem: str = ""


def plan_of(folder: StudyFolder, manifest: Manifest, trials: Sequence[TrialResult]) -> Plan:
    try:
        left = not_begun(load_spec(folder.spec), trials, text_to_text=manifest.model.text_to_text)
    except Refusal as refusal:
        return Plan(left=None, problem=_said(refusal))
    return Plan(left=sum(left.values()))


def records_for_summary(folder: StudyFolder, *, runs: bool) -> Records:
    """Returns the study's trials, as far as they have reported; reads no reports if each trial has ended."""
    trials = read_trials(folder.results)
    if any(trial.status is Status.INTERRUPTED for trial in trials):
        return read_records(folder.results, runs=runs)
    return Records(trials=tuple(trials))


def summarise_study(folder: StudyFolder, *, runs: bool) -> StudySummary:
    """Returns a study's summary; one that can't be read says why."""
    try:
        manifest = read_manifest(folder.manifest)
    except Refusal as refusal:
        return StudySummary(name=folder.name, state="unreadable", problem=_said(refusal))
    try:
        recorded = records_for_summary(folder, runs=runs)
        return summary_of(folder, manifest, recorded, plan_of(folder, manifest, recorded.trials), runs=runs)
    except Refusal as refusal:
        known = StudySummary(name=folder.name, state="unreadable", problem=_said(refusal))
        return known.model_copy(update=_facts(manifest))


def summary_of(folder: StudyFolder, manifest: Manifest, recorded: Records, plan: Plan, *, runs: bool) -> StudySummary:
    """Returns the summary of a study whose records were read."""
    spec = spec_of(folder)
    tasks = judged_together(summaries(recorded, manifest), shared_part(recorded, manifest, spec))
    mean = average(tasks)
    summary = StudySummary(
        name=folder.name,
        state=_state(recorded, plan, runs=runs),
        problem=plan.problem,
        best=mean.best if mean else None,
        head_only=mean.baseline if mean else None,
        device_seconds=cost(recorded.trials, device_rates(spec, manifest)).device_seconds,
        trials=None if plan.left is None else len(recorded.trials) + plan.left,
        ended=sum(row.status is not Status.INTERRUPTED for row in recorded.trials),
    )
    return with_driver(summary.model_copy(update=_facts(manifest)), read_driver_state(folder) if runs else None)


def with_driver(summary: StudySummary, driver: DriverState | None) -> StudySummary:
    """Returns a summary with what the study's driver wrote last, which is newer than what was computed from rows."""
    if driver is None:
        return summary
    said = {"trials": driver.trials, "ended": driver.ended, "seconds_left": driver.seconds_left}
    return summary.model_copy(update=said | {"state": "paused" if driver.waits else "running"})


def detail_of(
    folder: StudyFolder,
    manifest: Manifest,
    recorded: Records,
    summary: StudySummary,
    orders: Sequence[Order],
    driver: DriverState | None,
    *,
    runs: bool,
) -> StudyDetail:
    """Returns a study with what runs now."""
    now = present(folder, manifest, recorded, driver, runs=runs, left=None)
    return StudyDetail(
        **with_driver(summary, now.driver).model_dump(),
        running=[_running(each) for each in now.running],
        orders=list(orders),
        driver=now.driver,
    )


def _running(each: UnderWay) -> RunningTrial:
    trial = each.trial
    return RunningTrial(
        trial=trial.trial_id,
        task=trial.task,
        kind=trial.kind,
        share=each.share,
        rung=each.reached,
        rungs=each.rungs,
        score=trial.score,
        knobs=trial.params,
        proposed_by=trial.proposed_by,
        expected_score=trial.expected_score,
        expected_deviation=trial.expected_deviation,
    )


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "tasks": [facts.title for facts in manifest.tasks.values()],
        "synthetic": manifest.synthetic,
        "begun": manifest.created_at,
        "begun_by": manifest.begun_by,
    }


def _state(recorded: Records, plan: Plan, *, runs: bool) -> State:
    if runs:
        return "running"
    interrupted = any(row.status is Status.INTERRUPTED for row in recorded.trials)
    return "finished" if plan.left == 0 and not interrupted else "stopped"


def _said(refusal: Refusal) -> str:
    return f"{refusal.place.rpartition('/')[2]}: {refusal.problem}"
