"""Makes standard output and error never fail: unencodable signs are replaced, unwritable text is dropped.

A study continues to its end if its terminal is gone or the disk is full; the exit status then says so.
"""

import codecs
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

PLAIN = {"…": "...", "×": "x", "–": "-", "≈": "~", "±": "+-", "·": ".", "ᵏ": "^k", "η": "eta"}
"""Replacements for signs that an encoding lacks; any other sign becomes a question mark."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Handles encoding errors for `codecs` by replacing signs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plain", _plain)


class _File(FileIO):
    """A file that accepts every write and remembers the first one that failed."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.problem = self.problem or error
            return len(data)


class Output:
    """Standard output and error of this process, made unfailing until `give_back` is called."""

    def __init__(self) -> None:
        self._before = sys.stdout, sys.stderr
        self._files: list[_File] = []
        sys.stdout, sys.stderr = self._unfailing(sys.stdout, "plain"), self._unfailing(sys.stderr, "backslashreplace")

    def lost(self) -> OSError | None:
        """Returns the error of the first write that failed, if any."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return next((file.problem for file in self._files if file.problem), None)

    def give_back(self) -> None:
        """Restores both streams."""
        sys.stdout, sys.stderr = self._before

    def _unfailing(self, stream: TextIO, errors: str) -> TextIO:
        """Returns a stream on the same descriptor that never fails; `stream` itself if it has none (a notebook)."""
        try:
            file = _File(stream.fileno(), "w", closefd=False)
        except (AttributeError, OSError, ValueError):
            return stream
        self._files.append(file)
        eager = getattr(stream, "line_buffering", True)
        return TextIOWrapper(BufferedWriter(file), stream.encoding, errors, line_buffering=eager)
