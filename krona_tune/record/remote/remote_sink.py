"""Sends what a study records to its copy, from a background thread, so that only the study's end waits for it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from krona_tune.record.background import DRAIN_SECONDS, Worker
from krona_tune.record.remote.copy import Copy, OvertakenError
from krona_tune.record.sink import NothingKept
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import TrialResult

logger = logging.getLogger(__name__)


class NotPushedError(Exception):
    """The copy lacks something when the study ends."""


class RemoteSink(NothingKept):
    """A sink that pushes at the study's start, after trials' ends (several at once for a slow store) and at its end.

    A trial's start and its reports are pushed after the trial's end; every worker finds the trial's state before. An
    unreachable store causes a warning and is tried again. A driver that is lost with its machine loses at most what
    happened after the last push.
    """

    def __init__(self, folder: StudyFolder, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._folder, self._name, self._overtaken = folder, redact(folder.remote or ""), ""
        self._worker: Worker[str] = Worker(
            self._push,
            name=self._name,
            patience=lambda: drain_seconds,
            failing="%s: %s; the study continues, the copy is tried again",
            recovery="",
        )
        self._worker.put(folder.name)

    def trial_ended(self, result: TrialResult) -> None:
        self._worker.put(result.trial_id)

    def ordered(self, order: Order) -> None:
        self._worker.put(order.id)

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Waits until the copy has everything, at most `drain_seconds`. Raises NotPushedError if it does not."""
        if why := self._worker.drain() or self._overtaken:
            raise NotPushedError(f"{self._name} lacks the latest changes ({why}); {self._folder.root} has everything")

    def _push(self, changed: Sequence[str], last: bool) -> None:
        """Pushes once, whatever has changed; nothing more after another driver has continued the study."""
        if self._overtaken:
            return
        try:
            Copy(self._folder).push()
        except OvertakenError as error:
            self._overtaken = str(error)
            logger.error("%s: %s; nothing more is pushed", self._name, error)
