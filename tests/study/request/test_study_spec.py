"""Tests that a request says the domain of every knob and the schedule of every task, and takes no change."""

from pathlib import Path
from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.study.request.domain import Choice, Fixed, Range
from krona_tune.study.request.loader import build_spec, dump_spec, parse_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import AdapterConfig, TrainingConfig
from tests.study.request.written_specs import spec_of


def test_the_grace_never_exceeds_a_tasks_whole_budget() -> None:
    spec = spec_of("model: m\nschedule: {epochs: {default: 9, qqp: 0.5}, grace_epochs: 2}")
    assert spec.schedule.of("qqp", 80).rungs == (40,)
    assert spec.schedule.of("rte", 80).rungs == (160, 480, 720)


def test_a_knob_that_is_not_named_is_fixed_at_its_default() -> None:
    spec = spec_of("model: m\nadapter: {scale: [2, 3]}")
    domains = spec.domains()
    assert set(domains) == {*AdapterConfig.model_fields, *TrainingConfig.model_fields} - {"peft"}
    assert domains["scale"] == Choice((2, 3))
    assert domains["learning_rate"] == Fixed(TrainingConfig().learning_rate)
    assert domains["roles"] == Fixed(AdapterConfig().roles)


def test_a_method_overrides_the_domains_that_all_share() -> None:
    spec = spec_of("model: m\nadapter: {scale: [2, 3]}\nmethods: {lora: {scale: 4, learning_rate: {low: 1, high: 2}}}")
    assert spec.domains()["scale"] == spec.domains("krona")["scale"] == Choice((2, 3))
    assert spec.domains("lora")["scale"] == Fixed(4)
    assert spec.domains("lora")["learning_rate"] == Range(1.0, 2.0)
    assert build_spec(spec.plain(), "again") == spec


def test_a_spec_takes_no_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        spec_of("model: m").seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("search", "taught"),
    [
        ({}, True),
        ({"trials": 2}, True),
        ({"early_stopping": False}, True),
        ({"taught": False}, False),
        ({"warm_start": "none"}, False),
        ({"sampler": "tpe"}, False),
        ({"sampler": "sobol", "first_point": 4}, False),
        ({"per_method": True}, False),
        ({"shared": True}, False),
        ({"objective": "pareto"}, True),
        ({"objective": "pareto", "per_method": True}, False),
        ({"warm_start": "recorded-curves"}, False),
        ({"taught": True, "sampler": "random"}, True),
    ],
)
def test_a_study_that_begins_is_taught_unless_its_search_is_asked_for_otherwise(
    search: dict[str, Any], taught: bool
) -> None:
    asked = build_spec({"model": "m", "search": search}, "x.yaml")
    begun = asked.settled()
    assert begun.search.taught is taught
    assert build_spec(begun.plain(), "study.yaml") == begun
    before = build_spec({"model": "m", "search": {key: each for key, each in search.items() if key != "taught"}}, "x")
    assert before.search.taught in {None, False}
    assert before.search.taught_trials == 0


@pytest.mark.parametrize(
    ("search", "front", "sampler"),
    [
        ({}, None, "tpe"),
        ({"objective": "pareto"}, "model", "study_model"),
        ({"objective": "pareto", "warm_start": "recorded-curves"}, "model", "study_model"),
        ({"objective": "pareto", "sampler": "tpe"}, "model", "study_model"),
        ({"objective": "pareto", "front": None}, None, "tpe"),
        ({"objective": "pareto", "sampler": "random"}, None, "random"),
        ({"objective": "pareto", "per_method": True}, None, "tpe"),
        ({"objective": "pareto", "per_method": True, "front": "model"}, "model", "tpe"),
        ({"sampler": "study_model"}, None, "study_model"),
    ],
)
def test_a_study_that_looks_for_every_size_writes_how(search: dict[str, Any], front: str | None, sampler: str) -> None:
    asked = build_spec({"model": "m", "search": search}, "x.yaml")
    assert asked.search.proposes_by == ("tpe" if search.get("objective") and sampler != "random" else sampler)
    begun = asked.settled()
    assert (begun.search.front, begun.search.proposes_by) == (front, sampler)
    sent = parse_spec(dump_spec(begun), "sent", Path()).settled()
    assert (sent.search.front, sent.search.proposes_by) == (front, sampler), "who reads it again settles nothing else"
    assert build_spec(begun.plain(), "study.yaml") == begun


