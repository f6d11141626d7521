"""Looks for orders in a thread, so that a slow store never holds up the study."""

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from krona_tune.record.orders import waiting_orders
from krona_tune.refusal import Refusal
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order

logger = logging.getLogger(__name__)

SECONDS, REMOTE_SECONDS = 1.0, 4.0
"""The time between two looks into the study's folder, and at its copy."""
MOST = 20


class Inbox:
    """The orders that wait for this driver; each is given once."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder, self._found, self._seen = folder, queue.SimpleQueue[Order](), set[str]()
        self._over = threading.Event()
        self._failed = False
        threading.Thread(target=self._serve, name="orders", daemon=True).start()

    def take(self) -> Iterator[Order]:
        """Yields the next orders that were found, at most MOST of them: trials need the thread that answers."""
        with suppress(queue.Empty):
            for _ in range(MOST):
                yield self._found.get_nowait()

    def close(self) -> None:
        self._over.set()

    def look(self) -> None:
        """Looks for orders once; an error is logged when it first happens."""
        try:
            for order in waiting_orders(self._folder):
                if order.id not in self._seen:
                    self._seen.add(order.id)
                    self._found.put(order)
        except (OSError, Refusal) as error:
            if not self._failed:
                logger.warning("orders can't be read: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _serve(self) -> None:
        pause = REMOTE_SECONDS if self._folder.remote else SECONDS
        while not self._over.wait(pause):
            self.look()
