"""How a study ends before its end: a person presses Ctrl-C, its budget is used up, what it learns can't be kept, or Ray
is lost."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune
from rich.console import Console

from krona_tune.search.budget.budget import Amount, Budget
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)


class StudyStopper(tune.Stopper):  # type: ignore[misc]
    """Ends the whole run when a person or the budget asks for it, or when it can't go on.

    `asked`: a person, or the system, asked for it. `halted` says why nothing more could be kept. `lost` says why Ray's
    run was abandoned: nothing of Ray may be called from then on.

    Args:
        budget: what the study may use.
        spent: what it has used so far.
    """

    def __init__(self, budget: Budget, spent: Callable[[], Amount]) -> None:
        self.asked, self.halted, self.lost = False, "", ""
        self.reserve: Callable[[], Amount] = Amount
        self._budget, self._spent = budget, spent
        self._verdicts: dict[str, Status] = {}

    @property
    def interrupted(self) -> bool:
        """Whether the study ends before its end, with trials that go on when it is resumed."""
        return self.asked or bool(self.halted or self.lost)

    @property
    def used_up(self) -> str | None:
        """Which limit is reached, in words, where what is reserved counts as used; None while there is some left."""
        if self._budget == Budget():
            return None
        return self._budget.used_up(self._spent(), self.reserve())

    def halt(self, reason: str) -> None:
        """Ends the run as a person would, since what comes could not be kept; the first reason is kept."""
        if not self.halted:
            logger.error("stopping: %s", reason)
        self.halted = self.halted or reason

    def abandon(self, reason: str) -> None:
        """Leaves Ray's run as it is; the first reason is kept."""
        logger.error("Ray's run is abandoned: %s", reason)
        self.lost = self.lost or reason

    def let_finals_end(self) -> None:
        """From here on only the clock ends the run: what the finals need was reserved, and trials that were under way
        may have used a little of it."""
        self.reserve, self._budget = Amount, Budget(seconds=self._budget.seconds)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its driver's objects, a resumed study is rebuilt from its records."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Asked after each result; a trial that ends as interrupted could not keep its state."""
        if result.get("status") == Status.INTERRUPTED:
            self.halt(result["error"])
        return False

    def stop_all(self) -> bool:
        return self.interrupted or self.used_up is not None

    def verdict(self, tune_id: str, result: dict[str, Any] | None, error: bool) -> Status:
        """The status that a trial's last result amounts to, by Tune's id of the trial.

        It is decided once, when it is first asked for: Optuna and the records are told the same, also where the study
        is asked to stop between the two.
        """
        if tune_id not in self._verdicts:
            self._verdicts[tune_id] = self._decide(result, error)
        return self._verdicts[tune_id]

    def _decide(self, result: dict[str, Any] | None, error: bool) -> Status:
        if self.lost:
            return Status.INTERRUPTED
        if error:
            return Status.FAILED
        if result and "status" in result:
            return Status(result["status"])
        if self.stop_all() or not result or "score" not in result:
            return Status.INTERRUPTED
        return Status.STOPPED_EARLY


@contextmanager
def interruptible(stopping: StudyStopper, console: Console) -> Iterator[None]:
    """Ctrl-C once, or SIGTERM as a cluster's scheduler sends it, ends the study at the next moment that loses nothing;
    a second one stops now."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = True
        console.print("Stopping: what has reached a rung is kept. Press Ctrl-C again to stop now.")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("stopped at once; the trials under way go on from their last rungs when the study is resumed")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
