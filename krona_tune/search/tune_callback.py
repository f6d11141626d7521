"""Passes Ray's trial events to the ledger and the live view; no exception from here reaches Tune."""

import logging
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from ray.tune import Callback

from krona_tune.refusal import told
from krona_tune.search.ledger import Ledger
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import StepResult, TrialMessage
from krona_tune.study.formatting import describe_adapter
from krona_tune.study.result import Status

logger = logging.getLogger(__name__)
LOW_ON_MEMORY = "running low on memory"
"""What Ray says when it ends a node's largest worker before the machine runs out of memory."""
CLOSING_SECONDS = 2.0
"""How long the end of recording waits for an event that is being recorded."""


def _recorded(event: Callable[..., None]) -> Callable[..., None]:
    """Makes a callback record an event and then show it, as long as the recorder is open.

    An exception in a driver callback would end the whole study at once. Instead, an error in recording halts the study,
    which continues from its checkpoints when it is resumed; an error in the view is only logged.
    """

    @wraps(event)
    def recorded(self: "Recorder", *args: Any, **info: Any) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                event(self, *args, **info)
            except Exception as error:
                logger.exception("the event %s could not be recorded", event.__name__)
                self._stopping.halt(f"the event {event.__name__} could not be recorded: {told(error)}")
            try:
                self._changed()
            except Exception:
                logger.exception("the event %s could not be shown", event.__name__)

    return recorded


class Recorder(Callback):  # type: ignore[misc]
    """A Tune callback that records the events of trials and calls `changed` after each, and `tick` several times a
    second between them."""

    def __init__(
        self,
        ledger: Ledger,
        stopping: StudyStopper,
        changed: Callable[[], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._stopping, self._changed, self._tick = ledger, stopping, changed, tick
        self._lock, self._closed = threading.RLock(), False

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its driver's objects, but a resumed study is rebuilt from its records."""
        return {}

    def close(self) -> None:
        """Stops recording, so that later events of an abandoned run are ignored."""
        taken = self._lock.acquire(timeout=CLOSING_SECONDS)
        self._closed = True
        if taken:
            self._lock.release()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                self._tick()
            except Exception as error:
                logger.exception("what happens between two events failed")
                self._stopping.halt(f"an order could not be carried out: {told(error)}")

    @_recorded
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        message = TrialMessage.from_dict(trial.config)
        if message.trial_id not in self._ledger.running:
            self._ledger.started(message)

    @_recorded
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        step = StepResult.from_dict(result)
        if step.report:
            self._ledger.reported(step.report, step.checkpoint)
        if step.test:
            self._ledger.tested(trial.config["trial_id"], step.test)

    @_recorded
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        status = self._stopping.verdict(trial.trial_id, trial.last_result, False)
        self._ledger.ended(trial.config["trial_id"], status, StepResult.from_dict(trial.last_result).error)

    @_recorded
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        message = TrialMessage.from_dict(trial.config)
        if message.trial_id not in self._ledger.running:
            self._ledger.started(message)  # its worker was lost before the start: record a row anyway
        status, error = self._stopping.verdict(trial.trial_id, None, True), _last_line(trial)
        if LOW_ON_MEMORY in _last_failure(trial):
            size = f"batches of {message.checked().training.batch_size}; {describe_adapter(message.params)}"
            status, error = Status.OUT_OF_MEMORY, f"Ray ended the worker, the node was {LOW_ON_MEMORY}; {size}"
        self._ledger.ended(message.trial_id, status, error)


def _last_line(trial: Any) -> str:
    """Returns the last line of Ray's error for a trial that lost its worker."""
    error = getattr(trial, "pickled_error_file", None) and trial.get_pickled_error()
    return told(error, -1) if error else "the worker was lost"


def _last_failure(trial: Any) -> str:
    """Returns the text of a trial's last error, which Ray keeps even if it keeps no exception."""
    kept = getattr(trial, "error_file", None)
    text = Path(kept).read_text(encoding="utf-8") if kept and Path(kept).exists() else ""
    return text.rpartition("Failure # ")[2]