@pytest.mark.parametrize(("method", "favoured"), [("krona", True), ("lora", True), (["krona", "lora"], False)])
def test_several_methods_are_searched_on_equal_terms(method: Any, favoured: bool) -> None:
    space = {"model": "m", "adapter": {"method": method}}
    begun = build_spec({**space, "finalists": {"top": 1}}, "x.yaml").settled()
    assert (begun.search.taught, begun.finalists.default) == (favoured, favoured)
    wanted = {"search": {"taught": True}, "finalists": {"top": 1, "default": True}}
    asked = build_spec({**space, **wanted}, "x.yaml").settled()
    assert (asked.search.taught, asked.finalists.default) == (True, True)
    assert (begun.finalists.counted, asked.finalists.counted) == (favoured, True)
    assert (begun.finalists.steady, asked.finalists.steady) == (favoured, True)
    beside = build_spec({**space, "finalists": {"top": 1, "default": True, "counted": False}}, "x.yaml").settled()
    assert beside.finalists.counted is False
    unasked = build_spec({**space, "finalists": {"top": 1, "default": True, "steady": False}}, "x.yaml").settled()
    assert unasked.finalists.steady is False
    assert {begun.finalists.confidence, asked.finalists.confidence} == {0.99}


@pytest.mark.parametrize("given", [0.5, 1, 1.2, -1, "nan", True])
def test_a_confidence_is_above_a_half_and_below_one(given: Any) -> None:
    asked = build_spec({"model": "m", "finalists": {"top": 1, "confidence": 0.9}}, "x.yaml").settled()
    assert asked.finalists.confidence == 0.9
    with pytest.raises(Refusal, match=r"finalists\.confidence"):
        build_spec({"model": "m", "finalists": {"top": 1, "confidence": given}}, "x.yaml")


@pytest.mark.parametrize(
    "search", [{"warm_start": ["none", "recorded-curves"]}, {"warm_start": "none", "taught": True}]
)
def test_nothing_earlier_stands_alone(search: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="warm_start none stands alone"):
        build_spec({"model": "m", "search": search}, "x.yaml")


@pytest.mark.parametrize(
    ("finalists", "search", "least"),
    [
        ({"top": 2, "seeds": 3}, {}, 12),  # two finalists, the default and the head
        ({"top": 2, "seeds": 3, "default": False}, {}, 9),
        ({"top": 4, "seeds": 2}, {"baseline_learning_rates": []}, 10),
    ],
)
def test_a_budget_of_finals_below_what_they_take_is_refused_where_a_study_begins(
    finalists: dict[str, Any], search: dict[str, Any], least: int
) -> None:
    def asked(budget: int) -> StudySpec:
        return build_spec({"model": "m", "search": search, "finalists": {**finalists, "budget": budget}}, "x.yaml")

    begun = asked(least).settled()
    assert begun.finalists.budget == least
    assert build_spec(begun.plain(), "study.yaml").settled() == begun
    earlier = asked(least - 1)  # an earlier version began with it; it is read, and resumed
    with pytest.raises(Refusal, match=f"finalists.budget: {least - 1} trainings are fewer than the {least} of .*write"):
        earlier.settled()


@pytest.mark.parametrize(
    ("finalists", "default", "budget"),
    [
        ({"top": 2, "seeds": 3}, True, 20),
        ({"top": 2, "seeds": 3, "default": False}, False, 15),
        ({"top": 2, "seeds": 1}, False, None),  # nobody asks what to choose
        ({"top": 2, "seeds": 1, "default": True}, True, 12),
        ({"top": 2, "seeds": 1, "budget": 12}, False, 12),
        ({"top": 0}, False, None),
        ({"top": 0, "budget": 20, "default": True}, False, None),  # as a study wrote them that had finals
    ],
)
def test_a_new_study_writes_two_seeds_more_for_each_finalist(
    finalists: dict[str, int], default: bool, budget: int | None
) -> None:
    begun = build_spec({"model": "m", "finalists": finalists}, "x.yaml").settled().finalists
    assert (begun.default, begun.budget) == (default, budget)


def test_a_head_that_is_not_trained_takes_no_part_of_the_budget() -> None:
    asked = {"model": "m", "search": {"baseline_learning_rates": []}, "finalists": {"top": 2, "seeds": 3}}
    assert build_spec(asked, "x.yaml").settled().finalists.budget == 15


@pytest.mark.parametrize(("trials", "budget"), [(1, 15), (5, 35), (200, 505)])
def test_no_more_finalists_are_paid_for_than_there_are_trials(trials: int, budget: int) -> None:
    asked = {"model": "m", "search": {"trials": trials}, "finalists": {"top": 99}}
    assert build_spec(asked, "x.yaml").settled().finalists.budget == budget
