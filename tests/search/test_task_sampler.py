"""Tests that Optuna proposes feasible points, the same ones for the same seed, and is told each one's result."""

import random
from math import inf, nan
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.proposal import Origin, Proposal
from krona_tune.search.searchers.surrogate import TransferSurrogate
from krona_tune.search.searchers.task_sampler import LIMIT_DRAWS, TaskSampler, distribution_of
from krona_tune.study.request.domain import Choice, Divisors, Fixed, Range
from krona_tune.study.result import Status
from tests.search.conftest import never, space, spec
from tests.search.samplers import SPACE, opened, told

RIVALS = {
    "method": ["krona", "lora", "full"],
    "a_out": [4, 8],
    "a_in": 6,
    "rank": [1, 2, 3],
    "scale": {"low": 0.5, "high": 8.0, "log": True},
}
OWN_RATES = {"full": {"learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}}}


def trials(journal: Path, task: str = "cola") -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=f"s/{task}", storage=storage).trials


def told_without_scale(sampler: TaskSampler, number: int) -> dict[str, Any]:
    point = sampler.ask(f"cola-{number:03d}", number)
    sampler.tell(f"cola-{number:03d}", Status.COMPLETED, 0.1 * number)
    return point


def test_asked_points_come_from_the_domains(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal")
    points = [told(sampler, number) for number in range(12)]
    for point in points:
        assert point["a_out"] in SPACE.knobs[point["method"]]["a_out"].ends()
        assert point["a_in"] in SPACE.knobs[point["method"]]["a_in"].ends()
        assert 0.25 <= point["scale"] <= 16
        assert point["layers"] == "last 2"
        assert set(point) == {"method", *SPACE.knobs[point["method"]]}
    assert {point["method"] for point in points} == {"krona", "krona_b"}


def test_a_block_method_is_given_no_roles(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal")
    points = [told(sampler, number) for number in range(12)]
    assert [("roles" in point) for point in points] == [point["method"] == "krona" for point in points]
    drawn = trials(tmp_path / "journal")
    assert all(("roles" in trial.params) == (trial.params["method"] == "krona") for trial in drawn)


def test_points_beyond_the_limit_never_leave_and_are_told_as_failed(tmp_path: Path) -> None:
    adapter = {"a_out": "divisors", "a_in": "divisors"}
    limited = space("bert", adapter, max_params=400)
    assert 0.1 < limited.feasible_share() < 0.9
    sampler = opened(tmp_path / "journal", limited)
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(10)]
    assert all(limited.parameters(point) <= 400 for point in points)
    states = [trial.state for trial in trials(tmp_path / "journal")]
    assert states.count(TrialState.RUNNING) == 10
    assert states.count(TrialState.FAIL) == len(states) - 10 > 0


def test_no_adapter_is_proposed_twice_and_a_space_that_is_used_up_gives_nothing(tmp_path: Path) -> None:
    """Query and value in any order, and the last two layers under any name, are the same placement."""
    small = {"a_out": 4, "a_in": [4, 6], "roles": ["query+value", "value+query"], "layers": ["last 2", "1,2"]}
    sampler = opened(tmp_path / "journal", space("bert", small))
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(4)]
    assert points[2:] == [None, None]
    assert {point["a_in"] for point in points[:2] if point} == {4, 6}
    assert opened(tmp_path / "journal", space("bert", small)).ask("cola-002", 2) is None
    assert opened(tmp_path / "journal", space("bert", small)).ask("cola-001", 1) == points[1]


def test_shapes_of_equal_cost_are_different_adapters(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal", space("bert", {"a_out": [4, 6], "a_in": [4, 6]}))
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(5)]
    assert {(p["a_out"], p["a_in"]) for p in points if p} == {(4, 4), (4, 6), (6, 4), (6, 6)}
    assert points[4] is None


def test_a_suggestion_is_tried_first_where_it_is_acceptable(tmp_path: Path) -> None:
    rng = random.Random(4)
    wanted = SPACE.draw(rng)
    beyond = {**wanted, "scale": 99.0}
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    assert SPACE.adopted(beyond) is None
    adopted = SPACE.adopted(wanted)
    assert adopted is not None
    hinted = Origin(proposed_by="earlier study")
    hints = [[Proposal(adopted, hinted)], [], [Proposal(wanted, hinted)]]
    sampler = TaskSampler(
        SPACE, storage, "s/cola", seed=3, startup_trials=2, suggest=lambda number, tried: hints[number]
    )
    first, second, third = (sampler.ask(f"cola-{number:03d}", number) for number in range(3))
    assert first == wanted
    assert wanted not in (second, third)


def test_an_even_draw_is_not_said_to_be_tpes(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal", startup=2)
    for number, status in enumerate((Status.DIVERGED, Status.DIVERGED, Status.COMPLETED, Status.STOPPED_EARLY)):
        told(sampler, number, status)
        assert sampler.origin(f"cola-{number:03d}").proposed_by == "even draw"
    told(sampler, 4)
    assert sampler.origin("cola-004").proposed_by == "TPE"
    assert sampler.origin("cola-099") == Origin()


def test_with_a_size_for_each_trial_small_adapters_are_searched_as_eagerly_as_large_ones(tmp_path: Path) -> None:
    sizes = {}
    everything = space("bert", {"a_out": "divisors", "a_in": "divisors", "scale": {"low": 1.0, "high": 2.0}})
    for objective in ("score", "pareto"):
        asked = spec(startup_trials=40, objective=objective)
        sampler = open_samplers(asked, everything, tmp_path / objective, never)["cola"]
        points = [sampler.ask(f"cola-{number:03d}", number) for number in range(40)]
        sizes[objective] = sorted(everything.parameters(point) for point in points if point)
    assert sizes["pareto"][20] < sizes["score"][20]
    assert sizes["pareto"][0] == 6 * 48


@pytest.mark.parametrize(("front", "tried"), [("model", {1, 8}), (None, {1})])
def test_the_largest_size_is_tried_too_and_in_studies_of_before_as_before(
    tmp_path: Path, front: str | None, tried: set[int]
) -> None:
    knobs = {"method": "lora", "rank": [1, 8], "scale": {"low": 1.0, "high": 2.0}}
    of, asked = space("bert", knobs), spec(startup_trials=40, objective="pareto", front=front)
    sampler = open_samplers(asked, of, tmp_path / "journal", never)["cola"]
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(20)]
    assert {point["rank"] for point in points if point} == tried


def test_a_trial_whose_size_was_tried_gets_a_larger_point_while_there_is_one(tmp_path: Path) -> None:
    """Each trial has a size of its own, and here are four points in all."""
    of = space("bert", {"method": "lora", "rank": [1, 2, 4, 8], "scale": 1})
    sampler = open_samplers(spec(objective="pareto"), of, tmp_path / "journal", never)["cola"]
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(5)]
    assert sorted(point["rank"] for point in points[:4] if point) == [1, 2, 4, 8]
    assert points[4] is None


