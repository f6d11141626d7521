"""Tests that each order is answered once and takes effect once, also if the driver is killed between any two writes."""

import itertools
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

from krona_tune.api.study_request import lift_ordered_stop, lifting_ordered_stop
from krona_tune.record.driver_state import STOP
from krona_tune.record.orders import MOST_AT_ONCE, give_order, remove_order, waiting_orders
from krona_tune.record.ownership import claim
from krona_tune.record.parquet_sink import ParquetSink
from krona_tune.record.records import read_records
from krona_tune.search import study_orders
from krona_tune.search.resume import numbers_left
from krona_tune.search.searchers.history import History
from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.task_searcher import StudySearcher
from krona_tune.search.study_records import open_records
from krona_tune.search.waiting_orders import EarlierOrders
from krona_tune.study.folder import StudyFolder
from krona_tune.study.order import Order, OrderRequest, search_ended_by
from krona_tune.study.request.loader import dump_spec, load_spec
from krona_tune.study.result import Status
from tests.search.conftest import never
from tests.search.order_driver import REQUESTS, Driver, Killed, clone
from tests.search.rungs import report
from tests.search.test_task_sampler import trials
from tests.study.request.written_specs import load_changed

pytestmark = pytest.mark.usefixtures("prompt_inbox")

MADE = {"clone": "cola-clone-0", "trials": "7", "slots": "1", "time": "7200.0"}


def effects(driver: Driver) -> dict[str, Any]:
    """Returns everything that an order may change."""
    spec = load_spec(driver.folder.spec)
    return {
        "order": (driver.only.state, driver.only.made),
        "trials": {row.trial_id: row.params for row in driver.ledger.rows.values()},
        "stopped": {row.trial_id for row in driver.ledger.rows.values() if row.status is Status.STOPPED_BY_USER},
        "spec": (spec.search.trials, spec.search.time_budget, spec.resources.max_concurrent),
        "numbers": {task: len(numbers_left(driver.study.plan, driver.ledger, task)) for task in spec.tasks},
        "now": (driver.study.paused, bool(driver.stopper.ended)),
        "waiting": waiting_orders(driver.folder),
        "flags": list(driver.folder.checkpoints.rglob(STOP)),
    }


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("waited", [True, False], ids=["waited for a driver", "while trials run"])
def test_an_order_is_done(study: StudyFolder, name: str, waited: bool) -> None:
    before = effects_without(study)
    driver = Driver(study)
    if waited:
        give_order(study, REQUESTS[name], by="ann")
    else:
        driver.later.append(REQUESTS[name])
    driver.run()
    found = effects(driver)
    assert found["order"][0] == "done", driver.only
    assert found["waiting"] == found["flags"] == []
    changed = {key for key in before if before[key] != found[key]}
    expected = {"stop a trial": {"stopped"}, "clone": {"trials"}, "trials": {"spec", "numbers"}}
    assert changed == expected.get(name, {"now"} if name in {"pause", "stop"} else {"spec"})


