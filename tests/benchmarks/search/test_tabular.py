"""Tests that the tabular replay pays for what it trains, stops as Ray does and compares fairly, on invented tables."""

from collections.abc import Sequence

import numpy as np
import pytest

from krona_tune.search.searchers.asha_rule import Rungs
from tests.benchmarks.search.engine import START
from tests.benchmarks.search.replay.recorded import EPOCHS, Array, Recorded, recorded_tasks
from tests.benchmarks.search.tabular import REFERENCE, ROWS, measure, plain, report, taught
from tests.benchmarks.search.tabular_plans import TEACHERS, study
from tests.benchmarks.search.tabular_proposals import (
    by_mean,
    in_order,
    mean_of_teachers,
    portfolio,
    portfolio_first,
    shuffled,
    wrong_sign,
)
from tests.benchmarks.search.tabular_ratios import ratio
from tests.benchmarks.search.tabular_stops import asha, forecast, never
from tests.benchmarks.search.tabular_study import Event, Setting, Trial, regrets, shown, simulate, tried, winner
from tests.benchmarks.search.tabular_taught import Taught, misled, portfolio_size
from tests.benchmarks.search.tabular_tpe import STARTUP, by_tpe

POINTS = 24


def table(task: str, last: Array, noise: float = 0.0) -> Recorded:
    """Returns a task whose points rise to their last scores, with two repeated seeds."""
    epochs = np.arange(1, EPOCHS + 1)
    scores = last[:, None] * epochs / EPOCHS
    deviations = noise * np.array([epochs, -epochs])
    return Recorded(
        task=task,
        numbers=tuple(range(len(last))),
        points=(),
        scores=scores,
        losses=np.zeros_like(scores),
        deviations=deviations,
        around=np.array([0.0, 1.0]),
    )


def three_tasks() -> dict[str, Recorded]:
    rng = np.random.default_rng(3)
    common = rng.uniform(size=POINTS)
    return {name: table(name, common + rng.normal(0, 0.02, POINTS)) for name in ("one", "two", "three")}


def setting(**teachers: Recorded) -> Setting:
    return Setting(task="own", seed=4, teachers=tuple(teachers.values()), coordinates=np.zeros((POINTS, 2)))


def test_a_training_shows_the_record_and_a_whole_deviation_of_a_near_repeat() -> None:
    own = table("own", np.linspace(0, 1, POINTS), noise=0.01)
    seen = {tuple(np.round(row, 9)) for seed in range(9) for row in shown(own, seed) - own.scores}
    assert seen == {tuple(np.round(row, 9)) for row in own.deviations}


def test_regret_is_the_distance_from_the_best_in_spans() -> None:
    assert regrets(table("own", np.array([0.1, 0.5, 0.9]))) == pytest.approx([2, 1, 0])


def test_a_score_survives_as_in_rungs_that_round_as_rays() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(6, size=200) / 6
    for reduction in (2, 3, 4):
        rungs, continues = Rungs(reduction, exact=False), asha((3,), reduction)(setting())
        for point, score in enumerate(scores):
            trial = Trial(point=point, seen=[0.0, 0.0, score])
            assert continues(trial, []) == rungs.survives(3, score)
            assert continues(Trial(point=point, seen=[score]), [])


def test_a_forecast_stops_what_cannot_become_the_best_and_nothing_while_little_is_known() -> None:
    own = three_tasks()
    continues = forecast((3,), chance=0.05, teachers_weigh=5)(setting(one=own["one"], two=own["two"]))
    ended = [Trial(point=point, seen=own["three"].scores[point].tolist()) for point in range(10)]
    best = max(trial.seen[2] for trial in ended)
    poor, good = (Trial(point=20, seen=[0.0, 0.0, score]) for score in (0.1 * best, 1.1 * best))
    assert continues(good, [*ended, good])
    assert not continues(poor, [*ended, poor])
    assert continues(poor, [ended[0], poor])


def test_what_is_paid_is_what_was_trained_by_two_workers() -> None:
    curves = np.random.default_rng(2).uniform(size=(POINTS, EPOCHS))
    events = simulate(in_order(range(POINTS)), never, curves, budget=6.0)
    assert events[0].cost == pytest.approx(2 * (1 / EPOCHS + START))
    assert [event.point for event in events[:4]] == [0, 1, 0, 1]
    assert [event.score for event in events if event.point == 3] == curves[3].tolist()
    assert max(event.cost for event in events) <= 6.0
    assert winner(events, 0.1) is None
    stopped = simulate(in_order(range(POINTS)), lambda trial, trials: False, curves, budget=6.0)
    assert len(stopped) == POINTS
    assert stopped[-1].cost == pytest.approx(POINTS * (1 / EPOCHS + START))


def test_a_kept_trial_is_trained_in_full_and_counts_in_the_rungs() -> None:
    curves = np.tile(np.linspace(1, 0.5, 4)[:, None], EPOCHS)

    def propose(trials: Sequence[Trial]) -> Trial | None:
        return Trial(point=len(trials), kept=len(trials) == 3) if len(trials) < 4 else None

    events = simulate(propose, asha((1, 3))(setting()), curves, budget=9.0)
    lasted = {point: sum(event.point == point for event in events) for point in range(4)}
    assert lasted == {0: 9, 1: 1, 2: 1, 3: 9}


def test_the_best_of_those_trained_in_full_is_named() -> None:
    events = [
        Event(cost=1.0, point=7, epoch=3, score=0.9),
        Event(cost=2.0, point=5, epoch=8, score=0.6),
        Event(cost=3.0, point=6, epoch=8, score=0.7),
    ]
    assert [winner(events, budget) for budget in (1.0, 2.0, 3.0)] == [7, 5, 6]
    assert winner(events, 3.0, stopped_too=True) == 7
    assert tried(events, 2.0) == [7, 5]


