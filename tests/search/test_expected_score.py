"""Tests which score is foretold of a recorded point on another task, and how wide its interval is."""

import numpy as np
import pytest
from scipy.stats import t

from krona_tune.record.recorded_curves import CONSTANT, LEARNED
from krona_tune.search.planning.earlier_study import EarlierStudy, shipped_curves
from krona_tune.search.planning.expected_score import LEAST, ExpectedScore, RecordedShares, recorded_shares
from krona_tune.study.result import Status
from tests.rows import row

RNG = np.random.default_rng(0)


def of(shares: np.ndarray) -> RecordedShares:
    names = tuple(f"task{column}" for column in range(shares.shape[1]))
    return RecordedShares(tasks=names, numbers=tuple(range(len(shares))), shares=shares)


def test_a_share_is_the_way_from_the_constant_answer_to_the_best_score() -> None:
    scores = {"easy": {0: 0.9, 1: 0.6}, "hard": {0: 0.3, 1: None}}
    rows = [
        row(task, number, score, status=Status.COMPLETED if score else Status.DIVERGED)
        for task, by_number in scores.items()
        for number, score in by_number.items()
    ]
    design = EarlierStudy(name="d", rows=tuple(rows), reports=(), budgets=dict.fromkeys(scores, 9), geometry=None)
    found = recorded_shares(design, {"easy": 0.5, "hard": 0.2})
    assert found.tasks == ("easy", "hard")
    assert found.shares == pytest.approx(np.array([[0.8, 0.125], [0.2, 0.125]]))
    assert ExpectedScore(low=-0.1, score=0.5, high=1.0).on(0.6) == ExpectedScore(
        low=pytest.approx(0.56), score=pytest.approx(0.8), high=1.0
    )


def test_tasks_that_agree_leave_no_doubt_and_no_interval_leaves_its_bounds() -> None:
    alike = of(np.repeat(np.array([[0.1], [0.5], [0.9]]), 3, axis=1) + RNG.normal(0, 1e-6, (3, 3)))
    assert alike.expected(1).high - alike.expected(1).low < 1e-4
    apart = of(np.clip(RNG.normal(0.5, 0.4, (50, 3)), 0, 1))
    for number in apart.numbers:
        found = apart.expected(number)
        assert LEAST <= found.low <= found.score <= found.high <= 1


def test_of_tasks_that_differ_as_a_whole_students_t_has_as_many_clusters_as_tasks() -> None:
    """With no doubt of points the variance of a new task is that of tasks, and the degrees of freedom are tasks - 1."""
    of_tasks = np.array([-0.06, 0.01, 0.05, 0.0])
    shares = of(np.linspace(0.3, 0.6, 40)[:, None] + of_tasks + RNG.normal(0, 1e-7, (40, 4)))
    reach = t.ppf(0.95, 3) * np.std(of_tasks, ddof=1) * np.sqrt(1 + 1 / 4)
    assert shares.reach == pytest.approx(reach, rel=1e-3)


def test_the_interval_holds_for_nine_of_ten_new_scores() -> None:
    """Tasks, points and what is between them are drawn; the new task is one more of the same kind."""
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shares = rng.uniform(0.3, 0.6, (30, 1)) + rng.normal(0, 0.03, (1, 5)) + rng.normal(0, 0.05, (30, 5))
        known = of(shares[:, :4])
        found = [known.expected(number) for number in known.numbers]
        held.append(np.mean([each.low <= new <= each.high for each, new in zip(found, shares[:, 4], strict=True)]))
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_the_recorded_curves_have_a_constant_answer_each_and_teach_without_one_of_them() -> None:
    assert CONSTANT.keys() == LEARNED.keys()
    whole, three = (recorded_shares(shipped_curves(without=gone)) for gone in ((), ["sst2"]))
    assert set(three.tasks) == set(LEARNED) - {"sst2"}
    assert whole.shares.shape == (128, 4)
    assert whole.shares.max() < 1
    assert np.quantile(whole.shares, 0.1, axis=0).min() > LEAST
    assert three.expected(42).score > whole.expected(42).score  # it is worse on SST-2 than on the others
