"""Tests that each order is answered once and takes effect once, also if the driver is killed between any two writes."""

import itertools
import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ray.tune.search import Searcher
from safetensors.torch import save_file

from krona_tune.api.study_request import lift_ordered_stop
from krona_tune.record.driver_state import STOP
from krona_tune.record.orders import Inbox, give_order, waiting_orders
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.search import budget, order_table, study_orders
from krona_tune.search.budget import Amount, Budget, StudyClock
from krona_tune.search.full_training import FullTraining
from krona_tune.search.ledger import Ledger
from krona_tune.search.planning.plan import Plan
from krona_tune.search.resume import known_trials, numbers_left
from krona_tune.search.searchers.history import History
from krona_tune.search.searchers.open_samplers import open_samplers, open_shared_sampler
from krona_tune.search.searchers.shared_searcher import SharedSearcher
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_orders import StudyOrders
from krona_tune.search.study_records import open_records
from krona_tune.search.study_stopper import StudyStopper
from krona_tune.search.trial_message import TrialMessage
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest
from krona_tune.study.request.field_types import for_task
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.result import Status
from krona_tune.train import checkpoint
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

    def take(self) -> Iterator[Order]:
        self.look()
        return super().take()


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_orders, "Inbox", PromptInbox)


class Terminal:
    """Takes the place of the view."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.expected: dict[str, int] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def expect(self, new: Mapping[str, int]) -> None:
        self.expected |= {task: count for task, count in new.items() if count}


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
        self.stopping = StudyStopper(Budget(), Amount)
        self.terminal, self.clock = Terminal(), StudyClock(folder.clock)
        before = earlier or EarlierOrders.of(folder, sets)
        self.orders = StudyOrders(*_arguments(self), slots, share=share, earlier=before)

    def run(self, *, search: bool = True) -> "Driver":
        """Runs a phase in which every trial that is asked to stop does so, and every clone begins."""
        self.orders.begin()
        samplers = open_samplers(self.plan.spec, self.plan.space, self.folder.journal, never)
        left = {task: numbers_left(self.plan, self.ledger, task) for task in self.plan.spec.tasks}
        waiting = known_trials(self.plan, self.ledger)
        self.seen: list[str] = []
        self.begun: dict[str, TrialMessage] = {}
        seeds = dict.fromkeys(self.plan.spec.tasks, 1)
        self.searcher = StudySearcher(waiting, samplers, left, self.stopping.verdict, seeds)
        self.orders.serve(self.searcher, search=search)
        if not self.orders.over() and not self.orders.paused:
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
        if not self.orders.over() and not self.orders.paused:
            self.begin_trials()

    def stop_trials(self) -> None:
        """Stops what is asked to stop, as the workers do."""
        for tune_id, message in self.begun.items():
            if (self.folder.checkpoints / message.trial_id / STOP).exists():
                self.searcher.on_trial_complete(tune_id, {"score": 0.5, "examples": 1, "train_loss": 1.0})
                self.ledger.ended(message.trial_id, self.stopping.verdict(tune_id, {"score": 0.5}, False))

    @property
    def only(self) -> Order:
        (order,) = self.ledger.orders.values()
        return order


def trial(number: int) -> TrialMessage:
    params = {"method": "krona", "a_out": 4, "a_in": 6, "rank": 1, "learning_rate": 1e-3}
    return TrialMessage(f"cola-{number:03d}", "cola", number, "search", 1, params)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study whose driver was killed: trial cola-000 has ended, cola-001 was interrupted."""
    found = StudyFolder(tmp_path / "s")
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


MADE = {"clone": "cola-clone-0", "trials": "7", "slots": "1", "time": "7200.0"}


