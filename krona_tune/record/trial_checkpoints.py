"""Copies the states that trials keep at their rungs to a URI, where other nodes find them, and removes them."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from krona_tune.atomic_write import atomic_folder
from krona_tune.record.remote_files import Store, refusing_store_errors
from krona_tune.study.folder import StudyFolder

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0
"""The pause after a state could not be sent or looked for, so that an unreachable store does not delay every rung."""
WAITS = (0.5, 2.0)
"""How long a store that gives no answer is waited for, in seconds, before each further time that it is asked."""


class RemoteCheckpoints:
    """The remote copies of trials' states, `<trial>/rung-3` here, `<trial>/rung-3.zip` there.

    An archive's table of contents comes last, so half an upload is not an archive and is never taken for a state. An
    unreachable store causes a warning. Without a URI nothing is sent and nothing found.
    """

    def __init__(self, uri: str | None) -> None:
        self._uri = uri
        self._brought: set[str] = set()
        self._same: Path | None = None  # the last state that is both here and there
        self._unsent: dict[str, Path] = {}  # by trial
        self._again_at = 0.0

    def send(self, kept: Path) -> bool:
        """Sends a state, then removes the trial's earlier ones; what can't be sent is tried again beside later ones.

        Returns whether it is there, if there is a URI.
        """
        self._same = None
        if not self._uri:
            return True
        self._unsent.pop(kept.parent.name, None)
        late = list(self._unsent.values())
        self._unsent[kept.parent.name] = kept
        if time.monotonic() >= self._again_at:
            self._send_each(kept, late)
        return kept.parent.name not in self._unsent

    def _send_each(self, own: Path, late: Iterable[Path] = ()) -> None:
        """Sends states until one fails: its own, then those that waited, whose trials others may have taken further."""
        for kept in (own, *late):
            try:
                self._send(kept, waited=kept != own)
                del self._unsent[kept.parent.name]
            except Exception as error:
                self._again_at = time.monotonic() + PAUSE_SECONDS
                logger.warning("%s could not be sent: %s: %s", kept, type(error).__name__, error)
                return

    def _send(self, kept: Path, *, waited: bool) -> None:
        store, trial, name = Store(str(self._uri)), kept.parent.name, f"{kept.name}.zip"
        if waited:
            further = any(rung_of(Path(other)) > rung_of(kept) for other in store.names(trial))
            if further or not kept.exists():
                return
        store.write(f"{trial}/{name}", pack(kept))
        self._same = self._same or kept
        for other in store.names(trial):
            if rung_of(Path(other)) < rung_of(kept):  # a higher one is another worker's, or could not be fetched here
                store.remove(f"{trial}/{other}")

    def sizes(self) -> Mapping[str, int]:
        """Returns the bytes of the states by trial. Raises what the store raises."""
        found = Counter[str]()
        for name, size in Store(self._uri).sizes().items() if self._uri else ():
            found[name.partition("/")[0]] += size
        return found

    def remove(self, trials: Iterable[str], *, surely: bool = False) -> None:
        """Removes all states of these trials; an error of the store is logged, or raised if they `surely` go."""
        if not self._uri:
            return
        try:
            store, gone = Store(self._uri), set(trials)
            store.remove_all(name for name in store.below() if name.partition("/")[0] in gone)
        except Exception as error:
            if surely:
                raise
            logger.warning("states at %s could not be removed: %s: %s", self._uri, type(error).__name__, error)

    def forget(self, state: Path) -> None:
        """Removes a state that can't be used, so that nobody takes it for the highest."""
        if not self._uri:
            return
        try:
            Store(self._uri).remove(f"{state.parent.name}/{state.name}.zip")
        except Exception as error:
            logger.warning("%s could not be removed there: %s: %s", state, type(error).__name__, error)

    def bring(self, trial: Path, most: int | None = None) -> None:
        """Fetches the trial's highest whole state, if it is higher than what its folder has and was not fetched yet. A
        store that gives no answer is asked again a few times.

        Args:
            most: the highest rung that is wanted; None: any.
        """
        if not self._uri:
            return
        for wait in (*WAITS, None):
            try:
                self._bring(Store(self._uri), trial, most)
            except Exception as error:
                logger.warning("%s: no state could be looked for: %s: %s", trial, type(error).__name__, error)
                if wait is None or time.monotonic() < self._again_at:
                    self._again_at = time.monotonic() + PAUSE_SECONDS
                    return
                time.sleep(wait)
            else:
                return

    def _bring(self, store: Store, trial: Path, most: int | None) -> None:
        there = {rung_of(Path(name)): f"{trial.name}/{name}" for name in store.names(trial.name)}
        here = max(map(rung_of, trial.glob("rung-*")), default=-1)
        for rung in sorted(there, reverse=True):
            if rung > here and there[rung] not in self._brought and (most is None or rung <= most):
                whole = _unpack(store.read(there[rung]), trial / state_name(rung))
                self._brought.add(there[rung])
                if whole:
                    self._same = trial / state_name(rung)
                    return

    def leave(self, trial: Path) -> None:
        """Removes here what `bring` fetches again: the trial's state, if it was sent or brought. One that could not be
        sent so far is tried again, whatever the pause, and stays if that fails."""
        if waiting := self._unsent.get(trial.name):
            self._send_each(waiting)
        if self._same and self._same.parent == trial:
            shutil.rmtree(self._same, ignore_errors=True)
            self._same = None
            self._brought.clear()
            with suppress(OSError):
                trial.rmdir()  # unless another worker of this machine has taken the trial up


