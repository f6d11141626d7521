"""Tests that finals depend only on the rows: begun trials continue, others join, open choices get more seeds."""

from dataclasses import replace
from typing import Any

import pytest

from krona_tune.refusal import Refusal
from krona_tune.search import final_trials as module
from krona_tune.search.final_trials import final_trials
from krona_tune.search.trial_message import TrialMessage
from krona_tune.study.finals import DEFAULT
from krona_tune.study.proposer import Proposer
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.request.trial import check_trial
from krona_tune.study.result import Status, TrialResult
from tests.record.events import manifest
from tests.search.searched import final_row, final_rows, head, searched


def spec(top: int = 2, seeds: int = 3, *, tasks: tuple[str, ...] = ("rte",), **search: Any) -> StudySpec:
    return build_spec(
        {
            "model": "m",
            "tasks": list(tasks),
            "seed": 7,
            "search": search,
            "finalists": {"top": top, "seeds": seeds},
        },
        "x.yaml",
    )


def chosen(trials: list[TrialMessage]) -> dict[int, str]:
    """Returns which trial each configuration repeats, by its number."""
    return {config.number: config.of for config in trials}


ROWS = [head(0, 0.50), head(1, 0.55), *(searched(n, s) for n, s in enumerate((0.6, 0.9, 0.7, 0.8, 0.65)))]


def test_the_best_of_the_search_and_the_best_head_are_trained_with_the_same_seeds() -> None:
    trials = final_trials(spec(), ROWS)
    assert chosen(trials) == {0: "rte-head-1", 1: "rte-001", 2: "rte-003"}
    assert [config.trial_id for config in trials[:4]] == [
        "rte-final-head-s1",
        "rte-final-1-s1",
        "rte-final-2-s1",
        "rte-final-head-s2",
    ]
    seeds = {number: [c.seed for c in trials if c.number == number] for number in (0, 1, 2)}
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0])) == 3
    assert {config.kind for config in trials} == {"finalist"}
    assert trials[1].params == ROWS[3].params
    assert trials[1].checked().kind == "finalist"


def test_each_task_gets_a_seed_before_one_gets_its_next() -> None:
    rows = [searched(number, 0.5 + number / 10, task) for task in ("cola", "rte") for number in range(3)]
    trials = final_trials(spec(top=1, seeds=2, tasks=("rte", "cola")), rows)
    assert [trial.trial_id for trial in trials] == [f"{task}-final-1-s{n}" for n in (1, 2) for task in ("rte", "cola")]


def test_nothing_is_chosen_where_no_finalists_are_asked_for() -> None:
    assert final_trials(spec(top=0), ROWS) == []


def test_trials_that_ended_regularly_with_a_score_enter_however_early_they_were_stopped() -> None:
    rows = [
        searched(0, 0.95, status=Status.STOPPED_EARLY),
        searched(1, float("nan")),
        searched(2, None, status=Status.FAILED),
        searched(3, 0.3),
        searched(4, 0.97, status=Status.DIVERGED),
    ]
    assert chosen(final_trials(spec(), rows)) == {1: "rte-000", 2: "rte-003"}


def test_the_last_score_counts_of_a_trial_that_the_end_of_the_search_cut_off() -> None:
    """Those that others did not stop are the best: without them, the finals would be among the losers."""
    cut_off = [searched(5, 0.99, status=Status.INTERRUPTED), searched(6, None, status=Status.INTERRUPTED)]
    trials = final_trials(spec(), [*ROWS, *cut_off])
    assert chosen(trials) == {0: "rte-head-1", 1: "rte-005", 2: "rte-001"}
    gone_on = [*ROWS, searched(5, 0.3), searched(6, 0.4), *map(final_row, trials)]
    assert chosen(final_trials(spec(), gone_on)) == {**chosen(trials), 3: "rte-003"}


def test_beside_taught_trials_what_was_cut_off_enters_by_its_score_and_what_was_stopped_comes_last() -> None:
    finished = [searched(0, 0.5, proposed_by=Proposer.RECORDED_CURVES), searched(2, 0.6)]
    cut_off, stopped = searched(1, 0.9, status=Status.INTERRUPTED), searched(3, 0.95, status=Status.STOPPED_EARLY)
    rows = [*finished, cut_off, stopped]
    assert chosen(final_trials(spec(top=4), rows)) == {1: "rte-001", 2: "rte-002", 3: "rte-000", 4: "rte-003"}