def test_the_portfolio_takes_the_best_of_each_teacher_in_turn() -> None:
    one, two = (table(name, np.array(last)) for name, last in {"a": [3.0, 2, 1, 0], "b": [3.0, 0, 1, 2]}.items())
    assert portfolio([one, two]) == [0, 3, 1, 2]
    first = by_mean(setting(one=one, two=two))([])
    assert first
    assert first.point == 0


def test_ratios_are_of_means_and_paired_by_seed() -> None:
    rng = np.random.default_rng(5)
    reference = rng.uniform(size=(40, 3)) + 0.1
    same, half = ratio(reference, reference), ratio(reference * [0.25, 0.5, 1.0], reference)
    assert (same.middle, same.low, same.high) == pytest.approx((1, 1, 1))
    assert half.tasks == pytest.approx((0.25, 0.5, 1.0))
    assert half.low < half.middle < half.high < 1
    assert np.sqrt(half.over_tasks[0] * half.over_tasks[1]) == pytest.approx(0.5)
    assert half.over_tasks[1] > 1


def test_teachers_that_agree_leave_no_regret_and_the_table_says_so() -> None:
    tables, places = three_tasks(), np.zeros((POINTS, 2))
    rows = {REFERENCE: ROWS[REFERENCE], "taught": plain(portfolio_first)}
    found = {name: measure(row, tables, places, range(6)) for name, row in rows.items()}
    assert found["taught"].named.shape == (6, 3, 5)
    assert found["taught"].named[..., 1].mean() < 0.1 < found[REFERENCE].named[..., 1].mean()
    assert (found["taught"].tried <= found["taught"].named).all()
    text = report(found, tuple(tables))
    assert "| taught | 5 |" in text
    assert f"{found[REFERENCE].named[..., 2].mean():.3f}" in text


def test_a_portfolio_is_half_of_few_trials_and_at_most_eight() -> None:
    assert [portfolio_size(trials) for trials in (1, 2, 3, 4, 5, 10, 16, 40)] == [1, 1, 1, 2, 3, 5, 8, 8]


def test_a_taught_study_waits_for_the_first_of_its_portfolio_and_keeps_all_of_it() -> None:
    own = three_tasks()
    where = setting(one=own["one"], two=own["two"])
    order = np.argsort(-mean_of_teachers(where.teachers), kind="stable").tolist()
    search = Taught(where, untaught=in_order(order[::-1]), stop=asha((1, 3))(where), trials=20, switch=True)
    events = simulate(search.propose, search.continues, own["three"].scores, budget=20.0)
    begun = list(dict.fromkeys(event.point for event in events))
    assert begun[0] == order[0]
    assert set(begun) >= set(order[:8])
    assert len(begun) == 20
    lasted = {point: sum(event.point == point for event in events) for point in order[:8]}
    assert set(lasted.values()) == {EPOCHS}
    ended = [event.point for event in events].index(order[1])
    assert sum(event.point == order[0] for event in events[:ended]) == EPOCHS
    assert search.on


def test_teaching_is_turned_off_when_the_portfolio_loses_at_the_last_common_epoch() -> None:
    worse, better = Trial(point=0, seen=[0.2, 0.9], ended=True), Trial(point=1, seen=[0.3], ended=True)
    assert misled([worse], [worse, better])
    assert not misled([better], [worse, better])
    running = Trial(point=2, seen=[0.1])
    assert not misled([running], [running, better])
    assert not misled([worse], [worse])


def test_a_switch_saves_what_wrong_teachers_waste() -> None:
    tables, places = three_tasks(), np.zeros((POINTS, 2))
    switched, stubborn = (
        measure(taught(teachers=wrong_sign, switch=switch), tables, places, range(8)) for switch in (True, False)
    )
    assert switched.named[..., 1].mean() < 0.8 * stubborn.named[..., 1].mean()


def test_the_controls_move_curves_and_turn_them_round() -> None:
    where = setting(**three_tasks())
    assert mean_of_teachers(wrong_sign(where).teachers) == pytest.approx(-mean_of_teachers(where.teachers))
    moved = shuffled(where).teachers
    for before, after in zip(where.teachers, moved, strict=True):
        assert sorted(after.scores[:, -1]) == sorted(before.scores[:, -1])
        assert (after.scores[:, -1] != before.scores[:, -1]).mean() > 0.5


def test_a_study_of_few_trials_costs_its_portfolio_and_is_compared_at_that_cost() -> None:
    tables, places = three_tasks(), np.zeros((POINTS, 2))
    of_tasks = study(5, TEACHERS["true"], tables, places, 3)
    assert len(of_tasks) == 3
    for cost, own, reference in of_tasks:
        assert 3 < cost < 5 * (1 + START)
        assert own < 0.3
        assert reference >= 0


def test_tpe_moves_to_where_recorded_points_scored_well_and_repeats_none() -> None:
    points = recorded_tasks()["sst2"].points
    rates = np.log([point["learning_rate"] for point in points])
    propose, trials = by_tpe(setting()), list[Trial]()
    for _ in range(30):
        trial = propose(trials)
        assert trial
        trial.seen, trial.ended = [float(rates[trial.point])] * EPOCHS, True
        trials.append(trial)
    assert len({trial.point for trial in trials}) == 30
    drawn, modelled = ([rates[trial.point] for trial in part] for part in (trials[:STARTUP], trials[-15:]))
    assert np.mean(modelled) > np.mean(rates) + 0.5
    assert np.mean(modelled) > np.mean(drawn)
