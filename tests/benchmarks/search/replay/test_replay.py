"""Tests that a replayed study is fair and repeatable, on a table that a formula fills in."""

import random
from functools import cache

import numpy as np
import pandas as pd
import pytest

from krona_tune.search.planning.space import Params
from krona_tune.study.proposer import Proposer
from tests.benchmarks.curves.record import KNOBS
from tests.benchmarks.search.engine import START
from tests.benchmarks.search.replay.engine import simulate_study
from tests.benchmarks.search.replay.first_points import first_numbers, first_points
from tests.benchmarks.search.replay.recorded import (
    EPOCHS,
    Recorded,
    point_of,
    recorded,
    recorded_tasks,
    rungs,
    space,
)
from tests.benchmarks.search.replay.rivals import RIVALS, Modelled, misleading_tasks, other_tasks
from tests.benchmarks.search.replay.run import FINAL, tasks_of
from tests.benchmarks.search.replay.surrogate import JUDGES, Surrogate, fidelity, surrogates

pytestmark = pytest.mark.filterwarnings("ignore")
POINTS, REPEATED = 40, 4


def quality(params: Params) -> float:
    return -abs(float(np.log10(params["learning_rate"])) + 2.7)


@cache
def table() -> pd.DataFrame:
    """Returns a made-up table of two tasks: the score depends on the learning rate, and the highest rates diverge."""
    rng, noise = random.Random(0), np.random.default_rng(0)
    rows = []
    for number in range(POINTS):
        point = space().draw_where(space().feasible, rng)
        assert point is not None
        lasts = EPOCHS if point["learning_rate"] < 1e-2 else 2
        for task in ("cola", "rte"):
            for seed in range(4 if number < REPEATED else 1):
                off = noise.normal(0, 0.02)
                rows += [
                    {
                        **{name: point[name] for name in KNOBS},
                        "layer_norms": str(point["layer_norms"]).lower(),
                        **{"task": task, "kind": "repeat" if seed else "search", "number": number, "seed": seed},
                        **{"epochs": float(epoch), "score": quality(point) - 1 / epoch + off, "train_loss": 1 / epoch},
                    }
                    for epoch in range(1, lasts + 1)
                ]
    return pd.DataFrame(rows)


def instances(seed: int) -> dict[str, Surrogate]:
    return surrogates(of_table(), seed)


def of_table() -> dict[str, Recorded]:
    return {task: recorded(table(), task) for task in ("cola", "rte")}


def test_the_recorded_points_and_curves_are_read() -> None:
    found = recorded(table(), "cola")
    assert len(found.points) == POINTS
    assert all(map(space().feasible, found.points))
    row = {name: table().iloc[0][name] for name in KNOBS}
    assert point_of(row) == found.points[0]
    whole = ~np.isnan(found.scores[:, -1])
    assert found.scores[whole][0] == pytest.approx(
        quality(found.points[int(np.argmax(whole))]) - 1 / np.arange(1, 10), abs=0.1
    )
    assert 0 < whole.sum() < POINTS
    assert np.isnan(found.scores[~whole][:, 2:]).all()
    assert found.deviations.std() == pytest.approx(0.02, rel=0.5)
    with pytest.raises(ValueError, match="no point of the recorded space"):
        point_of({**row, "roles": "key"})


def test_the_forest_ranks_unseen_points_and_finds_what_diverges() -> None:
    for judge in JUDGES.values():
        assert fidelity(of_table(), judge)["cola"].rank_correlation > 0.5
    [cola, _] = instances(3).values()
    low, high = ({**cola.recorded.points[0], "learning_rate": rate} for rate in (2e-3, 2.9e-2))
    assert len(cola.curve(low, rungs())) == 3
    drawn = [surrogates(of_table(), seed)["cola"].curve(high, rungs())[-1].diverged for seed in range(8)]
    assert any(drawn)
    assert cola.best > cola.final(low) > cola.final({**low, "learning_rate": 1e-4})
    assert 0 < cola.span < 2


