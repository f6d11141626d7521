"""Optuna's journal on a disk that may be full or have lost a piece of it."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from os.path import lexists
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

logger = logging.getLogger(__name__)
Halt = Callable[[str], None]
"""Ends the study soon, for a reason."""


def open_journal(path: Path, halt: Halt) -> JournalStorage:
    """The journal of a study. A last line that a killed driver left unfinished is cut off; a journal that Optuna can't
    replay is set aside, and the study's records are all that there is."""
    if lexists(path):
        try:
            _cut_off_unfinished(path)
            return JournalStorage(_Journal(path, halt))
        except OSError:
            raise
        except Exception as error:
            aside = path.with_name(path.name + ".damaged")
            logger.warning(
                "%s is damaged (%s): set aside as %s, Optuna learns from the records", path, error, aside.name
            )
            path.replace(aside)
    return JournalStorage(_Journal(path, halt))


def _cut_off_unfinished(path: Path) -> None:
    if not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("it is no file")
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class _Unlocked(JournalFileOpenLock):
    """None is needed: a study's folder belongs to one process at a time."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class _Journal(JournalFileBackend):
    """Keeps in memory what the disk has no room for, halts the study, and writes it before the next log.

    What is still not written when the process ends is made up for from the records.
    """

    def __init__(self, path: Path, halt: Halt) -> None:
        super().__init__(str(path), _Unlocked(str(path)))
        self._path, self._halt = path, halt
        self._unwritten: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unwritten += logs
        size = self._path.stat().st_size
        try:
            super().append_logs(self._unwritten)
            self._unwritten = []
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, size)  # half a line would make the whole journal unreadable
            self._halt(f"Optuna's journal could not be kept: {error}")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        yield from super().read_logs(log_number_from)
        if self._unwritten:
            written = max(self._log_number_offset)
            yield from self._unwritten[max(0, log_number_from - written) :]