def test_a_limit_that_only_rare_adapters_keep_leaves_trials_of_every_size_a_point(tmp_path: Path) -> None:
    knobs = {
        "a_out": "divisors",
        "a_in": "divisors",
        "terms": list(range(24, 0, -1)),
        "roles": ["query+value", "query"],
        "layers": ["all", "last 1", "first 1"],
    }
    tight, rng = space("bert", knobs, max_params=48), random.Random(0)
    assert not any(tight.feasible(tight.draw(rng)) for _ in range(LIMIT_DRAWS))
    sampler = open_samplers(spec(objective="pareto"), tight, tmp_path / "journal", never)["cola"]
    point = sampler.ask("cola-000", 0)
    assert point is not None
    assert tight.parameters(point) == 48


def test_an_earlier_point_beyond_a_trials_limit_waits_for_a_trial_that_may_have_it(tmp_path: Path) -> None:
    everything = space("bert", {"a_out": "divisors", "a_in": "divisors", "scale": {"low": 1.0, "high": 2.0}})
    large = {**everything.draw(random.Random(0)), "a_out": 2, "a_in": 2}
    earlier = {"cola": [large]}
    sampler = open_samplers(spec(objective="pareto"), everything, tmp_path / "journal", never, earlier)["cola"]
    proposers = []
    for number in range(12):
        sampler.ask(f"cola-{number:03d}", number)
        proposers.append(sampler.origin(f"cola-{number:03d}").proposed_by)
    assert proposers.count("earlier study") == 1
    assert proposers[0] != "earlier study"


def test_the_same_seed_gives_the_same_points_also_when_reopened_in_between(tmp_path: Path) -> None:
    whole, parts = opened(tmp_path / "whole"), tmp_path / "parts"
    expected = [told(whole, number) for number in range(8)]
    got = [told(opened(parts), number) for number in range(8)]
    assert got == expected
    other = opened(tmp_path / "other", seed=4)
    assert [told(other, number) for number in range(8)] != expected


