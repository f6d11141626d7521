"""Records for those who watch how far a running study is, and how far each trial, which may be asked there to stop."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path

from pydantic import ValidationError

from krona_tune.atomic_write import write_atomically
from krona_tune.study.folder import StudyFolder
from krona_tune.study.study_state import DriverState

logger = logging.getLogger(__name__)


def write_driver_state(folder: StudyFolder, state: DriverState) -> None:
    """Writes the state; an error is only logged."""
    try:
        write_atomically(folder.state, state.model_dump_json() + "\n", lasting=False)
    except OSError as error:
        logger.warning("%s could not be written: %s", folder.state, error)


def read_driver_state(folder: StudyFolder) -> DriverState | None:
    """Returns what the driver wrote last; None if there is nothing, or it can't be read."""
    with suppress(OSError, ValidationError):
        return DriverState.model_validate_json(folder.state.read_bytes())
    return None


SECONDS = 1.0
"""The time between two notes."""
STOP = "stop"


@contextmanager
def note_progress(place: Path, share: Callable[[], float]) -> Iterator[Callable[[], bool]]:
    """Writes `share()`, from 0 to 1, in a thread while the context lasts; does nothing if it can't be written.

    Gives a function that returns whether the trial is asked to stop, as the thread last saw.
    """
    over, stop = threading.Event(), threading.Event()
    asked = place.with_name(STOP)
    if asked.exists():
        stop.set()

    def note() -> None:
        while not over.wait(SECONDS):
            with suppress(OSError):
                if asked.exists():
                    stop.set()
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(f"{share():.3f}", encoding="utf-8")

    thread = threading.Thread(target=note, name="progress", daemon=True)
    thread.start()
    try:
        yield stop.is_set
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            place.unlink(missing_ok=True)


def place_of(checkpoints: Path, trial_id: str) -> Path:
    return checkpoints / trial_id / "progress"


def share_done(folder: StudyFolder, trial_id: str) -> float:
    """Returns the last note; 0.0 if there is none, or it is no share."""
    with suppress(OSError, ValueError):
        share = float(place_of(folder.checkpoints, trial_id).read_text(encoding="utf-8"))
        return min(max(share, 0.0), 1.0) if isfinite(share) else 0.0
    return 0.0


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
