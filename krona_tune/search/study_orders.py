"""Answers the orders of a running study, and lets them take effect.

An order becomes a row in the records before it takes effect, and what it then does follows from that row alone: it is
done once, whenever the driver is killed. The row says `done` when the effect is in the records too.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from threading import RLock
from typing import Protocol, get_args

from krona_tune.atomic_write import write_atomically
from krona_tune.record.driver_state import ask_to_stop, forget_to_stop
from krona_tune.record.orders import remove_order, waiting_orders
from krona_tune.refusal import Refusal, told
from krona_tune.search.clone import clone_number, clone_of, copy_last_rung
from krona_tune.search.earlier_orders import EarlierOrders
from krona_tune.search.inbox import Inbox
from krona_tune.search.ledger import Ledger
from krona_tune.search.order_check import clonable, refuse_pause, stoppable, what_goes_on
from krona_tune.search.planning.plan import Plan
from krona_tune.search.request_change import KEYS, new_value, with_value
from krona_tune.search.resume import numbers_left
from krona_tune.search.searchers.gated_searcher import Gate, GatedSearcher
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_clock import StudyClock
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration
from krona_tune.study.order import OF_A_DRIVER, SEARCH, Order, What, is_paused, search_ended_by
from krona_tune.study.request.loader import dump_spec
from krona_tune.study.result import Status, TrialResult

logger = logging.getLogger(__name__)

TICK = 1e-3
"""The least time between the ends of two orders, in seconds."""


class Audience(Protocol):
    """Whoever is told about orders: the terminal's view."""

    def say(self, text: str) -> None: ...

    def expect(self, new: Mapping[str, int]) -> None: ...


