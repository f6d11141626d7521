"""Sends what a study records to its copy, from one background thread, so that only the study's end waits for it."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from krona_tune.record.remote.copy import Copy, OvertakenError
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 60.0
"""The pause after a push that failed, doubled by each further one, and its limit."""


class NotPushedError(Exception):
    """The copy lacks something when the study ends."""


class RemoteSink:
    """A sink that pushes at the study's start, after trials' ends (several at once for a slow store) and at its end.

    An unreachable store causes a warning and is tried again. A driver that is lost with its machine loses at most what
    happened after the last push.
    """

    def __init__(self, folder: StudyFolder, *, drain_seconds: float = 60.0) -> None:
        self._folder, self._name, self._drain_seconds = folder, redact(folder.remote or ""), drain_seconds
        self._due, self._ending = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._problem = ""
        self._due.set()
        self._thread = threading.Thread(target=self._serve, name="remote copy", daemon=True)
        self._thread.start()

    def trial_started(self, result: TrialResult) -> None:
        """Does nothing: the push after a trial's end includes it."""

    def reported(self, report: Report) -> None:
        """Does nothing: the push after a trial's end includes it, and every worker already finds the trial's state."""

    def trial_ended(self, result: TrialResult) -> None:
        self._due.set()

    def ordered(self, order: Order) -> None:
        self._due.set()

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Waits until the copy has everything, at most `drain_seconds`. Raises NotPushedError if it does not."""
        self._deadline = time.monotonic() + self._drain_seconds
        self._ending.set()
        self._due.set()
        self._thread.join(self._drain_seconds)
        if self._thread.is_alive() or self._problem:
            why = self._problem or f"still busy after {self._drain_seconds:g} s"
            raise NotPushedError(f"{self._name} lacks the latest changes ({why}); {self._folder.root} has everything")

    def _serve(self) -> None:
        pause = 0.0
        while not self._is_over():
            self._due.wait()
            self._due.clear()
            last = self._ending.is_set()
            try:
                Copy(self._folder).push()
            except OvertakenError as error:
                self._problem = str(error)
                logger.error("%s: %s; nothing more is pushed", self._name, error)
                return
            except Exception as error:
                pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._fail(error)
                (time.sleep if last else self._ending.wait)(pause)
                self._due.set()
            else:
                self._problem, pause = "", 0.0
                if last:
                    return

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def _fail(self, error: Exception) -> None:
        """Keeps the error; logs a warning the first time."""
        said = redact(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}")
        if not self._problem:
            logger.warning("%s: %s; the study continues, the copy is tried again", self._name, said)
        self._problem = said
