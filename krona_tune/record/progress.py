"""Records how much of its full budget a trial has done, and whether it is asked to stop: two small files beside the
trial's checkpoint, the first written by its worker, the second by the study's driver."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path

from krona_tune.study.folder import StudyFolder

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
    try:
        share = float(place_of(folder.checkpoints, trial_id).read_text(encoding="utf-8"))
        return min(max(share, 0.0), 1.0) if isfinite(share) else 0.0
    except (OSError, ValueError):
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
