"""Tests which shared configurations go on, and that their trials are judged alike when they are read again."""

import pytest

from krona_tune.search.searchers.asha_rule import SharedAverages
from krona_tune.study.result import Status
from tests.rows import row

TASKS = ("rte", "cola", "stsb", "sst2")


def test_a_configuration_is_stopped_after_one_or_two_tasks_but_not_after_three() -> None:
    """Of four tasks η = 2 judges after the first and the second; 0.5, then 0.6, are the best that got as far."""
    averages = SharedAverages(4, 2)
    assert averages.add(0, "rte", 0.5) == (0.5, Status.INTERRUPTED)
    assert averages.add(1, "rte", 0.4) == (0.4, Status.STOPPED_EARLY)
    assert averages.add(0, "cola", 0.7) == (pytest.approx(0.6), Status.INTERRUPTED)
    assert averages.add(0, "stsb", 0.0) == (pytest.approx(0.4), Status.INTERRUPTED)
    assert averages.scored(0) == {"rte", "cola", "stsb"}
    assert averages.add(0, "sst2", 0.8) == (0.5, Status.COMPLETED)


def test_earlier_trials_are_judged_in_the_order_of_their_ends() -> None:
    """Configuration 2 ended its first task before 1 did, and 3 failed; 4 runs."""
    rows = [
        row("rte", 0, 0.5, ended_at=1.0),
        row("rte", 1, 0.55, ended_at=3.0),
        row("rte", 2, 0.6, ended_at=2.0),
        row("cola", 2, 0.8, ended_at=4.0),
        row("rte", 3, None, status=Status.DIVERGED, ended_at=5.0),
        row("rte", 4, 0.1, status=Status.INTERRUPTED),
    ]
    assert SharedAverages(4, 2).replay(rows) == {
        0: (Status.INTERRUPTED, {1: 0.5}),
        1: (Status.INTERRUPTED, {1: 0.55}),
        2: (Status.INTERRUPTED, {1: 0.6, 2: pytest.approx(0.7)}),
        3: (Status.DIVERGED, {}),
        4: (Status.INTERRUPTED, {}),
    }
    later = SharedAverages(4, 2).replay([*rows[:1], *rows[2:], row("rte", 1, 0.52, ended_at=3.0)])
    assert later[1] == (Status.STOPPED_EARLY, {1: 0.52})
