"""Answers the orders of a running study, and lets them take effect.

An order becomes a row in the records before it takes effect, and what it then does follows from that row alone: it is
done once, whenever the driver is killed. The row says `done` when the effect is in the records too.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from krona_tune.atomic_write import write_atomically
from krona_tune.record.orders import remove_order
from krona_tune.record.progress import ask_to_stop, forget_to_stop
from krona_tune.refusal import Refusal, told, unknown
from krona_tune.search.ledger import Ledger
from krona_tune.search.orders.clone import clone_number, clone_of, copy_last_rung
from krona_tune.search.orders.inbox import Inbox
from krona_tune.search.planning.plan import Plan
from krona_tune.search.resume import numbers_left
from krona_tune.search.searchers.gated_searcher import Gate, GatedSearcher
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_clock import StudyClock
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.folder import StudyFolder
from krona_tune.study.formatting import format_duration
from krona_tune.study.order import Order, is_paused, search_ended_by
from krona_tune.study.result import Status, TrialResult
from krona_tune.study.spec.loader import dump_spec, load_spec
from krona_tune.study.spec.study_spec import StudySpec

logger = logging.getLogger(__name__)

KEYS = {"trials": "search.trials", "max_concurrent": "resources.max_concurrent", "time_budget": "search.time_budget"}
"""The key of study.yaml that an order with a value changes."""


class Audience(Protocol):
    """Whoever is told about orders: the terminal's view."""

    def say(self, text: str) -> None: ...

    def expect(self, new: Mapping[str, int]) -> None: ...


