"""Records what becomes of each trial that Ray Tune runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from krona_tune.search.ledger import Ledger
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.result import Status


@dataclass(kw_only=True)
class TrialLoop:
    """Records what becomes of a trial, in the order in which it happens.

    Args:
        obey: looks for orders and lets them take effect.
        changed: shows the study's state after each event.
    """

    ledger: Ledger
    stopper: StudyStopper
    changed: Callable[[], None]
    obey: Callable[[], None] = lambda: None

    def start(self, message: TrialMessage) -> None:
        """Records that a trial begins, or goes on after an interruption; another worker changes nothing."""
        if message.trial_id not in self.ledger.running:
            self.ledger.started(message)

    def report(self, message: TrialMessage, step: StepResult) -> None:
        """Records what a step measured: the scores on validation at a rung, and those on the test half at the end."""
        if step.report:
            self.ledger.reported(step.report, step.checkpoint)
        if step.test:
            self.ledger.tested(message.trial_id, step.test)

    def end(self, message: TrialMessage, tune_id: str, result: dict[str, Any] | None) -> None:
        """Records how a trial ended: by itself, by the scheduler's judgement, by an order, or with the study."""
        status = self.stopper.final_status(tune_id, result, False)
        last = StepResult.from_dict(result)
        self.ledger.ended(message.trial_id, status, last.error, last.curve, last.seconds)

    def lose(self, message: TrialMessage, tune_id: str, error: str, *, out_of_memory: bool) -> None:
        """Records the end of a trial that lost its worker, also before its start."""
        self.start(message)
        status = self.stopper.final_status(tune_id, None, True)
        if out_of_memory:
            status, error = Status.OUT_OF_MEMORY, f"{error}; {message.size}"
        self.ledger.ended(message.trial_id, status, error)