def test_what_is_tried_first_is_the_best_of_each_other_task() -> None:
    others = [each for name, each in recorded_tasks().items() if name not in {"sst2", "reuters"}]
    best = {each.points[int(np.nanargmax(each.scores[:, -1]))]["a_in"]: each for each in others}
    assert {point["a_in"] for point in first_points(["sst2", "reuters"])} == best.keys()
    assert first_points(recorded_tasks()) == ()
    numbers = first_numbers(["sst2", "reuters"])
    assert len(numbers) == len(first_points(["sst2", "reuters"]))
    unseen = surrogates({"sst2": recorded_tasks()["sst2"]}, 1, without=numbers)["sst2"]
    assert not set(numbers) & set(unseen.landscape.chosen)


@pytest.mark.parametrize("name", [name for name in RIVALS if name.endswith(" first")])
def test_the_best_of_other_tasks_is_tried_first_and_the_search_goes_on(name: str) -> None:
    strategy = RIVALS[name](1, {"sst2": 0.5})["sst2"]
    trials = [dict(strategy.next().params) for _ in range(6)]
    first = [dict(point) for point in first_points(["sst2"])]
    assert trials[: len(first)] == first
    assert trials[5] not in first


def test_a_taught_model_proposes_from_the_first_trial_on() -> None:
    strategy = RIVALS["krona_tune, one model taught by other tasks"](1, {"sst2": 0.5})["sst2"]
    assert isinstance(strategy, Modelled)
    trial = strategy.next()
    assert strategy.sampler.origin(trial.trial_id).proposed_by == Proposer.STUDY_MODEL


def test_a_misleading_teacher_says_what_is_best_of_the_wrong_points_on_all_its_tasks_alike() -> None:
    true, wrong = other_tasks(["sst2", "stsb"], 3), misleading_tasks(["sst2", "stsb"], 3)
    assert {row.task for row in true.rows} == {row.task for row in wrong.rows} == {"newsgroups", "reuters"}
    assert [row.score for row in wrong.rows] == [row.score for row in true.rows]
    moved = [row.params != other.params for row, other in zip(true.rows, wrong.rows, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    points = {row.trial_id: row.params for row in wrong.rows}
    assert all(points[f"reuters-{number:03d}"] == points[f"newsgroups-{number:03d}"] for number in range(96))


def test_a_study_leaves_a_task_for_what_is_learnt_before_and_a_choice_never_sees_stsb() -> None:
    assert {tuple(tasks_of(seed)) for seed in range(20)} == {("newsgroups", "reuters")}
    drawn = {tuple(tasks_of(seed)) for seed in range(FINAL, FINAL + 20)}
    assert drawn == {("newsgroups", "reuters"), ("newsgroups", "stsb"), ("reuters", "stsb")}


@pytest.mark.parametrize("kind", ["ASHABORE", "ASHACQR"])
def test_syne_tune_proposes_feasible_points_and_stops_the_poor_ones(kind: str) -> None:
    pytest.importorskip("syne_tune", reason="Syne Tune is not installed")
    budget = 12.0
    make = RIVALS[f"Syne Tune's {kind}"]
    events = simulate_study(make(1, {"cola": -3.0, "rte": -3.0}), instances(1), workers=3, budget=budget)
    for of_task in events.values():
        lasted = {event.trial.trial_id: event.rung for event in of_task}
        assert {0, 2} <= set(lasted.values())
        assert all(space().feasible(event.trial.params) for event in of_task)


@pytest.mark.parametrize(
    "name",
    [
        "the default",
        "random, full budget",
        "random + ASHA",
        "Ray's OptunaSearch + ASHA",
        "krona_tune, TPE",
        "Optuna's GPSampler + ASHA",
        "krona_tune, one model",
    ],
)
def test_every_rival_pays_for_what_it_trains_and_a_seed_repeats_it(name: str) -> None:
    budget, workers = 4.0, 3
    first, again = (
        simulate_study(RIVALS[name](1, {"cola": -3.0, "rte": -3.0}), instances(1), workers=workers, budget=budget)
        for _ in range(2)
    )
    assert first.keys() == {"cola", "rte"}
    for task, events in first.items():
        assert [(event.cost, event.seen) for event in events] == [(event.cost, event.seen) for event in again[task]]
        assert all(event.cost <= budget for event in events)
    last = max(event.cost for events in first.values() for event in events)
    assert last >= budget - workers * (1 + START) / 2
    trained = {
        (task, e.trial.trial_id): e.seen.examples / rungs().total_examples for task in first for e in first[task]
    }
    paid = sum(trained.values()) + START * len(trained)
    assert paid <= budget * 2
    assert paid == pytest.approx(budget * 2, abs=workers * (1 + START))