def test_equal_configurations_are_one_finalist() -> None:
    same = {"scale": 2.5}
    rows = [searched(0, 0.7, params=same), searched(1, 0.9, params=same), searched(2, 0.6)]
    assert chosen(final_trials(spec(), rows)) == {1: "rte-001", 2: "rte-002"}


@pytest.mark.parametrize("search", [{}, {"per_method": True}, {"objective": "pareto"}])
def test_a_choice_among_many_trials_checks_the_configurations_of_a_few(
    monkeypatch: pytest.MonkeyPatch, search: dict[str, Any]
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(module, "check_trial", lambda *given: checked.append(given[0]) or check_trial(*given))
    rows = [searched(number, 0.5 + number / 1000, trainable_parameters=number + 1) for number in range(90)]
    assert chosen(final_trials(spec(top=3, seeds=4, **search), rows)) == {1: "rte-089", 2: "rte-088", 3: "rte-087"}
    assert len(checked) < 10


def test_tasks_and_with_per_method_their_methods_have_their_own_finalists() -> None:
    lora = {"method": "lora", "rank": 2}
    rows = [
        searched(0, 0.9),
        searched(1, 0.8),
        searched(2, 0.3, params=lora),
        searched(0, 0.2, "cola"),
        searched(1, 0.4, "cola", params=lora),
    ]
    every = final_trials(spec(1, 2, per_method=True, tasks=("cola", "rte")), rows)
    assert sorted({config.of for config in every}) == ["cola-000", "cola-001", "rte-000", "rte-002"]
    assert len({config.trial_id for config in every}) == len(every) == 8
    together = final_trials(spec(1, 2, tasks=("cola", "rte")), rows)
    assert {config.of for config in together} == {"cola-001", "rte-000"}
    by_task = {c.task: c.seed for c in together if c.trial_id.endswith("s1")}
    assert by_task["cola"] != by_task["rte"]


def test_with_the_objective_pareto_the_front_of_score_and_size_enters() -> None:
    """Trial 002 is larger than the better 001, so it is not on the front; 000, 001 and 003 are."""
    sizes = {0: 900, 1: 500, 2: 700, 3: 100}
    scores = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6}
    rows = [searched(number, scores[number], trainable_parameters=size) for number, size in sizes.items()]
    assert set(chosen(final_trials(spec(top=3, objective="pareto"), rows)).values()) == {
        "rte-000",
        "rte-001",
        "rte-003",
    }
    assert set(chosen(final_trials(spec(top=3), rows)).values()) == {"rte-000", "rte-001", "rte-002"}


def test_beside_taught_trials_the_front_of_those_that_nothing_stopped_enters_first() -> None:
    ends = {0: Status.COMPLETED, 1: Status.COMPLETED, 2: Status.STOPPED_EARLY, 3: Status.STOPPED_BY_USER}
    rows = [
        searched(number, 0.8 + number / 100, trainable_parameters=100 * 2**number, status=how)
        for number, how in ends.items()
    ]
    rows[0] = replace(rows[0], proposed_by=Proposer.RECORDED_CURVES)
    front = set(chosen(final_trials(spec(top=2, objective="pareto"), rows)).values())
    assert front == {"rte-000", "rte-001"}


def test_with_one_adapter_for_all_tasks_the_best_on_average_enters_everywhere() -> None:
    tasks = ("rte", "cola")
    scores = {"rte": (0.9, 0.5, 0.8), "cola": (0.1, 0.7, 0.6)}
    rows = [searched(number, score, task) for task in tasks for number, score in enumerate(scores[task])]
    rows.append(searched(3, 1.0, "rte"))
    trials = final_trials(spec(top=1, tasks=tasks, shared=True), rows)
    assert {(config.task, config.of) for config in trials} == {("rte", "rte-002"), ("cola", "cola-002")}


def test_a_resumed_study_makes_the_same_choice() -> None:
    trials = final_trials(spec(), ROWS)
    rows = [*ROWS, final_row(trials[0]), final_row(trials[1], Status.INTERRUPTED)]
    assert final_trials(spec(), rows) == trials


