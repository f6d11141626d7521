"""Tests that the simulation finds a steady configuration where there is one, and pays for it."""

from tests.benchmarks.steady_choices import BUDGET, OTHERS, simulate


def test_where_only_the_default_fails_another_is_found() -> None:
    before, now = (simulate(12, fails=0.7, often=0.0)[name] for name in ("without", "with"))
    assert now.fails <= before.fails
    assert now.mean > before.mean


def test_where_all_fail_the_budget_ends_it() -> None:
    before, now = (simulate(6, fails=0.5, often=1.0)[name] for name in ("without", "with"))
    assert before.trainings == 9
    assert before.trainings < now.trainings <= min(BUDGET, 3 * (2 + OTHERS))


def test_a_head_that_learns_a_bit_is_chosen_less_often_where_means_decide() -> None:
    before, now = (simulate(20, 0.25, 1.0, head=0.65)[name] for name in ("with, .99", "means decide, .99"))
    assert now.harms < before.harms
    assert now.mean > before.mean
