"""Tests what more parameters gain on average."""

import pytest

from krona_tune.report.score_charts import draw_average, draw_score_against_step_time, task_front
from krona_tune.report.task_summary import summarise
from krona_tune.study.standings import Standings, average_front
from tests.report.finalists import sized
from tests.report.many_trials import FACTS, subject_of
from tests.study.final_rows import row


def test_the_averages_front_takes_each_tasks_best_that_fits() -> None:
    cola = summarise("cola", Standings(sized("cola", (100, 0.2), (300, 0.5), (250, 0.1))), FACTS)
    rte = summarise("rte", Standings(sized("rte", (150, 0.6), (400, 0.8))), FACTS)
    assert average_front([task_front(cola), task_front(rte)]) == (
        (150, pytest.approx(0.4)),
        (300, pytest.approx(0.55)),
        (400, pytest.approx(0.65)),
    )
    assert average_front([task_front(summarise("mrpc", Standings([]), FACTS))]) == ()
    chart = draw_average([cola, rte, summarise("mrpc", Standings([]), FACTS)])
    assert chart is not None
    assert list(chart.figure.data[0].x) == [150, 300, 400]
    assert draw_average([cola]) is None


def test_score_against_training_time_has_a_front_of_its_own() -> None:
    fast, slow, worse = (
        row(f"{number:03d}", "search", score, task="cola", number=number, train_seconds=seconds, examples=500)
        for number, (score, seconds) in enumerate([(0.5, 1.0), (0.75, 4.0), (0.625, 5.0)])
    )
    untimed = row("003", "search", 0.9, task="cola", number=3)
    chart = draw_score_against_step_time(subject_of(fast, slow, worse, untimed))
    assert chart is not None
    trials, front = chart.figure.data
    assert sorted(trials.x) == [2.0, 8.0, 10.0]
    assert list(front.x) == [2.0, 8.0]
    assert draw_score_against_step_time(subject_of(fast, untimed)) is None