def test_a_finalist_that_begins_before_a_better_one_changes_no_number() -> None:
    """Workers start in an order of their own."""
    trials = final_trials(spec(4, 1), ROWS)
    assert len(trials) == 5
    for one in trials:
        assert final_trials(spec(4, 1), [*ROWS, final_row(one)]) == trials


def test_more_trials_add_finalists_and_what_has_begun_stays() -> None:
    first = final_trials(spec(), ROWS)
    rows = [*ROWS, *(final_row(config) for config in first), searched(5, 0.99), searched(6, 0.1)]
    again = final_trials(spec(), rows)
    assert chosen(again) == {0: "rte-head-1", 1: "rte-001", 2: "rte-003", 3: "rte-005"}
    assert [config for config in again if config.number != 3] == first


def test_a_begun_finalist_is_found_again_by_its_configuration_and_not_by_its_score() -> None:
    """The record gives a knob that may be None to trials that never had it."""
    [config] = [c for c in final_trials(spec(1, 1), ROWS[2:]) if c.number]
    reread = final_row(config)
    reread = replace(reread, params={**reread.params, "dropout": None})
    again = final_trials(spec(1, 1), [*ROWS[2:], reread])
    assert [c.trial_id for c in again] == [config.trial_id]


def test_more_seeds_are_added_to_those_that_there_are() -> None:
    few = final_trials(spec(1, 2), ROWS)
    rows = [*ROWS, *(final_row(config) for config in few)]
    more = {config.trial_id: config.seed for config in final_trials(spec(1, 4), rows)}
    assert len(more) == 8
    assert {config.trial_id: config.seed for config in few}.items() <= more.items()


def test_a_request_that_says_nothing_has_no_finalists() -> None:
    silent = build_spec({"model": "m", "tasks": ["rte"]}, "x.yaml")
    assert silent.finalists.top == 0
    assert build_spec(silent.plain(), "x.yaml") == silent
    asked = build_spec({"model": "m", "finalists": {"seeds": 5}}, "x.yaml")
    assert (asked.finalists.top, asked.finalists.seeds) == (2, 5)


@pytest.mark.parametrize(
    ("finalists", "refusal"),
    [
        ({"top": -1}, r"x.yaml: finalists.top: -1 is refused"),
        ({"seeds": 0}, r"x.yaml: finalists.seeds: 0 is refused"),
        ({"tops": 2}, r"x.yaml: finalists: unknown key 'tops', did you mean 'top'"),
    ],
)
def test_a_wrong_number_of_finalists_is_refused(finalists: dict[str, int], refusal: str) -> None:
    with pytest.raises(Refusal, match=refusal):
        build_spec({"model": "m", "finalists": finalists}, "x.yaml")


def with_default(budget: int, seeds: int = 2) -> StudySpec:
    return spec_of({"top": 1, "seeds": seeds, "default": True, "budget": budget})


def spec_of(finalists: dict[str, Any]) -> StudySpec:
    return build_spec({"model": "m", "tasks": ["rte"], "finalists": finalists}, "x.yaml")


DEFAULT_POINT = dict(ROWS[4].params)
"""The configuration of rte-002, the third best."""


def test_the_default_configuration_enters_beside_the_best_others_and_keeps_its_name() -> None:
    found = final_trials(with_default(1), ROWS, DEFAULT_POINT)
    assert {each.trial_id: each.of for each in found if each.trial_id.endswith("s1")} == {
        "rte-final-default-s1": "rte-002",
        "rte-final-head-s1": "rte-head-1",
        "rte-final-1-s1": "rte-001",
    }
    best = final_trials(with_default(1), ROWS, dict(ROWS[3].params))
    assert chosen(best) == {DEFAULT: "rte-001", 0: "rte-head-1", 1: "rte-003"}, "the best of the others"
    unseen = dict(ROWS[3].params) | {"scale": 7.5}
    assert chosen(final_trials(with_default(1), ROWS, unseen))[DEFAULT] == "rte-default"


