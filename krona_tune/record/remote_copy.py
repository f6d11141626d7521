"""Copies a study's folder to a store and back, and keeps the copy new while the study runs.

The copy is what its index names, so that half a push is never seen.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar
from uuid import uuid4

from filelock import FileLock

from krona_tune.atomic_write import atomic_path, write_atomically
from krona_tune.record.background import Worker
from krona_tune.record.remote_files import Store
from krona_tune.record.sink import NullSink
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.frozen_value import FrozenValue
from krona_tune.study.order import Order
from krona_tune.study.redact import redact
from krona_tune.study.result import TrialResult

logger = logging.getLogger(__name__)

INDEX = "files.json"
HERE, NEXT, ORIGIN = ".index.json", ".index-next.json", ".origin"
"""Files in a local folder about its copy: the index that was pushed or pulled last, the one that a push is about to
write, and the folder's own id."""
LOCK, PULLING, ASIDE = ".lock", ".pulling.lock", ".superseded-"
EXPORTS = "exports"
LEFT_OUT = {"ray", "checkpoints", "orders", "wandb", EXPORTS}
"""Folders that are not copied: nothing reads the first again, the second is copied by `RemoteCheckpoints`, orders
are given at the copy itself, the fourth is written again by a session that does not find it, and the last is made of
what is copied."""
GROWING = {"optuna.journal", "study.log"}
"""Files that only grow: their first bytes are what they were when an index was made, whatever was added since."""
RECORDS = "results/"
"""Where the files are that a running study compacts."""
ATTEMPTS = 5
"""How often a pull or a push begins again because a running study compacted its parts meanwhile."""
Result = TypeVar("Result")
FileStamp = tuple[int, int]
"""A file's size in bytes, and when it was changed (nanoseconds since the epoch)."""


class OvertakenError(Exception):
    """Another driver has continued the study elsewhere."""


OVERTAKEN: dict[Path, str] = {}
"""Why this process must not go on with a study, by its local folder: another driver runs it elsewhere."""


class Index(FrozenValue):
    """The files of a copy, and the local folder that it is a copy of."""

    origin: str
    files: dict[str, FileStamp]