def effects(driver: Driver) -> dict[str, Any]:
    """Returns everything that an order may change."""
    spec = load_spec(driver.folder.spec)
    return {
        "order": (driver.only.state, driver.only.made),
        "trials": {row.trial_id: row.params for row in driver.ledger.rows.values()},
        "stopped": {row.trial_id for row in driver.ledger.rows.values() if row.status is Status.STOPPED_BY_USER},
        "spec": (spec.search.trials, spec.search.time_budget, spec.resources.max_concurrent),
        "numbers": {task: len(numbers_left(driver.orders.plan, driver.ledger, task)) for task in spec.tasks},
        "now": (driver.orders.paused, bool(driver.stopping.ended)),
        "waiting": waiting_orders(driver.folder),
        "flags": list(driver.folder.checkpoints.rglob(STOP)),
    }


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("waited", [True, False], ids=["waited for a driver", "while trials run"])
def test_an_order_is_done(folder: StudyFolder, name: str, waited: bool) -> None:
    before = effects_without(folder)
    driver = Driver(folder)
    if waited:
        give_order(folder, REQUESTS[name], by="ann")
    else:
        driver.later.append(REQUESTS[name])
    driver.run()
    found = effects(driver)
    assert found["order"][0] == "done", driver.only
    assert found["waiting"] == found["flags"] == []
    changed = {key for key in before if before[key] != found[key]}
    expected = {"stop a trial": {"stopped"}, "clone": {"trials"}, "trials": {"spec", "numbers"}}
    assert changed == expected.get(name, {"now"} if name in {"pause", "stop"} else {"spec"})


def effects_without(folder: StudyFolder) -> dict[str, Any]:
    driver = Driver(folder)
    driver.ledger.orders["none"] = Order(id="20261127T000000Z-abcdef", what="pause", state="refused")
    return {key: value for key, value in effects(driver).items() if key not in {"order", "waiting", "flags"}}


KILLED = [
    pytest.param(
        *(name, write, after, waited),
        id=f"{name}-{write}-{'after' if after else 'before'}-{'waited' if waited else 'ran'}",
        marks=() if (place + write + after + waited) % 2 else pytest.mark.long,
    )
    for place, name in enumerate(REQUESTS)
    for write, after, waited in itertools.product((1, 2, 3), (False, True), (False, True))
]
"""An order that waited for the driver, or came while trials run, and the driver killed before or after a write."""


