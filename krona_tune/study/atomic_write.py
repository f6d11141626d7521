"""Files, and folders of files, that are there whole or not at all, and text that is read only from a file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import lexists
from pathlib import Path
from uuid import uuid4

from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import refusing

UNFINISHED = ".unfinished-"
"""How the name of a folder begins in which another is built."""


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
    """Writes a whole text file."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@contextmanager
def atomic_folder(path: Path, last: str = "") -> Iterator[Path]:
    """Where to build a folder's files, which come to their place together at the end, or not at all.

    Args:
        path: a folder that is there keeps what else it holds, and stays itself: it may be where somebody works.
        last: the file without which nobody reads the others. It goes first and comes last, so that nobody finds it
            beside those of another.
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
    """The text of a file; empty where there is none. Raises a Refusal where it can't be read as text."""
    refuse_unreadable(path, fix)
    if not lexists(path):
        return ""
    with refusing(str(path), "can't be read", fix):
        return path.read_text(encoding="utf-8")
