"""Records how far a running study is, and how far each trial, with its training curve; a trial may be asked to stop."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.record.ownership import driver_start, is_locked
from krona_tune.study.folder import StudyFolder
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.result import Curve, CurvePoint
from krona_tune.study.study_state import DriverState

logger = logging.getLogger(__name__)


def write_driver_state(folder: StudyFolder, state: DriverState) -> None:
    """Writes the state, as that of the process that has the folder; an error is only logged."""
    state = state.model_copy(update={"start": driver_start(folder)})
    try:
        write_atomically(folder.state, state.model_dump_json() + "\n", lasting=False)
    except OSError as error:
        logger.warning("%s could not be written: %s", folder.state, error)


def read_driver_state(folder: StudyFolder) -> DriverState | None:
    """Returns what some driver wrote last; None if there is nothing, or it can't be read."""
    with suppress(OSError, ValidationError):
        return DriverState.model_validate_json(folder.state.read_bytes())
    return None


def running_state(folder: StudyFolder) -> DriverState | None:
    """Returns what the driver that has the study wrote last; None if that has written nothing yet.

    What an earlier driver wrote stays in the folder. It has the id of another start than the file in which this one
    says that it has the folder. A driver elsewhere sends its state with its trials' ends: one that tells of an end is
    an earlier one's, as it is where the driver here could not write which it is.
    """
    state = read_driver_state(folder)
    with suppress(OSError):  # nothing but the records may be read
        if is_locked(folder) and (start := driver_start(folder)):
            return state if state and state.start == start else None
    return None if state is None or state.end else state


def written_at(folder: StudyFolder) -> float | None:
    """Returns when some driver wrote its state last, for `state_since`; None if none has."""
    state = read_driver_state(folder)
    return state.at if state else None


def state_since(folder: StudyFolder, before: float | None) -> DriverState | None:
    """Returns what a driver that was started wrote last, also after its end; None if it wrote nothing.

    Args:
        before: the time of the state that an earlier driver had left when this one was started; None if none had.
    """
    state = read_driver_state(folder)
    return state if state and state.at != before else None


class TrialProgress(FrozenValue):
    """Holds how far a running trial is: the share of its budget, and its training curve since its worker began it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    curve: Curve = ()

    @property
    def last(self) -> CurvePoint | None:
        """Returns the newest point of the curve; None before the first."""
        return self.curve[-1] if self.curve else None


NOTE_SECONDS = 1.0
"""The time between two notes."""
STOP = "stop"


@contextmanager
def note_progress(
    place: Path, progress: Callable[[], TrialProgress], lost: Callable[[], bool] = bool
) -> Iterator[Callable[[], bool]]:
    """Writes `progress()` in a thread while the context lasts, and at its end; does nothing if it can't be written, or
    if the study's folder is `lost`.

    Gives a function that returns whether the trial is asked to stop, as the thread last saw.
    """
    over, stop = threading.Event(), threading.Event()
    asked = place.with_name(STOP)
    if asked.exists():
        stop.set()

    def note() -> None:
        with suppress(OSError):
            if lost():
                return
            if asked.exists():
                stop.set()
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, progress().model_dump_json(), lasting=False)

    def note_until_over() -> None:
        while not over.wait(NOTE_SECONDS):
            note()
        note()

    thread = threading.Thread(target=note_until_over, name="progress", daemon=True)
    thread.start()
    try:
        yield stop.is_set
    finally:
        over.set()
        thread.join()


def forget_progress(place: Path) -> None:
    """Removes what `note_progress` wrote, when the trial has left its worker."""
    with suppress(OSError):
        place.unlink(missing_ok=True)


def place_of(checkpoints: Path, trial_id: str) -> Path:
    return checkpoints / trial_id / "progress"


def progress_of(folder: StudyFolder, trial_id: str) -> TrialProgress:
    """Returns the last note; that of a trial that did nothing if there is none, or it can't be read."""
    with suppress(OSError, ValidationError):
        return TrialProgress.model_validate_json(place_of(folder.checkpoints, trial_id).read_bytes())
    return TrialProgress()


def ask_to_stop(checkpoints: Path, trial_id: str) -> None:
    """Asks a trial's worker to stop at its next step. An error is ignored: the trial is stopped at its next rung."""
    with suppress(OSError):
        place = place_of(checkpoints, trial_id).with_name(STOP)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def forget_to_stop(checkpoints: Path, trial_id: str) -> None:
    """Takes back what `ask_to_stop` asked."""
    with suppress(OSError):
        place_of(checkpoints, trial_id).with_name(STOP).unlink(missing_ok=True)
