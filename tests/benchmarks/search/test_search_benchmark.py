"""Tests that the simulation is fair and repeatable: equal costs, winners with a score, same seed, same result."""

import math
import random
from functools import partial

import numpy as np
import pytest

from tests.benchmarks.search.candidates import Candidate
from tests.benchmarks.search.curves import TASKS, Trainer
from tests.benchmarks.search.engine import START, Event, simulate
from tests.benchmarks.search.model_history import Choices
from tests.benchmarks.search.run import FULL, RAY, ROWS, SETS, VARIANTS, losses
from tests.benchmarks.search.search_points import rungs, t5_space
from tests.benchmarks.search.strategies import ByChance, Make, Setting
from tests.benchmarks.search.table import RULES, compare, winners

pytestmark = pytest.mark.filterwarnings("ignore")
TASK = TASKS[2]
BUDGET = 6.0
STRATEGIES = {name: row for name, row in (ROWS | VARIANTS).items() if name in {
    "krona_tune", "random + ASHA", "the same, NaN reported", "shifted, ordered", "one rung", "last, ordered, promotion"
}}  # fmt: skip


def run(make: Make, seed: int, workers: int = 3) -> list[Event]:
    setting = Setting(space=t5_space(), schedule=rungs(), seed=seed, chance=TASK.chance)
    return simulate(make(setting), Trainer(TASK, seed), workers=workers, budget=BUDGET)


def test_every_set_has_the_baselines() -> None:
    assert [set(rows) >= {RAY, FULL} for rows, _ in SETS.values()] == [True] * 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_spends_its_budget_and_no_more(name: str) -> None:
    for seed in (0, 1):
        events = run(STRATEGIES[name].make, seed)
        costs = [event.cost for event in events]
        assert costs == sorted(costs)
        assert BUDGET - 3 * (0.6 + START) <= costs[-1] <= BUDGET


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_winner_has_a_score_and_a_seed_repeats_it(name: str) -> None:
    for seed in (0, 1):
        first, again = (losses(name, STRATEGIES[name], TASK, seed, 3, (4.0, BUDGET)) for _ in range(2))
        assert first == again
        assert len(first) == 2 * len(RULES)
        assert all(math.isfinite(lost.regret) and lost.regret > -0.002 for lost in first)


def test_what_is_paid_is_what_was_trained() -> None:
    """With one worker and no early stopping, the cost is that of the examples trained on and of the trials' starts."""
    events = run(ByChance, 0, workers=1)
    trials = {event.trial.number: event.seen.examples for event in events}
    assert events[-1].cost == pytest.approx(sum(trials.values()) / 20_000 + START * len(trials))


def test_a_promoted_trial_goes_on_from_its_rung() -> None:
    events = run(partial(Candidate, choices=Choices(promote=True)), 1)
    reached: dict[int, list[int]] = {}
    for event in events:
        reached.setdefault(event.trial.number, []).append(event.rung)
    assert all(rungs == list(range(len(rungs))) for rungs in reached.values())
    assert any(len(rungs) > 1 for rungs in reached.values())


def test_curves_cross_and_no_drawn_point_beats_the_best() -> None:
    rng = random.Random(4)
    trainer = Trainer(TASKS[0], 5)
    points = [t5_space().draw(rng) for _ in range(400)]
    assert max(map(trainer.final, points)) < trainer.best + 0.002
    curves = [curve for point in points if not (curve := trainer.curve(point, rungs()))[-1].diverged]
    early, late = (np.argsort([curve[rung].score for curve in curves]) for rung in (0, -1))
    assert early[-1] != late[-1]
    assert 0.05 < 1 - len(curves) / len(points) < 0.5


def test_regrets_are_compared_seed_by_seed() -> None:
    line = compare([0.1, 0.2, 0.3, 0.9], [0.2, 0.3, 0.4, 0.4])
    assert (line.better, line.worse, line.p) == (3, 1, 0.625)
    assert line.median == pytest.approx(0.25)
    assert line.interval[0] == pytest.approx(-0.1)


def test_the_rules_choose_by_score_or_by_rung_first() -> None:
    chosen = winners(run(STRATEGIES["random + ASHA"].make, 0), BUDGET)
    assert chosen["last score"].seen.score >= chosen["highest rung first"].seen.score
    assert chosen["last score"].seen.examples <= chosen["highest rung first"].seen.examples
