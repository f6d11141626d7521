"""Writes files and folders completely or not at all, and reads text only from regular files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import lexists
from pathlib import Path
from stat import S_IMODE
from uuid import uuid4

from krona_tune.hub import refuse_unreadable
from krona_tune.refusal import refusing

UNFINISHED = ".unfinished-"
"""The prefix of the temporary folder in which a folder is built."""
FILE_RIGHTS = 0o666
"""What a file may have of its folder's rights: to be read and written."""


@contextmanager
def atomic_path(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Gives a path to write to; the file then takes its place in one step, with the rights that the umask leaves.

    Nobody reads half of it, two writers of one file don't meet, and a full disk leaves what was there.

    Args:
        lasting: the file is on the disk before it takes its place, and so it is whole after a power cut; False for what
            can be made again.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        temporary.touch()
        rights = temporary.stat().st_mode
        yield temporary
        _settle(temporary, rights, lasting=lasting)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if lasting:
        _sync(path.parent)


def write_atomically(path: Path, text: str, *, lasting: bool = True) -> Path:
    """Writes a text file in one step; `lasting` as in `atomic_path`."""
    with atomic_path(path, lasting=lasting) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@contextmanager
def atomic_folder(path: Path, last: str = "") -> Iterator[Path]:
    """Yields a folder to build files in; at the end of the context, unless it failed, they are moved to `path`.

    They are on the disk before, with the rights that the umask leaves.

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
        rights = built.stat().st_mode & FILE_RIGHTS
        yield built
        for inside in (*built.rglob("*"), built):
            _settle(inside, rights)
        if there:
            _move_into(path, built, last)
        else:
            built.rename(path)
        _sync(path if there else path.parent)


def remove_unfinished(folder: Path) -> None:
    """Removes what killed writers have left in a folder and in the folders in it; nobody may be writing there."""
    for left in (*folder.glob(f"{UNFINISHED}*"), *folder.glob(f"*/{UNFINISHED}*")):
        shutil.rmtree(left, ignore_errors=True)


def _move_into(path: Path, built: Path, last: str) -> None:
    if last:
        (path / last).unlink(missing_ok=True)
    for file in sorted(built.iterdir(), key=lambda file: file.name == last):
        file.replace(path / file.name)


def _settle(path: Path, rights: int, *, lasting: bool = True) -> None:
    """Gives what was built at least these rights, because safetensors gives none to others; brings it to the disk."""
    mode = path.stat().st_mode
    if mode | rights != mode and not path.is_dir():
        path.chmod(S_IMODE(mode | rights))
    if lasting:
        _sync(path)


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path, fix: str) -> str:
    """Returns the text of a file, empty if there is none. Raises a Refusal if it can't be read as text."""
    refuse_unreadable(path, fix)
    if not lexists(path):
        return ""
    with refusing(str(path), "can't be read", fix):
        return path.read_text(encoding="utf-8")
