"""Collects a trial's training curve while it trains: at a bounded number of points, each read from the device once."""

from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from krona_tune.study.request.schedule import Schedule
from krona_tune.study.result import Curve, CurvePoint

MOST_POINTS, FEWEST_STEPS = 100, 5
"""The most points of a curve, besides one for each report, and the fewest steps between two points of a long one."""


def curve_steps(schedule: Schedule, batch_size: int) -> dict[int, int]:
    """Returns after which optimiser steps a curve has a point, each with the training examples seen by then.

    There is one at each report, and some between two reports at equal distances. So a trial that goes on from a report
    has the points of one that was never interrupted.
    """
    reports = {schedule.step_at(examples, batch_size): examples for examples in reversed(schedule.reports)}
    ends = sorted(reports)
    stride = max(FEWEST_STEPS, ceil(ends[-1] / MOST_POINTS))
    found: dict[int, int] = {}
    for begin, end in pairwise((0, *ends)):
        parts = ceil((end - begin) / stride)
        between = (begin + round((end - begin) * part / parts) for part in range(1, parts))
        found |= {step: schedule.examples_at(step, batch_size) for step in between} | {end: reports[end]}
    return found


class TrainingCurve:
    """The points of a trial's curve so far. Losses stay on the device until the next point or report."""

    def __init__(self, schedule: Schedule, batch_size: int) -> None:
        self._examples = curve_steps(schedule, batch_size)
        self._points: list[CurvePoint] = []
        self._losses: list[Tensor] = []  # of the steps since the last report
        self._reported = self._averaged = 0  # how many points are in reports, and how many losses in points

    @property
    def points(self) -> Curve:
        """Returns the points of this process, for any thread."""
        return tuple(self._points)

    @property
    def unreported(self) -> Curve:
        """Returns the points since the last `begin_report`."""
        return tuple(self._points[self._reported :])

    def begin_report(self) -> None:
        """Leaves what came so far to the reports before."""
        self._reported, self._averaged = len(self._points), 0
        self._losses.clear()

    def add(self, step: int, loss: Tensor, learning_rate: float) -> CurvePoint | None:
        """Adds the loss of one step, a scalar of the device; returns the point that it makes, None between two points.

        Args:
            step: how many steps are done.
            learning_rate: that of this step.
        """
        self._losses.append(loss)
        if step not in self._examples:
            return None
        self._points.append(CurvePoint(self._examples[step], _mean(self._losses[self._averaged :]), learning_rate))
        self._averaged = len(self._losses)
        return self._points[-1]

    def mean_loss(self) -> float | None:
        """Returns the mean of all losses since the last `begin_report`; None if there was no step."""
        return _mean(self._losses) if self._losses else None


def _mean(losses: list[Tensor]) -> float:
    return torch.stack(losses).mean().item()
