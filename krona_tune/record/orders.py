"""Keeps orders that no driver has answered yet: a small file each, beside the study or at its copy.

Whoever may write there may give orders: through a shared folder or a bucket, with no port open in the driver.
"""

import getpass
import json
import logging
import os
import queue
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from socket import gethostname

from krona_tune.atomic_write import atomic_path
from krona_tune.record.remote_files import Store, refusing_store_errors
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest

logger = logging.getLogger(__name__)

MOST_BYTES = 16_384
"""The size of a file above which it is no order."""
LATEST = 1e11
"""A time that no clock shows, in seconds since the epoch."""
MOST_WAITING = 1_000
"""The most orders that may wait for a driver."""
LOOK_SECONDS, REMOTE_LOOK_SECONDS = 1.0, 4.0
"""The time between a driver's two looks into the study's folder, and at its copy."""
MOST_AT_ONCE = 20
UNREADABLE = "unreadable"
PERSON = "KRONA_TUNE_PERSON"
"""The environment variable that names the person for whom a process works."""
ENDING = ".json"
NAME = re.compile(r"[0-9TZ]{1,30}-[0-9a-f]{6,32}\.json")
"""The names of orders; other files are left alone."""


def give_order(folder: StudyFolder, request: OrderRequest, by: str = "") -> Order:
    """Leaves an order for the study's driver, which reads it within a few seconds; returns it as it waits.

    Args:
        by: who gives it; empty for the user of this process.

    Raises:
        Refusal: there is no such study, too many orders wait, or nothing can be written there.
    """
    if not folder.spec.exists():
        raise Refusal(str(folder.root), "no study is here", "name the folder of a study")
    now = time.time()
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    made = Order(
        id=f"{moment}-{secrets.token_hex(6)}", by=by or whoami(), given_at=now, **request.model_dump(mode="python")
    )
    if sum(1 for _ in _names(folder)) >= MOST_WAITING:
        raise Refusal(str(folder.orders), f"{MOST_WAITING} orders wait", "resume the study, whose driver answers them")
    text = made.model_dump_json()
    if folder.remote:
        with refusing_store_errors(folder.remote):
            Store(folder.remote).write(f"{folder.orders.name}/{made.id}{ENDING}", text.encode())
        return made
    try:
        make_orders_folder(folder)
        with atomic_path(folder.orders / f"{made.id}{ENDING}") as path:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)  # whoever runs the study must read it, as soon as it is there
    except OSError as error:
        raise Refusal(str(folder.orders), f"no order can be left there: {error.strerror}", "make it writable") from None
    return made


def waiting_orders(folder: StudyFolder) -> list[Order]:
    """Returns the orders that no driver has answered yet, in the order in which they were given.

    A file that holds no order becomes one that is `unreadable`, for the driver to refuse.

    Raises:
        Refusal: the copy's store can't be reached.
    """
    found = [_read(folder, name) for name in _names(folder)]
    return sorted((order for order in found if order), key=lambda order: (order.given_at, order.id))


def waiting_ids(folder: StudyFolder) -> frozenset[str] | None:
    """Returns the ids of the orders that wait; None if they can't be read."""
    with suppress(Refusal, OSError):
        return frozenset(order.id for order in waiting_orders(folder))
    return None


def given_orders(folder: StudyFolder, answered: Iterable[Order]) -> tuple[Order, ...]:
    """Returns every order once, the newest first; those that wait are left out if their place can't be reached.

    Args:
        answered: the orders of the study's records.
    """
    waiting: Sequence[Order] = ()
    with suppress(Refusal, OSError):
        waiting = waiting_orders(folder)
    found = {order.id: order for order in (*waiting, *answered)}
    return tuple(sorted(found.values(), key=lambda order: (order.given_at, order.id), reverse=True))


class Inbox:
    """The orders that wait for this driver, in their order; where two threads have looked at once, one comes twice.

    A thread looks for them, so that a slow store never holds up the study.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder, self._found, self._seen = folder, queue.SimpleQueue[Order](), set[str]()
        self._over = threading.Event()
        self._failed = False
        threading.Thread(target=self._serve, name="orders", daemon=True).start()

    def take(self, most: int = MOST_AT_ONCE) -> Iterator[Order]:
        """Yields the next orders that were found, so few at once that trials get the thread that answers, too."""
        with suppress(queue.Empty):
            for _ in range(most):
                yield self._found.get_nowait()

    def close(self) -> None:
        self._over.set()

    def look(self) -> None:
        """Looks for orders once; an error is logged when it first happens."""
        try:
            for order in waiting_orders(self._folder):
                if order.id not in self._seen:
                    self._found.put(order)  # first: no other thread may put a later one before it
                    self._seen.add(order.id)
        except (OSError, Refusal) as error:
            if not self._failed:
                logger.warning("orders can't be read: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _serve(self) -> None:
        pause = REMOTE_LOOK_SECONDS if self._folder.remote else LOOK_SECONDS
        while not self._over.wait(pause):
            self.look()


def make_orders_folder(folder: StudyFolder) -> None:
    """Makes the folder for orders, in which whoever may write beside the study may write too."""
    folder.orders.mkdir(exist_ok=True)
    with suppress(OSError):  # it is somebody else's
        folder.orders.chmod(stat.S_IMODE(folder.root.stat().st_mode))


def remove_order(folder: StudyFolder, order: Order) -> bool:
    """Removes an order that is in the records, and returns whether it is gone; an error is logged, since the records
    say that it was answered."""
    name = f"{order.id}{ENDING}"
    try:
        if folder.remote:
            with refusing_store_errors(folder.remote):
                Store(folder.remote).remove(f"{folder.orders.name}/{name}")
        else:
            (folder.orders / name).unlink(missing_ok=True)
    except (OSError, Refusal) as error:
        logger.warning("the order %s could not be removed: %s", order.id, error)
        return False
    return True


def whoami() -> str:
    """Returns the user of this process and its machine; whoever a driver works for, if the environment says that."""
    if person := os.environ.get(PERSON, "").strip():
        return person[:80]
    user = "somebody"
    with suppress(Exception):  # there may be no such user in a container
        user = getpass.getuser()
    return f"{user}@{gethostname()}"[:80]


def _names(folder: StudyFolder) -> Iterator[str]:
    if folder.remote:
        with refusing_store_errors(folder.remote):
            names = Store(folder.remote).names(folder.orders.name)
    else:
        names = [path.name for path in folder.orders.glob(f"*{ENDING}")]
    yield from filter(NAME.fullmatch, names)


def _read(folder: StudyFolder, name: str) -> Order | None:
    """Returns the order in a file; None if the file is gone. Of the file, only what somebody asks is believed."""
    order_id = name.removesuffix(ENDING)
    try:
        written = Order.model_validate(json.loads(_content(folder, name)))
        request = written.request
        if written.id != order_id or request is None or not 0 <= written.given_at < LATEST:
            raise ValueError("it is none that was given")
    except Refusal:  # the store gave no answer
        raise
    except (PermissionError, IsADirectoryError, ValueError, RecursionError):
        return Order(id=order_id, what=UNREADABLE)
    except OSError:
        return None  # it is gone, or the next look may read it
    by = written.by.strip() or "somebody"
    return Order(id=order_id, by=by, given_at=written.given_at, **request.model_dump())


def _content(folder: StudyFolder, name: str) -> bytes:
    if folder.remote:
        try:
            return Store(folder.remote).read(f"{folder.orders.name}/{name}")[: MOST_BYTES + 1]
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:
            with refusing_store_errors(folder.remote):
                raise error
    path: Path = folder.orders / name
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)