def test_two_tasks_draw_different_points_from_one_journal(tmp_path: Path) -> None:
    both = open_samplers(
        spec().model_copy(update={"tasks": ("cola", "rte")}),
        SPACE,
        tmp_path / "journal",
        never,
    )
    cola, rte = ([both[task].ask(f"{task}-{n:03d}", n) for n in range(3)] for task in ("cola", "rte"))
    assert cola != rte
    assert len(trials(tmp_path / "journal", "cola")) == len(trials(tmp_path / "journal", "rte")) == 3


@pytest.mark.parametrize(
    ("status", "state", "value"),
    [
        (Status.COMPLETED, TrialState.COMPLETE, 0.7),
        (Status.STOPPED_EARLY, TrialState.PRUNED, 0.5),
        (Status.DIVERGED, TrialState.FAIL, None),
        (Status.OUT_OF_MEMORY, TrialState.FAIL, None),
        (Status.FAILED, TrialState.FAIL, None),
        (Status.INTERRUPTED, TrialState.RUNNING, None),
    ],
)
def test_optuna_is_told_what_became_of_a_trial(
    tmp_path: Path, status: Status, state: TrialState, value: float | None
) -> None:
    sampler = opened(tmp_path / "journal")
    sampler.ask("cola-000", 0)
    sampler.report("cola-000", 64, 0.25)
    sampler.report("cola-000", 192, 0.5)
    sampler.tell("cola-000", status, 0.7)
    (trial,) = trials(tmp_path / "journal")
    assert (trial.state, trial.value) == (state, value)
    assert trial.intermediate_values == {64: 0.25, 192: 0.5}
    assert trial.user_attrs == {"trial_id": "cola-000", "origin": {"proposed_by": "even draw"}}


