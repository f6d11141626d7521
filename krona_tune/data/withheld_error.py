"""Withholds the message of an error that may quote texts of the data, so that it gets into no record and no log."""

import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import basename, dirname

from krona_tune.refusal import told

FROZEN = "<frozen "
"""How the files of Python's own import begin in a traceback."""


class WithheldError(RuntimeError):
    """An error without its message: `problem` says what failed, then come its kind, file and line.

    `whole` has its message too. Only what stays in the terminal may show it.
    """

    def __init__(self, problem: str, kind: str, place: str, said: str) -> None:
        super().__init__(problem, kind, place, said)
        self.problem, self.kind, self.place, self.said = problem, kind, place, said

    def __str__(self) -> str:
        return self._with(self.kind)

    @property
    def whole(self) -> str:
        return self._with(self.said)

    def _with(self, what: str) -> str:
        return f"{self.problem} ({what}{f' at {self.place}' if self.place else ''})"


@contextmanager
def withholding(problem: str, folder: str = "") -> Iterator[None]:
    """Raises a WithheldError in place of any error inside.

    Args:
        problem: what has failed.
        folder: that of the code of interest: the innermost line of it is named. Empty: the innermost line of all.
    """
    try:
        yield
    except Exception as error:
        raise WithheldError(problem, type(error).__name__, _line(error, folder), _message(error)) from None


def _message(error: Exception) -> str:
    """Returns an error with its message; without it if the error's own code fails to say it."""
    try:
        return told(error)
    except Exception:
        return type(error).__name__


def _line(error: Exception, folder: str) -> str:
    """Returns where an error was raised, as FILE:LINE; empty if that was in no code but what called it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{basename(error.filename)}:{error.lineno}"
    _, caller, *inner = traceback.extract_tb(error.__traceback__)
    passed = (caller.filename, importlib.__file__)
    frames = [each for each in inner if each.filename not in passed and not each.filename.startswith(FROZEN)]
    ours = [frame for frame in frames if folder and dirname(frame.filename) == folder]
    return next((f"{basename(frame.filename)}:{frame.lineno}" for frame in reversed(ours or frames)), "")
