"""Tests the phases after the search, that repeats depend only on the rows, and what a budget leaves for them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from krona_tune.search.budget import Rates
from krona_tune.search.phases import finals_reserve
from krona_tune.search.resume import LATER_PHASES, repeat_trials
from krona_tune.study.compared_methods import compare_methods
from krona_tune.study.kinds import PHASES
from krona_tune.study.manifest import PlanFacts
from krona_tune.study.request.loader import build_spec
from krona_tune.study.request.schedule import Schedule
from krona_tune.study.request.study_spec import StudySpec
from krona_tune.study.result import Status
from krona_tune.study.standings import Standings
from krona_tune.study.study_state import Counts
from tests.record.events import manifest
from tests.search.searched import head, searched


def asked(points: int, seeds: int = 2, **search: Any) -> StudySpec:
    repeats = {"points": points, "seeds": seeds}
    return build_spec(
        {"model": "m", "tasks": ["rte", "cola"], "search": {"trials": 4, "repeats": repeats, **search}}, "x"
    )


def planned(points: int) -> Any:
    return SimpleNamespace(spec=asked(points), planned=PlanFacts())


OF_A_DESIGN = [
    searched(3, 0.9),
    searched(1, 0.2),
    searched(0, 0.1, status=Status.DIVERGED),
    searched(2, None, status=Status.INTERRUPTED),
    searched(0, 0.4, task="cola"),
    head(0, 0.5),
]


def test_each_phase_after_the_search_has_its_trials_in_the_table() -> None:
    assert tuple((phase.kind,) for phase in LATER_PHASES) == PHASES[1:]


def test_a_phase_begins_with_the_number_of_its_seeds() -> None:
    said = {phase.kind: [phase.begins(asked(2, seeds, trials=4)) for seeds in (1, 2)] for phase in LATER_PHASES}
    assert [text.rpartition("again ")[2] for text in said["repeat"]] == ["with 1 seed", "with 2 seeds"]
    assert said["finalist"][0].endswith("again with 3 seeds")


def test_the_first_configurations_are_trained_again_with_the_same_new_seeds_for_all() -> None:
    found = repeat_trials(asked(3), OF_A_DESIGN)
    assert [each.trial_id for each in found] == [
        f"{of}-s{index}" for index in (1, 2) for of in ("rte-000", "cola-000", "rte-001")
    ]
    seeds = {each.trial_id: each.seed for each in found}
    assert seeds["rte-000-s1"] == seeds["rte-001-s1"] != seeds["rte-000-s2"]
    assert {each.kind for each in found} == {"repeat"}
    assert found[0].params == next(row for row in OF_A_DESIGN if row.trial_id == "rte-000").params


def test_nothing_is_repeated_unless_it_is_asked_for() -> None:
    assert repeat_trials(asked(0), OF_A_DESIGN) == []


def test_no_more_repeats_are_counted_than_there_are_trials() -> None:
    assert Counts.of(asked(3), PlanFacts()).by_kind["repeat"] == 6
    assert Counts.of(asked(12), PlanFacts()).by_kind["repeat"] == 8


def test_repeats_are_in_no_ranking() -> None:
    again = [
        replace(searched(0, 0.99), trial_id=each.trial_id, kind="repeat")
        for each in repeat_trials(asked(3), OF_A_DESIGN)
    ]
    standings = Standings([*OF_A_DESIGN, *again])
    assert standings.best("rte") == standings.winner("rte") == OF_A_DESIGN[0]
    both = manifest("rte", "cola").tasks
    assert compare_methods([*OF_A_DESIGN, *again], both) == compare_methods(OF_A_DESIGN, both)


def test_the_search_leaves_of_a_budget_what_repeats_need() -> None:
    full = Schedule(examples_per_epoch=50, rungs=(50, 150), reduction=3)
    works: Any = dict.fromkeys(("rte", "cola"), SimpleNamespace(schedule=full))
    ledger: Any = SimpleNamespace(rows={each.trial_id: each for each in OF_A_DESIGN}, running=[])
    rates = Rates(devices=1, slots=2)
    assert finals_reserve(planned(3), works, ledger, lambda: rates, None, {})().examples == 2 * 3 * 150
    assert finals_reserve(planned(0), works, ledger, lambda: rates, None, {})().examples == 0


def test_what_repeats_need_of_the_clock_is_reckoned_with_the_slots_of_the_moment() -> None:
    full = Schedule(examples_per_epoch=50, rungs=(50, 150), reduction=3)
    works: Any = dict.fromkeys(("rte", "cola"), SimpleNamespace(schedule=full))
    rows = [replace(each, examples=100, train_seconds=400.0) for each in OF_A_DESIGN]
    ledger: Any = SimpleNamespace(rows={each.trial_id: each for each in rows}, running=[])
    slots = 2
    reserve = finals_reserve(planned(3), works, ledger, lambda: Rates(devices=3, slots=slots), None, {})
    assert (reserve().seconds, reserve().device_hours) == (900 * 4 / 2, 900 * 4 * 3 / 3600)
    slots = 64
    assert reserve().seconds == 150 * 4, "no trial takes less"
    slots = 1
    assert (reserve().seconds, reserve().device_hours) == (900 * 4, 900 * 4 * 3 / 3600)