@pytest.mark.parametrize(("name", "write", "after", "waited"), KILLED)
def test_a_killed_driver_loses_no_order_and_does_none_twice(
    folder: StudyFolder, name: str, write: int, after: bool, waited: bool
) -> None:
    first, lived = Driver(folder, write, after=after), True
    if waited:
        give_order(folder, REQUESTS[name], by="ann")
    else:
        first.later.append(REQUESTS[name])
    try:
        first.run()
    except Killed:
        lived = False
        first = Driver(folder).run()
    whole = effects(first)
    assert whole["order"] == ("done", MADE.get(name, "")), (lived, first.only)
    assert whole["waiting"] == whole["flags"] == []
    assert whole["spec"][0] == (7 if name == "trials" else 4)
    assert [each for each in whole["trials"] if "clone" in each] == ["cola-clone-0"] * (name == "clone")
    assert whole["stopped"] == ({"cola-001"} if name == "stop a trial" else set())
    again = effects(Driver(folder).run())
    assert again == whole


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (OrderRequest(what="stop_trial", trial="cola-000"), "cola-000 does not run, it is completed"),
        (OrderRequest(what="stop_trial", trial="cola-01"), "unknown trial 'cola-01', did you mean"),
        (OrderRequest(what="clone_trial", trial="rte-000"), "unknown trial 'rte-000'"),
        (clone(), "the same would be trained again"),
        (clone("training.learning_rat=1"), "unknown knob 'learning_rat', did you mean 'learning_rate'"),
        (clone("adapter.learning_rate=1"), "no key of adapter"),
        (clone("learning_rate=-1"), "greater than 0"),
        (clone("learning_rate=[1]"), "no single value"),
        (clone("a_out=5"), "a_out"),
        (clone("a_out=2", from_last_rung=True), "with another a_out its state does not fit"),
        (clone("scale=2", from_last_rung=True), "it was trained to its end"),
        (OrderRequest(what="continue"), "the study is not paused"),
        (OrderRequest(what="max_concurrent", value="0000100001"), "write 1 to 10,000"),
        (OrderRequest(what="trials", value="2"), "each task has 4 already"),
        (OrderRequest(what="trials", value="+x"), "'+x' is not a number of trials"),
        (OrderRequest(what="trials", value="++3"), "'++3' is not a number of trials; write +20 for 20 more a task"),
        (OrderRequest(what="max_concurrent", value="0"), "'0' is not a number of trials"),
        (OrderRequest(what="time_budget", value="soon"), "'soon' is refused; write a time such as 90s"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_as_a_row(folder: StudyFolder, asked: OrderRequest, why: str) -> None:
    give_order(folder, asked, by="ann")
    driver = Driver(folder).run()
    (order,) = read_records(folder.results).orders
    assert (order.state, order.by, order.made) == ("refused", "ann", "")
    assert why in order.outcome
    assert "--set search" not in order.outcome
    assert driver.terminal.said[-1] == f"ann: {order.text}: refused, {order.outcome}"
    assert not waiting_orders(folder)
    assert {row.trial_id for row in driver.ledger.rows.values()} == {"cola-000", "cola-001"}


def kept_state(folder: StudyFolder, trial_id: str, rung: int, examples: int) -> None:
    """Writes the state that a trial keeps at a rung, of a task with 60 training examples."""
    place = folder.checkpoints / trial_id / f"rung-{rung}"
    place.mkdir(parents=True)
    save_file({"head.weight": torch.zeros(2)}, place / checkpoint.TENSORS)
    last = replace(report(trial_id, 0, 0.5), rung=rung - 1, examples=examples, epochs=examples / 60)
    (place / checkpoint.PROGRESS).write_text(json.dumps({"rung": rung, "report": asdict(last)}), encoding="utf-8")


@pytest.mark.parametrize(
    ("share", "state", "said"),
    [
        (0.25, "done", "it is cola-clone-0, from rung 2"),
        (1.0, "refused", "it was trained to its end, so no rung is left for a clone; clone it from the start"),
    ],
)
def test_a_clone_goes_on_from_any_rung_but_the_last(folder: StudyFolder, share: float, state: str, said: str) -> None:
    """Trial cola-001 was cut off between its last report and its end."""
    asked = OrderRequest(what="clone_trial", trial="cola-001", settings=("learning_rate=0.002",), from_last_rung=True)
    examples = round(share * 60 * for_task(plan().spec.schedule.epochs, "cola"))
    kept_state(folder, "cola-001", 2, examples)
    give_order(folder, asked, by="ann")
    driver = Driver(folder).run()
    assert driver.only.state == state
    assert said in driver.only.outcome
    made = driver.ledger.rows.get("cola-clone-0")
    assert (made.copied_examples if made else None) == (examples if state == "done" else None)


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("sets", ["search.time_budget", "search.trials"])
def test_an_order_of_before_does_not_change_what_a_resume_sets_itself(
    folder: StudyFolder, taken: bool, sets: str
) -> None:
    give_order(folder, REQUESTS["time"], by="ann")
    if taken:
        with suppress(Killed):
            Driver(folder, 1, after=True).run()
    folder.spec.write_text(folder.spec.read_text().replace("  trials: 4\n", "  time_budget: 60.0\n  trials: 4\n"))
    driver = Driver(folder, sets=[sets])
    driver.later.append(OrderRequest(what="max_concurrent", value="3"))
    driver.run()
    order, later = driver.ledger.orders.values()
    budget = load_spec(folder.spec).search.time_budget
    if sets == "search.time_budget":
        assert (order.state, order.made, budget) == ("refused", "", 60.0)
        assert order.outcome == (
            "time-budget 2h: the study was resumed later, with a search.time_budget of its own; give it again"
        )
    else:
        assert (order.state, budget) == ("done", 7200.0)
    assert later.state == "done"
    driver = Driver(folder, sets=[sets])
    driver.later.append(REQUESTS["time"])
    driver.run()
    assert load_spec(folder.spec).search.time_budget == 7200.0, "it was given while the driver ran"
    assert not waiting_orders(folder)


def test_a_damaged_order_is_refused_as_a_row(folder: StudyFolder) -> None:
    folder.orders.mkdir()
    (folder.orders / "20261127T000000Z-abcdef.json").write_text("{")
    order = Driver(folder).run().only
    assert (order.what, order.state) == ("unreadable", "refused")
    assert "damaged" in order.outcome
    assert not waiting_orders(folder)


@pytest.mark.parametrize("name", ["clone", "stop", "trials"])
def test_the_finals_take_no_order_about_the_search(folder: StudyFolder, name: str) -> None:
    give_order(folder, REQUESTS[name])
    order = Driver(folder).run(search=False).only
    assert order.state == "refused"
    assert "the search has ended" in order.outcome


def test_a_pause_and_the_end_of_the_search_last_until_somebody_lets_it_go_on(folder: StudyFolder) -> None:
    for what in ("pause", "stop"):
        give_order(folder, OrderRequest(what=what))
        Driver(folder).run()
    driver = Driver(folder).run()
    assert (driver.orders.slots(), driver.orders.paused, bool(driver.stopping.ended)) == (0, True, True)
    assert sum("krona-tune order s continue" in line for line in driver.terminal.said) == 2
    for _ in range(2):
        give_order(folder, OrderRequest(what="continue"))
        driver = Driver(folder).run()
    again = Driver(folder).run()
    assert (again.orders.slots(), again.orders.paused, again.stopping.ended) == (8, False, "")


def test_a_cancelled_study_is_not_cancelled_again(folder: StudyFolder) -> None:
    first = Driver(folder)
    first.later.append(OrderRequest(what="cancel"))
    first.run()
    assert first.stopping.asked
    assert first.only.state == "done"
    assert not Driver(folder).run().stopping.asked


def test_an_order_to_cancel_means_the_driver_whose_command_had_begun(folder: StudyFolder) -> None:
    begun = EarlierOrders.of(folder)
    give_order(folder, OrderRequest(what="cancel"))
    driver = Driver(folder, earlier=begun).run()
    assert (driver.only.state, driver.stopping.asked) == ("done", "cancelled")


def test_an_order_to_cancel_that_no_driver_read_ends_no_later_one(folder: StudyFolder) -> None:
    give_order(folder, OrderRequest(what="cancel"))
    driver = Driver(folder).run()
    assert not driver.stopping.asked
    assert (driver.only.state, "a driver that has ended" in driver.only.outcome) == ("refused", True)


@pytest.mark.parametrize("lost", ["", "Ray is gone"])
def test_an_order_to_this_driver_that_comes_as_it_ends_is_refused_and_others_wait(
    folder: StudyFolder, lost: str
) -> None:
    driver = Driver(folder, share=2).run()
    driver.stopping.lost = lost
    for asked in (OrderRequest(what="share", value="0"), OrderRequest(what="cancel"), REQUESTS["pause"]):
        give_order(folder, asked)
    driver.orders.close()
    answered = {order.what: (order.state, order.outcome) for order in driver.ledger.orders.values()}
    refused = ("refused", "it was given to a driver that has ended; give it again")
    if lost:
        assert (answered, len(waiting_orders(folder))) == ({}, 3), "whoever ends all processes leaves no time"
    else:
        assert {what: (state, said.partition(": ")[2]) for what, (state, said) in answered.items()} == {
            "share": refused,
            "cancel": refused,
        }
        assert [order.what for order in waiting_orders(folder)] == ["pause"]


def test_a_clone_that_had_not_begun_when_the_search_ended_is_refused(folder: StudyFolder) -> None:
    driver = Driver(folder, slots=1)
    driver.later += [REQUESTS["clone"], OrderRequest(what="stop")]
    driver.begin_trials = lambda: None  # type: ignore[method-assign]
    driver.run()
    clone = next(each for each in driver.ledger.orders.values() if each.what == "clone_trial")
    assert clone.state == "taken"
    driver.orders.serve(StudySearcher([], {}, {}, driver.stopping.verdict, {}), search=False)
    assert driver.ledger.orders[clone.id].state == "refused"
    assert "cola-clone-0" not in Driver(folder).run().ledger.rows


def test_a_time_budget_can_be_lifted(folder: StudyFolder) -> None:
    for value, seconds in (("2h", 7200.0), ("null", None)):
        driver = Driver(folder)
        driver.later.append(OrderRequest(what="time_budget", value=value))
        driver.run()
        assert load_spec(folder.spec).search.time_budget == seconds
    assert [each.outcome for each in driver.ledger.orders.values()] == [
        "search.time_budget: 7200.0",
        "search.time_budget: null",
    ]


def test_an_order_takes_no_effect_before_it_is_in_the_records(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.orders.kept = lambda: False
    give_order(folder, REQUESTS["pause"])
    driver.run()
    assert driver.stopping.halted
    assert not driver.orders.paused
    assert len(waiting_orders(folder)) == 1
    assert Driver(folder).run().orders.paused


def test_what_a_terminal_can_not_show_halts_nothing(folder: StudyFolder) -> None:
    driver = Driver(folder)

    def fail(text: str) -> None:
        raise RuntimeError(text)

    driver.terminal.say = fail  # type: ignore[method-assign]
    driver.later.append(REQUESTS["pause"])
    assert driver.run().orders.paused


def test_a_full_training_leaves_orders_about_the_search_to_the_next_driver(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.orders.only = ("pause", "continue", "cancel")
    driver.later += [REQUESTS["clone"], REQUESTS["pause"]]
    driver.run(search=False)
    assert [order.what for order in driver.ledger.orders.values()] == ["pause"]
    assert [order.what for order in waiting_orders(folder)] == ["clone_trial"]


def test_a_pause_leaves_the_end_of_the_search_as_it_is(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.later += [REQUESTS["stop"], REQUESTS["pause"]]
    driver.run()
    assert driver.stopping.ended == "ann"
    give_order(folder, OrderRequest(what="continue"), by="ann")
    again = Driver(folder).run()
    assert (again.orders.paused, again.stopping.ended) == (False, "ann")


def test_more_trials_reach_the_running_search(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.run()
    driver.orders.serve(driver.searcher, search=True)
    give_order(folder, OrderRequest(what="trials", value="+3"))
    driver.orders.look()
    assert driver.terminal.expected == {"cola": 3, "rte": 3}
    proposed = list(suggested(driver.searcher, 20))
    assert [each for each in proposed if each.startswith("cola")] == [f"cola-{n:03d}" for n in range(2, 7)]
    assert [each for each in proposed if each.startswith("rte")] == [f"rte-{n:03d}" for n in range(7)]


def test_more_configurations_for_all_tasks_reach_each_of_them(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.run()
    seeds: dict[str, int] = dict.fromkeys(driver.plan.spec.tasks, 1)
    sampler = open_shared_sampler(driver.plan.spec, driver.plan.space, folder.journal, never)
    shared = SharedSearcher([], sampler, ("cola", "rte"), [], seeds, driver.stopping.verdict, [], 3)
    driver.orders.serve(shared, search=True)
    give_order(folder, OrderRequest(what="trials", value="+3"))
    driver.orders.look()
    assert driver.terminal.expected == {"cola": 3, "rte": 3}
    assert not shared.exhausted


def test_more_trials_are_refused_once_the_search_gives_none_any_more(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.stop_trials = lambda: give_order(folder, REQUESTS["trials"])  # type: ignore[method-assign,assignment]
    driver.run()
    searcher = StudySearcher([], {}, {}, driver.stopping.verdict, {})
    driver.orders.serve(searcher, search=True)
    assert searcher.suggest("t0") == Searcher.FINISHED
    give_order(folder, REQUESTS["trials"])
    driver.orders.look()
    assert [(each.state, "the search has ended" in each.outcome) for each in driver.ledger.orders.values()] == [
        ("refused", True)
    ] * 2
    assert load_spec(folder.spec).search.trials == 4


def test_a_search_that_gives_no_trial_any_more_goes_on_with_the_next_driver(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.run()
    searcher = StudySearcher([], {}, {}, driver.stopping.verdict, {})
    driver.orders.serve(searcher, search=True)
    for what in ("stop", "continue", "stop"):
        give_order(folder, OrderRequest(what=what))
        driver.orders.look()
    assert searcher.suggest("t0") == Searcher.FINISHED
    give_order(folder, OrderRequest(what="continue"))
    driver.orders.look()
    told = [each.outcome for each in driver.ledger.orders.values()]
    assert told[1::2] == ["the search goes on", "the search goes on when the study is resumed"]
    assert driver.stopping.ended == ""


def suggested(searcher: StudySearcher, most: int) -> Iterator[str]:
    """Yields the trials that a searcher gives, each of which ends at once."""
    for number in range(most):
        found = searcher.suggest(f"more-{number}")
        if isinstance(found, dict):
            yield found["trial_id"]
            searcher.on_trial_complete(
                f"more-{number}", {"score": 0.5, "examples": 1, "train_loss": 1.0, "status": "completed"}
            )


def test_the_number_of_trials_at_once_holds_at_once(folder: StudyFolder) -> None:
    driver = Driver(folder, slots=2)
    driver.orders.begin()
    samplers = open_samplers(driver.plan.spec, driver.plan.space, folder.journal, never)
    searcher = StudySearcher([], samplers, {"rte": [0, 1, 2]}, driver.stopping.verdict, {"rte": 1})
    driver.orders.serve(searcher, search=True)
    assert [bool(searcher.suggest(f"t{number}")) for number in range(3)] == [True, True, False]
    give_order(folder, OrderRequest(what="max_concurrent", value="3"))
    assert searcher.suggest("t3")
    give_order(folder, OrderRequest(what="pause"))
    searcher.on_trial_complete("t0", None)
    assert searcher.suggest("t4") is None


def test_a_share_holds_at_once_and_as_long_as_this_driver_runs(folder: StudyFolder) -> None:
    request = folder.spec.read_text()
    driver = Driver(folder, slots=3, share=3)
    driver.later.append(OrderRequest(what="share", value="1"))
    driver.run()
    assert (driver.only.outcome, driver.orders.slots(), driver.orders.most) == ("trials at once: 1", 1, 3)
    assert folder.spec.read_text() == request, "a share is no part of the request"
    assert Driver(folder, slots=3).run().orders.slots() == 3
    assert StudyOrders(*_arguments(driver), 3, share=2).slots() == 2
    assert StudyOrders(*_arguments(driver), 1, share=2).slots() == 1


def test_a_study_with_no_share_waits_and_its_clock_stands(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    driver = Driver(folder, share=1)
    driver.later += [OrderRequest(what="share", value="0")]
    driver.run()
    assert (driver.orders.slots(), driver.orders.paused) == (0, False), "nobody paused it"
    stood = driver.clock.seconds()
    now[0] += 7.0
    assert driver.clock.seconds() == stood
    give_order(folder, OrderRequest(what="share", value="2"))
    driver.orders.look()
    assert driver.orders.slots() == 2
    now[0] += 5.0
    assert driver.clock.seconds() == stood + 5.0


def test_a_share_that_an_earlier_driver_took_means_nothing_to_the_next(folder: StudyFolder) -> None:
    driver = Driver(folder, write=1, after=True, share=2)
    driver.later.append(OrderRequest(what="share", value="1"))
    with pytest.raises(Killed):
        driver.run()
    driver = Driver(folder).run()
    assert (driver.only.state, driver.only.outcome, driver.orders.slots()) == ("done", "the driver had ended", 8)


@pytest.mark.parametrize("value", ["two", "1.5", "99999", "+2"])
def test_an_odd_share_is_refused(folder: StudyFolder, value: str) -> None:
    driver = Driver(folder, share=1)
    give_order(folder, OrderRequest(what="share", value=value))
    driver.orders.look()
    assert driver.only.state == "refused"
    assert "is not a number of trials; write 0 to 10,000" in driver.only.outcome


def test_a_study_that_no_queue_runs_takes_no_share(folder: StudyFolder) -> None:
    driver = Driver(folder)
    driver.later.append(OrderRequest(what="share", value="0"))
    driver.run()
    assert (driver.only.state, "no queue runs this study" in driver.only.outcome) == ("refused", True)
    assert driver.orders.slots() == 8


def test_a_share_that_waited_for_the_driver_before_is_refused(folder: StudyFolder) -> None:
    give_order(folder, OrderRequest(what="share", value="0"))
    driver = Driver(folder, share=2).run()
    assert (driver.only.state, driver.orders.slots()) == ("refused", 2)


def _arguments(driver: Driver) -> tuple[Any, ...]:
    return driver.plan, driver.folder, driver.ledger, driver.stopping, driver.clock, driver.terminal


def test_a_clone_whose_row_was_lost_is_restored_by_its_order(folder: StudyFolder) -> None:
    give_order(folder, REQUESTS["clone"])
    first = Driver(folder).run()
    row = first.ledger.rows["cola-clone-0"]
    ParquetSink(folder.results).reported(report(row.trial_id, 0, 0.75))
    for part in (folder.results / "parts").glob("trials-*"):
        if any(each["trial_id"] == row.trial_id for each in pq.read_table(part).to_pylist()):
            part.unlink()
    opened = open_records(first.plan, folder)
    restored = {each.trial_id: each for each in opened.records.trials}[row.trial_id]
    assert (restored.params, restored.of, restored.score) == (row.params, "cola-000", 0.75)


def test_a_clone_whose_order_was_lost_keeps_its_id(folder: StudyFolder) -> None:
    give_order(folder, REQUESTS["clone"])
    first = Driver(folder).run().ledger.rows["cola-clone-0"]
    for part in (folder.results / "parts").glob("orders-*"):
        part.unlink()
    give_order(folder, clone("training.learning_rate=0.004"))
    again = Driver(folder).run()
    assert (again.only.made, again.ledger.rows["cola-clone-0"].params) == ("cola-clone-1", first.params)


def test_an_order_whose_value_can_not_be_written_changes_nothing(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(order_table, "write_atomically", full)
    give_order(folder, REQUESTS["trials"])
    driver = Driver(folder).run()
    assert driver.only.state == "refused"
    assert driver.orders.plan.spec.search.trials == load_spec(folder.spec).search.trials == 4


def test_a_resumed_study_that_asks_for_more_goes_on(folder: StudyFolder) -> None:
    for what in (REQUESTS["pause"], REQUESTS["stop"]):
        give_order(folder, what)
        Driver(folder).run()
    same = load_spec(folder.spec)
    lift_ordered_stop(folder, same)
    assert not waiting_orders(folder), "nothing more was asked"
    lift_ordered_stop(folder, load_spec(folder.spec, ("search.trials=9",)))
    assert [order.what for order in waiting_orders(folder)] == ["continue"] * 2
    driver = Driver(folder).run()
    assert (driver.orders.paused, driver.stopping.ended) == (False, "")


def test_a_clone_teaches_the_studys_model_only_a_point_that_it_can_hold() -> None:
    history = History(lambda params, geometry: np.zeros(1), {"cola": 8}, {})
    history.report("cola-clone-0", 4, 0.5, 1.0)
    history.end("cola-clone-0", diverged=False)
    assert history.trials() == []


def test_a_full_training_of_a_clone_has_its_own_name(folder: StudyFolder) -> None:
    give_order(folder, REQUESTS["clone"])
    rows = Driver(folder).run().ledger.rows
    names = [
        FullTraining(of=rows[each], seeds=1, everything=False).trials(1)[0].trial_id
        for each in ("cola-000", "cola-clone-0")
    ]
    assert len(set(names)) == 2
    assert names[1].startswith("cola-clone-0")


def test_the_last_order_counts_also_if_the_clock_is_set_back(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(folder)
    driver.later.append(REQUESTS["pause"])
    driver.run()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    give_order(folder, OrderRequest(what="continue"))
    assert not Driver(folder).run().orders.paused
    assert not Driver(folder).run().orders.paused
