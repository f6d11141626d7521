"""Tests that the simulation finds a steady configuration where there is one, and pays for it."""

from tests.benchmarks.steady_choices import BUDGET, OTHERS, simulate


def test_where_only_the_default_fails_another_is_found() -> None:
    before, now = (simulate(12, fails=0.7, often=0.0)[steady] for steady in (False, True))
    assert now[0] <= before[0]
    assert now[1] > before[1]


def test_where_all_fail_the_budget_ends_it() -> None:
    before, now = (simulate(6, fails=0.5, often=1.0)[steady] for steady in (False, True))
    assert before[2] == 9
    assert before[2] < now[2] <= min(BUDGET, 3 * (2 + OTHERS))
