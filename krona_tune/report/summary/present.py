"""Computes what a study does now: the trials that run, how far the whole is, and the orders that were given."""

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
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.study_state import DriverState


@dataclass(frozen=True, kw_only=True)
class UnderWay:
    """A trial that runs now. `share` of its full budget is done, from 0 to 1; it has reached `reached` of its `rungs`;
    both are 0 if its task's are not known."""

    trial: TrialResult
    share: float
    reached: int
    rungs: int


@dataclass(frozen=True, kw_only=True)
class Present:
    """What a study does now. `trials` counts those of its plan, None if that is not known, `ended` those that have
    ended; `driver` is what its driver wrote last, None if it doesn't run or hasn't written."""

    runs: bool
    driver: DriverState | None
    trials: int | None
    ended: int
    running: tuple[UnderWay, ...] = ()

    @property
    def paused(self) -> bool:
        return self.driver is not None and self.driver.paused

    @property
    def share(self) -> float | None:
        """Returns which share of the plan's trials has ended, from 0 to 1."""
        return min(self.ended / self.trials, 1.0) if self.trials else None


def present(
    folder: StudyFolder,
    manifest: Manifest,
    recorded: Records,
    driver: DriverState | None,
    *,
    runs: bool,
    left: int | None,
) -> Present:
    """Returns what a study does now.

    Args:
        driver: what its driver wrote last; it counts only if the study runs.
        left: how many of the plan's trials have no row yet; None if that is not known.
    """
    said = driver if runs else None
    begun = len(recorded.trials)
    return Present(
        runs=runs,
        driver=said,
        trials=said.trials if said else None if left is None else begun + left,
        ended=said.ended if said else sum(row.status is not Status.INTERRUPTED for row in recorded.trials),
        running=tuple(
            _under_way(folder, manifest, row) for row in recorded.trials if runs and row.trial_id in recorded.running
        ),
    )


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