@pytest.mark.parametrize(
    ("place", "top", "entered"),
    [
        (3, 1, ["rte-003", "rte-001"]),
        (1, 1, ["rte-001"]),
        (1, 2, ["rte-001", "rte-003"]),
        (3, 2, ["rte-003", "rte-001"]),
    ],
)
def test_a_default_configuration_that_is_one_of_the_best_takes_no_place_beside_them(
    place: int, top: int, entered: list[str]
) -> None:
    finalists = {"top": top, "seeds": 1, "default": True}
    asked, older = (spec_of({**finalists, "counted": counted}) for counted in (True, None))
    default = dict(next(row for row in ROWS if row.trial_id == f"rte-{place:03}").params)
    found = chosen(final_trials(asked, ROWS, default))
    assert [found.pop(DEFAULT), *(of for number, of in found.items() if number)] == entered
    assert len(chosen(final_trials(older, ROWS, default))) == 2 + top


def test_open_choices_get_one_seed_more_at_a_time_while_the_budget_pays_for_it() -> None:
    wide = {DEFAULT: [0.2, 0.8, 0.6], 0: [0.1, 0.11], 1: [0.8, 0.4, 0.7]}
    least = final_trials(with_default(8), ROWS, DEFAULT_POINT)
    assert len(least) == 6
    rows = [*ROWS, *final_rows(least, wide)]
    more = [each.trial_id for each in final_trials(with_default(9), rows, DEFAULT_POINT)[6:]]
    assert more == ["rte-final-1-s3", "rte-final-default-s3", "rte-final-head-s3"]
    assert len(final_trials(with_default(8), rows, DEFAULT_POINT)) == 6, "there is no half a round"
    half = [*rows, *final_rows([final_trials(with_default(9), rows, DEFAULT_POINT)[6]], {1: [0.75]})]
    assert [each.trial_id for each in final_trials(with_default(12), half, DEFAULT_POINT)[6:]] == more


def test_seeds_of_earlier_rounds_count_against_the_budget_after_more_trials() -> None:
    """The better trial that comes later gets its least seeds beyond the budget, and no more."""
    asked, wide = with_default(9), {DEFAULT: [0.2, 0.8, 0.6], 0: [0.1, 0.11, 0.1], 1: [0.8, 0.4, 0.7]}
    rows = [*ROWS, *final_rows(final_trials(asked, ROWS, DEFAULT_POINT), wide)]
    rows = [*ROWS, *final_rows(final_trials(asked, rows, DEFAULT_POINT), wide), searched(5, 0.99)]
    least = [trial for trial in final_trials(asked, rows, DEFAULT_POINT) if trial.number == 2]
    rows += final_rows(least, {2: [0.9, 0.3]})
    assert [trial.number for trial in final_trials(asked, rows, DEFAULT_POINT)].count(2) == 2


def test_with_one_seed_a_budget_gives_more() -> None:
    one = build_spec({"model": "m", "finalists": {"top": 1, "seeds": 1, "budget": 9}, "tasks": ["rte"]}, "x.yaml")
    least = final_trials(one, ROWS)
    assert [each.number for each in least] == [0, 1]
    rows = [*ROWS, *final_rows(least, {0: [0.6], 1: [0.9]})]
    assert [each.trial_id for each in final_trials(one, rows)[2:]] == ["rte-final-1-s2", "rte-final-head-s2"]


def test_finals_that_are_clear_or_not_over_get_no_more_seeds() -> None:
    clear = {DEFAULT: [0.5, 0.51], 0: [0.1, 0.11], 1: [0.8, 0.81]}
    least = final_trials(with_default(20), ROWS, DEFAULT_POINT)
    assert final_trials(with_default(20), [*ROWS, *final_rows(least, clear)], DEFAULT_POINT) == least
    open_ones = final_rows(least, {DEFAULT: [0.2, 0.8], 0: [0.1, 0.11], 1: [0.8, 0.4]})
    assert final_trials(with_default(20), [*ROWS, *open_ones[:-1]], DEFAULT_POINT) == least
    without = build_spec({"model": "m", "tasks": ["rte"], "finalists": {"top": 1, "seeds": 2}}, "x.yaml")
    old = final_trials(without, ROWS)
    assert final_trials(without, [*ROWS, *final_rows(old, {0: [0.1, 0.9], 1: [0.8, 0.2]})]) == old


