"""Defines what a sink is, and a fan-out in which one failing sink never harms the others."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from krona_tune.study.order import Order
from krona_tune.study.result import Report, TrialResult

logger = logging.getLogger(__name__)


class Sink:
    """A receiver of a study's events in the order in which they happen. A trial's end may come without its start.

    A sink that raises keeps later what it could not keep: with a later event, or with the study's end. `name` is what
    people read of where it keeps the events.
    """

    name: ClassVar[str]

    def trial_started(self, result: TrialResult) -> None: ...

    def reported(self, report: Report) -> None: ...

    def trial_ended(self, result: TrialResult) -> None: ...

    def ordered(self, order: Order) -> None:
        """Keeps what became of an order so far."""

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Keeps everything that it received before it returns; `artifacts` are files and folders to keep as well."""


class NullSink(Sink):
    """A sink that keeps nothing, for those who only look at a study."""

    name = "nothing"


class FanOut(Sink):
    """A sink that passes each event to every sink; a sink's error is logged with its traceback and the study continues.

    `failures` says by their names what each sink lacks now, and why: a sink that works again lacks nothing.
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

    def ordered(self, order: Order) -> None:
        self._each(lambda sink: sink.ordered(order))

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        self._each(lambda sink: sink.study_ended(artifacts))

    def _each(self, hand: Callable[[Sink], None]) -> None:
        for sink in self._sinks:
            try:
                hand(sink)
            except Exception as error:
                logger.exception("%s failed", sink.name)
                self.failures[sink.name] = f"{type(error).__name__}: {error}"
            else:
                self.failures.pop(sink.name, None)
