"""Computes what a study does now: the trials that run, and the orders that were given."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from krona_tune.record.driver_state import share_done
from krona_tune.record.orders import waiting_orders
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.manifest import Manifest
from krona_tune.study.order import Order
from krona_tune.study.result import TrialResult


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """A trial that runs now. `share` of its full budget is done, from 0 to 1; it has reached `reached` of its `rungs`;
    both are 0 if its task's are not known."""

    trial: TrialResult
    share: float
    reached: int
    rungs: int


def trials_under_way(folder: StudyFolder, manifest: Manifest, recorded: Records) -> tuple[UnderWay, ...]:
    """Returns the trials that run, in the order in which they started."""
    running = (row for row in recorded.trials if row.trial_id in recorded.running)
    return tuple(_under_way(folder, manifest, row) for row in running)


def given_orders(folder: StudyFolder, recorded: Records) -> tuple[Order, ...]:
    """Returns every order once, the newest first; those that wait are left out if their place can't be reached."""
    waiting: Sequence[Order] = ()
    with suppress(Refusal, OSError):
        waiting = waiting_orders(folder)
    found = {order.id: order for order in (*waiting, *recorded.orders)}
    return tuple(sorted(found.values(), key=lambda order: (order.given_at, order.id), reverse=True))


def _under_way(folder: StudyFolder, manifest: Manifest, trial: TrialResult) -> UnderWay:
    rungs = facts.rungs if (facts := manifest.tasks.get(trial.task)) else ()
    return UnderWay(
        trial=trial,
        share=share_done(folder, trial.trial_id),
        reached=sum(trial.examples >= rung for rung in rungs),  # it may be evaluated between the rungs too
        rungs=len(rungs),
    )
