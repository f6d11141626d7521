"""Says which orders wait for a driver that starts, and which of them it refuses."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from krona_tune.record.orders import waiting_orders
from krona_tune.record.parquet_reader import read_orders
from krona_tune.refusal import Refusal
from krona_tune.search.request_change import KEYS
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OF_A_DRIVER, Order


@dataclass(frozen=True, kw_only=True)
class EarlierOrders:
    """The orders that no driver had carried out when a command began to resume a study.

    `keys` are the keys of the request that the command sets itself. Its values are newer than those orders, so they
    stay.
    """

    orders: tuple[Order, ...] = ()
    keys: frozenset[str] = frozenset()

    @staticmethod
    def of(folder: StudyFolder, keys: Iterable[str] = ()) -> "EarlierOrders":
        """Returns a study's orders that wait now; none of those that can't be read."""
        found: list[Order] = []
        with suppress(Refusal):  # the driver renames what is damaged
            found += [order for order in read_orders(folder.results) if order.state == "taken"]
        with suppress(Refusal, OSError):
            found += waiting_orders(folder)
        return EarlierOrders(orders=tuple(found), keys=frozenset(keys))

    def refuse_overruled(self, order: Order) -> None:
        """Raises a Refusal if the order is about a value that the command has set after it."""
        if self._overruled(order):
            problem = f"the study was resumed later, with a {KEYS[order.what]} of its own"
            raise Refusal(order.said, problem, "give it again")

    @property
    def said(self) -> str:
        """Returns the orders in words; empty if none waits."""
        return "; ".join(f"{order.said}, of {order.by or 'somebody'}{self._refused(order)}" for order in self.orders)

    def _refused(self, order: Order) -> str:
        if order.what in OF_A_DRIVER:
            return " (refused: its driver has ended)"
        return f" (refused: this start sets {KEYS[order.what]})" if self._overruled(order) else ""

    def _overruled(self, order: Order) -> bool:
        ids = {earlier.id for earlier in self.orders}
        return order.id in ids and KEYS.get(order.what) in self.keys