def test_a_seed_that_did_not_learn_makes_the_others_more_promising() -> None:
    """The facts say that .5 is a constant answer's score, which one seed of the best has."""
    facts = manifest("rte").tasks
    least = final_trials(with_default(20, seeds=3), ROWS, DEFAULT_POINT)
    rows = final_rows(least, {DEFAULT: [0.8, 0.8, 0.81], 0: [0.6, 0.61, 0.6], 1: [0.95, 0.5, 0.95]})
    flat = [replace(each, metrics={"accuracy": each.score or 0.0}) for each in rows]
    asked = final_trials(with_default(20, seeds=3), [*ROWS, *flat], DEFAULT_POINT, facts)[9:]
    assert {each.number for each in asked} == {DEFAULT, 1}


UNSTEADY = {DEFAULT: [0.9, 0.5, 0.9], 0: [0.5, 0.5, 0.5], 1: [0.5, 0.9, 0.5]}
"""Scores of which .5 is a constant answer's."""


def looking(budget: int, *, steady: bool | None = True) -> StudySpec:
    return spec_of({"top": 1, "seeds": 3, "default": True, "budget": budget, "steady": steady})


def ended(trials: list[TrialMessage], scores: dict[int, list[float]]) -> list[TrialResult]:
    return [replace(row, metrics={"accuracy": row.score or 0.0}) for row in final_rows(trials, scores)]


def test_the_next_best_of_the_search_joins_while_no_finalist_learns_with_every_seed() -> None:
    facts = manifest("rte").tasks
    least = final_trials(looking(20), ROWS, DEFAULT_POINT, facts)
    rows = [*ROWS, *ended(least, UNSTEADY)]
    joined = final_trials(looking(20), rows, DEFAULT_POINT, facts)
    new = ["rte-final-2-s1", "rte-final-2-s2", "rte-final-2-s3"]
    assert [each.trial_id for each in joined[9:]] == new
    assert chosen(joined)[2] == "rte-003", "rte-001 is a finalist, and rte-002 the default"
    assert final_trials(looking(20, steady=None), rows, DEFAULT_POINT, facts)[9:] != joined[9:]
    half = [*rows, *ended(joined[9:10], {2: [0.5]})]
    going_on = final_trials(looking(20), half, DEFAULT_POINT, facts)
    assert {each.trial_id for each in going_on} == {each.trial_id for each in joined}, "also if it is killed within"
    steady = [*rows, *ended(joined[9:], {2: [0.8, 0.81, 0.8]})]
    assert 3 not in chosen(final_trials(looking(20), steady, DEFAULT_POINT, facts))
    again = [*rows, *ended(joined[9:], {2: [0.8, 0.5, 0.8]})]
    assert chosen(final_trials(looking(20), again, DEFAULT_POINT, facts))[3] == "rte-004"
    assert 3 not in chosen(final_trials(looking(14), again, DEFAULT_POINT, facts)), "nothing pays for it"


def test_a_finalist_that_learned_nothing_is_not_what_is_looked_for_and_one_that_was_stopped_did_not_fail() -> None:
    facts = manifest("rte").tasks
    least = final_trials(looking(20), ROWS, DEFAULT_POINT, facts)
    flat = ended(least, {DEFAULT: [0.9, 0.5, 0.9], 0: [0.5, 0.5, 0.5], 1: [0.5, 0.5, 0.5]})
    assert chosen(final_trials(looking(20), [*ROWS, *flat], DEFAULT_POINT, facts))[2] == "rte-003"
    whole = ended(least, {DEFAULT: [0.9, 0.9, 0.9], 0: [0.5, 0.5, 0.5], 1: [0.9, 0.9, 0.9]})
    stopped = [
        replace(row, status=Status.STOPPED_BY_USER, test_score=None) if row.trial_id.endswith("s2") else row
        for row in whole
    ]
    assert 2 not in chosen(final_trials(looking(20), [*ROWS, *stopped], DEFAULT_POINT, facts))


