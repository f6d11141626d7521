"""Finds where studies are kept, as `--storage` says: a folder, or a URI with a local folder to work in."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from krona_tune.hub import home
from krona_tune.machine import cache_folder
from krona_tune.record.ownership import is_locked
from krona_tune.record.remote_copy import Copy
from krona_tune.record.remote_files import Store, is_uri, refusing_store_errors
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.redact import redact

LISTED = ("manifest.json", "study.yaml", "state.json", "results/trials*", "results/parts/trials-*")
"""Patterns of the files that tell what a study is and how far it is: a few kilobytes per study."""
REPORTED = ("results/reports*", "results/parts/reports-*")
"""Patterns of the files that tell what trials without an end have reported."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The place of studies: they run in `folder`; if there is a `uri`, what is there is fetched into it first."""

    folder: Path
    uri: str | None = None

    def __str__(self) -> str:
        return redact(self.uri) if self.uri else str(self.folder)

    def study(self, name: str) -> StudyFolder:
        """Returns a study by its name, whether it exists or not, as it is known here."""
        return StudyFolder(self.folder / name, f"{self.uri}/{name}" if self.uri else None)

    def brought(self, name: str) -> StudyFolder:
        """Returns a study by its name, whether it exists or not, as new as its copy is.

        Raises:
            Refusal: the URI can't be opened or reached.
        """
        folder = self.study(name)
        refresh(folder)
        return folder

    def names(self) -> list[str]:
        """Returns the names of the studies that are here or at the URI."""
        here = {path.parent.name for path in self.folder.glob("*/study.yaml")}
        if not self.uri:
            return sorted(here)
        with refusing_store_errors(self.uri):
            return sorted(here.union(Store(self.uri).names()))

    def studies(self) -> list[StudyFolder]:
        """Returns what may be a study, as it is known here, even without its request."""
        here = {path.parent.name for path in self.folder.glob("*/manifest.json")}
        return [self.study(name) for name in sorted(here.union(self.names()))]


def storage_at(place: str) -> Storage:
    """Returns what `--storage` means. Opens nothing yet.

    Raises:
        Refusal: the folder's path is a file's, one above it may not be entered, or the URI names no place, or one of
            this process alone.
    """
    if not is_uri(place):
        folder = home(Path(place), "--storage")
        _refuse_unreachable(folder)
        return Storage(folder=folder)
    uri = place.rstrip("/")
    scheme, _, where = uri.partition("://")
    if not (scheme and where):
        raise Refusal("--storage", f"{place!r} names no place", "write protocol://place/folder")
    if scheme.lower() == "memory":
        problem = f"{place!r} is another place for each process, so no worker, page or order would find a study there"
        raise Refusal("--storage", problem, "name a folder, or write s3://bucket/folder")
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", uri.rpartition("@")[2])[-60:].strip("-.")
    name = f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    return Storage(folder=cache_folder() / "storage" / name, uri=uri)


def _refuse_unreachable(folder: Path) -> None:
    nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if nearest and not nearest.is_dir():
        raise Refusal("--storage", f"{nearest} is no folder", "name a folder, or one that can be made")
    if nearest and not os.access(nearest, os.X_OK):
        raise Refusal("--storage", f"{nearest} may not be entered by you", "name another folder, or get the right to")


def refresh(folder: StudyFolder, only: Sequence[str] = ("*",)) -> None:
    """Makes a study's local folder as new as its copy; one that a driver works in is newer in any case.

    `only` are patterns of the files to fetch; the others stay as they are.
    """
    if not folder.remote or is_locked(folder):
        return
    with refusing_store_errors(folder.remote):
        copy = Copy(folder)
        copy.pull(only, lambda: is_locked(folder))
        if not folder.spec.exists() and not copy.store.has_bucket():
            raise Refusal("--storage", f"{redact(folder.remote)}: there is no such bucket", "make it, or name another")
