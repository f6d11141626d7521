"""Reads a study's files for the service: what may be served, whether it runs, a stamp of its records, masked rows."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from krona_tune.record.ownership import is_running, lock_of
from krona_tune.record.records import Records
from krona_tune.refusal import Refusal
from krona_tune.report.study_results import StudyResults
from krona_tune.service.response_models import StudySummary
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.study_state import DriverState, StudyState


@dataclass(frozen=True, kw_only=True)
class FolderState:
    """Holds what a study's files are now: a stamp of its records, whether it runs, and what its driver wrote last."""

    stamp: str
    runs: bool
    driver: DriverState | None


@dataclass(frozen=True, kw_only=True)
class StudyContent:
    """Holds what was read of a study, with passwords masked."""

    stamp: str
    results: StudyResults
    orders: tuple[Order, ...]
    state: StudyState
    summary: StudySummary


@dataclass(frozen=True, kw_only=True)
class PageBody:
    """A study's rendered page without the part about the present, and the stamp of the records that it shows."""

    stamp: str
    title: str
    html: Markup


def masked(recorded: Records) -> Records:
    """Returns records with the passwords in errors masked."""
    trials = tuple(replace(trial, error=redact(trial.error)) if trial.error else trial for trial in recorded.trials)
    return replace(recorded, trials=trials)


def masked_order(order: Order) -> Order:
    return order.model_copy(update={"outcome": redact(order.outcome), "settings": tuple(map(redact, order.settings))})


def runs(folder: StudyFolder) -> bool:
    """Returns whether a process has the study."""
    try:
        return is_running(folder)
    except OSError:  # nothing but the records may be read
        return folder.driver.is_file()


def stamp_of(folder: StudyFolder, *, runs: bool) -> str:
    """Returns a text that differs if a file of the study's records, its request or its waiting orders has changed, or
    whether it runs; of one that does not, also if what its last driver wrote has."""
    found = hashlib.blake2b(str(runs).encode(), digest_size=12)
    for path in (folder.manifest, folder.spec, *(() if runs else (folder.state,))):
        found.update(repr(_state(path)).encode())
    for place in (folder.results, folder.results / "parts", folder.orders):
        states = ((each.name, *state) for each in _entries_of(place) if (state := _state(each)))
        for line in sorted(state for state in states if not state[0].startswith(".")):
            found.update(repr(line).encode())
    return found.hexdigest()


def refuse_links_outward(folder: StudyFolder) -> None:
    """Raises a Refusal if what would be read or written for a study lies outside the storage's folder, or nowhere."""
    storage = folder.root.parent.resolve()
    parts = folder.results / "parts"
    files = (folder.spec, folder.manifest, folder.state, folder.driver, Path(lock_of(folder).lock_file))
    places = (folder.results, parts, folder.orders)
    links = (Path(each.path) for place in places for each in _entries_of(place) if each.is_symlink())
    for path in (folder.root, *files, *places, *links):
        try:
            whole = path.resolve()
        except (OSError, RuntimeError):  # a circle, which Python 3.13 leaves as it is
            whole = path
        if whole.is_symlink():
            raise Refusal(folder.name, f"{path.name} is a link that leads in a circle", "remove it")
        if not whole.is_relative_to(storage):
            raise Refusal(folder.name, f"{path.name} is a link to a place outside the storage", "copy the study")


def _entries_of(place: Path) -> list[os.DirEntry[str]]:
    """Returns what a folder holds; nothing if it can't be read."""
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError:
        return []


def _state(path: Path | os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_size, seen.st_mtime_ns
