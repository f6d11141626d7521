"""Plays a driver that answers orders without Ray, and may be killed at any write."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from krona_tune.record.driver_state import STOP
from krona_tune.record.orders import MOST_AT_ONCE, Inbox, give_order
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.search.budget import Amount, Budget, StudyClock
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.resume import known_trials, numbers_left
from krona_tune.search.running_study import RunningStudy
from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.request.domain import Fixed
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.result import Status
from tests.search.conftest import count_on, never
from tests.search.plans import SHAPE, plan
from tests.search.rungs import report


class Killed(BaseException):
    """The driver is killed."""


class Mortal(ParquetSink):
    """Records of a driver that is killed at its n-th write about an order, before or after that write."""

    def __init__(self, results: Path, write: int, *, after: bool) -> None:
        super().__init__(results)
        self._left, self._after = write, after

    def ordered(self, order: Order) -> None:
        self._left -= 1
        if not self._left and not self._after:
            raise Killed
        super().ordered(order)
        if not self._left:
            raise Killed


class PromptInbox(Inbox):
    """An inbox that looks whenever it is asked, and not from time to time."""

    def __init__(self, folder: StudyFolder) -> None:
        super().__init__(folder)
        self.close()

    def take(self, most: int = MOST_AT_ONCE) -> Iterator[Order]:
        self.look()
        return super().take(most)


class Terminal:
    """Takes the place of the view."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.expected: dict[str, int] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def expect(self, new: Mapping[str, int]) -> None:
        self.expected |= {task: count for task, count in new.items() if count}


def nothing() -> None: ...


class Driver:
    """One driver of a study from its records: trial cola-000 has ended, cola-001 runs until somebody stops it."""

    def __init__(
        self,
        folder: StudyFolder,
        write: int = 0,
        *,
        after: bool = False,
        slots: int = 8,
        share: int | None = None,
        sets: Collection[str] = (),
        earlier: EarlierOrders | None = None,
    ) -> None:
        self.folder, self.later = folder, list[OrderRequest]()
        spec = load_spec(folder.spec)
        self.plan = Plan(**{**vars(plan()), "spec": spec})
        sink = Mortal(folder.results, write, after=after)
        recorded = read_records(folder.results)
        self.ledger = Ledger(count_on(SHAPE), sink, list(recorded.trials), orders=recorded.orders)
        self.stopper = StudyStopper(Budget(), Amount)
        self.terminal, self.clock = Terminal(), StudyClock(folder.clock)
        before = earlier or EarlierOrders.of(folder, sets)
        self.study = RunningStudy(
            plan=self.plan,
            folder=folder,
            ledger=self.ledger,
            stopper=self.stopper,
            clock=self.clock,
            view=self.terminal,
            most=slots,
            share=share,
            state_changed=nothing,
        )
        self.orders = StudyOrders(
            self.study, kept=lambda: True, ticked=nothing, earlier=before, full_training=False, room=slots
        )

    def run(self, *, search: bool = True) -> "Driver":
        """Runs a phase in which every trial that is asked to stop does so, and every clone begins."""
        self.orders.begin()
        samplers = open_samplers(self.plan.spec, self.plan.space, self.folder.journal, never)
        left = {task: numbers_left(self.plan, self.ledger, task) for task in self.plan.spec.tasks}
        waiting = known_trials(self.plan, self.ledger)
        self.seen: list[str] = []
        self.begun: dict[str, TrialMessage] = {}
        seeds = dict.fromkeys(self.plan.spec.tasks, 1)
        self.searcher = StudySearcher(waiting, samplers, left, self.stopper.final_status, seeds)
        self.orders.serve(self.searcher, 1 if search else 2)
        if not self.orders.over() and not self.study.paused:
            self.begin_trials()
        self.give_while_it_runs()
        self.stop_trials()
        self.orders.leave()
        return self

    def begin_trials(self) -> None:
        """Begins what waits, as Tune does."""
        for number in itertools.count():
            if not self.searcher.waiting:
                return
            found = self.searcher.suggest(f"tune-{number}")
            if found is None:
                return
            message = TrialMessage.from_dict(found)
            self.seen.append(message.trial_id)
            self.begun[f"tune-{number}"] = message
            if message.kind == "search":
                self.ledger.started(message)

    def give_while_it_runs(self) -> None:
        """Gives what was to be given while trials run."""
        for request in self.later:
            give_order(self.folder, request, by="ann")
        self.later.clear()
        self.orders.look()
        if not self.orders.over() and not self.study.paused:
            self.begin_trials()

    def stop_trials(self) -> None:
        """Stops what is asked to stop, as the workers do."""
        for tune_id, message in self.begun.items():
            if (self.folder.checkpoints / message.trial_id / STOP).exists():
                self.searcher.on_trial_complete(tune_id, {"score": 0.5, "examples": 1, "train_loss": 1.0})
                self.ledger.ended(message.trial_id, self.stopper.final_status(tune_id, {"score": 0.5}, False))

    @property
    def only(self) -> Order:
        (order,) = self.ledger.orders.values()
        return order


def trial(number: int) -> TrialMessage:
    fixed = {name: domain.value for name, domain in plan().space.knobs["krona"].items() if isinstance(domain, Fixed)}
    params = {"method": "krona", **fixed, "a_out": 4, "a_in": 6, "learning_rate": 1e-3}
    return TrialMessage(f"cola-{number:03d}", "cola", number, "search", 1, params)


def cut_off_study(root: Path) -> StudyFolder:
    """Returns a study whose driver was killed: trial cola-000 has ended, cola-001 was interrupted."""
    found = StudyFolder(root)
    found.results.mkdir(parents=True)
    found.spec.write_text(dump_spec(plan().spec))
    book = Ledger(count_on(SHAPE), ParquetSink(found.results), [])
    for number in (0, 1):
        book.started(trial(number))
        book.reported(report(f"cola-{number:03d}", 0, 0.5), "")
    book.ended("cola-000", Status.COMPLETED)
    return found


def clone(*settings: str, from_last_rung: bool = False) -> OrderRequest:
    return OrderRequest(what="clone_trial", trial="cola-000", settings=settings, from_last_rung=from_last_rung)


REQUESTS = {
    "stop a trial": OrderRequest(what="stop_trial", trial="cola-001"),
    "clone": clone("training.learning_rate=0.002"),
    "pause": OrderRequest(what="pause"),
    "stop": OrderRequest(what="stop"),
    "trials": OrderRequest(what="trials", value="+3"),
    "slots": OrderRequest(what="max_concurrent", value="1"),
    "time": OrderRequest(what="time_budget", value="2h"),
}


def suggested(searcher: StudySearcher, most: int) -> Iterator[str]:
    """Yields the trials that a searcher gives, each of which ends at once."""
    for number in range(most):
        found = searcher.suggest(f"more-{number}")
        if isinstance(found, dict):
            yield found["trial_id"]
            searcher.on_trial_complete(
                f"more-{number}", {"score": 0.5, "examples": 1, "train_loss": 1.0, "status": "completed"}
            )