class Copy:
    """A study's local folder and its copy at `folder.remote`."""

    def __init__(self, folder: StudyFolder) -> None:
        assert folder.remote, "this study has no copy"
        self.root, self.store = folder.root, Store(folder.remote)

    @property
    def origin(self) -> str:
        """Returns the id of this local folder; empty if no driver has worked in it."""
        path = self.root / ORIGIN
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def next_origin(self) -> str:
        """Returns the id that a driver works under: a new one if none has worked in this local folder, or if the copy
        is another's."""
        known, there = self.origin, self._index_there()
        return known if known and (there is None or self._has_pushed(there)) else uuid4().hex

    def _has_pushed(self, there: Index) -> bool:
        """Returns whether this local folder has pushed an index. Its id alone does not say so: a folder that was copied
        with its id, as by a machine's snapshot, is older than what was pushed since."""
        return there.origin == self.origin and there in (self._index_here(), self._index_here(NEXT))

    def make_origin(self, origin: str = "") -> str:
        """Marks that a driver works in this local folder from now on; returns the folder's id, or else the given one or
        a new one."""
        known = self.origin
        if not known:
            known = origin or uuid4().hex
            self.root.mkdir(parents=True, exist_ok=True)
            write_atomically(self.root / ORIGIN, known)  # half an id would let a pull overwrite what was not pushed
        return known

    def forget_origin(self) -> None:
        """Takes back that a driver works in this local folder, if it has left everything as it was pulled, but for the
        page, which anybody may draw again."""
        pulled = self._index_here()
        if pulled and pulled.origin != self.origin:
            known = {name: state for name, state in pulled.files.items() if belongs(name)}
            changed = {name for name, _ in self._states().items() ^ known.items()}
            if changed <= {StudyFolder(self.root).page.name}:
                (self.root / ORIGIN).unlink(missing_ok=True)

    def set_old_aside(self) -> None:
        """Moves what is here to a subfolder if a copy of this folder, with its id, has pushed since. For a driver."""
        there = self._index_there()
        if there and there.origin == self.origin and not self._has_pushed(there):
            with FileLock(self.root / PULLING):
                self._set_aside()

    def pull(self, only: Sequence[str] = ("*",), driven: Callable[[], bool] = lambda: False) -> None:
        """Makes the local folder equal to the copy, unless the copy is this folder's own: then the folder is not older.

        What was pushed is never lost. What a driver had not pushed when another one continued elsewhere is moved to a
        subfolder here.

        Args:
            only: patterns of the files to fetch.
            driven: returns whether another process has the local folder by now, which then stays as it is.
        """
        _attempt(lambda: self._pull(only, driven))

    def _pull(self, only: Sequence[str], driven: Callable[[], bool]) -> None:
        known, there = self.origin, self._index_there()
        if there is None or there.origin == known:
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / PULLING):  # a driver that takes the folder from here on waits for it before it pulls
            if driven():
                return
            if self.origin != known:  # a driver came and went meanwhile
                there = self._index_there()
            if there and there.origin != self.origin:
                self._become(there, only)

    def _become(self, there: Index, only: Sequence[str]) -> None:
        if self.origin:
            self._set_aside()
        known = self._index_here()
        before = known.files if known else {}
        wanted = {name for name in there.files if belongs(name) and any(fnmatchcase(name, each) for each in only)}
        for name in wanted:
            if before.get(name) != there.files[name] or not (self.root / name).exists():
                self._fetch(name, there.files[name])
        for name in sorted(self._states().keys() - there.files.keys()):  # the oldest part first, as its driver did
            (self.root / name).unlink(missing_ok=True)
        left = {name: state for name, state in before.items() if name not in wanted and name in there.files}
        brought = {name: state for name, state in there.files.items() if name in wanted or not belongs(name)}
        self._note(Index(origin=there.origin, files=left | brought))

    def push(self) -> None:
        """Makes the copy equal to the local folder: sends changed files, then the index, then removes what is gone.

        Raises OvertakenError if the copy is neither what this folder has pushed nor what was pulled here.
        """
        known, there, origin = self._index_here(), self._index_there(), self.origin
        if there and there != known:
            if not self._has_pushed(there):
                raise OvertakenError("another driver has continued this study elsewhere")
            self._note(there)  # a push was cut short after its index was written
            known = there
        before = known.files if known else {}
        states, records = self._seen(before)
        changed = [name for name, state in states.items() if before.get(name) != state]
        if not changed and states.keys() == before.keys() and known and known.origin == origin:
            return
        for name in changed:
            try:
                content = records[name] if name in records else (self.root / name).read_bytes()
            except FileNotFoundError:
                del states[name]  # removed meanwhile
            else:
                self.store.write(name, _as_it_was(name, content, states[name]))
        index = Index(origin=origin, files=states)
        write_atomically(self.root / NEXT, index.model_dump_json())
        self.store.write(INDEX, index.model_dump_json().encode())
        for name in sorted(before.keys() - states.keys()):
            self.store.remove(name)
        self._note(index)

    def _seen(self, before: Mapping[str, FileStamp]) -> tuple[dict[str, FileStamp], dict[str, bytes]]:
        """Returns the states of all files, and the content of the records that have changed since `before`.

        The records are read at once, again if parts were compacted meanwhile: the copy never has parts without those
        that were written later, or without the file that they were compacted to.
        """

        def seen() -> tuple[dict[str, FileStamp], dict[str, bytes]]:
            states = self._states()
            changed = [name for name in states if name.startswith(RECORDS) and before.get(name) != states[name]]
            return states, {name: (self.root / name).read_bytes() for name in changed}

        return _attempt(seen)

    def _states(self) -> dict[str, FileStamp]:
        """Returns every file to copy, by its name below the folder. Call it before any of them is read: what is written
        meanwhile then counts as changed next time. The journal is seen before the results: a trial that has ended for
        Optuna then has its row."""
        found = {}
        for name in _files_below(self.root):
            try:
                seen = (self.root / name).stat()
            except FileNotFoundError:
                continue
            found[name] = (seen.st_size, seen.st_mtime_ns)
        return found

    def _fetch(self, name: str, state: FileStamp) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(_as_it_was(name, self.store.read(name), state))
            os.utime(unfinished, ns=(state[1], state[1]))

    def _set_aside(self) -> None:
        """Moves what a driver had here to a subfolder, after another driver continued elsewhere; what a service has
        exported stays, since it is made of what is copied.

        The folder's id goes last: while it is here, a process that was killed meanwhile is followed by one that moves
        the rest.
        """
        aside = self.root / f"{ASIDE}{self.origin[:8]}"
        aside.mkdir(exist_ok=True)
        for path in sorted(self.root.iterdir(), key=lambda path: path.name == ORIGIN):
            if not path.name.startswith(ASIDE) and path.name not in {LOCK, PULLING, EXPORTS}:
                path.rename(aside / path.name)
        logger.warning("another driver continued this study elsewhere; what was here is now in %s", aside)

    def _index_there(self) -> Index | None:
        try:
            return Index.model_validate_json(self.store.read(INDEX))
        except FileNotFoundError:
            return None
        except ValueError:
            place = f"{redact(self.store.uri)}/{INDEX}"
            raise Refusal(place, "is damaged", "put back a copy of it, or of the whole study") from None

    def _index_here(self, name: str = HERE) -> Index | None:
        with suppress(FileNotFoundError, ValueError):
            return Index.model_validate_json((self.root / name).read_bytes())
        return None

    def _note(self, index: Index) -> None:
        write_atomically(self.root / HERE, index.model_dump_json())


