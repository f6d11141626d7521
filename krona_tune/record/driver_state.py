"""Records how far a running study is, for those who watch it: its driver writes a small file every few seconds."""

import logging
from typing import Literal

from pydantic import ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.study.folder import StudyFolder
from krona_tune.study.spec.trial import Frozen

logger = logging.getLogger(__name__)

Stage = Literal["search", "finals", "repeats", "full training", "end"]


class DriverState(Frozen):
    """How far a study is. `trials` counts those of its whole plan, `ended` those that have ended; `seconds_left` is the
    forecast, None if nobody knows; `slots` is how many trials may run at once; `at` is when the driver wrote this
    (seconds since the epoch)."""

    stage: Stage
    trials: int
    ended: int
    seconds_left: float | None = None
    slots: int
    paused: bool = False
    at: float


def write_driver_state(folder: StudyFolder, state: DriverState) -> None:
    """Writes the state; an error is only logged."""
    try:
        write_atomically(folder.state, state.model_dump_json() + "\n")
    except OSError as error:
        logger.warning("%s could not be written: %s", folder.state, error)


def read_driver_state(folder: StudyFolder) -> DriverState | None:
    """Returns what the driver wrote last; None if there is nothing, or it can't be read."""
    try:
        return DriverState.model_validate_json(folder.state.read_bytes())
    except (OSError, ValidationError):
        return None
