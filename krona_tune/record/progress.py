"""Records how much of its full budget a trial has done: a worker writes it beside the trial's checkpoint."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krona_tune.study.folder import StudyFolder

SECONDS = 1.0
"""The time between two notes."""


@contextmanager
def note_progress(place: Path, share: Callable[[], float]) -> Iterator[None]:
    """Writes `share()`, from 0 to 1, in a thread while the context lasts; does nothing if it can't be written."""
    over = threading.Event()

    def note() -> None:
        while not over.wait(SECONDS):
            with suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(f"{share():.3f}", encoding="utf-8")

    thread = threading.Thread(target=note, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            place.unlink(missing_ok=True)


def place_of(checkpoints: Path, trial_id: str) -> Path:
    return checkpoints / trial_id / "progress"


def share_done(folder: StudyFolder, trial_id: str) -> float:
    """Returns the last note; 0.0 if there is none, or only half of one."""
    try:
        return min(max(float(place_of(folder.checkpoints, trial_id).read_text(encoding="utf-8")), 0.0), 1.0)
    except (OSError, ValueError):
        return 0.0
