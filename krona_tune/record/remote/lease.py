"""Gives a study at a URI to one driver at a time, with a lease beside the copy that the driver renews."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from krona_tune.record.remote.copy import Copy, OvertakenError
from krona_tune.record.remote.store import Store, refusing
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.request.trial import Frozen

logger = logging.getLogger(__name__)

LEASE = "driver.json"
RENEWED_SECONDS, STALE_SECONDS = 30.0, 120.0
"""The time between renewals, and after how long without one a driver counts as gone. Clocks may differ by the rest."""
SETTLED_SECONDS = 1.0
"""The time in which two drivers that take the lease at once have both written: the one that wrote last has it."""


class Lease(Frozen):
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
        return self.host != _host() or _runs(self.pid)


def read_lease(store: Store) -> Lease | None:
    """Returns the lease in a study's store; its driver may be gone."""
    try:
        return Lease.model_validate_json(store.read(LEASE))
    except (FileNotFoundError, ValueError):
        return None


def is_held(folder: StudyFolder) -> bool:
    """Returns whether some driver, here or elsewhere, has the study; False without a copy."""
    if not folder.remote:
        return False
    with refusing(folder.remote):
        lease = read_lease(Store(folder.remote))
    return lease is not None and lease.alive


@contextmanager
def holding(folder: StudyFolder) -> Iterator[None]:
    """Holds the study for this process until the context ends, with a local folder as new as its copy.

    Does nothing for a study without a copy. The local folder must be locked.

    Raises:
        Refusal: another driver has it, or the store can't be reached.
    """
    if not folder.remote:
        yield
        return
    with refusing(folder.remote):
        copy = Copy(folder)
        _refuse_other(folder, copy)
        copy.pull()
        origin = copy.make_origin()
        _renew(copy.store, origin)
        time.sleep(SETTLED_SECONDS)
        _refuse_other(folder, copy)
    over = threading.Event()
    thread = threading.Thread(target=_keep_alive, args=(folder.remote, origin, over), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(RENEWED_SECONDS)
        with suppress(Exception):
            refuse_overtaken(copy.store, origin)
            copy.store.remove(LEASE)


def refuse_overtaken(store: Store, origin: str) -> None:
    """Raises OvertakenError if another driver has the study now."""
    lease = read_lease(store)
    if lease and lease.origin != origin:
        raise OvertakenError(f"the study is now run {lease.driver}")


def _refuse_other(folder: StudyFolder, copy: Copy) -> None:
    lease = read_lease(copy.store)
    if lease and lease.alive and lease.origin != copy.origin:
        problem = f"the study {folder.name!r} is being run {lease.driver}"
        raise Refusal("--name", problem, "wait for it, or choose another name")


def _keep_alive(uri: str, origin: str, over: threading.Event) -> None:
    store = Store(uri)
    while not over.wait(RENEWED_SECONDS):
        try:
            refuse_overtaken(store, origin)
            _renew(store, origin)
        except OvertakenError as error:
            logger.error("%s; from here on, results stay in the local folder", error)
            return
        except Exception as error:
            logger.warning("the lease on the study could not be renewed: %s: %s", type(error).__name__, error)


def _renew(store: Store, origin: str) -> None:
    lease = Lease(origin=origin, host=_host(), pid=os.getpid(), at=time.time())
    store.write(LEASE, lease.model_dump_json().encode())


def _host() -> str:
    """Returns this machine and its namespace of process ids, because containers have their own."""
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
