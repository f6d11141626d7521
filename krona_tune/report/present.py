"""Computes what a study does now: the trials that run, and the orders that were given."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from krona_tune.record.driver_state import progress_of
from krona_tune.record.orders import waiting_orders
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.result import TrialResult


class RunningTrial(BaseModel):
    """A trial that runs now; `share` of its full budget is done, from 0 to 1. `rung` counts the rungs it has reached,
    of `rungs` in all."""

    trial: str
    task: str
    kind: str
    share: float
    rung: int
    rungs: int
    score: float | None
    knobs: dict[str, Any]
    proposed_by: str
    expected_score: float | None
    expected_deviation: float | None


def trials_under_way(folder: StudyFolder, manifest: Manifest, recorded: Records) -> list[RunningTrial]:
    """Returns the trials that run, in the order in which they started."""
    return [_running(folder, manifest, row) for row in recorded.trials if row.trial_id in recorded.running]


def given_orders(folder: StudyFolder, recorded: Records) -> tuple[Order, ...]:
    """Returns every order once, the newest first; those that wait are left out if their place can't be reached."""
    waiting: Sequence[Order] = ()
    with suppress(Refusal, OSError):
        waiting = waiting_orders(folder)
    found = {order.id: order for order in (*waiting, *recorded.orders)}
    return tuple(sorted(found.values(), key=lambda order: (order.given_at, order.id), reverse=True))


def _running(folder: StudyFolder, manifest: Manifest, trial: TrialResult) -> RunningTrial:
    rungs = facts.rungs if (facts := manifest.tasks.get(trial.task)) else ()
    reached = sum(trial.examples >= rung for rung in rungs)  # it may be evaluated between the rungs too
    fields = RunningTrial.model_fields.keys() - {"rung"}
    return RunningTrial(
        trial=trial.trial_id,
        share=progress_of(folder, trial.trial_id).share,
        rung=reached,
        rungs=len(rungs),
        knobs=trial.params,
        **{name: value for name, value in vars(trial).items() if name in fields},
    )
