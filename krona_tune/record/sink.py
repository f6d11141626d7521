"""Where results go: one protocol, and a fan-out in which one failing sink never harms the others."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes a study's events in the order in which they happen. A trial's end may come without its start.

    A sink that raises makes up for it later: with a later event, or with the study's end, it keeps what it could not.
    """

    def trial_started(self, result: TrialResult) -> None: ...

    def reported(self, report: Report) -> None: ...

    def trial_ended(self, result: TrialResult) -> None: ...

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Everything that was taken is kept when this returns; `artifacts` are files and folders to keep beside it."""


class NothingKept:
    """A sink of which nothing is left, for who only looks at a study."""

    def trial_started(self, result: TrialResult) -> None: ...

    def reported(self, report: Report) -> None: ...

    def trial_ended(self, result: TrialResult) -> None: ...

    def study_ended(self, artifacts: Sequence[Path]) -> None: ...


class FanOut:
    """Hands each event to every sink; a sink's error is logged with its traceback and the study goes on.

    `failures` says what each sink lacks now, and why: a sink that works again has made up for it.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self.failures: dict[str, str] = {}

    def trial_started(self, result: TrialResult) -> None:
        self._each(lambda sink: sink.trial_started(result))

    def reported(self, report: Report) -> None:
        self._each(lambda sink: sink.reported(report))

    def trial_ended(self, result: TrialResult) -> None:
        self._each(lambda sink: sink.trial_ended(result))

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        self._each(lambda sink: sink.study_ended(artifacts))

    def _each(self, hand: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            name = type(sink).__name__
            try:
                hand(sink)
            except Exception as error:
                logger.exception("%s failed", name)
                self.failures[name] = f"{type(error).__name__}: {error}"
            else:
                self.failures.pop(name, None)
