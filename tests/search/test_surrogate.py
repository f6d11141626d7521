"""Tests that one model of all tasks proposes good points, the same ones whenever it was told the same."""

from dataclasses import replace
from math import isfinite, log2, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from krona_tune.backbones.geometry import Stack
from krona_tune.kron.factors import factor_shape, first_step
from krona_tune.record.parquet_schema import TRIALS, table_of, trial_of
from krona_tune.search.searchers.history import WORST, Encoder, History, coordinates
from krona_tune.search.searchers.open_samplers import open_samplers
from krona_tune.search.searchers.surrogate import (
    FIRST_FIT,
    TransferSurrogate,
    condition,
    first_kernel,
    fitted_kernel,
    last_fit,
    predict,
)
from krona_tune.study.result import Report, Status, TrialResult
from tests.search.conftest import never, space, spec
from tests.search.surrogates import BUDGETS, RATE, RIVALS, SPACE, drawn, feed, quality


def test_coordinates_say_what_a_point_does() -> None:
    point = {
        **drawn(0), "a_out": 8, "a_in": 2, "terms": 2, "scale": 4.0, "roles": "query",
        "layers": "all", "learning_rate": 1e-3,
    }  # fmt: skip
    found = coordinates(SPACE, point)
    d, backbone = SPACE.geometry.sites[0].d_out, SPACE.geometry
    assert found["parameters"] == pytest.approx(log2(SPACE.parameters(point) / backbone.parameters))
    assert found["sites"] == log2(backbone.depths[Stack.ENCODER] / len(backbone.sites))
    assert (found["tall"], found["terms"], found["scale"]) == (2, 1, 2)
    assert found["rank"] == pytest.approx(log2(min(2 * 2 * min(d // 8, d // 2), d)) / log2(d))
    shape = factor_shape(d, d, 8, 2, terms=2)
    assert found["step"] == pytest.approx(log2(4e-3 * first_step(shape, "krona")))
    assert (found["roles query"], found["layers all"]) == (1, 1)
    assert "a_out" not in found


def test_stable_scaling_shrinks_the_step() -> None:
    both = space("bert", {"a_out": 8, "a_in": [2, 8], "terms": 2, "scaling": ["plain", "stable"]}, training=RATE)
    point = {**drawn(0, both), "a_in": 8, "scaling": "plain"}
    plain, stable = (coordinates(both, {**point, "scaling": scaling})["step"] for scaling in ("plain", "stable"))
    assert plain - stable == pytest.approx(log2(4))


def test_what_a_method_does_not_read_is_no_coordinate_of_it() -> None:
    points = {point["method"]: point for point in (drawn(seed, RIVALS) for seed in range(40))}
    names = {method: set(coordinates(RIVALS, point)) for method, point in points.items()}
    assert {name for name in names["lora"] if "rank" in name} == {"rank"}
    assert not {"tall", "rank"} & names["bitfit"]
    assert {"tall", "method krona"} <= names["krona"]


@pytest.mark.parametrize(
    ("values", "least"),
    [({"low": 1e-4, "high": 0.1, "log": True}, 1e-4), ({"low": 0.02, "high": 0.1}, 0.02), ([0.1, 0.05], 0.05)],
)
def test_an_earlier_value_that_is_0_counts_as_the_least_of_a_domain_above_it(values: Any, least: float) -> None:
    above = space("bert", training={**RATE, "weight_decay": values})
    found = [coordinates(above, {**drawn(0, above), "weight_decay": each})["weight_decay"] for each in (0.0, least)]
    assert found == pytest.approx([log2(least)] * 2)


def test_even_draws_lie_between_0_and_1() -> None:
    encode = Encoder(SPACE, seed=0)
    rows = np.array([encode(drawn(seed)) for seed in range(60)])
    assert rows.shape[1] == encode.width == len(encode.names)
    assert rows.min() > -0.1
    assert rows.max() < 1.1
    assert (rows.std(axis=0) > 0).all()


def test_the_process_finds_the_coordinate_that_matters() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 4))
    y = np.sin(5 * x[:, 2]) + rng.normal(0, 0.1, 60)
    kernel = fitted_kernel(x, y, first_kernel(4))
    lengths = kernel.k1.k2.length_scale
    assert lengths[2] < min(lengths[[0, 1, 3]]) / 2
    unseen = rng.uniform(size=(200, 4))
    mean, deviation = predict(condition(x, y, kernel), unseen)
    off = mean - np.sin(5 * unseen[:, 2])
    assert float(np.sqrt(np.mean(off**2))) < 0.1
    assert 0.6 < float(np.mean(np.abs(off) < 2 * deviation)) <= 1
    assert deviation.max() < 0.5


def test_a_task_uses_what_another_has_shown() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(30))
    feed(surrogate, "rte", range(2), score=lambda params: 0.0)
    proposed = [next(surrogate.suggest("rte", number)).point for number in (2, 3, 4)]
    even = [drawn(seed) for seed in range(200)]
    assert min(map(quality, proposed)) > np.quantile(list(map(quality, even)), 0.8)


def test_a_task_keeps_its_own_optimum_where_the_tasks_differ() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(30))
    feed(surrogate, "rte", range(30), score=lambda params: -quality(params))
    assert quality(next(surrogate.suggest("cola", 33)).point) > -0.7
    assert quality(next(surrogate.suggest("rte", 33)).point) < -1.3


