"""Looks at a study's files: whether they may be served, whether the study runs, and a stamp of its records."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from krona_tune.record.ownership import is_running, lock_of
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder


def runs(folder: StudyFolder) -> bool:
    """Returns whether a process has the study."""
    try:
        return is_running(folder)
    except OSError:  # nothing but the records may be read
        return folder.driver.is_file()


def stamp_of(folder: StudyFolder) -> str:
    """Returns a text that differs if a file of the study's records, its request or its waiting orders has changed."""
    found = hashlib.blake2b(digest_size=12)
    for path in (folder.manifest, folder.spec):
        found.update(repr(_state(path)).encode())
    for place in (folder.results, folder.results / "parts", folder.orders):
        for line in sorted(_states(place)):
            found.update(repr(line).encode())
    return found.hexdigest()


def refuse_links_outward(folder: StudyFolder) -> None:
    """Raises a Refusal if what would be read or written for a study lies outside the storage's folder."""
    storage = folder.root.parent.resolve()
    parts = folder.results / "parts"
    files = (folder.spec, folder.manifest, folder.state, folder.driver, Path(lock_of(folder).lock_file))
    inside = (path for place in (folder.results, parts, folder.orders) for path in (place, *_links_in(place)))
    for path in (folder.root, *files, *inside):
        if not path.resolve().is_relative_to(storage):
            raise Refusal(folder.name, f"{path.name} is a link to a place outside the storage", "copy the study")


def _links_in(place: Path) -> Iterator[Path]:
    try:
        with os.scandir(place) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_symlink())
    except OSError:
        return


def _states(place: Path) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                state = _state(entry)
                if not entry.name.startswith(".") and state:
                    yield entry.name, *state
    except OSError:
        return


def _state(path: Path | os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_size, seen.st_mtime_ns
