"""Ray's trial events, handed to the ledger and the live view; an error here never reaches the study."""

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from ray.tune import Callback

from krona_tune.search.door import trial_of
from krona_tune.search.ledger import Ledger
from krona_tune.search.wording import in_words
from krona_tune.study.result import LastLook, Report, Status

logger = logging.getLogger(__name__)
LOW_ON_MEMORY = "running low on memory"
"""What Ray says of a node whose largest worker it ends before the machine stands still."""


def _guarded(event: Callable[..., None]) -> Callable[..., None]:
    """An exception in a driver callback would end the whole study: it is logged instead."""

    @wraps(event)
    def guarded(*args: Any, **info: Any) -> None:
        try:
            event(*args, **info)
        except Exception:
            logger.exception("the event %s could not be recorded", event.__name__)

    return guarded


class Recorder(Callback):
    """`verdict` turns a trial's last result into its status; `changed` is called after each event."""

    def __init__(
        self, ledger: Ledger, verdict: Callable[[dict[str, Any] | None, bool], Status], changed: Callable[[], None]
    ) -> None:
        self._ledger, self._verdict, self._changed = ledger, verdict, changed

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its driver's objects, a resumed study is rebuilt from its records."""
        return {}

    @_guarded
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.config["trial_id"] not in self._ledger.running:
            self._ledger.started(trial.config)
        self._changed()

    @_guarded
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "report" in result:
            self._ledger.reported(Report(**result["report"]), result["checkpoint"])
        if "test" in result:
            self._ledger.looked(trial.config["trial_id"], LastLook(**result["test"]))
        self._changed()

    @_guarded
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        self._ledger.ended(trial.config["trial_id"], self._verdict(result, False), (result or {}).get("error", ""))
        self._changed()

    @_guarded
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.config["trial_id"] not in self._ledger.running:
            self._ledger.started(trial.config)  # its worker was lost before it began: that is a row too
        status, error = self._verdict(None, True), _last_line(trial)
        if LOW_ON_MEMORY in _last_failure(trial):
            batch_size = trial_of(trial.config).training.batch_size
            size = f"batches of {batch_size}; {in_words(trial.config['params'])}"
            status, error = Status.OUT_OF_MEMORY, f"Ray ended the worker, the node was {LOW_ON_MEMORY}; {size}"
        self._ledger.ended(trial.config["trial_id"], status, error)
        self._changed()


def _last_line(trial: Any) -> str:
    """What Ray says of a trial whose worker is gone."""
    error = getattr(trial, "pickled_error_file", None) and trial.get_pickled_error()
    return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}" if error else "the worker was lost"


def _last_failure(trial: Any) -> str:
    """The text of a trial's last error, which Ray keeps also where it keeps no exception."""
    kept = getattr(trial, "error_file", None)
    text = Path(kept).read_text(encoding="utf-8") if kept and Path(kept).exists() else ""
    return text.rpartition("Failure # ")[2]
