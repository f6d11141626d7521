"""Tests what more parameters gain on average."""

import pytest

from krona_tune.report.score_charts import average_chart, task_front
from krona_tune.report.task_summary import summarise
from krona_tune.study.result import TrialResult
from krona_tune.study.standings import average_front
from tests.report.many_trials import FACTS
from tests.study.final_rows import row


def sized(task: str, *points: tuple[int, float]) -> list[TrialResult]:
    return [
        row(f"{number:03d}", "search", score, task=task, trainable_parameters=size)
        for number, (size, score) in enumerate(points)
    ]


def test_the_averages_front_takes_each_tasks_best_that_fits() -> None:
    cola = summarise("cola", sized("cola", (100, 0.2), (300, 0.5), (250, 0.1)), FACTS)
    rte = summarise("rte", sized("rte", (150, 0.6), (400, 0.8)), FACTS)
    assert average_front([task_front(cola), task_front(rte)]) == (
        (150, pytest.approx(0.4)),
        (300, pytest.approx(0.55)),
        (400, pytest.approx(0.65)),
    )
    assert average_front([task_front(summarise("mrpc", [], FACTS))]) == ()
    chart = average_chart([cola, rte, summarise("mrpc", [], FACTS)])
    assert chart is not None
    assert list(chart.figure.data[0].x) == [150, 300, 400]
    assert average_chart([cola]) is None