def _attempt(step: Callable[[], Result]) -> Result:
    """Returns what a step does, which begins again if a file that it has seen is gone, because there is a newer one."""
    for _ in range(ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return step()
    return step()


def belongs(name: str) -> bool:
    """Returns whether a file is copied: not if it is hidden, locked, unfinished or outside the folder."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not (hidden or path.is_absolute() or path.parts[0] in LEFT_OUT or ".lock" in path.name)


def _as_it_was(name: str, content: bytes, state: FileStamp) -> bytes:
    """Returns a file's content when it had this state. A driver that is killed while it pushes leaves a longer journal
    than its copy's index knows, with ends of trials whose rows the index does not have."""
    return content[: state[0]] if name in GROWING else content


def _files_below(root: Path) -> Iterator[str]:
    """Yields the files directly in the folder first, so the journal before the results."""
    yield from _files_in(root, root)
    for folder in _folders_in(root, root):
        yield from _files_from_the_ground(folder, root)


def _files_from_the_ground(folder: Path, root: Path) -> Iterator[str]:
    """Yields the files of the folders in it first, so a part before the file to which it may be compacted meanwhile."""
    for below in _folders_in(folder, root):
        yield from _files_from_the_ground(below, root)
    yield from _files_in(folder, root)


def _files_in(folder: Path, root: Path) -> list[str]:
    names = (path.relative_to(root).as_posix() for path in folder.iterdir() if not path.is_dir())
    return [name for name in names if belongs(name)]


def _folders_in(folder: Path, root: Path) -> list[Path]:
    folders = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return [path for path in folders if belongs(path.relative_to(root).as_posix())]


class NotPushedError(Exception):
    """The copy lacks something when the study ends."""


class RemoteSink(NullSink):
    """A sink that pushes at the study's start, after trials' ends (several at once for a slow store) and at its end.

    A trial's start and its reports are pushed after the trial's end; every worker finds the trial's state before. An
    unreachable store causes a warning and is tried again. A driver that is lost with its machine loses at most what
    happened after the last push. From the first push on, the copy has no state of an earlier driver.
    """

    name = "the copy"

    def __init__(self, folder: StudyFolder, refuse_overtaken: Callable[[], None] = lambda: None) -> None:
        """`refuse_overtaken` raises OvertakenError if another driver has the study; one that begins has it before it
        pushes."""
        self._folder, self._name, self._overtaken = folder, redact(folder.remote or ""), ""
        self._refuse_overtaken = refuse_overtaken
        folder.state.unlink(missing_ok=True)
        self._worker: Worker[str] = Worker(
            self._push,
            name=self._name,
            failing="%s: %s; the study continues, the copy is tried again",
            recovery="",
        )
        self._worker.put(folder.name)

    def trial_ended(self, result: TrialResult) -> None:
        self._worker.put(result.trial_id)

    def ordered(self, order: Order) -> None:
        self._worker.put(order.id)

    def study_ended(self, artifacts: Sequence[Path]) -> None:
        """Waits until the copy has everything, and beyond `DRAIN_SECONDS` only while nothing fails: no later push knows
        what this one has sent. Raises NotPushedError if something is lacking."""
        if why := self._worker.drain(while_it_works=True) or self._overtaken:
            raise NotPushedError(f"{self._name} lacks the latest changes ({why}); {self._folder.root} has everything")

    def _push(self, changed: Sequence[str], last: bool) -> None:
        """Pushes once, whatever has changed; nothing more after another driver has continued the study."""
        if self._overtaken:
            return
        try:
            self._refuse_overtaken()
            Copy(self._folder).push()
        except OvertakenError as error:
            self._overtaken = OVERTAKEN[self._folder.root] = str(error)
            logger.error("%s: %s; nothing more is pushed", self._name, error)
