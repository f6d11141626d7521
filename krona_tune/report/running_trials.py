"""Computes what a study does now: the trials that run, with their training curves."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from krona_tune.record.driver_state import progress_of
from krona_tune.record.records import Records
from krona_tune.study.folder import StudyFolder
from krona_tune.study.kinds import FULL_TRAININGS
from krona_tune.study.manifest import Manifest
from krona_tune.study.result import Report, TrialResult, curve_columns, grouped


class RunningTrial(BaseModel):
    """A trial that runs now; `share` of its full budget is done, from 0 to 1. `rung` counts the rungs it has reached,
    of `rungs` in all, 0 of a full training, which has none. `epoch_examples` are those of an epoch; null if nobody
    knows, as of a full training before its first report. `curve_examples`, `curve_loss` and `curve_learning_rate` are
    its training curve so far, as in the rows of reports; a loss that is no finite number is null."""

    trial: str
    task: str
    kind: str
    share: float
    rung: int
    rungs: int
    epoch_examples: float | None = None
    score: float | None
    knobs: dict[str, Any]
    proposed_by: str
    expected_score: float | None
    expected_deviation: float | None
    curve_examples: list[int] = []
    curve_loss: list[float | None] = []
    curve_learning_rate: list[float] = []


def trials_under_way(folder: StudyFolder, manifest: Manifest, recorded: Records) -> list[RunningTrial]:
    """Returns the trials that run, in the order in which they started."""
    rows = [row for row in recorded.trials if row.trial_id in recorded.running]
    reports = grouped(
        (each for each in recorded.reports if each.trial_id in recorded.running), lambda each: each.trial_id
    )
    return [_running(folder, manifest, row, reports[row.trial_id]) for row in rows]


def _running(folder: StudyFolder, manifest: Manifest, trial: TrialResult, reports: Sequence[Report]) -> RunningTrial:
    facts, apart = manifest.tasks.get(trial.task), trial.kind in FULL_TRAININGS
    rungs = facts.rungs if facts and not apart else ()
    reached = sum(trial.examples >= rung for rung in rungs)  # it may be evaluated between the rungs too
    values = {name: value for name, value in vars(trial).items() if name in RunningTrial.model_fields.keys() - {"rung"}}
    progress = progress_of(folder, trial.trial_id)
    curves = (*(each.curve for each in reports), progress.curve)
    known = {point.examples: point for curve in curves for point in curve}
    values |= curve_columns(tuple(known[examples] for examples in sorted(known)))
    return RunningTrial(
        trial=trial.trial_id,
        share=max(progress.share, trial.examples / rungs[-1] if rungs else 0.0),  # it has no note while it is paused
        rung=reached,
        rungs=len(rungs),
        epoch_examples=_of_an_epoch(reports) if apart else (facts.train_examples or None) if facts else None,
        knobs=trial.params,
        **values,
    )


def _of_an_epoch(reports: Sequence[Report]) -> float | None:
    """Returns the training examples of an epoch, by the last report of a trial; None without one."""
    return reports[-1].examples / reports[-1].epochs if reports and reports[-1].epochs else None
