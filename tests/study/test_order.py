"""Tests what an order must name, how it is said, and which of a study's orders holds."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from krona_tune.refusal import Refusal
from krona_tune.study.order import (
    FOR_PEOPLE,
    Order,
    OrderKind,
    is_paused,
    last_done,
    order_controls,
    order_request,
    search_ended_by,
)
from krona_tune.study.request.field_types import Seconds
from krona_tune.study.study_state import DriverState, StudyState


def order(what: str, ended_at: float, **more: Any) -> Order:
    return Order(**{"id": f"1-{ended_at:06.0f}", "what": what, "state": "done", "ended_at": ended_at, **more})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"what": "stop_trial", "trial": "cola-003"}, "stop cola-003"),
        ({"what": "trials", "value": "+20"}, "trials +20"),
        ({"what": "max_concurrent", "value": "4"}, "max-concurrent 4"),
        (
            {"what": "clone_trial", "trial": "rte-1", "settings": ("adapter.scale=2",), "from_last_rung": True},
            "clone rte-1 adapter.scale=2 from its last rung",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_order_is_said_as_it_is_written_also_from_its_row(given: dict[str, Any], said: str) -> None:
    assert order_request(**given).text == said
    assert Order.model_validate(order(ended_at=3.0, **given).row()).text == said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"what": "stop_trial"}, "order: stop_trial needs a trial; see krona-tune order --help"),
        ({"what": "pause", "trial": "cola-003"}, "order: pause takes no trial; see krona-tune order --help"),
        ({"what": "trials", "value": "+2", "settings": ("a=1",)}, "order: trials changes no settings; see "),
        ({"what": "paus"}, "order.what: Input should be 'stop_trial', 'clone_trial', 'pause'"),
        ({"what": "stop_trial", "trial": "../x"}, "order.trial: '../x' is refused; name a trial, such as cola-003"),
        (
            {"what": "trials", "value": "2,000"},
            "order.value: '2,000' is refused; write +20 for trials or 4 for max_concurrent or 2h for time_budget",
        ),
        (
            {"what": "clone_trial", "trial": "cola-003", "settings": ("a=1", "scale")},
            "order.settings.1: 'scale' is refused; write each change as NAME=VALUE, such as training.learning",
        ),
    ],
    ids=["lacking", "too much", "settings", "unknown", "odd trial", "odd value", "no value"],
)
def test_an_order_that_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refused:
        order_request(**given)
    assert str(refused.value).startswith(message)


def test_a_damaged_order_is_known_by_that_alone() -> None:
    unreadable = order("unreadable", 3.0)
    assert (unreadable.request, unreadable.text) == (None, "unreadable")


def test_the_last_order_that_was_done_decides_whether_a_study_is_paused() -> None:
    pause, goes_on = order("pause", 3.0), order("continue", 5.0)
    assert is_paused([pause])
    assert not is_paused([goes_on, pause])
    assert is_paused([pause, order("continue", 5.0, state="refused")])
    assert is_paused([goes_on, pause, order("pause", 7.0)])
    assert not is_paused([])
    assert last_done([goes_on, pause], OrderKind.PAUSE) == pause
    assert last_done([goes_on], OrderKind.PAUSE) is None


def test_who_ended_the_search_is_known_until_somebody_lets_it_go_on() -> None:
    stop = order("stop", 3.0, by="ann")
    assert search_ended_by([stop]) == "ann"
    assert search_ended_by([stop, order("continue", 5.0, made="study")]) == "ann"
    assert search_ended_by([stop, order("continue", 5.0, made="search")]) == ""


def test_only_a_queue_gives_the_orders_that_are_its_own_and_a_page_offers_none_of_them() -> None:
    assert set(OrderKind) - set(FOR_PEOPLE) == {OrderKind.SHARE}
    offered = offered_in(StudyState.of([], runs=True))
    assert OrderKind.SHARE not in offered
    assert {OrderKind.PAUSE, OrderKind.STOP_TRIAL, OrderKind.TRIALS} <= offered


def test_a_page_offers_only_what_a_full_training_answers_while_one_runs() -> None:
    paused, trains = [
        DriverState(stage="full training", trials=1, ended=1, slots=1, paused=each, training=True, at=1.0)
        for each in (True, False)
    ]
    found = [offered_in(StudyState.of([], runs=True, driver=driver)) for driver in (paused, trains)]
    assert found == [{OrderKind.CONTINUE, OrderKind.CANCEL}, {OrderKind.PAUSE, OrderKind.CANCEL}]


def offered_in(state: StudyState) -> set[OrderKind]:
    return {kind for takes in ((), ("trial",), ("value",)) for kind, _ in order_controls(state, *takes)}


@pytest.mark.parametrize("written", ["90", "90s", "20min", "2h", "1h30", "1h30m", "2d12h30m"])
def test_the_field_for_a_time_takes_every_form_of_one(written: str) -> None:
    control = OrderKind.TIME_BUDGET.facts.control
    assert control
    assert re.fullmatch(control.pattern, written)
    assert TypeAdapter(Seconds).validate_python(written) >= 90
