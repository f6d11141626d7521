"""Tests that what is left is what a driver would still train: none of what failed, was stopped, or is equal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from krona_tune.search.final_trials import final_trials
from krona_tune.search.progress.trials_left import by_task, not_begun, search_left, trials_left
from krona_tune.search.resume import repeat_trials
from krona_tune.study.finals import DEFAULT
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status, TrialResult
from tests.record.events import manifest
from tests.search.searched import final_row, final_rows, head, searched

COUNTED = PlanFacts()
FACTS = manifest("rte").tasks
LOST = Status.DIVERGED


def asked(trials: int = 3, *, tasks: Sequence[str] = ("rte",), rates: int = 1, **request: Any) -> StudySpec:
    search = {"trials": trials, "baseline_learning_rates": [0.1, 0.01, 0.001][:rates], **request.pop("search", {})}
    finalists = {"top": 2, "seeds": 3, "default": False, **request.pop("finalists", {})}
    plain = {"model": "m", "tasks": list(tasks), "seed": 7, "search": search, "finalists": finalists}
    return build_spec({**plain, **request}, "x.yaml")


def trained(spec: StudySpec, planned: PlanFacts, rows: Sequence[TrialResult]) -> list[TrialResult]:
    """Returns the rows with those of all finals and repeats that a driver trains after them."""
    known = {row.trial_id for row in rows}
    following = [*final_trials(spec, rows, planned.default), *repeat_trials(spec, rows)]
    return [*rows, *(final_row(trial) for trial in following if trial.trial_id not in known)]


def test_what_is_to_come_is_what_the_request_asks_for_and_no_row_has_begun() -> None:
    spec = asked(4, tasks=("rte", "cola"), rates=2, finalists={"top": 0})
    begun = [searched(0, 0.5, "cola"), searched(1, None, "cola", status=Status.INTERRUPTED), head(0, 0.1, "cola")]
    begun.append(replace(searched(3, 0.5, "cola"), trial_id="cola-full", kind="full_train"))
    assert not_begun(spec, COUNTED, begun) == {"rte": 4 + 2, "cola": 2 + 1}
    assert not_begun(spec, PlanFacts(text_to_text=True), begun) == {"rte": 4 + 1, "cola": 2}
    assert by_task(search_left(spec, COUNTED, begun, lambda row: row.ended)) == {"rte": 4 + 2, "cola": 1 + 2 + 1}


def test_a_clone_is_none_of_the_trials_that_the_request_asks_for() -> None:
    clone = searched(-1, 0.5, status=Status.INTERRUPTED)
    spec, rows = asked(4, rates=0, finalists={"top": 0}), [searched(0, 0.5), searched(1, 0.4), clone]
    assert not_begun(spec, COUNTED, rows) == {"rte": 2}
    assert trials_left(spec, COUNTED, rows, done=lambda row: 1 if row.ended else 0.25)["rte", "search"] == 2.75


def test_an_extended_search_may_bring_new_finalists() -> None:
    spec = asked(3, finalists={"top": 1})
    rows = [head(0, 0.1), *(searched(number, 0.5 + number / 10) for number in range(3))]
    rows = trained(spec, COUNTED, rows)
    assert not any(trials_left(spec, COUNTED, rows).values())
    assert trials_left(asked(5, finalists={"top": 1}), COUNTED, rows)["rte", "finalist"] == 3


@pytest.mark.parametrize("search", [{}, {"shared": True}])
def test_of_a_search_that_was_ended_only_the_finals_are_left(search: dict[str, Any]) -> None:
    spec, rows = asked(9, search=search), [head(0, 0.1), searched(0, 0.5), searched(1, 0.4, status=Status.INTERRUPTED)]
    assert by_task(trials_left(spec, COUNTED, rows, done=lambda row: row.ended)) == {"rte": 7 + 1 + (2 + 1) * 3}
    finals = len(final_trials(spec, rows))
    assert by_task(trials_left(spec, COUNTED, rows, search_over=True)) == {"rte": finals}


def test_while_the_search_goes_on_as_many_finals_are_expected_as_the_request_allows() -> None:
    spec = asked(3, search={"repeats": {"points": 2, "seeds": 4}})
    rows = [head(0, 0.1), searched(0, 0.5), searched(1, None, status=LOST)]
    assert not_begun(spec, COUNTED, rows) == {"rte": 1 + (2 + 1) * 3 + 2 * 4}
    running = [*rows, searched(2, 0.3, status=Status.INTERRUPTED)]
    assert not_begun(spec, COUNTED, running) == {"rte": (2 + 1) * 3 + 2 * 4}


PARETO = {"objective": "pareto"}
METHODS = {"adapter": {"method": ["krona", "lora", "lokr"]}, "search": {"per_method": True, "sampler": "tpe"}}
LORA = {"method": "lora", "rank": 2}
FIRST = searched(0, 0.5)
CENTRE = {**FIRST.params, "scale": 7.5}
"""A default configuration that no trial has."""
ENDS: Mapping[str, tuple[StudySpec, PlanFacts, list[TrialResult], int]] = {
    "all may be finalists": (asked(), COUNTED, [searched(n, 0.5 + n / 10) for n in range(3)], 2),
    "one was stopped": (asked(2), COUNTED, [FIRST, searched(1, 0.4, status=Status.STOPPED_EARLY)], 2),
    "one failed": (asked(2), COUNTED, [FIRST, searched(1, None, status=Status.FAILED)], 1),
    "none has a score": (asked(2), COUNTED, [searched(n, None, status=LOST) for n in range(2)], 0),
    "the default is a searched one and one diverged": (
        asked(finalists={"default": True}),
        PlanFacts(compares=True, default=dict(FIRST.params), tries_default=True),
        [FIRST, searched(1, 0.6), searched(2, None, status=LOST)],
        2,
    ),
    "the default is no searched one": (
        asked(finalists={"default": True}),
        PlanFacts(compares=True, default=CENTRE, tries_default=True),
        [FIRST, searched(1, 0.6), searched(2, 0.7)],
        3,
    ),
    "no point is a default": (asked(2, finalists={"default": True}), COUNTED, [FIRST, searched(1, 0.6)], 2),
    "a front of one": (
        asked(search=PARETO),
        COUNTED,
        [searched(n, 0.5 - n / 10, trainable_parameters=100 + n) for n in range(3)],
        1,
    ),
    "a method of which all failed": (
        asked(1, **METHODS),
        PlanFacts(methods=3),
        [FIRST, searched(1, 0.4, params=LORA), searched(2, None, status=LOST, params={"method": "lokr"})],
        2,
    ),
    "a method that the deployment leaves out": (
        asked(1, **METHODS),
        PlanFacts(methods=2),
        [FIRST, searched(1, 0.4, params=LORA)],
        2,
    ),
    "equal configurations": (asked(2), COUNTED, [FIRST, replace(FIRST, trial_id="rte-001", number=1)], 1),
}
"""By what is special: a request, its plan, the rows of its search, and how many configurations its finals have."""


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("heads", [True, False], ids=["with a head", "without"])
def test_after_the_search_the_finals_are_those_that_a_driver_trains(name: str, heads: bool) -> None:
    spec, planned, rows, configurations = ENDS[name]
    if not heads:
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"baseline_learning_rates": ()})})
    rows = [*rows, head(0, 0.1)] if heads else rows
    assert not_begun(spec, planned, rows) == {"rte": 3 * (configurations + heads)}
    whole = trained(spec, planned, rows)
    assert not_begun(spec, planned, whole, FACTS) == {"rte": 0}
    if len(whole) > len(rows):
        assert not_begun(spec, planned, whole[:-1], FACTS) == {"rte": 1}


def test_a_head_that_failed_has_no_finals() -> None:
    rows = [searched(0, 0.5), replace(head(0, 0.1), score=None, status=LOST)]
    assert not_begun(asked(1), COUNTED, rows) == {"rte": 3}


def test_of_an_older_study_the_default_is_known_when_it_has_entered_the_finals() -> None:
    spec, rows = asked(finalists={"default": True}), [head(0, 0.1), *(searched(n, 0.5) for n in range(3))]
    older = manifest("rte").planned_of(spec)
    assert older == PlanFacts(compares=True, tries_default=True, taught=spec.search.taught_trials)
    whole = trained(spec, PlanFacts(compares=True, default=CENTRE), rows)
    assert not_begun(spec, older, rows) == {"rte": 4 * 3}
    assert not_begun(spec, older, [row for row in whole if row.number != DEFAULT or row.kind == "search"]) == {"rte": 3}
    assert not_begun(spec, older, whole[:-1]) == {"rte": 1}
    assert not_begun(spec, older, whole) == {"rte": 0}


@pytest.mark.parametrize("knobs", [{"scale": "wide"}, {"width": 3}])
def test_of_trials_that_this_version_would_refuse_as_many_finals_are_expected_as_the_request_allows(
    knobs: dict[str, Any],
) -> None:
    rows = [head(0, 0.1), searched(0, 0.5, params=knobs), searched(1, 0.5), searched(2, None, status=LOST)]
    assert not_begun(asked(), COUNTED, rows) == {"rte": 3 * 3}


def test_rounds_of_more_seeds_are_left_until_they_are_trained() -> None:
    spec = asked(finalists={"top": 1, "seeds": 2, "default": True, "budget": 9})
    planned = PlanFacts(compares=True, default=CENTRE)
    rows = [head(0, 0.1), *(searched(n, 0.5) for n in range(3))]
    scores = {DEFAULT: [0.2, 0.8, 0.5], 0: [0.1, 0.11, 0.1], 1: [0.8, 0.4, 0.7]}
    rows += final_rows(final_trials(spec, rows, CENTRE), scores)
    assert not_begun(spec, planned, rows, FACTS) == {"rte": 3}
    assert not_begun(spec, planned, rows) == {"rte": 0}, "a forecast is made too often to compare all scores"
    more = final_rows(final_trials(spec, rows, CENTRE)[6:], {number: each[2:] for number, each in scores.items()})
    assert not_begun(spec, planned, [*rows, *more], FACTS) == {"rte": 0}
    runs = [*rows, replace(more[0], status=Status.INTERRUPTED)]
    assert trials_left(spec, planned, runs, done=lambda row: 1 if row.ended else 0.5)["rte", "finalist"] == 0.5


SHARED = ("rte", "cola", "mrpc")


def shared(*stopped: TrialResult, trials: int = 2) -> tuple[StudySpec, list[TrialResult]]:
    """Returns a request for three tasks, and the rows of a configuration that was trained on all, and of others."""
    spec = asked(trials, tasks=SHARED, rates=0, search={"shared": True}, finalists={"top": 1})
    whole = [searched(0, 0.5, task, ended_at=float(place)) for place, task in enumerate(SHARED, 1)]
    return spec, [*whole, *(replace(row, ended_at=9.0) for row in stopped)]


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (searched(1, 0.4), (0, 0, 0)),
        (searched(1, None, status=LOST), (0, 0, 0)),
        (searched(1, 0.3, status=Status.STOPPED_BY_USER), (0, 0, 0)),
        (searched(1, 0.6), (0, 1, 1)),
        (searched(1, None, status=Status.INTERRUPTED), (0, 1, 1)),
        (None, (1, 1, 1)),
    ],
)
def test_a_shared_configuration_that_was_stopped_comes_to_no_other_task(
    row: TrialResult | None, left: tuple[int, ...]
) -> None:
    spec, rows = shared(*([row] if row else []))
    found = search_left(spec, COUNTED, rows)
    assert tuple(found[task, "search"] for task in SHARED) == left
    finals = dict.fromkeys(SHARED, 3)
    assert not_begun(spec, COUNTED, rows) == {task: finals[task] + n for task, n in zip(SHARED, left, strict=True)}


@pytest.mark.parametrize(("planned", "left"), [(PlanFacts(), (0, 0)), (PlanFacts(exact_cutoff=True), (1, 1))])
def test_a_shared_configuration_is_judged_by_the_rule_under_which_its_study_began(
    planned: PlanFacts, left: tuple[int, int]
) -> None:
    """The last of eleven has the score of the fourth best, on which the cutoff falls."""
    spec = asked(11, tasks=SHARED, rates=0, search={"shared": True}, finalists={"top": 0})
    scores = [*(number / 50 for number in range(10)), 6 / 50]
    rows = [searched(number, score, ended_at=float(number)) for number, score in enumerate(scores)]
    others = [searched(row.number, row.score, task, ended_at=99.0) for row in rows[:10] for task in SHARED[1:]]
    found = search_left(spec, planned, [*rows, *others])
    assert tuple(found[task, "search"] for task in SHARED[1:]) == left


def test_a_shared_study_in_which_something_was_stopped_is_done_with_its_finals() -> None:
    spec, rows = shared(searched(1, 0.4))
    assert not_begun(spec, COUNTED, trained(spec, COUNTED, rows)) == dict.fromkeys(SHARED, 0)
    repeats = spec.search.repeats.model_copy(update={"points": 2, "seeds": 1})
    repeated = spec.model_copy(update={"search": spec.search.model_copy(update={"repeats": repeats})})
    assert not_begun(repeated, COUNTED, rows) == {"rte": 3 + 2, "cola": 3 + 1, "mrpc": 3 + 1}
