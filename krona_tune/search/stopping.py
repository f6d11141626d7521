"""How a study ends before its end: a person presses Ctrl-C, or its time is up."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune
from rich.console import Console

from krona_tune.study.result import Status

logger = logging.getLogger(__name__)


class Stopping(tune.Stopper):
    """Ends the whole run when a person or the clock asks for it."""

    def __init__(self, time_budget: float | None) -> None:
        self.interrupted = False
        self._deadline = time.monotonic() + time_budget if time_budget else None

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.interrupted or self.out_of_time

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
    """Ctrl-C once ends the study at the next moment that loses nothing; twice stops now."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.interrupted:
            raise KeyboardInterrupt
        stopping.interrupted = True
        console.print("Stopping: what has reached a rung is kept. Press Ctrl-C again to stop now.")

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("stopped at once; the trials under way go on from their last rungs when the study is resumed")
    finally:
        signal.signal(signal.SIGINT, previous)
