"""Gives a study to one process at a time: its folder with a lock, its copy elsewhere with a lease that is renewed."""

import errno
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from krona_tune.atomic_write import remove_unfinished, write_atomically
from krona_tune.record.orders import waiting_ids
from krona_tune.record.remote_copy import HERE, LOCK, NEXT, ORIGIN, OVERTAKEN, PULLING, Copy, OvertakenError
from krona_tune.record.remote_files import Store, refusing_store_errors
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.frozen_value import FrozenValue

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOOKING_SECONDS = 0.5
"""How long whoever looks at a lock may hold it: a driver that starts meanwhile waits."""
NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What a file system answers that locks no files, such as Lustre without the mount option `flock`."""
BEFORE_A_STUDY = {LOCK, HERE, NEXT, ORIGIN, PULLING, ".driver", "study.log"}
"""Files of a driver that was killed before its study began."""
LEASE = "driver.json"
RENEWED_SECONDS, STALE_SECONDS = 30.0, 120.0
"""The time between renewals, and after how long without one a driver counts as gone. Clocks may differ by the rest."""
WATCH_SECONDS = 2.0
"""The time between two looks at a lease whose driver may be gone, for whoever wants to have the study."""
SETTLED_SECONDS = 1.0
"""The time in which two drivers that take the lease at once have both written: the one that wrote last has it."""


@contextmanager
def claim(folder: StudyFolder) -> Iterator[frozenset[str] | None]:
    """Holds the study's folder, and its copy if it has one, for this process until the context ends.

    `why_lost` tells if the folder was replaced meanwhile. If the study has not begun by then, nothing of it is left.
    What a driver that was killed while it wrote adapters has left beside them is removed.
    Gives the ids of the orders that waited before: those that come while the copy is fetched mean this process. None if
    they could not be read.

    Raises:
        Refusal: another process has it, or it can't be reached.
    """
    root, lock, waiting = folder.root, lock_of(folder), waiting_ids(folder)
    missing: list[Path] = []
    try:
        missing = [path for path in (root, *root.parents) if not path.exists()]
        new = _acquire(root, lock)
    except Timeout:
        raise _run_by_another(folder) from None
    except OSError as error:
        if error.errno in NO_FLOCK:
            _remove([root / LOCK] if missing else [], missing)
            problem = f"no file in {root} can be locked (flock: {error.strerror})"
            fix = "mount its file system with flock, or name a folder on another"
            raise Refusal("--storage", problem, fix) from None
        if not missing:
            problem = f"{root} can't be written by you: {error.strerror}"
            raise Refusal("--storage", problem, "let its owner do it, or get the right to write there") from None
        raise Refusal("--storage", f"{root} can't be made: {error.strerror}", "name a writable folder") from None
    try:
        _HELD[root] = _identity(lock)
        _say_who(folder)  # while it waits for the study elsewhere, or fetches it, it may be stopped, too
        with holding(folder):
            remove_unfinished(folder.root / "adapters")
            yield waiting
    finally:
        lost = why_lost(root)
        _HELD.pop(root, None)
        with suppress(OSError):
            if not lost:
                folder.driver.unlink(missing_ok=True)
        if not lost and not folder.spec.exists():
            _remove([*(root / name for name in new), *_left_by_starts(root)], missing)
        lock.release()


def _run_by_another(folder: StudyFolder, where: str = "") -> Refusal:
    """Returns the Refusal of a study that another driver runs; `where` says on which machine, if it is elsewhere."""
    problem = f"the study {folder.name!r} is being run{where}"
    if folder.spec.exists():
        fix = f"wait for it; krona-tune watch {folder.name}{folder.storage_flag} shows how far it is"
        return Refusal(str(folder.shown), problem, fix)
    return Refusal("--name", problem, "wait for it, or choose another name")


def _say_who(folder: StudyFolder) -> None:
    """Writes which process has the study, in place of one that was killed, and an id of this start."""
    with suppress(OSError):
        folder.driver.unlink(missing_ok=True)
    with suppress(OSError):  # on a full disk nobody but this process can stop the study
        write_atomically(folder.driver, f"{os.getpid()} {this_host()}\n{secrets.token_hex(8)}", lasting=False)


def _acquire(root: Path, lock: FileLock) -> set[str]:
    """Acquires the lock and returns which files of an unbegun study are not there yet.

    Whoever had it may have removed it with an unbegun study, while this process was opening it: then it is acquired
    again, because what it locks is in no folder, and others would lock another file.
    """
    while True:
        root.mkdir(parents=True, exist_ok=True)
        new = BEFORE_A_STUDY - {path.name for path in root.iterdir()}
        lock.acquire(timeout=LOOKING_SECONDS, poll_interval=0.02)
        if _is_in_place(lock):
            return new
        lock.release()


def _is_in_place(lock: FileLock) -> bool:
    """Returns whether the file that a lock holds is still in a folder."""
    held = lock._context.lock_file_fd
    return held is None or os.fstat(held).st_nlink > 0


_HELD: dict[Path, tuple[int, int] | None] = {}
"""The device and the number of the file by which this process has a study, by the study's folder."""


