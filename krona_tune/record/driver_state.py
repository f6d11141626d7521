"""Records how far a running study is, for those who watch it: its driver writes a small file every few seconds."""

import logging
from typing import Literal

from pydantic import ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.trial import Frozen

logger = logging.getLogger(__name__)

Stage = Literal["search", "finals", "repeats", "full training", "end"]
End = Literal["", "finished", "cancelled", "interrupted", "terminated", "halted", "lost"]
"""How a driver ended: the study's end, an order, Ctrl-C, the system's SIGTERM, a fault, the loss of Ray."""


class DriverState(Frozen):
    """How far a study is. `trials` counts those of its whole plan, `ended` those that have ended; `seconds_left` is the
    forecast, None if nobody knows; `slots` is how many trials may run at once, `most` is that without the `share` that
    a queue leaves to the study (None: no queue runs it); `at` is when the driver wrote this (seconds since the epoch).
    `end` says how the driver ended, `reason` why; both are empty before."""

    stage: Stage
    trials: int
    ended: int
    seconds_left: float | None = None
    slots: int
    most: int | None = None
    share: int | None = None
    paused: bool = False
    end: End = ""
    reason: str = ""
    at: float

    @property
    def waits(self) -> bool:
        """Returns whether no trial may run: somebody paused the study, or its queue gives it nothing now."""
        return self.paused or self.share == 0


def write_driver_state(folder: StudyFolder, state: DriverState) -> None:
    """Writes the state; an error is only logged."""
    try:
        write_atomically(folder.state, state.model_dump_json() + "\n", lasting=False)
    except OSError as error:
        logger.warning("%s could not be written: %s", folder.state, error)


def read_driver_state(folder: StudyFolder) -> DriverState | None:
    """Returns what the driver wrote last; None if there is nothing, or it can't be read."""
    try:
        return DriverState.model_validate_json(folder.state.read_bytes())
    except (OSError, ValidationError):
        return None
