"""The states that trials keep at their rungs, at a URI where workers on other nodes find them."""

import logging
import time
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from krona_tune.record.remote.store import Store
from krona_tune.study.atomic_write import atomic_folder

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0
"""After a state could not be sent: a store that is away should not cost every rung its patience."""


class RemoteCheckpoints:
    """Sends and brings a trial's states, `<trial>/rung-3` here, `<trial>/rung-3.zip` there.

    An archive's table of contents comes last, so half an upload is no archive and is never taken for a state. A store
    that is away costs a warning. Without a URI there is no elsewhere: nothing is sent, nothing found.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._brought: set[str] = set()
        self._again_at = 0.0

    def send(self, kept: Path) -> None:
        """Sends a state; of the trial's earlier ones none stays."""
        if not self._uri or time.monotonic() < self._again_at:
            return
        trial, name = kept.parent.name, f"{kept.name}.zip"
        try:
            store = Store(self._uri)
            store.write(f"{trial}/{name}", pack(kept))
            for other in store.names(trial):
                if other != name:
                    store.remove(f"{trial}/{other}")
        except Exception as error:
            self._again_at = time.monotonic() + PAUSE_SECONDS
            logger.warning("%s could not be sent: %s: %s", kept, type(error).__name__, error)

    def bring(self, trial: Path) -> None:
        """Brings the trial's highest whole state, if it is higher than what its folder has and was not brought yet."""
        if not self._uri:
            return
        here = max(map(rung_of, trial.glob("rung-*")), default=-1)
        try:
            store = Store(self._uri)
            there = {rung_of(Path(name)): f"{trial.name}/{name}" for name in store.names(trial.name)}
            for rung in sorted(there, reverse=True):
                if rung > here and there[rung] not in self._brought:
                    self._brought.add(there[rung])
                    if _unpack(store.read(there[rung]), trial / f"rung-{rung}"):
                        return
        except Exception as error:
            logger.warning("%s: no state could be looked for: %s: %s", trial, type(error).__name__, error)


def rung_of(path: Path) -> int:
    """The rung of a state by its name, `rung-3` or `rung-3.zip`; -1 for another file."""
    number = path.name.removesuffix(".zip").removeprefix("rung-")
    return int(number) if number.isdecimal() else -1


def pack(folder: Path) -> bytes:
    """A folder's files as an archive."""
    whole = BytesIO()
    with ZipFile(whole, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return whole.getvalue()


def _unpack(content: bytes, folder: Path) -> bool:
    """Whether the archive was whole: then the folder is there, whole as well."""
    try:
        with ZipFile(BytesIO(content)) as archive, atomic_folder(folder) as unfinished:
            archive.extractall(unfinished)
    except BadZipFile as error:
        logger.warning("%s: what was sent is not whole (%s), an earlier state is looked for", folder, error)
        return False
    return True