def test_of_every_size_a_good_small_point_promises_more_than_a_larger_one_that_is_no_better() -> None:
    """The score of a point grows with its parameters, so that the best of all is always a large one."""
    sizes: dict[bool, list[int]] = {}
    for every_size in (False, True):
        surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1, every_size=every_size)
        feed(surrogate, "cola", range(30), score=lambda params: log2(SPACE.parameters(params)))
        proposed = [next(surrogate.suggest("cola", number)).point for number in range(32, 38)]
        sizes[every_size] = [SPACE.parameters(point) for point in proposed]
    assert max(sizes[True]) < min(sizes[False])


def test_the_first_trials_and_every_eighth_are_even_draws() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    empty = {number: next(surrogate.suggest("cola", number)) for number in (0, 1, 2, 7, 15)}
    feed(surrogate, "cola", range(30))
    later = {number: next(surrogate.suggest("cola", number)) for number in empty}
    assert [number for number in empty if empty[number] == later[number]] == [0, 1, 7, 15]
    assert next(surrogate.suggest("rte", 0)) != later[0]


def recorded(surrogate: TransferSurrogate) -> tuple[list[TrialResult], list[Report]]:
    """Returns the records of what a surrogate was told, as they are read from Parquet."""
    rows, reports = list[TrialResult](), list[Report]()
    for trial in surrogate.history.trials():
        status = Status.INTERRUPTED if trial.running else Status.COMPLETED
        row = TrialResult(
            trial_id=trial.trial_id, task=trial.task, kind="search", number=0, seed=0, fingerprint="",
            params=dict(trial.params), status=status, ended_at=None if trial.ended is None else float(trial.ended),
            score=trial.reports[-1].score, examples=BUDGETS[trial.task],
        )  # fmt: skip
        rows.append(trial_of(table_of([row.row()], TRIALS).to_pylist()[0]))
        reports += [
            Report(
                trial_id=trial.trial_id, task=trial.task, rung=0, examples=round(told.share * BUDGETS[trial.task]),
                epochs=0, step=0, score=told.score, metrics={}, train_loss=told.loss, train_seconds=0,
                evaluation_seconds=0, peak_memory_bytes=0,
            )
            for told in trial.reports
        ]  # fmt: skip
    return rows, reports


@pytest.mark.slow
def test_a_resumed_study_proposes_what_it_would_have_proposed() -> None:
    whole = TransferSurrogate(SPACE, BUDGETS, seed=1)
    proposed = []
    for number in range(2, 10):
        feed(whole, "cola", range(3 * number, 3 * number + 3))
        feed(whole, "rte", range(number, number + 1))
        proposed.append(next(whole.suggest("rte", number)))
    rows, reports = recorded(whole)
    baseline = replace(rows[0], trial_id="cola-head-0", kind="baseline")
    again = TransferSurrogate(SPACE, BUDGETS, seed=1)
    again.recall([*reversed(rows), baseline], [*reversed(reports), replace(reports[0], trial_id="cola-head-0")])
    assert next(again.suggest("rte", 9)) == proposed[-1]
    assert len(again.history.trials()) == len(rows)
    assert {trial.params["warmup"] for trial in again.history.trials()} == {0, 0.1}
    assert 0.0 in {row.params["warmup"] for row in rows}
    damaged = TransferSurrogate(SPACE, BUDGETS, seed=1)
    damaged.recall(rows, [])
    assert [len(trial.reports) for trial in damaged.history.trials()] == [1] * len(rows)