def test_the_next_best_joins_where_every_seed_of_every_finalist_diverged() -> None:
    facts = manifest("rte").tasks
    least = final_trials(looking(20), ROWS, DEFAULT_POINT, facts)
    rows = ended(least, {DEFAULT: [0.5] * 3, 0: [0.5] * 3, 1: [0.5] * 3})
    diverged = [
        replace(row, status=Status.DIVERGED, score=None, test_score=None) if row.number else row for row in rows
    ]
    assert chosen(final_trials(looking(20), [*ROWS, *diverged], DEFAULT_POINT, facts))[2] == "rte-003"


def test_what_was_no_better_than_the_constant_answer_in_the_search_does_not_join() -> None:
    facts = {"rte": manifest("rte").tasks["rte"].model_copy(update={"constant_score": 0.75})}
    rows = [
        *ROWS,
        *ended(
            final_trials(looking(20), ROWS, DEFAULT_POINT, facts),
            {0: [0.7] * 3, 1: [0.7, 0.99, 0.7], DEFAULT: [0.99, 0.7, 0.99]},
        ),
    ]
    assert chosen(final_trials(looking(30), rows, DEFAULT_POINT, facts))[2] == "rte-003"
    few = [row for row in rows if row.trial_id != "rte-003"]
    assert 2 not in chosen(final_trials(looking(30), few, DEFAULT_POINT, facts))


def test_a_study_that_was_killed_within_a_round_goes_on_with_the_same() -> None:
    """What the ended half of the round says does not change who else gets a seed."""
    scores = {DEFAULT: [0.2, 0.8, 0.1], 0: [0.1, 0.11, 0.1], 1: [0.8, 0.4, 0.81]}
    asked = with_default(9)
    least = final_trials(asked, ROWS, DEFAULT_POINT)
    rows = [*ROWS, *final_rows(least, scores)]
    whole = [each.trial_id for each in final_trials(asked, rows, DEFAULT_POINT)]
    for done in range(6, 9):
        half = [*ROWS, *final_rows(final_trials(asked, rows, DEFAULT_POINT)[:done], scores)]
        assert [each.trial_id for each in final_trials(asked, half, DEFAULT_POINT)] == whole
    outside = replace(final_row(least[-1]), trial_id="rte-final-1-s3", status=Status.INTERRUPTED)
    clear = final_rows(least, {DEFAULT: [0.5, 0.51], 0: [0.1, 0.11], 1: [0.8, 0.81]})
    assert final_trials(asked, [*ROWS, *clear, outside], DEFAULT_POINT)[-1].trial_id == "rte-final-1-s3"


def test_without_a_head_nobody_else_gets_its_number() -> None:
    found = chosen(final_trials(with_default(1), [each for each in ROWS if each.kind != "baseline"], DEFAULT_POINT))
    assert found == {DEFAULT: "rte-002", 1: "rte-001"}


def test_the_least_trials_can_be_asked_for_alone() -> None:
    least = final_trials(with_default(20), ROWS, DEFAULT_POINT)
    rows = [*ROWS, *final_rows(least, {DEFAULT: [0.2, 0.8], 0: [0.1, 0.11], 1: [0.8, 0.4]})]
    assert len(final_trials(with_default(20), rows, DEFAULT_POINT)) > len(least)
    assert final_trials(with_default(20), rows, DEFAULT_POINT, rounds=False) == least


def test_the_default_enters_also_if_the_only_trial_was_cut_off() -> None:
    """It is that trial's configuration, which is none of the winners."""
    cut = searched(0, 0.7, params=dict(DEFAULT_POINT), status=Status.INTERRUPTED)
    numbers = [each.number for each in final_trials(with_default(20), [replace(cut, ended_at=5.0)], DEFAULT_POINT)]
    assert DEFAULT in numbers
    assert DEFAULT not in [each.number for each in final_trials(with_default(20), [cut], DEFAULT_POINT)]


def test_before_a_task_has_searched_anything_its_finals_need_nothing() -> None:
    heads = [row for row in ROWS if not row.searched]
    assert not [each for each in final_trials(with_default(20), heads, DEFAULT_POINT) if each.number == DEFAULT]
    failed = [replace(row, status=Status.FAILED, score=None) for row in ROWS if row.searched][:1]
    assert [each.number for each in final_trials(with_default(20), failed, DEFAULT_POINT)] == [DEFAULT] * 2
