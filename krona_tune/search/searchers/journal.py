"""Opens Optuna's journal, also if it is damaged or its disk is full."""

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
    """Opens the journal of a study. Cuts off a last line that a killed driver left unfinished; renames a journal that
    Optuna can't replay, and then only the study's records are left."""
    if lexists(path):
        try:
            _cut_off_unfinished(path)
            return JournalStorage(_Journal(path, halt))
        except OSError:
            raise
        except Exception as error:
            aside = path.with_name(path.name + ".damaged")
            logger.warning("%s is damaged (%s): renamed to %s, Optuna learns from the records", path, error, aside.name)
            path.replace(aside)
    return JournalStorage(_Journal(path, halt))


def _cut_off_unfinished(path: Path) -> None:
    if not path.is_file():  # opening a pipe would wait forever
        raise ValueError("it is no file")
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class _Unlocked(JournalFileOpenLock):
    """A lock that does nothing: a study's folder belongs to one process at a time."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class _Journal(JournalFileBackend):
    """A journal that, if the disk is full, halts the study, keeps logs in memory and writes them before the next log.

    Logs that are still not written when the process ends are restored from the records.
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