def test_trials_without_a_report_teach_nothing_and_break_nothing() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    for number in range(9):
        surrogate.history.begin(f"cola-f{number}", "cola", drawn(number))
        surrogate.history.end(f"cola-f{number}", diverged=False)
    assert next(surrogate.suggest("cola", 9)).origin.proposed_by == "even draw"
    feed(surrogate, "rte", range(8))
    assert next(surrogate.suggest("cola", 9)).origin.plain() == {"proposed_by": "study model"}


def test_a_report_that_is_no_number_teaches_nothing_and_its_trial_counts_as_diverged() -> None:
    surrogate, clean = (TransferSurrogate(SPACE, BUDGETS, seed=1) for _ in range(2))
    feed(clean, "cola", range(4))
    rows, reports = recorded(clean)
    rows[1] = replace(rows[1], status=Status.DIVERGED, score=None)
    reports[3] = replace(reports[3], score=nan)
    surrogate.recall(rows, reports)
    told = [[(each.share, isfinite(each.score)) for each in trial.reports] for trial in surrogate.history.trials()]
    assert told[1] == [(0.33, True), (1.0, False)]
    assert all(finite for number, each in enumerate(told) if number != 1 for _, finite in each)
    assert next(surrogate.suggest("cola", 4)).point


def test_a_diverged_trial_counts_as_the_lowest_score_of_its_task() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    for number in range(40):
        surrogate.history.begin(f"cola-{number}", "cola", drawn(number))
        if number >= 15:
            surrogate.history.report(f"cola-{number}", 100, float(number), 0.1)
        surrogate.history.end(f"cola-{number}", diverged=number < 15)
    history = surrogate.history
    values = history.rows(history.trials(), most=99)[1]
    scores = dict(zip([trial.trial_id for trial in history.trials()], history.scores("cola", values), strict=True))
    off = [abs(scores[f"cola-{number}"] - max(number, 15)) for number in range(40)]
    assert max(off) < 1.1
    assert history.scores("rte", values) == []


def test_a_limit_that_few_draws_keep_takes_no_coordinate_away() -> None:
    tight = replace(SPACE, limit=min(map(SPACE.parameters, map(drawn, range(200)))) + 1)
    assert Encoder(tight, 0).names == Encoder(SPACE, 0).names
    surrogate = TransferSurrogate(tight, BUDGETS, seed=1)
    feed(surrogate, "cola", range(20))
    assert next(surrogate.suggest("cola", 20)).origin.proposed_by == "study model"


def test_running_trials_are_not_proposed_again_nearby() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(20))
    first = next(surrogate.suggest("cola", 20)).point
    surrogate.history.begin("cola-020", "cola", first)
    assert [each.point for each in surrogate.suggest("cola", 20)].index(first) > 0


def test_a_trial_that_goes_on_after_its_end_ends_once_more_and_is_no_longer_the_worst() -> None:
    history = History(Encoder(SPACE, 0), BUDGETS, {})
    for trial_id in ("cola-a", "cola-b"):
        history.begin(trial_id, "cola", drawn(trial_id))
    history.report("cola-b", 1, 0.25, 0.5)
    history.end("cola-a", diverged=False)  # failed before its first report
    history.end("cola-b", diverged=True)  # ran out of memory
    assert history.ends == 1
    for trial_id in ("cola-a", "cola-b"):
        history.reopen(trial_id)
        history.report(trial_id, BUDGETS["cola"], 0.5, 0.1)
        history.end(trial_id, diverged=False)
    assert history.ends == 2
    assert [[told.score for told in trial.reports] for trial in history.trials()] == [[0.5], [0.25, 0.5]]
    history.reopen("of another method")


def test_values_are_quantiles_within_a_task_and_the_loss_breaks_ties() -> None:
    history = History(Encoder(SPACE, 0), BUDGETS, {})
    told = {"cola-a": (0.0, 0.7), "cola-b": (0.0, 0.6), "cola-c": (0.5, 0.1), "rte-a": (0.9, 0.1)}
    for trial_id, (score, loss) in told.items():
        task = trial_id.partition("-")[0]
        history.begin(trial_id, task, drawn(trial_id))
        history.report(trial_id, BUDGETS[task], score, loss)
        history.end(trial_id, diverged=False)
    history.begin("cola-d", "cola", drawn(4))
    history.end("cola-d", diverged=True)
    history.end("cola-d", diverged=True)
    rows, values = history.rows(history.trials(), most=10)
    assert history.ends == 5
    assert values == pytest.approx([-0.3186, 0.3186, 1.1503, -1.1503, 0.0], abs=1e-3)
    assert np.array_equal(rows[:, -2:], [[1, 0]] * 4 + [[0, 1]])
    assert np.array_equal(rows[:, -3], [1.0] * 5)
    for number in range(60):
        history.begin(f"rte-{number}", "rte", drawn(number))
        history.report(f"rte-{number}", 10, number / 60, 0.1)
    rows, values = history.rows(history.trials(), most=100)
    assert np.abs(values).max() == WORST
    assert rows[:, -3].min() == pytest.approx(0.0, abs=0.01)


