"""How a study ends before its end: a person presses Ctrl-C, its budget is used up, or what it learns can't be kept."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune
from rich.console import Console

from krona_tune.search.budget import Amount, Budget
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)


class Stopping(tune.Stopper):
    """Ends the whole run when a person or the budget asks for it, or when nothing more could be kept.

    `halted` says why nothing more could be kept.

    Args:
        budget: what the study may use.
        spent: what it has used so far, given the seconds since this was made.
    """

    def __init__(self, budget: Budget, spent: Callable[[float], Amount]) -> None:
        self.interrupted, self.halted = False, ""
        self.reserve: Callable[[], Amount] = Amount
        self._budget, self._spent, self._began = budget, spent, time.monotonic()

    @property
    def used_up(self) -> str | None:
        """Which limit is reached, in words, where what is reserved counts as used; None while there is some left."""
        if self._budget == Budget():
            return None
        return self._budget.used_up(self._spent(time.monotonic() - self._began), self.reserve())

    def halt(self, reason: str) -> None:
        """Ends the run as a person would, since what comes could not be kept; the first reason is kept."""
        if not self.halted:
            logger.error("stopping: %s", reason)
        self.interrupted, self.halted = True, self.halted or reason

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

    def verdict(self, result: dict[str, Any] | None, error: bool) -> Status:
        """The status that a trial's last result amounts to."""
        if error:
            return Status.FAILED
        if result and "status" in result:
            return Status(result["status"])
        if self.stop_all() or not result or "score" not in result:
            return Status.INTERRUPTED
        return Status.STOPPED_EARLY


@contextmanager
def interruptible(stopping: Stopping, console: Console) -> Iterator[None]:
    """Ctrl-C once, or SIGTERM as a cluster's scheduler sends it, ends the study at the next moment that loses nothing;
    a second one stops now."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.interrupted:
            raise KeyboardInterrupt
        stopping.interrupted = True
        console.print("Stopping: what has reached a rung is kept. Press Ctrl-C again to stop now.")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("stopped at once; the trials under way go on from their last rungs when the study is resumed")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
