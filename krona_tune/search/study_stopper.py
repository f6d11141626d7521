"""Stops a study early: a person presses Ctrl-C, its budget is used up, its records can't be written, or Ray is lost."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, Literal

from rich.console import Console

from krona_tune.search.budget import Amount, Budget
from krona_tune.search.signals import HANGUP, leave_closed_terminal, listen, listen_as_before
from krona_tune.study.redact import redact
from krona_tune.study.result import Status
from krona_tune.study.study_state import ALL_DONE, End

logger = logging.getLogger(__name__)

Asked = Literal["", "cancelled", "interrupted", "terminated"]
"""How somebody asked a driver to end: by an order, or by a signal of a person or of the system."""


class StudyStopper:
    """Ends the whole run on a person's request, at the budget's end, or when it can't continue.

    `asked` says how a person or the system requested it. `halted` says why the study stopped itself. `lost` says why
    Ray's run was abandoned: Ray must not be called from then on.

    `ended` says who ordered that the search ends; the finals follow. `stopped` has Tune's ids of the trials that
    somebody ordered to stop, `judged` of those that the scheduler has ended because of their scores. `end_decided`:
    nothing changes how the driver ends; a signal only cuts short what it still does. `at_once`: a second request came;
    Python drops the KeyboardInterrupt that it raises if an object is being freed meanwhile, so whoever waits for trials
    looks at it.

    `limits` are those that still hold: the finals may lift some.

    Args:
        budget: what the study may use.
        spent: returns what it has used so far.
    """

    def __init__(self, budget: Budget, spent: Callable[[], Amount]) -> None:
        self.asked: Asked = ""
        self.halted, self.lost, self.ended = "", "", ""
        self.stopped: set[str] = set()
        self.judged: set[str] = set()
        self.end_decided = self.at_once = False
        self.reserve: Callable[[], Amount] = Amount
        self.limits, self._spent = budget, spent
        self._final: dict[str, Status] = {}

    @property
    def interrupted(self) -> bool:
        """Returns whether the study is stopped with trials that continue when it is resumed."""
        return bool(self.asked or self.halted or self.lost)

    @property
    def end(self) -> tuple[End, str]:
        """Returns how the driver ends if the study ends now, and, if that is a trouble, why, without passwords.

        A run that was abandoned after somebody had asked for its end, as by a second request, is no trouble.
        """
        if self.lost and not self.asked:
            return "lost", redact(self.lost)
        return ("halted", redact(self.halted)) if self.halted else (self.asked or ALL_DONE, "")

    @property
    def used_up(self) -> str | None:
        """Returns the limit that is reached, in words, with the reserve counted as used; None if none is reached."""
        if self.limits == Budget():
            return None
        return self.limits.used_up(self._spent(), self.reserve())

    def allow(self, seconds: float | None) -> None:
        """Changes the limit of time on the clock; None lifts it."""
        self.limits = replace(self.limits, seconds=seconds)

    def ask(self, how: Asked) -> None:
        """Ends the run at the next safe moment; keeps how it was asked first, or that nobody asked before its end was
        decided."""
        if not self.end_decided:
            self.asked = self.asked or how

    def halt(self, reason: str) -> None:
        """Ends the run as a person would, because it can't go on as it is; keeps the first reason."""
        if not self.halted:
            logger.error("stopping: %s", reason)
        self.halted = self.halted or reason

    def abandon(self, reason: str) -> None:
        """Abandons Ray's run as it is; keeps the first reason."""
        logger.error("Ray's run is abandoned: %s", reason)
        self.lost = self.lost or reason

    def let_finals_end(self, used: Amount = Amount()) -> None:  # noqa: B008
        """Lifts each limit except time that pays for the finals: what they need was reserved, but trials that were
        running may have used a little of it. A limit that is less than the finals alone need stays.

        Args:
            used: what finals have used already.
        """
        left = self.reserve()
        kept = {
            name: limit
            for name, limit in vars(self.limits).items()
            if name == "seconds" or (limit is not None and getattr(used, name) + getattr(left, name) > limit)
        }
        self.reserve, self.limits, self.ended = Amount, Budget(**kept), ""

    def stop(self, tune_id: str, result: dict[str, Any]) -> bool:
        """Returns whether somebody ordered to stop the trial. Halts the study if a result is interrupted, because its
        worker could not write its state, or could not load the backbone."""
        if result.get("status") == Status.INTERRUPTED:
            self.halt(result["error"])
        return tune_id in self.stopped

    def stop_all(self) -> bool:
        return self.interrupted or bool(self.ended) or self.used_up is not None

    def final_status(self, tune_id: str, result: dict[str, Any] | None, error: bool) -> Status:
        """Returns the final status of a trial, given by Tune's id, from its last result.

        It is decided at the first call only, so that Optuna and the records get the same status, even if the study is
        asked to stop between the two calls.
        """
        if tune_id not in self._final:
            self._final[tune_id] = self._decide(tune_id, result, error)
        return self._final[tune_id]

    def _decide(self, tune_id: str, result: dict[str, Any] | None, error: bool) -> Status:
        if self.lost:
            return Status.INTERRUPTED
        if error:
            return Status.FAILED
        if result and "status" in result:
            return Status(result["status"])
        if tune_id in self.stopped:
            return Status.STOPPED_BY_USER
        # one that is judged by the report that uses up the budget has ended
        over = self.interrupted if tune_id in self.judged else self.stop_all()
        return Status.INTERRUPTED if over or not result or "score" not in result else Status.STOPPED_EARLY


@contextmanager
def interruptible(stopper: StudyStopper, console: Console) -> Iterator[None]:
    """Makes a first Ctrl-C, SIGTERM from a cluster's scheduler, or a terminal that is closed end the study without loss
    at the next safe moment; a second one stops it at once, but for that of a terminal, which may come several times.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        repeated = stopper.asked or stopper.end_decided
        if number == HANGUP:
            leave_closed_terminal()
        elif repeated:
            stopper.at_once = True
            raise KeyboardInterrupt
        if not repeated:
            pressed = number == signal.SIGINT
            stopper.ask("interrupted" if pressed else "terminated")
            again = "Press Ctrl-C again to stop" if pressed else "A second signal stops it"
            console.print(f"Stopping: the state of each trial's last rung is kept. {again} now.")

    previous = listen(ask)
    try:
        yield
    except KeyboardInterrupt:
        trials, copies = "running trials continue from their last rungs", "copies of the records are completed"
        said = f"Stopped at once; {copies if stopper.end_decided else trials} when the study is resumed."
        logger.warning(said)
        console.print(said)
    finally:
        listen_as_before(previous)