class StudyOrders(Gate):
    """The orders of one study, given before and while this driver runs it.

    `plan` is the study's plan with what was ordered since; `most` trials may run at once. All methods but `close` are
    called by the thread that runs the trials.
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
    ) -> None:
        super().__init__(slots)
        self.plan = plan
        self._folder, self._ledger, self._stopping = folder, ledger, stopping
        self._clock, self._audience = clock, audience
        self._searcher: GatedSearcher | None = None
        self._checkpoints = folder.checkpoints.resolve()
        self._inbox = Inbox(folder)

    @property
    def paused(self) -> bool:
        return is_paused(self._ledger.orders.values())

    def slots(self) -> int:
        return 0 if self.paused else self.most

    def over(self) -> bool:
        return self._stopping.stop_all()

    def stopped(self, tune_id: str) -> bool:
        return tune_id in self._stopping.stopped

    def begin(self) -> None:
        """Lets orders take effect that an earlier driver had only taken."""
        for order in self._taken():
            if order.what == "cancel":
                self._end(order, "done", "the driver had ended")
            elif order.what == "stop_trial":
                self._end_at_once(order)
            elif order.what != "clone_trial":
                self._take_effect(order)
        self._clock.stand(self.paused)
        if self.paused:
            self._audience.say(f"The study is paused. Let it go on with: krona-tune order {self._folder.name} continue")

    def serve(self, searcher: GatedSearcher, *, search: bool) -> None:
        """Lets orders reach the trials of a phase from now on, those first that waited; `search`: it is the search."""
        self._searcher, searcher.gate = searcher, self
        searcher.closed = not search
        if search and (person := search_ended_by(self._ledger.orders.values())):
            self._stopping.ended = person
            go_on = f"krona-tune order {self._folder.name} continue"
            self._audience.say(f"{person} ended the search. Let it go on with: {go_on}")
        for order in self._taken():
            if order.what == "clone_trial" and order.made not in self._ledger.rows:
                self._take_effect(order)
        self._inbox.look()
        self.look()

    def leave(self) -> None:
        """Says that a phase has ended: orders to trials are refused until the next."""
        self.look()
        self._searcher = None

    def close(self) -> None:
        self._inbox.close()

    def look(self) -> None:
        """Answers the orders that have come, and ends those whose effect is in the records."""
        for order in self._inbox.take():
            if order.id not in self._ledger.orders:
                self._answer(order)
            remove_order(self._folder, order)
        for order in self._taken():
            self._settle(order)

    def _answer(self, order: Order) -> None:
        try:
            taken = self._checked(order)
        except Refusal as refusal:
            self._end(order, "refused", str(refusal))
            return
        except Exception as error:
            logger.exception("the order %s could not be answered", order.id)
            self._end(order, "refused", told(error))
            return
        self._keep(taken)
        self._audience.say(f"{taken.by}: {taken.said}.")
        self._take_effect(taken)

    def _checked(self, order: Order) -> Order:
        """Returns the order as it is taken. Raises a Refusal if it makes no sense now."""
        if order.request is None:
            raise Refusal(order.id, "its file is damaged", "give it again")
        made, outcome = "", ""
        match order.what:
            case "stop_trial":
                self._running(order)
            case "clone_trial":
                made = self._clone(order).trial_id
            case "stop":
                self._in_search(order)
            case "pause" if self.paused:
                raise Refusal(order.said, "the study is paused already", "let it go on with continue")
            case "continue" if not self.paused and not self._stopping.ended:
                raise Refusal(order.said, "the study is not paused, and its search goes on", "there is nothing to do")
            case "trials" | "max_concurrent" | "time_budget":
                outcome = f"{KEYS[order.what]}: {self._value(self._changed(order), order)}"
        return order.model_copy(update={"state": "taken", "made": made, "outcome": outcome})

    def _take_effect(self, order: Order) -> None:
        """Lets a taken order take effect. Again changes nothing more."""
        match order.what:
            case "stop_trial":
                ask_to_stop(self._checkpoints, order.trial)
                if tune_id := self._searcher and self._searcher.tune_id(order.trial):
                    self._stopping.stopped.add(tune_id)
            case "clone_trial":
                self._begin_clone(order)
            case "pause" | "continue":
                self._stopping.ended = ""
                self._end(order, "done")
                self._clock.stand(self.paused)
            case "stop":
                self._stopping.ended = order.by
                self._end(order, "done", "the search ends; the finalists are trained next")
            case "cancel":
                self._stopping.asked = True
                self._end(order, "done", "the driver ends; running trials are kept at their last rungs")
            case _:
                self._change(order)

    def _settle(self, order: Order) -> None:
        row = self._ledger.rows.get(order.made or order.trial)
        if order.what == "stop_trial" and row and row.trial_id not in self._ledger.running:
            forget_to_stop(self._checkpoints, order.trial)
            self._end(order, "done", _ended(row))
        elif order.what == "clone_trial" and row:
            self._end(order, "done", order.outcome or f"it is {order.made}")

    # Trials

    def _running(self, order: Order) -> TrialResult:
        """Returns the row of a trial that can be stopped."""
        row = self._row(order)
        if row.trial_id not in self._ledger.running:
            state = str(row.status).replace("_", " ")
            raise Refusal(order.said, f"{row.trial_id} does not run, it is {state}", "look at the trials that run")
        if row.kind != "search":
            raise Refusal(order.said, f"a {row.kind} is compared with the others", "pause or cancel the study instead")
        return row

    def _row(self, order: Order) -> TrialResult:
        row = self._ledger.rows.get(order.trial)
        if row is None:
            raise unknown(order.said, "trial", order.trial, self._ledger.running or self._ledger.rows)
        return row

    def _end_at_once(self, order: Order) -> None:
        """Ends a trial whose driver was killed before it had stopped the trial."""
        forget_to_stop(self._checkpoints, order.trial)
        row = self._ledger.rows.get(order.trial)
        if row and row.status is Status.INTERRUPTED:
            self._ledger.running.add(row.trial_id)
            self._ledger.ended(row.trial_id, Status.STOPPED_BY_USER)
        self._end(order, "done", _ended(self._ledger.rows[order.trial]) if row else "the trial is gone")

    def _clone(self, order: Order) -> TrialMessage:
        """Returns the clone that an order makes; the number of a new one follows those of its task's earlier clones."""
        self._in_search(order)
        row = self._row(order)
        if row.kind != "search":
            raise Refusal(order.said, f"{row.trial_id} is a {row.kind}", "clone a trial of the search")
        if self.plan.spec.search.shared:
            problem = "the tasks share their configurations, and a clone would have one task only"
            raise Refusal(order.said, problem, "begin a study of this task")
        made = [each.made for each in self._ledger.orders.values() if each.made.startswith(f"{row.task}-clone-")]
        number = clone_number(order.made) if order.made else 1 + max(map(clone_number, made), default=-1)
        return clone_of(order, row, number, self.plan)

    def _begin_clone(self, order: Order) -> None:
        message, searcher = self._clone(order), self._searcher
        assert searcher is not None, "clones are taken in the search only"
        if searcher.known(message.trial_id):
            return
        outcome = f"it is {message.trial_id}"
        if order.from_last_rung:
            source, elsewhere = self._ledger.rows[order.trial], self._folder.remote_checkpoints
            try:
                outcome += f", from rung {copy_last_rung(source, message, self._checkpoints, elsewhere)}"
            except Refusal as refusal:
                self._end(order.model_copy(update={"made": ""}), "refused", str(refusal))
                return
        if self.plan.space.holds(message.params) and isinstance(searcher, StudySearcher):
            searcher.teach(message)
        else:
            outcome += "; its point lies outside the space, so the sampler learns nothing from it"
        self._keep(order.model_copy(update={"outcome": outcome}))
        searcher.add(message)
        self._audience.expect({message.task: 1})

    # The study

    def _in_search(self, order: Order) -> None:
        if self._searcher is None or self._searcher.closed or self._stopping.ended:
            fix = "wait for the study's end, then resume it with --trials"
            raise Refusal(order.said, "the search has ended", fix)

    def _changed(self, order: Order) -> StudySpec:
        """Returns the request with the order's value."""
        key, value, now = KEYS[order.what], order.value.strip(), self.plan.spec
        if order.what == "trials":
            self._in_search(order)
            more, digits = value.startswith("+"), value.lstrip("+")
            if not digits.isdecimal() or len(digits) > 9 or not int(digits):
                raise Refusal(order.said, f"{value!r} is not a number of trials", "write +20 for 20 more a task")
            value = str(int(digits) + now.search.trials * more)
            if int(value) <= now.search.trials:
                raise Refusal(order.said, f"each task has {now.search.trials} already", "write +20 for 20 more a task")
        elif order.what == "max_concurrent" and (not value.isdecimal() or not 0 < int(value[:9]) <= 10_000):
            raise Refusal(order.said, f"{value!r} is not a number of trials", "write a number from 1 to 10,000")
        return self._with(key, value)

    def _with(self, key: str, value: str) -> StudySpec:
        """Returns the request with one value changed. Raises a Refusal if it can't have that value."""
        found, now = load_spec(self._folder.spec, (f"{key}={value}",)), self.plan.spec
        section, _, name = key.partition(".")
        part = getattr(now, section).model_copy(update={name: getattr(getattr(found, section), name)})
        return now.model_copy(update={section: part})

    def _change(self, order: Order) -> None:
        """Writes a new value into the request and lets it act; the row says which, so again it is the same."""
        key, _, value = order.outcome.partition(": ")
        spec = self._with(key, value)
        before, self.plan = self.plan, replace(self.plan, spec=spec)
        try:
            write_atomically(self._folder.spec, dump_spec(spec))
        except OSError as error:
            self._stopping.halt(f"the request could not be written: {told(error)}")
            return
        if order.what == "max_concurrent":
            self.most = int(value)
        elif order.what == "time_budget":
            self._stopping.allow(spec.search.time_budget)
        else:
            self._extend(before)
        self._end(order, "done", order.outcome)

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

    def _value(self, spec: StudySpec, order: Order) -> object:
        section, _, name = KEYS[order.what].partition(".")
        return getattr(getattr(spec, section), name)

    # The records

    def _keep(self, order: Order) -> None:
        self._ledger.ordered(order)

    def _end(self, order: Order, state: str, outcome: str = "") -> None:
        ended = {"state": state, "outcome": outcome or order.outcome, "ended_at": time.time()}
        self._keep(order.model_copy(update=ended))
        if state == "refused":
            self._audience.say(f"{order.by}: {order.said}: refused, {outcome}")

    def _taken(self) -> list[Order]:
        return [order for order in self._ledger.orders.values() if order.state == "taken"]


def _ended(row: TrialResult) -> str:
    score = "no score" if row.score is None else f"score {row.score:.3f}"
    words = str(row.status).replace("_", " ")
    return f"{words}, {score}, trained {format_duration(row.train_seconds)}"
