"""Answers the orders of a running study, and lets them take effect.

An order becomes a row in the records before it takes effect, and what it then does follows from that row alone: it is
done once, whenever the driver is killed. The row says `done` when the effect is in the records too.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from threading import RLock

from krona_tune.record.orders import MOST_AT_ONCE, MOST_WAITING, Inbox, remove_order
from krona_tune.record.trial_checkpoints import remove
from krona_tune.refusal import Refusal, told
from krona_tune.search.order_table import ORDER_ACTIONS
from krona_tune.search.running_study import RunningStudy
from krona_tune.search.searchers.task_searcher import Gate, GatedSearcher
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.order import OF_A_DRIVER, OF_A_FULL_TRAINING, Order, search_ended_by

logger = logging.getLogger(__name__)

REMOVE_AGAIN_SECONDS = 20.0
TICK = 1e-3
"""The least time between the ends of two orders, in seconds."""


class StudyOrders(Gate):
    """The orders of one study, given before and while this driver runs it; the gate that its trials pass.

    All methods but `close` are called by the thread that runs the trials.

    Args:
        study: what the orders change.
        kept: returns whether everything so far is in the records; without that no order takes effect.
        ticked: called whenever orders are looked for, several times a second.
        earlier: the orders that were given before this driver's command, and what that sets itself.
        full_training: this driver only trains a configuration on all examples; other orders wait for the next one.
        room: how many trials had room when the study began.
    """

    def __init__(
        self,
        study: RunningStudy,
        *,
        kept: Callable[[], bool],
        ticked: Callable[[], None],
        earlier: EarlierOrders,
        full_training: bool,
        room: int,
    ) -> None:
        super().__init__(room=room)
        self.study, self.kept, self._ticked, self._earlier = study, kept, ticked, earlier
        self.only: Collection[str] = OF_A_FULL_TRAINING if full_training else tuple(ORDER_ACTIONS)
        self._lock, self._ended = RLock(), False
        self._inbox, self._told = Inbox(study.folder), False
        self._unremoved: list[Order] = []
        self._remove_again_at = 0.0

    def slots(self) -> int:
        return self.study.slots()

    def over(self) -> bool:
        return self.study.stopper.stop_all()

    def stopped(self, tune_id: str) -> bool:
        return tune_id in self.study.stopper.stopped

    def judge(self, tune_id: str) -> None:
        self.study.stopper.judged.add(tune_id)

    def begin(self) -> None:
        """Lets orders take effect that an earlier driver had only taken."""
        for order in self._taken():
            if order.what in OF_A_DRIVER:
                self._end(order, "done", "the driver had ended")
            elif order.what in self.only and not ORDER_ACTIONS[order.what].needs_searcher:
                self._take_effect(order)

    def serve(self, searcher: GatedSearcher, phase: int) -> None:
        """Lets orders reach the trials of a phase from now on, those first that waited."""
        self.study.searcher, searcher.gate, self.study.phase = searcher, self, phase
        search = self.study.searching
        if search:
            self.study.stopper.ended = search_ended_by(self.study.ledger.orders.values())
        self._inbox.look()
        self.look(MOST_WAITING)  # all: one that lets the search go on belongs to the one before it that ends it
        if self.study.paused and not self._told:
            self._say(f"The study is paused. Let it go on with: {self._go_on}")
        self._told = True
        if search and self.study.stopper.ended:
            self._say(f"{self.study.stopper.ended} ended the search. Let it go on with: {self._go_on}")
        for order in self._taken():
            if order.what in self.only and ORDER_ACTIONS[order.what].needs_searcher:
                self._begin_late(order)

    def _begin_late(self, order: Order) -> None:
        """Lets an order take effect that needs trials, if it may still."""
        if self.study.in_search:
            self._take_effect(order, late=True)
        elif not self.study.searching:
            self._end(order, "refused", "the search ended before it began")  # no other clone gets its id

    def leave(self) -> None:
        """Says that a phase has ended: orders to trials are refused until the next, and a clone that waits for a worker
        is given up, unless the study goes on with it when it is resumed."""
        searcher, self.study.searcher = self.study.searcher, None  # an order that is read only now would bring no trial
        self.study.phase += 1
        self.running = 0
        self.look()
        if searcher and not self.study.stopper.interrupted:
            for order in self._taken():
                if ORDER_ACTIONS[order.what].needs_searcher and searcher.withdraw(order.made):
                    remove(self.study.folder, [order.made])

    def close(self) -> None:
        """Takes no more orders. Those that mean this driver and came too late are refused, unless Ray was lost: then
        there may be no time."""
        self._inbox.close()
        with self._lock:
            self.study.searcher, self.only, self._ended = None, OF_A_DRIVER, True
            if not self.study.stopper.lost:
                self._inbox.look()
                self.look()
            self.only = ()

    def look(self, most: int = MOST_AT_ONCE) -> None:
        """Answers the next orders that have come, at most so many, and ends those whose effect is in the records."""
        with self._lock:
            self._ticked()
            self.study.clock.stand(not (self.slots() or self.running))  # one that is paused trains on to its next rung
            answered = [
                order for order in self._inbox.take(most) if order.id in self.study.ledger.orders or self._answer(order)
            ]
            self._remove(answered)
            for order in self._taken():
                outcome_of = ORDER_ACTIONS[order.what].outcome
                if outcome := outcome_of and outcome_of(self.study, order):
                    self._end(order, "done", outcome)

    def _remove(self, answered: Sequence[Order]) -> None:
        """Removes orders that are in the records, and from time to time those that the store has not removed: a queue
        would take them for orders that wait."""
        if time.monotonic() >= self._remove_again_at:
            answered, self._unremoved = [*self._unremoved, *answered], []
            self._remove_again_at = time.monotonic() + REMOVE_AGAIN_SECONDS
        self._unremoved += [order for order in answered if not remove_order(self.study.folder, order)]

    def _answer(self, order: Order) -> bool:
        """Returns whether the order is answered, and in the records."""
        if order.what not in self.only and order.what in ORDER_ACTIONS:
            return False
        if self.study.stopper.interrupted and order.what not in OF_A_DRIVER:
            return False  # it is for the next driver
        try:
            taken = self._checked(order)
        except Refusal as refusal:
            return self._end(order, "refused", str(refusal))
        except Exception as error:
            logger.exception("the order %s could not be answered", order.id)
            return self._end(order, "refused", told(error))
        if self._keep(taken):
            self._say(f"{taken.by}: {taken.text}.")
            self._take_effect(taken)
        return self.kept()

    def _checked(self, order: Order) -> Order:
        """Returns the order as it is taken. Raises a Refusal if it makes no sense now."""
        request = order.request
        if request is None:
            raise Refusal(order.id, "its file is damaged, or can't be read", "give it again")
        action = ORDER_ACTIONS[order.what]
        if order.what in OF_A_DRIVER and (self._ended or order in self._earlier):
            raise Refusal(order.text, "it was given to a driver that has ended", "give it again")
        if action.of_the_search and not self.study.in_search:
            raise Refusal(order.text, "the search has ended", action.of_the_search)
        self._earlier.refuse_overruled(order)
        return order.model_copy(update={"state": "taken", "made": action.check(self.study.known(), request)})

    def _take_effect(self, order: Order, *, late: bool = False) -> None:
        """Lets a taken order take effect; again changes nothing more. One that can't is refused after all.

        Of one that is refused so `late` that an earlier driver took it, no other clone gets the id, and no state stays.
        """
        try:
            self._earlier.refuse_overruled(order)
            after = ORDER_ACTIONS[order.what].effect(self.study, order)
        except Exception as error:
            logger.exception("the order %s could not take effect", order.id)
            self._end(
                order if late else order.model_copy(update={"made": ""}),
                "refused",
                str(error) if isinstance(error, Refusal) else told(error),
            )
            if late and order.made:
                remove(self.study.folder, [order.made])
            return
        if after.state == "done":
            self._end(after, "done", after.outcome)
        elif after != order:
            self._keep(after)

    # The records

    def _keep(self, order: Order) -> bool:
        """Records an order; returns whether it is in the records. Without that the study halts."""
        self.study.ledger.ordered(order)
        if not self.kept():
            self.study.stopper.halt("an order could not be kept")
        return self.kept()

    def _end(self, order: Order, state: str, outcome: str) -> bool:
        earlier = max((each.ended_at or 0.0 for each in self.study.ledger.orders.values()), default=0.0)
        now = max(time.time(), earlier + TICK)  # the clock may have been set back, and the last order counts
        kept = self._keep(order.model_copy(update={"state": state, "outcome": outcome, "ended_at": now}))
        if state == "refused":
            self._say(f"{order.by}: {order.text}: refused, {outcome}")
        return kept

    def _taken(self) -> list[Order]:
        orders = self.study.ledger.orders.values()
        return [order for order in orders if order.state == "taken" and order.what in ORDER_ACTIONS]

    @property
    def _go_on(self) -> str:
        return f"krona-tune order {self.study.folder.name} continue{self.study.folder.storage_flag}"

    def _say(self, text: str) -> None:
        try:
            self.study.view.say(text)
        except Exception:
            logger.exception("an order could not be shown")
