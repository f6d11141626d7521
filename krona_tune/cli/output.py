"""Standard output and error that don't fail: what can't be encoded is replaced, what can't be written is left out.

A study whose terminal is gone or whose log's disk is full goes on to its end; the exit status then tells of it.
"""

import codecs
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

NARROWEST, WIDEST = 20, 1000
"""Columns of a terminal that can be meant."""
PLAIN = {"…": "...", "×": "x", "–": "-", "≈": "~", "±": "+-", "·": ".", "ᵏ": "^k", "η": "eta"}
"""What stands for a sign that an encoding lacks; for any other a question mark does."""


def drop_odd_width() -> None:
    """Forgets a width of the terminal that can't be meant, such as COLUMNS=0: rich would print nothing."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and not NARROWEST <= int(said[:9]) <= WIDEST:
        del os.environ["COLUMNS"]


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A handler of errors for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plain", _plain)


class _File(FileIO):
    """A descriptor that remembers the first write that failed, and takes everything."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.problem = self.problem or error
            return len(data)


class Output:
    """Both streams of this process, until they are given back."""

    def __init__(self) -> None:
        self._before = sys.stdout, sys.stderr
        self._files: list[_File] = []
        sys.stdout, sys.stderr = self._unfailing(sys.stdout, "plain"), self._unfailing(sys.stderr, "backslashreplace")

    def lost(self) -> OSError | None:
        """The first error by which something could not be written."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return next((file.problem for file in self._files if file.problem), None)

    def give_back(self) -> None:
        """Leaves both streams as they were."""
        sys.stdout, sys.stderr = self._before

    def _unfailing(self, stream: TextIO, errors: str) -> TextIO:
        """The stream again, on the same descriptor; itself where it has none, as in a notebook."""
        try:
            file = _File(stream.fileno(), "w", closefd=False)
        except (AttributeError, OSError, ValueError):
            return stream
        self._files.append(file)
        eager = getattr(stream, "line_buffering", True)
        return TextIOWrapper(BufferedWriter(file), stream.encoding, errors, line_buffering=eager)
