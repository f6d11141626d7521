"""Which driver has a study whose storage is a URI: one at a time, known by a lease that it renews beside the copy."""

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
from krona_tune.study.spec.trial import Frozen

logger = logging.getLogger(__name__)

LEASE = "driver.json"
RENEWED_SECONDS, STALE_SECONDS = 30.0, 120.0
"""Between two renewals, and after how long without one a driver counts as gone. Clocks may differ by the rest."""
SETTLED_SECONDS = 1.0
"""Within which two drivers that take the lease at the same moment have both written: the one that wrote last has it."""


class Lease(Frozen):
    """Who drives a study: in which local folder, which process, and when it last said so (seconds since the epoch)."""

    origin: str
    host: str
    pid: int
    at: float

    @property
    def driver(self) -> str:
        return f"on {self.host.partition('/')[0]} by process {self.pid}"

    @property
    def alive(self) -> bool:
        """Whether its driver is there: here while its process lives, elsewhere for 120 s after the last renewal."""
        if time.time() - self.at > STALE_SECONDS:
            return False
        return self.host != _host() or _runs(self.pid)


def read_lease(store: Store) -> Lease | None:
    """The lease that stands in a study's store, of a driver that may be gone."""
    try:
        return Lease.model_validate_json(store.read(LEASE))
    except (FileNotFoundError, ValueError):
        return None


def is_held(folder: StudyFolder) -> bool:
    """Whether some driver, here or elsewhere, has the study; without a copy none has."""
    if not folder.remote:
        return False
    with refusing(folder.remote):
        lease = read_lease(Store(folder.remote))
    return lease is not None and lease.alive


@contextmanager
def holding(folder: StudyFolder) -> Iterator[None]:
    """The study is this process's until the context ends, and its local folder is as new as its copy.

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
    """Raises OvertakenError where the study has become another driver's."""
    lease = read_lease(store)
    if lease and lease.origin != origin:
        raise OvertakenError(f"the study is driven {lease.driver} now")


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
            logger.error("%s; what is found from here on stays in the local folder", error)
            return
        except Exception as error:
            logger.warning("the lease on the study could not be renewed: %s: %s", type(error).__name__, error)


def _renew(store: Store, origin: str) -> None:
    lease = Lease(origin=origin, host=_host(), pid=os.getpid(), at=time.time())
    store.write(LEASE, lease.model_dump_json().encode())


def _host() -> str:
    """This machine, and the namespace in which its process ids mean something: containers have their own."""
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