def state_name(rungs: int) -> str:
    """Returns the name of the folder with a trial's state after so many rungs: that of report 2 is `rung-3`."""
    return f"rung-{rungs}"


def rung_of(path: Path) -> int:
    """Returns the rung in a state's name, `rung-3` or `rung-3.zip`; -1 for another file."""
    number = path.name.removesuffix(".zip").removeprefix("rung-")
    return int(number) if number.isdecimal() else -1


def latest_checkpoint(folder: Path) -> Path | None:
    """Returns the state of the highest rung that a trial has kept; None if there is none."""
    return max(folder.glob("rung-*"), key=rung_of, default=None)


def pack(folder: Path) -> bytes:
    """Returns a folder's files as an archive."""
    whole = BytesIO()
    with ZipFile(whole, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return whole.getvalue()


def _unpack(content: bytes, folder: Path) -> bool:
    """Returns whether the archive was whole: then the folder is there, whole as well."""
    try:
        with ZipFile(BytesIO(content)) as archive, atomic_folder(folder) as unfinished:
            archive.extractall(unfinished)
    except BadZipFile as error:
        logger.warning("%s: what was sent is not whole (%s), an earlier state is looked for", folder, error)
        return False
    return True


def sizes(folder: StudyFolder, trials: Iterable[str]) -> dict[str, int]:
    """Returns the bytes of the checkpoints of those of these trials that have some, on this machine and in the study's
    copy elsewhere. Raises a Refusal if that can't be reached."""
    with refusing_store_errors(folder.remote or ""):
        elsewhere = RemoteCheckpoints(folder.remote_checkpoints).sizes()
    here = {trial: folder.checkpoints / trial for trial in trials}
    return {
        trial: elsewhere.get(trial, 0) + sum(file.stat().st_size for file in own.rglob("*") if file.is_file())
        for trial, own in here.items()
        if trial in elsewhere or own.exists()
    }


def remove(folder: StudyFolder, trials: Sequence[str], *, surely: bool = False) -> None:
    """Removes these trials' checkpoints, also from the study's copy elsewhere, if it has one.

    Args:
        surely: raises a Refusal if those elsewhere stay; else that is logged.
    """
    with refusing_store_errors(folder.remote or ""):
        RemoteCheckpoints(folder.remote_checkpoints).remove(trials, surely=surely)
    for trial in trials:
        shutil.rmtree(folder.checkpoints / trial, ignore_errors=True)