def effects_without(study: StudyFolder) -> dict[str, Any]:
    driver = Driver(study)
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
    study: StudyFolder, name: str, write: int, after: bool, waited: bool
) -> None:
    first, lived = Driver(study, write, after=after), True
    if waited:
        give_order(study, REQUESTS[name], by="ann")
    else:
        first.later.append(REQUESTS[name])
    try:
        first.run()
    except Killed:
        lived = False
        first = Driver(study).run()
    whole = effects(first)
    assert whole["order"] == ("done", MADE.get(name, "")), (lived, first.only)
    assert whole["waiting"] == whole["flags"] == []
    assert whole["spec"][0] == (7 if name == "trials" else 4)
    assert [each for each in whole["trials"] if "clone" in each] == ["cola-clone-0"] * (name == "clone")
    assert whole["stopped"] == ({"cola-001"} if name == "stop a trial" else set())
    again = effects(Driver(study).run())
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
        (clone("learning_rate=-1"), "write a number above 0"),
        (clone("learning_rate=[1]"), "no single value"),
        (clone("a_out=5"), "a_out"),
        (clone("rank=2"), "clone cola-000: rank: krona does not read it"),
        (clone("scale=2", "adapter.scale=3"), "scale: it is set twice"),
        (clone("a_out=2", from_last_rung=True), "with another a_out its state does not fit"),
        (clone("scale=2", from_last_rung=True), "it was trained to its end"),
        (OrderRequest(what="continue"), "the study is not paused"),
        (OrderRequest(what="max_concurrent", value="0001000001"), "write 1 to 1,000,000"),
        (OrderRequest(what="trials", value="2"), "each task has 4 already"),
        (OrderRequest(what="trials", value="+x"), "'+x' is not a number of trials"),
        (OrderRequest(what="trials", value="++3"), "'++3' is not a number of trials; write +20 for 20 more a task"),
        (OrderRequest(what="max_concurrent", value="0"), "'0' is not a number of trials"),
        (OrderRequest(what="time_budget", value="soon"), "'soon' is refused; write a time such as 90s"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_as_a_row(study: StudyFolder, asked: OrderRequest, why: str) -> None:
    give_order(study, asked, by="ann")
    driver = Driver(study).run()
    (order,) = read_records(study.results).orders
    assert (order.state, order.by, order.made) == ("refused", "ann", "")
    assert why in order.outcome
    assert "--set search" not in order.outcome
    assert driver.terminal.said[-1] == f"ann: {order.text}: refused, {order.outcome}"
    assert not waiting_orders(study)
    assert {row.trial_id for row in driver.ledger.rows.values()} == {"cola-000", "cola-001"}


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("sets", ["search.time_budget", "search.trials"])
def test_an_order_of_before_does_not_change_what_a_resume_sets_itself(
    study: StudyFolder, taken: bool, sets: str
) -> None:
    give_order(study, REQUESTS["time"], by="ann")
    if taken:
        with suppress(Killed):
            Driver(study, 1, after=True).run()
    study.spec.write_text(study.spec.read_text().replace("  trials: 4\n", "  time_budget: 60.0\n  trials: 4\n"))
    driver = Driver(study, sets=[sets])
    driver.later.append(OrderRequest(what="max_concurrent", value="3"))
    driver.run()
    order, later = driver.ledger.orders.values()
    budget = load_spec(study.spec).search.time_budget
    if sets == "search.time_budget":
        assert (order.state, order.made, budget) == ("refused", "", 60.0)
        assert order.outcome == (
            "time-budget 2h: the study was resumed later, with a search.time_budget of its own; give it again"
        )
    else:
        assert (order.state, budget) == ("done", 7200.0)
    assert later.state == "done"
    driver = Driver(study, sets=[sets])
    driver.later.append(REQUESTS["time"])
    driver.run()
    assert load_spec(study.spec).search.time_budget == 7200.0, "it was given while the driver ran"
    assert not waiting_orders(study)


@pytest.mark.parametrize("stops", [["stop"], ["pause"], ["stop", "pause"]])
@pytest.mark.parametrize("taken", [False, True])
def test_what_waits_to_stop_a_study_does_not_outlast_a_resume_with_more_trials(
    study: StudyFolder, stops: list[str], taken: bool
) -> None:
    for what in stops:
        give_order(study, REQUESTS[what], by="ann")
    if taken:
        with suppress(Killed):
            Driver(study, 1, after=True).run()
    assert len(lift_ordered_stop(study, load_changed(study.spec, ("search.trials=9",)))) == len(stops)
    give_order(study, REQUESTS["trials"])
    driver = Driver(study).run()
    assert (driver.study.paused, driver.stopper.ended, len(driver.ledger.rows) > 1) == (False, "", True)
    assert {order.state for order in driver.ledger.orders.values()} == {"done"}
    assert load_spec(study.spec).search.trials > 4


def test_what_lifts_a_waiting_stop_is_not_given_twice(study: StudyFolder) -> None:
    give_order(study, REQUESTS["stop"])
    more = load_changed(study.spec, ("search.trials=9",))
    assert [len(lift_ordered_stop(study, more)) for _ in range(2)] == [1, 0]


def test_however_many_orders_wait_what_lets_a_search_go_on_comes_before_its_trials(study: StudyFolder) -> None:
    for number in range(2 * MOST_AT_ONCE - 1):
        give_order(study, OrderRequest(what="max_concurrent", value=str(number + 2)))
    for request in (REQUESTS["stop"], OrderRequest(what="continue"), REQUESTS["trials"]):
        give_order(study, request)
    driver = Driver(study).run()
    assert driver.stopper.ended == ""
    assert [order.outcome for order in driver.ledger.orders.values()][-3:] == [
        "the search ends; the finalists are trained next",
        "the search goes on",
        "search.trials: 7",
    ]


def test_a_damaged_order_is_refused_as_a_row(study: StudyFolder) -> None:
    study.orders.mkdir()
    (study.orders / "20261127T000000Z-abcdef.json").write_text("{")
    order = Driver(study).run().only
    assert (order.what, order.state) == ("unreadable", "refused")
    assert "damaged" in order.outcome
    assert not waiting_orders(study)


@pytest.mark.parametrize("name", ["clone", "stop", "trials"])
def test_the_finals_take_no_order_about_the_search_and_say_what_does_in_words_of_no_command(
    study: StudyFolder, name: str
) -> None:
    give_order(study, REQUESTS[name])
    order = Driver(study).run(search=False).only
    assert order.state == "refused"
    assert "the search has ended; " in order.outcome
    assert "--" not in order.outcome


def test_a_clone_that_came_too_late_is_trained_as_its_refusal_says(study: StudyFolder) -> None:
    give_order(study, REQUESTS["stop"])
    for before in ([], ["continue"]):
        for request in (*(OrderRequest(what=what) for what in before), REQUESTS["clone"]):
            give_order(study, request)
        driver = Driver(study).run()
        assert ("cola-clone-0" in driver.ledger.rows) == bool(before)


def test_a_pause_and_the_end_of_the_search_last_until_somebody_lets_it_go_on(study: StudyFolder) -> None:
    for what in ("pause", "stop"):
        give_order(study, OrderRequest(what=what))
        Driver(study).run()
    driver = Driver(study).run()
    assert (driver.orders.slots(), driver.study.paused, bool(driver.stopper.ended)) == (0, True, True)
    assert sum("krona-tune order s continue" in line for line in driver.terminal.said) == 2
    for _ in range(2):
        give_order(study, OrderRequest(what="continue"))
        driver = Driver(study).run()
    again = Driver(study).run()
    assert (again.orders.slots(), again.study.paused, again.stopper.ended) == (8, False, "")


def test_a_cancelled_study_is_not_cancelled_again(study: StudyFolder) -> None:
    first = Driver(study)
    first.later.append(OrderRequest(what="cancel"))
    first.run()
    assert first.stopper.asked
    assert first.only.state == "done"
    assert not Driver(study).run().stopper.asked


def test_an_order_to_cancel_means_the_driver_whose_command_had_begun(study: StudyFolder) -> None:
    begun = EarlierOrders.of(study)
    give_order(study, OrderRequest(what="cancel"))
    driver = Driver(study, earlier=begun).run()
    assert (driver.only.state, driver.stopper.asked) == ("done", "cancelled")


def test_an_order_to_cancel_that_no_driver_read_ends_no_later_one(study: StudyFolder) -> None:
    give_order(study, OrderRequest(what="cancel"))
    driver = Driver(study).run()
    assert not driver.stopper.asked
    assert (driver.only.state, "a driver that has ended" in driver.only.outcome) == ("refused", True)


@pytest.mark.parametrize("lost", ["", "Ray is gone"])
def test_an_order_to_this_driver_that_comes_as_it_ends_is_refused_and_others_wait(
    study: StudyFolder, lost: str
) -> None:
    driver = Driver(study, share=2).run()
    driver.stopper.lost = lost
    for asked in (OrderRequest(what="share", value="0"), OrderRequest(what="cancel"), REQUESTS["pause"]):
        give_order(study, asked)
    driver.orders.close()
    answered = {order.what: (order.state, order.outcome) for order in driver.ledger.orders.values()}
    refused = ("refused", "it was given to a driver that has ended; give it again")
    if lost:
        assert (answered, len(waiting_orders(study))) == ({}, 3), "whoever ends all processes leaves no time"
    else:
        assert {what: (state, said.partition(": ")[2]) for what, (state, said) in answered.items()} == {
            "share": refused,
            "cancel": refused,
        }
        assert [order.what for order in waiting_orders(study)] == ["pause"]


def test_orders_that_come_while_a_driver_is_stopped_are_for_the_next_one(study: StudyFolder) -> None:
    """The search has not ended: the next driver goes on with it."""
    driver = Driver(study).run()
    driver.stopper.ask("terminated")
    for name in ("trials", "clone"):
        give_order(study, REQUESTS[name])
    driver.orders.leave()
    driver.orders.close()
    assert [order.what for order in waiting_orders(study)] == ["trials", "clone_trial"]
    again = Driver(study).run()
    assert [order.state for order in again.ledger.orders.values()] == ["done", "done"]


def test_an_order_that_could_not_be_removed_is_removed_later(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue would take it for one that waits."""
    monkeypatch.setattr(study_orders, "REMOVE_AGAIN_SECONDS", 0.0)
    give_order(study, REQUESTS["trials"])
    away = iter([False])
    monkeypatch.setattr(study_orders, "remove_order", lambda *about: next(away, True) and remove_order(*about))
    driver = Driver(study).run()
    driver.orders.look()
    assert driver.only.state == "done"
    assert waiting_orders(study) == []


def test_an_answered_order_that_was_not_removed_is_none_that_waits(study: StudyFolder) -> None:
    given = give_order(study, REQUESTS["trials"])
    Driver(study).run()
    write_again(study, given)
    assert EarlierOrders.of(study).orders == ()


def write_again(study: StudyFolder, order: Order) -> None:
    """Puts an order back to where it waited, as a store that did not remove it."""
    study.orders.mkdir(exist_ok=True)
    (study.orders / f"{order.id}.json").write_text(order.model_dump_json(), encoding="utf-8")


def test_a_clone_that_had_not_begun_when_the_search_ended_is_refused(study: StudyFolder) -> None:
    driver = Driver(study, slots=1)
    driver.later += [REQUESTS["clone"], OrderRequest(what="stop")]
    driver.begin_trials = lambda: None  # type: ignore[method-assign]
    driver.run()
    clone = next(each for each in driver.ledger.orders.values() if each.what == "clone_trial")
    assert clone.state == "taken"
    driver.orders.serve(StudySearcher([], {}, {}, driver.stopper.final_status, {}), 2)
    assert driver.ledger.orders[clone.id].state == "refused"
    give_order(study, OrderRequest(what="continue"))
    assert "cola-clone-0" not in Driver(study).run().ledger.rows


def test_the_next_clone_after_one_that_was_refused_is_learned_at_its_own_point(study: StudyFolder) -> None:
    driver = Driver(study, slots=1)
    driver.later += [REQUESTS["clone"], OrderRequest(what="stop")]
    driver.begin_trials = lambda: None  # type: ignore[method-assign]
    driver.run()
    driver.orders.serve(StudySearcher([], {}, {}, driver.stopper.final_status, {}), 2)
    (given_up,) = (each for each in trials(study.journal) if "cola-clone-0" in each.user_attrs.values())
    assert given_up.state is TrialState.PRUNED
    again = Driver(study)
    give_order(study, OrderRequest(what="continue"))
    give_order(study, clone("training.learning_rate=0.004"))
    rows = again.run().ledger.rows
    (made,) = (trial_id for trial_id in rows if "clone" in trial_id)
    assert made == "cola-clone-1"
    assert rows[made].params["learning_rate"] == 0.004


def test_an_ended_search_may_be_let_go_on_while_the_finals_run(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.later.append(OrderRequest(what="stop"))
    driver.run()
    driver.stopper.let_finals_end()
    give_order(study, OrderRequest(what="continue"))
    driver.orders.serve(StudySearcher([], {}, {}, driver.stopper.final_status, {}), 2)
    last = list(driver.ledger.orders.values())[-1]
    assert (last.state, last.outcome) == ("done", "the search goes on when the study is resumed")
    assert search_ended_by(driver.ledger.orders.values()) == ""


def test_an_order_takes_no_effect_before_it_is_in_the_records(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.orders.kept = lambda: False
    give_order(study, REQUESTS["pause"])
    driver.run()
    assert driver.stopper.halted
    assert not driver.study.paused
    assert len(waiting_orders(study)) == 1
    assert Driver(study).run().study.paused


def test_what_a_terminal_can_not_show_halts_nothing(study: StudyFolder) -> None:
    driver = Driver(study)

    def fail(text: str) -> None:
        raise RuntimeError(text)

    driver.terminal.say = fail  # type: ignore[method-assign]
    driver.later.append(REQUESTS["pause"])
    assert driver.run().study.paused


def test_an_order_that_came_while_the_study_was_fetched_means_this_driver(study: StudyFolder) -> None:
    before = give_order(study, REQUESTS["pause"])
    with claim(study) as waited:
        give_order(study, OrderRequest(what="cancel"), by="ann")
        earlier = EarlierOrders.of(study, (), waited)
        assert [order.id for order in earlier.orders] == [before.id]
        driver = Driver(study, earlier=earlier).run()
    assert driver.stopper.asked == "cancelled"


def test_a_pause_that_a_waiting_order_lifts_is_not_told(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.later.append(REQUESTS["pause"])
    driver.run()
    assert any("The study is paused" in said for said in Driver(study).run().terminal.said)
    give_order(study, OrderRequest(what="continue"), by="ann")
    assert not any("The study is paused" in said for said in Driver(study).run().terminal.said)


def test_a_full_training_leaves_orders_about_the_search_to_the_next_driver(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.orders.only = ("pause", "continue", "cancel")
    driver.later += [REQUESTS["clone"], REQUESTS["pause"]]
    driver.run(search=False)
    assert [order.what for order in driver.ledger.orders.values()] == ["pause"]
    assert [order.what for order in waiting_orders(study)] == ["clone_trial"]


def test_a_full_training_leaves_a_clone_that_was_taken_to_the_next_driver(study: StudyFolder) -> None:
    give_order(study, REQUESTS["clone"])
    first = Driver(study)
    first.orders.begin()
    samplers = open_samplers(first.plan.spec, first.plan.space, study.journal, never)
    first.orders.serve(StudySearcher([], samplers, {}, first.stopper.final_status, {}), 1)
    [order] = first.ledger.orders.values()
    assert (order.state, "cola-clone-0" in first.ledger.rows) == ("taken", False)
    training = Driver(study)
    training.orders.only = ("pause", "continue", "cancel")
    training.run(search=False)
    assert training.ledger.orders[order.id].state == "taken"
    assert Driver(study).run().ledger.rows["cola-clone-0"].of == order.trial


def test_a_pause_leaves_the_end_of_the_search_as_it_is(study: StudyFolder) -> None:
    driver = Driver(study)
    driver.later += [REQUESTS["stop"], REQUESTS["pause"]]
    driver.run()
    assert driver.stopper.ended == "ann"
    give_order(study, OrderRequest(what="continue"), by="ann")
    again = Driver(study).run()
    assert (again.study.paused, again.stopper.ended) == (False, "ann")


def test_a_clone_whose_row_was_lost_is_restored_by_its_order(study: StudyFolder) -> None:
    give_order(study, REQUESTS["clone"])
    first = Driver(study).run()
    row = first.ledger.rows["cola-clone-0"]
    ParquetSink(study.results).reported(report(row.trial_id, 0, 0.75))
    for part in (study.results / "parts").glob("trials-*"):
        if any(each["trial_id"] == row.trial_id for each in pq.read_table(part).to_pylist()):
            part.unlink()
    opened = open_records(first.plan, study)
    restored = {each.trial_id: each for each in opened.records.trials}[row.trial_id]
    assert (restored.params, restored.of, restored.score) == (row.params, "cola-000", 0.75)


def test_a_clone_whose_order_was_lost_keeps_its_id(study: StudyFolder) -> None:
    give_order(study, REQUESTS["clone"])
    first = Driver(study).run().ledger.rows["cola-clone-0"]
    for part in (study.results / "parts").glob("orders-*"):
        part.unlink()
    give_order(study, clone("training.learning_rate=0.004"))
    again = Driver(study).run()
    assert (again.only.made, again.ledger.rows["cola-clone-0"].params) == ("cola-clone-1", first.params)


def test_a_resumed_study_that_asks_for_more_goes_on(study: StudyFolder) -> None:
    for what in (REQUESTS["pause"], REQUESTS["stop"]):
        give_order(study, what)
        Driver(study).run()
    same = load_spec(study.spec)
    lift_ordered_stop(study, same)
    assert not waiting_orders(study), "nothing more was asked"
    with suppress(KeyError), lifting_ordered_stop(study, load_changed(study.spec, ("search.trials=9",))):
        assert [order.what for order in waiting_orders(study)] == ["continue"] * 2
        raise KeyError
    assert not waiting_orders(study), "the study did not go on"
    lift_ordered_stop(study, load_changed(study.spec, ("search.trials=9",)))
    assert [order.what for order in waiting_orders(study)] == ["continue"] * 2
    driver = Driver(study).run()
    assert (driver.study.paused, driver.stopper.ended) == (False, "")


def test_a_clone_teaches_the_studys_model_only_a_point_that_it_can_hold() -> None:
    history = History(lambda params, geometry: np.zeros(1), {"cola": 8}, {})
    history.report("cola-clone-0", 4, 0.5, 1.0)
    history.end("cola-clone-0", diverged=False)
    assert history.trials() == []


def test_the_last_order_counts_also_if_the_clock_is_set_back(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(study)
    driver.later.append(REQUESTS["pause"])
    driver.run()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    give_order(study, OrderRequest(what="continue"))
    assert not Driver(study).run().study.paused
    assert not Driver(study).run().study.paused


@pytest.mark.parametrize(
    ("had", "asks", "lifts"),
    [
        ("search.time_budget=2h", "search.time_budget=30min", False),
        ("search.time_budget=2h", "search.time_budget=3h", True),
        ("search.time_budget=2h", "search.time_budget=null", True),
        ("search.device_hours=2", "search.device_hours=3", True),
        ("search.examples_budget=5000", "search.examples_budget=4000", False),
    ],
)
def test_a_pause_is_lifted_by_who_asks_for_more_and_not_for_less(
    study: StudyFolder, had: str, asks: str, lifts: bool
) -> None:
    study.spec.write_text(dump_spec(load_changed(study.spec, (had,))), encoding="utf-8")
    give_order(study, REQUESTS["pause"])
    assert Driver(study).run().study.paused
    assert bool(lift_ordered_stop(study, load_changed(study.spec, (asks,)))) == lifts
