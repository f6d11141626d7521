"""Writes files and folders completely or not at all, and reads text only from regular files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import lexists
from pathlib import Path
from uuid import uuid4

from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import refusing

UNFINISHED = ".unfinished-"
"""The prefix of the temporary folder in which a folder is built."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a path to write to; the file then takes its place in one step.

    Nobody reads half of it, two writers of one file don't meet, and a full disk leaves what was there.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> Path:
    """Writes a text file in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@contextmanager
def atomic_folder(path: Path, last: str = "") -> Iterator[Path]:
    """Yields a folder to build files in; at the end of the context, unless it failed, they are moved to `path`.

    Args:
        path: an existing folder keeps its other files and is not replaced, because somebody may be working in it.
        last: the file without which nobody reads the others. It is removed first and moved last, so that nobody finds
            it beside files of another version.
    """
    path = path.absolute()
    there = path.is_dir()
    if not there:
        path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path if there else path.parent, prefix=UNFINISHED) as room:
        built = Path(room) / path.name
        built.mkdir()
        yield built
        if not there:
            built.rename(path)
            return
        if last:
            (path / last).unlink(missing_ok=True)
        for file in sorted(built.iterdir(), key=lambda file: file.name == last):
            file.replace(path / file.name)


def read_text(path: Path, fix: str) -> str:
    """Returns the text of a file, empty if there is none. Raises a Refusal if it can't be read as text."""
    refuse_unreadable(path, fix)
    if not lexists(path):
        return ""
    with refusing(str(path), "can't be read", fix):
        return path.read_text(encoding="utf-8")