def test_too_many_rows_are_thinned_and_the_own_task_keeps_most_of_its_own() -> None:
    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    feed(surrogate, "cola", range(20))
    feed(surrogate, "rte", range(40))
    trials = surrogate.history.trials()
    assert len(surrogate.history.rows(trials, most=200)[1]) == 120
    rows, values = surrogate.history.rows(trials, 80, "cola")
    assert (len(values), rows[:, -2].sum(), rows[:, -1].sum()) == (80, 40, 40)
    rows, values = surrogate.history.rows(trials, 30, "cola")
    assert rows.shape == (30, surrogate.history.at([1.0], trials[:1]).shape[1])
    assert (rows[:, -2].sum(), rows[:, -1].sum()) == (22, 8)


def test_earlier_trials_are_known_from_the_start_and_leave_the_studys_own_most_of_the_room() -> None:
    history = History(Encoder(SPACE, 0), {"cola": 100}, {"before": 100})
    for task, trials in (("before", 40), ("cola", 12)):
        for number in range(trials):
            history.begin(f"{task}-{number:02d}", task, drawn(number))
            history.report(f"{task}-{number:02d}", 100, number, 0.1)
            history.end(f"{task}-{number:02d}", diverged=False)
    assert (history.known, history.ends) == (52, 12)
    assert {trial.task for trial in history.trials(0)} == {"before"}
    assert [trial.trial_id for trial in history.trials(3)][-4:] == ["before-39", "cola-00", "cola-01", "cola-02"]
    rows, _ = history.rows(history.trials(), most=16)
    assert (rows[:, -2].sum(), rows[:, -1].sum()) == (12, 4)
    rows, _ = history.rows(history.trials(), most=12)
    assert (rows[:, -2].sum(), rows[:, -1].sum()) == (9, 3)


@pytest.mark.parametrize(
    ("before", "fits"), [(0, [6, 8, 11, 16]), (2, [4, 6, 8, 11, 16]), (300, [0, 6, 8, 11, 16])], ids=str
)
def test_the_kernel_is_fitted_anew_as_the_studys_own_trials_end(before: int, fits: list[int]) -> None:
    known = range(max(0, FIRST_FIT - before), 20)
    assert list(dict.fromkeys(last_fit(ended, before) for ended in known)) == fits


def test_where_the_model_fails_tpe_proposes_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*asked: object) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    surrogate = TransferSurrogate(SPACE, BUDGETS, seed=1)
    asked = spec(sampler="study_model", startup_trials=0).model_copy(update={"tasks": ("cola",)})
    sampler = open_samplers(asked, SPACE, tmp_path / "journal", never, surrogate=surrogate.suggest)["cola"]
    feed(surrogate, "cola", range(20))
    good = sampler.ask("cola-020", 20)
    assert good == next(surrogate.suggest("cola", 20)).point
    origin = sampler.origin("cola-020")
    assert (origin.proposed_by, origin) == ("study model", next(surrogate.suggest("cola", 20)).origin)
    assert origin.expected_score is not None
    assert origin.expected_deviation is not None
    assert -5 < origin.expected_score <= 0 < origin.expected_deviation < 3
    monkeypatch.setattr("krona_tune.search.searchers.surrogate.fitted_kernel", broken)
    feed(surrogate, "cola", range(30, 50))
    point = sampler.ask("cola-021", 21)
    assert point is not None
    assert SPACE.feasible(point)
    assert sampler.origin("cola-021").proposed_by == "TPE"
    assert "the model of the study could not be fitted for trial 21 of cola" in caplog.text


def test_a_map_of_one_output_has_its_whole_rank() -> None:
    narrow = replace(SPACE.geometry.sites[0], d_out=1)
    geometry = replace(SPACE.geometry, sites=(narrow,))
    point = {**drawn(0), "a_out": 1, "a_in": 2, "roles": "query", "layers": "all"}
    assert coordinates(SPACE, point, geometry)["rank"] == 1.0
