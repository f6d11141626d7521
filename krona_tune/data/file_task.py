"""Describes the task of one file of examples, which words such as `reviews.csv:review:stars` name."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from krona_tune.data.example_files import column_names
from krona_tune.data.file_kinds import FILE_KINDS, endings_of, file_kind
from krona_tune.data.tasks import TAKEN_NAMES
from krona_tune.hub import home
from krona_tune.refusal import Refusal

MOST_SHOWN = 12
"""The columns that a message lists."""


def file_task(words: str) -> tuple[str, dict[str, Any]] | None:
    """Returns the name and the description of a task; None where the words begin with no file of examples.

    Args:
        words: `FILE:TEXT:LABEL`, or `FILE:TEXT+TEXT:LABEL`.

    Raises:
        Refusal: a column is not named, or what is there is no file of examples.
    """
    for colons in (2, 1, 0, *range(3, words.count(":") + 1)):  # more where a column's name has some
        file, *columns = words.rsplit(":", colons)
        if file_kind(Path(file)).builder:
            break
    else:
        file = words.rsplit(":", 2)[0]
        if words.count(":") < 2 or not os.path.exists(home(Path(file))):
            return None
        if home(Path(file)).is_dir():
            raise Refusal("--tasks", f"{file} is a folder", "describe its task in a file .yaml: data, text, label")
        kinds = ", ".join(endings_of(kind for kind in FILE_KINDS if kind.builder))
        raise Refusal("--tasks", f"{file}: {Path(file).suffix or 'its ending'} is not read", f"give one of {kinds}")
    path, named = home(Path(file)), columns if len(columns) == 2 else ["", ""]
    *texts, label = _columns([*named[0].split("+"), named[1]], path)
    if not label or not all(texts):
        problem = f"{words} does not say which columns hold texts and labels{_there(path)}"
        fix = f"write {file}:TEXT:LABEL with its columns ({file}:TEXT+TEXT:LABEL for pairs)"
        raise Refusal("--tasks", problem, f"{fix}, or describe the task in a file .yaml")
    return described_task(path, texts, label)


def _columns(words: Sequence[str], path: Path) -> list[str]:
    """Returns the names of columns without blanks around them, but for those that a file's own names have."""
    there: list[str] = []
    if any(word != word.strip() for word in words):
        with suppress(Refusal):
            there = column_names(path)
    return [word if word in there else word.strip() for word in words]


def described_task(path: Path, texts: Sequence[str], label: str) -> tuple[str, dict[str, Any]]:
    """Returns the name and the description of the task of a file with these columns."""
    return _task_name(path), {"data": str(path), "text": list(texts), "label": label}


def _task_name(path: Path) -> str:
    """Returns the name of a file's task: its own, of letters, digits and `_`, and none that has a meaning."""
    name = re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_")[:36]
    return name if name[:1].isalpha() and name.lower() not in TAKEN_NAMES else f"own_{name}".rstrip("_")


def _there(path: Path) -> str:
    """Returns in words which columns a file has; empty if they can't be read."""
    with suppress(Refusal):
        names = column_names(path)
        return f"; its columns are {', '.join(names[:MOST_SHOWN])}{', …' if len(names) > MOST_SHOWN else ''}"
    return ""