def _identity(lock: FileLock) -> tuple[int, int] | None:
    held = lock._context.lock_file_fd
    return None if held is None else _number(os.fstat(held))


def _number(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def why_lost(root: Path) -> str:
    """Returns why a study's folder is no longer the one that this process holds, so that another driver may have it;
    empty if it is, or this process holds none."""
    if (held := _HELD.get(root)) is None or _has(root, held):
        return ""
    return f"{root} was moved or replaced, or its {LOCK}, so that another driver may have it"


def _has(root: Path, held: tuple[int, int]) -> bool:
    """Returns whether a folder still has this lock, as far as one can tell while its file system does not answer."""
    try:
        return _number((root / LOCK).stat()) == held
    except FileNotFoundError:
        return False
    except OSError:
        return True


class WorkersView:
    """Remembers which folder a study has, as a process sees it that works for its driver, on whatever machine.

    Args:
        may_lack: the study may have no folder on this machine, because it has a copy elsewhere.
    """

    def __init__(self, root: Path, *, may_lack: bool) -> None:
        self.root, self._may_lack, self._seen = root, may_lack, None
        with suppress(OSError):
            self._seen = _number((root / LOCK).stat())

    @property
    def lost(self) -> bool:
        """Returns whether the folder is gone or another one, so that nothing may be written there any more."""
        if self._seen is None:
            return not (self._may_lack or self.root.is_dir())
        return not _has(self.root, self._seen)


def _left_by_starts(root: Path) -> Iterator[Path]:
    """Yields the files by which starts that were killed looked whether they can write here."""
    return chain.from_iterable(map(root.glob, (".seen-*", ".preflight-*", ".*.tmp")))


def _remove(files: list[Path], folders: list[Path]) -> None:
    """Removes what was made for a study that has not begun, up to a folder that holds something else."""
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
        for path in folders:
            path.rmdir()


def driver_of(folder: StudyFolder) -> tuple[int, str] | None:
    """Returns the process that runs a study and its machine, as `this_host` says it, or without the namespace if an
    older version runs it; None if no process has the study, or it has not written yet which it is, or could not."""
    with suppress(OSError, ValueError):
        if is_locked(folder):
            process, _, machine = folder.driver.read_text(encoding="utf-8").partition("\n")[0].partition(" ")
            return int(process), machine
    return None


def driver_start(folder: StudyFolder) -> str:
    """Returns the id of the start of the process that has a study's folder; empty if it has written none."""
    with suppress(OSError, ValueError):
        return folder.driver.read_text(encoding="utf-8").partition("\n")[2]
    return ""


def lock_of(folder: StudyFolder) -> FileLock:
    """Returns the study's lock, not acquired yet: always flock, because a file that only exists outlives its driver."""
    return FileLock(folder.root / LOCK, fallback_to_soft=False)


def is_locked(folder: StudyFolder) -> bool:
    """Returns whether a process has the study's folder."""
    return is_lock_held(folder.root / LOCK)


def is_lock_held(path: Path) -> bool:
    """Returns whether a process holds the FileLock at a path."""
    if not path.is_file():
        return False
    if fcntl is None:
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # any number of watchers may look at once
        except OSError as error:
            return error.errno in {errno.EACCES, errno.EAGAIN}
    return False


def is_running(folder: StudyFolder) -> bool:
    """Returns whether a process has the study, here or, if it has a copy elsewhere, there."""
    return is_locked(folder) or is_held(folder)


class Lease(FrozenValue):
    """The driver of a study: its local folder, its process, and its last renewal (seconds since the epoch)."""

    origin: str
    host: str
    pid: int
    at: float

    @property
    def driver(self) -> str:
        return f"on {self.host.partition('/')[0]} by process {self.pid}"

    @property
    def alive(self) -> bool:
        """Returns whether its driver runs: for 120 s after the last renewal, but here only while its process lives."""
        if time.time() - self.at > STALE_SECONDS:
            return False
        return self.host != this_host() or _runs(self.pid)

    @property
    def is_ours(self) -> bool:
        """Returns whether this process has written it."""
        return (self.host, self.pid) == (this_host(), os.getpid())

    @property
    def is_ahead(self) -> bool:
        """Returns whether it was renewed later than now, by more than clocks may differ: then its time says nothing."""
        return self.at - time.time() > STALE_SECONDS - RENEWED_SECONDS


class LeaseWatch:
    """Remembers since when this process has seen which lease in a store.

    A lease from a clock that runs ahead looks new until that time. Its driver is gone if it was not renewed for 120 s
    of this process's own clock.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Lease, float]] = {}

    def is_alive(self, store: Store, lease: Lease) -> bool:
        """Returns whether the driver of a lease that was just read runs, as far as this process knows by now."""
        if not (lease.alive and lease.is_ahead):
            return lease.alive
        before, since = self._seen.get(store.uri, (None, 0.0))
        if before != lease:
            since = time.monotonic()
            self._seen[store.uri] = lease, since
        return time.monotonic() - since <= STALE_SECONDS


WATCH = LeaseWatch()
"""Remembers the leases that this process has seen: a service looks again and again, a driver that starts waits."""


def read_lease(store: Store) -> Lease | None:
    """Returns the lease in a study's store; its driver may be gone."""
    with suppress(FileNotFoundError, ValueError):
        return Lease.model_validate_json(store.read(LEASE))
    return None


def is_held(folder: StudyFolder) -> bool:
    """Returns whether some driver, here or elsewhere, has the study; False without a copy."""
    if not folder.remote:
        return False
    with refusing_store_errors(folder.remote):
        store = Store(folder.remote)
        lease = read_lease(store)
    return lease is not None and WATCH.is_alive(store, lease)


@contextmanager
def holding(folder: StudyFolder) -> Iterator[None]:
    """Holds the study for this process until the context ends, with a local folder as new as its copy.

    Does nothing for a study without a copy. The local folder must be locked. The lease is taken before anything is
    fetched, which may take minutes, and renewed meanwhile.

    Raises:
        Refusal: another driver has it, or the store can't be reached.
    """
    if not folder.remote:
        yield
        return
    with refusing_store_errors(folder.remote):
        copy = Copy(folder)
        origin = copy.next_origin()
        _refuse_other(folder, copy, origin)
        _renew(copy.store, origin)
        time.sleep(SETTLED_SECONDS)
        _refuse_other(folder, copy, origin)
    OVERTAKEN.pop(folder.root, None)
    over = threading.Event()
    thread = threading.Thread(target=_keep_alive, args=(folder, origin, over), name="lease", daemon=True)
    thread.start()
    try:
        with refusing_store_errors(folder.remote):
            copy.set_old_aside()
            copy.pull()
            copy.make_origin(origin)
        yield
    finally:
        over.set()
        thread.join(RENEWED_SECONDS)
        with suppress(OSError):
            copy.forget_origin()
        with suppress(Exception):
            store = Store(folder.remote)  # anew, since a connection may be lost
            refuse_overtaken(store, origin)
            store.remove(LEASE)


def refuse_overtaken(store: Store, origin: str) -> None:
    """Raises OvertakenError if another driver has the study now."""
    lease = read_lease(store)
    if lease and (lease.origin != origin or not lease.is_ours):
        raise OvertakenError(f"the study is now run {lease.driver}")


def refuse_overtaken_here(folder: StudyFolder) -> None:
    """Raises OvertakenError if another driver than the one in this local folder has the study now."""
    copy = Copy(folder)
    refuse_overtaken(copy.store, copy.origin)


def _refuse_other(folder: StudyFolder, copy: Copy, origin: str) -> None:
    lease = _read_other(copy, origin)
    if lease and (lease.is_ahead or lease.origin == copy.origin):
        found = f"the clock of the driver {lease.driver} runs ahead"
        if lease.origin == copy.origin:
            found = f"the driver {lease.driver} has not said that it ended"
        logger.warning("%s; the study is taken if that driver gives no sign within %g s", found, STALE_SECONDS)
        first = lease
        while lease == first:
            time.sleep(WATCH_SECONDS)
            lease = _read_other(copy, origin)
    if lease:
        raise _run_by_another(folder, f" {lease.driver}")


def _read_other(copy: Copy, origin: str) -> Lease | None:
    """Returns the lease of another driver that runs; None if there is none.

    One of another process under this folder's id is another's too: the folder may have been copied with its id.
    """
    lease = read_lease(copy.store)
    if lease is None or (lease.is_ours and lease.origin in {copy.origin, origin}):
        return None
    return lease if WATCH.is_alive(copy.store, lease) else None


def _keep_alive(folder: StudyFolder, origin: str, over: threading.Event) -> None:
    """Renews the lease until it is over; notes it in OVERTAKEN if another driver has the study."""
    while not over.wait(RENEWED_SECONDS):
        try:
            store = Store(folder.remote or "")  # anew, since a connection may be lost
            refuse_overtaken(store, origin)
            _renew(store, origin)
        except OvertakenError as error:
            OVERTAKEN[folder.root] = str(error)
            logger.error("%s; from here on, results stay in the local folder", error)
            return
        except Exception as error:
            logger.warning("the lease on the study could not be renewed: %s: %s", type(error).__name__, error)


def _renew(store: Store, origin: str) -> None:
    lease = Lease(origin=origin, host=this_host(), pid=os.getpid(), at=time.time())
    store.write(LEASE, lease.model_dump_json().encode())


def this_host() -> str:
    """Returns this machine and its namespace of process ids, because containers have their own."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