class StudyOrders(Gate):
    """The orders of one study, given before and while this driver runs it.

    `plan` is the study's plan with what was ordered since; `most` trials may run at once, and no more than `share`,
    if a queue of studies gives this driver one. All methods but `close` are called by the thread that runs the trials.

    Args:
        kept: returns whether everything so far is in the records; without that no order takes effect.
        only: the orders that this driver answers; the others wait for the next.
        earlier: the orders that were given before this driver's command, and what that sets itself.
        ticked: called whenever orders are looked for, several times a second.
        state_changed: called when the study waits, or waits no longer.
    """

    def __init__(
        self,
        plan: Plan,
        folder: StudyFolder,
        ledger: Ledger,
        stopping: StudyStopper,
        clock: StudyClock,
        audience: Audience,
        slots: int,
        *,
        share: int | None = None,
        kept: Callable[[], bool] = lambda: True,
        only: Collection[str] = get_args(What),
        earlier: EarlierOrders | None = None,
    ) -> None:
        super().__init__(slots)
        self.plan, self.share = plan, share
        self.ticked: Callable[[], None] = lambda: None
        self.state_changed: Callable[[], None] = lambda: None
        self._folder, self._ledger, self._stopping = folder, ledger, stopping
        self._clock, self._audience, self._kept, self._only = clock, audience, kept, only
        self._searcher: GatedSearcher | None = None
        self._search = False
        self._checkpoints = folder.checkpoints.resolve()
        self._before, self._earlier = _waiting(folder), earlier or EarlierOrders()
        self._lock = RLock()
        self._inbox = Inbox(folder)
        self.paused = is_paused(ledger.orders.values())

    def slots(self) -> int:
        return 0 if self.paused else self.allowed

    @property
    def allowed(self) -> int:
        """Returns how many trials may run at once while nobody pauses the study."""
        return self.most if self.share is None else min(self.most, self.share)

    def over(self) -> bool:
        return self._stopping.stop_all()

    def stopped(self, tune_id: str) -> bool:
        return tune_id in self._stopping.stopped

    def begin(self) -> None:
        """Lets orders take effect that an earlier driver had only taken."""
        for order in self._taken():
            if order.what in OF_A_DRIVER:
                self._end(order, "done", "the driver had ended")
            elif order.what != "clone_trial":
                self._take_effect(order)
        self._clock.stand(not self.slots())
        if self.paused:
            self._say(f"The study is paused. Let it go on with: {self._go_on}")

    def serve(self, searcher: GatedSearcher, *, search: bool) -> None:
        """Lets orders reach the trials of a phase from now on, those first that waited; `search`: it is the search."""
        self._searcher, searcher.gate, self._search = searcher, self, search
        if search:
            self._stopping.ended = search_ended_by(self._ledger.orders.values())
        self._inbox.look()
        self.look()
        if search and self._stopping.ended:
            self._say(f"{self._stopping.ended} ended the search. Let it go on with: {self._go_on}")
        for order in self._taken():
            if order.what == "clone_trial" and order.made not in self._ledger.rows:
                if self._in_search:
                    self._take_effect(order)
                elif not search:
                    self._end(order.model_copy(update={"made": ""}), "refused", "the search ended before it began")

    def leave(self) -> None:
        """Says that a phase has ended: orders to trials are refused until the next."""
        self.look()
        self._searcher, self._search = None, False

    def close(self) -> None:
        self._inbox.close()
        with self._lock:
            self._searcher, self._only = None, ()

    def look(self) -> None:
        """Answers the orders that have come, and ends those whose effect is in the records."""
        with self._lock:
            self.ticked()
            for order in self._inbox.take():
                if order.id in self._ledger.orders or self._answer(order):
                    remove_order(self._folder, order)
            for order in self._taken():
                self._settle(order)

    def _answer(self, order: Order) -> bool:
        """Returns whether the order is answered, and in the records."""
        if order.what not in self._only and order.what in get_args(What):
            return False
        try:
            taken = self._checked(order)
        except Refusal as refusal:
            return self._end(order, "refused", str(refusal))
        except Exception as error:
            logger.exception("the order %s could not be answered", order.id)
            return self._end(order, "refused", told(error))
        if self._keep(taken):
            self._say(f"{taken.by}: {taken.said}.")
            self._take_effect(taken)
        return self._kept()

    def _checked(self, order: Order) -> Order:
        """Returns the order as it is taken. Raises a Refusal if it makes no sense now."""
        if order.request is None:
            raise Refusal(order.id, "its file is damaged, or can't be read", "give it again")
        made = ""
        match order.what:
            case "stop_trial":
                stoppable(order, self._ledger.rows, self._ledger.running)
            case "clone_trial":
                made = self._clone(order).trial_id
            case "stop":
                self._refuse_after_the_search(order)
            case "cancel" | "share" if order.id in self._before:
                raise Refusal(order.said, "it was given to a driver that has ended", "give it again")
            case "share" if self.share is None:
                raise Refusal(order.said, "no queue runs this study", "order max-concurrent, or pause")
            case "pause":
                refuse_pause(order, paused=self.paused)
            case "continue":
                made = what_goes_on(order, paused=self.paused, ended=self._search and bool(self._stopping.ended))
            case "trials" | "max_concurrent" | "time_budget" | "share":
                if order.what == "trials":
                    self._refuse_after_the_search(order)
                self._earlier.refuse_overruled(order)
                made = new_value(order, self.plan.spec, self._folder)
        return order.model_copy(update={"state": "taken", "made": made})

    def _take_effect(self, order: Order) -> None:
        """Lets a taken order take effect; again changes nothing more. One that can't is refused after all."""
        try:
            self._effect(order)
        except Exception as error:
            logger.exception("the order %s could not take effect", order.id)
            why = str(error) if isinstance(error, Refusal) else told(error)
            self._end(order.model_copy(update={"made": ""}), "refused", why)

    def _effect(self, order: Order) -> None:
        match order.what:
            case "stop_trial":
                self._stop(order)
            case "clone_trial":
                self._begin_clone(order)
            case "pause":
                self._pause(order, True)
            case "continue" if order.made == SEARCH:
                self._stopping.ended = ""
                self._end(order, "done", "the search goes on")
            case "continue":
                self._pause(order, False)
            case "stop":
                self._stopping.ended = order.by
                self._end(order, "done", "the search ends; the finalists are trained next")
            case "cancel":
                self._stopping.ask("cancelled")
                self._end(order, "done", "the driver ends; running trials are kept at their last rungs")
            case "share":
                self.share = int(order.made)
                self._stand()
                self._end(order, "done", f"trials at once: {order.made}")
            case _:
                self._earlier.refuse_overruled(order)
                self._change(order)

    def _pause(self, order: Order, paused: bool) -> None:
        self.paused = paused
        self._stand()
        self._end(order, "done", "trials wait at their next rungs" if paused else "the study goes on")

    def _stand(self) -> None:
        """Stops the study's clock while no trial may run."""
        self._clock.stand(not self.slots())
        self.state_changed()

    def _settle(self, order: Order) -> None:
        row = self._ledger.rows.get(order.made or order.trial)
        if order.what == "stop_trial" and row and row.status is not Status.INTERRUPTED:
            forget_to_stop(self._checkpoints, order.trial)
            self._end(order, "done", _ended(row))
        elif order.what == "clone_trial" and row:
            self._end(order, "done", order.outcome or f"it is {order.made}")

    # Trials

    def _stop(self, order: Order) -> None:
        """Asks the trial's worker to stop, or ends a trial that no worker has."""
        tune_id = self._searcher.tune_id(order.trial) if self._searcher else None
        if tune_id:
            self._stopping.stopped.add(tune_id)
            ask_to_stop(self._checkpoints, order.trial)
            return
        forget_to_stop(self._checkpoints, order.trial)
        if self._searcher:
            self._searcher.withdraw(order.trial)
        row = self._ledger.rows.get(order.trial)
        if row and row.status is Status.INTERRUPTED:
            self._ledger.running.add(row.trial_id)
            self._ledger.ended(row.trial_id, Status.STOPPED_BY_USER)
        self._end(order, "done", _ended(self._ledger.rows[order.trial]) if row else "the trial is gone")

    def _clone(self, order: Order) -> TrialMessage:
        """Returns the clone that an order makes; the number of a new one follows those of its task's earlier clones."""
        self._refuse_after_the_search(order)
        row = clonable(order, self._ledger.rows, self.plan.spec, self._ledger.running)
        made = [each.made for each in self._ledger.orders.values() if each.made.startswith(f"{row.task}-clone-")]
        number = clone_number(order.made) if order.made else 1 + max(map(clone_number, made), default=-1)
        return clone_of(order, row, number, self.plan.count)

    def _begin_clone(self, order: Order) -> None:
        message, searcher = self._clone(order), self._searcher
        assert searcher is not None, "clones are taken in the search only"
        if searcher.knows(message.trial_id):
            return
        outcome = f"it is {message.trial_id}"
        if order.from_last_rung:
            source, elsewhere = self._ledger.rows[order.trial], self._folder.remote_checkpoints
            schedule = self.plan.spec.schedule
            rung, message = copy_last_rung(source, message, self._checkpoints, elsewhere, schedule)
            outcome += f", from rung {rung}"
        if self.plan.space.holds(message.params) and isinstance(searcher, StudySearcher):
            searcher.teach(message)
        else:
            outcome += "; its point lies outside the space, so the sampler learns nothing from it"
        self._keep(order.model_copy(update={"outcome": outcome}))
        searcher.add(message)
        self._audience.expect({message.task: 1})

    # The study

    @property
    def _in_search(self) -> bool:
        return self._search and not self._stopping.ended

    @property
    def _go_on(self) -> str:
        return f"krona-tune order {self._folder.name} continue{self._folder.storage_flag}"

    def _refuse_after_the_search(self, order: Order) -> None:
        if not self._in_search:
            fix = "wait for the study's end, then resume it with --trials"
            raise Refusal(order.said, "the search has ended", fix)

    def _change(self, order: Order) -> None:
        """Writes a new value into the request and lets it act."""
        before, spec = self.plan, with_value(order, order.made, self.plan.spec, self._folder)
        self.plan = replace(before, spec=spec)
        write_atomically(self._folder.spec, dump_spec(self.plan.spec))
        if order.what == "max_concurrent":
            self.most = int(order.made)
        elif order.what == "time_budget":
            self._stopping.allow(self.plan.spec.search.time_budget)
        else:
            self._extend(before)
        self._end(order, "done", f"{KEYS[order.what]}: {order.made}")

    def _extend(self, before: Plan) -> None:
        if isinstance(self._searcher, SharedSearcher):
            earlier = set(numbers_left(before, self._ledger))
            self._searcher.extend(number for number in numbers_left(self.plan, self._ledger) if number not in earlier)
        if isinstance(self._searcher, StudySearcher):
            left = {task: set(numbers_left(before, self._ledger, task)) for task in self.plan.spec.tasks}
            more = {
                task: [number for number in numbers_left(self.plan, self._ledger, task) if number not in known]
                for task, known in left.items()
            }
            self._searcher.extend(more)
            self._audience.expect({task: len(numbers) for task, numbers in more.items()})

    # The records

    def _keep(self, order: Order) -> bool:
        """Records an order; returns whether it is in the records. Without that the study halts."""
        self._ledger.ordered(order)
        if not self._kept():
            self._stopping.halt("an order could not be kept")
        return self._kept()

    def _end(self, order: Order, state: str, outcome: str = "") -> bool:
        earlier = max((each.ended_at or 0.0 for each in self._ledger.orders.values()), default=0.0)
        now = max(time.time(), earlier + TICK)  # the clock may have been set back, and the last order counts
        kept = self._keep(order.model_copy(update={"state": state, "outcome": outcome, "ended_at": now}))
        if state == "refused":
            self._say(f"{order.by}: {order.said}: refused, {outcome}")
        return kept

    def _taken(self) -> list[Order]:
        return [order for order in self._ledger.orders.values() if order.state == "taken"]

    def _say(self, text: str) -> None:
        try:
            self._audience.say(text)
        except Exception:
            logger.exception("an order could not be shown")


def _waiting(folder: StudyFolder) -> frozenset[str]:
    """Returns the orders that were given before now; none if their place can't be reached."""
    with suppress(Refusal, OSError):
        return frozenset(order.id for order in waiting_orders(folder))
    return frozenset()


def _ended(row: TrialResult) -> str:
    score = "no score" if row.score is None else f"score {row.score:.3f}"
    words = str(row.status).replace("_", " ")
    return f"{words}, {score}, trained {format_duration(row.train_seconds)}"
