"""Checks orders before a driver reads them, and says which of them wait for a driver that starts."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from krona_tune.record.driver_state import running_state
from krona_tune.record.orders import give_order, waiting_orders
from krona_tune.record.ownership import is_locked, is_running
from krona_tune.record.parquet_reader import read_orders, read_trials
from krona_tune.refusal import Refusal
from krona_tune.search.order_table import ORDER_ACTIONS
from krona_tune.search.running_study import KnownStudy
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import OF_A_DRIVER, Order, OrderRequest, is_paused, search_ended_by
from krona_tune.study.request.loader import load_spec
from krona_tune.study.settings import ORDERED


def give_checked_order(folder: StudyFolder, request: OrderRequest, by: str = "") -> Order:
    """Leaves an order for the study's driver, unless the driver would surely refuse it; returns it as it waits.

    Args:
        by: who gives it; empty for the user of this process.

    Raises:
        Refusal: it makes no sense, or what `give_order` raises.
    """
    refuse_senseless(folder, request)
    return give_order(folder, request, by)


def refuse_senseless(folder: StudyFolder, request: OrderRequest) -> None:
    """Raises a Refusal if the study's driver would surely refuse an order; leaves none."""
    if not folder.spec.exists() or request.kind.facts.by_queue:
        return
    spec, action = load_spec(folder.spec), ORDER_ACTIONS[request.what]
    known = KnownStudy(folder=folder, spec=spec, rows={})
    if action.reads_trials:
        try:
            known = replace(known, rows={row.trial_id: row for row in read_trials(folder.results)})
        except Refusal:
            return  # what can't be read is renamed by the driver, which then knows more
    elif not request.kind.facts.takes and not takes_orders(folder):
        known = _without_driver(known)
    action.check(known, request)


def takes_orders(folder: StudyFolder) -> bool:
    """Returns whether a driver runs the study; one that has this folder has not come to its end either."""
    state = running_state(folder) if is_locked(folder) else None
    return is_running(folder) and not (state and state.ends)


def _without_driver(known: KnownStudy) -> KnownStudy:
    """Adds what the orders say of a study that does not run, unless some wait, which may change it before."""
    orders: list[Order] = []
    with suppress(Refusal):
        orders = [*read_orders(known.folder.results), *waiting_orders(known.folder)]
    if any(order.state in {"waiting", "taken"} for order in orders):
        return replace(known, runs=False)
    return replace(known, runs=False, paused=is_paused(orders), ended=bool(search_ended_by(orders)))


@dataclass(frozen=True, kw_only=True)
class EarlierOrders:
    """The orders that no driver had carried out when a command began to resume a study.

    `keys` are the keys of the request that the command sets itself. Its values are newer than those orders, so they
    stay.
    """

    orders: tuple[Order, ...] = ()
    keys: frozenset[str] = frozenset()

    @staticmethod
    def of(folder: StudyFolder, keys: Iterable[str] = (), waited: frozenset[str] | None = None) -> "EarlierOrders":
        """Returns a study's orders that no driver has carried out; none of those that can't be read.

        Args:
            keys: those of the request that the command sets.
            waited: the ids of those that waited when the command began; None: those that wait now.
        """
        recorded, waiting = list[Order](), list[Order]()
        with suppress(Refusal):  # the driver renames what is damaged
            recorded = read_orders(folder.results)
        with suppress(Refusal, OSError):
            waiting = waiting_orders(folder)
        answered = {order.id for order in recorded}  # one of these may wait still, if it could not be removed
        found = [order for order in recorded if order.state == "taken"]
        earlier = [order for order in waiting if waited is None or order.id in waited]
        found += [order for order in earlier if order.id not in answered]
        return EarlierOrders(orders=tuple(found), keys=frozenset(keys))

    def __contains__(self, order: Order) -> bool:
        """Returns whether the order was given before the command began."""
        return order.id in {earlier.id for earlier in self.orders}

    def refuse_overruled(self, order: Order) -> None:
        """Raises a Refusal if the order is about a value that the command has set after it."""
        if self._overruled(order):
            problem = f"the study was resumed later, with a {ORDERED[order.what]} of its own"
            raise Refusal(order.text, problem, "give it again")

    @property
    def text(self) -> str:
        """Returns the orders in words; empty if none waits."""
        return "; ".join(f"{order.text}, of {order.by or 'somebody'}{self._refused(order)}" for order in self.orders)

    def _refused(self, order: Order) -> str:
        if order.what in OF_A_DRIVER:
            return " (refused: its driver has ended)"
        return f" (refused: this start sets {ORDERED[order.what]})" if self._overruled(order) else ""

    def _overruled(self, order: Order) -> bool:
        return order in self and ORDERED.get(order.what) in self.keys
