"""Counts the seconds for which a study was driven, over all its drivers."""

import json
import logging
import time
from pathlib import Path

from krona_tune.atomic_write import write_atomically

logger = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
"""The time between two writes: at most this much of a killed driver's time is not counted."""


class StudyClock:
    """A clock that starts at what earlier drivers wrote into the study's folder; at 0 if the file can't be read."""

    def __init__(self, path: Path) -> None:
        self._path, self._earlier = path, _read(path)
        self._began = self._saved_at = time.monotonic()
        self._stood: float | None = None

    def seconds(self) -> float:
        """Returns the seconds of this driver and those before it, without those for which it stood still."""
        return self._earlier + (self._stood or time.monotonic()) - self._began

    def stand(self, still: bool) -> None:
        """Stops counting, or counts again, as when a study is paused."""
        if still and self._stood is None:
            self._stood = time.monotonic()
        elif not still and self._stood is not None:
            self._began += time.monotonic() - self._stood
            self._stood = None

    def save(self, *, now: bool = False) -> None:
        """Writes the seconds if the last write was at least SAVE_SECONDS ago or `now` is true."""
        if not now and time.monotonic() - self._saved_at < SAVE_SECONDS:
            return
        self._saved_at = time.monotonic()
        try:
            write_atomically(self._path, json.dumps({"seconds": round(self.seconds(), 1)}) + "\n")
        except OSError as error:
            logger.warning("%s could not be written: %s", self._path, error)


def _read(path: Path) -> float:
    try:
        return max(0.0, float(json.loads(path.read_text(encoding="utf-8"))["seconds"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0