def test_an_interrupted_trial_goes_on_after_reopening(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    for trial_id in ("cola-000", "cola-001"):
        first.ask(trial_id, 0)
        first.report(trial_id, 64, 0.25)
        first.tell(trial_id, Status.INTERRUPTED, 0.25)
    again = opened(tmp_path / "journal")
    again.report("cola-000", 64, 0.25)
    again.report("cola-000", 192, 0.5)
    again.tell("cola-000", Status.COMPLETED, 0.5)
    done, running = trials(tmp_path / "journal")
    assert (done.state, done.value, done.intermediate_values) == (TrialState.COMPLETE, 0.5, {64: 0.25, 192: 0.5})
    assert running.state is TrialState.RUNNING


def test_a_trial_that_was_asked_for_and_never_started_is_asked_for_again_as_the_same_point(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    expected = first.ask("cola-000", 0)
    assert opened(tmp_path / "journal").ask("cola-000", 0) == expected
    assert [trial.state for trial in trials(tmp_path / "journal")] == [TrialState.RUNNING]


def test_methods_in_turn_get_equal_numbers_of_trials_and_a_study_each(tmp_path: Path) -> None:
    rivals = space("bert", RIVALS, OWN_RATES)
    asked = spec(per_method=True)
    sampler: Any = open_samplers(asked, rivals, tmp_path / "journal", never)["cola"]
    points = [sampler.ask(f"cola-{number:03d}", number) for number in range(7)]
    assert [point["method"] for point in points] == ["krona", "lora", "full", "krona", "lora", "full", "krona"]
    sampler.report("cola-004", 64, 0.25)
    sampler.tell("cola-004", Status.COMPLETED, 0.5)
    assert [t.state for t in trials(tmp_path / "journal", "cola/lora")] == [TrialState.RUNNING, TrialState.COMPLETE]
    assert len(trials(tmp_path / "journal", "cola/krona")) == 3
    again: Any = open_samplers(asked, rivals, tmp_path / "journal", never)["cola"]
    assert again.ask("cola-005", 5) == points[5]


def test_a_domain_of_one_method_is_a_parameter_of_its_own(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal", space("bert", RIVALS, OWN_RATES))
    points = [told_without_scale(sampler, number) for number in range(15)]
    for point, trial in zip(points, trials(tmp_path / "journal"), strict=True):
        assert ("learning_rate of full" in trial.params) == (point["method"] == "full")
        assert ("rank" in trial.params) == (point["method"] == "lora")
        assert "learning_rate" in point
    assert {point["method"] for point in points} == {"krona", "lora", "full"}
    assert all(1e-5 <= p["learning_rate"] <= 1e-4 for p in points if p["method"] == "full")


def test_a_trial_that_is_not_open_is_told_nothing(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal")
    sampler.ask("cola-000", 0)
    sampler.tell("cola-000", Status.COMPLETED, 0.5)
    sampler.tell("cola-000", Status.FAILED, None)
    sampler.report("cola-009", 64, 0.1)
    assert [trial.state for trial in trials(tmp_path / "journal")] == [TrialState.COMPLETE]


@pytest.mark.parametrize(
    ("domain", "distribution"),
    [
        (Choice((1, 2, 8)), CategoricalDistribution((1, 2, 8))),
        (Range(1e-4, 1e-2, True), FloatDistribution(1e-4, 1e-2, log=True)),
        (Range(0.0, 0.5, step=0.25), FloatDistribution(0.0, 0.5, step=0.25)),
        (Range(8, 64, True), IntDistribution(8, 64, log=True)),
        (Range(8, 64, step=4), IntDistribution(8, 64, step=4)),
        (Range(1, 8, step=0.5), FloatDistribution(1, 8, step=0.5)),
    ],
)
def test_each_domain_has_its_distribution(domain: Any, distribution: Any) -> None:
    assert distribution_of(domain) == distribution


STEPS = {"low": 0.0, "high": 0.3, "step": 0.1}
SEVENTHS = {"low": 0.0, "high": 6 / 7, "step": 1 / 7}


@pytest.mark.parametrize(("steps", "count"), [(STEPS, 4), (SEVENTHS, 7)])
@pytest.mark.parametrize("sampler", ["random", "tpe", "study_model", "sobol"])
def test_each_sampler_draws_every_value_of_a_range_with_steps(
    sampler: str, steps: dict[str, Any], count: int, tmp_path: Path
) -> None:
    of = space("bert", {"a_out": 4, "a_in": 6}, training={"dropout": steps})
    asked = spec(sampler=sampler).model_copy(update={"tasks": ("cola",)})
    surrogate = TransferSurrogate(of, {"cola": 100}, 0) if sampler == "study_model" else None
    samplers: Any = open_samplers(asked, of, tmp_path / "journal", never, surrogate=surrogate and surrogate.suggest)
    points = [told_without_scale(samplers["cola"], number) for number in range(count)]
    every = [of.at({"dropout": (number + 0.5) / count}) for number in range(count)]
    assert sorted(points, key=lambda point: point["dropout"]) == every
    assert all(map(of.holds, points))


@pytest.mark.parametrize("steps", [STEPS, SEVENTHS])
def test_the_upper_end_is_enqueued_and_recalled_as_earlier_versions_wrote_it(
    steps: dict[str, Any], tmp_path: Path
) -> None:
    of = space("bert", {"a_out": 4, "a_in": 6}, training={"dropout": steps})
    end = of.at({"dropout": 1 - 1e-9})
    recorded = {**end, "dropout": end["dropout"] * (1 + 2**-52)}
    assert recorded != end
    assert of.holds(recorded)
    assert of.adopted(recorded) == end
    samplers: Any = open_samplers(spec(), of, tmp_path / "journal", never, {"cola": [recorded]})
    assert samplers["cola"].ask("cola-000", 0) == end
    resumed = opened(tmp_path / "other", of)
    resumed.recall("cola-000", recorded, Status.COMPLETED, {64: 0.5})
    assert resumed.point("cola-000") == end


@pytest.mark.parametrize("domain", [Fixed(3), Divisors(2, 8)])
def test_what_is_not_drawn_has_none(domain: Any) -> None:
    with pytest.raises(AssertionError, match="is not sampled"):
        distribution_of(domain)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.COMPLETED, TrialState.COMPLETE),
        (Status.STOPPED_EARLY, TrialState.PRUNED),
        (Status.DIVERGED, TrialState.FAIL),
        (Status.INTERRUPTED, TrialState.RUNNING),
    ],
)
def test_a_trial_that_optuna_lost_is_known_again_from_the_records(
    tmp_path: Path, status: Status, state: TrialState
) -> None:
    point = opened(tmp_path / "lost").ask("cola-003", 3)
    sampler = opened(tmp_path / "journal")
    for _ in range(2):  # a known trial is not added again
        sampler.recall("cola-003", point, status, {64: 0.25, 192: 0.5})
        sampler = opened(tmp_path / "journal")
    [trial] = trials(tmp_path / "journal")
    assert (trial.state, trial.intermediate_values) == (state, {64: 0.25, 192: 0.5})
    assert trial.value == (None if status in {Status.DIVERGED, Status.INTERRUPTED} else 0.5)
    assert sampler.is_open("cola-003") == (status is Status.INTERRUPTED)
    if status is Status.INTERRUPTED:
        assert sampler.ask("cola-003", 3) == point
    else:
        assert sampler.ask("cola-004", 4) != point


@pytest.mark.parametrize("score", [nan, inf, -inf])
@pytest.mark.parametrize("status", [Status.COMPLETED, Status.STOPPED_EARLY])
@pytest.mark.parametrize("known", ["told", "open", "lost"])
def test_a_score_that_is_no_number_never_reaches_optuna(
    tmp_path: Path, score: float, status: Status, known: str
) -> None:
    sampler, scores = opened(tmp_path / "journal"), {64: 0.25, 192: score}
    if known == "lost":
        point = opened(tmp_path / "lost").ask("cola-000", 0)
        sampler.recall("cola-000", point, status, scores)
    else:
        point = sampler.ask("cola-000", 0)
    if known == "open":
        opened(tmp_path / "journal").recall("cola-000", point, status, scores)
    if known == "told":
        for step, each in scores.items():
            sampler.report("cola-000", step, each)
        sampler.tell("cola-000", status, score)
    [trial] = trials(tmp_path / "journal")
    assert trial.state is (TrialState.FAIL if status is Status.COMPLETED else TrialState.PRUNED)
    assert trial.intermediate_values == {64: 0.25}
    assert trial.value in {None, 0.25}
    for number in range(1, 6):  # TPE learns from the others
        told(opened(tmp_path / "journal"), number)


def test_an_end_of_which_optuna_was_not_told_is_told_from_the_records(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    point = first.ask("cola-000", 0)
    first.report("cola-000", 64, 0.25)
    opened(tmp_path / "journal").recall("cola-000", point, Status.COMPLETED, {64: 0.25, 192: 0.5})
    [trial] = trials(tmp_path / "journal")
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)
    assert trial.intermediate_values == {64: 0.25, 192: 0.5}


def test_a_failed_trial_that_is_trained_again_is_told_anew_and_once(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    point = first.ask("cola-000", 0)
    assert point
    first.tell("cola-000", Status.OUT_OF_MEMORY, None)
    first.recall("cola-000", point, Status.OUT_OF_MEMORY, {})
    assert [each.worst for each in first.tried()] == [True]
    first.recall("cola-000", point, Status.INTERRUPTED, {64: 0.25})
    assert [(each.worst, each.ended) for each in first.tried()] == [(False, False)]
    first.tell("cola-000", Status.COMPLETED, 0.5)
    for _ in range(2):
        opened(tmp_path / "journal").recall("cola-000", point, Status.COMPLETED, {64: 0.25, 192: 0.5})
    assert [trial.state for trial in trials(tmp_path / "journal")] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_lost_trial_goes_to_the_study_of_its_method(tmp_path: Path) -> None:
    rivals = space("bert", RIVALS, OWN_RATES)
    asked = spec(per_method=True)
    point = open_samplers(asked, rivals, tmp_path / "lost", never)["cola"].ask("cola-001", 1)
    assert point
    open_samplers(asked, rivals, tmp_path / "journal", never)["cola"].recall("cola-001", point, Status.FAILED, {})
    assert [len(trials(tmp_path / "journal", f"cola/{method}")) for method in rivals.methods] == [0, 1, 0]


@pytest.mark.slow
def test_a_recalled_point_is_not_tried_again_though_the_records_keep_whole_numbers_as_floats(tmp_path: Path) -> None:
    two = space("bert", {"method": "krona", "a_out": 4, "a_in": 6, "scale": [1, 2]})
    sampler = opened(tmp_path / "journal", two)
    sampler.recall("cola-000", {**two.draw(random.Random(1)), "scale": 2.0}, Status.COMPLETED, {64: 0.25})
    point = sampler.ask("cola-001", 1)
    assert point
    assert point["scale"] == 1
    assert sampler.ask("cola-002", 2) is None


def test_a_trial_that_optuna_can_not_take_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sampler = opened(tmp_path / "journal")
    point = opened(tmp_path / "lost").ask("cola-000", 0)
    with caplog.at_level("WARNING", "krona_tune"):
        sampler.recall("cola-000", {**point, "a_out": 7}, Status.COMPLETED, {64: 0.25})
    assert "cola-000 could not be added to Optuna's study" in caplog.text
    assert trials(tmp_path / "journal") == []


def test_random_points_learn_from_no_score(tmp_path: Path) -> None:
    asked = spec(startup_trials=1, sampler="random").model_copy(update={"seed": 3})
    points = []
    for name, sign in (("up", 1), ("down", -1)):
        sampler: Any = open_samplers(asked, SPACE, tmp_path / name, never)["cola"]
        points.append([])
        for number in range(12):
            points[-1].append(sampler.ask(f"cola-{number:03d}", number))
            sampler.tell(f"cola-{number:03d}", Status.COMPLETED, sign * points[-1][-1]["scale"])
    assert points[0] == points[1]
