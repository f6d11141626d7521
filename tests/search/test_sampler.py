"""Optuna is asked for feasible points, the same ones for the same seed, and told what became of each."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from krona_tune.refusal import Refusal
from krona_tune.search.sampler import TaskSampler, distribution_of, open_samplers
from krona_tune.search.space import Space
from krona_tune.study.domain import Choice, Divisors, Fixed, Range
from krona_tune.study.result import Status
from tests.search.conftest import space

SPACE = space(
    "bert",
    {
        "method": ["krona", "krona_b"],
        "a_out": "divisors",
        "a_in": {"divisors": {"low": 2}},
        "scale": {"low": 0.25, "high": 16, "log": True},
        "roles": ["query", "query+value", "output"],
        "layers": "last 2",
    },
)


def opened(journal: Path, of: Space = SPACE, seed: int = 3, task: str = "cola", startup: int = 2) -> TaskSampler:
    return open_samplers((task,), of, journal, study="s", seed=seed, startup_trials=startup)[task]


def trials(journal: Path, task: str = "cola") -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=f"s/{task}", storage=storage).trials


def told(sampler: TaskSampler, number: int, status: Status = Status.COMPLETED) -> dict[str, Any]:
    """Asks for a point, reports two rungs of a score that follows the scale, and tells its end."""
    point = sampler.ask(f"cola-{number:03d}")
    for examples in (64, 128):
        sampler.report(f"cola-{number:03d}", examples, point["scale"] / examples)
    sampler.tell(f"cola-{number:03d}", status, point["scale"] / 128)
    return point


def test_asked_points_come_from_the_domains(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal")
    points = [told(sampler, number) for number in range(12)]
    for point in points:
        assert point["a_out"] in SPACE.domains["a_out"].ends()
        assert point["a_in"] in SPACE.domains["a_in"].ends()
        assert 0.25 <= point["scale"] <= 16
        assert point["layers"] == "last 2"
        assert set(point) == set(SPACE.reads(point["method"]))
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
    points = [sampler.ask(f"cola-{number:03d}") for number in range(10)]
    assert all(limited.parameters(point) <= 400 for point in points)
    states = [trial.state for trial in trials(tmp_path / "journal")]
    assert states.count(TrialState.RUNNING) == 10
    assert states.count(TrialState.FAIL) == len(states) - 10 > 0


def test_a_limit_that_no_draw_meets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("krona_tune.search.space.EVEN_DRAWS", 5)
    nothing = Space(domains=SPACE.domains, geometry=SPACE.geometry, limit=1)
    with pytest.raises(Refusal, match=r"--max-params: no feasible point in 5 draws; raise the limit"):
        opened(tmp_path / "journal", nothing).ask("cola-000")


def test_the_same_seed_gives_the_same_points_also_when_reopened_in_between(tmp_path: Path) -> None:
    whole, parts = opened(tmp_path / "whole"), tmp_path / "parts"
    expected = [told(whole, number) for number in range(8)]
    got = [told(opened(parts), number) for number in range(8)]
    assert got == expected
    other = opened(tmp_path / "other", seed=4)
    assert [told(other, number) for number in range(8)] != expected


def test_two_tasks_draw_different_points_from_one_journal(tmp_path: Path) -> None:
    both = open_samplers(("cola", "rte"), SPACE, tmp_path / "journal", study="s", seed=3, startup_trials=2)
    cola, rte = ([both[task].ask(f"{task}-{n:03d}") for n in range(3)] for task in ("cola", "rte"))
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
    sampler.ask("cola-000")
    sampler.report("cola-000", 64, 0.25)
    sampler.report("cola-000", 192, 0.5)
    sampler.tell("cola-000", status, 0.7)
    (trial,) = trials(tmp_path / "journal")
    assert (trial.state, trial.value) == (state, value)
    assert trial.intermediate_values == {64: 0.25, 192: 0.5}
    assert trial.user_attrs == {"trial_id": "cola-000"}


def test_an_interrupted_trial_goes_on_after_reopening(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    for trial_id in ("cola-000", "cola-001"):
        first.ask(trial_id)
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
    expected = first.ask("cola-000")
    assert opened(tmp_path / "journal").ask("cola-000") == expected
    assert [trial.state for trial in trials(tmp_path / "journal")] == [TrialState.RUNNING]


def test_a_trial_that_is_not_open_is_told_nothing(tmp_path: Path) -> None:
    sampler = opened(tmp_path / "journal")
    sampler.ask("cola-000")
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


@pytest.mark.parametrize("domain", [Fixed(3), Divisors(2, 8)])
def test_what_is_not_drawn_has_none(domain: Any) -> None:
    with pytest.raises(AssertionError, match="is not sampled"):
        distribution_of(domain)
