"""Tests that a training curve is bounded, has the means of its steps, and has each report at a point."""

from itertools import pairwise

import pytest
import torch

from krona_tune.study.request.schedule import Schedule, make_schedule
from krona_tune.train.training_curve import FEWEST_STEPS, MOST_POINTS, TrainingCurve, curve_steps

SCHEDULES = [
    (make_schedule(examples_per_epoch=48, epochs=4, grace_epochs=1, reduction=2), 7),
    (make_schedule(examples_per_epoch=67_350, epochs=10, grace_epochs=0.3, reduction=3), 16),
    (make_schedule(examples_per_epoch=340, epochs=30, grace_epochs=1, reduction=3, every_epoch=True), 24),
    (make_schedule(examples_per_epoch=20, epochs=1, grace_epochs=0.3, reduction=2), 16),
    (make_schedule(examples_per_epoch=3, epochs=1, grace_epochs=1, reduction=2), 64),
]


@pytest.mark.parametrize(("schedule", "batch_size"), SCHEDULES)
def test_a_curve_has_a_point_at_each_report_and_few_between(schedule: Schedule, batch_size: int) -> None:
    found = curve_steps(schedule, batch_size)
    steps, examples = list(found), list(found.values())
    reports = [schedule.step_at(each, batch_size) for each in schedule.reports]
    assert set(reports) <= set(steps)
    assert steps == sorted(steps)
    assert len(steps) <= MOST_POINTS + len(reports)
    assert examples == sorted(set(examples))
    assert examples[-1] == schedule.total_examples
    longest = max(FEWEST_STEPS, reports[-1] / MOST_POINTS + 1)
    assert all(0 < after - before <= longest for before, after in pairwise([0, *steps]))
    for report, step in zip(schedule.reports, reports, strict=True):
        assert all(seen < report for at, seen in found.items() if at < step)


def test_a_point_between_reports_counts_the_examples_of_a_short_last_batch_as_they_are() -> None:
    schedule = make_schedule(examples_per_epoch=48, epochs=4, grace_epochs=1, reduction=2)
    assert curve_steps(schedule, 7) == {4: 28, 7: 48, 11: 76, 14: 96, 19: 131, 23: 158, 28: 192}


def test_a_point_has_the_mean_since_the_point_before_and_the_rate_of_its_last_step() -> None:
    curve = TrainingCurve(make_schedule(examples_per_epoch=48, epochs=1, grace_epochs=1, reduction=2), 8)
    made = [curve.add(step, torch.tensor(float(step * step)), step / 10) for step in range(1, 7)]
    assert [point for point in made if point] == list(curve.points) == list(curve.unreported)
    assert curve.points == ((24, pytest.approx((1 + 4 + 9) / 3), 0.3), (48, pytest.approx((16 + 25 + 36) / 3), 0.6))
    assert curve.mean_loss() == pytest.approx(91 / 6)


def test_a_new_report_has_the_points_and_the_mean_since_the_one_before() -> None:
    curve = TrainingCurve(make_schedule(examples_per_epoch=8, epochs=4, grace_epochs=2, reduction=2), 4)
    for step in range(1, 5):
        curve.add(step, torch.tensor(1.0), 0.1)
    curve.begin_report()
    assert (curve.unreported, curve.mean_loss()) == ((), None)
    for step in range(5, 9):
        curve.add(step, torch.tensor(3.0), 0.1)
    assert curve.unreported == ((32, 3.0, 0.1),)
    assert curve.mean_loss() == 3.0
    assert [point.loss for point in curve.points] == [1.0, 3.0]
