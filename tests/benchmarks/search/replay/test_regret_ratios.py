"""Tests that ratios of regrets are over studies, pairs or tasks, on invented rows."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.search.replay.recorded import recorded_tasks
from tests.benchmarks.search.replay.regret_ratios import (
    DRAWN,
    as_markdown,
    cluster_ratios,
    clusters_as_markdown,
    draw,
    ratios,
    scores_as_markdown,
)
from tests.benchmarks.search.replay.rivals import BASELINES, RIVALS, with_baselines
from tests.benchmarks.search.replay.run import COLUMNS, report

RIVAL, RAY = "krona_tune, one model", "Ray's OptunaSearch + ASHA"
PAIRS = tuple(combinations(("newsgroups", "reuters", "stsb"), 2))
OF_PAIR = {PAIRS[0]: 0.25, PAIRS[1]: 0.5, PAIRS[2]: 1.0}
"""The rival's ratio in every study of a pair."""
STUDIES = (*[PAIRS[0]] * 5, *[PAIRS[1]] * 2, PAIRS[2])


def rows_of(budgets: tuple[float, ...]) -> pd.DataFrame:
    """Returns studies whose pairs differ and are drawn 5, 2 and 1 times; regrets also differ by seed and task."""
    return pd.DataFrame(
        [
            (name, seed, task, budget, "last score", regret * (1 + seed) * (3 if task == "stsb" else 1))
            for seed, pair in enumerate(STUDIES)
            for task in pair
            for name, regret in ((RAY, 0.02), (RIVAL, 0.02 * OF_PAIR[pair]))
            for budget in budgets
        ],
        columns=COLUMNS,
    )


def test_a_pair_counts_once_however_many_studies_have_it() -> None:
    found = cluster_ratios(rows_of((5.0, 10.0)), RAY, "pair")
    assert found.keys() == {(RIVAL, 5.0), (RIVAL, 10.0)}
    ten = found[RIVAL, 10.0]
    assert ten.each == pytest.approx({"newsgroups+reuters": 0.25, "newsgroups+stsb": 0.5, "reuters+stsb": 1.0})
    assert ten.middle == pytest.approx(0.5)
    spread = 4.302653 * np.log(2) / np.sqrt(3)  # Student's t with 2 degrees of freedom
    assert (ten.low, ten.high) == pytest.approx((0.5 * np.exp(-spread), 0.5 * np.exp(spread)))
    assert ten.p == pytest.approx(0.225, abs=1e-3)
    assert ratios(rows_of((10.0,)), RAY)[RIVAL, 10.0].middle < 0.4, "over studies the pair of many studies counts more"


def test_a_task_has_the_studies_of_both_its_pairs() -> None:
    each = cluster_ratios(rows_of((10.0,)), RAY, "task")[RIVAL, 10.0].each
    assert each["newsgroups"] == pytest.approx((0.25**5 * 0.5**2) ** (1 / 7))
    assert each["reuters"] == pytest.approx((0.25**5 * 1.0) ** (1 / 6))
    assert each["stsb"] == pytest.approx((0.5**2 * 1.0) ** (1 / 3))


def test_one_cluster_has_no_interval_and_a_study_that_a_rival_lacks_is_left_out() -> None:
    frame = rows_of((10.0,))
    frame = frame[(frame.rival == RAY) | (frame.seed < 5)]
    [one] = cluster_ratios(frame, RAY, "pair").values()
    assert one.each == pytest.approx({"newsgroups+reuters": 0.25})
    assert one.middle == pytest.approx(0.25)
    assert np.isnan([one.low, one.high, one.p]).all()


def test_the_tables_show_each_cluster_and_scores() -> None:
    lines = clusters_as_markdown(rows_of((10.0,)), RAY, "pair")
    assert lines[0] == "| by pair: newsgroups+reuters, newsgroups+stsb, reuters+stsb | 10 |"
    assert lines[-1] == f"| {RIVAL} | 0.50 (0.09-2.80, p 0.2): 0.25, 0.50, 1.00 |"
    scores = scores_as_markdown(rows_of((5.0, 10.0)), {"newsgroups": 0.5, "sst2": 0.04, "stsb": 0.4}, 10.0)
    assert scores[0] == "| in scores, 10 trainings | newsgroups | sst2 | stsb |"
    assert scores[2] == "| .20 of a span | 0.100 | 0.008 | 0.080 |"
    assert scores[3] == f"| {RAY} | 0.040 |  | 0.168 |"


def test_the_report_has_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    report(rows_of((5.0, 10.0)))
    printed = capsys.readouterr().out
    heads = ["| | 5 | 10 |", "| by pair:", "| by task: newsgroups, reuters, stsb |", "| in scores, 10 trainings |"]
    assert [printed.count(head) for head in heads] == [1] * len(heads)


def test_a_span_is_what_the_middle_point_loses() -> None:
    spans = {task: each.span for task, each in recorded_tasks().items()}
    assert spans == pytest.approx({"newsgroups": 0.168, "reuters": 0.548, "sst2": 0.044, "stsb": 0.442}, abs=1e-3)


def test_the_baselines_join_every_comparison_once() -> None:
    first, second = BASELINES
    assert RIVALS.keys() >= set(BASELINES)
    assert with_baselines([RIVAL]) == [first, second, RIVAL]
    assert with_baselines([RIVAL, second]) == [first, second, RIVAL]
    assert with_baselines([RIVAL], known=[first, RIVAL]) == [second, RIVAL]


def test_the_table_and_the_picture_show_ratios_of_regrets(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [
            (name, seed, "cola", budget, "last score", regret * (1 + seed))
            for seed, factor in enumerate((0.25, 0.5, 1.0))
            for name, regret in ((RAY, 0.2), (RIVAL, 0.2 * factor))
            for budget in (5.0, 10.0)
        ],
        columns=COLUMNS,
    )
    found = ratios(frame, RAY)
    assert found.keys() == {(RIVAL, 5.0), (RIVAL, 10.0)}
    spread = np.log(2) / np.sqrt(3)
    ten = found[RIVAL, 10.0]
    assert ten.middle == pytest.approx(0.5)
    assert (ten.low, ten.high) == pytest.approx((0.5 * np.exp(-1.96 * spread), 0.5 * np.exp(1.96 * spread)))
    assert ten.bound == pytest.approx(0.5 * np.exp(1.645 * spread))
    assert ten.p == pytest.approx(0.225, abs=1e-3)
    assert ratios(frame, RIVAL)[RAY, 10.0].middle == pytest.approx(2.0)
    assert as_markdown(frame, RAY)[-1] == f"| {RIVAL} | 0.283 (0.50, 0.23-1.10) | 0.283 (0.50, 0.23-1.10) |"
    draw(frame, RAY, tmp_path / "replays.svg")
    assert DRAWN.keys() <= RIVALS.keys()
    drawn = (tmp_path / "replays.svg").read_text(encoding="utf-8")
    assert [name for name in DRAWN if f">{name}<" in drawn] == [RIVAL]
