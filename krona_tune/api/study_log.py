"""Writes krona_tune's log into a study's folder, without passwords."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krona_tune.refusal import refusing
from krona_tune.study.redact import redact


class _LogFile(logging.FileHandler):
    """A log file that drops lines which do not fit on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # the last lines may not fit on the disk
            super().close()


class _RedactingFormatter(logging.Formatter):
    """A formatter that removes passwords from log lines."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def refuse_no_log(path: Path) -> None:
    """Raises a Refusal if the log can't be written, before anything is started."""
    with refusing(str(path), "the log can't be written", "move it away, or make it writable"):
        path.open("a").close()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Writes krona_tune's log to this file until the context ends."""
    log = logging.getLogger("krona_tune")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.propagate = True
