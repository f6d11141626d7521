"""How far a trial is inside its rung: a worker writes it beside the trial's checkpoint, whoever looks reads it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krona_tune.study.folder import StudyFolder

SECONDS = 1.0
"""Between two notes."""


@contextmanager
def note_progress(place: Path, share: Callable[[], float]) -> Iterator[None]:
    """While the context lasts, a thread notes what `share` says, from 0 to 1; where it can't be written, nothing is."""
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
    """What was noted last; 0.0 where nothing is, or half a note."""
    try:
        return min(max(float(place_of(folder.checkpoints, trial_id).read_text(encoding="utf-8")), 0.0), 1.0)
    except (OSError, ValueError):
        return 0.0
